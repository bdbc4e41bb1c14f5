//! `SyncConverterN` and `atlas-convert` as they are run, on Snapshots in temporary directories.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use atlas_host::{object, tree::Dir};
use atlas_model::{
    EnvVersion, Role, TreePath,
    manifest::{Entry, FileSet, Kind, Manifest},
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

/// A root tree with parts and Snapshots.
struct World {
    tmp: tempfile::TempDir,
}

const FIGURE_41: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/figure-41");
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/parts");

impl World {
    /// With the parts of a directory.
    fn with_parts(parts: &str) -> World {
        let world = World { tmp: tempfile::tempdir().unwrap() };
        let place = world.path("usr/lib/atlas/converters");
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(parts, place).unwrap();
        world
    }

    /// With one part of its own, a program.
    fn with_program(script: &str) -> World {
        let world = World { tmp: tempfile::tempdir().unwrap() };
        let part = "format = 1\nabout = \"a test\"\n[[program]]\nrun = \"run\"\nolder = [\"/etc/a\"]\nnewer = [\"/etc/a\"]\ndeadline_seconds = 2\n";
        world.write("opt/atlas/converters/Env2/test.toml", part);
        world.write("opt/atlas/converters/Env2/run", script);
        let run = world.path("opt/atlas/converters/Env2/run");
        fs::set_permissions(run, PermissionsExt::from_mode(0o755)).unwrap();
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.tmp.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    /// A Snapshot of SEC1 whose files are written already: its lists, and the Manifest of what is there.
    fn snapshot(&self, at: &str, env: u32, files: &[(FileSet, &str, &str)]) {
        for set in [FileSet::Ident, FileSet::Sync] {
            let of_set = || files.iter().filter(|(of, ..)| *of == set);
            self.write(
                &format!("{at}/{}", set.list_name()),
                &of_set().map(|(_, path, _)| format!("{path}\n")).collect::<String>(),
            );
            fs::create_dir_all(self.path(&format!("{at}/{}", set.dir_name()))).unwrap();
            of_set().for_each(|(_, path, content)| self.write(&format!("{at}/{}{path}", set.dir_name()), content));
            for (name, mode) in [(set.list_name(), 0o600), (set.dir_name(), 0o700)] {
                fs::set_permissions(self.path(&format!("{at}/{name}")), PermissionsExt::from_mode(mode)).unwrap();
            }
        }
        self.manifest(at, env);
    }

    /// Writes the Manifest of a Snapshot, as the Synchronizer does of what a converter made.
    fn manifest(&self, at: &str, env: u32) {
        let dir = Dir::open_root(self.path(at)).unwrap();
        let mut entries = vec![];
        for set in [FileSet::Ident, FileSet::Sync] {
            for path in self.read(&format!("{at}/{}", set.list_name())).lines() {
                let path = TreePath::parse(path).unwrap();
                let files = dir.dir(set.dir_name()).unwrap();
                let kind = match files.parent_of(&path) {
                    Ok((parent, name)) => object::read(&parent, name).unwrap(),
                    Err(_) => Kind::Absent,
                };
                entries.push(Entry { set, path, kind });
            }
        }
        let manifest = Manifest::new(Role::Sec(1), EnvVersion::try_from(env).unwrap(), entries).unwrap();
        fs::write(self.path(&format!("{at}/Manifest")), manifest.to_file().unwrap()).unwrap();
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program)
            .args(args)
            .arg("--root")
            .arg(self.tmp.path())
            .current_dir(self.tmp.path())
            .output()
            .unwrap()
    }

    /// Runs the converter, which must do it.
    fn convert(&self, converter: &str, direction: &str, from: &str, to: &str, env: u32) {
        fs::create_dir_all(self.path(to)).unwrap();
        let output = self.run(converter, &[direction, from, to]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.manifest(to, env);
    }

    /// Runs the converter, which must fail; gives what it says.
    fn refusal(&self) -> String {
        fs::create_dir(self.path("to")).unwrap();
        let output = self.run(TWO, &["newer", "from", "to"]);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    }
}

const TWO: &str = env!("CARGO_BIN_EXE_SyncConverter2");
const THREE: &str = env!("CARGO_BIN_EXE_SyncConverter3");
const ATLAS_CONVERT: &str = env!("CARGO_BIN_EXE_atlas-convert");

/// Every path below a directory, with mode, time and content; for a Snapshot without its Manifest.
fn picture(dir: &Path) -> Vec<String> {
    let (mut lines, mut todo) = (vec![], vec![dir.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        } else {
            String::new()
        };
        let time = if meta.is_file() { meta.modified().ok() } else { None };
        let shown = path.strip_prefix(dir).unwrap().display().to_string();
        let is_list = shown.ends_with("FilePaths") || shown == "Manifest";
        if shown != "Manifest" {
            lines.push(format!("{shown} {:o} {:?} {content}", meta.permissions().mode(), time.filter(|_| !is_list)));
        }
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

use FileSet::{Ident, Sync};

/// The Snapshot of figure 41 in Env3.
const ENV3: [(FileSet, &str, &str); 7] = [
    (Ident, "/etc/network_config", "host sec1 eth0 192.168.1.11 duplex full\n"),
    (Sync, "/etc/auth/key", "root:hardware token\n"),
    (Sync, "/etc/auth/passwd", "root:secret\nmel:hidden\n"),
    (Sync, "/etc/passwd", "root:0:/root\nmel:1000:/home/mel\n"),
    (Sync, "/etc/xinetd", "service 21 {\n    run = ftpd\n    only_from = 192.168.1.0/24\n}\n"),
    (Sync, "/var/mounts", "/ /dev/sda1 ext3\n"),
    (Sync, "/var/mounts_remote", "/home files:/home nfs\n"),
];

#[test]
fn the_example_of_figure_41_goes_down_to_env1_and_comes_back_with_every_byte() {
    let world = World::with_parts(FIGURE_41);
    world.snapshot("SEC/Env3", 3, &ENV3);
    world.convert(THREE, "older", "SEC/Env3", "SEC/Env2", 2);
    world.convert(TWO, "older", "SEC/Env2", "SEC/Env1", 1);

    assert_eq!(world.read("SEC/Env2/IdentFilePaths"), "/etc/ifcfg-eth0\n/etc/sys/network\n");
    assert_eq!(world.read("SEC/Env2/IdentFiles/etc/ifcfg-eth0"), "IPADDR=192.168.1.11\n");
    assert_eq!(world.read("SEC/Env2/SyncFiles/etc/fstab"), "/dev/sda1 / ext3\nfiles:/home /home nfs\n");
    assert_eq!(world.read("SEC/Env1/SyncFiles/etc/passwd"), "root:secret:0:/root\nmel:hidden:1000:/home/mel\n");
    assert_eq!(world.read("SEC/Env1/SyncFiles/etc/inetd"), "21 ftpd\n");
    assert_eq!(world.read("SEC/Env1/SyncFilePaths"), "/etc/passwd\n/etc/inetd\n/etc/fstab\n");
    assert!(world.read("SEC/Env1/Residue/Sync/Env2/Edits/etc/xinetd").contains("+    only_from = 192.168.1.0/24"));
    assert!(world.read("SEC/Env1/Residue/Ident/Env3/Edits/etc/network_config").contains("duplex full"));

    // What a secondary of Env1 adds is there in Env3, beside what Env1 cannot say.
    let changed = world.read("SEC/Env1/SyncFiles/etc/inetd") + "80 httpd\n";
    world.write("SEC/Env1/SyncFiles/etc/inetd", &changed);
    world.manifest("SEC/Env1", 1);
    world.convert(TWO, "newer", "SEC/Env1", "back/Env2x", 2);
    assert_eq!(
        world.read("back/Env2x/SyncFiles/etc/xinetd"),
        "service 21 {\n    run = ftpd\n    only_from = 192.168.1.0/24\n}\nservice 80 {\n    run = httpd\n}\n"
    );
}

#[test]
fn new_to_old_to_new_gives_the_same_files_modes_and_times() {
    let world = World::with_parts(FIGURE_41);
    world.snapshot("SEC/Env3", 3, &ENV3);
    fs::create_dir(world.path("back")).unwrap();
    world.convert(THREE, "older", "SEC/Env3", "SEC/Env2", 2);
    world.convert(TWO, "older", "SEC/Env2", "SEC/Env1", 1);
    world.convert(TWO, "newer", "SEC/Env1", "back/Env2", 2);
    assert_eq!(picture(&world.path("back/Env2")), picture(&world.path("SEC/Env2")));
    world.convert(THREE, "newer", "back/Env2", "back/Env3", 3);
    assert_eq!(picture(&world.path("back/Env3")), picture(&world.path("SEC/Env3")));
    assert!(!world.path("back/Env3/Residue").exists(), "the residue was not used up");
}

#[test]
fn the_same_snapshot_converts_to_the_same_bytes_and_times_at_any_moment() {
    let world = World::with_parts(SHIPPED);
    let sshd = "Port 22\nRequiredRSASize 3072\n";
    world.snapshot("from", 2, &[(Ident, "/etc/hostname", "pri\n"), (Sync, "/etc/ssh/sshd_config", sshd)]);
    world.convert(TWO, "older", "from", "one", 1);
    std::thread::sleep(Duration::from_millis(20));
    world.convert(TWO, "older", "from", "two", 1);
    assert_eq!(picture(&world.path("one")), picture(&world.path("two")));
    let secret = |path: &str| fs::metadata(world.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(secret("one/Residue/Sync/Env2/Edits/etc/ssh/sshd_config"), 0o600);
    assert_eq!((secret("one/Residue/Sync/Env2/Edits/etc"), secret("one/SyncFiles")), (0o700, 0o700));
}

/// Tries to do what a part must not do, and says in its file what it could do all the same.
const ESCAPE: &str = "#!/bin/sh
could() { echo \"could $1\" >> etc/a; }
echo tried >> etc/a
echo x > OUTSIDE/written 2>/dev/null && could 'write beside'
echo x > /tmp/atlas-part-wrote 2>/dev/null && could 'write to /tmp'
echo x > /dev/shm/atlas-part-wrote 2>/dev/null && could 'write to /dev/shm'
echo x >> \"$0\" 2>/dev/null && could 'change itself'
cat /etc/shadow >/dev/null 2>&1 && could 'read passwords'
ln -s /etc/passwd ../link 2>/dev/null && could 'make a link beside'
[ -n \"$SECRET\" ] && could 'read the environment'
mount -t tmpfs none etc 2>/dev/null && could 'mount'
: > /dev/null || could 'not even write to /dev/null'
exit 0
";

#[test]
fn a_program_writes_to_its_copies_and_nowhere_else() {
    let world = World::with_program("");
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::set_permissions(&outside, PermissionsExt::from_mode(0o777)).unwrap();
    world.write("opt/atlas/converters/Env2/run", &ESCAPE.replace("OUTSIDE", &outside.display().to_string()));
    world.snapshot("from", 1, &[(Sync, "/etc/a", "")]);
    fs::create_dir(world.path("to")).unwrap();
    let output = Command::new(TWO)
        .args(["newer", "from", "to", "--root", "."])
        .env("SECRET", "yes")
        .current_dir(world.tmp.path())
        .output()
        .unwrap();
    // Each run adds a line, so the way back is a line more; residue takes care of that.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(world.read("to/SyncFiles/etc/a"), "tried\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!Path::new("/tmp/atlas-part-wrote").exists() && !Path::new("/dev/shm/atlas-part-wrote").exists());
    let left: Vec<_> = fs::read_dir(world.path("to")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".part")), "{left:?}");
}

/// The same without the rights of root, where Landlock alone holds.
#[test]
fn without_root_a_program_is_held_as_well() {
    use std::os::unix::process::CommandExt;
    let tmp = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o777)).tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    for name in ["part", "work", "work/files", "work/files/etc", "outside"] {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), PermissionsExt::from_mode(0o777)).unwrap();
    }
    fs::write(at("part/run"), ESCAPE.replace("OUTSIDE", &at("outside").display().to_string())).unwrap();
    fs::set_permissions(at("part/run"), PermissionsExt::from_mode(0o777)).unwrap();
    // The build directory may be closed to others.
    fs::copy(TWO, at("converter")).unwrap();
    let args =
        ["confined".as_ref(), at("work").as_os_str().to_owned().leak(), at("part").as_os_str().to_owned().leak()];
    let mut command = Command::new(at("converter"));
    command.args(args).args(["run", "newer"]).env("SECRET", "yes");
    if nix::unistd::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(at("work/files/etc/a")).unwrap(), "tried\n");
    assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 0);
}

#[test]
fn a_program_that_hangs_is_stopped_with_its_children_and_the_conversion_fails_whole() {
    let world = World::with_program("#!/bin/sh\nsetsid sleep 987 &\nsleep 987\n");
    world.snapshot("from", 1, &[(Sync, "/etc/a", "")]);
    let begun = Instant::now();
    let said = world.refusal();
    assert!(said.contains("did not end within 2s and was stopped"), "{said}");
    assert!(begun.elapsed() >= Duration::from_secs(2) && begun.elapsed() < Duration::from_secs(20));
    let sleeps = || {
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
        processes.filter_map(|path| fs::read(path).ok()).any(|line| line == b"sleep\x00987\x00")
    };
    let until = Instant::now() + Duration::from_secs(10);
    while sleeps() && Instant::now() < until {
        std::thread::yield_now();
    }
    assert!(!nix::unistd::geteuid().is_root() || !sleeps(), "a child of the program is still there");
}

#[test]
fn a_program_that_fails_or_leaves_what_it_may_not_fails_the_conversion() {
    for (script, why) in [
        ("echo 'no such service' >&2; exit 3", "no such service"),
        ("mv etc/a etc/b", "/etc/b, which the part does not name"),
        ("rm etc/a", "left no file"),
        ("ln -sf /etc/shadow etc/a", "no regular file"),
        ("yes | head -c 5000000 > etc/a", "too large (at most 4194304 bytes"),
        ("i=0; while [ $i -lt 1200 ]; do : > etc/$i; i=$((i + 1)); done", "entries"),
        ("yes | head -c 20000000 > etc/a || exit 1", "failed"),
    ] {
        let world = World::with_program(&format!("#!/bin/sh\n{script}\n"));
        world.snapshot("from", 1, &[(Sync, "/etc/a", "x")]);
        let said = world.refusal();
        assert!(said.contains(why), "{script}: {said}");
        assert!(said.contains("the part 'test' cannot convert to the newer version"), "{said}");
    }
}

#[test]
fn check_says_what_the_older_version_loses_and_no_secrets() {
    let world = World::with_parts(SHIPPED);
    let sshd = "Port 22\nRequiredRSASize 3072\n";
    world.snapshot(
        "unbound/SID_DATA/PRI/Env2",
        2,
        &[(Ident, "/etc/hostname", "pri\n"), (Sync, "/etc/ssh/sshd_config", sshd)],
    );
    let text = String::from_utf8(world.run(ATLAS_CONVERT, &["check"]).stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "PRI Env2 → Env1: there and back the same bytes; Env1 cannot express all of 1:");
    assert_eq!(lines[1..3], ["  /etc/ssh/sshd_config", "    RequiredRSASize 3072"]);
    assert_eq!(lines[3], "PRI Env2 → Env3: there and back the same bytes, and nothing is lost meanwhile");

    let secret = world.path("unbound/SID_DATA/PRI/Env2/SyncFiles/etc/ssh/sshd_config");
    fs::set_permissions(secret, PermissionsExt::from_mode(0o600)).unwrap();
    world.manifest("unbound/SID_DATA/PRI/Env2", 2);
    let output = world.run(ATLAS_CONVERT, &["check", "--json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &answer["format"]), (Some(0), &serde_json::json!(1)));
    assert_eq!(answer["checked"][0]["lost"], serde_json::json!({ "/etc/ssh/sshd_config": [] }));
}

#[test]
fn check_names_a_snapshot_that_does_not_convert_and_ends_with_3() {
    let world = World::with_parts(SHIPPED);
    let bridge = "[Match]\nName=br0\n[Network]\nAddress=192.168.1.10/24\nBridge=br1\n";
    let file = "/etc/systemd/network/50-ifupdown-br0.network";
    world.snapshot("unbound/SID_DATA/PRI/Env3", 3, &[(Ident, file, bridge)]);
    let output = world.run(ATLAS_CONVERT, &["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("PRI Env3 → Env2: does not convert\n  the part 'network'") && text.contains("Bridge=br1"),
        "{text}"
    );
}

#[test]
fn stanzas_without_a_certain_counterpart_stay_those_of_ifupdown() {
    let world = World::with_parts(SHIPPED);
    let interfaces = "auto eth0\niface eth0 inet static\n\taddress 192.168.2.10/24\n\n\
        auto br0\niface br0 inet static\n\taddress 192.168.1.10/24\n\tbridge_ports eth1\n";
    world.snapshot("from", 2, &[(Ident, "/etc/network/interfaces", interfaces)]);
    world.convert(THREE, "newer", "from", "new", 3);
    assert_eq!(world.read("new/IdentFiles/etc/network/interfaces"), interfaces);
    assert!(!world.path("new/IdentFiles/etc/systemd").exists());
}

#[test]
fn an_identity_of_ifupdown_becomes_one_of_networkd_and_again_the_same() {
    let world = World::with_parts(SHIPPED);
    let interfaces = "# The bakery\nauto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet static\n\taddress 192.168.1.10\n\
        \tnetmask 255.255.255.0\n\tgateway 192.168.1.1 # the router\n";
    let interfaces = interfaces.replace(" # the router", "");
    world.snapshot("from", 2, &[(Ident, "/etc/network/interfaces", &interfaces)]);
    world.convert(THREE, "newer", "from", "new", 3);
    let file = world.read("new/IdentFiles/etc/systemd/network/50-ifupdown-eth0.network");
    assert!(
        file.ends_with("[Match]\nName=eth0\n\n[Network]\nAddress=192.168.1.10/24\nGateway=192.168.1.1\n"),
        "{file}"
    );
    assert_eq!(
        world.read("new/IdentFiles/etc/network/interfaces"),
        "# The bakery\nauto lo\niface lo inet loopback\n\n"
    );
    assert_eq!(
        world.read("new/IdentFilePaths"),
        "/etc/network/interfaces\n/etc/systemd/network/50-ifupdown-eth0.network\n"
    );
    world.convert(THREE, "older", "new", "again", 2);
    assert_eq!(picture(&world.path("again")), picture(&world.path("from")));
}

#[test]
fn list_and_explain_teach_and_a_wrong_directory_is_refused() {
    let world = World::with_parts(SHIPPED);
    let list = String::from_utf8(world.run(ATLAS_CONVERT, &["list"]).stdout).unwrap();
    assert!(list.contains("SyncConverter2  ntp") && list.contains("SyncConverter3  network"), "{list}");
    let explained = String::from_utf8(world.run(ATLAS_CONVERT, &["explain", "2", "ntp"]).stdout).unwrap();
    assert!(explained.contains("/etc/ntp.conf ↔ /etc/ntpsec/ntp.conf"), "{explained}");
    world.snapshot("from", 2, &[]);
    let output = world.run(ATLAS_CONVERT, &["older", "2", "from", "from"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("from is not empty"));
    let output = world.run(ATLAS_CONVERT, &["newer", "2", "from", "to"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is of Env2, not of Env1"));
}

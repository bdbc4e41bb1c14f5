//! The steps that are cut, and the two servers that they are done on: PRI of Env2 and SEC1 of Env1.

use super::{
    cuts::{Cut, State, Trial},
    disk::Image,
    place::{Memory, Place},
    record::{How, Recording, prepare, record},
    state::{self, SECRET},
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Output},
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ssSync");

/// One step of a cycle.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// On which server, and what.
    command: (&'static str, &'static [&'static str]),
    /// What is a disk of its own, and loses its power.
    disks: &'static [&'static str],
    /// What happens after a cycle, so that the step has something to do.
    change: fn(&Path),
    /// Whether several things are published, one after the other.
    has_parts: bool,
    /// Whether cycles were completed before. Else there is no Snapshot yet.
    has_met: bool,
}

const PRI_UNBOUND: &str = "pri/unbound";
const SEC: &str = "sec";
const SEC_UNBOUND: &str = "sec/unbound";

pub(crate) const STEPS: [Step; 7] = [
    Step {
        name: "create",
        command: ("pri", &["create"]),
        disks: &[PRI_UNBOUND],
        change: change_pri,
        has_parts: false,
        has_met: true,
    },
    Step {
        name: "older",
        command: ("pri", &["older"]),
        disks: &[PRI_UNBOUND],
        change: |base| write_converter(base, "another"),
        has_parts: false,
        has_met: true,
    },
    Step {
        name: "newer",
        command: ("pri", &["newer"]),
        disks: &[PRI_UNBOUND],
        change: |base| {
            let [from, to] = ["sec", "pri"].map(|server| base.join(server).join("unbound/SID_DATA/SEC1"));
            fs::remove_dir_all(&to).unwrap();
            super::disk::run(Command::new("cp").arg("-a").args([from, to]));
        },
        has_parts: false,
        has_met: true,
    },
    Step {
        name: "receive",
        command: ("pri", &["send"]),
        disks: &[PRI_UNBOUND, SEC_UNBOUND],
        change: |base| {
            change_pri(base);
            succeed(base, "pri", &["create"]);
        },
        has_parts: false,
        has_met: true,
    },
    Step {
        name: "install",
        command: ("sec", &["install"]),
        disks: &[SEC, SEC_UNBOUND],
        change: |base| {
            change_pri(base);
            succeed(base, "pri", &["create"]);
            succeed(base, "pri", &["send"]);
        },
        has_parts: true,
        has_met: true,
    },
    Step {
        name: "cycle",
        command: ("pri", &["cycle"]),
        disks: &[PRI_UNBOUND, SEC, SEC_UNBOUND],
        change: |base| {
            change_pri(base);
            write(base, "sec/etc/web/web.conf", "changed on the secondary\n");
        },
        has_parts: true,
        has_met: true,
    },
    Step {
        name: "first",
        command: ("pri", &["create"]),
        disks: &[PRI_UNBOUND],
        change: |_| (),
        has_parts: false,
        has_met: false,
    },
];

fn write(base: &Path, path: &str, content: &str) {
    let path = base.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn chmod(base: &Path, path: &str, mode: u32) {
    fs::set_permissions(base.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

/// A converter that leaves word of itself in one file, and needs nothing but a shell and two programs.
fn write_converter(base: &Path, word: &str) {
    let path = "pri/opt/atlas/bin/SyncConverter2";
    let script = format!(
        "#!/bin/sh\ncp -Rp \"$2/.\" \"$3\" && rm \"$3/Manifest\" && echo \"$1 {word}\" > \"$3/SyncFiles/etc/web/of\"\n"
    );
    write(base, path, &script);
    chmod(base, path, 0o755);
}

/// Copies programs into a server's tree, with the libraries that they need there.
fn lend(root: &Path, programs: &[&str]) {
    for program in programs.iter().map(|program| format!("/bin/{program}")) {
        let libraries = Command::new("ldd").arg(&program).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.chain([program.as_str()]) {
            let to = root.join(&path[1..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
    }
}

/// Two servers that have never met.
fn set_up(base: &Path) {
    for (server, role, other, version) in [("pri", "PRI", "SEC1", 2), ("sec", "SEC1", "PRI", 1)] {
        let config = format!(
            "format = 1\ncluster = \"bakery\"\nrole = \"{role}\"\n[[partner]]\nrole = \"{other}\"\nhost = \"10.0.0.2\"\n"
        );
        let sid = format!("{server}/unbound/SID_DATA");
        for (path, content) in [
            ("etc/hostname", role),
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
            ("etc/group", "root:x:0:\n"),
            ("opt/atlas/EnvID", &format!("{version}\n")),
            ("opt/atlas/Cluster", "bakery\n"),
            ("unbound/SID_DATA/MasterConfig", &config),
            (&format!("unbound/SID_DATA/{role}/Env{version}/IdentFilePaths"), "/etc/hostname\n"),
        ] {
            write(base, &format!("{server}/{path}"), content);
        }
        for dir in [&sid, &format!("{sid}/{role}"), &format!("{sid}/{role}/Env{version}")] {
            chmod(base, dir, 0o700);
        }
    }
    lend(&base.join("pri"), &["sh", "cp", "rm"]);
    write_converter(base, "one");
    write(base, "pri/unbound/SID_DATA/PRI/Env2/SyncFilePathsSpecial", "/etc/web\n/etc/motd\n/etc/keys\n");
    write(base, "pri/etc/web/of", "PRI\n");
    write(base, "pri/etc/web/web.conf", "old\n");
    write(base, "pri/etc/web/sites/shop", &"old shop\n".repeat(1000));
    write(base, "pri/etc/web/sites/gone", "gone\n");
    write(base, "pri/etc/motd", "old\n");
    symlink("web.conf", base.join("pri/etc/web/link")).unwrap();
    write(base, "pri/etc/keys/key", &format!("{SECRET} old\n"));
    chmod(base, "pri/etc/keys", 0o700);
    chmod(base, "pri/etc/keys/key", 0o600);
    let serve = format!("#!/bin/sh\nexec {PROGRAM} serve --root {}/sec\n", base.display());
    write(base, "call", &serve);
    chmod(base, "call", 0o755);
}

/// What an operator does on PRI.
fn change_pri(base: &Path) {
    write(base, "pri/etc/web/web.conf", "new\n");
    write(base, "pri/etc/web/sites/shop", &"new shop\n".repeat(1500));
    fs::remove_file(base.join("pri/etc/web/sites/gone")).unwrap();
    fs::remove_file(base.join("pri/etc/web/link")).unwrap();
    symlink("sites/shop", base.join("pri/etc/web/link")).unwrap();
    write(base, "pri/etc/web/added/deep/file", &"added\n".repeat(2000));
    write(base, "pri/etc/motd", "");
    write(base, "pri/etc/keys/key", &format!("{SECRET} new\n"));
    write(base, "pri/etc/keys/other", &format!("{SECRET} other\n"));
    chmod(base, "pri/etc/keys/other", 0o600);
}

fn words(base: &Path, (server, args): (&str, &[&str])) -> Vec<String> {
    let mut words = vec![PROGRAM.to_owned(), "--root".into(), base.join(server).display().to_string()];
    words.extend(args.iter().map(|arg| (*arg).to_owned()));
    if ["send", "cycle"].contains(&args[0]) {
        words.extend(["--rsh".to_owned(), base.join("call").display().to_string()]);
    }
    words
}

fn run(base: &Path, command: (&str, &[&str])) -> Output {
    let words = words(base, command);
    Command::new(&words[0]).args(&words[1..]).output().unwrap()
}

fn succeed(base: &Path, server: &str, args: &[&str]) {
    let output = run(base, (server, args));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{server} {args:?}: {}", String::from_utf8_lossy(&said));
}

/// Two servers, and a step that has something to do.
#[derive(Debug)]
pub(crate) struct Scene {
    step: &'static Step,
    pub(crate) place: Place,
    pub(crate) before: Vec<Image>,
    _tmp: Memory,
}

impl Scene {
    pub(crate) fn set(step: &'static Step) -> Scene {
        let tmp = Memory::new();
        let place = Place::new(tmp.path(), step.disks);
        let before = prepare(&place, || {
            set_up(tmp.path());
            if step.has_met {
                // The second has the first one's Snapshots to build from.
                succeed(tmp.path(), "pri", &["cycle"]);
                write(tmp.path(), "pri/etc/motd", "old again\n");
                succeed(tmp.path(), "pri", &["cycle"]);
            }
            (step.change)(tmp.path());
        });
        Scene { step, place, before, _tmp: tmp }
    }

    /// What is run.
    pub(crate) fn command(&self) -> Vec<String> {
        words(&self.place.base, self.step.command)
    }

    pub(crate) fn record(&self, how: How) -> Recording {
        let base = self.place.base.clone();
        let command = self.command();
        let recording = record(&self.place, &self.before, &command, how, move || state::units(&base));
        assert_ne!(recording.old, recording.new, "{} changed nothing", self.step.name);
        let parts = recording.seen.iter().filter(|(unit, _)| !unit.contains("/etc/"));
        for (unit, states) in parts.filter(|_| !self.step.has_parts) {
            assert!(states.len() <= 2, "{unit} had {} states while the program ran", states.len());
        }
        recording
    }

    /// The next run has the same end as one that nothing cut.
    pub(crate) fn mend_once(&self, recording: &Recording) {
        let (server, args) = self.step.command;
        succeed(&self.place.base, server, args);
        let is = state::units(&self.place.base);
        let [is, new] = [&is, &recording.new].map(state::essence);
        assert!(is == new, "the next run did not mend it: {}", state::difference(&is, &new));
        self.assert_always();
        self.servers().iter().for_each(|root| state::assert_nothing_is_left(root));
    }

    /// What the cut left for later is of use: the next change makes a Snapshot from it.
    fn go_on(&self) {
        // Listed on the disk that was cut: the server's tree is there for all trials.
        write(&self.place.base, "pri/unbound/SID_DATA/PRI/Env2/SyncFilePathsMore", "/etc/group\n");
        succeed(&self.place.base, "pri", &["create"]);
        self.assert_always();
    }

    /// The servers that a cut meets.
    fn servers(&self) -> Vec<std::path::PathBuf> {
        let is_cut = |server: &&&str| self.step.disks.iter().any(|disk| disk.starts_with(**server));
        ["pri", "sec"].iter().filter(is_cut).map(|server| self.place.base.join(server)).collect()
    }

    pub(crate) fn assert_always(&self) {
        for root in self.servers() {
            state::assert_snapshots_are_whole(&root, self.step.has_met);
            state::assert_secrets_are_kept(&root);
        }
    }
}

impl Trial for Scene {
    fn look(&self, cut: &Cut<'_>) -> (State, u64) {
        let Recording { old, new, seen, .. } = cut.recording;
        let is = state::units(&self.place.base);
        for unit in seen.keys().chain(is.keys()) {
            let state = is.get(unit);
            let is_good = match state {
                Some(state) => seen.get(unit).is_some_and(|seen| seen.contains(state)),
                None => !old.contains_key(unit) || !new.contains_key(unit),
            };
            assert!(is_good, "{unit} is neither old nor new: {}", state::difference(&is, new));
        }
        self.assert_always();
        let state = match &is {
            is if is == new => State::New,
            is if is == old => State::Old,
            _ => State::Between,
        };
        assert!(
            self.step.has_parts || state != State::Between,
            "a mixture of old and new: {}",
            state::difference(&is, new)
        );
        assert!(
            !cut.ended || state == State::New,
            "it had ended, and the power cut undid some of it: {}",
            state::difference(&is, new)
        );
        (state, state::all_of(self.place.disks()))
    }

    fn mend(&self, cut: &Cut<'_>) {
        // Now and then once more: then there is nothing left to do.
        for _ in 0..if cut.number.is_multiple_of(4) { 2 } else { 1 } {
            self.mend_once(cut.recording);
        }
        if self.step.disks.contains(&PRI_UNBOUND) {
            self.go_on();
        }
    }
}

//! The whole way between two servers: PRI's ssh, the secondary's sshd as the package configures it, the line that `ssSync trust` wrote, ssRun,
//! `ssSync serve`; and whoever has PRI's key and wants something else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_host::{mount, testing::own_network};
use common::{PROGRAM, World, copy_tree, ss_sync};
use serde_json::Value;
use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Where SEC1 listens, as PRI's MasterConfig has it.
const HOST: &str = "10.0.0.2";
const LOG: &str = "sec/var/log/atlas/LOG.ssSync-remote";
const SSHD: &str = "ListenAddress 10.0.0.2\nHostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n\
                    Include /etc/ssh/sshd_config.d/*.conf\n";

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// ssRun and its handlers, which are other crates' programs: built where ssSync was.
fn programs() -> Vec<PathBuf> {
    let packages = ["--package", "atlas-runner", "--package", "atlas-corehandler"];
    let mut build = Command::new(env!("CARGO"));
    let output = run(build.args(["build", "--quiet", "--locked", "--bins", "--message-format", "json"]).args(packages));
    let messages = String::from_utf8(output.stdout).unwrap();
    let executable = |line: &str| {
        let message: Value = serde_json::from_str(line).unwrap();
        message["executable"].as_str().map(PathBuf::from)
    };
    messages.lines().filter_map(executable).chain([PathBuf::from(PROGRAM)]).collect()
}

/// Two servers in memory that nobody else sees, and that nobody removes: what is mounted below them is this machine's.
fn world() -> World {
    mount::memory(Path::new("/mnt"), 64 << 20).unwrap();
    let mut world = World::within(Path::new("/mnt"), "/etc/web\n");
    world.tmp.disable_cleanup(true);
    world
}

/// Makes of the secondary's tree a machine of its own, as far as sshd and what it runs can see.
fn switch_on(world: &World) -> Child {
    let sec = world.path("sec");
    let (unbound, disk) = (sec.join("unbound"), world.path("disk"));
    fs::rename(&unbound, &disk).unwrap();
    fs::create_dir(&unbound).unwrap();
    mount::memory(&unbound, 64 << 20).unwrap();
    copy_tree(&disk.join("SID_DATA"), &unbound.join("SID_DATA"));
    for dir in ["bin", "sbin", "lib", "lib64", "usr", "dev", "proc"]
        .iter()
        .filter(|dir| fs::exists(format!("/{dir}")).unwrap())
    {
        fs::create_dir(sec.join(dir)).unwrap();
        run(Command::new("mount").args(["--rbind", &format!("/{dir}")]).arg(sec.join(dir)));
    }
    for dir in ["root", "run/sshd", "etc/ssh/sshd_config.d", "opt/atlas/bin"] {
        fs::create_dir_all(sec.join(dir)).unwrap();
    }
    for program in programs() {
        let to = sec.join("opt/atlas/bin").join(program.file_name().unwrap());
        fs::write(&to, "").unwrap();
        run(Command::new("mount").arg("--bind").args([&program, &to]));
    }
    run(Command::new("cp")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/sshd/60-atlas.conf")])
        .arg(sec.join("etc/ssh/sshd_config.d")));
    world.write("sec/etc/ssh/sshd_config", SSHD);
    world.write("sec/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n");
    let key = sec.join("etc/ssh/ssh_host_ed25519_key");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key));
    run(Command::new("ip").args(["address", "add", &format!("{HOST}/32"), "dev", "lo"]));
    let mut sshd = Command::new("chroot");
    let sshd =
        sshd.arg(&sec).args(["/usr/sbin/sshd", "-D", "-e"]).stderr(fs::File::create(world.path("sshd")).unwrap());
    let daemon = sshd.spawn().unwrap();
    let address = SocketAddr::from((HOST.parse::<IpAddr>().unwrap(), 22));
    until(world, "sshd listens", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
    daemon
}

fn until(world: &World, what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        let log = fs::read_to_string(world.path(LOG)).unwrap_or_default();
        assert!(Instant::now() < end, "waited in vain until {what}: {log}\n{}", world.read("sshd"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The partners know each other, as the manual says.
fn introduce(world: &World) {
    for (from, to, role) in [("pri", "sec", "PRI"), ("sec", "pri", "SEC1")] {
        let key = ss_sync(&world.path(from), &["keys"]);
        let key = String::from_utf8(key.stdout).unwrap();
        assert!(key.starts_with("ssh-ed25519 "), "{key}");
        assert!(ss_sync(&world.path(to), &["trust", role, key.trim()]).status.success());
    }
}

/// Calls the secondary with PRI's key, and with whatever its thief likes.
fn call(world: &World, options: &[&str], command: &[&str]) -> Output {
    let key = world.path("pri/unbound/SID_DATA/keys/id_ed25519");
    let mut ssh = Command::new("ssh");
    ssh.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]);
    ssh.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(key).args(options).arg(format!("root@{HOST}")).args(command);
    ssh.stdin(Stdio::null()).output().unwrap()
}

/// How many sessions ssRun has begun, and how many of them have ended well.
fn sessions(world: &World) -> (usize, usize) {
    let log = world.read(LOG);
    (log.matches("/opt/atlas/bin/ssSync serve runs (pid ").count(), log.matches("ended with status 0 ").count())
}

#[test]
fn a_cycle_goes_through_ssh_and_ss_run_and_pris_key_opens_nothing_else() {
    // In there is no network to get a crate from.
    programs();
    if !own_network("a_cycle_goes_through_ssh_and_ss_run_and_pris_key_opens_nothing_else") {
        return;
    }
    let world = world();
    let mut daemon = switch_on(&world);
    introduce(&world);
    for (round, content) in ["good 1\n", "good 2\n"].iter().enumerate() {
        world.write("pri/etc/web/web.conf", content);
        let output = ss_sync(&world.path("pri"), &["cycle", "--json"]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{told}{}{}",
            String::from_utf8_lossy(&output.stdout),
            world.read("sshd")
        );
        assert_eq!(world.read("sec/etc/web/web.conf"), *content);
        until(&world, "the session ends well", || sessions(&world) == (round + 1, round + 1));
    }
    let log = world.read(LOG);
    assert!(!log.contains("no answer"), "a handler had no part in it: {log}");
    assert!(!log.contains("\"say\""), "the conversation is in the log: {log}");
    assert_eq!(fs::metadata(world.path(LOG)).unwrap().permissions().mode() & 0o7007, 0, "others can read the log");

    for (options, command) in [
        (&[][..], &["touch /intruded; id"][..]),
        (&["-s"], &["sftp"]),
        (&["-o", "SetEnv=LD_PRELOAD=/intruded"], &["ssSync", "cycle"]),
        (&["-A", "-X"], &[]),
    ] {
        let (begun, well) = sessions(&world);
        let output = call(&world, options, command);
        // What it hears is silence: it said nothing of the protocol.
        assert!(output.stdout.is_empty() && !output.status.success(), "{options:?}: {output:?}");
        let complaints = || world.read(LOG).matches("the connection broke off").count();
        let is_one_more = || (sessions(&world), complaints()) == ((begun + 1, well), begun + 1 - well);
        until(&world, &format!("one more session of {options:?}, and no other program's"), is_one_more);
    }
    let address = format!("{HOST}:22");
    for (options, why) in [(&["-W", address.as_str()][..], "prohibited"), (&["-tt"], "PTY allocation request failed")] {
        let output = call(&world, options, &[]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.stdout.is_empty() && told.contains(why), "{options:?}: {output:?}");
    }
    assert!(!world.there("sec/intruded"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

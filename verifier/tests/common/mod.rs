//! `VerifyService` as it is called, and the daemons that it is let loose on.

#![allow(dead_code, unreachable_pub, reason = "every test file uses its part of it")]

pub mod database;

use atlas_model::verify::{Found, Profile, Verdict};
use nix::sys::signal::{Signal, kill, killpg};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What a check of the service on loopback answers. A key that begins with `--` is an option of the program.
pub fn verify(service: &str, options: &[(&str, &str)]) -> Profile {
    verify_on("127.0.0.1", service, options)
}

/// The same on another host. The exit code has to say what the Profile does.
pub fn verify_on(host: &str, service: &str, options: &[(&str, &str)]) -> Profile {
    let mut command = Command::new(env!("CARGO_BIN_EXE_VerifyService"));
    // A busy machine needs its time; a test of somebody who never answers has none to lose.
    let patience = if options.iter().any(|(key, _)| *key == "--deadline") { &[][..] } else { &["--deadline", "50"] };
    command.args([service, "verify", "--host", host, "--json"]).args(patience);
    // How fast this machine is at the moment is not what is tested.
    for time in ["answer", "dynamic", "fragmented", "tls", "accepted", "delivered", "query", "read", "write"] {
        command.arg("--set").arg(format!("{time}-slow=1000000"));
    }
    for (key, value) in options {
        match key.strip_prefix("--") {
            Some(_) => command.arg(key).arg(value),
            None => command.arg("--set").arg(format!("{key}={value}")),
        };
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let profile: Profile = serde_json::from_str(&said).unwrap_or_else(|error| {
        panic!("{error}: {said}{}", String::from_utf8_lossy(&output.stderr));
    });
    assert_eq!(output.status.code(), Some(profile.verdict.exit_code().into()), "{profile:?}");
    profile
}

/// The same on this server itself, with a tree of its own.
pub fn verify_in(root: &Path, service: &str, options: &[(&str, &str)]) -> Profile {
    let mut all = options.to_vec();
    let root = root.to_str().unwrap();
    all.push(("--root", root));
    verify_on("127.0.0.1", service, &all)
}

/// What SetUp finds in a tree.
pub fn setup(service: &str, root: &Path) -> Found {
    let output = Command::new(env!("CARGO_BIN_EXE_VerifyService"))
        .args([service, "setup", "--root"])
        .arg(root)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks a Profile's verdict, and that its sentence and hint name what they should.
pub fn expect(profile: &Profile, verdict: Verdict, words: &[&str]) {
    let told = format!("{} {}", profile.summary, profile.hint.as_deref().unwrap_or_default());
    assert_eq!(profile.verdict, verdict, "{profile:?}");
    for word in words {
        assert!(told.contains(word), "'{word}' is not in: {profile:?}");
    }
}

/// A measure of a Profile.
pub fn value(profile: &Profile, name: &str) -> f64 {
    let measure = profile.measures.iter().find(|measure| measure.name == name);
    measure.unwrap_or_else(|| panic!("no {name} in {profile:?}")).value
}

/// Writes a file with all directories above it.
pub fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A server's tree, whose `/srv` is this process's own: for a test in [`atlas_host::testing::own_network`].
pub fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("srv")).unwrap();
    run("mount", &["--bind", tree.path().join("srv").to_str().unwrap(), "/srv"]);
    tree
}

/// Places what SetUp wants to have placed.
pub fn place(root: &Path, found: &Found) {
    for data in &found.place {
        write(root, &data.path, &data.content);
        fs::set_permissions(root.join(&data.path[1..]), PermissionsExt::from_mode(data.mode)).unwrap();
    }
}

/// The check of what SetUp found under this name.
pub fn verify_found(service: &str, found: &Found, name: &str, more: &[(&str, &str)]) -> Profile {
    let instance = found.instances.iter().find(|instance| instance.name == name);
    let instance = instance.unwrap_or_else(|| panic!("no {name} in {found:?}"));
    let options: Vec<(&str, &str)> = instance
        .options
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .chain(more.iter().copied())
        .collect();
    verify(service, &options)
}

/// Waits until something is so, at most a minute: the machine may be busy.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command to its end, which has to be a good one.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("cannot run {program}: {error}");
    });
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}\n{said}", output.status);
    said
}

/// A daemon that ends with the test.
pub struct Daemon(Child);

impl Daemon {
    /// Starts it, in the foreground, and waits until it accepts connections on a TCP port of loopback.
    pub fn start(program: &str, args: &[&str], port: u16) -> Daemon {
        Daemon::start_until(program, args, || accepts(port))
    }

    /// Starts it, in the foreground, and waits until it does something.
    pub fn start_until(program: &str, args: &[&str], mut is_up: impl FnMut() -> bool) -> Daemon {
        // A group of its own, which ends as a whole: some are started by a script, or end their group themselves.
        let child =
            Command::new(program).args(args).stdin(Stdio::null()).process_group(0).spawn().unwrap_or_else(|error| {
                panic!("cannot run {program}: {error}");
            });
        let mut daemon = Daemon(child);
        wait_until(program, || {
            let ended = daemon.0.try_wait().unwrap();
            assert!(ended.is_none(), "{program} {args:?} ended: {ended:?}");
            is_up()
        });
        daemon
    }

    /// Lets it hold its connections and do nothing.
    pub fn freeze(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        // The signal reaches one thread after the other.
        wait_until("it has stopped", || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
            tasks
                .map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default())
                .all(|stat| stat.contains(") T "))
        });
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }

    /// Its process id.
    fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.0.id().try_into().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(5);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of a package that the tests have unpacked, because it cannot be installed beside another.
pub fn unpacked(package: &str, program: &str) -> String {
    let path = format!("/usr/local/lib/atlas-tests/{package}/{program}");
    assert!(Path::new(&path).exists(), "{path} is not there: 'cargo xtask setup' unpacks it");
    path
}

/// Whether somebody accepts connections on this port of loopback.
pub fn accepts(port: u16) -> bool {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

//! VerifierControl as a program: two servers on loopback that verify each other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use atlas_model::verify::{Findings, Verdict};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A server that is a directory, with its Verifier.
struct Server {
    root: tempfile::TempDir,
    verifier: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    /// A server of this Role at this address, whose partner is at the other.
    fn new(role: &str, address: &str, partner: (&str, &str)) -> Server {
        let root = tempfile::tempdir().unwrap();
        let server = Server { root, verifier: None };
        server.write("opt/atlas/EnvID", "1\n");
        server.write("opt/atlas/Cluster", "bakery\n");
        let (other, host) = partner;
        server.write(
            "unbound/SID_DATA/MasterConfig",
            &format!("format = 1\ncluster = \"bakery\"\nrole = \"{role}\"\n[[partner]]\nrole = \"{other}\"\nhost = \"{host}\"\n"),
        );
        server.write("etc/atlas/verifier/secret", &"5ec7e7".repeat(10));
        fs::set_permissions(server.path("etc/atlas/verifier/secret"), fs::Permissions::from_mode(0o600)).unwrap();
        let alerts = server.path("alerts");
        server.write(
            "etc/atlas/verifier.toml",
            &format!(
                "listen = [\"{address}:7311\"]\n[service.page]\ninterval = 1\n\
                 [[channel]]\nname = \"file\"\nkind = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"echo $ATLAS_KIND $ATLAS_KEY >>{}\"]\n",
                alerts.display()
            ),
        );
        // What it answers is what lies in a file of the server that it is asked about.
        let plugin = "#!/bin/sh\n[ $1 = setup ] && exec echo '{\"format\":1,\"instances\":[]}'\n\
                      for word in \"$@\"; do case $word in --set=file=*) file=${word#--set=file=};; esac; done\n\
                      [ ! -e $file ] && echo '{\"format\":1,\"verdict\":\"ok\",\"summary\":\"the page is there\"}' && exit 0\n\
                      echo '{\"format\":1,\"verdict\":\"unacceptable\",\"summary\":\"the page is gone\"}'; exit 2\n";
        server.write("etc/atlas/verify.d/page", plugin);
        fs::set_permissions(server.path("etc/atlas/verify.d/page"), fs::Permissions::from_mode(0o755)).unwrap();
        server.write(
            "etc/atlas/verifier/Services.json",
            &format!(
                "{{\"format\":1,\"services\":{{\"page\":{{\"instances\":[{{\"name\":\"\",\"options\":{{\"file\":\"{}\"}}}}]}}}}}}",
                server.path("broken").display()
            ),
        );
        server
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
    }

    fn start(&mut self) {
        self.start_by(Command::new(env!("CARGO_BIN_EXE_VerifierControl")));
    }

    /// In a network that has no way to anybody.
    fn start_alone(&mut self) {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", env!("CARGO_BIN_EXE_VerifierControl")]);
        self.start_by(command);
    }

    fn start_by(&mut self, mut command: Command) {
        let log = fs::File::create(self.path("log")).unwrap();
        command.arg("--root").arg(self.root.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.verifier = Some(command.spawn().unwrap());
    }

    fn stop(&mut self) {
        if let Some(mut verifier) = self.verifier.take() {
            let _ = verifier.kill();
            verifier.wait().unwrap();
        }
    }

    fn findings(&self) -> Option<Findings> {
        serde_json::from_slice(&fs::read(self.path("run/atlas/verifier.json")).ok()?).ok()
    }

    fn verdict(&self, key: &str) -> Option<Verdict> {
        let findings = self.findings()?;
        findings.observed.iter().find(|observed| observed.key() == key).map(|observed| observed.profile.verdict)
    }

    fn alerts(&self) -> Vec<String> {
        fs::read_to_string(self.path("alerts")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn count(&self, alert: &str) -> usize {
        self.alerts().iter().filter(|line| *line == alert).count()
    }

    fn results(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_VerifierResults"))
            .args(args)
            .arg("--root")
            .arg(self.root.path())
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        )
    }
}

/// Waits until it is so; how long that took.
fn wait(what: &str, log: &Path, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !is_so() {
        let log = || fs::read_to_string(log).unwrap_or_default();
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: {}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// The two, verifying each other. The addresses are loopback's own, so that tests at the same time need others.
fn cluster(pri: &str, sec: &str) -> (Server, Server) {
    let mut one = Server::new("PRI", pri, ("SEC1", sec));
    let mut two = Server::new("SEC1", sec, ("PRI", pri));
    // What is exercised on SEC1 is broken by a file of SEC1's.
    let services = fs::read_to_string(two.path("etc/atlas/verifier/Services.json")).unwrap();
    one.write("etc/atlas/verifier/Services.json", &services);
    one.start();
    two.start();
    let log = one.path("log");
    wait("PRI verifies SEC1 and hears it", &log, || {
        one.verdict("SEC1/page") == Some(Verdict::Ok) && one.verdict("SEC1/verifier") == Some(Verdict::Ok)
    });
    (one, two)
}

#[test]
fn a_fault_is_seen_alerted_once_acknowledged_and_over() {
    let (mut pri, sec) = cluster("127.0.71.1", "127.0.71.2");
    let log = pri.path("log");
    sec.write("broken", "");
    let seen = wait("the fault is seen", &log, || pri.verdict("SEC1/page") == Some(Verdict::Unacceptable));
    let alerted = wait("it is alerted", &log, || pri.count("problem SEC1/page") == 1);
    // The interval is a second; two more are allowed until it is told, and one until the alert is with its channel. A busy machine gets more.
    assert!(seen < Duration::from_secs(10) && alerted < Duration::from_secs(10), "{seen:?} {alerted:?}");
    let (code, text) = pri.results(&["ack", "SEC1/page", "Ann looks"]);
    assert_eq!(code, Some(0), "{text}");

    pri.stop();
    pri.start();
    wait("it is known after a restart", &log, || {
        pri.findings().is_some_and(|findings| {
            let page = findings.observed.iter().find(|observed| observed.key() == "SEC1/page");
            page.is_some_and(|page| {
                page.acknowledged.as_deref() == Some("Ann looks") && page.profile.verdict == Verdict::Unacceptable
            })
        })
    });
    assert_eq!(pri.count("problem SEC1/page"), 1, "told again after a restart: {:?}", pri.alerts());

    fs::remove_file(sec.path("broken")).unwrap();
    wait("its end is told", &log, || pri.count("recovered SEC1/page") == 1);
    let (_, history) = pri.results(&["history", "SEC1/page"]);
    assert!(history.contains("unacceptable") && history.contains("acknowledged: Ann looks"), "{history}");
    assert_eq!(sec.alerts().len(), 0, "PRI tells, not both: {:?}", sec.alerts());
}

#[test]
fn a_dead_verifier_is_a_problem_and_a_secondary_tells_when_nobody_asks_it() {
    let (pri, mut sec) = cluster("127.0.72.1", "127.0.72.2");
    let log = pri.path("log");
    sec.stop();
    wait("SEC1's Verifier is missed", &log, || pri.count("problem SEC1/verifier") == 1);
    let heard = pri.findings().unwrap().heard[0].clone();
    assert!(heard.silent.is_some() && heard.time.is_some(), "what it said before is kept with its time");
    sec.start();
    wait("it is heard again", &log, || pri.count("recovered SEC1/verifier") == 1);
    let (_, text) = pri.results(&["list"]);
    assert!(text.contains("SEC1/page"), "{text}");
}

#[test]
fn whom_nobody_reaches_is_one_problem_and_all_that_goes_with_it_is_listed_below() {
    let mut pri = Server::new("PRI", "0.0.0.0", ("SEC1", "192.0.2.1"));
    let services = fs::read_to_string(pri.path("etc/atlas/verifier/Services.json")).unwrap();
    let connectivity = "\"services\":{\"connectivity\":{\"instances\":[{\"name\":\"\"}]},";
    pri.write("etc/atlas/verifier/Services.json", &services.replace("\"services\":{", connectivity));
    let settings = fs::read_to_string(pri.path("etc/atlas/verifier.toml")).unwrap();
    pri.write("etc/atlas/verifier.toml", &(settings + "[service.connectivity]\ninterval = 12\ndeadline = 6\n"));
    pri.start_alone();
    let log = pri.path("log");
    wait("it is told that SEC1 does not answer", &log, || pri.count("problem SEC1/connectivity") == 1);
    pri.write("broken", "");
    wait("the page is gone", &log, || pri.verdict("SEC1/page") == Some(Verdict::Unacceptable));
    let (code, text) = pri.results(&["causes", "SEC1"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(code, Some(3), "{text}");
    assert!(lines[0].starts_with("SEC1/connectivity, seen by PRI: unacceptable: "), "{text}");
    assert!(lines.iter().any(|line| line.starts_with("  with it: SEC1/page, seen by PRI: the page is gone")), "{text}");
    wait("its silence goes with it", &log, || pri.results(&["causes"]).1.contains("with it: SEC1/verifier"));
    assert_eq!(pri.count("problem SEC1/page"), 0, "{:?}", pri.alerts());
}

#[test]
fn all_that_is_wrong_is_listed_by_the_command_that_is_named() {
    let mut server = Server::new("PRI", "127.0.78.1", ("SEC1", "127.0.78.2"));
    let good = fs::read_to_string(server.path("etc/atlas/verifier.toml")).unwrap();
    let wrong: String = (0..20).map(|n| format!("[service.wbe{n}]\noff = true\n")).collect();
    server.write("etc/atlas/verifier.toml", &format!("{good}{wrong}"));
    server.start();
    let log = server.path("log");
    wait("it is told", &log, || server.verdict("PRI/verifier/settings") == Some(Verdict::Slow));
    let (_, text) = server.results(&["list"]);
    let named = "and 14 more (VerifierResults show PRI/verifier/settings)";
    assert!(text.contains(named), "{text}");
    let (_, text) = server.results(&["show", "PRI/verifier/settings"]);
    assert!((0..20).all(|n| text.contains(&format!("[service.wbe{n}]"))), "{text}");
}

/// PRI and two secondaries, which know PRI alone.
fn trio(pri: &str, secs: [&str; 2]) -> (Server, Server, Server) {
    let mut one = Server::new("PRI", pri, ("SEC1", secs[0]));
    let config = fs::read_to_string(one.path("unbound/SID_DATA/MasterConfig")).unwrap();
    let second = format!("[[partner]]\nrole = \"SEC2\"\nhost = \"{}\"\n", secs[1]);
    one.write("unbound/SID_DATA/MasterConfig", &(config + &second));
    let mut two = Server::new("SEC1", secs[0], ("PRI", pri));
    let mut three = Server::new("SEC2", secs[1], ("PRI", pri));
    // The page that each exercises on PRI is broken by a file of PRI's.
    let services = fs::read_to_string(one.path("etc/atlas/verifier/Services.json")).unwrap();
    [&mut two, &mut three].iter().for_each(|sec| sec.write("etc/atlas/verifier/Services.json", &services));
    for server in [&mut one, &mut two, &mut three] {
        server.start();
    }
    let log = one.path("log");
    for sec in [&two, &three] {
        wait("PRI serves", &log, || sec.verdict("PRI/serving") == Some(Verdict::Ok));
    }
    let knows = |sec: &Server| {
        let state = sec.path("unbound/SID_DATA/Verifier/SEC2/Env1/state.json");
        fs::read_to_string(state).is_ok_and(|state| state.contains("siblings\":[{"))
    };
    wait("SEC2 knows of SEC1", &log, || knows(&three));
    (one, two, three)
}

#[test]
fn when_pri_dies_one_secondary_tells_within_a_minute_what_to_do_and_the_other_does_not() {
    let (mut pri, sec1, sec2) = trio("127.0.79.1", ["127.0.79.2", "127.0.79.3"]);
    let log = sec1.path("log");
    pri.write("broken", "");
    pri.stop();
    let died = Instant::now();
    wait("SEC1 tells", &log, || sec1.count("problem PRI/serving") == 1);
    assert!(died.elapsed() < Duration::from_secs(60), "{:?}", died.elapsed());
    let (_, text) = sec1.results(&["show", "PRI/serving"]);
    assert!(text.contains("nobody serves") && text.contains("PRI's front disks into this server's bays"), "{text}");
    wait("SEC2 sees it", &log, || sec2.verdict("PRI/serving") == Some(Verdict::Unacceptable));
    while died.elapsed() < Duration::from_secs(50) {
        assert!(sec2.alerts().is_empty(), "both tell: {:?}", sec2.alerts());
        std::thread::sleep(Duration::from_millis(200));
    }
    let of_pri: Vec<String> = sec1.alerts().into_iter().filter(|line| line.contains(" PRI/")).collect();
    assert_eq!(of_pri, ["problem PRI/serving"], "one root");
}

#[test]
fn where_no_other_secondary_tells_the_last_one_does() {
    let (mut pri, mut sec1, sec2) = trio("127.0.80.1", ["127.0.80.2", "127.0.80.3"]);
    let log = sec2.path("log");
    pri.write("broken", "");
    pri.stop();
    sec1.stop();
    wait("SEC2 tells", &log, || sec2.count("problem PRI/serving") == 1);
}

#[test]
fn what_is_planned_is_not_alerted() {
    let (pri, sec) = cluster("127.0.73.1", "127.0.73.2");
    let log = pri.path("log");
    assert_eq!(pri.results(&["maintenance", "SEC1", "new disks", "--hours", "1"]).0, Some(0));
    assert_eq!(pri.results(&["maintenance", "SEC9", "new disks"]).0, Some(1));
    sec.write("broken", "");
    wait("the fault is seen", &log, || pri.verdict("SEC1/page") == Some(Verdict::Unacceptable));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(pri.count("problem SEC1/page"), 0);
    assert_eq!(pri.results(&["maintenance", "SEC1", "--end"]).0, Some(0));
    wait("it is alerted when the maintenance is over", &log, || pri.count("problem SEC1/page") == 1);
}

#[test]
fn a_page_that_went_with_an_earlier_release_is_placed_again() {
    let mut pri = Server::new("PRI", "127.0.90.1", ("SEC1", "127.0.90.2"));
    let place =
        r#"{"format":1,"instances":[],"place":[{"path":"/srv/www/.atlas-verify.html","content":"page","mode":420}]}"#;
    pri.write("etc/atlas/verify.d/page", &format!("#!/bin/sh\n[ $1 = setup ] && exec echo '{place}'\nexit 3\n"));
    pri.write("unbound/SID_DATA/PRI/SnapshotEnvVersion", "1\n");
    pri.write("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n");
    pri.write("srv/www/index.html", "");
    let (page, release) = (pri.path("srv/www/.atlas-verify.html"), pri.path("srv/www"));
    let set_up =
        Command::new(env!("CARGO_BIN_EXE_VerifierControl")).args(["setup", "--root"]).arg(pri.path("")).output();
    assert!(page.exists(), "{:?}", set_up.unwrap());
    pri.start();
    let log = pri.path("log");
    wait("it verifies", &log, || pri.findings().is_some());
    for _ in 0..2 {
        fs::remove_dir_all(&release).unwrap();
        fs::create_dir(&release).unwrap();
        assert!(!page.exists());
        let took = wait("the page is back", &log, || page.exists());
        assert!(took < Duration::from_secs(10), "a partner would have missed it: {took:?}");
        // It is looked at again before the next release comes.
        std::thread::sleep(Duration::from_secs(6));
    }
}

#[test]
fn a_server_that_was_not_set_up_yet_is_waited_for() {
    let mut server = Server::new("PRI", "127.0.74.1", ("SEC1", "127.0.74.2"));
    let config = server.path("unbound/SID_DATA/MasterConfig");
    let text = fs::read_to_string(&config).unwrap();
    fs::remove_file(&config).unwrap();
    server.start();
    let log = server.path("log");
    wait("it says what it waits for", &log, || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("nothing to verify yet"))
    });
    fs::write(&config, text).unwrap();
    wait("it begins", &log, || server.findings().is_some());
}

#[test]
fn settings_that_mean_nothing_are_told_and_notes_that_cannot_be_read_stay() {
    let mut server = Server::new("PRI", "127.0.75.1", ("SEC1", "127.0.75.2"));
    let good = fs::read_to_string(server.path("etc/atlas/verifier.toml")).unwrap();
    let notes = server.path("unbound/SID_DATA/Verifier/PRI/notes.json");
    server.write("unbound/SID_DATA/Verifier/PRI/notes.json", "{");
    server.start();
    let log = server.path("log");
    wait("all that is set counts", &log, || server.verdict("PRI/verifier/settings") == Some(Verdict::Ok));
    server.write("etc/atlas/verifier.toml", &format!("{good}[service.wbe]\noff = true\n"));
    wait("what does not is told", &log, || server.verdict("PRI/verifier/settings") == Some(Verdict::Slow));
    let (_, text) = server.results(&["show", "PRI/verifier/settings"]);
    let line = good.lines().count() + 1;
    assert!(text.contains(&format!("line {line}: [service.wbe]")) && text.contains("did you mean 'web'?"), "{text}");
    server.write("etc/atlas/verifier.toml", &good);
    wait("it is clear again", &log, || server.verdict("PRI/verifier/settings") == Some(Verdict::Ok));

    assert_eq!(server.verdict("PRI/verifier/notes"), Some(Verdict::Slow));
    let (code, text) = server.results(&["ack", "PRI/verifier/notes", "seen"]);
    assert!(code == Some(1) && text.contains("notes.json"), "{code:?} {text}");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "{", "what was said is lost");
    fs::remove_file(&notes).unwrap();
    wait("they are known", &log, || server.verdict("PRI/verifier/notes") == Some(Verdict::Ok));
}

#[test]
fn a_verifier_that_starts_with_broken_settings_verifies_and_says_so() {
    let mut server = Server::new("PRI", "127.0.77.1", ("SEC1", "127.0.77.2"));
    server.write("etc/atlas/verifier.toml", "[service.web\n");
    // In a network of its own: nothing says at which address it is to listen.
    server.start_alone();
    let log = server.path("log");
    wait("it is told", &log, || server.verdict("PRI/verifier/settings") == Some(Verdict::Slow));
    let (_, text) = server.results(&["show", "PRI/verifier/settings"]);
    assert!(text.contains("verifier.toml") && text.contains("none of it is in force"), "{text}");
    server.write("etc/atlas/verifier.toml", "");
    wait("it is clear", &log, || server.verdict("PRI/verifier/settings") == Some(Verdict::Ok));
}

#[test]
fn a_restart_ends_no_problem() {
    let mut pri = Server::new("PRI", "127.0.76.1", ("SEC1", "127.0.76.2"));
    let own = "#!/bin/sh\n[ $1 = setup ] && exec echo '{\"format\":1,\"instances\":[{\"name\":\"a\",\"at\":\"here\"}]}'\n\
               echo '{\"format\":1,\"verdict\":\"unacceptable\",\"summary\":\"it is broken here\"}'; exit 2\n";
    pri.write("etc/atlas/verify.d/own", own);
    fs::set_permissions(pri.path("etc/atlas/verify.d/own"), fs::Permissions::from_mode(0o755)).unwrap();
    pri.write(
        "etc/atlas/verifier.toml",
        &(fs::read_to_string(pri.path("etc/atlas/verifier.toml")).unwrap() + "[service.own]\ninterval = 1\n"),
    );
    pri.start();
    let log = pri.path("log");
    wait("it is told", &log, || pri.count("problem PRI/own/a") == 1);
    assert_eq!(pri.results(&["ack", "PRI/own/a", "Ann looks"]).0, Some(0));
    pri.stop();
    fs::remove_file(pri.path("run/atlas/verifier.json")).unwrap();
    pri.start();
    wait("what is here has been found again", &log, || {
        pri.findings().is_some_and(|findings| {
            let at = |key: &str| findings.observed.iter().find(|one| one.key() == key).map(|one| one.checked);
            at("PRI/own/a").zip(at("PRI/verifier/setup")).is_some_and(|(own, _)| own > findings.started + 1)
        })
    });
    assert_eq!(pri.alerts().iter().filter(|line| line.ends_with("PRI/own/a")).count(), 1, "{:?}", pri.alerts());
    let findings = pri.findings().unwrap();
    let own = findings.observed.iter().find(|one| one.key() == "PRI/own/a").unwrap();
    assert_eq!(own.acknowledged.as_deref(), Some("Ann looks"), "it is forgotten who looks");
}

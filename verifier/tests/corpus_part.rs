//! A part of the corpus (see corpus/README.md) with the daemons of this machine: what each says of a configuration and what is read of it is the
//! same; one that is well is not called a fault, and stopped it is reported. `cargo xtask bench corpus` tries all of it, on three releases.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]
#![allow(dead_code, unreachable_pub, reason = "of the corpus, the bench uses the rest")]

#[path = "corpus/case.rs"]
mod case;
mod common;
#[path = "corpus/daemons.rs"]
mod daemons;

use atlas_host::testing::own_network;
use atlas_model::verify::{At, Found, Instance, Verdict};
use case::Case;
use common::{run, setup, verify_on, write};
use nix::sys::signal::{Signal, killpg};
use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Those that are compared, by daemon; the first ones, as many as the number says, are exercised as well.
const PART: &[(&str, usize, &[&str])] = &[
    ("nginx", 1, &["hole-by-default", "globs-and-quotes", "map-with-braces", "two-addresses", "comments-everywhere"]),
    ("apache", 1, &["includes", "names", "addresses", "case-and-blanks", "env-variables"]),
    ("ssh", 1, &["drop-ins", "address-with-port", "quotes", "ports", "match-all"]),
    ("bind", 1, &["views", "include", "include-inside", "compact", "acl"]),
    ("unbound", 1, &["all-addresses", "include", "include-quoted-no-blank", "one-line", "local-data"]),
    ("dnsmasq", 1, &["conf-file", "local", "quotes", "no-dns"]),
    ("postfix", 0, &["conditional-values", "local-multiline", "options-in-braces", "variables"]),
    ("dovecot", 1, &["compact-blocks", "plain-local"]),
    ("samba", 0, &["shares", "copy", "include-and-lines", "comment-behind-name", "two-globals"]),
    ("postgresql", 0, &["includes", "quotes", "last-counts", "port"]),
    ("mariadb", 0, &["include", "loose", "prefix", "several-addresses", "version-section"]),
    ("chrony", 1, &["include", "confdir", "two-families", "one-network"]),
    ("nfs", 0, &["ways", "defaults", "hosts", "quotes", "folder"]),
];
/// How often each instance is well before its daemon is stopped.
const TIMES: usize = 3;
/// How long a daemon may take to begin, and its end to be reported.
const PATIENCE: Duration = Duration::from_secs(40);

/// Apache as its package lays it out, which is not on a machine that has the program alone.
const APACHE: &str = "ServerRoot /etc/apache2\nDefaultRuntimeDir ${APACHE_RUN_DIR}\nPidFile ${APACHE_RUN_DIR}/apache2.pid\nUser www-data\nGroup www-data\n\
    ErrorLog ${APACHE_LOG_DIR}/error.log\nLogFormat \"%h\" combined\nIncludeOptional mods-enabled/*.load\nListen 80\n\
    <FilesMatch \"^\\.ht\">\n  Require all denied\n</FilesMatch>\n<Directory />\n  Require all denied\n</Directory>\n\
    <Directory /srv/>\n  Require all granted\n</Directory>\nIncludeOptional sites-enabled/*.conf\n";
const APACHE_VARIABLES: &str = "export APACHE_RUN_DIR=/run/apache2 APACHE_LOCK_DIR=/run/lock APACHE_LOG_DIR=/run\n";
const APACHE_MODULES: [&str; 4] = ["mpm_event", "authz_core", "dir", "alias"];

/// What daemons need of this machine, of their own for this test.
fn furnish(place: &Path) {
    run("mount", &["--bind", place.to_str().unwrap(), "/srv"]);
    std::fs::set_permissions("/srv", PermissionsExt::from_mode(0o755)).unwrap();
    for dir in ["/var/log", "/var/cache", "/var/lib/nfs"] {
        run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", dir]);
    }
    run(
        "sh",
        &[
            "-ec",
            "mkdir -p /var/log/nginx /var/cache/bind /var/cache/samba /run/samba /run/sshd /run/lock /run/apache2; chown bind /var/cache/bind",
        ],
    );
    run(
        "sh",
        &[
            "-ec",
            "mkdir -p /run/systemd/system; cd /run/systemd/system; for unit in $0; do echo >$unit.service '[Service]'; done",
            UNITS,
        ],
    );
}

/// A daemon counts where something would start it; not every machine that runs this has all the units.
const UNITS: &str = "apache2 nginx dnsmasq mariadb nfs-server postfix dovecot smbd chrony named unbound postgresql";

/// Lays out a configuration over what the machine has of the daemon; what others of the same service have goes.
fn laid_out(case: &Case, place: &Path) {
    let at = |name: &str| place.join(name).display().to_string();
    ["up", "work"].iter().for_each(|name| std::fs::create_dir(place.join(name)).unwrap());
    let layers = format!("lowerdir=/etc,upperdir={},workdir={}", at("up"), at("work"));
    run("mount", &["-t", "overlay", "overlay", "-o", &layers, "/etc"]);
    let others =
        daemons::ALL.iter().filter(|other| other.service == case.daemon.service && other.name != case.daemon.name);
    others.for_each(|other| drop(run("rm", &["-rf", other.dir])));
    let root = Path::new("/");
    if case.daemon.name == "dnsmasq" {
        std::fs::create_dir_all("/etc/dnsmasq.d").unwrap();
    }
    if case.daemon.name == "apache" {
        write(root, "etc/apache2/apache2.conf", APACHE);
        write(root, "etc/apache2/envvars", APACHE_VARIABLES);
        for module in APACHE_MODULES {
            let load = format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n");
            write(root, &format!("etc/apache2/mods-enabled/{module}.load"), &load);
        }
    }
    case.files.iter().for_each(|(path, content)| write(root, &path[1..], content));
    run("sh", &["-ec", &format!("cd /\n{}", case.setup)]);
}

/// What one view has and the other has not.
fn differences(case: &Case, asked: &Found, read: &Found) -> Vec<String> {
    let all = |found: &Found| -> Vec<String> {
        let instances = found.instances.iter().filter(|one| one.name != "resolver");
        let instances = instances.map(|one| format!("{} {:?} {:?}", one.name, one.at, one.options));
        instances.chain(found.place.iter().map(|data| data.path.clone())).chain(found.problems.clone()).collect()
    };
    let (asked_all, read_all) = (all(asked), all(read));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|one| !those.contains(one)).cloned().collect()
    };
    let unasked = asked.notes.iter().filter(|note| note.contains("read instead"));
    let by = [("asked", only(&asked_all, &read_all)), ("read", only(&read_all, &asked_all))];
    let lines =
        by.into_iter().flat_map(|(how, lines)| lines.into_iter().map(move |line| format!("{how} alone: {line}")));
    lines.chain(unasked.cloned()).map(|line| format!("{}: {line}", case.name)).collect()
}

/// The verdict on an instance, as its Verifier asks for it.
fn verdict(case: &Case, one: &Instance) -> (Verdict, String) {
    let host = if one.at == At::Here { "localhost" } else { "127.0.0.1" };
    let options: Vec<(&str, &str)> = one.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let profile = verify_on(host, case.daemon.service, &options);
    (profile.verdict, format!("{}: {}: {:?}: {}", case.name, one.name, profile.verdict, profile.summary))
}

/// Waits until all instances have this verdict; gives what is said of those that have another.
fn until(case: &Case, instances: &[Instance], wanted: Verdict) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let others = instances.iter().map(|one| verdict(case, one)).filter(|(verdict, _)| *verdict != wanted);
        let others: Vec<String> = others.map(|(_, said)| said).collect();
        if others.is_empty() || Instant::now() > end {
            return others;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn start(case: &Case) -> Child {
    let script = format!("cd /\n{}\n{}", case.daemon.prepare, case.daemon.start);
    let log = std::fs::File::create("/run/daemon.log").unwrap();
    let mut command = Command::new("sh");
    command.args(["-ec", &script]).process_group(0).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

/// Starts the daemon, which is well; and stops it, which has to be reported.
fn exercise(case: &Case, found: &Found) -> Vec<String> {
    for data in &found.place {
        std::fs::write(&data.path, &data.content).unwrap();
        std::fs::set_permissions(&data.path, PermissionsExt::from_mode(data.mode)).unwrap();
    }
    let instances: Vec<Instance> = found.instances.iter().filter(|one| one.name != "resolver").cloned().collect();
    assert!(!instances.is_empty(), "{}: nothing is exercised", case.name);
    let mut daemon = start(case);
    let mut wrong = until(case, &instances, Verdict::Ok);
    for _ in 1..TIMES {
        let again = instances.iter().map(|one| verdict(case, one)).filter(|(verdict, _)| *verdict != Verdict::Ok);
        wrong.extend(again.map(|(_, said)| said));
    }
    if !wrong.is_empty() {
        wrong.push(std::fs::read_to_string("/run/daemon.log").unwrap());
    }
    assert!(daemon.try_wait().unwrap().is_none(), "{} ended by itself: {wrong:?}", case.name);
    killpg(nix::unistd::Pid::from_raw(daemon.id() as i32), Signal::SIGKILL).unwrap();
    daemon.wait().unwrap();
    wrong.extend(until(case, &instances, Verdict::Unacceptable).into_iter().map(|said| format!("stopped, {said}")));
    wrong
}

/// Tries one configuration; says what is wrong.
fn tried(case: &Case, is_exercised: bool) -> Vec<String> {
    let place = tempfile::tempdir_in("/run").unwrap();
    laid_out(case, place.path());
    // The same files in a tree that is not the running server's.
    std::fs::create_dir_all("/run/mirror").unwrap();
    run("mount", &["--rbind", "/", "/run/mirror"]);
    let (asked, read) = ["/", "/run/mirror"].map(|root| setup(case.daemon.service, Path::new(root))).into();
    run("umount", &["--lazy", "/run/mirror"]);
    let mut wrong = differences(case, &asked, &read);
    if is_exercised {
        wrong.extend(exercise(case, &asked));
    }
    run("umount", &["--lazy", "/etc"]);
    wrong
}

#[test]
fn a_part_of_the_corpus_is_understood_as_its_daemons_do_and_none_that_is_well_is_called_a_fault() {
    if !own_network("a_part_of_the_corpus_is_understood_as_its_daemons_do_and_none_that_is_well_is_called_a_fault") {
        return;
    }
    let srv = tempfile::tempdir_in("/run").unwrap();
    furnish(srv.path());
    let own = case::own();
    let mut wrong = vec![];
    for (daemon, exercised, names) in PART {
        for (number, name) in names.iter().enumerate() {
            let name = format!("{daemon}/{name}");
            let case = own.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no {name}"));
            wrong.extend(tried(case, number < *exercised));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

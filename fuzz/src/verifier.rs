//! What must hold for every input of the Verifier's parsers, as `properties.rs` has it for the others; `verifier/tests/fuzz_seeds.rs` includes this
//! file. The network, partners, plugins of anybody, and configuration that somebody wrote for another program: whatever they say, the Verifier
//! goes on, what it shows can be shown, and what it keeps can be read again.

use atlas_model::{
    TreePath,
    tree_path::is_hidden,
    verify::{MAX_FINDINGS, MAX_ITEMS, Profile, is_test_data},
};
use atlas_verifier::{
    catalogue,
    check::{Speaks, read_json},
    exchange::{self, Request, Secret},
    service::{Target, Tree},
    services,
    settings::Settings,
    store::{Event, State},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

/// A parser's properties as a function of the input; `true` where it parsed.
pub type Property = fn(&[u8]) -> bool;

/// Every target by its name, which is that of its folder below `seeds-verifier`, too.
pub const TARGETS: [(&str, Property); 17] = [
    ("request", request),
    ("findings", findings),
    ("profile", profile),
    ("perfdata", perfdata),
    ("found", found),
    ("settings", settings),
    ("state", state),
    ("answers", answers),
    ("smartctl", smartctl),
    ("raid", raid),
    ("web", web),
    ("dns", dns),
    ("mail", mail),
    ("nfs", nfs),
    ("samba", samba),
    ("databases", databases),
    ("time", time),
];

/// What asks on port 7311: read once it has ended, and never without an end.
pub fn request(data: &[u8]) -> bool {
    match Request::parse(data) {
        Ok(Some(_)) => true,
        Ok(None) => {
            assert!(data.len() < 4096, "a request of {} bytes is waited for", data.len());
            false
        }
        Err(_) => false,
    }
}

const NONCE: &str = "00";

/// What a partner answers: as it is, and as the body of an answer that is proven.
pub fn findings(data: &[u8]) -> bool {
    let secret = Secret::parse(&[b'a'; 64]).expect("long enough");
    assert!(!matches!(exchange::parse_answer(data, NONCE, &secret), Ok(Some(_))), "nobody proved this");
    let proof = secret.prove_answer(NONCE, data).expect("a proof");
    let head =
        |proof: &str| format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\nAtlas-Proof: {proof}\r\n\r\n", data.len());
    let whole = [head(&proof).as_bytes(), data].concat();
    let wrong = [head(&proof.replace(|c: char| c.is_ascii_digit(), "a")).as_bytes(), data].concat();
    assert!(exchange::parse_answer(&wrong, NONCE, &secret).is_err(), "a wrong proof is believed");
    if !data.is_empty() {
        let cut = exchange::parse_answer(&whole[..whole.len() - 1], NONCE, &secret);
        assert!(matches!(cut, Ok(None)), "the end is not waited for");
    }
    let Ok(Some(mut findings)) = exchange::parse_answer(&whole, NONCE, &secret) else { return false };
    assert_eq!(again(&findings).observed.len(), findings.observed.len());
    exchange::by_our_clock(&mut findings, 1_800_000_000);
    assert!(findings.time == 1_800_000_000 && findings.started <= findings.time && data.len() <= MAX_FINDINGS);
    atlas_verifier::metrics::text(&findings).split('\n').for_each(|line| {
        assert!(line.is_empty() || line.starts_with("atlas_") || line.starts_with("# "), "{line:?}");
    });
    true
}

/// The JSON of a VerifyService, with each exit code.
pub fn profile(data: &[u8]) -> bool {
    let read = |code| {
        let output = ended(code, data);
        shown(&Speaks::Json.read(&output));
        read_json(&output).map(|profile| assert_eq!(i32::from(profile.verdict.exit_code()), code)).is_ok()
    };
    // One exit code at most is the verdict's.
    (0..4).filter(|code| read(*code)).count() == 1
}

/// What a plugin of Nagios prints.
pub fn perfdata(data: &[u8]) -> bool {
    let profile = Speaks::Nagios.read(&ended(0, data));
    shown(&profile);
    !profile.measures.is_empty()
}

fn ended(code: i32, stdout: &[u8]) -> atlas_host::process::Output {
    atlas_host::process::Output { status: ExitStatus::from_raw(code << 8), stdout: stdout.to_vec(), stderr: vec![] }
}

/// A Profile as it is shown on terminals, to Nagios and to Prometheus, and kept.
fn shown(profile: &Profile) {
    assert!(!profile.summary.trim().is_empty() && profile.summary.len() < 16_000 && visible(&profile.summary));
    assert!(profile.hint.as_deref().is_none_or(visible) && profile.measures.len() <= MAX_ITEMS);
    for measure in &profile.measures {
        assert!(visible(&measure.name) && visible(&measure.unit) && measure.value.is_finite(), "{measure:?}");
    }
    assert!(visible(&atlas_verifier::plugin::nagios_line("x", profile)));
    let kept = again(profile);
    assert_eq!((&kept.summary, kept.measures.len()), (&profile.summary, profile.measures.len()));
}

/// What was written of something, read again. Numbers may differ in their last digit.
fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let json = serde_json::to_vec(value).expect("what was read can be written");
    serde_json::from_slice(&json).expect("what was written can be read")
}

fn visible(text: &str) -> bool {
    !text.contains(is_hidden)
}

/// What `setup` of a VerifyService answers.
pub fn found(data: &[u8]) -> bool {
    let Ok(found) = catalogue::read_found(data) else { return false };
    assert!(found.instances.len() <= MAX_ITEMS && found.place.len() <= MAX_ITEMS && found.paths.len() <= MAX_ITEMS);
    is_fit(&found.instances, &found.problems);
    again(&found) == found
}

/// Instances become arguments of programs and lines on terminals.
fn is_fit(instances: &[atlas_model::verify::Instance], problems: &[String]) {
    for instance in instances {
        assert!(visible(&instance.name), "{instance:?}");
        assert!(instance.options.iter().all(|(key, value)| visible(key) && visible(value)), "{instance:?}");
    }
    problems.iter().for_each(|problem| assert!(visible(problem), "{problem:?}"));
}

/// `/etc/atlas/verifier.toml`: times are within their bounds, and whoever is to be told can be.
pub fn settings(data: &[u8]) -> bool {
    let Ok(settings) = Settings::parse(data) else { return false };
    let times = settings.service.values().flat_map(|service| [service.interval, service.deadline]).flatten();
    assert!(times.chain(settings.nagios.iter().map(|one| one.interval)).all(|time| (1..=86_400).contains(&time)));
    assert!(settings.nagios.iter().all(|nagios| !nagios.command.is_empty()));
    true
}

/// What was kept of every check, and a line of the log.
pub fn state(data: &[u8]) -> bool {
    if let Ok(event) = serde_json::from_slice::<Event>(data) {
        again(&event);
        return true;
    }
    let Ok(state) = State::parse(data) else { return false };
    let kept = again(&state);
    assert!(kept.records.keys().eq(state.records.keys()) && kept.open.keys().eq(state.open.keys()));
    true
}

/// What servers answer over the network, and what curl says of them.
pub fn answers(data: &[u8]) -> bool {
    services::testing::reads_answer(data)
}

/// smartctl's JSON.
pub fn smartctl(data: &[u8]) -> bool {
    services::testing::smartctl(data, &here(Path::new("/nonexistent"))).inspect(shown).is_ok()
}

/// What the kernel says of an array, in the files of sysfs.
pub fn raid(data: &[u8]) -> bool {
    const MD: &str = "sys/block/md127/md";
    let files = ["level", "array_state", "raid_disks", "degraded", "sync_action", "sync_completed", "mismatch_cnt"];
    let mut paths: Vec<String> = files.iter().map(|name| format!("{MD}/{name}")).collect();
    paths.extend(["dev-vdb/state", "sync_speed"].map(|name| format!("{MD}/{name}")));
    paths.extend(["sys/block/md127/dev".into(), "proc/self/mountinfo".into()]);
    in_tree(data, &paths.iter().map(String::as_str).collect::<Vec<_>>(), |root| {
        let raid = services::by_name("raid").expect("it is known");
        let profile = (raid.verify)(&here(root)).expect("it can be looked at");
        let tidied = Profile { summary: profile.summary.replace(is_hidden, " "), ..profile };
        assert!(tidied.measures.len() <= MAX_ITEMS && !tidied.summary.is_empty());
        true
    })
}

fn here(root: &Path) -> Target {
    Target {
        host: "localhost".into(),
        role: None,
        instance: String::new(),
        options: Default::default(),
        until: Instant::now() + Duration::from_secs(60),
        root: root.to_owned(),
    }
}

/// The configurations of nginx and Apache.
pub fn web(data: &[u8]) -> bool {
    let files = [
        "etc/nginx/nginx.conf",
        "etc/nginx/sites-enabled/a",
        "etc/apache2/apache2.conf",
        "etc/apache2/sites-enabled/a.conf",
    ];
    setup("web", data, &files)
}

/// Those of bind, unbound and dnsmasq, and of this server's own resolver.
pub fn dns(data: &[u8]) -> bool {
    setup("dns", data, &["etc/bind/named.conf", "etc/unbound/unbound.conf", "etc/dnsmasq.conf", "etc/resolv.conf"])
}

/// Those of postfix, exim and dovecot.
pub fn mail(data: &[u8]) -> bool {
    let files = [
        "etc/postfix/main.cf",
        "etc/postfix/master.cf",
        "etc/exim4/update-exim4.conf.conf",
        "etc/dovecot/dovecot.conf",
    ];
    setup("mail", data, &files)
}

/// `/etc/exports`.
pub fn nfs(data: &[u8]) -> bool {
    setup("nfs", data, &["etc/exports", "etc/exports.d/a.exports"])
}

/// `smb.conf`.
pub fn samba(data: &[u8]) -> bool {
    setup("samba", data, &["etc/samba/smb.conf"])
}

/// Those of PostgreSQL and MariaDB.
pub fn databases(data: &[u8]) -> bool {
    let postgresql = ["etc/postgresql/15/main/postgresql.conf", "etc/postgresql/15/main/start.conf"];
    setup("postgresql", data, &postgresql) | setup("mariadb", data, &["etc/mysql/my.cnf"])
}

/// Those of chrony, ntpsec and sshd.
pub fn time(data: &[u8]) -> bool {
    let ntp = setup("ntp", data, &["etc/chrony/chrony.conf", "etc/ntpsec/ntp.conf"]);
    setup("ssh", data, &["etc/ssh/sshd_config"]) && ntp
}

/// SetUp of a service in a tree of these files; `true` where it found an instance.
fn setup(service: &str, data: &[u8], files: &[&str]) -> bool {
    in_tree(data, files, |root| {
        let service = services::by_name(service).expect("it is known");
        let tree = Tree::open(root).expect("the tree can be read");
        let Ok(found) = (service.find)(&tree) else { return false };
        let answer = serde_json::to_vec(&found).expect("it can be told");
        let found = catalogue::read_found(&answer).expect("what a service of ATLAS found keeps the contract");
        is_fit(&found.instances, &found.problems);
        for path in &found.paths {
            assert!(TreePath::parse(path).is_ok(), "{path:?}");
        }
        for data in &found.place {
            // What is no path is told when it is to be placed.
            assert!(TreePath::parse(&data.path).map_or(true, |path| is_test_data(&path)), "{data:?}");
        }
        !found.instances.is_empty()
    })
}

/// The parts of the input, which bytes that are no text part, as these files.
fn in_tree<T>(data: &[u8], files: &[&str], look: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static TREE: tempfile::TempDir = tempfile::tempdir().expect("a directory"));
    TREE.with(|tree| {
        let mut parts = data.split(|byte| *byte == 0xff);
        for file in files {
            let path = tree.path().join(file);
            fs::create_dir_all(path.parent().expect("it is a path")).expect("a directory");
            fs::write(path, parts.next().unwrap_or_default()).expect("a file");
        }
        look(tree.path())
    })
}

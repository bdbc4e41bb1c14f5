use super::*;
use crate::{here::testing::Server, services};
use atlas_host::lock::Lock;
use atlas_model::verify::Verdict;
use std::{collections::BTreeMap, fs};

const SEC1: Role = Role::Sec(1);

/// A secondary after a cycle that brought /etc/app, with so many files more.
fn secondary(files: usize) -> Server {
    let server = Server::new();
    server.member("SEC1");
    server.write("opt/atlas/EnvID", "1\n");
    for (path, content) in [
        ("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n"),
        ("unbound/SID_DATA/PRI/Env1/SyncFilePaths", "/etc/app\n"),
        ("unbound/SID_DATA/SEC1/Env1/IdentFilePaths", "/etc/hostname\n"),
        ("unbound/SID_DATA/SEC1/Env1/SyncFilePathsPRI", "/etc/app\n"),
        ("etc/hostname", "sec1\n"),
        ("etc/app/app.conf", "port = 1\n"),
        ("etc/app/sub/more.conf", "x\n"),
    ] {
        server.write(path, content);
    }
    (0..files).for_each(|n| server.write(&format!("etc/app/many/{}/{n}", n / 10), "x"));
    snapshot(&server);
    server
}

fn env1() -> EnvVersion {
    EnvVersion::from_file(b"1\n").unwrap()
}

fn sid(server: &Server) -> SidData {
    SidData::open(&Dir::open_root(server.root().join("unbound")).unwrap()).unwrap()
}

/// What a cycle leaves at its end.
fn snapshot(server: &Server) {
    atlas_sid::create::create(&Dir::open_root(server.root()).unwrap(), &sid(server), SEC1, env1()).unwrap();
}

fn watcher(server: &Server) -> Watcher {
    Watcher::new(server.root().to_owned(), SEC1, env1())
}

/// Turns until the verdict is this; gives how long that took.
fn until(watcher: &mut Watcher, verdict: Verdict) -> (Duration, Profile) {
    let begun = Instant::now();
    loop {
        let profile = watcher.turn();
        if profile.verdict == verdict {
            return (begun.elapsed(), profile);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{profile:?}");
    }
}

#[test]
fn a_change_is_told_within_ten_seconds_and_is_over_when_it_is_put_right() {
    let server = secondary(0);
    let mut watcher = watcher(&server);
    until(&mut watcher, Verdict::Ok);
    let file = "etc/app/app.conf";
    server.write(file, "port = 2\n");
    let (took, profile) = until(&mut watcher, Verdict::Unacceptable);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(profile.summary, "/etc/app/app.conf was changed since the last cycle: its content");
    assert!(profile.hint.unwrap().contains("ssSync cycle"));
    server.write(file, "port = 1\n");
    until(&mut watcher, Verdict::Ok);
    server.mode(file, 0o600);
    let (_, profile) = until(&mut watcher, Verdict::Unacceptable);
    assert!(profile.summary.contains("its mode is 600 instead of 644"), "{profile:?}");
    server.mode(file, 0o644);
    until(&mut watcher, Verdict::Ok);
    server.remove("etc/app");
    let (_, profile) = until(&mut watcher, Verdict::Unacceptable);
    assert!(profile.summary.contains("/etc/app/app.conf is gone since the last cycle"), "{profile:?}");
    // In a directory that is another one than that which was watched.
    server.write(file, "port = 1\n");
    server.write("etc/app/sub/more.conf", "x\n");
    until(&mut watcher, Verdict::Ok);
    server.write("etc/app/sub/stranger", "x\n");
    let (_, profile) = until(&mut watcher, Verdict::Slow);
    assert!(profile.summary.contains("/etc/app/sub/stranger is here, and was not"), "{profile:?}");
}

#[test]
fn nothing_is_judged_while_a_cycle_changes_files_and_its_end_is_what_counts() {
    let server = secondary(0);
    let mut watcher = watcher(&server);
    until(&mut watcher, Verdict::Ok);
    let cycle = Lock::take(sid(&server).dir(), OsStr::new(CYCLE_LOCK), Duration::ZERO).unwrap();
    server.write("etc/app/app.conf", "port = 2\n");
    for _ in 0..3 {
        assert_eq!(watcher.turn().verdict, Verdict::Ok, "the cycle writes it");
    }
    snapshot(&server);
    drop(cycle);
    assert_eq!(watcher.turn().verdict, Verdict::Ok);
    server.write("etc/app/app.conf", "port = 1\n");
    until(&mut watcher, Verdict::Unacceptable);
}

#[test]
fn what_the_kernel_cannot_say_is_found_by_looking_at_everything() {
    let server = secondary(0);
    let mut watcher = watcher(&server);
    until(&mut watcher, Verdict::Ok);
    // Written through a name that is not watched.
    fs::hard_link(server.root().join("etc/app/app.conf"), server.root().join("elsewhere")).unwrap();
    until(&mut watcher, Verdict::Ok);
    server.write("elsewhere", "port = 2\n");
    assert_eq!(watcher.turn().verdict, Verdict::Ok, "the kernel says nothing of it");
    watcher.looked = Instant::now().checked_sub(ALL).unwrap();
    assert_eq!(watcher.turn().verdict, Verdict::Unacceptable);
}

#[test]
fn what_a_cycle_undid_is_told_for_a_while_and_what_comes_again_for_a_week() {
    let server = secondary(0);
    let root = Dir::open_root(server.root()).unwrap();
    let path = atlas_model::TreePath::parse("/etc/app/app.conf").unwrap();
    let changes = BTreeMap::from([(path, "its content".to_owned())]);
    let verify = || look(server.root()).unwrap();
    assert_eq!(verify().verdict, Verdict::Ok);
    Undone::add(&root, here::now() - 30, &changes).unwrap();
    let profile = verify();
    assert_eq!(profile.verdict, Verdict::Slow);
    assert!(profile.summary.contains("had been changed here (its content), and a cycle put it back"), "{profile:?}");
    server.remove("var/lib/atlas/install/undone.json");
    Undone::add(&root, here::now() - ONCE - 1, &changes).unwrap();
    assert_eq!(verify().verdict, Verdict::Ok, "it was told");
    Undone::add(&root, here::now() - ONCE - 1, &changes).unwrap();
    let profile = verify();
    assert_eq!(profile.verdict, Verdict::Slow);
    assert!(profile.summary.contains("2 times within a week"), "{profile:?}");
}

#[test]
fn pri_and_a_server_of_no_cluster_have_no_drift() {
    let pri = Server::new();
    pri.member("PRI");
    let service = services::by_name(NAME).unwrap();
    pri.is_well(service);
    Server::new().is_well(service);
    let fresh = Server::new();
    fresh.member("SEC1");
    fresh.is_well(service);
}

/// What watching takes of the processor, by what its turns take: a fifth of 20 000 files in 2000 directories, and five times the cost.
#[test]
fn watching_twenty_thousand_files_takes_little_of_the_processor() {
    let server = secondary(4000);
    let mut watcher = watcher(&server);
    until(&mut watcher, Verdict::Ok);
    assert!(watcher.known.as_ref().is_some_and(|(drift, watch)| drift.len() > 4400 && watch.is_whole()));
    // All of it once more, as once a minute, by stamps that are old enough to be believed.
    std::thread::sleep(Duration::from_millis(2100));
    watcher.is_due = true;
    watcher.turn();
    watcher.is_due = true;
    watcher.turn();
    let all = watcher.cost * 5;
    let begun = cpu_time();
    const TURNS: u32 = 3;
    (0..TURNS).for_each(|_| drop(watcher.turn()));
    let turn = cpu_time().saturating_sub(begun) / TURNS;
    let share = all.as_secs_f64() / watcher.period().as_secs_f64() + turn.as_secs_f64() / TURN.as_secs_f64();
    println!("all {all:?}, every {:?}; a turn {turn:?}; together {:.3} % of a core", watcher.period(), share * 100.0);
    // Three times as much without optimisation.
    let most = if cfg!(debug_assertions) { 0.009 } else { 0.003 };
    assert!(share < most, "{share}");
}

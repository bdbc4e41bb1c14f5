//! Bytes that no partner would send: each side must give up in time, with nothing changed that was published.

use super::Cluster;
use crate::{
    cycle::{Upto, partner},
    protocol::{Fault, Message, Wire, send},
    server::Server,
};
use atlas_model::{Digest, EnvVersion, Partner, Role};
use atlas_sid::outgoing::fingerprint;
use proptest::{prelude::*, test_runner::Config};
use std::{
    fs,
    io::{self, Write},
    path::Path,
};

/// Every path and content outside of what a partner may write.
fn everything_but(root: &Path, below: &str) -> Vec<(String, Vec<u8>)> {
    fn list(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.symlink_metadata().unwrap().is_dir() {
                true => list(&path, found),
                false => found.push((path.display().to_string(), fs::read(&path).unwrap_or_default())),
            }
        }
    }
    let mut found = Vec::new();
    list(root, &mut found);
    let passing = ["/SID_DATA/.", "/run/atlas/", "/bonds/", "/history", "/formats/", "/etc/.pwd.lock", below];
    found.retain(|(path, _)| !passing.iter().any(|part| path.contains(part)));
    found.sort();
    found
}

/// What PRI says in a whole conversation, and what SEC1 says.
fn recorded() -> (Cluster, Vec<u8>, Vec<u8>) {
    let cluster = Cluster::new();
    let pri = Server::open(&cluster.root("pri")).unwrap();
    crate::create::snapshot(&pri, false).unwrap();
    Cluster::copy(&cluster.root("sec1"), &cluster.root("fresh/sec1"));
    Cluster::copy(&cluster.root("pri"), &cluster.root("fresh/pri"));
    let ((heard_by_sec, said_by_pri), (heard_by_pri, said_by_sec)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let root = cluster.root("sec1");
    let (mut there, mut back) = (Tee::new(said_by_pri), Tee::new(said_by_sec));
    std::thread::scope(|scope| {
        let back = &mut back;
        scope.spawn(move || crate::serve::converse(&root, &mut Wire::new(heard_by_sec, back)).unwrap());
        let mut report = partner::blank(&Partner { role: Role::Sec(1), host: "sec1".into() });
        let mut wire = Wire::new(heard_by_pri, &mut there);
        partner::talk(&pri, Role::Sec(1), &mut wire, &mut report, Upto::Compare).unwrap();
    });
    (cluster, there.copy, back.copy)
}

struct Tee<W> {
    pipe: W,
    copy: Vec<u8>,
}

impl<W> Tee<W> {
    fn new(pipe: W) -> Tee<W> {
        Tee { pipe, copy: vec![] }
    }
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.pipe.write(buffer)?;
        self.copy.extend_from_slice(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

/// A change of recorded bytes: some replaced, some left out, some said twice, or the rest missing.
fn changed(bytes: &[u8], at: usize, kind: u8, with: u8) -> Vec<u8> {
    let at = at % bytes.len();
    let mut changed = bytes.to_vec();
    match kind % 4 {
        0 => changed[at] ^= with.max(1),
        1 => drop(changed.drain(at..(at + 1 + usize::from(with)).min(bytes.len()))),
        2 => drop(changed.splice(at..at, bytes[at..(at + 1 + usize::from(with)).min(bytes.len())].to_vec())),
        _ => changed.truncate(at),
    }
    changed
}

#[test]
fn a_secondary_gets_nothing_that_pri_does_not_offer() {
    let cluster = Cluster::new();
    cluster.cycle().unwrap();
    let pri = Server::open(&cluster.root("pri")).unwrap();
    let asked_for = |digest: Digest| {
        let (mut asked, mut heard) = (Vec::new(), Vec::new());
        let mut wire = Wire::new(io::empty(), &mut asked);
        wire.say(&Message::Want).unwrap();
        wire.say(&Message::Need { count: 1 }).unwrap();
        wire.put(digest.as_bytes()).unwrap();
        wire.flush().unwrap();
        drop(wire);
        let sent = send(&mut Wire::new(asked.as_slice(), &mut heard), &pri.sid, Role::Pri);
        (sent.unwrap_err(), heard)
    };
    let holds = |heard: &[u8], content: &[u8]| heard.windows(content.len()).any(|part| part == content);
    let (_, heard) = asked_for(Digest::of(b"one\n"));
    assert!(holds(&heard, b"one\n"), "what is offered can be had");
    // What lies beside it, of another Role.
    let secret = fs::read(cluster.root("pri").join("unbound/SID_DATA/SEC2/Env1/IdentFiles/etc/hostname")).unwrap();
    let (fault, heard) = asked_for(Digest::of(&secret));
    assert!(matches!(&fault, Fault::Protocol(why) if why.contains("was not offered")), "{fault}");
    assert!(!holds(&heard, &secret));
}

#[test]
fn changed_bytes_from_pri_never_reach_anything_but_pris_snapshots_there() {
    let (cluster, there, _) = recorded();
    let fresh = cluster.root("fresh/sec1");
    let strategy = (any::<prop::sample::Index>(), any::<u8>(), any::<u8>());
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    );
    let root = cluster.root("sec1");
    runner
        .run(&strategy, |(at, kind, with)| {
            Cluster::copy(&fresh, &root);
            // What was changed inside a text of no consequence is accepted as it would be from PRI; so only the bounds are held against it.
            let bytes = changed(&there, at.index(there.len()), kind, with);
            let _ = crate::serve::converse(&root, &mut Wire::new(bytes.as_slice(), io::sink()));
            let outside = |root: &Path| -> Vec<(String, Vec<u8>)> {
                let entries = everything_but(root, "/SID_DATA/PRI/").into_iter();
                // What its own Snapshot Create leaves, and what PRI may have installed.
                let own = [
                    "SID_DATA/SEC1/",
                    "SID_DATA/.last-SEC1/",
                    "SID_DATA/.stat-cache-SEC1",
                    "/etc/app",
                    "/var/lib/atlas",
                ];
                let own = entries.filter(|(path, _)| !own.iter().any(|own| path.contains(own)));
                own.map(|(path, content)| (path.replace(&root.display().to_string(), ""), content)).collect()
            };
            prop_assert_eq!(outside(&root), outside(&fresh));
            Ok(())
        })
        .unwrap();
}

#[test]
fn changed_bytes_from_a_secondary_never_reach_anything_but_its_own_snapshots_on_pri() {
    let (cluster, _, back) = recorded();
    let fresh = cluster.root("fresh/pri");
    let strategy = (any::<prop::sample::Index>(), any::<u8>(), any::<u8>());
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    );
    let root = cluster.root("pri");
    runner
        .run(&strategy, |(at, kind, with)| {
            Cluster::copy(&fresh, &root);
            let pri = Server::open(&root).unwrap();
            let before = fingerprint(&pri.sid.role_dir(Role::Pri).unwrap().unwrap(), EnvVersion::OLDEST).unwrap();
            let bytes = changed(&back, at.index(back.len()), kind, with);
            let mut report = partner::blank(&Partner { role: Role::Sec(1), host: "sec1".into() });
            let mut wire = Wire::new(bytes.as_slice(), io::sink());
            let _ = partner::talk(&pri, Role::Sec(1), &mut wire, &mut report, Upto::Compare);
            let after = fingerprint(&pri.sid.role_dir(Role::Pri).unwrap().unwrap(), EnvVersion::OLDEST).unwrap();
            prop_assert_eq!(before, after);
            let outside = |root: &Path| -> Vec<(String, Vec<u8>)> {
                let entries = everything_but(root, "/SID_DATA/SEC1/").into_iter();
                entries.map(|(path, content)| (path.replace(&root.display().to_string(), ""), content)).collect()
            };
            prop_assert_eq!(outside(&root), outside(&fresh));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_message_without_end_and_a_bomb_of_digests_are_refused() {
    let cluster = Cluster::new();
    let root = cluster.root("sec1");
    let frame = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let pri = Server::open(&cluster.root("pri")).unwrap();
    let hello = crate::protocol::introduce(&pri, Role::Sec(1)).unwrap();
    let hello = frame(&serde_json::to_string(&crate::protocol::Message::Hello(Box::new(hello))).unwrap());
    let digest = "0".repeat(64);
    let offer = |newest: &str| {
        frame(&format!(
            r#"{{"say":"offer","offer":{{"role":"PRI","generation":1,"newest":{newest},"fingerprint":"{digest}"}}}}"#
        ))
    };
    let snapshot =
        |name: &str, size: &str| frame(&format!(r#"{{"say":"snapshot","env_version":1,"files":[["{name}",{size}]]}}"#));
    for (what, bytes) in [
        ("a length beyond all", vec![vec![0xff; 4]]),
        ("a Snapshot larger than allowed", vec![hello.clone(), offer("1"), snapshot("Manifest", "99999999999")]),
        (
            "a path list with a path for a name",
            vec![hello.clone(), offer("1"), snapshot("../MasterConfig", "3"), b"abc".to_vec()],
        ),
        (
            "a Snapshot without a Manifest",
            vec![hello.clone(), offer("1"), snapshot("IdentFilePaths", "2"), b"/a".to_vec()],
        ),
        (
            "Snapshots of the wrong versions",
            vec![hello.clone(), offer("9999"), snapshot("Manifest", "1"), b"x".to_vec()],
        ),
        (
            "another Role's Snapshots",
            vec![
                hello,
                frame(&format!(
                    r#"{{"say":"offer","offer":{{"role":"SEC1","generation":1,"newest":1,"fingerprint":"{digest}"}}}}"#
                )),
            ],
        ),
    ] {
        let bytes = bytes.concat();
        let mut said = Vec::new();
        let served = crate::serve::converse(&root, &mut Wire::new(bytes.as_slice(), &mut said));
        assert!(served.is_err(), "{what} was accepted");
        assert!(!root.join("unbound/SID_DATA/PRI").exists(), "{what} was published");
        let config = fs::read_to_string(root.join("unbound/SID_DATA/MasterConfig")).unwrap();
        assert!(config.contains("SEC1"), "{what} reached MasterConfig");
        assert!(
            fs::read_dir(root.join("unbound/SID_DATA")).unwrap().all(|entry| !entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with(".next-PRI")),
            "{what} left something behind"
        );
    }
}

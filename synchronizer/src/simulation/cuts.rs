//! The conversation cut after every so many bytes: what is there is old or new, never mixed, and the next cycle mends everything.

use super::{Cluster, Line, write};
use crate::server::Server;
use atlas_model::{EnvVersion, Role, cycle::Outcome};
use atlas_sid::{outgoing::fingerprint, snapshot::Snapshot};
use std::fs;

/// How many cuts in each direction.
const CUTS: u64 = 60;

/// What a machine holds of a Role; proves that it is whole.
fn state(cluster: &Cluster, machine: &str, role: Role) -> String {
    let server = Server::open(&cluster.root(machine)).unwrap();
    let dir = server.sid.role_dir(role).unwrap().unwrap();
    Snapshot::open(&dir, role, EnvVersion::OLDEST).unwrap().unwrap();
    fingerprint(&dir, EnvVersion::OLDEST).unwrap().to_string()
}

fn configuration(cluster: &Cluster, machine: &str) -> String {
    let read = |name: &str| fs::read_to_string(cluster.root(machine).join("etc/app").join(name)).unwrap_or_default();
    read("a.conf") + &read("b.conf")
}

#[test]
fn a_conversation_that_is_cut_anywhere_leaves_the_old_or_the_new() {
    let mut cluster = Cluster::new();
    cluster.lines.insert("sec2".into(), Line::Down);
    assert_eq!(cluster.cycle().unwrap().partners[0].outcome, Outcome::Synced);
    for name in ["pri", "sec1"] {
        Cluster::copy(&cluster.root(name), &cluster.root("before").join(name));
    }
    let change = |cluster: &Cluster| {
        for name in ["pri", "sec1"] {
            Cluster::copy(&cluster.root("before").join(name), &cluster.root(name));
        }
        write(&cluster.root("pri").join("etc/app/a.conf"), "two\n");
        write(&cluster.root("pri").join("etc/app/b.conf"), &"more\n".repeat(1000));
    };
    let roles = [("sec1", Role::Pri), ("sec1", Role::Sec(1)), ("pri", Role::Pri), ("pri", Role::Sec(1))];
    let states = |cluster: &Cluster| roles.map(|(machine, role)| state(cluster, machine, role));

    let old = (states(&cluster), configuration(&cluster, "sec1"));
    change(&cluster);
    assert_eq!(cluster.cycle().unwrap().partners[0].outcome, Outcome::Synced);
    let new_configuration = configuration(&cluster, "sec1");
    assert_ne!(old.1, new_configuration);
    let (there, back) = cluster.traffic.lock().unwrap()["sec1"];

    let mut outcomes = std::collections::BTreeSet::new();
    for cut in 0..CUTS {
        for line in [Line::CutThere(there * cut / CUTS), Line::CutBack(back * cut / CUTS)] {
            change(&cluster);
            cluster.lines.insert("sec1".into(), line.clone());
            let report = cluster.cycle().unwrap();
            assert_ne!(report.partners[0].outcome, Outcome::Synced, "{line:?} was no cut");
            let at_sec1 = configuration(&cluster, "sec1");
            assert!(at_sec1 == old.1 || at_sec1 == new_configuration, "{line:?} left a mixture");
            // Every Role opens, whole; and PRI's here is the one before or the one that was sent.
            let after = states(&cluster);
            assert!(after[0] == old.0[0] || after[0] == after[2], "{line:?}: what PRI never had lies at SEC1");
            outcomes.insert((after[0] == old.0[0], at_sec1 == old.1, after[3] == old.0[3]));

            cluster.lines.remove("sec1");
            let report = cluster.cycle().unwrap();
            assert_eq!(
                report.partners[0].outcome,
                Outcome::Synced,
                "{line:?}: the next cycle did not mend it: {:?}",
                report.partners[0].why
            );
            assert_eq!(configuration(&cluster, "sec1"), new_configuration);
        }
    }
    assert!(outcomes.len() >= 3, "the cuts met too few of the steps: {outcomes:?}");
}

//! What happens to a cluster, as lists of commands with what is seen: `synchronizer/situations/*.txt`, and in `pairs` one trouble after another,
//! each two that there can be.
//!
//! ```text
//! # What the situation shows.
//! write pri /etc/app/a.conf two        a file with one line
//! remove sec1 /etc/app/a.conf
//! cycle                                what PRI's report says stands below, indented
//!   PRI generation 2, changed
//!   SEC1 synced, sent 1 file
//! show sec1 /etc/app/a.conf
//!   two
//! down sec2 · up sec2                  its line
//! cut there sec1 700 · cut back …      its line breaks after so many bytes, in the next cycles, until `up`
//! swap pri sec1                        the machines exchange their disks
//! keep pri old · restore pri old       a copy of the disks in it now, under a name; the copy put back
//! role sec1 SEC2 · cluster sec1 inn    what its MasterConfig says
//! host sec2 sec1                       the first name leads to the second machine
//! accept sec1 PRI                      ssSync accept --yes
//! suspend WHY · resume
//! ```
//!
//! `UPDATE_SITUATIONS=1 cargo test -p atlas-synchronizer situations -- --include-ignored` writes what is seen into the files; read the
//! difference before it is committed.

use super::{Cluster, Line, write};
use crate::{server::Server, suspend};
use atlas_cli::in_one_line;
use atlas_model::cycle::{CycleReport, Outcome, PartnerReport};
use atlas_sid::bond::Bond;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

fn is_seen(line: &str) -> bool {
    line.starts_with("  ")
}

/// Runs the commands of a file; gives the file as it should be.
fn play(text: &str) -> String {
    let mut cluster = Cluster::new();
    let mut played = String::new();
    for line in text.lines().filter(|line| !is_seen(line)) {
        played.push_str(&format!("{line}\n"));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split(' ').collect();
        for seen in run(&mut cluster, &words) {
            played.push_str(&format!("  {seen}\n"));
        }
    }
    played
}

fn run(cluster: &mut Cluster, words: &[&str]) -> Vec<String> {
    let at = |machine: &str, path: &str| cluster.root(machine).join(path.trim_start_matches('/'));
    match words {
        ["write", machine, path, content @ ..] => write(&at(machine, path), &format!("{}\n", content.join(" "))),
        ["remove", machine, path] => {
            fs::remove_file(at(machine, path)).or_else(|_| fs::remove_dir_all(at(machine, path))).unwrap();
        }
        ["show", machine, path] => {
            let shown = fs::read_to_string(at(machine, path)).unwrap_or_else(|_| "(not there)".into());
            return shown.lines().map(str::to_owned).collect();
        }
        ["down", machine] => drop(cluster.lines.insert((*machine).into(), Line::Down)),
        ["up", machine] => drop(cluster.lines.remove(*machine)),
        ["cut", "there", machine, bytes] => {
            cluster.lines.insert((*machine).into(), Line::CutThere(bytes.parse().unwrap()));
        }
        ["cut", "back", machine, bytes] => {
            cluster.lines.insert((*machine).into(), Line::CutBack(bytes.parse().unwrap()));
        }
        ["swap", one, other] => {
            let (here, there) = (at(one, "unbound"), at(other, "unbound"));
            let between = cluster.root("between");
            for (from, to) in [(&here, &between), (&there, &here), (&between, &there)] {
                fs::rename(from, to).unwrap();
            }
            [one, other].into_iter().for_each(|machine| cluster.boot(machine));
        }
        ["keep", machine, name] => Cluster::copy(&at(machine, "unbound"), &cluster.root("kept").join(name)),
        ["restore", machine, name] => {
            Cluster::copy(&cluster.root("kept").join(name), &at(machine, "unbound"));
            cluster.boot(machine);
        }
        ["role", machine, role] => {
            cluster.give_role(machine, role);
            cluster.boot(machine);
        }
        ["cluster", machine, name] => {
            let path = at(machine, "unbound/SID_DATA/MasterConfig");
            write(&path, &fs::read_to_string(&path).unwrap().replace("bakery", name));
            write(&at(machine, "opt/atlas/Cluster"), &format!("{name}\n"));
            cluster.boot(machine);
        }
        ["host", name, machine] => drop(cluster.hosts.insert((*name).into(), (*machine).into())),
        ["accept", machine, partner] => {
            let server = Server::open(&cluster.root(machine)).unwrap();
            Bond::forget(&server.sid, partner.parse().unwrap()).unwrap();
        }
        ["suspend", why @ ..] => {
            let server = Server::open(&cluster.root(&cluster.machine_of("PRI").unwrap())).unwrap();
            suspend::suspend(&server.sid, 0, &why.join(" ")).unwrap();
        }
        ["resume"] => {
            let server = Server::open(&cluster.root(&cluster.machine_of("PRI").unwrap())).unwrap();
            assert!(suspend::resume(&server.sid).unwrap());
        }
        ["cycle"] => {
            let seen = cluster
                .cycle()
                .map_or_else(|error| vec![format!("failed: {}", in_one_line(&error))], |report| seen(&report));
            let here = cluster.root("").display().to_string();
            return seen.into_iter().map(|line| line.replace(&here, "")).collect();
        }
        other => panic!("there is no command {other:?}"),
    }
    vec![]
}

fn seen(report: &CycleReport) -> Vec<String> {
    let changed = if report.changed { "changed" } else { "nothing changed" };
    let first = format!("PRI generation {}, {changed}", report.generation);
    std::iter::once(first).chain(report.partners.iter().map(partner)).collect()
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

fn partner(partner: &PartnerReport) -> String {
    let outcome = match partner.outcome {
        Outcome::Synced => "synced",
        Outcome::Differs => "differs",
        Outcome::Refused => "refused",
        Outcome::Unreachable => "unreachable",
        Outcome::Failed => "failed",
    };
    let mut text = format!("{} {outcome}", partner.role);
    if let Some(sent) = partner.sent {
        text.push_str(&if sent.changed { format!(", sent {}", files(sent.files)) } else { ", nothing sent".into() });
    }
    if partner.secondary.as_ref().is_some_and(|done| done.changed_locally) {
        text.push_str(", had been changed locally");
    }
    partner.why.iter().for_each(|why| text.push_str(&format!(": {why}")));
    text
}

/// Plays all files of a folder, of which there are so many at least.
fn play_all(folder: &str, at_least: usize) {
    let update = std::env::var_os("UPDATE_SITUATIONS").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    assert!(files.len() >= at_least, "situations are missing");
    let (files, other) = (Mutex::new(files), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some(path) = files.lock().unwrap().pop() else { return };
            let kept = fs::read_to_string(&path).unwrap();
            let played = play(&kept);
            if update {
                fs::write(&path, &played).unwrap();
            } else if played != kept {
                other.lock().unwrap().push(format!("{}:\n{played}", path.display()));
            }
        }
    };
    // Much of it is waiting for git.
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
    let other = other.into_inner().unwrap();
    assert!(other.is_empty(), "seen otherwise than kept:\n{}", other.join("\n"));
}

#[test]
fn situations_are_seen_as_they_are_kept() {
    play_all("situations", 27);
}

#[test]
#[ignore = "plays hundreds, which takes up to a minute"]
fn pairs_of_situations_are_seen_as_they_are_kept() {
    play_all("situations/pairs", 200);
}

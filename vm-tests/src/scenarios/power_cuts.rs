//! Both servers of a cluster lose their power in the middle of their cycles, at hundreds of moments, and every disk loses what was still in its cache.
//!
//! A (PRI) and B (SEC1), on two releases of Debian, run some cycles; what they write to their disks is recorded. The power may have gone
//! at any moment at which a record had grown:
//!
//! ```text
//!            cycle 1        cycle 2        …          disks of A: a-root, PRI-0, PRI-1; of B: b-root, SEC1-0, SEC1-1
//!   A ───────┬──┬─┬─────────┬───┬────────
//!   B ───────┴──┴─┴─────────┴───┴────────
//!            ⚡ ⚡ ⚡         ⚡  ⚡            CUTS moments: on each member, every Snapshot is whole, and the old or the new one
//!                 ⚡            ⚡            BOOTS of them: both boot from these disks, and a cycle brings them in step;
//!                                             or A's members are moved to B, and it is PRI
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::cast::Part;
use super::cycles::{assert_outcomes, assert_snapshots, cycle};
use super::cycles_in_trouble::{assert_serves, change};
use super::failover::{move_set, take_out};
use super::mirror::FileSystem;
use super::trio::{A, B, Trio, up};
use crate::disk::output_of;
use crate::{Context, Disk, Replay, Server};

/// How many cycles are recorded, each with something to send.
const CYCLES: usize = 8;
/// At how many moments the power is cut.
const CUTS: usize = 320;
/// From how many of these the servers boot.
const BOOTS: usize = 8;
/// Decides which writes are lost.
const SEED: u64 = 20;

const IN_STEP: [(&str, &str); 1] = [("SEC1", "synced")];
/// A line for each Manifest.
const MANIFESTS: &str = "sha256sum [PS]*/Env*/Manifest";

/// The disks of which there is a record: A's two members, B's, and then the root disks.
fn recorded() -> Vec<(Part, String)> {
    let of = |part: Part, serials: Vec<String>| serials.into_iter().map(move |serial| (part, serial));
    let members = [A, B].into_iter().flat_map(|part| of(part, part.members().to_vec()));
    members.chain([A, B].into_iter().flat_map(|part| of(part, vec![part.root_serial()]))).collect()
}
/// So many of them are members.
const MEMBERS: usize = 4;

/// When the power may have gone.
#[derive(Debug)]
struct Moment {
    /// How long each record was.
    lengths: Vec<u64>,
    /// Cycle `n` runs: `2 * n + 1`; it has ended: `2 * n + 2`.
    stage: usize,
}

/// The stage in which PRI is given something to send: what it has then is not durable yet.
const BETWEEN: usize = 0;

impl Moment {
    /// The cycles after which a server's Snapshots may be as they are now: while one runs, it or the one before it; when it has ended, only it.
    fn cycles(&self) -> std::ops::RangeInclusive<usize> {
        self.stage / 2 - 1..=(self.stage - 1) / 2
    }
}

/// The Manifests of A and of B after each cycle, as [`MANIFESTS`] tells of them.
type Known = Vec<[String; 2]>;

/// See the module's text.
pub(crate) fn act(ctx: &Context) -> Result<()> {
    let trio = Trio::get()?;
    let lan = ctx.lan("office")?;
    let [mut a, mut b, _] = trio.servers(ctx, &lan)?;
    let mut logs = Vec::new();
    let mut before = Vec::new();
    for (part, serial) in recorded() {
        let server = if part.place == A.place { &mut a } else { &mut b };
        let log = ctx.scratch().join(format!("{serial}.log"));
        let disk = server.disk(&serial)?;
        before.push(disk.copy(&ctx.scratch().join(format!("{serial}.before")), &serial)?);
        disk.record(&log)?;
        logs.push(log);
    }
    let (moments, known) = watched(&mut a, &mut b, &logs)?;
    ctx.note(&format!("{} cycles, {} moments", known.len() - 1, moments.len()))?;
    for (server, part) in [(&mut a, A), (&mut b, B)] {
        take_out(server, part)?;
        server.remove(&part.root_serial())?;
    }
    let replays = logs.iter().zip(before).map(|(log, disk)| Replay::begin(log, disk)).collect::<Result<_>>()?;
    let mut story = Story { ctx, a, b, replays, known, random: Random(SEED), tally: Tally::default() };
    for (number, moment) in chosen(&moments).enumerate() {
        story.cut(moment, number).with_context(|| format!("cut {number}, {moment:?}"))?;
    }
    let Tally { cuts, lost, members, boots, failovers } = &story.tally;
    let line = format!(
        "{cuts} cuts, in {lost} of them a disk lost something; members {members:?}; {boots} boots and a cycle, {failovers} failovers"
    );
    println!("      {line}");
    ctx.note(&line)?;
    // Otherwise these were no cuts in the middle of anything.
    ensure!(*cuts == CUTS && *lost * 4 > CUTS && boots + failovers == BOOTS, "too little was tried: {line}");
    ensure!(["old", "new"].iter().all(|state| members.contains_key(state)), "only one side of a cycle: {line}");
    Ok(())
}

/// Boots both and runs the cycles, and says when the power could have gone meanwhile.
fn watched(a: &mut Server, b: &mut Server, logs: &[PathBuf]) -> Result<(Vec<Moment>, Known)> {
    up([a, b])?;
    let (pri, sec) = (&*a, &*b);
    let stage = AtomicUsize::new(BETWEEN);
    let run = |number: usize| -> Result<[String; 2]> {
        stage.store(BETWEEN, Ordering::SeqCst);
        change(pri, &word(number))?;
        pri.sh(&format!(
            "dd if=/dev/urandom of=/etc/bakery/{number} bs=1k count=200; rm -f /etc/bakery/{}; sync",
            number.wrapping_sub(2)
        ))?;
        stage.store(2 * number + 1, Ordering::SeqCst);
        let report = cycle(pri)?;
        stage.store(2 * number + 2, Ordering::SeqCst);
        assert_outcomes(&report, &IN_STEP)?;
        assert_serves(sec, &word(number))?;
        let manifests = |server: &Server| server.sh(&format!("cd /unbound/SID_DATA && {MANIFESTS}"));
        Ok([manifests(pri)?, manifests(sec)?])
    };
    pri.sh("mkdir -p /etc/bakery")?;
    let mut known = vec![run(0)?];
    let is_over = AtomicBool::new(false);
    let moments = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(logs, &stage, &is_over));
        let ran = (1..=CYCLES).try_for_each(|number| run(number).map(|manifests| known.push(manifests)));
        is_over.store(true, Ordering::SeqCst);
        let moments = watching.join().unwrap_or_else(|_| bail!("the watch panicked"));
        ran.and(moments)
    })?;
    a.power_cut()?;
    b.power_cut()?;
    Ok((moments, known))
}

/// What PRI's site says in each cycle.
fn word(number: usize) -> String {
    format!("word-{number}")
}

/// Looks how long the records are, until it is over.
fn watch(logs: &[PathBuf], stage: &AtomicUsize, is_over: &AtomicBool) -> Result<Vec<Moment>> {
    let mut moments: Vec<Moment> = Vec::new();
    while !is_over.load(Ordering::SeqCst) {
        let at = stage.load(Ordering::SeqCst);
        let lengths = logs.iter().map(|log| Ok(std::fs::metadata(log)?.len())).collect::<Result<Vec<_>>>()?;
        let is_new = moments.last().is_none_or(|last| last.lengths[..MEMBERS] != lengths[..MEMBERS]);
        if is_new && at != BETWEEN && stage.load(Ordering::SeqCst) == at {
            moments.push(Moment { lengths, stage: at });
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(moments)
}

/// Some of the moments, spread over all of them.
fn chosen(moments: &[Moment]) -> impl Iterator<Item = &Moment> {
    let cuts = CUTS.min(moments.len());
    (0..cuts).map(move |number| &moments[number * moments.len() / cuts])
}

/// How the cuts went.
#[derive(Debug, Default)]
struct Tally {
    cuts: usize,
    lost: usize,
    /// How many members had all Roles as before, all as after, or one so and the other so.
    members: BTreeMap<&'static str, usize>,
    boots: usize,
    failovers: usize,
}

struct Story<'c> {
    ctx: &'c Context,
    /// Without any disk in it.
    a: Server,
    b: Server,
    replays: Vec<Replay>,
    known: Known,
    random: Random,
    tally: Tally,
}

impl Story<'_> {
    /// The power goes at that moment.
    fn cut(&mut self, moment: &Moment, number: usize) -> Result<()> {
        for (replay, length) in self.replays.iter_mut().zip(&moment.lengths) {
            replay.advance(*length)?;
        }
        let seed = self.random.next();
        let folder = tempfile::tempdir_in(self.ctx.scratch())?;
        let mut has_lost = false;
        let mut disks = |which: std::ops::Range<usize>, name: &str| -> Result<Vec<Disk>> {
            which
                .map(|disk| {
                    let mut random = Random(seed.wrapping_add(disk as u64));
                    let path = folder.path().join(format!("{disk}-{name}"));
                    let (disk, cut) = self.replays[disk].cut(&path, || random.next().is_multiple_of(2))?;
                    has_lost |= cut.lost > 0;
                    Ok(disk)
                })
                .collect()
        };
        let members = disks(0..MEMBERS, "looked at")?;
        let boots =
            (number % (CUTS / BOOTS) == CUTS / BOOTS / 2).then(|| disks(0..MEMBERS + 2, "booted")).transpose()?;
        self.tally.cuts += 1;
        self.tally.lost += usize::from(has_lost);
        for state in self.states(members, moment)? {
            *self.tally.members.entry(state).or_default() += 1;
        }
        let Some(disks) = boots else { return Ok(()) };
        let is_failover = (number / (CUTS / BOOTS)) % 2 == 1;
        *(if is_failover { &mut self.tally.failovers } else { &mut self.tally.boots }) += 1;
        let begun = Instant::now();
        if is_failover { self.fail_over(disks, moment) } else { self.go_on(disks, moment) }?;
        self.ctx.note(&format!("cut {number}: failover {is_failover}, {:.0} s", begun.elapsed().as_secs_f64()))
    }

    /// Looks at each member, all at once.
    fn states(&self, members: Vec<Disk>, moment: &Moment) -> Result<Vec<&'static str>> {
        std::thread::scope(|scope| {
            let looking: Vec<_> = members
                .into_iter()
                .enumerate()
                .map(|(at, member)| {
                    scope.spawn(move || self.state(&member, at / 2, moment).context(member.serial().to_owned()))
                })
                .collect();
            looking.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a look panicked"))).collect()
        })
    }

    /// What is on a member: everything is whole, and each Role's Snapshots are those of before the cycle or those of after it.
    fn state(&self, member: &Disk, server: usize, moment: &Moment) -> Result<&'static str> {
        self.look(member, server, moment).or_else(|error| {
            // For a person who was not there.
            member.copy(&self.ctx.logs().join(format!("{}.img", member.serial())), member.serial())?;
            Err(error)
        })
    }

    fn look(&self, member: &Disk, server: usize, moment: &Moment) -> Result<&'static str> {
        let files = FileSystem::copied(member)?;
        files.mend()?;
        let tree = tempfile::tempdir_in(self.ctx.scratch())?;
        files.dump("/SID_DATA", tree.path())?;
        let sid = tree.path().join("SID_DATA");
        let manifests = manifests_below(&sid)?;
        for line in manifests.lines() {
            let manifest = line.split_whitespace().nth(1).context("a line without a name")?;
            assert_whole(&sid.join(manifest)).with_context(|| manifest.to_owned())?;
        }
        let (old, new) = (&self.known[*moment.cycles().start()][server], &self.known[*moment.cycles().end()][server]);
        for role in ["PRI", "SEC1"] {
            let of = |text: &str| {
                text.lines().filter(|line| line.contains(&format!(" {role}/"))).map(str::to_owned).collect()
            };
            let [is, old, new]: [Vec<String>; 3] = [&manifests, old, new].map(|text| of(text));
            ensure!(
                is == old || is == new,
                "{role} is neither that of before nor that of after: {is:?}\n{old:?}\n{new:?}"
            );
        }
        Ok(match (manifests == *old, manifests == *new) {
            (true, true) => "same",
            (true, false) => "old",
            (false, true) => "new",
            (false, false) => "one new",
        })
    }

    /// Both boot from these disks, and the next cycle brings them in step.
    fn go_on(&mut self, disks: Vec<Disk>, moment: &Moment) -> Result<()> {
        self.insert(disks)?;
        let Story { a, b, .. } = self;
        up([a, b])?;
        assert_role(a, "PRI")?;
        assert_role(b, "SEC1")?;
        assert_outcomes(&cycle(a)?, &IN_STEP)?;
        let said = a.sh("curl -s http://localhost:8080/")?;
        ensure!(said == word(*moment.cycles().end()), "PRI serves {said:?}");
        assert_serves(b, &said)?;
        assert_snapshots(a, "after a cut", &["PRI 2: Env1 Env2", "SEC1 1: Env1"])?;
        assert_snapshots(b, "after a cut", &["PRI 2: Env1 Env2", "SEC1 1: Env1"])?;
        for server in [&*a, &*b] {
            ensure!(
                server.sh("ls -A /unbound/SID_DATA")?.lines().all(|name| !name.contains("damaged")),
                "something is damaged"
            );
            server.assert_healthy()?;
        }
        a.power_cut()?;
        b.power_cut()?;
        self.empty()
    }

    /// A's members are moved to B, which is PRI then.
    fn fail_over(&mut self, disks: Vec<Disk>, moment: &Moment) -> Result<()> {
        self.insert(disks)?;
        let Story { a, b, .. } = self;
        take_out(b, B)?;
        move_set(a, A, b)?;
        up([b])?;
        assert_role(b, "PRI")?;
        ensure!(b.sh("hostname")? == A.hostname, "it has another name");
        let said = b.sh("curl -s http://localhost:8080/")?;
        ensure!(moment.cycles().any(|number| word(number) == said), "it serves {said:?}");
        b.assert_healthy()?;
        b.power_cut()?;
        move_set(b, A, a)?;
        self.empty()
    }

    fn insert(&mut self, disks: Vec<Disk>) -> Result<()> {
        // The root disk is the first.
        let mut disks: BTreeMap<String, Disk> =
            disks.into_iter().map(|disk| (disk.serial().to_owned(), disk)).collect();
        for (server, part) in [(&mut self.a, A), (&mut self.b, B)] {
            for serial in [vec![part.root_serial()], part.members().to_vec()].concat() {
                server.insert(disks.remove(&serial).context("a disk without a record")?)?;
            }
        }
        Ok(())
    }

    fn empty(&mut self) -> Result<()> {
        for (server, part) in [(&mut self.a, A), (&mut self.b, B)] {
            for serial in [vec![part.root_serial()], part.members().to_vec()].concat() {
                // One that was taken out before is not there.
                server.remove(&serial).ok();
            }
        }
        Ok(())
    }
}

/// Every object that the Manifest lists is in its Snapshot, each file with the size and digest that stand there. Nothing of ATLAS reads it: this is
/// what its makers promise, in the words of others.
fn assert_whole(manifest: &Path) -> Result<()> {
    let snapshot = manifest.parent().context("a Manifest nowhere")?;
    let text = std::fs::read_to_string(manifest)?;
    let lines = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let (first, entries) = lines.split_first().context("it is empty")?;
    ensure!(first["entries"] == entries.len(), "it lists {} entries, and should {}", entries.len(), first["entries"]);
    let mut digests = String::new();
    for entry in entries {
        let set = match entry["set"].as_str() {
            Some("ident") => "IdentFiles",
            Some("sync") => "SyncFiles",
            Some("residue") => "Residue",
            _ => bail!("{entry} is of no set"),
        };
        let path = entry["path"].as_str().context("an entry without a path")?;
        let path = snapshot.join(format!("{set}{path}"));
        let there = std::fs::symlink_metadata(&path);
        let is_right = match (entry["type"].as_str(), &there) {
            (Some("absent"), Err(_)) => true,
            (Some("dir"), Ok(there)) => there.is_dir(),
            (Some("link"), Ok(_)) => std::fs::read_link(&path)?.to_str() == entry["target"].as_str(),
            (Some("file"), Ok(there)) => {
                digests += &format!("{}  {}\n", entry["sha256"].as_str().context("no digest")?, path.display());
                there.is_file() && entry["size"] == there.len()
            }
            _ => false,
        };
        ensure!(is_right, "{entry}: {there:?}");
    }
    let list = snapshot.join("digests");
    std::fs::write(&list, digests)?;
    output_of("sha256sum", &["--check".as_ref(), "--quiet".as_ref(), "--strict".as_ref(), list.as_ref()]).map(drop)
}

fn manifests_below(sid: &Path) -> Result<String> {
    let command = format!("cd '{}' && {MANIFESTS}", sid.display());
    Ok(output_of("sh", &["-c".as_ref(), command.as_ref()])?.trim_end().to_owned())
}

fn assert_role(server: &Server, role: &str) -> Result<()> {
    let boot: Value = serde_json::from_slice(&server.read_file("/run/atlas/boot.json")?)?;
    ensure!(boot["outcome"] == "identity-installed" && boot["role"] == role, "boot.json: {boot:#}");
    Ok(())
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

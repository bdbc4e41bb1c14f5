//! `atlas-boot check` gives the answer that a boot would give, for every arrangement of disks, Bound and Unbound content: drawn at random, on
//! real trees. Starting the set is one function for both, and in the machines.

use crate::{
    PROGRAM, Places,
    boot::Clock,
    check,
    decide::{self, Disks},
    identity::How,
    role::{self, Start},
    watch::Voice,
};
use atlas_host::{arrivals::Arrivals, mount, testing::own_mounts, tree::Dir};
use atlas_model::{
    Acceptance, BootReport, EnvVersion, Outcome, Refusal, RefusalCode, Role, UNBOUND_LABEL, ext4,
    md::{self, MdUuid, Slot},
    survey::{Member, Survey},
    worn::{RoleIdentity, Worn},
};
use atlas_sid::{SidData, create, worn};
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// The same disks at every look; time is counted, not waited for.
pub(crate) struct Bench {
    survey: Survey,
    now: Duration,
}

impl Bench {
    pub(crate) fn of(survey: Survey) -> Bench {
        Bench { survey, now: Duration::ZERO }
    }
}

impl Disks for Bench {
    fn arrivals(&mut self) -> Arrivals {
        let present = self.survey.members.iter().map(|member| member.device.clone()).collect();
        Arrivals { present, pending: Default::default() }
    }
    fn survey(&mut self) -> Result<Survey, Refusal> {
        self.now += Duration::from_millis(2);
        Ok(self.survey.clone())
    }
    fn clear(&mut self, _: &Survey) -> Vec<String> {
        vec![]
    }
    fn now(&self) -> Duration {
        self.now
    }
    fn pause(&mut self, time: Duration) {
        self.now += time;
    }
    fn say(&mut self, _: &str) {}
}

fn member(device: &str, number: u32, change: impl FnOnce(&mut md::MdSuperblock)) -> Member {
    let mut md = md::testing::half(number);
    change(&mut md);
    let ext4 = Some(ext4::testing::superblock(UNBOUND_LABEL, 5));
    Member { device: device.into(), serial: None, md, ext4 }
}

/// Arrangements of disks.
fn disks(which: usize) -> Survey {
    let half = |device: &str, number| member(device, number, |_| ());
    let other = |device: &str, number| {
        let mut member = member(device, number, |md| {
            (md.set_uuid, md.device_uuid) = (MdUuid([8; 16]), MdUuid([80 + number as u8; 16]));
        });
        member.ext4.as_mut().unwrap().uuid = [99; 16];
        member
    };
    let survivor = |device: &str, number: u32| {
        let (own, roles) = match number {
            0 => (60, vec![Slot::Active(0), Slot::Other]),
            _ => (70, vec![Slot::Other, Slot::Active(1)]),
        };
        member(device, number, |md| (md.events, md.roles) = (own, roles))
    };
    let members = match which {
        0 => vec![],
        1 => vec![half("/dev/vdb", 0)],
        2 => vec![survivor("/dev/vdb", 0)],
        3 => vec![survivor("/dev/vdb", 0), half("/dev/vdc", 1)],
        4 => vec![survivor("/dev/vdb", 0), survivor("/dev/vdc", 1)],
        5 => vec![half("/dev/vdb", 0), half("/dev/vdc", 1), other("/dev/vdd", 0)],
        6 => vec![half("/dev/vdb", 0), half("/dev/vdc", 0)],
        // More often than anything else: the whole set, so that what comes after the disks is met.
        _ => vec![half("/dev/vdb", 0), half("/dev/vdc", 1)],
    };
    Survey { members, ..Survey::default() }
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// What of a server is drawn.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    disks: usize,
    bound: usize,
    accepted: usize,
    worn: usize,
    config: usize,
    snapshot: usize,
    tree: usize,
    room: usize,
}

struct World {
    places: Places,
    bench: Survey,
}

impl World {
    fn draw(base: &Path, drawn: Drawn) -> World {
        let root = base.join("root");
        write(&root.join("etc/hostname"), "pri\n");
        write(&root.join("etc/network/interfaces"), "iface eth0 inet static\n");
        for dir in ["opt/atlas/work", "dev"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let bench = disks(drawn.disks);
        unbound(&root, drawn);
        // What a Create leaves is not what is drawn.
        fs::remove_dir_all(root.join("opt/atlas")).unwrap();
        fs::create_dir_all(root.join("opt/atlas/work")).unwrap();
        tree(&root, drawn.tree);
        bound(&root, drawn);
        accepted(&root, drawn, &bench);
        worn_record(&root, drawn.worn);
        if drawn.room == 0 {
            fill(&base.join("ballast"));
        }
        World { places: Places { run: root.join("run"), root }, bench }
    }

    fn disks(&self, start: &Start) -> Bench {
        let survey = Survey { bound_record: start.record.clone(), ..self.bench.clone() };
        Bench::of(survey)
    }
}

fn bound(root: &Path, drawn: Drawn) {
    let (env, cluster) = match drawn.bound {
        0 => (None, None),
        1 => (Some("1\n"), None),
        2 => (Some("0\n"), Some("bakery\n")),
        3 => (Some("1\n"), Some("brewery\n")),
        4 | 5 => (Some("2\n"), Some("bakery\n")),
        _ => (Some("1\n"), Some("bakery\n")),
    };
    for (name, content) in [("EnvID", env), ("Cluster", cluster)] {
        content.into_iter().for_each(|content| write(&root.join("opt/atlas").join(name), content));
    }
    if drawn.tree.is_multiple_of(2) {
        write(&root.join("etc/atlas/initialised"), "");
    }
}

fn accepted(root: &Path, drawn: Drawn, survey: &Survey) {
    let of_now = survey.choose(None).err().and_then(|refusal| Some((refusal.code, refusal.fingerprint?)));
    let (code, fingerprint) = match (drawn.accepted, of_now) {
        (0, _) => return,
        (1, Some(of_now)) => of_now,
        _ => (RefusalCode::MissingMember, atlas_model::Digest::of(b"other disks")),
    };
    let device = (code == RefusalCode::WrittenApart).then(|| "/dev/vdc".to_owned());
    let (by, reason) = ("root".into(), "test".into());
    let acceptance = Acceptance { format: 1, code, fingerprint, device, by, reason, at: 1, found: vec![] };
    write(
        &root.join("opt/atlas/accepted.json"),
        &serde_json::json!({ "boot_id": "before", "accepted": [acceptance] }).to_string(),
    );
}

fn worn_record(root: &Path, which: usize) {
    let dir = Dir::open_root(root).unwrap();
    let of = |role: &str, set: Option<&str>| {
        let (role, cluster) = (role.parse().unwrap(), "bakery".parse().unwrap());
        RoleIdentity { role, cluster, set: set.map(Into::into), paths: vec![] }
    };
    let worn = match which {
        0 => return,
        1 => Worn::OWN,
        2 => Worn::of(of("SEC1", None)),
        3 => Worn::of(of("PRI", Some("another"))),
        4 => Worn::of(of("PRI", None)).becoming(of("SEC1", None)),
        5 => return write(&root.join("opt/atlas/Identity"), "format = 2\n"),
        6 => return write(&root.join("opt/atlas/Identity"), "nothing"),
        _ => Worn::of(of("PRI", None)),
    };
    worn::write(&dir, &worn).unwrap();
}

/// The content of the Unbound file system.
fn unbound(root: &Path, drawn: Drawn) {
    let sid_data = root.join("unbound/SID_DATA");
    fs::create_dir_all(root.join("unbound")).unwrap();
    if drawn.config == 0 {
        return;
    }
    let snapshot = if drawn.snapshot == 7 { 1 } else { drawn.snapshot };
    fs::create_dir_all(&sid_data).unwrap();
    let lists = sid_data.join("PRI/Env1/IdentFilePaths");
    if snapshot != 0 {
        write(&lists, "/etc/hostname\n/etc/network/interfaces\n/etc/gone\n");
    }
    if snapshot > 1 {
        let (tree, sid) =
            (Dir::open_root(root).unwrap(), SidData::open(&Dir::open_root(root.join("unbound")).unwrap()));
        create::create(&tree, &sid.unwrap(), Role::Pri, EnvVersion::OLDEST).unwrap();
    }
    match snapshot {
        2 => fs::remove_file(sid_data.join("PRI/Env1/Manifest")).unwrap(),
        3 => fs::write(sid_data.join("PRI/Env1/IdentFiles/etc/hostname"), "xri\n").unwrap(),
        4 => fs::write(sid_data.join("PRI/SnapshotEnvVersion"), "3\n").unwrap(),
        5 => fs::remove_file(sid_data.join("PRI/SnapshotEnvVersion")).unwrap(),
        6 => fs::write(&lists, "/etc/hostname\n/../etc/shadow\n").unwrap(),
        _ => {}
    }
    let config =
        |cluster: &str| format!("format=1\ncluster='{cluster}'\nrole='PRI'\n[[partner]]\nrole='SEC1'\nhost='a'\n");
    match drawn.config {
        1 => {}
        2 => write(&sid_data.join("MasterConfig"), "format=1\nclus"),
        3 => write(&sid_data.join("MasterConfig"), &config("brewery")),
        _ => write(&sid_data.join("MasterConfig"), &config("bakery")),
    }
}

/// Leaves no room in the file system.
fn fill(ballast: &Path) {
    let mut file = fs::File::create(ballast).unwrap();
    let full = std::iter::repeat_with(|| file.write_all(&[0; 4096])).find_map(Result::err);
    assert_eq!(full.unwrap().kind(), std::io::ErrorKind::StorageFull);
}

/// The root file system since the Snapshot was made.
fn tree(root: &Path, which: usize) {
    match which {
        0 => write(&root.join("etc/hostname"), "another\n"),
        1 => write(&root.join("etc/gone"), "not any more"),
        2 => write(&root.join("etc/fstab"), "/dev/x /etc/network ext4 noauto 0 0\n"),
        3 => {
            fs::remove_dir_all(root.join("etc/network")).unwrap();
            std::os::unix::fs::symlink("/srv", root.join("etc/network")).unwrap();
        }
        _ => {}
    }
}

/// Every file of a tree with its content, but for what lies below the places where a boot stages.
fn picture(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => waiting.push(entry.path()),
                kind if kind.is_file() => drop(found.insert(entry.path(), fs::read(entry.path()).unwrap())),
                _ => drop(found.insert(entry.path(), vec![])),
            }
        }
    }
    found
}

type Answer = Result<(Outcome, Vec<String>, Option<EnvVersion>), RefusalCode>;

/// What a boot decides, up to where it would begin to write to the Unbound disks.
fn of_boot(world: &World) -> (Answer, BootReport) {
    let (places, mut report, mut clock) = (&world.places, BootReport::begin(PROGRAM), Clock::new(Voice::default()));
    let mut decide = || -> Result<_, Refusal> {
        let root = Dir::open_root(&places.root).unwrap();
        let Some(start) = Start::read(&root, &mut report)? else { return Ok((Outcome::NotInitialised, vec![], None)) };
        let found = decide::find(&mut world.disks(&start), start.of_disks(), Duration::from_secs(10))?;
        role::remember(&found, &start, &mut report);
        let prepared = role::prepare(places, &root, &start, &found.choice.ext4, How::Stage, &mut report, &mut clock);
        let (_, identity) = prepared?;
        let outcome = if identity.from_scratch { Outcome::FromScratch } else { Outcome::IdentityInstalled };
        let answer = (outcome, identity.changes.clone(), identity.converted.as_ref().map(|converted| converted.from));
        identity.discard();
        Ok(answer)
    };
    (decide().map_err(|refusal| refusal.code), report)
}

fn of_check(world: &World) -> (Answer, BootReport) {
    let (places, mut report, mut clock) = (&world.places, BootReport::begin(PROGRAM), Clock::new(Voice::default()));
    let mut look = || -> Result<_, Refusal> {
        let root = Dir::open_root(&places.root).unwrap();
        let Some(start) = Start::read(&root, &mut report)? else { return Ok(Outcome::NotInitialised) };
        let found = check::find(&mut world.disks(&start), &start, &mut report)?;
        check::look(places, &root, &start, &found, &mut report, &mut clock)
    };
    let answer = look().map_err(|refusal| refusal.code);
    (answer.map(|outcome| (outcome, report.installed.clone(), report.converted_from)), report)
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (0..16usize, 0..12usize, 0..4usize, 0..9usize, 0..12usize, 0..12usize, 0..8usize, 0..6usize).prop_map(
        |(disks, bound, accepted, worn, config, snapshot, tree, room)| Drawn {
            disks,
            bound,
            accepted,
            worn,
            config,
            snapshot,
            tree,
            room,
        },
    )
}

#[test]
fn a_question_is_answered_as_a_boot_would_and_writes_nothing() {
    let name = "same_answer::a_question_is_answered_as_a_boot_would_and_writes_nothing";
    if !own_mounts(name) {
        return;
    }
    let memory = tempfile::tempdir().unwrap();
    let memory = memory.path();
    mount::memory(memory, 8 << 20).unwrap();
    let seen: RefCell<BTreeMap<String, usize>> = RefCell::default();
    // The same ones in every run: whether each answer is drawn must not be chance.
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let ran = runner.run(&drawn(), |drawn| {
        // In memory: a disk would be waited for at every flush.
        let tmp = tempfile::tempdir_in(memory).unwrap();
        let world = World::draw(tmp.path(), drawn);
        let before = picture(&world.places.root);
        let (checked, of_check) = of_check(&world);
        prop_assert_eq!(&picture(&world.places.root), &before, "the question wrote something");
        let (booted, of_boot) = of_boot(&world);
        prop_assert_eq!(&checked, &booted);
        prop_assert_eq!((of_check.cluster, of_check.accepted), (of_boot.cluster, of_boot.accepted));
        prop_assert_eq!(of_check.warnings, of_boot.warnings);
        let answer = match booted {
            Ok((outcome, ..)) => format!("{outcome:?}"),
            Err(code) => code.to_string(),
        };
        *seen.borrow_mut().entry(answer).or_default() += 1;
        Ok(())
    });
    let seen = seen.into_inner();
    println!("{seen:?}");
    ran.unwrap();
    for wanted in [
        "IdentityInstalled",
        "FromScratch",
        "NotInitialised",
        "no-unbound-set",
        "root-not-writable",
        "missing-member",
        "written-apart",
        "mixed-sets",
        "duplicate-member",
        "master-config-missing",
        "master-config-invalid",
        "foreign-cluster",
        "foreign-identity",
        "bound-data-invalid",
        "snapshot-missing",
        "snapshot-damaged",
        "bad-path",
        "conversion-failed",
    ] {
        assert!(seen.contains_key(wanted), "{wanted} was never drawn: {seen:?}");
    }
}

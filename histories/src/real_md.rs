//! Holds `md.rs` against a kernel: the same steps are done by md in a User Mode Linux, and in the model; after each, every superblock must
//! say the same of what decides.
//!
//! Event counts are compared by what follows from them: the same, one behind, or further behind than that. How far is md's affair.

use crate::{
    md::{Change, Member, disks_of},
    world::{DISKS, Data, Mask, Role, World},
};
use atlas_model::md::{MdSuperblock, SUPERBLOCK_LEN, Slot};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

const INIT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run
mount -t devtmpfs dev /dev 2>/dev/null; mount -t tmpfs mnt /mnt
modprobe --dirname @work@ raid1
MD=/dev/md127
A=/dev/ubda B=/dev/ubdb C=/dev/ubdc
# In use for as long as nobody says otherwise, so that there is time to look.
busy() { echo 60 > /sys/block/md127/md/safe_mode_delay; date > /mnt/f; sync; }
# At rest as soon as nothing is written.
rest() { echo 0.01 > /sys/block/md127/md/safe_mode_delay; date > /mnt/f; sync; until grep -q -e clean -e read-auto /sys/block/md127/md/array_state; do sleep 0.1; done; }
slow() { echo 10 > /proc/sys/dev/raid/speed_limit_min; echo 10 > /proc/sys/dev/raid/speed_limit_max; }
fast() { echo 200000 > /proc/sys/dev/raid/speed_limit_min; echo 200000 > /proc/sys/dev/raid/speed_limit_max; }
idle() { until [ "$(cat /sys/block/md127/md/sync_action)" = idle ]; do sleep 0.1; done; }
start() { mdadm --assemble $MD --config=none --readonly --run "$@" || true; }
open() { mdadm --readwrite $MD; }
stop() { mdadm --stop $MD; }
lose() { mdadm --fail $MD $1; until mdadm --remove $MD $1; do sleep 0.1; done; }
read_all() { for disk in a b c; do dd if=/dev/ubd$disk iflag=direct bs=4096 skip=1 count=1 of=@work@/$1.$disk 2>/dev/null; done; }
same() { for disk in a b c; do cmp -s @work@/$1.$disk @work@/again.$disk || return 1; done; }
# Until two looks show the same: the file system may have something left to write.
look() {
    until read_all $1; sleep 0.3; read_all again; same $1; do :; done
    ls /sys/block/md127/slaves > @work@/$1.running 2>/dev/null
    sleep 1.1
}
exec 2>&1
. @work@/job.sh
echo "== end"
echo o > /proc/sysrq-trigger
sleep 9
"#;

/// The steps for both.
struct Bench {
    world: World,
    /// The members that run, and whether their count may go back.
    running: Mask,
    can_decrease: bool,
    job: String,
    expected: Vec<(String, [Option<Member>; DISKS], Mask)>,
}

impl Bench {
    fn step(&mut self, name: &str, shell: &str, model: impl FnOnce(&mut Bench)) {
        model(self);
        let number = self.expected.len();
        self.job.push_str(&format!("echo '== {name}'\n{shell}\nlook {number}\n"));
        let members = std::array::from_fn(|disk| self.world.disks[disk].member().copied());
        self.expected.push((name.into(), members, self.running));
    }

    fn update(&mut self, change: Change) {
        self.world.md_update(self.running, &mut self.can_decrease, change);
    }

    fn start(&mut self, disks: Mask) {
        (self.running, self.can_decrease) = (self.world.md_assemble(disks), false);
    }

    fn open(&mut self) {
        self.world.md_open(self.running, &mut self.can_decrease);
    }

    fn written(&mut self) {
        self.update(Change::Busy);
        self.update(Change::Rest);
    }

    fn lose(&mut self, disk: usize) {
        self.running &= !(1 << disk);
        self.world.md_lost(self.running, &mut self.can_decrease);
        self.update(Change::Rest);
    }

    fn add(&mut self, disk: usize) {
        self.world.md_add(self.running, disk, &mut self.can_decrease);
        self.running |= 1 << disk;
    }

    fn filled(&mut self) {
        self.world.md_filled(self.running, &mut self.can_decrease);
        self.update(Change::Rest);
    }

    fn stop(&mut self) {
        self.running = 0;
    }
}

const A: Mask = 1;
const B: Mask = 2;
const C: Mask = 4;

fn steps() -> Bench {
    let (world, expected) = (World::empty(), vec![]);
    let mut bench = Bench { world, running: 0, can_decrease: false, job: String::new(), expected };
    let create = "yes | mdadm --create $MD --run --level=1 --raid-devices=2 --metadata=1.2 --homehost=any --bitmap=internal \
                  --name=atlas-unbound $A $B; mdadm --wait $MD; mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 $MD; mount $MD /mnt; rest";
    bench.step("made", create, |bench| {
        let data = Data { set: 0, stamp: 0, role: Role::Pri, cluster: 0, snapshot: None, writes: 0, branch: 0 };
        bench.world.branch(0);
        bench.world.md_create(A | B, 0, data);
        bench.running = A | B;
        bench.open();
        bench.written();
    });
    bench.step("in use", "busy", |bench| bench.update(Change::Busy));
    bench.step("at rest", "rest", |bench| bench.update(Change::Rest));
    bench.step("b is lost", "lose $B; rest", |bench| {
        bench.lose(1);
        bench.written();
    });
    bench.step("in use without b", "busy", |bench| bench.update(Change::Busy));
    bench.step("at rest without b", "rest", |bench| bench.update(Change::Rest));
    bench.step("stopped", "umount /mnt; stop", |bench| {
        bench.written();
        bench.stop();
    });
    bench.step("a and b are started", "start $A $B", |bench| bench.start(A | B));
    bench.step("that is opened", "open", Bench::open);
    bench.step("c is being filled", "slow; mdadm --add $MD $C; mount $MD /mnt; rest", |bench| {
        bench.add(2);
        bench.written();
    });
    bench.step("stopped while it is", "umount /mnt; stop", |bench| {
        bench.written();
        bench.stop();
    });
    bench.step("c is started while it is not complete", "start $C", |bench| bench.start(C));
    bench.step("a and c are started", "start $A $C; open", |bench| {
        bench.start(A | C);
        bench.open();
    });
    bench.step("c is filled", "fast; idle; mount $MD /mnt; rest", |bench| {
        bench.filled();
        bench.written();
    });
    bench.step("stopped again", "umount /mnt; stop", |bench| {
        bench.written();
        bench.stop();
    });
    bench.step("c went on alone", "start $C; open; mount $MD /mnt; rest; umount /mnt; stop", |bench| {
        bench.start(C);
        bench.open();
        bench.written();
        bench.written();
        bench.stop();
    });
    bench.step("a and c are started, of which c went on", "start $A $C", |bench| bench.start(A | C));
    bench.step("a is added again", "open; mdadm --add $MD $A; idle; mount $MD /mnt; rest", |bench| {
        bench.open();
        bench.add(0);
        bench.filled();
        bench.written();
    });
    let backup = "mdadm --zero-superblock $B; mdadm --grow $MD --raid-devices=3 --add $B; idle; sleep 1.1; lose $B; sleep 1.1; \
                  mdadm --grow $MD --raid-devices=2; rest";
    bench.step("b is a backup", backup, |bench| {
        bench.world.md_backup(bench.running, 1, &mut bench.can_decrease);
        bench.update(Change::Rest);
        bench.written();
    });
    bench
}

fn run(work: &Path, job: &str) -> String {
    fs::create_dir_all(work.join("lib")).unwrap();
    std::os::unix::fs::symlink("/usr/lib/uml/modules", work.join("lib/modules")).unwrap();
    fs::write(work.join("job.sh"), job).unwrap();
    fs::write(work.join("init"), INIT.replace("@work@", work.to_str().unwrap())).unwrap();
    fs::set_permissions(work.join("init"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new("timeout");
    command.args(["300", "linux.uml", "rootfstype=hostfs", "rootflags=/", "rw", "mem=256M", "con=null"]);
    command.args(["con0=null,fd:1", "quiet"]).arg(format!("init={}/init", work.display()));
    for (number, name) in ["a", "b", "c"].iter().enumerate() {
        let disk = work.join(format!("disk.{name}"));
        fs::File::create(&disk).unwrap().set_len(40 << 20).unwrap();
        command.arg(format!("ubd{number}={}", disk.display()));
    }
    let output = command.env("TMPDIR", work).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(said.contains("== end"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// How far behind the newest of all that are there, in the classes that matter.
fn behind(events: &[Option<u64>]) -> Vec<Option<u64>> {
    let newest = events.iter().flatten().max().copied().unwrap_or(0);
    events.iter().map(|events| events.map(|events| (newest - events).min(2))).collect()
}

/// For each pair: whether both were written at the same moment.
fn together(times: &[Option<u64>]) -> Vec<bool> {
    let pairs = (0..times.len()).flat_map(|one| (0..one).map(move |two| (one, two)));
    pairs.filter_map(|(one, two)| Some(times[one]? == times[two]?)).collect()
}

fn filled(roles: &[Slot]) -> Vec<(usize, u16)> {
    let active = roles.iter().enumerate().filter_map(|(number, slot)| match slot {
        Slot::Active(slot) => Some((number, *slot)),
        Slot::Other => None,
    });
    active.collect()
}

/// What is compared of one member.
fn state(md: &MdSuperblock) -> (u32, u32, bool, bool, Vec<(usize, u16)>) {
    (md.dev_number, md.raid_disks, md.clean, md.rebuilding, filled(&md.roles))
}

#[test]
fn the_model_writes_superblocks_as_the_kernel_does() {
    let tmp = tempfile::tempdir().unwrap();
    let bench = steps();
    let said = run(tmp.path(), &bench.job);
    for (number, (name, expected, running)) in bench.expected.iter().enumerate() {
        let read = |disk: &str| {
            let block = fs::read(tmp.path().join(format!("{number}.{disk}"))).unwrap();
            assert_eq!(block.len(), SUPERBLOCK_LEN, "{name}: {said}");
            MdSuperblock::parse(&block, 4096).unwrap()
        };
        let found = ["a", "b", "c"].map(read);
        let expected = expected.map(|member| member.map(|member| member.superblock()));
        let states = |all: &[Option<MdSuperblock>; 3]| all.clone().map(|md| md.as_ref().map(state));
        assert_eq!(states(&found), states(&expected), "{name}: what the members say (left: the kernel)\n{said}");
        let of = |all: &[Option<MdSuperblock>; 3], field: fn(&MdSuperblock) -> u64| {
            all.clone().map(|md| md.as_ref().map(field))
        };
        let events = |all| behind(&of(all, |md| md.events));
        assert_eq!(events(&found), events(&expected), "{name}: how far behind they are (left: the kernel)\n{said}");
        let times = |all| together(&of(all, |md| md.utime));
        assert_eq!(
            times(&found),
            times(&expected),
            "{name}: whether they were written together (left: the kernel)\n{said}"
        );
        let runs = fs::read_to_string(tmp.path().join(format!("{number}.running"))).unwrap();
        let expected: Vec<&str> = disks_of(*running).map(|disk| ["ubda", "ubdb", "ubdc"][disk]).collect();
        assert_eq!(
            runs.split_whitespace().collect::<Vec<_>>(),
            expected,
            "{name}: what runs (left: the kernel)\n{said}"
        );
    }
}

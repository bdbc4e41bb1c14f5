//! Snapshot Create does what is needed and no more, and is not deceived by what changes at the wrong moment.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use atlas_host::tree::Dir;
use atlas_model::{
    EnvVersion, Role,
    manifest::{FileSet, Kind, Manifest},
};
use atlas_sid::{
    SidData, SidError, Snapshot,
    create::{self, Created, How},
};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const ENV1: EnvVersion = EnvVersion::OLDEST;
const PRI: &str = "unbound/SID_DATA/PRI";

/// A server's tree and an Unbound file system.
struct World {
    tmp: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let world = World { tmp: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        world.write(&format!("{PRI}/Env1/IdentFilePaths"), "/etc/hostname\n/etc/absent\n");
        world.write(&format!("{PRI}/Env1/SyncFilePathsSpecial"), "/etc/app\n/srv/data\n");
        world.write("root/etc/hostname", "bread\n");
        for name in ["a", "b", "c", "sub/d", "sub/e"] {
            world.write(&format!("root/etc/app/{name}"), name);
        }
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.tmp.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn sid(&self) -> SidData {
        SidData::open(&Dir::open_root(self.path("unbound")).unwrap()).unwrap()
    }

    fn try_create(&self, reads_all: bool) -> Result<Created, SidError> {
        let how = How { reads_all, ..How::default() };
        create::create_how(&Dir::open_root(self.path("root")).unwrap(), &self.sid(), Role::Pri, ENV1, &how)
    }

    fn create(&self) -> Created {
        self.try_create(false).unwrap()
    }

    fn manifest(&self) -> Manifest {
        Manifest::parse(&fs::read(self.path(PRI).join("Env1/Manifest")).unwrap()).unwrap()
    }

    /// The published Snapshot is whole, its copies are what the Manifest says, and both are what the tree is.
    fn check(&self) {
        let role_dir = self.sid().role_dir(Role::Pri).unwrap().unwrap();
        let snapshot = Snapshot::open(&role_dir, Role::Pri, ENV1).unwrap().unwrap();
        let root = Dir::open_root(self.path("root")).unwrap();
        for entry in snapshot.manifest.entries() {
            let copies = snapshot.files(entry.set).unwrap().unwrap();
            for tree in [&root, &copies] {
                let kind = match tree.parent_of(&entry.path) {
                    Ok((dir, name)) => atlas_host::object::read(&dir, name).unwrap(),
                    Err(error) => {
                        assert!(error.is_not_found());
                        Kind::Absent
                    }
                };
                assert!(kind.same_as(&entry.kind), "{}: {kind:?} is not {:?}", entry.path, entry.kind);
            }
        }
        for set in ["IdentFiles", "SyncFiles"] {
            let set_dir = self.path(PRI).join("Env1").join(set);
            for path in files_below(&set_dir) {
                let path = Path::new("/").join(path.strip_prefix(&set_dir).unwrap());
                let is_listed = snapshot.manifest.entries().iter().any(|entry| entry.path.as_path() == path);
                assert!(is_listed, "{} is in the Snapshot and not in its Manifest", path.display());
            }
        }
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// Every file below with its content and time of change: a write of anything shows.
fn picture(dir: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    let mut files: Vec<_> = files_below(dir)
        .into_iter()
        .map(|path| {
            let meta = fs::symlink_metadata(&path).unwrap();
            (path, meta.ino(), meta.ctime(), meta.ctime_nsec())
        })
        .collect();
    files.sort();
    files
}

/// Ends a thread however the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets the records of the stat cache become old enough to be trusted.
fn settle(world: &World) {
    std::thread::sleep(Duration::from_millis(2100));
    world.create();
}

#[test]
fn where_nothing_changed_nothing_is_written() {
    let world = World::new();
    assert!(world.create().changed);
    settle(&world);
    let before = picture(&world.path("unbound"));
    let again = world.create();
    assert_eq!((again.changed, again.generation, again.recorded.clone()), (false, 1, None));
    assert_eq!((again.ident_objects, again.sync_objects), (1, 7));
    assert_eq!(picture(&world.path("unbound")), before);
    assert!(!world.try_create(true).unwrap().changed, "reading everything finds no change either");
    world.check();
}

#[test]
fn what_lies_ready_under_a_temporary_name_is_in_no_snapshot() {
    let world = World::new();
    let staged = ["a", "sub"].map(|dir| format!("root/etc/app/{dir}/.atlas-tmp-1-1"));
    settle(&world);
    fs::remove_file(world.path("root/etc/app/a")).unwrap();
    staged.iter().for_each(|path| world.write(path, "not yet"));
    world.write("root/etc/app/.atlas-tmp-1-2/file", "not yet");
    assert!(world.try_create(true).unwrap().changed, "a is a directory now");
    let files = files_below(&world.path(&format!("{PRI}/Env1/SyncFiles")));
    assert!(files.iter().any(|file| file.ends_with("sub/d")), "{files:?}");
    assert!(files.iter().all(|file| !file.to_str().unwrap().contains("atlas-tmp")), "{files:?}");
}

#[test]
fn unchanged_files_are_shared_with_the_snapshot_before_and_only_changed_ones_copied() {
    let world = World::new();
    world.create();
    let inode = |name: &str| fs::metadata(world.path(PRI).join("Env1/SyncFiles/etc/app").join(name)).unwrap().ino();
    for round in 0..4 {
        let (a, b) = (inode("a"), inode("sub/d"));
        world.write("root/etc/app/a", &format!("changed {round}"));
        let created = world.create();
        assert_eq!((created.changed_objects, created.generation), (1, 2 + round));
        assert_ne!(inode("a"), a);
        assert_eq!(inode("sub/d"), b, "it did not change");
        world.check();
    }
}

#[test]
fn a_published_snapshot_is_never_changed_by_the_next() {
    let world = World::new();
    world.create();
    let held = Dir::open_root(world.path(PRI).join("Env1")).unwrap();
    world.write("root/etc/app/a", "second");
    world.create();
    assert_eq!(held.read("SyncFiles/etc/app/a", 100).unwrap(), b"a", "it is kept whole for the next time");
    let manifest = held.read("Manifest", 1 << 20).unwrap();
    assert!(Manifest::parse(&manifest).is_ok());
}

#[test]
fn all_kinds_of_changes_reach_the_snapshot_round_after_round() {
    let world = World::new();
    world.create();
    let app = world.path("root/etc/app");
    type Change = fn(&Path);
    let changes: [Change; 12] = [
        |app| fs::write(app.join("new"), "new").unwrap(),
        |app| fs::remove_file(app.join("b")).unwrap(),
        |app| fs::set_permissions(app.join("c"), PermissionsExt::from_mode(0o600)).unwrap(),
        |app| fs::remove_dir_all(app.join("sub")).unwrap(),
        |app| fs::write(app.join("sub"), "a file where a directory was").unwrap(),
        |app| {
            fs::remove_file(app.join("sub")).unwrap();
            fs::create_dir_all(app.join("sub/deep/er")).unwrap();
            fs::write(app.join("sub/deep/er/x"), "x").unwrap();
        },
        |app| symlink("x", app.join("sub/deep/er/link")).unwrap(),
        |app| fs::set_permissions(app.join("sub/deep"), PermissionsExt::from_mode(0o750)).unwrap(),
        |app| xattr::set(app.join("a"), "user.colour", b"blue").unwrap(),
        |app| {
            fs::remove_file(app.join("sub/deep/er/link")).unwrap();
            fs::create_dir(app.join("sub/deep/er/link")).unwrap();
        },
        |app| fs::rename(app.join("sub/deep/er"), app.join("moved \"quo\\ted\"")).unwrap(),
        |app| {
            fs::rename(app.join("sub"), app.join("sub2")).unwrap();
            symlink("sub2", app.join("sub")).unwrap();
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        change(&app);
        assert!(world.create().changed, "change {index}");
        world.check();
        assert!(!world.create().changed, "change {index}, once more");
    }
    fs::remove_dir_all(&app).unwrap();
    world.create();
    world.check();
    assert!(world.manifest().of_set(FileSet::Sync).all(|entry| entry.kind == Kind::Absent));
}

#[test]
fn a_change_within_the_tick_of_the_last_snapshot_is_found_though_size_and_time_are_the_same() {
    let world = World::new();
    let file = world.path("root/etc/app/a");
    world.create();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let at_time = |content: &str| {
        fs::write(&file, content).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    };
    at_time("1");
    world.create();
    at_time("2");
    assert!(world.create().changed);
    world.check();
}

#[test]
fn a_content_that_changed_without_a_trace_is_found_where_every_byte_is_read() {
    let world = World::new();
    world.create();
    settle(&world);
    // The record of a change that no time shows: another content in the Manifest than in the file.
    let manifest = fs::read_to_string(world.path(PRI).join("Env1/Manifest")).unwrap();
    let digest = atlas_model::Digest::of(b"b").to_string();
    assert!(manifest.contains(&digest));
    let path = world.path(PRI).join("Env1/Manifest");
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    // In place, so that it stays the file that the cache knows.
    let other = manifest.replace(&digest, &atlas_model::Digest::of(b"B").to_string());
    fs::write(&path, other).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    assert!(!world.create().changed, "no time shows it");
    assert_eq!(world.try_create(true).unwrap().changed_objects, 1);
    world.check();
}

#[test]
fn another_machine_trusts_no_record_of_this_one() {
    let world = World::new();
    world.write("root/etc/machine-id", "one\n");
    world.create();
    settle(&world);
    let cache = world.path("unbound/SID_DATA/.stat-cache-PRI");
    let before = fs::read(&cache).unwrap();
    world.write("root/etc/machine-id", "two\n");
    assert!(!world.create().changed, "the files are the same, and that was found by reading them");
    assert_ne!(fs::read(&cache).unwrap(), before);
}

#[test]
fn a_damaged_cache_is_as_none() {
    let world = World::new();
    world.create();
    settle(&world);
    let cache = world.path("unbound/SID_DATA/.stat-cache-PRI");
    let whole = fs::read(&cache).unwrap();
    let mut broken: Vec<Vec<u8>> =
        [0, 1, 50, 60, whole.len() / 2, whole.len() - 1].map(|end| whole[..end].to_vec()).into();
    for at in [20, 57, 58, 59, 60, 100] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        broken.push(bytes);
    }
    // Records cut out of the middle, the ends as they were.
    broken.push([&whole[..80], &whole[whole.len() - 24..]].concat());
    for (index, bytes) in broken.iter().enumerate() {
        fs::write(&cache, bytes).unwrap();
        world.write("root/etc/app/a", &format!("round {index}"));
        assert_eq!(world.create().changed_objects, 1, "damage {index}");
        world.check();
    }
}

#[test]
fn a_changed_list_or_account_makes_a_new_snapshot() {
    let world = World::new();
    world.create();
    world.write("root/srv/data", "1");
    assert_eq!(world.create().changed_objects, 1, "what was absent is there");
    world.write(&format!("{PRI}/Env1/SyncFilePathsWeb"), "/srv/web\n");
    let created = world.create();
    assert!(created.changed && created.changed_objects == 1, "{created:?}");
    world.write(&format!("{PRI}/Env1/SyncFilePathsWeb"), "# nothing\n");
    assert_eq!(world.create().changed_objects, 1, "it is no longer listed");
    let (user, uid) = ("who", fs::metadata(world.path("root")).unwrap().uid());
    world.write("root/etc/passwd", &format!("{user}:x:{uid}:0::/:/bin/sh\n"));
    assert!(world.create().changed, "the owner has a name now");
    assert_eq!(world.manifest().owners().users.get(&uid).map(String::as_str), Some(user));
    assert!(!world.create().changed);
    world.check();
}

#[test]
fn a_snapshot_begins_anew_where_the_directory_before_was_lost_or_left_half_made() {
    let world = World::new();
    world.create();
    world.write("root/etc/app/a", "2");
    world.create();
    let sid = world.path("unbound/SID_DATA");
    assert!(sid.join(".last-PRI").exists());
    fs::remove_dir_all(sid.join(".last-PRI/Env1/SyncFiles/etc")).unwrap();
    // As a power cut leaves it: under the name of what is being made.
    fs::rename(sid.join(".last-PRI"), sid.join(".next-PRI")).unwrap();
    world.write("root/etc/app/a", "3");
    world.create();
    world.check();
}

#[test]
fn the_first_change_finds_a_directory_to_bring_up_to_date_as_every_later_one_does() {
    let world = World::new();
    world.create();
    let inode = |path: &str| fs::metadata(world.path(path)).unwrap().ino();
    let (now, last) =
        ("unbound/SID_DATA/PRI/Env1/SyncFiles/etc/app", "unbound/SID_DATA/.last-PRI/Env1/SyncFiles/etc/app");
    assert_eq!(inode(&format!("{now}/a")), inode(&format!("{last}/a")), "the files are shared");
    let kept = inode(last);
    assert_ne!(inode(now), kept);
    world.write("root/etc/app/a", "2");
    world.create();
    world.check();
    assert_eq!(inode(now), kept, "what was made before the change is published, brought up to date");
}

#[test]
fn what_changes_all_the_time_is_told_and_what_settles_is_taken() {
    let world = World::new();
    world.create();
    let stop = AtomicBool::new(false);
    let file = world.path("root/etc/app/restless");
    std::thread::scope(|scope| {
        let ends = Stop(&stop);
        scope.spawn(|| {
            for count in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                fs::write(&file, format!("{count}")).unwrap();
            }
        });
        while !file.exists() {
            std::thread::yield_now();
        }
        // On a busy machine the writer may have no processor while it is copied, and then nothing changed.
        let restless = (0..50).map(|_| world.try_create(false)).find(Result::is_err);
        drop(ends);
        let Some(Err(SidError::Restless(path))) = restless else { panic!("{restless:?}") };
        assert!(path.to_string().starts_with("/etc/app"), "{path}");
    });
    assert!(!world.path("unbound/SID_DATA/.next-PRI").exists());
    assert!(world.create().changed);
    world.check();
}

/// Writes a number over the one that is there, in one call: a file that is cut to nothing first is empty for as long as its writer has no
/// processor, and may be taken so.
fn overwrite(file: &Path, number: u32) {
    let text = format!("{number:6}");
    OpenOptions::new().write(true).open(file).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
}

#[test]
fn a_pair_of_files_is_never_taken_from_two_moments() {
    let world = World::new();
    let stop = AtomicBool::new(false);
    let (first, last) = (world.path("root/etc/app/a"), world.path("root/etc/app/zz"));
    fs::write(&first, "0").unwrap();
    fs::write(&last, "0").unwrap();
    world.create();
    let mut taken = 0;
    std::thread::scope(|scope| {
        let ends = Stop(&stop);
        scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                // The last is never newer than the first, except for a moment within a pause that is shorter than a tick.
                overwrite(&last, count);
                overwrite(&first, count);
                std::thread::sleep(Duration::from_millis(90));
            }
        });
        for _ in 0..25 {
            match world.try_create(false) {
                Ok(_) => {
                    let copy =
                        |name| fs::read_to_string(world.path(PRI).join("Env1/SyncFiles/etc/app").join(name)).unwrap();
                    let (a, z): (u32, u32) = (copy("a").trim().parse().unwrap(), copy("zz").trim().parse().unwrap());
                    assert!(a == z || z == a + 1, "{a} and {z} were never there together");
                    taken += 1;
                }
                Err(SidError::Restless(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        drop(ends);
    });
    assert!(taken > 0, "every attempt was restless");
}

#[test]
fn a_copy_of_the_identity_that_was_damaged_is_taken_anew() {
    let world = World::new();
    world.create();
    world.write("root/etc/app/a", "second");
    world.create();
    let copy = world.path(PRI).join("Env1/IdentFiles/etc/hostname");
    for damage in ["changed in place", "gone", "a link", "all of them gone"] {
        match damage {
            "changed in place" => fs::write(&copy, "beard\n").unwrap(),
            "gone" => fs::remove_file(&copy).unwrap(),
            "a link" => {
                fs::remove_file(&copy).unwrap();
                std::os::unix::fs::symlink("/etc/shadow", &copy).unwrap();
            }
            _ => fs::remove_dir_all(world.path(PRI).join("Env1/IdentFiles")).unwrap(),
        }
        let made = world.create();
        assert!(made.changed && made.notes.len() == 1 && made.notes[0].contains("made anew"), "{damage}: {made:?}");
        world.check();
        let again = world.create();
        assert!(!again.changed && again.notes.is_empty() && again.generation == made.generation, "{damage}: {again:?}");
    }
}

#[test]
fn devices_pipes_and_sockets_do_not_travel_and_are_named() {
    let world = World::new();
    let app = world.path("root/etc/app");
    let socket = std::os::unix::net::UnixListener::bind(app.join("control")).unwrap();
    let pipe = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    pipe(&app.join("sub/ok"));
    for _ in 0..2 {
        let created = world.create();
        let note =
            "devices, pipes and sockets do not travel, each server makes its own: /etc/app/control, /etc/app/sub/ok";
        assert_eq!((created.passed_over.as_deref(), created.notes.len()), (Some(note), 0));
        world.check();
    }
    let listed: Vec<String> = world.manifest().entries().iter().map(|entry| entry.path.to_string()).collect();
    assert!(listed.contains(&"/etc/app/sub/d".into()) && !listed.contains(&"/etc/app/control".into()), "{listed:?}");

    // One that was a file is gone from the Snapshot.
    fs::remove_file(app.join("b")).unwrap();
    pipe(&app.join("b"));
    let created = world.create();
    let told = created.passed_over.clone().unwrap();
    assert!(created.changed && told.contains("/etc/app/b, /etc/app/control"), "{created:?}");
    assert!(!world.manifest().entries().iter().any(|entry| entry.path.to_string() == "/etc/app/b"));
    world.check();

    // One that is listed itself is a mistake of whoever wrote the list.
    world.write(&format!("{PRI}/Env1/SyncFilePathsSpecial"), "/etc/app/control\n");
    let refused = world.try_create(false).unwrap_err();
    assert!(refused.to_string().contains("/etc/app/control"), "{refused}");
    drop(socket);
}

#[test]
fn what_an_editor_leaves_beside_a_list_is_none() {
    let world = World::new();
    for name in ["SyncFilePathsSpecial~", "SyncFilePathsSpecial.bak", "SyncFilePaths.web", ".SyncFilePathsSpecial.swp"]
    {
        world.write(&format!("{PRI}/Env1/{name}"), "/srv/gone\n");
    }
    world.write(&format!("{PRI}/Env1/SyncFilePaths-web_1"), "/srv/web\n");
    world.write("root/srv/gone", "x");
    world.write("root/srv/web", "x");
    world.create();
    let listed: Vec<String> = world.manifest().entries().iter().map(|entry| entry.path.to_string()).collect();
    assert!(listed.contains(&"/srv/web".into()) && !listed.contains(&"/srv/gone".into()), "{listed:?}");
}

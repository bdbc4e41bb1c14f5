//! What lies on the servers' disks, and what must be true of it at every moment.

use atlas_host::tree::Dir;
use atlas_model::{Role, manifest::FileSet};
use atlas_sid::{
    BoundData, SidData,
    install::Plan,
    snapshot::{self, Found, Snapshot},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// What changes as a whole, by its name, and its state: each Role directory, and each object that is installed.
pub(crate) type Units = BTreeMap<String, String>;

/// Stands in every file that is a secret.
pub(crate) const SECRET: &str = "SECRET";

/// The units of both servers.
pub(crate) fn units(base: &Path) -> Units {
    let mut units = Units::new();
    for server in ["pri", "sec"] {
        let sid = base.join(server).join("unbound/SID_DATA");
        for role in ["PRI", "SEC1"].map(|role| sid.join(role)).iter().filter(|dir| dir.exists()) {
            units.insert(name(base, role), lines(role).into_values().collect());
        }
    }
    for (path, line) in lines(&base.join("sec/etc")) {
        units.insert(format!("sec/etc/{path}"), line);
    }
    units
}

fn name(base: &Path, path: &Path) -> String {
    path.strip_prefix(base).unwrap().display().to_string()
}

/// A line for each object below `dir`, but not for what has a name that nobody reads.
fn lines(dir: &Path) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    walk(dir, &mut |path, meta| {
        let name = name(dir, path);
        if !name.contains(".atlas-tmp-") {
            let content = if meta.is_dir() { 0 } else { content(path, meta) };
            let line = format!("{name} {:o} {}:{} {content:x}\n", meta.mode(), meta.uid(), meta.gid());
            lines.insert(name, line);
        }
    });
    lines
}

fn content(path: &Path, meta: &fs::Metadata) -> u64 {
    let mut hash = DefaultHasher::new();
    if meta.is_symlink() {
        fs::read_link(path).unwrap().hash(&mut hash);
    } else {
        fs::read(path).unwrap().hash(&mut hash);
    }
    hash.finish()
}

/// Everything below `dir`, the directory itself not included, in the order of names.
fn walk(dir: &Path, see: &mut impl FnMut(&Path, &fs::Metadata)) {
    // What goes away meanwhile was nothing that counts.
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| !path.ends_with("lost+found")) {
        let Ok(meta) = fs::symlink_metadata(path) else { continue };
        if meta.is_dir() || meta.is_symlink() || meta.is_file() {
            see(path, &meta);
        }
        if meta.is_dir() {
            walk(path, see);
        }
    }
}

/// A number for all that lies on the disks: equal where the next run would find the same.
pub(crate) fn all_of(disks: impl Iterator<Item = std::path::PathBuf>) -> u64 {
    let mut hash = DefaultHasher::new();
    for disk in disks {
        walk(&disk, &mut |path, meta| {
            (path, meta.mode(), meta.nlink(), meta.size()).hash(&mut hash);
            if !meta.is_dir() {
                content(path, meta).hash(&mut hash);
            }
        });
    }
    hash.finish()
}

/// Every Snapshot of a server is whole, and its own is one that it could boot with. `has_some`: there must be one.
pub(crate) fn assert_snapshots_are_whole(root: &Path, has_some: bool) {
    let tree = Dir::open_root(root).unwrap();
    let own = BoundData::read(&tree).unwrap().unwrap().env_id;
    let sid = SidData::open(&tree.dir("unbound").unwrap()).unwrap();
    let nowhere = tempfile::tempdir().unwrap();
    let nowhere = Dir::open_root(nowhere.path()).unwrap();
    for role in [Role::Pri, Role::Sec(1)] {
        let Some(dir) = sid.role_dir(role).unwrap() else { continue };
        snapshot::generation(&dir).unwrap();
        let Some(newest) = snapshot::newest(&dir).unwrap() else {
            assert!(!has_some, "{role} has no Snapshot");
            continue;
        };
        for version in snapshot::env_versions(&dir).unwrap() {
            assert!(version <= newest, "{role} has {version}, and SnapshotEnvVersion is {newest}");
            let found = Snapshot::open(&dir, role, version).unwrap().unwrap();
            for set in [FileSet::Ident, FileSet::Sync] {
                // This reads every copy.
                Plan::make(&nowhere, &found, set).unwrap_or_else(|error| panic!("{role} {version}: {error}"));
            }
        }
        if role == sid.master_config().unwrap().role() {
            let found = snapshot::find(&dir, role, own).unwrap();
            assert!(matches!(found, Found::Exact(_)), "{role} could not boot: {found:?}");
        }
    }
}

/// Nobody but root can read a secret, in whatever file it is; and where it is Sync and Identity Data, nobody can even look for it.
pub(crate) fn assert_secrets_are_kept(root: &Path) {
    let mut seen = 0;
    let sid = root.join("unbound/SID_DATA");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for dir in ["etc", "var", "unbound"] {
        walk(&root.join(dir), &mut |path, meta| {
            if !meta.is_file() || !fs::read(path).unwrap().windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) {
                return;
            }
            seen += 1;
            assert_eq!(mode(path), 0o600, "{} is a secret", path.display());
            if let Some(first) = path.strip_prefix(&sid).ok().and_then(|below| below.components().next()) {
                assert_eq!([mode(&sid), mode(&sid.join(first))], [0o700; 2], "{} is below", path.display());
            }
        });
    }
    assert!(seen > 0, "there is no secret in {}", root.display());
}

/// Nothing is left of what was cut off, and git finds nothing wrong with the history.
pub(crate) fn assert_nothing_is_left(root: &Path) {
    walk(&root.join("etc"), &mut |path, _| {
        assert!(!path.to_str().unwrap().contains(".atlas-tmp-"), "{} is left", path.display());
    });
    let install = root.join("var/lib/atlas/install");
    for name in ["pending.json", "kept"] {
        assert!(!install.join(name).exists(), "{name} is left");
    }
    let sid = root.join("unbound/SID_DATA");
    for entry in fs::read_dir(&sid).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("damaged"), "the history was damaged: {name}");
    }
    let mut git = std::process::Command::new("git");
    git.arg("--git-dir").arg(sid.join("history")).args(["fsck", "--full", "--no-dangling", "--no-progress"]);
    let output = git
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .output();
    let output = output.expect("git is there");
    assert!(output.status.success(), "git fsck: {}", String::from_utf8_lossy(&output.stderr));
}

/// States without what counts or tells the time: what two ways to the same end have in common.
pub(crate) fn essence(units: &Units) -> Units {
    units.iter().map(|(unit, state)| (unit.clone(), essence_of(state))).collect()
}

/// The same of one.
pub(crate) fn essence_of(state: &str) -> String {
    let is_content =
        |line: &&str| !["Generation", "Manifest"].iter().any(|name| line.split(' ').next().unwrap().ends_with(name));
    state.lines().filter(is_content).map(|line| format!("{line}\n")).collect()
}

/// What one state has and the other has not.
pub(crate) fn difference(is: &Units, wanted: &Units) -> String {
    let lines = |units: &Units| -> BTreeSet<String> {
        let of =
            |(unit, state): (&String, &String)| state.lines().map(|line| format!("{unit}: {line}")).collect::<Vec<_>>();
        units.iter().flat_map(of).collect()
    };
    let (is, wanted) = (lines(is), lines(wanted));
    let only = |sign: &str, a: &BTreeSet<String>, b: &BTreeSet<String>| -> String {
        a.difference(b).map(|line| format!("\n{sign} {line}")).collect()
    };
    only("+", &is, &wanted) + &only("-", &wanted, &is)
}

//! What must hold for every input, one function per parser. Each panics where it does not, and tells whether the input parsed.
//!
//! The fuzz targets call these with what libFuzzer makes, `model/tests/fuzz_seeds.rs` with the committed inputs and their
//! mutations. Common to all: what parses is written and read back as the same value, and what does not parse gives an error
//! that a console can show.

use atlas_model::{
    ClusterId, Digest, EnvVersion, MasterConfig, PathList, Role, TreePath, content,
    ext4::{self, Ext4Superblock, files::Files},
    manifest::{FileSet, Kind, Manifest},
    md::{self, MdSuperblock, Slot},
    old_md,
    set_record::SetRecord,
    tree_path,
};
use std::{error::Error, path::Component};

/// A parser's properties as a function of the input; `true` where it parsed.
pub type Property = fn(&[u8]) -> bool;

/// Every target by its name, which is that of its folders below `seeds` and `regressions`, too.
pub const TARGETS: [(&str, Property); 11] = [
    ("cluster", cluster),
    ("env_version", env_version),
    ("ext4", ext4),
    ("ext4_files", ext4_files),
    ("manifest", manifest),
    ("marks", marks),
    ("master_config", master_config),
    ("md", md),
    ("path_list", path_list),
    ("set_record", set_record),
    ("tree_path", tree_path),
];

/// MasterConfig: the partners fit the Role, hosts are no options of a program.
pub fn master_config(data: &[u8]) -> bool {
    let config = match MasterConfig::parse(data) {
        Ok(config) => config,
        Err(error) => return !showable(&error),
    };
    assert!(data.len() <= MasterConfig::MAX_SIZE);
    assert_eq!(MasterConfig::parse(config.to_file().as_bytes()), Ok(config.clone()));
    let roles = config.partners().iter().map(|partner| partner.role).collect::<Vec<_>>();
    assert!(roles.is_sorted_by(|a, b| a < b), "partners twice or unsorted: {roles:?}");
    match config.role() {
        Role::Pri => assert!(!roles.is_empty() && !roles.contains(&Role::Pri)),
        Role::Sec(_) => assert_eq!(roles, [Role::Pri]),
    }
    for partner in config.partners() {
        assert!(!partner.host.is_empty() && !partner.host.starts_with('-'), "{:?}", partner.host);
        assert!(partner.host.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\/@$`;&|<>".contains(&b)));
    }
    true
}

/// SyncFilePaths, IdentFilePaths: sorted, each path once, none below another, and all covered that a line named.
pub fn path_list(data: &[u8]) -> bool {
    let list = match PathList::parse(data) {
        Ok(list) => list,
        Err(error) => return !showable(&error),
    };
    assert!(data.len() <= PathList::MAX_SIZE && list.paths().len() <= PathList::MAX_PATHS);
    let file = list.to_file("what a fuzzer\nfound");
    assert_eq!(PathList::parse(file.as_bytes()), Ok(list.clone()));
    // No path contains another: sorted by components, only neighbours can.
    for pair in list.paths().windows(2) {
        assert!(pair[0].as_path() < pair[1].as_path() && !pair[1].is_within(&pair[0]), "{pair:?}");
    }
    list.paths().iter().for_each(stays_inside);
    let lines = std::str::from_utf8(data).expect("what parses is text").split('\n');
    for line in lines.filter(|line| line.starts_with('/')) {
        let one = PathList::parse(line.as_bytes()).expect("the list was accepted");
        assert!(one.paths().len() == 1 && list.covers(&one.paths()[0]), "{line:?} got lost");
    }
    true
}

/// Manifest: paths unique and inside, nothing below what is no directory, and every value fit to be installed.
pub fn manifest(data: &[u8]) -> bool {
    let manifest = match Manifest::parse(data) {
        Ok(manifest) => manifest,
        Err(error) => return !showable(&error),
    };
    let file = manifest.to_file().expect("what was read can be written");
    assert_eq!(Manifest::parse(&file).expect("what was written can be read"), manifest);
    for cut in [file.len() / 2, file.len().saturating_sub(2)] {
        assert!(Manifest::parse(&file[..cut]).is_err(), "cut at {cut} of {}", file.len());
    }
    let entries = manifest.entries();
    let of_sets = [FileSet::Ident, FileSet::Sync, FileSet::Residue].map(|set| manifest.of_set(set).count());
    assert_eq!(entries.len(), of_sets.iter().sum::<usize>());
    for (index, entry) in entries.iter().enumerate() {
        stays_inside(&entry.path);
        if let Some(next) = entries.get(index + 1) {
            assert!((entry.set, entry.path.as_path()) < (next.set, next.path.as_path()), "{next:?} twice or unsorted");
            let below = next.set == entry.set && next.path.is_within(&entry.path);
            assert!(!below || matches!(entry.kind, Kind::Dir { .. }), "{next:?} lies below {entry:?}");
        }
        if let Kind::Link { target, .. } = &entry.kind {
            let target = tree_path::unescape(target).expect("a target that can be made");
            assert!((1..4096).contains(&target.len()) && !target.contains(&0));
        }
        let Some(meta) = entry.kind.meta() else { continue };
        assert!(meta.mode <= 0o7777 && meta.mtime_ns < 1_000_000_000);
        // chown reads the largest number as "leave it".
        assert!(meta.uid != u32::MAX && meta.gid != u32::MAX);
        for (name, value) in &meta.xattrs {
            let name = tree_path::unescape(name).expect("a name that can be set");
            assert!((1..=255).contains(&name.len()) && !name.contains(&0));
            assert!(value.len().is_multiple_of(2) && value.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }
    true
}

/// A block of an md member, as it is and with its checksum mended, without which hardly a mutation would come further.
pub fn md(data: &[u8]) -> bool {
    let whole = md_block(data);
    let mut mended = data.to_vec();
    md::testing::mend_checksum(&mut mended);
    md_block(&mended) || whole
}

fn md_block(block: &[u8]) -> bool {
    const PLACES: [u64; 3] = [0, 4096, 8192];
    let found = PLACES.map(|offset| MdSuperblock::parse(block, offset));
    assert!(found.iter().filter(|result| matches!(result, Ok(Some(_)))).count() <= 1, "one block in two places");
    found.into_iter().fold(false, |parsed, result| match result {
        Ok(Some(sb)) => {
            md_superblock(block, &sb);
            true
        }
        Ok(None) => parsed,
        Err(error) => showable(&error) && parsed,
    })
}

fn md_superblock(block: &[u8], sb: &MdSuperblock) {
    assert!((1..=1920).contains(&sb.raid_disks) && sb.roles.len() <= 1920, "{} slots", sb.raid_disks);
    assert_eq!(sb.slot(), sb.roles[sb.dev_number as usize]);
    assert!(sb.filled_slots().all(|slot| u32::from(slot) < sb.raid_disks && sb.is_filled(slot)));
    let mut filled = sb.filled_slots().collect::<Vec<_>>();
    filled.sort_unstable();
    filled.dedup();
    assert_eq!(sb.is_whole(), filled.len() == sb.raid_disks as usize);
    assert!(sb.name.chars().all(|c| !c.is_control()), "{:?}", sb.name);

    // Every byte that the checksum covers counts, none of the rest does.
    let covered = 256 + 2 * sb.roles.len();
    let place = u64::from_le_bytes(std::array::from_fn(|index| block[144 + index])) * 512;
    let mut other = block.to_vec();
    other[covered..].fill(0xa5);
    assert_eq!(MdSuperblock::parse(&other, place), Ok(Some(sb.clone())));
    let turned = sb.events as usize % covered;
    other[turned] ^= 0x10;
    assert!(!matches!(MdSuperblock::parse(&other, place), Ok(Some(_))), "byte {turned} turned, and still a superblock");

    // A name that was escaped, or fills its field, cannot be written back.
    let name = if sb.name.len() <= 28 && !sb.name.contains(['\\', ':']) { sb.name.clone() } else { String::new() };
    let sb = MdSuperblock { name, ..sb.clone() };
    let again = MdSuperblock::parse(&md::testing::to_block(&sb), 4096);
    assert_eq!(again.as_ref().map(|sb| sb.as_ref().map(MdSuperblock::fingerprint)), Ok(Some(sb.fingerprint())));
    assert_eq!(again, Ok(Some(sb.clone())));
    let later = MdSuperblock { events: sb.events ^ 1, ..sb.clone() };
    let apart =
        MdSuperblock { roles: sb.roles.iter().map(|_| Slot::Other).chain([Slot::Active(0)]).collect(), ..sb.clone() };
    assert!(later.fingerprint() != sb.fingerprint() && apart.fingerprint() != sb.fingerprint());
}

/// An ext4 superblock: what is clean needs nothing, the digest covers all of it, nothing after it counts.
pub fn ext4(data: &[u8]) -> bool {
    let Some(sb) = Ext4Superblock::parse(data) else { return false };
    let block = &data[..ext4::SUPERBLOCK_LEN];
    assert!(!(sb.clean && sb.needs_recovery));
    assert!(sb.label.chars().all(|c| !c.is_control()), "{:?}", sb.label);
    assert_eq!(sb.digest, Digest::of(block));
    assert_eq!(Ext4Superblock::parse(block), Some(sb.clone()));
    assert_eq!(Ext4Superblock::parse(&block[1..]), None, "cut off");

    let turned = data.len() % ext4::SUPERBLOCK_LEN;
    let mut other = block.to_vec();
    other[turned] ^= 1;
    assert!(
        Ext4Superblock::parse(&other).is_none_or(|other| other.digest != sb.digest),
        "byte {turned} does not count"
    );

    let digits = sb.uuid_text().replace('-', "");
    let uuid = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16));
    assert_eq!(uuid.collect::<Result<Vec<_>, _>>().expect("digits"), sb.uuid);
    // A label that was escaped cannot be written back.
    if sb.label.len() <= 16 && !sb.label.contains('\\') {
        let mut written = ext4::testing::block(&sb.label, 0);
        written[0x68..0x78].copy_from_slice(&sb.uuid);
        written[0x3a] = if sb.clean || sb.needs_recovery { 1 } else { 2 };
        written[0x60] = if sb.needs_recovery { 4 } else { 0 };
        let digest = Digest::of(&written);
        let again =
            Ext4Superblock { digest, size_bytes: 0, is_whole_groups: false, written: 0, mounted: 0, mounts: 0, ..sb };
        assert_eq!(Ext4Superblock::parse(&written), Some(again));
    }
    true
}

/// A file of an ext4 that is not mounted: never more than was allowed, the same twice, and within what the image holds.
pub fn ext4_files(data: &[u8]) -> bool {
    let read = |offset: u64, length: usize| {
        let at = usize::try_from(offset).ok()?;
        assert!(length <= 64 << 10, "{length} bytes in one read");
        data.get(at..at.checked_add(length)?).map(<[u8]>::to_vec)
    };
    let look = || {
        let files = Files::open(&read).ok()?;
        let sid = files.child(&files.root().ok()?, "SID_DATA").ok()??;
        let set = files.child(&sid, SetRecord::NAME).ok()??;
        files.content(&set, SetRecord::MAX_SIZE).ok()
    };
    let found = look();
    assert_eq!(found, look());
    assert!(found.as_ref().is_none_or(|content| content.len() <= SetRecord::MAX_SIZE && content.len() <= data.len()));
    found.is_some()
}

/// What lies on a disk: each mark and label can be shown, and an old superblock needs all of its bytes.
pub fn marks(data: &[u8]) -> bool {
    let found = content::BLOCKS.iter().filter_map(|block| content::recognise(*block, data));
    let mut is_found = false;
    for content in found {
        let text = content.to_string();
        assert!(!text.is_empty() && text.chars().all(|c| !c.is_control()), "{text:?}");
        is_found = true;
    }
    let old = old_md::parse(data);
    assert!(old.is_none() || data.len() >= old_md::SUPERBLOCK_LEN);
    is_found || old.is_some() || content::firmware_raid(data).is_some()
}

/// How a set is made: what is written reads back.
pub fn set_record(data: &[u8]) -> bool {
    let record = match SetRecord::parse(data) {
        Ok(record) => record,
        Err(error) => return !showable(&error),
    };
    assert!(data.len() <= SetRecord::MAX_SIZE);
    let file = record.to_file();
    assert!(file.len() > SetRecord::MAX_SIZE || SetRecord::parse(file.as_bytes()) == Ok(record));
    true
}

/// EnvID, SnapshotEnvVersion: one number, and the directory that it names.
pub fn env_version(data: &[u8]) -> bool {
    if let Some(version) = std::str::from_utf8(data).ok().and_then(EnvVersion::from_dir_name) {
        assert_eq!(version.dir_name().as_bytes(), data, "two names of one directory");
    }
    let version = match EnvVersion::from_file(data) {
        Ok(version) => version,
        Err(error) => return !showable(&error),
    };
    assert!((1..=EnvVersion::MAX).contains(&version.number()));
    assert!(data == version.to_file().as_bytes() || data == version.number().to_string().as_bytes());
    assert_eq!(EnvVersion::from_file(version.to_file().as_bytes()), Ok(version));
    assert_eq!(EnvVersion::from_dir_name(&version.dir_name()), Some(version));
    assert_eq!(version.newer().map_or(Some(version), EnvVersion::older), Some(version));
    true
}

/// Cluster: a name that can stand in any file, path and command.
pub fn cluster(data: &[u8]) -> bool {
    let id = match ClusterId::from_file(data) {
        Ok(id) => id,
        Err(error) => return !showable(&error),
    };
    let text = id.to_string();
    assert!((1..=63).contains(&text.len()) && !text.starts_with('-'));
    assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{text:?}");
    assert!(data == id.to_file().as_bytes() || data == text.as_bytes());
    assert_eq!(ClusterId::from_file(id.to_file().as_bytes()), Ok(id));
    true
}

/// A path's text form, and its bytes: never out of the tree, and the same again from its text.
pub fn tree_path(data: &[u8]) -> bool {
    assert_eq!(tree_path::unescape(&tree_path::escape(data)).as_deref(), Some(data), "escaped and back");
    let from_text = std::str::from_utf8(data).ok().map(TreePath::parse);
    if let Some(Ok(path)) = &from_text {
        assert!(data.iter().all(|b| !b.is_ascii_control()), "a control character stands in {path} as it is");
    }
    [Some(TreePath::new(data)), from_text].into_iter().flatten().fold(false, |parsed, result| match result {
        Ok(path) => {
            stays_inside(&path);
            true
        }
        Err(error) => showable(&error) && parsed,
    })
}

/// What holding a [`TreePath`] proves.
fn stays_inside(path: &TreePath) {
    let bytes = path.as_path().as_os_str().as_encoded_bytes();
    assert!(bytes.len() <= TreePath::MAX_LEN && bytes.first() == Some(&b'/') && bytes.last() != Some(&b'/'));
    assert!(!bytes.contains(&0) && !bytes.contains(&b'\n'));
    let components = bytes[1..].split(|b| *b == b'/').collect::<Vec<_>>();
    assert!((1..=TreePath::MAX_DEPTH).contains(&components.len()));
    for component in &components {
        assert!((1..=255).contains(&component.len()) && *component != b"." && *component != b"..", "{path}");
    }
    assert!(path.relative().components().all(|c| matches!(c, Component::Normal(_))), "{path} climbs");
    assert_eq!(path.relative().components().count(), components.len(), "{path} is not canonical");

    let text = path.to_string();
    assert!(visible(&text), "{text:?} hides a character");
    assert_eq!(TreePath::parse(&text).as_ref(), Ok(path));
    assert!(path.is_within(path));
    match path.parent() {
        Some(parent) => {
            assert!(path.is_within(&parent) && !parent.is_within(path));
            assert_eq!(parent.join(path.name()).as_ref(), Ok(path));
        }
        None => assert_eq!(components.len(), 1),
    }
    for name in ["..", ".", "", "a/b"] {
        assert!(path.join(name.as_ref()).is_err(), "{path} joined with {name:?}");
    }
}

/// No message of an error moves the cursor of a console, reorders its line or fills its screen.
fn showable(error: &(impl Error + 'static)) -> bool {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        assert!(visible(&text), "{text:?} hides a character");
        // A path with all its bytes escaped is the longest that an error shows.
        assert!(text.len() <= 4 * TreePath::MAX_LEN + 200, "a message of {} bytes", text.len());
        cause = error.source();
    }
    true
}

/// Whether what is shown is what is there: no control character, none that turns the direction of writing or has no width.
fn visible(text: &str) -> bool {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    !text.chars().any(hidden)
}

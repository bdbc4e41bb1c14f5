//! `atlas-convert check`: the round trip of every Snapshot at hand, in memory, and what is lost meanwhile.

use crate::{Converter, Direction, command, convert_tree, program::Programs, residue::Residue, snapshot, tree::Tree};
use anyhow::Context;
use atlas_cli::{Exit, Hint, print, print_json};
use atlas_host::tree::Dir;
use atlas_model::{EnvVersion, Role};
use std::{collections::BTreeMap, path::Path};

/// Where the Snapshots are, below the root directory.
const SID_DATA: &str = "unbound/SID_DATA";
/// The most lines of a file that are shown as lost.
const MAX_LINES: usize = 20;

/// One Snapshot, converted one way and back.
#[derive(Debug, serde::Serialize)]
struct Checked {
    role: Role,
    from: EnvVersion,
    to: EnvVersion,
    round_trip: bool,
    /// Files and lists of which `to` cannot express something; with the lines, where everybody may read the file.
    lost: BTreeMap<String, Vec<String>>,
    /// What was kept for `to` and no longer fits.
    left_out: Vec<String>,
    error: Option<String>,
}

pub(crate) fn run(root: &Path, json: bool) -> anyhow::Result<Exit> {
    let converters = command::converters(root)?;
    let sid = Dir::open_root(root.join(SID_DATA))
        .context("open the Sync and Identity Data")
        .hint("mount the Unbound disks, or name the server's tree with --root")?;
    let scratch = tempfile::tempdir().context("make a directory for programs of parts")?;
    let programs = Programs::below(scratch.path(), &command::own_path());
    let mut checked = Vec::new();
    for name in sid.names(1000)? {
        let Some(role) = name.to_str().and_then(|name| name.parse::<Role>().ok()) else { continue };
        let role_dir = sid.dir(&name)?;
        for name in role_dir.names(EnvVersion::MAX as usize)? {
            let Some(version) = name.to_str().and_then(EnvVersion::from_dir_name) else { continue };
            let snapshot = role_dir.dir(&name)?;
            if snapshot.stat("Manifest".as_ref())?.is_some() {
                checked.extend(ways(&converters, version).map(|way| check(&snapshot, role, version, way, &programs)));
            }
        }
    }
    let all_well = checked.iter().all(|one| one.round_trip);
    if json {
        print_json(&serde_json::json!({ "format": 1, "checked": checked }))?;
    } else {
        print(tell(&checked))?;
    }
    Ok(if all_well { Exit::Done } else { Exit::No })
}

/// The converters that a Snapshot of this version can go through, with the way.
fn ways(converters: &[Converter], version: EnvVersion) -> impl Iterator<Item = (&Converter, Direction)> {
    converters.iter().filter_map(move |converter| match converter.newer {
        newer if newer == version => Some((converter, Direction::Older)),
        newer if newer.older() == Some(version) => Some((converter, Direction::Newer)),
        _ => None,
    })
}

fn check(
    snapshot: &Dir,
    role: Role,
    from: EnvVersion,
    (converter, direction): (&Converter, Direction),
    programs: &Programs,
) -> Checked {
    let to = match direction {
        Direction::Newer => Some(converter.newer),
        Direction::Older => converter.newer.older(),
    };
    let mut one = Checked {
        role,
        from,
        to: to.unwrap_or(from),
        round_trip: true,
        lost: BTreeMap::new(),
        left_out: vec![],
        error: None,
    };
    if let Err(error) = both_sets(snapshot, converter, direction, programs, &mut one) {
        one.round_trip = false;
        one.error = Some(format!("{error:#}"));
    }
    one
}

fn both_sets(
    snapshot: &Dir,
    converter: &Converter,
    direction: Direction,
    programs: &Programs,
    one: &mut Checked,
) -> anyhow::Result<()> {
    let manifest = snapshot::manifest(snapshot)?;
    for (set, name) in snapshot::SETS {
        let tree = snapshot::read(snapshot, &manifest, set)?;
        let kept = snapshot::residue(snapshot, name, one.to)?;
        let (_, residue, left_out) = convert_tree(&converter.parts, &tree, &kept, direction, programs)?;
        one.lost.extend(residue.what().into_iter().map(|what| (what, vec![])));
        one.lost.extend(public_lines(&residue, &tree));
        one.left_out.extend(left_out);
    }
    Ok(())
}

/// The lines that would be lost, of files that everybody may read: the others may hold secrets.
fn public_lines(residue: &Residue, tree: &Tree) -> Vec<(String, Vec<String>)> {
    let is_public = |path: &atlas_model::TreePath| {
        tree.objects.get(path).and_then(|object| object.kind.meta()).is_some_and(|meta| meta.mode & 0o004 != 0)
    };
    let diffs = residue.diffs().filter(|(path, _)| is_public(path));
    let lines = |diff: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(diff);
        let added = text.lines().skip(2).filter_map(|line| line.strip_prefix('+'));
        added
            .take(MAX_LINES)
            .map(|line| line.chars().take(200).collect::<String>().escape_debug().to_string())
            .collect()
    };
    diffs.map(|(path, diff)| (path.to_string(), lines(diff))).collect()
}

fn tell(checked: &[Checked]) -> String {
    let mut text = String::new();
    for one in checked {
        let Checked { role, from, to, round_trip, lost, left_out, error } = one;
        let how = match (round_trip, lost.len()) {
            (false, _) => "does not convert".to_owned(),
            (true, 0) => "there and back the same bytes, and nothing is lost meanwhile".to_owned(),
            (true, count) => format!("there and back the same bytes; {to} cannot express all of {count}:"),
        };
        text.push_str(&format!("{role} {from} → {to}: {how}\n"));
        error.iter().for_each(|error| text.push_str(&format!("  {error}\n")));
        for (path, lines) in lost {
            text.push_str(&format!("  {path}\n"));
            lines.iter().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        left_out.iter().for_each(|path| text.push_str(&format!("  {path}: what was kept no longer fits everywhere\n")));
    }
    if text.is_empty() {
        "There is no Snapshot that a converter of this server could convert.\n".to_owned()
    } else {
        text
    }
}

//! SetUp on PRI, before each Snapshot: what services there are, their test data, and what has to be synchronised for both [426-433].
//!
//! ```text
//!  VerifyServiceN setup ─► Found ─┬─ place:     test data, written where the service's own configuration says
//!                                 ├─ paths:     SID_DATA/PRI/EnvN/SyncFilePathsSvcN (configuration and test data)
//!                                 └─ instances: /etc/atlas/verifier/Services.json
//!  SID_DATA/Verifier/PRI/Placed.json            what was placed, so that what is not needed any more can be removed
//! ```
//!
//! Invariants: only files whose name is [test data's](atlas_model::verify::is_test_data) are written, and never over one that somebody else put
//! there; only what was placed and is still as it was placed is removed; a directory is never made in client data; no path is followed
//! through a link that another user could have put there (every directory is held, and a link in the way is an error).

mod missed;
mod names;
mod unexercised;

use crate::{
    catalogue::{self, OWN},
    control::{Identity, beside},
    exchange::{DIRECTORY, SECRET, Secret},
    settings::SETTINGS,
};
use anyhow::Context;
use atlas_cli::in_one_line;
use atlas_host::{durable, tree::Dir};
use atlas_model::{
    Digest, PathList, Role, TreePath, reserved,
    verify::{Found, FoundService, Services, TestData, is_test_data},
};
use atlas_sid::create::adopt_list;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ffi::OsStr, path::Path};

/// The most bytes of one file of test data.
const MAX_TEST_DATA: usize = 64 << 10;
/// How long a path whose test data is gone stays listed, so that it goes from the secondaries, too: in SetUps, one per cycle.
const LINGER: u32 = 300;

/// What was placed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Placed {
    format: u32,
    files: BTreeMap<String, File>,
}

/// One file of test data.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct File {
    /// Of what was written.
    digest: String,
    /// For which service.
    service: String,
    /// How many SetUps have not needed it any more; 0 while it is needed.
    #[serde(default)]
    gone: u32,
}

/// What SetUp did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The format: 1.
    pub format: u32,
    /// What is known now.
    pub services: Services,
    /// Test data that was written.
    pub placed: Vec<String>,
    /// Test data that was removed.
    pub removed: Vec<String>,
}

/// Runs SetUp; on a server that is not PRI there is nothing to do: `None` [430(1)].
///
/// # Errors
/// Where nothing could be done at all. What only one service lacks is in the report, and reported by the next verify.
pub fn run(root: &Path) -> anyhow::Result<Option<Report>> {
    let identity = Identity::read(root)?;
    if identity.config.role() != Role::Pri {
        return Ok(None);
    }
    let tree = Dir::open_root(root)?;
    let dir = own_directory(&tree)?;
    let (plugins, _) = catalogue::plugins(root, &beside("VerifyService"));
    let (mut found, failed) = catalogue::find_here(root, &plugins);
    names::settle(root, &identity.config, &mut found);
    let last = crate::control::services(root).unwrap_or_default();
    missed::keep(&last, &mut found);
    unexercised::note(root, &mut found);
    let mut report = Report { format: 1, services: Services { format: 1, ..Services::default() }, ..Report::default() };
    let store = identity.sid.dir();
    store.make_dir("Verifier", 0o700)?;
    let store = store.dir("Verifier")?;
    store.make_dir("PRI", 0o700)?;
    let store = store.dir("PRI")?;
    let mut placed = read_placed(&store)?;
    placed.files.values_mut().filter(|file| !failed.contains_key(&file.service)).for_each(|file| file.gone += 1);
    let unmounted = crate::services::disk::unmounted(root);
    for (name, found) in &found {
        let mut problems = found.problems.clone();
        let lines = place_all(&tree, name, found, &unmounted, &mut placed, &mut report.placed, &mut problems);
        if let Err(error) = list(&identity, name, found, lines, &mut problems) {
            problems.push(in_one_line(&error));
        }
        report.services.services.insert(
            name.clone(),
            FoundService { instances: found.instances.clone(), problems, notes: found.notes.clone() },
        );
    }
    remove_gone(&tree, &mut placed, &mut report.removed);
    // One whose SetUp failed keeps what it had, and says so.
    for (name, why) in failed {
        let mut kept = last.services.get(&name).cloned().unwrap_or_default();
        kept.problems = vec![format!("SetUp failed: {why}")];
        report.services.services.insert(name, kept);
    }
    durable::write_if_changed(&store, OsStr::new("Placed.json"), &serde_json::to_vec_pretty(&placed)?, 0o600)?;
    durable::write_if_changed(&dir, OsStr::new("Services.json"), &serde_json::to_vec_pretty(&report.services)?, 0o644)?;
    list_own(&identity)?;
    Ok(Some(report))
}

/// The test data that was placed and is gone, where its directory is there: a site was put there anew. None on a server that is not PRI.
pub fn gone(root: &Path) -> anyhow::Result<Vec<String>> {
    let identity = Identity::read(root)?;
    let store = identity.sid.dir().dir("Verifier/PRI");
    let (Role::Pri, Ok(store)) = (identity.config.role(), store) else { return Ok(vec![]) };
    let is_gone = |path: &String| {
        let path = root.join(path.trim_start_matches('/'));
        path.symlink_metadata().is_err() && path.parent().is_some_and(Path::is_dir)
    };
    let needed = read_placed(&store)?.files.into_iter().filter(|(_, file)| file.gone == 0).map(|(path, _)| path);
    Ok(needed.filter(is_gone).collect())
}

/// `/etc/atlas/verifier` with its secret.
fn own_directory(tree: &Dir) -> anyhow::Result<Dir> {
    let dir = tree.make_dirs(DIRECTORY).context("make the Verifier's directory")?;
    if dir.stat(OsStr::new(SECRET))?.is_none() {
        durable::write(&dir, OsStr::new(SECRET), Secret::make()?.as_bytes(), 0o600)
            .context("make the Verifiers' secret")?;
    }
    Ok(dir)
}

fn read_placed(store: &Dir) -> anyhow::Result<Placed> {
    let Some(content) = store.read_if_there("Placed.json", 8 << 20)? else {
        return Ok(Placed { format: 1, ..Placed::default() });
    };
    let placed: Placed = serde_json::from_slice(&content).context("read what test data was placed")?;
    anyhow::ensure!(placed.format == 1, "Placed.json is of format {}; this program reads format 1", placed.format);
    Ok(placed)
}

/// Places what one service needs; gives the lines for its list of paths.
fn place_all(
    tree: &Dir,
    service: &str,
    found: &Found,
    unmounted: &[String],
    placed: &mut Placed,
    written: &mut Vec<String>,
    problems: &mut Vec<String>,
) -> Vec<TreePath> {
    let mut lines = Vec::new();
    for data in &found.place {
        // Another service has the same directory: one file is for both.
        let is_there = |file: &File| file.service != service && file.gone == 0;
        if placed.files.get(&data.path).is_some_and(is_there) {
            lines.extend(TreePath::parse(&data.path).ok());
            continue;
        }
        let is_below = |at: &&String| Path::new(&data.path).starts_with(at.as_str());
        if let Some(at) = unmounted.iter().find(is_below) {
            problems.push(format!("test data is not placed at {}: {at} is in /etc/fstab and not mounted", data.path));
            placed.files.entry(data.path.clone()).and_modify(|file| file.gone = 0);
            lines.extend(TreePath::parse(&data.path).ok());
            continue;
        }
        match place(tree, data, placed.files.get(&data.path)) {
            Ok((path, new)) => {
                if new {
                    written.push(data.path.clone());
                }
                let digest = Digest::of(data.content.as_bytes()).to_string();
                placed.files.insert(data.path.clone(), File { digest, service: service.to_owned(), gone: 0 });
                lines.push(path);
            }
            Err(error) => problems.push(in_one_line(&error.context(format!("place test data at {}", data.path)))),
        }
    }
    let gone = placed.files.iter().filter(|(path, file)| {
        file.service == service && file.gone > 0 && !lines.iter().any(|line| line.to_string() == **path)
    });
    lines.extend(gone.filter_map(|(path, _)| TreePath::parse(path).ok()).collect::<Vec<_>>());
    lines
}

/// Writes one file of test data, unless it is there; says whether it wrote.
fn place(tree: &Dir, data: &TestData, before: Option<&File>) -> anyhow::Result<(TreePath, bool)> {
    let path = TreePath::parse(&data.path)?;
    anyhow::ensure!(
        is_test_data(&path),
        "it is not named as test data: its last or last but one name begins with .atlas-verify"
    );
    anyhow::ensure!(
        data.content.len() <= MAX_TEST_DATA,
        "it has {} bytes, more than {MAX_TEST_DATA}",
        data.content.len()
    );
    anyhow::ensure!(data.mode & !0o777 == 0, "its mode {:o} is more than permissions", data.mode);
    anyhow::ensure!(
        reserved::why(&path).is_none(),
        "it lies where nothing is synchronised: {}",
        reserved::why(&path).unwrap_or_default()
    );
    // The directory of our own may be made; the one that is the service's must be there.
    let own = path.parent().filter(is_own_directory);
    let dir = match own {
        Some(own) => {
            let (above, name) = tree.parent_of(&own).context("the directory is not there")?;
            above.make_dir(name, 0o755)?;
            above.dir(name)?
        }
        None => tree.parent_of(&path).context("the directory is not there")?.0,
    };
    let content = data.content.as_bytes();
    let there = dir.read_if_there(path.name(), MAX_TEST_DATA + 1)?;
    if there.as_deref() == Some(content) {
        return Ok((path, false));
    }
    if let Some(there) = &there {
        let was_ours = before.is_some_and(|before| before.digest == Digest::of(there).to_string());
        anyhow::ensure!(was_ours, "somebody else's file is there: remove it, or rename it");
    }
    durable::write(&dir, path.name(), content, data.mode)?;
    if let Some(owner) = &data.owner {
        let (user, group) = account(tree, owner).with_context(|| format!("there is no account '{owner}'"))?;
        std::os::unix::fs::fchown(dir.file(path.name())?, Some(user), Some(group))?;
    }
    Ok((path, true))
}

/// The numbers of an account, by the tree's own passwd: a static program has no name service.
fn account(tree: &Dir, name: &str) -> Option<(u32, u32)> {
    let passwd = String::from_utf8_lossy(&tree.read("etc/passwd", 4 << 20).ok()?).into_owned();
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.first() == Some(&name)).then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))?
    })
}

/// Whether it is a directory of ATLAS' own.
fn is_own_directory(path: &TreePath) -> bool {
    let name = path.name().as_encoded_bytes();
    name.strip_prefix(b".").unwrap_or(name).starts_with(b"atlas-verify")
}

/// Removes what no service needs any more and is as it was placed.
fn remove_gone(tree: &Dir, placed: &mut Placed, removed: &mut Vec<String>) {
    for (path, file) in placed.files.iter().filter(|(_, file)| file.gone > 0) {
        let remove = || -> anyhow::Result<bool> {
            let path = TreePath::parse(path)?;
            let (dir, name) = tree.parent_of(&path)?;
            let there = dir.read_if_there(name, MAX_TEST_DATA + 1)?;
            let is_ours = there.is_some_and(|there| Digest::of(&there).to_string() == file.digest);
            Ok(is_ours && dir.remove(name)?)
        };
        // Where its directory is gone, it is.
        if remove().unwrap_or(false) {
            removed.push(path.clone());
        }
    }
    placed.files.retain(|_, file| file.gone <= LINGER);
}

/// Writes SyncFilePathsSvcN: configuration and test data of one service.
fn list(
    identity: &Identity,
    service: &str,
    found: &Found,
    data: Vec<TreePath>,
    problems: &mut Vec<String>,
) -> anyhow::Result<()> {
    let mut paths = data;
    for text in &found.paths {
        match TreePath::parse(text) {
            Ok(path) if reserved::why(&path).is_none() => paths.push(path),
            Ok(path) => {
                problems.push(format!("{path} is not synchronised: {}", reserved::why(&path).unwrap_or_default()));
            }
            Err(error) => {
                problems.push(in_one_line(&anyhow::Error::new(error).context(format!("synchronise '{text}'"))));
            }
        }
    }
    let name = format!("SyncFilePathsSvc{service}");
    let list: PathList = paths.into_iter().collect();
    adopt_list(&identity.sid, Role::Pri, identity.env_version, &name, &list)
        .with_context(|| format!("write {name}"))?;
    Ok(())
}

/// What the Verifier itself needs on every server.
fn list_own(identity: &Identity) -> anyhow::Result<()> {
    let paths = [DIRECTORY, SETTINGS, OWN, "etc/atlas/InstalledServices"];
    let list: PathList = paths.iter().filter_map(|path| TreePath::parse(&format!("/{path}")).ok()).collect();
    adopt_list(&identity.sid, Role::Pri, identity.env_version, "SyncFilePathsSvcverifier", &list)?;
    Ok(())
}

#[cfg(test)]
mod tests;

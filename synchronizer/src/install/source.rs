//! What PRI's Snapshot brings to this server: its SyncFiles with this server's numbers, and the accounts merged.

use super::as_pri;
use anyhow::{Context, bail};
use atlas_cli::Hint;
use atlas_host::{
    net::replica::Replica,
    tree::{Dir, ObjectType},
};
use atlas_model::{
    Digest, EnvVersion, Owners, PathList, Role, TreePath,
    manifest::{Entry, FileSet, Kind, Meta},
    owners::Numbers,
};
use atlas_sid::{
    Found, SidData, Snapshot,
    accounts::{self, Files, Which},
    install::{Plan, Protected, Trust, Wanted},
    lines,
    snapshot::{self, env_versions, read_list},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// PRI's Snapshot for this server's EnvVersion.
pub(super) struct Source {
    /// The directory of the Role PRI, held open: what is installed and what is rehearsed come from the same one.
    pub(super) role_dir: Dir,
    snapshot: Snapshot,
    /// SyncFilePaths.
    pub(super) listed: PathList,
    /// What an installation never touches: both servers' identities.
    identity: PathList,
}

/// Its SyncFiles as they are to be on this server.
pub(super) struct Brought {
    /// Sorted by path.
    pub(super) entries: Vec<Entry>,
    /// How the directories above them are on PRI, with this server's numbers.
    ways: BTreeMap<TreePath, Meta>,
    made: BTreeMap<TreePath, Vec<u8>>,
    /// Where this server was looked at a moment ago: the paths that may have to be changed.
    differing: Option<BTreeSet<TreePath>>,
    /// What somebody may want to know.
    pub(super) warnings: Vec<String>,
    /// What needs somebody.
    pub(super) problems: Vec<String>,
}

impl Source {
    /// Finds it. Only a secondary installs, and only what is of its own EnvVersion [202-204].
    pub(super) fn find(sid: &SidData, own: Role, env_version: EnvVersion) -> anyhow::Result<Source> {
        if own.is_primary() {
            return Err(anyhow::anyhow!("this server is PRI; its configuration is what the others install"))
                .hint("run it on a secondary");
        }
        let none = || anyhow::anyhow!("no Snapshot of PRI was received yet");
        let hint = "wait for the next cycle, or run 'ssSync cycle' on PRI";
        let role_dir = sid.role_dir(Role::Pri)?.ok_or_else(none).hint(hint)?;
        let own_dir = sid.role_dir(own)?;
        let own_identity = own_dir.map_or(Ok(PathList::default()), |dir| identity_of(&dir, env_version))?;
        Source::open(role_dir, env_version, &own_identity)
    }

    /// Opens it in the directory of the Role PRI.
    pub(super) fn open(role_dir: Dir, env_version: EnvVersion, own_identity: &PathList) -> anyhow::Result<Source> {
        let snapshot = match snapshot::find(&role_dir, Role::Pri, env_version)? {
            Found::Exact(snapshot) => snapshot,
            Found::Older(older) => {
                bail!("PRI's Snapshot is of {} and was not converted to {env_version} yet", older.manifest.env_version)
            }
            Found::FromScratch => bail!("PRI has made no Snapshot yet"),
        };
        let listed = read_list(&snapshot.dir, FileSet::Sync.list_name())?.unwrap_or_default();
        if let Some(stray) = snapshot.manifest.of_set(FileSet::Sync).find(|entry| !listed.covers(&entry.path)) {
            bail!("PRI's Snapshot is damaged: its Manifest has {}, which SyncFilePaths does not list", stray.path);
        }
        let identity = own_identity.paths().iter().chain(snapshot.ident_paths.paths()).cloned().collect();
        Ok(Source { role_dir, snapshot, listed, identity })
    }

    /// The paths that no installation touches.
    pub(super) fn identity(&self) -> &PathList {
        &self.identity
    }

    /// PRI's network.
    pub(super) fn network(&self) -> Replica {
        as_pri::network_of(&self.snapshot)
    }

    /// What is to be on the server whose tree is `root`. `seen`: this server's own Snapshot, where that was taken a moment ago.
    pub(super) fn bring(&self, root: &Dir, seen: Option<&Dir>) -> anyhow::Result<Brought> {
        let entries = self.snapshot.manifest.of_set(FileSet::Sync).cloned().collect();
        let differing = seen.map(|own| lines::differing(&self.snapshot.dir, own)).transpose()?.flatten();
        let ways = self.snapshot.manifest.ways().iter().map(|(path, way)| (path.clone(), way.meta())).collect();
        let (made, warnings, problems) = (BTreeMap::new(), vec![], vec![]);
        let mut brought = Brought { entries, ways, made, differing, warnings, problems };
        let here = accounts::read(root).context("read this server's accounts")?;
        let merged = self.merge_accounts(&here, &mut brought)?;
        let content = |which: Which| merged.get(&which).or(here.get(&which)).map_or(&[][..], Vec::as_slice);
        let owners = accounts::owners(content(Which::Passwd), content(Which::Group));
        give_owners(self.snapshot.manifest.owners(), &owners, &mut brought);
        compare_ways(root, &mut brought)?;
        settle_accounts(root, &here, &merged, &mut brought)?;
        Ok(brought)
    }

    fn merge_accounts(&self, here: &Files, brought: &mut Brought) -> anyhow::Result<Files> {
        let mut pri = Files::new();
        let mut lost = Vec::new();
        for which in Which::ALL {
            let Some(entry) = brought.index_of(which).map(|index| &brought.entries[index]) else { continue };
            match &entry.kind {
                Kind::File { sha256, .. } if !self.identity.covers(&entry.path) => {
                    let files =
                        self.snapshot.files(FileSet::Sync)?.context("PRI's Snapshot is damaged: it has no files")?;
                    let content = files.read(entry.path.relative(), Which::MAX_SIZE)?;
                    if Digest::of(&content) != *sha256 {
                        bail!("PRI's Snapshot is damaged: {} is not what its Manifest says", entry.path);
                    }
                    pri.insert(which, content);
                }
                Kind::File { .. } => {}
                _ => lost.push(entry.path.clone()),
            }
        }
        for path in lost {
            brought.problems.push(format!("{path} is no file on PRI; this server's accounts were left as they are"));
            brought.entries.retain(|entry| entry.path != path);
        }
        let merged = accounts::merge(&pri, here)
            .context("merge PRI's accounts into this server's")
            .hint("mend that file; until then nothing is installed")?;
        brought.warnings.extend(merged.warnings);
        brought.problems.extend(merged.problems);
        Ok(merged.files)
    }
}

impl Brought {
    /// Where the entry of a file of accounts stands.
    fn index_of(&self, which: Which) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.path.as_path().cmp(Path::new(which.path()))).ok()
    }

    /// Compares with the tree. What lies in `held` is left as it is.
    pub(super) fn plan(
        &self,
        source: &Source,
        root: &Dir,
        held: &[TreePath],
        trust: Trust,
    ) -> anyhow::Result<Plan<'_>> {
        let paths = source.identity.paths().iter().chain(held).cloned().collect();
        let wanted = Wanted {
            entries: &self.entries,
            files: source.snapshot.files(FileSet::Sync)?,
            ways: self.ways.clone(),
            made: self.made.clone(),
            protected: Protected { paths, reserved: true, no_identity: false },
            trust,
            differing: self.differing.clone().filter(|_| trust == Trust::Stat),
            removes_strangers: true,
        };
        let mut plan = Plan::of(root, wanted)
            .context("compare PRI's Snapshot with this server")
            .hint("the next cycle sends the Snapshot again; a link on the way to a path must be removed by hand")?;
        // What is here already needs no copy, until it is lost: so a copy that went bad is to be found before.
        if trust == Trust::Bytes {
            plan.check_spare_copies().context("check PRI's Snapshot").hint("the next cycle sends it again")?;
        }
        plan.put_first(|path| self.made.contains_key(path));
        Ok(plan)
    }
}

/// The IdentFilePaths of a Role: those of the newest Environment that is not newer than the server's.
fn identity_of(role_dir: &Dir, env_version: EnvVersion) -> anyhow::Result<PathList> {
    for version in env_versions(role_dir)?.into_iter().rev().filter(|version| *version <= env_version) {
        if let Some(list) = read_list(&role_dir.dir(version.dir_name())?, FileSet::Ident.list_name())? {
            return Ok(list);
        }
    }
    Ok(PathList::default())
}

fn give_owners(theirs: &Owners, here: &Owners, brought: &mut Brought) {
    let numbers = Numbers::between(theirs, here);
    // One whose owner is nobody here is root's, and lets no more through than before.
    for meta in brought.ways.values_mut() {
        let _ = numbers.apply(meta);
    }
    for entry in &mut brought.entries {
        let Entry { path, kind, .. } = entry;
        let (Kind::File { meta, .. } | Kind::Dir { meta } | Kind::Link { meta, .. }) = kind else { continue };
        let (uid, gid, before) = (meta.uid, meta.gid, meta.clone());
        let known = numbers.apply(meta);
        if *meta != before
            && let Some(differing) = &mut brought.differing
        {
            differing.insert(path.clone());
        }
        if !known {
            let name =
                |names: &BTreeMap<u32, String>, number: u32| names.get(&number).cloned().unwrap_or(number.to_string());
            let (user, group) = (name(&theirs.users, uid), name(&theirs.groups, gid));
            brought.problems.push(format!(
                "{path} belongs to {user}:{group} on PRI, or has an access list with an account, that this server does not have; it belongs to root here: add the account"
            ));
        }
    }
}

/// Tells of directories that are here already, and let everybody through where PRI's do not: what PRI keeps in them relies on that.
fn compare_ways(root: &Dir, brought: &mut Brought) -> anyhow::Result<()> {
    for (path, meta) in &brought.ways {
        let Ok((parent, name)) = root.parent_of(path) else { continue };
        let Some(stat) = parent.stat(name)? else { continue };
        let is_open = ObjectType::of(&stat) == ObjectType::Dir && stat.st_mode & 0o007 & !meta.mode != 0;
        if is_open {
            brought.problems.push(format!(
                "the directory {path} lets everybody through here (mode {:03o}), and not on PRI ({:03o}), where something in it is \
                 configuration: chmod {:03o} {path}",
                stat.st_mode & 0o7777,
                meta.mode,
                meta.mode
            ));
        }
    }
    Ok(())
}

/// Puts the merged files in the place of PRI's. One that is here as it must be keeps its time, so that nothing is changed.
fn settle_accounts(root: &Dir, here: &Files, merged: &Files, brought: &mut Brought) -> anyhow::Result<()> {
    for (which, content) in merged {
        let Some(entry) = brought.index_of(*which).map(|index| &mut brought.entries[index]) else { continue };
        let Kind::File { size, sha256, meta } = &mut entry.kind else { continue };
        (*size, *sha256) = (content.len() as u64, Digest::of(content));
        if here.get(which) == Some(content) {
            let (parent, name) = root.parent_of(&entry.path)?;
            if let Some(stat) = parent.stat(name)? {
                meta.mtime = stat.st_mtime;
                meta.mtime_ns = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
            }
        }
        if let Some(differing) = &mut brought.differing {
            differing.insert(entry.path.clone());
        }
        brought.made.insert(entry.path.clone(), content.clone());
    }
    Ok(())
}

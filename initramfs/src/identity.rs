//! From (Role, EnvVersion) to an identity that lies ready beside the files that it replaces.

use crate::{Places, boot::Clock, refuse};
use atlas_host::{
    mount::{self, Access},
    tree::Dir,
};
use atlas_model::{
    EnvVersion, MasterConfig, Refusal, TreePath,
    manifest::FileSet,
    worn::{RoleIdentity, Worn},
};
use atlas_sid::{
    BoundData, Found, SidData, SidError, Snapshot, bound,
    convert::{self, Converters},
    install::{Plan, Staged},
    on_root, snapshot,
    transaction::{Transaction, copy_tree},
    worn,
};
use std::{ffi::OsStr, path::PathBuf};

/// What the conversion of a Snapshot may take of memory, in bytes.
const CONVERSION_LIMIT: u64 = 256 << 20;

/// A root file system that may be written to. Dropped, it is as it was.
#[derive(Debug)]
pub struct WritableRoot {
    path: PathBuf,
    was_read_only: bool,
}

impl WritableRoot {
    /// Makes it writable.
    pub fn open(places: &Places) -> Result<WritableRoot, Refusal> {
        // Where it is mounted now is the initramfs' own business.
        let named = |error: atlas_host::FileError| atlas_host::FileError { path: "/".into(), ..error };
        let failed = |error: atlas_host::FileError| refuse::root_not_writable(&named(error));
        let was_read_only = mount::is_read_only(&places.root).map_err(failed)?;
        if was_read_only {
            mount::change_access(&places.root, Access::ReadWrite).map_err(failed)?;
        }
        Ok(WritableRoot { path: places.root.clone(), was_read_only })
    }

    /// Leaves it writable, which the OS makes it anyway, a second later.
    fn keep(&mut self) {
        self.was_read_only = false;
    }
}

impl Drop for WritableRoot {
    fn drop(&mut self) {
        if self.was_read_only {
            // The OS checks and remounts its root itself; writable is only unexpected, not wrong.
            let _ = mount::change_access(&self.path, Access::ReadOnly);
        }
    }
}

/// A Snapshot that was converted in memory, and has to be published.
#[derive(Debug)]
pub struct Converted {
    /// The version that it was made from.
    pub from: EnvVersion,
    memory: PathBuf,
}

impl Drop for Converted {
    fn drop(&mut self) {
        let _ = mount::unmount(&self.memory);
    }
}

/// The identity of the server: found, converted, and staged on the root file system.
#[derive(Debug)]
pub struct Identity<'r> {
    /// Whether there is none yet: the OS keeps its own [272].
    pub from_scratch: bool,
    /// The conversion to publish, where there was one.
    pub converted: Option<Converted>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
    /// What the root file system lacks of it: one line per path.
    pub changes: Vec<String>,
    root: &'r Dir,
    /// Whose identity was in place.
    was: Worn,
    /// Whose is to be; `None`: it stays.
    wanted: Option<RoleIdentity>,
    staged: Option<Staged<'r>>,
    /// Where a boot that was cut off left something.
    littered: Vec<Dir>,
    /// Kept until the identity is committed; dropped after `staged`.
    writable: Option<WritableRoot>,
}

/// The identity that the set with this file system gives to a server.
fn of_set(config: &MasterConfig, file_system: &str) -> RoleIdentity {
    let (role, cluster) = (config.role(), config.cluster().clone());
    RoleIdentity { role, cluster, set: Some(file_system.to_owned()), paths: vec![] }
}

/// Whether a set without a Snapshot may leave the server the identity that is in place.
fn from_scratch(worn: &Worn, wanted: &RoleIdentity) -> Result<(), Refusal> {
    worn.foreign_to(wanted).map_or(Ok(()), |foreign| Err(refuse::foreign_identity(wanted, &foreign)))
}

/// What is in place of another identity, and stays, because the one that comes does not list it.
fn left_of_another(root: &Dir, worn: &Worn, snapshot: &Snapshot) -> Vec<TreePath> {
    let there =
        |path: &TreePath| root.parent_of(path).ok().and_then(|(dir, name)| dir.stat(name).ok().flatten()).is_some();
    worn.left_by(&snapshot.ident_paths).into_iter().filter(|path| there(path)).cloned().collect()
}

fn not_recorded(why: &str) -> String {
    format!("whose identity this server wears could not be noted in /opt/atlas/Identity: {why}")
}

/// What is said of it.
fn warn_of_left(left: &[TreePath]) -> Vec<String> {
    let warn = |path| {
        format!("{path} of the identity that was here before stays: IdentFilePaths of this role does not list it")
    };
    left.iter().map(warn).collect()
}

/// How many paths are named that a Snapshot has and that stay as they are.
const MAX_KEPT: usize = 20;

/// What of the Snapshot is not installed, because it belongs to one machine: a list of before that was refused named it.
fn warn_of_kept(kept: &[(TreePath, &'static str)]) -> Vec<String> {
    let is_below_another = |path: &TreePath| kept.iter().any(|(other, _)| other != path && path.is_within(other));
    let outermost = kept.iter().filter(|(path, _)| !is_below_another(path)).take(MAX_KEPT);
    let warn = |(path, why): &(TreePath, &str)| {
        format!("{path} of the Snapshot was not installed: {why}; take it off IdentFilePaths, and run 'ssSync create'")
    };
    outermost.map(warn).collect()
}

/// What is done with an identity once it is decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It is made ready beside the files that it replaces.
    Stage,
    /// Nothing: somebody only wants to know.
    Look,
}

/// Whether what a boot would stage has room on the root file system; only asked, nothing is written.
fn has_room(places: &Places, plan: &Plan<'_>) -> Result<(), Refusal> {
    let full = |source: std::io::ErrorKind| {
        let error =
            atlas_host::FileError { action: "make ready the identity in", path: "/".into(), source: source.into() };
        Err(refuse::root_not_writable(&error))
    };
    let room = mount::room(&places.root).map_err(|error| refuse::root_not_writable(&error))?;
    let (objects, blocks) = plan.needs(room.block);
    match room {
        _ if objects == 0 => Ok(()),
        room if room.is_write_protected => full(std::io::ErrorKind::ReadOnlyFilesystem),
        // A file system that counts no inodes says 0 of 0.
        room if blocks > room.blocks || (room.counts_inodes && objects > room.inodes) => {
            full(std::io::ErrorKind::StorageFull)
        }
        _ => Ok(()),
    }
}

/// What is read from the Unbound set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disks<'d> {
    pub(crate) sid: &'d SidData,
    pub(crate) config: &'d MasterConfig,
    /// The UUID of the file system.
    pub(crate) file_system: &'d str,
}

impl<'r> Identity<'r> {
    /// Finds, converts and stages; writes only temporary files to the root file system, and nothing to the Unbound disks.
    pub(crate) fn prepare(
        places: &Places,
        root: &'r Dir,
        disks: &Disks<'_>,
        bound: &BoundData,
        how: How,
        clock: &mut Clock,
    ) -> Result<Identity<'r>, Refusal> {
        let Disks { sid, config, file_system } = *disks;
        let of_sid = |error: SidError| refuse::of_sid(&error);
        let (role, env) = (config.role(), bound.env_id);
        let found = clock.step("find its Snapshot", || {
            let why = || format!("there is no directory {role}");
            let role_dir = sid.role_dir(role)?;
            let role_dir = role_dir.ok_or_else(|| SidError::NoSnapshot { role, env_version: env, why: why() })?;
            snapshot::find_identity(&role_dir, role, env)
        });
        let (was, doubt) = worn::read_or_unknown(root).map_err(of_sid)?;
        let mut wanted = of_set(config, file_system);
        let mut identity = Identity {
            from_scratch: false,
            converted: None,
            warnings: doubt.into_iter().collect(),
            changes: vec![],
            root,
            was,
            wanted: None,
            staged: None,
            littered: vec![],
            writable: None,
        };
        let (snapshot, converted) = match found.map_err(of_sid)? {
            Found::FromScratch => {
                from_scratch(&identity.was, &wanted)?;
                return Ok(Identity { from_scratch: true, ..identity });
            }
            Found::Exact(snapshot) => (snapshot, None),
            Found::Older(old) => {
                let (snapshot, converted) =
                    clock.step("convert the Snapshot", || convert_up(places, root, &old, config, env))?;
                (snapshot, Some(converted))
            }
        };
        on_root::check(root, &snapshot.ident_paths).map_err(of_sid)?;
        let plan = clock.step("compare the identity", || Plan::make(root, &snapshot, FileSet::Ident));
        let plan = plan.map_err(of_sid)?;
        identity.warnings.extend(warn_of_kept(plan.left()));
        let left = left_of_another(root, &identity.was, &snapshot);
        identity.warnings.extend(warn_of_left(&left));
        wanted.paths = snapshot.ident_paths.paths().iter().cloned().chain(left).collect();
        identity.converted = converted;
        let is_recorded = identity.was == Worn::of(wanted.clone());
        identity.changes = plan.changes().iter().map(ToString::to_string).collect();
        // This server has no use for them now. Another one has, on the day of the failover.
        identity.warnings.extend(
            plan.check_spare_copies().err().map(|error| {
                format!("{error}; another server would refuse this Snapshot: 'ssSync create' makes it anew")
            }),
        );
        if how == How::Look {
            has_room(places, &plan)?;
            return Ok(identity);
        }
        identity.littered = worn::littered(root, &wanted.paths);
        if plan.changes().is_empty() && is_recorded {
            // Who this server is, is well: where its root cannot be written, that is said elsewhere.
            identity.writable =
                Some(&identity.littered).filter(|dirs| !dirs.is_empty()).and_then(|_| WritableRoot::open(places).ok());
            return Ok(identity);
        }
        identity.wanted = Some(wanted);
        if plan.changes().is_empty() {
            // Only the record of it is left to write. One that is behind says less than is so of nobody.
            match WritableRoot::open(places) {
                Ok(writable) => identity.writable = Some(writable),
                Err(refusal) => identity.warnings.push(not_recorded(&refusal.found.join(": "))),
            }
            return Ok(identity);
        }
        let (writable, staged) = clock.step("stage the identity", || {
            let writable = WritableRoot::open(places)?;
            let staged = plan.stage(root).map_err(|error| match &error {
                SidError::File(file) => refuse::root_not_writable(file),
                other => refuse::of_sid(other),
            })?;
            Ok::<_, Refusal>((writable, staged))
        })?;
        Ok(Identity { staged: Some(staged), writable: Some(writable), ..identity })
    }

    /// Publishes a converted Snapshot on the Unbound disk, which is open for writing now.
    pub fn publish(&self, sid: &SidData, config: &MasterConfig, env: EnvVersion) -> Result<(), SidError> {
        let Some(converted) = &self.converted else { return Ok(()) };
        let memory = Dir::open_root(&converted.memory)?;
        let transaction = Transaction::begin(sid, config.role())?;
        let fill = || -> Result<(), SidError> {
            transaction.keep(|version| version <= converted.from)?;
            let mut version = converted.from;
            while let Some(newer) = version.newer().filter(|newer| *newer <= env) {
                copy_tree(&memory, OsStr::new(&newer.dir_name()), transaction.dir())?;
                version = newer;
            }
            Ok(())
        };
        match fill() {
            Ok(()) => transaction.generation().and_then(|same| transaction.publish_as(env, same)),
            Err(error) => transaction.abandon().and(Err(error)),
        }
    }

    /// Installs: one exchange of names per object, and the record of whose identity it is. Gives a line per change. What was replaced stays
    /// until [`Identity::discard`].
    pub fn commit(&mut self, warnings: &mut Vec<String>) -> Result<Vec<String>, Refusal> {
        let Some(wanted) = self.wanted.take() else { return Ok(vec![]) };
        let worn = worn::wear(self.root, &self.was, wanted, self.staged.as_mut())
            .map_err(|error| refuse::root_not_writable(&error))?;
        warnings.extend(worn.not_recorded.map(|error| not_recorded(&error.to_string())));
        if let Some(root) = &mut self.writable {
            root.keep();
        }
        Ok(worn.changes.iter().map(ToString::to_string).collect())
    }

    /// Removes what lies beside the identity files: what was staged, or after a commit what was replaced, and what a boot that was cut off left.
    pub fn discard(self) {
        if let Some(staged) = &self.staged {
            staged.discard();
        }
        worn::clean(&self.littered);
    }
}

/// Converts a Snapshot step by step up to `env`, in memory that is mounted where the converters can see it.
fn convert_up(
    places: &Places,
    root: &Dir,
    old: &Snapshot,
    config: &MasterConfig,
    env: EnvVersion,
) -> Result<(Snapshot, Converted), Refusal> {
    let of_sid = |error: SidError| refuse::of_sid(&error);
    let of_file = |error: atlas_host::FileError| refuse::of_file("make room for the conversion in memory", &error);
    let memory = places.root.join(bound::ESD_DATA).join("work");
    mount::memory(&memory, CONVERSION_LIMIT).map_err(of_file)?;
    let converted = Converted { from: old.manifest.env_version, memory };
    let work = Dir::open_root(&converted.memory).map_err(of_file)?;
    // A converter may be a shell script, which wants /dev/null; the root file system's own /dev is still empty.
    let devices = mount::lend_devices(&places.root).map_err(of_file)?;
    let converters = Converters::of(root.shown());
    let (role, mut version) = (config.role(), converted.from);
    let mut source = old.dir.dir(".").map_err(of_file)?;
    while let Some(newer) = version.newer().filter(|newer| *newer <= env) {
        convert::convert(&converters, &source, &work, role, version, newer).map_err(of_sid)?;
        source = work.dir(newer.dir_name()).map_err(of_file)?;
        version = newer;
    }
    drop(devices);
    let snapshot = Snapshot::open(&work, role, env).map_err(of_sid)?;
    let snapshot = snapshot.ok_or_else(|| {
        refuse::of_sid(&SidError::NoSnapshot { role, env_version: env, why: "the conversion made none".into() })
    })?;
    Ok((snapshot, converted))
}

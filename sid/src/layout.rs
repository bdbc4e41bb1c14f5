//! Where things lie in the Sync and Identity Data, and what can be wrong with them.

use atlas_host::{
    FileError,
    lock::Lock,
    process::ProcessError,
    tree::{Dir, ObjectType},
};
use atlas_model::{
    EnvVersion, MasterConfig, Role, TreePath, env_version::BadEnvVersion, manifest::BadManifest,
    master_config::BadMasterConfig, path_list::BadPathList, reserved::Reserved, worn::BadWorn,
};
use std::{ffi::OsStr, path::PathBuf, time::Duration};

/// The directory on the Unbound file system.
pub const SID_DATA: &str = "SID_DATA";
/// Where the Unbound file system is mounted.
pub const UNBOUND_MOUNT: &str = "unbound";

/// The Sync and Identity Data, held open.
#[derive(Debug)]
pub struct SidData {
    dir: Dir,
}

/// What can be wrong with Sync and Identity Data, Bound Data, or a change of them.
#[derive(Debug, thiserror::Error)]
pub enum SidError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no MasterConfig.
    #[error("there is no {}", .0.display())]
    NoMasterConfig(PathBuf),
    /// MasterConfig does not say who this server is.
    #[error("{} is no valid MasterConfig", path.display())]
    MasterConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BadMasterConfig,
    },
    /// The Bound disk does not say to which cluster this server belongs.
    #[error("{} does not hold the name of a cluster, in one line and nothing else", path.display())]
    Cluster {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BadMasterConfig,
    },
    /// EnvID or SnapshotEnvVersion cannot be read.
    #[error("{} is no valid EnvVersion", path.display())]
    EnvVersion {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BadEnvVersion,
    },
    /// A path list breaks a rule.
    #[error("{} is no valid list of paths", path.display())]
    PathList {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BadPathList,
    },
    /// A list names what belongs to one machine.
    #[error("{} lists what it must not", path.display())]
    Reserved {
        /// The file.
        path: PathBuf,
        /// What, and why.
        #[source]
        source: Reserved,
    },
    /// A Manifest cannot be read.
    #[error("{} is no valid Manifest", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BadManifest,
    },
    /// A Snapshot is not what it has to be.
    #[error("the Snapshot {} is damaged: {why}", path.display())]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No Snapshot can serve this Environment.
    #[error("no Snapshot of {role} can serve {env_version}: {why}")]
    NoSnapshot {
        /// Whose.
        role: Role,
        /// For which Environment.
        env_version: EnvVersion,
        /// Why none can.
        why: String,
    },
    /// A path of a Snapshot leads through a link, or otherwise out of its tree.
    #[error("{path} leads out of the tree")]
    LeadsOut {
        /// The path.
        path: TreePath,
        /// The kernel's answer.
        #[source]
        source: FileError,
    },
    /// A path of the identity is not on the root file system, which alone is there early at boot.
    #[error("{path} is not on the root file system: {why}")]
    Elsewhere {
        /// The path.
        path: TreePath,
        /// Its mount point.
        why: String,
    },
    /// A converter is missing or failed.
    #[error("converting the Snapshot of {role} from {from} to {to} failed")]
    Conversion {
        /// Whose Snapshot.
        role: Role,
        /// From this version.
        from: EnvVersion,
        /// To this one.
        to: EnvVersion,
        /// What the converter said.
        #[source]
        source: ProcessError,
    },
    /// The record of whose identity is in place cannot be read.
    #[error("{} does not say whose identity this server wears", path.display())]
    Worn {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BadWorn,
    },
    /// A Snapshot would give another Role's identity to this one.
    #[error("this server wears {worn}: a Snapshot of {role} would give that to whoever boots its disks")]
    ForeignIdentity {
        /// Of which a Snapshot was to be made.
        role: Role,
        /// Whose identity is in place.
        worn: String,
        /// Whether there is a Snapshot of the Role, which a boot installs.
        has_snapshot: bool,
    },
    /// git could not read or write the history.
    #[error("the history {} cannot be used", path.display())]
    History {
        /// The repository.
        path: PathBuf,
        /// What git said.
        #[source]
        source: ProcessError,
    },
    /// What a partner sent breaks a rule.
    #[error("what came as the Snapshots of {role} is refused: {why}")]
    Received {
        /// Whose Snapshots.
        role: Role,
        /// Which rule.
        why: String,
    },
    /// What is remembered of a partner cannot be read.
    #[error("{} says nothing of the last cycle: {why}", path.display())]
    Bond {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file went on changing while it was copied.
    #[error("{0} changes while it is copied, also at the last of several attempts")]
    Restless(TreePath),
}

impl SidData {
    /// Opens the Sync and Identity Data below the mounted Unbound file system.
    pub fn open(unbound: &Dir) -> Result<SidData, SidError> {
        Ok(SidData { dir: unbound.dir(SID_DATA)? })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Waits for the lock under which the directory of `role` is changed. Each Role has its own: a partner that sends slowly holds up
    /// nobody else.
    pub fn lock(&self, role: Role, deadline: Duration) -> Result<Lock, SidError> {
        Ok(Lock::take(&self.dir, OsStr::new(&format!(".lock-{role}")), deadline)?)
    }

    /// Waits for the lock under which the history, which all Roles share, is written.
    pub fn lock_history(&self, deadline: Duration) -> Result<Lock, SidError> {
        Ok(Lock::take(&self.dir, OsStr::new(".lock-history"), deadline)?)
    }

    /// Reads MasterConfig.
    pub fn master_config(&self) -> Result<MasterConfig, SidError> {
        let name = "MasterConfig";
        let path = self.dir.show(name);
        match self.dir.read_if_there(name, MasterConfig::MAX_SIZE) {
            Ok(Some(content)) => {
                MasterConfig::parse(&content).map_err(|source| SidError::MasterConfig { path, source })
            }
            Ok(None) => Err(SidError::NoMasterConfig(path)),
            Err(error) if error.is_too_large() => {
                Err(SidError::MasterConfig { path, source: BadMasterConfig::TooLarge })
            }
            Err(error) => match self.dir.stat(OsStr::new(name)).ok().flatten().map(|stat| ObjectType::of(&stat)) {
                None | Some(ObjectType::File) => Err(error.into()),
                Some(other) => {
                    let what = match other {
                        ObjectType::Link => "a symbolic link",
                        ObjectType::Dir => "a directory",
                        _ => "a device, pipe or socket",
                    };
                    Err(SidError::MasterConfig { path, source: BadMasterConfig::NotAFile(what) })
                }
            },
        }
    }

    /// Opens the directory of a Role; `None` where there is none.
    pub fn role_dir(&self, role: Role) -> Result<Option<Dir>, SidError> {
        match self.dir.dir(role.to_string()) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Reads a file that holds one EnvVersion; `None` where there is none.
pub(crate) fn read_env_version(dir: &Dir, name: &str) -> Result<Option<EnvVersion>, SidError> {
    let Some(content) = dir.read_if_there(name, 64)? else { return Ok(None) };
    EnvVersion::from_file(&content).map(Some).map_err(|source| SidError::EnvVersion { path: dir.show(name), source })
}

//! What the Bound disk says of itself: EnvSpecific Data in `/opt/atlas` [335].
//!
//! ```text
//! /opt/atlas/EnvID      the EnvVersion of this server
//! /opt/atlas/Cluster    the cluster that it belongs to
//! /opt/atlas/Identity   whose name, addresses and host keys it wears: see [`crate::worn`]
//! /opt/atlas/Set        how the Unbound set is made that it was initialised with; `set_record`
//! /opt/atlas/bin/       programs; SyncConverterN among them
//! /opt/atlas/work/      empty; a place to mount working memory on
//! ```
//!
//! EnvID and Cluster, or none of them: one alone means that something was lost, and is an error, never "not initialised".

use crate::layout::{SidError, read_env_version};
use atlas_host::{FileError, durable, tree::Dir};
use atlas_model::{ClusterId, EnvId};
use std::{ffi::OsStr, io};

/// The directory of EnvSpecific Data, below the server's root.
pub const ESD_DATA: &str = "opt/atlas";

/// Which environment this server is, and of which cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundData {
    /// Its Environment.
    pub env_id: EnvId,
    /// Its cluster.
    pub cluster: ClusterId,
}

impl BoundData {
    /// Reads it; `None` where `atlas init` was never run.
    pub fn read(root: &Dir) -> Result<Option<BoundData>, SidError> {
        let dir = match root.dir(ESD_DATA) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let env_id = read_env_version(&dir, "EnvID")?;
        let cluster = dir
            .read_if_there("Cluster", 200)?
            .map(|content| {
                ClusterId::from_file(&content).map_err(|source| SidError::Cluster { path: dir.show("Cluster"), source })
            })
            .transpose()?;
        match (env_id, cluster) {
            (Some(env_id), Some(cluster)) => Ok(Some(BoundData { env_id, cluster })),
            (None, None) => Ok(None),
            (env_id, _) => {
                let missing = if env_id.is_none() { "EnvID" } else { "Cluster" };
                let source = io::Error::new(io::ErrorKind::InvalidData, "it is missing, while its companion is there");
                Err(FileError::on("read", dir.show(missing))(source).into())
            }
        }
    }

    /// Writes it; says whether anything changed.
    pub fn write(&self, root: &Dir) -> Result<bool, SidError> {
        let dir = root.make_dirs(ESD_DATA)?;
        let cluster = durable::write_if_changed(&dir, OsStr::new("Cluster"), self.cluster.to_file().as_bytes(), 0o644)?;
        let env_id = durable::write_if_changed(&dir, OsStr::new("EnvID"), self.env_id.to_file().as_bytes(), 0o644)?;
        Ok(cluster || env_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_or_none() {
        let tmp = tempfile::tempdir().unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        assert_eq!(BoundData::read(&root).unwrap(), None);
        let bound = BoundData { env_id: EnvId::OLDEST, cluster: "bakery".parse().unwrap() };
        assert!(bound.write(&root).unwrap() && !bound.write(&root).unwrap());
        assert_eq!(BoundData::read(&root).unwrap(), Some(bound));
        for lost in ["EnvID", "Cluster"] {
            let path = tmp.path().join(ESD_DATA).join(lost);
            let content = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert!(BoundData::read(&root).is_err(), "{lost} was lost");
            std::fs::write(&path, "").unwrap();
            assert!(BoundData::read(&root).is_err(), "{lost} is empty");
            std::fs::write(&path, [b"\xef\xbb\xbf", content.as_slice()].concat()).unwrap();
            let error = BoundData::read(&root).unwrap_err();
            let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
            assert!(said.contains(lost) && said.contains("\\u{feff}") && !said.contains("MasterConfig"), "{said}");
            std::fs::write(&path, content).unwrap();
        }
    }
}

//! The record of how the Unbound set is made, in its two places.
//!
//! ```text
//! SID_DATA/Set      in the Unbound file system: it goes where the disks go
//! /opt/atlas/Set    on the Bound disk: of the set that this server was initialised with
//! ```

use crate::bound::ESD_DATA;
use atlas_host::{FileError, durable, tree::Dir};
use atlas_model::set_record::SetRecord;
use std::ffi::OsStr;

/// Reads the record of a directory; `None` where there is none. `Err`: why it cannot be read, in words.
pub fn read(dir: &Dir) -> Result<Option<SetRecord>, String> {
    let shown = dir.show(SetRecord::NAME);
    let content = dir
        .read_if_there(SetRecord::NAME, SetRecord::MAX_SIZE + 1)
        .map_err(|error| format!("{error}: {}", error.source))?;
    content
        .map(|content| {
            SetRecord::parse(&content).map_err(|error| format!("{} is no record of a set: {error}", shown.display()))
        })
        .transpose()
}

/// Reads the Bound disk's.
pub fn read_bound(root: &Dir) -> Result<Option<SetRecord>, String> {
    match root.dir(ESD_DATA) {
        Ok(dir) => read(&dir),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(format!("{error}: {}", error.source)),
    }
}

/// Writes the record into a directory; says whether anything changed.
pub fn write(dir: &Dir, record: &SetRecord) -> Result<bool, FileError> {
    durable::write_if_changed(dir, OsStr::new(SetRecord::NAME), record.to_file().as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::set_record::MadeOf;

    #[test]
    fn a_record_is_written_once_and_read_back() {
        let tmp = tempfile::tempdir().unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        assert_eq!(read_bound(&root), Ok(None));
        let dir = root.make_dirs(ESD_DATA).unwrap();
        let record = SetRecord::new(MadeOf::Single, "u".into(), vec![]);
        assert!(write(&dir, &record).unwrap() && !write(&dir, &record).unwrap());
        assert_eq!(read_bound(&root), Ok(Some(record)));
        std::fs::write(tmp.path().join(ESD_DATA).join("Set"), "format = 7\n").unwrap();
        assert!(read_bound(&root).unwrap_err().contains("format 7"));
    }
}

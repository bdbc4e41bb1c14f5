//! Keeping everybody else's hands off the arrays of Unbound sets.
//!
//! md starts what it finds: udev's rule by `mdadm --incremental`, the initramfs by `mdadm --assemble --scan` as long as it waits for a root
//! disk, and a person who types that. What it starts is not decided, and in the way of what is. So mdadm is told of each set that is seen:
//!
//! ```text
//! udev, 63-atlas.rules ─► atlas-boot is-member ─┬► yes: no rule of md's is run for this disk
//!                                               └► /run/atlas/mdadm.conf   ARRAY <ignore> UUID=…
//! /etc/mdadm/mdadm.conf.d/atlas.conf ──────────────► (a link to it, in the initramfs and after it)
//! ```
//!
//! What runs all the same, and is not in use, is stopped before the disks are looked at, and again after a refusal.

use atlas_host::{
    FileError,
    md::{self, Array},
    tree::Dir,
};
use atlas_model::{
    md::MdUuid,
    mdadm_conf::{self, ignored},
    survey::Survey,
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

/// The arrays of a survey that are Unbound sets.
pub fn sets(survey: &Survey) -> Vec<MdUuid> {
    let ours = survey.atlas_devices();
    let members = survey.members.iter().filter(|member| ours.contains(&member.device));
    members.map(|member| member.md.set_uuid).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Has mdadm leave these arrays alone from now on. Gives those that it did not know of before.
pub fn keep_out(run: &Path, sets: &[MdUuid]) -> Result<Vec<MdUuid>, FileError> {
    if sets.is_empty() {
        return Ok(vec![]);
    }
    Dir::open_root(run)?.make_dirs("atlas")?;
    let path = run.join(mdadm_conf::SEEN);
    let write = || -> io::Result<Vec<MdUuid>> {
        let mut file = File::options().read(true).append(true).create(true).open(&path)?;
        // Two of udev's workers may come with the halves of one set. Each holds it for a moment; closing lets it go.
        file.lock()?;
        let mut known = String::new();
        file.read_to_string(&mut known)?;
        let new: Vec<MdUuid> = sets.iter().copied().filter(|set| !known.contains(&ignored(*set))).collect();
        file.write_all(new.iter().map(|set| ignored(*set)).collect::<String>().as_bytes())?;
        Ok(new)
    };
    write().map_err(FileError::on("write", &path))
}

/// Leaves out of an mdadm.conf what would start an Unbound set that is attached, or any set by its name. Gives what was left out.
pub fn leave_out(conf: &Path, sets: &[MdUuid]) -> Result<Vec<String>, FileError> {
    let text = std::fs::read_to_string(conf).map_err(FileError::on("read", conf))?;
    let ours = mdadm_conf::starts_ours(&text, sets);
    if !ours.is_empty() {
        std::fs::write(conf, mdadm_conf::without_ours(&text, sets)).map_err(FileError::on("write", conf))?;
    }
    Ok(ours)
}

/// Stops the arrays that somebody else built of members of Unbound sets, but for those in use. Gives a line for each that ran.
pub fn stop(survey: &Survey) -> Vec<String> {
    let arrays = md::arrays(Path::new("/sys"), Path::new("/proc")).unwrap_or_default();
    ours(arrays, survey).iter().map(stop_one).collect()
}

fn ours(arrays: Vec<Array>, survey: &Survey) -> Vec<Array> {
    let ours = survey.atlas_devices();
    let is_ours = |array: &Array| array.members.iter().any(|member| ours.contains(&member.device));
    arrays.into_iter().filter(is_ours).collect()
}

fn stop_one(array: &Array) -> String {
    let members: Vec<&str> = array.members.iter().map(|member| member.device.as_str()).collect();
    let what =
        format!("something other than ATLAS had started {} of {}", array.device.display(), members.join(" and "));
    if !array.used_by.is_empty() {
        return format!("{what}; it is in use by {}, and still runs", array.used_by.join(", "));
    }
    match md::stop(&array.device) {
        Ok(()) => format!("{what}; it was stopped"),
        Err(error) => format!("{what}; it could not be stopped: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_down_once_and_in_words_that_mdadm_keeps() {
        let tmp = tempfile::tempdir().unwrap();
        let (a, b) = (MdUuid([1; 16]), MdUuid([2; 16]));
        assert_eq!(keep_out(tmp.path(), &[]).unwrap(), []);
        assert!(!tmp.path().join("atlas").exists(), "nothing is written where there is no set");
        assert_eq!(keep_out(tmp.path(), &[a]).unwrap(), [a]);
        assert_eq!(keep_out(tmp.path(), &[a, b]).unwrap(), [b]);
        assert_eq!(keep_out(tmp.path(), &[a, b]).unwrap(), []);
        let text = std::fs::read_to_string(tmp.path().join("atlas/mdadm.conf")).unwrap();
        assert_eq!(text, ignored(a) + &ignored(b));
    }

    #[test]
    fn an_initramfs_is_made_without_the_lines_that_would_start_the_set() {
        let tmp = tempfile::tempdir().unwrap();
        let conf = tmp.path().join("mdadm.conf");
        let root = "ARRAY /dev/md/0 UUID=01010101:01010101:01010101:01010101\n";
        let ours = "ARRAY /dev/md127 UUID=02020202:02020202:02020202:02020202\n";
        std::fs::write(&conf, format!("{root}{ours}")).unwrap();
        assert_eq!(leave_out(&conf, &[MdUuid([2; 16])]).unwrap(), [ours.trim()]);
        assert_eq!(std::fs::read_to_string(&conf).unwrap(), root);
        assert_eq!(leave_out(&conf, &[MdUuid([2; 16])]).unwrap(), Vec::<String>::new());
    }
}

//! What a set says that is not mounted, for a dry run: it gives the answer of the real run, and mounts nothing.

use super::{
    facts::{self, Site},
    initramfs::chain,
    objection::Objection,
    plan::{DataFacts, SetFacts, SetSeen, SidFacts},
};
use atlas_host::block::Unmounted;
use atlas_model::{EnvVersion, MasterConfig, Role, ext4::files::Unknown, set_record::SetRecord};
use atlas_sid::layout::SID_DATA;
use std::path::PathBuf;

/// Completes what is known of the files, as the real run finds them with the set mounted. What cannot be said stays open.
pub(super) fn complete(site: &Site, set: &SetFacts, role: Role, data: &mut DataFacts) -> Result<(), Objection> {
    let Some((device, begin_bytes, file_system)) = place(set) else { return Ok(()) };
    let Ok(unmounted) = Unmounted::open(&device, begin_bytes) else { return Ok(()) };
    let Ok(found) = look(&unmounted, role) else { return Ok(()) };
    let config = match &found.config {
        None => None,
        Some(content) => Some(MasterConfig::parse(content).map_err(|error| {
            Objection::new(format!("MasterConfig on {} cannot be used: {}", device.display(), chain(&error)))
                .hint("repair the file; 'atlas init' never overwrites what says who a server is")
        })?),
    };
    data.sid = SidFacts { config, has_role: found.has_role };
    data.identity.set = SetSeen::Mounted { file_system: Some(file_system), has_snapshot: found.has_snapshot };
    let wanted = facts::set_record(&set.survey).ok();
    let bound = atlas_sid::set_record::read_bound(&site.tree).ok().flatten();
    data.has_record = wanted.is_some() && found.record == wanted && bound == wanted;
    Ok(())
}

/// Where the file system of an attached set begins, and its UUID. One that was not unmounted may hold more than can be seen.
fn place(set: &SetFacts) -> Option<(PathBuf, u64, String)> {
    let named = |device: &str| set.parts.iter().any(|part| part.path.as_os_str() == device);
    let members = set.survey.members.iter().filter(|member| named(&member.device));
    let members =
        members.filter_map(|member| Some((&member.device, member.md.data_offset_bytes, member.ext4.as_ref()?)));
    let singles = set.survey.singles.iter().filter(|single| named(&single.device));
    let mut all = members.chain(singles.map(|single| (&single.device, 0, &single.ext4)));
    let (device, begin_bytes, ext4) = all.next()?;
    (!ext4.needs_recovery).then(|| (device.into(), begin_bytes, ext4.uuid_text()))
}

struct Found {
    config: Option<Vec<u8>>,
    record: Option<SetRecord>,
    has_role: bool,
    has_snapshot: bool,
}

fn look(set: &Unmounted, role: Role) -> Result<Found, Unknown> {
    let role = role.to_string();
    let file = |path: &[&str], max: usize| set.file(&[&[SID_DATA][..], path].concat(), max);
    let record = file(&[SetRecord::NAME], SetRecord::MAX_SIZE)?;
    Ok(Found {
        config: file(&["MasterConfig"], MasterConfig::MAX_SIZE)?,
        record: record.and_then(|content| SetRecord::parse(&content).ok()),
        has_role: set.has(&[SID_DATA, role.as_str()])?,
        has_snapshot: file(&[role.as_str(), atlas_sid::snapshot::SNAPSHOT_ENV_VERSION], EnvVersion::MAX_SIZE)?
            .is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::{
        machine::{BlockDevice, Machine},
        plan::{Bound, IdentityFacts},
    };
    use atlas_host::{block, tree::Dir};
    use atlas_model::{UNBOUND_LABEL, survey::Device, worn::Worn};
    use std::{fs, path::Path, process::Command};

    /// A file with an Unbound file system that has these files.
    fn disk(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
        let (tree, image) = (dir.join("tree"), dir.join("disk"));
        for (path, content) in files {
            fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
            fs::write(tree.join(path), content).unwrap();
        }
        fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
        let made = Command::new("/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-L", UNBOUND_LABEL, "-d"])
            .arg(&tree)
            .arg(&image)
            .status()
            .unwrap();
        assert!(made.success());
        image
    }

    fn completed(files: &[(&str, &str)], role: Role) -> Result<DataFacts, Objection> {
        let tmp = tempfile::tempdir().unwrap();
        let path = disk(tmp.path(), files);
        let device = Device { path: path.clone(), size_bytes: 8 << 20, ..Device::default() };
        let part = BlockDevice {
            named: path.clone(),
            path,
            disk: "disk".into(),
            size_bytes: 8 << 20,
            uses: vec![],
            holds: None,
            parts: vec![],
            raid_level: None,
        };
        let set = SetFacts { survey: block::survey(&[device]), parts: vec![part], ..SetFacts::default() };
        let tree = Dir::open_root(tmp.path()).unwrap();
        let site = Site { root: tmp.path().into(), tree, machine: Machine::default() };
        let mut data = DataFacts {
            bound: Bound::Nothing,
            identity: IdentityFacts {
                worn: Worn::OWN,
                is_recorded: true,
                set: SetSeen::NotMounted,
                network: Default::default(),
                addresses: Default::default(),
                same_name: false,
                is_as_asked: false,
            },
            marker: true,
            sid: SidFacts::default(),
            has_record: false,
            mdadm_starts_it: false,
            kernels_without: vec![],
            kernels: 1,
        };
        complete(&site, &set, role, &mut data).map(|()| data)
    }

    #[test]
    fn a_set_that_is_not_mounted_says_who_it_makes_of_a_server() {
        let config = "format=1\ncluster='bakery'\nrole='PRI'\n[[partner]]\nrole='SEC1'\nhost='a'\n";
        let files = [("SID_DATA/MasterConfig", config), ("SID_DATA/PRI/SnapshotEnvVersion", "1\n")];
        let data = completed(&files, Role::Pri).unwrap();
        assert_eq!(data.sid.config.map(|config| config.role()), Some(Role::Pri));
        assert!(matches!(data.identity.set, SetSeen::Mounted { has_snapshot: true, .. }) && data.sid.has_role);
        let other = completed(&files, Role::Sec(1)).unwrap();
        assert!(matches!(other.identity.set, SetSeen::Mounted { has_snapshot: false, .. }) && !other.sid.has_role);
        let broken = completed(&[("SID_DATA/MasterConfig", "format=1\nrole=\n")], Role::Pri).unwrap_err();
        assert!(broken.what.contains("line 2"), "{broken}");
    }
}

//! From what went wrong to what the operator is told: every error of the lower layers becomes a [`Refusal`] here.

use atlas_host::FileError;
use atlas_model::{
    Refusal, RefusalCode,
    ext4::Ext4Superblock,
    master_config::BadMasterConfig,
    path_list::BadPathList,
    survey::{SetChoice, SetKind, Survey},
    worn::{Foreign, RoleIdentity},
};
use atlas_sid::SidError;

use crate::{role, unbound::ARRAY};

/// How a set is started at the console of a server that refused; [`with_disks`] names its devices.
const START: &str =
    "mdadm --assemble --run --config=none /dev/md/atlas-unbound DISK DISK; mount /dev/md/atlas-unbound /unbound";

/// How a file of the set is repaired there.
fn repair() -> String {
    format!("log in here, then: {START}; repair the file below /unbound/SID_DATA; reboot")
}

/// What is wrong with the Sync and Identity Data.
pub fn of_sid(error: &SidError) -> Refusal {
    let refusal = match error {
        SidError::NoMasterConfig(_) => Refusal::new(RefusalCode::MasterConfigMissing, "The Unbound disk has no MasterConfig.")
            .because("MasterConfig says who this server is; without it every role would be a guess")
            .remedy("check that these are the right disks")
            .remedy("on a new set, run 'atlas init' on the server that it is for"),
        SidError::MasterConfig { source, .. } if matches!(source.fault(), BadMasterConfig::UnknownFormat(_)) => unknown_format(),
        SidError::MasterConfig { .. } => {
            Refusal::new(RefusalCode::MasterConfigInvalid, "MasterConfig does not say who this server is.")
                .because("a role that is not beyond doubt could be another server's")
                .remedy(repair())
        }
        SidError::PathList { source: BadPathList::UnknownFormat { .. }, .. } => unknown_format(),
        SidError::Manifest { source: atlas_model::manifest::BadManifest::UnknownFormat(_), .. } => unknown_format(),
        SidError::PathList { source: BadPathList::Path { .. }, .. } | SidError::LeadsOut { .. } => {
            Refusal::new(RefusalCode::BadPath, "A path of the identity leads out of the tree that it belongs to.")
                .because("installing it could overwrite any file of this server")
                .remedy("name the real path, without '..' and links, in IdentFilePaths, and make a new Snapshot on a server that runs")
                .remedy(repair())
        }
        SidError::Elsewhere { .. } => {
            Refusal::new(RefusalCode::BadPath, "A path of the identity is not on this server's root file system.")
                .because("it would be written below a mount point, where nobody finds it, and the server would keep its old one")
                .remedy("move it to the root file system here, or take it off IdentFilePaths and make a new Snapshot on a server that runs")
        }
        SidError::NoSnapshot { .. } => Refusal::new(RefusalCode::SnapshotMissing, "There is no Snapshot that can serve this server.")
            .because("without it the network identity of the role is unknown")
            .remedy("boot the disks in a server with the EnvVersion that made them, and run 'ssSync create' there")
            .remedy("install the missing converter on this server, if its EnvVersion is newer"),
        SidError::Conversion { .. } => Refusal::new(RefusalCode::ConversionFailed, "The identity could not be converted for this server.")
            .because("an identity that is half converted could be a wrong one")
            .remedy("look at the converter's message, repair or install /opt/atlas/bin/SyncConverterN, and reboot")
            .remedy("or boot the disks in a server with the EnvVersion that made them"),
        // Those from Restless on belong to the running server; a boot meets none of them.
        SidError::PathList { .. } | SidError::Reserved { .. } | SidError::Manifest { .. } | SidError::Damaged { .. } | SidError::EnvVersion { .. } | SidError::Cluster { .. }
        | SidError::Restless(_) | SidError::ForeignIdentity { .. } | SidError::History { .. } | SidError::Received { .. } | SidError::Bond { .. } => {
            Refusal::new(RefusalCode::SnapshotDamaged, "The Snapshot of this role is damaged.")
                .because("an identity of which a part is wrong or missing is a wrong one")
                .remedy("boot the disks in the server where they ran last, and run 'ssSync create' there")
                .remedy(repair())
        }
        SidError::File(file) if file.is_too_large() => {
            Refusal::new(RefusalCode::SnapshotDamaged, "A file of the Sync and Identity Data is too large.")
                .because("what is that large was not written by ATLAS, and a part of it must not count as the whole")
                .remedy("boot the disks in the server where they ran last, and run 'ssSync create' there")
                .remedy(repair())
        }
        SidError::Worn { .. } => {
            Refusal::new(RefusalCode::BoundDataInvalid, "A newer ATLAS wrote whose identity this server wears.")
                .because("what this program does not know it could misread")
                .remedy("install the newer ATLAS on this server again")
        }
        SidError::File(_) => Refusal::new(RefusalCode::SnapshotDamaged, "The Sync and Identity Data cannot be read.")
            .because("a part that cannot be read may be the one that says who this server is")
            .remedy("look for errors of the disks in 'dmesg' and 'mdadm --detail'")
            .remedy(repair()),
    };
    refusal.caused_by(error)
}

fn unknown_format() -> Refusal {
    Refusal::new(RefusalCode::UnknownFormat, "The Unbound disk was written by a newer ATLAS.")
        .because("what this program does not know it could misread")
        .remedy("install the newer ATLAS on this server: it is the one of the server where the disks ran last")
}

/// What is wrong with the Bound Data.
pub fn of_bound(error: &SidError) -> Refusal {
    Refusal::new(RefusalCode::BoundDataInvalid, "This server's own EnvID or Cluster is missing or unreadable.")
        .because("without them the right Snapshot and the right cluster are unknown")
        .remedy("run 'atlas init' again with this server's EnvVersion and cluster, and reboot")
        .caused_by(error)
}

/// The Bound Data are gone, and once were there.
pub fn bound_lost(marker: &str) -> Refusal {
    Refusal::new(RefusalCode::BoundDataInvalid, "This server's EnvID and Cluster are gone.")
        .found(format!("{marker} says that 'atlas init' was run here"))
        .because("without them the right Snapshot and the right cluster are unknown")
        .remedy("run 'atlas init' again with this server's EnvVersion and cluster, and reboot")
}

/// The boot came to its end without a decision of atlas-boot.
pub fn not_decided(found: &str) -> Refusal {
    Refusal::new(RefusalCode::NotDecided, "Early boot ended without a decision about this server.")
        .found(found)
        .because("this server may have the name and addresses of a role that runs elsewhere")
        .remedy("see whether atlas-boot was started, and how it ended: dmesg | grep -i atlas")
        .remedy("see whether each kernel's initramfs has it: atlas init --check; make them anew: update-initramfs -u -k all")
        .remedy("reboot")
}

/// Since the cold boot, user space has begun anew, with other disks.
pub fn set_changed(found: &str) -> Refusal {
    Refusal::new(RefusalCode::SetChanged, "The Unbound set is not the one with which this server was booted.")
        .found(found)
        .because("a role is taken by a cold boot alone; this server still has the identity of the set before")
        .remedy("switch the server off and on again, with the disks of the role that it is to have")
}

/// The disks are another cluster's.
pub fn foreign_cluster(disks: &str, server: &str, ext4: &Ext4Superblock) -> Refusal {
    let mut refusal =
        Refusal::new(RefusalCode::ForeignCluster, "These disks belong to another cluster than this server.")
            .found(format!("cluster of the disks: {disks}"))
            .found(format!("cluster of this server: {server}"))
            .because("a server of the other cluster may be running with the same role and addresses")
            .remedy("shut down, put the disks into a server of their own cluster, and this server's disks in here")
            .remedy("if this server is to join the other cluster, run 'atlas init' on it");
    refusal.fingerprint = Some(atlas_model::Digest::of(format!("{disks}\n{server}\n{}", ext4.last_mount()).as_bytes()));
    refusal
}

/// The set has no identity for this server yet, and the one in place is not its own.
pub fn foreign_identity(wanted: &RoleIdentity, foreign: &Foreign<'_>) -> Refusal {
    let init = format!("atlas init --role {} --hostname NAME --address ADDRESS/LENGTH", wanted.role);
    let refusal = match foreign {
        Foreign::Of(worn) => {
            Refusal::new(RefusalCode::ForeignIdentity, "This server wears the identity of other disks than those in it.")
                .found(format!("name, addresses and host keys in place: those of {worn}"))
                .because("whoever has those disks has the same name and addresses, and may be running")
                .remedy(format!("if those disks are to be in this server: shut down, and put them in instead of those of {}", wanted.role))
        }
        Foreign::Unknown => {
            Refusal::new(RefusalCode::ForeignIdentity, "It is not known whose identity this server wears.")
                .found("/opt/atlas/Identity says nothing: this server was set up by an ATLAS that did not write it, or the file was lost")
                .because("its name and addresses may be those of a role whose disks are in another server by now")
                .remedy("if they are this server's own, and no other server has them: log in here, atlas init --keep-identity, reboot")
        }
    };
    refusal
        .found(format!("the disks in this server: {wanted}; no Snapshot was made of it yet, so they bring no identity"))
        .remedy(format!("to give this server a name, addresses and host keys of its own: log in here, {init}, reboot"))
}

/// The identity cannot be written to the root file system.
pub fn root_not_writable(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(RefusalCode::RootNotWritable, "The identity could not be written to this server's own disk.")
        .because("with its old identity the server could have the addresses of another")
        .remedy("if the disk is full ('df /'), remove something ('du -x / | sort -n | tail'), and reboot")
        .remedy("if it has no inodes left ('df -i /'), remove what has the most files ('du -x --inodes / | sort -n | tail'), and reboot")
        .remedy("if it is read-only, look for its errors in 'dmesg'; the disk may be dying")
        .remedy("if the file that is named may not be changed, 'lsattr' shows whether it was made immutable; 'chattr -i', and reboot")
        .caused_by(error)
}

/// What is written to the root file system may be gone with the next boot.
pub fn root_forgets(file_system: &str) -> Refusal {
    Refusal::new(RefusalCode::RootNotWritable, "This server's root file system does not keep what is written to it.")
        .found(format!("the root file system is of type {file_system}"))
        .because("an identity that is written there, and the note of whose it is, may be gone with the next boot: this server could have the addresses of another and not know it")
        .remedy("boot without it: take 'overlayroot=' or the like off the kernel command line, or out of /etc/overlayroot.conf, 'update-initramfs -u -k all', and reboot")
}

/// The set could not be started.
pub fn assemble_failed(error: &dyn std::error::Error) -> Refusal {
    let is_busy = format!("{error}").contains("busy");
    let refusal = Refusal::new(RefusalCode::AssembleFailed, "The Unbound set could not be started.");
    let refusal = if is_busy {
        refusal
            .because("something else uses its disks, and could write to them beside this server")
            .remedy("see what uses them: 'cat /proc/mdstat', 'lsblk', 'dmsetup ls'")
            .remedy("stop it ('mdadm --stop' or 'dmsetup remove', and what lsblk names), and reboot")
    } else {
        refusal
            .because("its data cannot be reached")
            .remedy("look for errors of the disks in 'dmesg', and at 'mdadm --examine' of each member")
            .remedy("if a disk is dying, shut down, take it out, and boot with the other one: it asks to be accepted")
    };
    refusal.caused_by(error)
}

/// What was begun comes to no end, because a disk does not answer.
pub fn disk_hangs(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(RefusalCode::DiskHangs, "A disk does not answer.")
        .because("what it holds cannot be read, and what was begun cannot be finished")
        .remedy("look for the disk, its cable and its controller in 'dmesg'")
        .remedy("switch the power off, not only reset: a disk that hangs may need it; take the disk out or replace it, and boot again")
        .remedy("if that leaves one healthy disk of the set, boot with it and follow what the screen says")
        .caused_by(error)
}

/// Where the times of last writes are to help a person to decide: those that cannot be right are named.
pub fn with_clocks(mut refusal: Refusal, survey: &Survey) -> Refusal {
    if matches!(refusal.code, RefusalCode::WrittenApart | RefusalCode::LostMirror) {
        refusal.found.extend(survey.wrong_clocks(role::now()));
    }
    refusal
}

/// A refusal of what a set that was chosen holds: on which disks that is, and how they are started at the console.
pub fn with_disks(mut refusal: Refusal, choice: &SetChoice) -> Refusal {
    refusal.found.push(format!("the Unbound set: {}", choice.disks.join(", ")));
    refusal.found.extend(choice.left_out.iter().chain(&choice.beside).cloned());
    let start = match &choice.kind {
        SetKind::Mirror { devices, .. } => {
            format!("mdadm --assemble --run --config=none {ARRAY} {}; mount {ARRAY} /unbound", devices.join(" "))
        }
        SetKind::Single { device } => format!("mount {device} /unbound"),
    };
    refusal.remedy.iter_mut().for_each(|line| *line = line.replace(START, &start));
    refusal
}

/// The same, of a set that is mounted already: nobody has to start it.
pub fn with_mounted_disks(mut refusal: Refusal, choice: &SetChoice) -> Refusal {
    let mounted = "repair the file below /unbound/SID_DATA, and ask again: atlas-boot check";
    refusal.remedy.iter_mut().for_each(|line| *line = line.replace(&repair(), mounted));
    with_disks(refusal, choice)
}

/// The file system cannot be repaired without asking.
pub fn file_system_broken(device: &str, found: &str) -> Refusal {
    Refusal::new(RefusalCode::FilesystemBroken, "The file system of the Unbound set is damaged.")
        .found(format!("tried on a copy in memory; the disks are untouched: {found}"))
        .because("repairing it needs decisions that may cost data, and those are yours")
        .remedy("take an image of one member before anything changes it: dd to another disk")
        .remedy(format!("log in here, then: {START} (without the mount); see what would be done: e2fsck -f -n {device}; repair: e2fsck -f {device}; reboot"))
}

/// Something that should always work did not.
pub fn internal(what: &str, error: &dyn std::error::Error) -> Refusal {
    Refusal::new(RefusalCode::Internal, format!("A step failed that should not: {what}."))
        .because("what was left out could matter")
        .remedy("look at the cause above and at 'dmesg', then reboot")
        .remedy("if it stays, report it with /run/atlas/boot.json")
        .caused_by(error)
}

/// A file that could not be handled, as a refusal of the step that needed it.
pub fn of_file(what: &str, error: &FileError) -> Refusal {
    internal(what, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_host::process::ProcessError;
    use atlas_model::{ext4, survey::SetKind};

    fn choice() -> SetChoice {
        SetChoice {
            kind: SetKind::Mirror {
                uuid: atlas_model::md::MdUuid([7; 16]),
                devices: vec!["/dev/sdb".into(), "/dev/sdc".into()],
            },
            disks: vec!["/dev/sdb (serial B, SATA port 1)".into(), "/dev/sdc (serial C, SATA port 2)".into()],
            beside: vec!["also attached: /dev/sda (serial A): 4 GB, not looked into".into()],
            left_out: vec!["/dev/sdd (serial D): slot 1 of 2: left out, write-protected".into()],
            degraded: false,
            ext4: ext4::testing::superblock("ATLAS-UNBOUND", 5),
            written: 0,
            warnings: vec![],
        }
    }

    #[test]
    fn what_a_set_holds_is_refused_with_the_disks_and_a_command_that_starts_them() {
        let error = SidError::NoMasterConfig("/unbound/SID_DATA/MasterConfig".into());
        assert!(of_sid(&error).screen().contains("no MasterConfig"));
        let bad = SidError::MasterConfig {
            path: "/unbound/SID_DATA/MasterConfig".into(),
            source: atlas_model::MasterConfig::parse(b"format = 1\nrole = 5\n").unwrap_err(),
        };
        let screen = with_disks(of_sid(&bad), &choice()).screen();
        for phrase in [
            "line 2, column 8",
            "serial B, SATA port 1",
            "serial A",
            "serial D): slot 1 of 2: left out, write-protected",
            "mdadm --assemble --run --config=none /dev/md/atlas-unbound /dev/sdb /dev/sdc; mount /dev/md/atlas-unbound /unbound;",
        ] {
            assert!(screen.contains(phrase), "{phrase}: {screen}");
        }
        assert!(!screen.contains("DISK"), "{screen}");
        let mounted = with_mounted_disks(of_sid(&bad), &choice()).screen();
        assert!(mounted.contains("and ask again: atlas-boot check") && !mounted.contains("--assemble"), "{mounted}");
    }

    #[test]
    fn another_clusters_disks_that_ran_elsewhere_meanwhile_are_another_situation() {
        let here = ext4::testing::superblock("ATLAS-UNBOUND", 5);
        let of = |ext4: &Ext4Superblock| foreign_cluster("bakery", "garage", ext4).fingerprint;
        let closed_in_order = Ext4Superblock { written: here.written + 9, clean: false, ..here.clone() };
        assert_eq!(of(&here), of(&closed_in_order));
        assert_ne!(of(&here), of(&Ext4Superblock { mounted: here.mounted + 1, ..here.clone() }));
        assert_ne!(
            of(&here),
            of(&Ext4Superblock { mounts: here.mounts + 1, ..here.clone() }),
            "a clock may stand still"
        );
    }

    #[test]
    fn a_file_that_is_too_large_is_not_damaged_but_that() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("SID_DATA")).unwrap();
        std::fs::write(tmp.path().join("SID_DATA/MasterConfig"), vec![b'#'; 1 << 20]).unwrap();
        let unbound = atlas_host::tree::Dir::open_root(tmp.path()).unwrap();
        let error = atlas_sid::SidData::open(&unbound).unwrap().master_config().unwrap_err();
        let refusal = of_sid(&error);
        assert_eq!(refusal.code, RefusalCode::MasterConfigInvalid);
        assert!(refusal.screen().contains("it is larger than 65536 bytes"), "{}", refusal.screen());
        let list = unbound.read("SID_DATA/MasterConfig", 100).unwrap_err();
        let screen = of_sid(&SidError::File(list)).screen();
        assert!(screen.contains("too large") && !screen.contains("dmesg"), "{screen}");
    }

    #[test]
    fn a_master_config_that_is_no_file_is_refused_as_that() {
        let tmp = tempfile::tempdir().unwrap();
        let config = tmp.path().join("SID_DATA/MasterConfig");
        let refused = || {
            let unbound = atlas_host::tree::Dir::open_root(tmp.path()).unwrap();
            of_sid(&atlas_sid::SidData::open(&unbound).unwrap().master_config().unwrap_err())
        };
        std::fs::create_dir_all(&config).unwrap();
        let directory = refused();
        std::fs::remove_dir(&config).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &config).unwrap();
        for (refusal, phrase) in [(directory, "it is a directory"), (refused(), "it is a symbolic link")] {
            assert_eq!(refusal.code, RefusalCode::MasterConfigInvalid, "{refusal:?}");
            assert!(refusal.screen().contains(phrase), "{}", refusal.screen());
        }
    }

    #[test]
    fn a_busy_disk_is_not_searched_for_errors() {
        let failed = |complaint: &str| ProcessError::Failed {
            program: "mdadm".into(),
            status: "exit status: 1".into(),
            complaint: complaint.into(),
        };
        let busy = assemble_failed(&failed("mdadm: /dev/sdb is busy - skipping")).screen();
        assert!(busy.contains("something else uses its disks") && !busy.contains("dmesg"), "{busy}");
        assert!(assemble_failed(&failed("mdadm: failed to RUN_ARRAY: Input/output error")).screen().contains("dmesg"));
    }
}

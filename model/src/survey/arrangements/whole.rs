//! A set that may be started, and bare file systems.

use super::*;

pub(super) fn healthy() -> Vec<Arrangement> {
    let now = [Slot::Active(0), Slot::Other, Slot::Active(1)];
    vec![
        ("a pair", rig().pair(), Whole("bc"), &[]),
        (
            "a pair, its disks the other way round",
            rig().member("b", 1, |_| ()).member("c", 0, |_| ()),
            Whole("bc"),
            &[],
        ),
        (
            "a pair after a power cut",
            rig().member("b", 0, |m| (m.events, m.clean) = (41, false)).member("c", 1, |m| m.clean = false),
            Whole("bc"),
            &[],
        ),
        ("a pair beside the root disk", rig().found("a", mark(Kind::PartitionTable)).pair(), Whole("bc"), &[]),
        (
            "a pair beside an array of another name",
            rig()
                .disk("d", |_| ())
                .md(0, |m| (m.md.name, m.md.set_uuid, m.ext4) = ("host:root".into(), MdUuid([1; 16]), None))
                .pair(),
            Whole("bc"),
            &[],
        ),
        (
            "a pair of another name with our label",
            rig().member("b", 0, |m| m.name = "data".into()).member("c", 1, |m| m.name = "data".into()),
            Whole("bc"),
            &[],
        ),
        (
            "a pair of partitions",
            rig()
                .disk("b", |_| ())
                .disk("b1", |d| d.disk = Some("/dev/sdb".into()))
                .md(0, |_| ())
                .disk("c", |_| ())
                .disk("c1", |d| d.disk = Some("/dev/sdc".into()))
                .md(1, |_| ()),
            Whole("b1 c1"),
            &[],
        ),
        (
            "a pair in a dock that gives both disks its own serial number",
            rig()
                .disk("b", |d| d.serial = Some("DOCK".into()))
                .md(0, |_| ())
                .disk("c", |d| d.serial = Some("DOCK".into()))
                .md(1, |_| ()),
            Whole("bc"),
            &[],
        ),
        (
            "a pair with a hot spare",
            rig().pair().disk("d", |_| ()).md(2, |m| m.md.roles = vec![Slot::Active(0), Slot::Active(1), Slot::Other]),
            Whole("bcd"),
            &[],
        ),
        (
            "a pair whose second disk is being filled",
            rig().member("b", 0, |_| ()).member("c", 1, |m| m.rebuilding = true),
            Degraded("bc"),
            &["SER-C", "not a full copy"],
        ),
        (
            "the survivor of a disk that failed before",
            rig().member("b", 0, |m| (m.events, m.roles) = (60, alone(0))),
            Degraded("b"),
            &["1 of 2 disks", "SER-B", "mdadm --zero-superblock DISK first"],
        ),
        (
            "the survivor and the disk left behind",
            rig().member("b", 0, |m| (m.events, m.roles) = (60, alone(0))).member("c", 1, |_| ()),
            Degraded("b"),
            &[
                "SER-C",
                "left out, behind the others",
                "mdadm --zero-superblock /dev/sdc && mdadm /dev/md/atlas-unbound --add /dev/sdc",
            ],
        ),
        (
            "the survivor and a disk left behind whose end is hidden",
            rig()
                .member("b", 0, |m| (m.events, m.roles) = (60, alone(0)))
                .disk("c", |d| d.size_bytes = (65 << 20) - 4096)
                .md(1, |_| ()),
            Degraded("b"),
            &["SER-C", "it is 4096 bytes too small for the set: put a larger one in its place"],
        ),
        (
            "a replaced disk that comes back",
            rig()
                .member("b", 0, |m| (m.events, m.roles) = (90, now.to_vec()))
                .member("d", 2, |m| (m.events, m.roles) = (90, now.to_vec()))
                .member("c", 1, |_| ()),
            Whole("bd"),
            &["SER-C", "left out"],
        ),
        (
            "a pair of which one is write-protected",
            rig().member("b", 0, |_| ()).disk("c", |d| d.read_only = true).md(1, |_| ()),
            Degraded("b"),
            &["SER-C", "write-protected"],
        ),
        (
            "a pair beside a stick with our label and no data",
            rig().pair().bare("d", 3, 0, |d| d.has_sid_data = Some(false)),
            Whole("bc"),
            &[],
        ),
        (
            "a pair whose disks have old partition tables that show its file system",
            rig().member("b", 0, |_| ()).old_table("b1", 9).member("c", 1, |_| ()).old_table("c1", 9),
            Whole("bc"),
            &[],
        ),
        ("a pair beside a LUKS disk", rig().pair().found("d", mark(Kind::Luks)), Whole("bc"), &[]),
        (
            "a pair beside a logical volume with a copy of the file system",
            rig().pair().disk("d", mapped(Mapper::Lvm, None, Some(UNBOUND_LABEL))),
            Whole("bc"),
            &[],
        ),
        ("a pair beside another array's half in format 0.90", rig().pair().found("d", vec![old()]), Whole("bc"), &[]),
        ("a pair beside a disk that cannot be read", rig().pair().found("d", unreadable()), Whole("bc"), &[]),
        (
            "a pair of three slots, one never filled",
            rig().member("b", 0, |m| m.raid_disks = 3).member("c", 1, |m| m.raid_disks = 3),
            Degraded("bc"),
            &["2 of 3 disks"],
        ),
    ]
}

pub(super) fn bare() -> Vec<Arrangement> {
    let lost = RefusalCode::LostMirror;
    vec![
        ("a hardware RAID with its record", rig().bare("b", 3, 0, says(MadeOf::Single, 3, "B")), Whole("b"), &[]),
        (
            "a hardware RAID of before there were records",
            rig().bare("b", 3, 0, |_| ()),
            Whole("b"),
            &["SER-B", "nothing proves"],
        ),
        (
            "a hardware RAID that grew, with its record",
            rig().bare("b", 3, 9 << 20, says(MadeOf::Single, 3, "B")),
            Whole("b"),
            &[],
        ),
        (
            "a hardware RAID that grew by much, without a record",
            rig().bare("b", 3, 100 * GIB, |_| ()),
            Whole("b"),
            &["nothing proves"],
        ),
        (
            "a hardware RAID without a record whose last block group mke2fs dropped",
            rig().bare("b", 3, 200 << 10, |_| ()).whole_groups(),
            Whole("b"),
            &["nothing proves"],
        ),
        (
            "a hardware RAID that the Bound disk knows as single",
            rig().bare("b", 3, 1 << 20, |_| ()).bound_record(MadeOf::Single, 3),
            Whole("b"),
            &[],
        ),
        (
            "a copy of a hardware RAID on another disk",
            rig().bare("b", 3, 0, says(MadeOf::Single, 3, "X")),
            Whole("b"),
            &["another disk than", "SER-X"],
        ),
        (
            "a hardware RAID that grew, and its file system with it",
            rig().bare("b", 3, 0, says(MadeOf::Single, 3, "B")).grown(GIB),
            Whole("b"),
            &[],
        ),
        (
            "our label without SID_DATA, alone",
            rig().bare("b", 3, 0, |d| d.has_sid_data = Some(false)),
            Refused(RefusalCode::NoUnboundSet),
            &["SER-B", "without SID_DATA", "left alone"],
        ),
        (
            "half of a 0.90 mirror",
            rig().bare("b", 3, 100 << 10, |d| d.traces = vec![old()]),
            Refused(lost),
            &["SER-B", "SATA port 1", "format 0.90", "--update=metadata"],
        ),
        (
            "both halves of a 0.90 mirror",
            rig()
                .bare("b", 3, 100 << 10, |d| d.traces = vec![old()])
                .bare("c", 3, 100 << 10, |d| d.traces = vec![old()]),
            Refused(lost),
            &["SER-B", "SER-C", "format 0.90"],
        ),
        (
            "half of a 0.90 mirror of whole disks, seen on its partition",
            rig().found("b", vec![old()]).bare("b1", 3, 0, |d| d.disk = Some("/dev/sdb".into())),
            Refused(lost),
            &["/dev/sdb1", "format 0.90"],
        ),
        (
            "half of a 0.90 mirror whose record says single",
            rig().bare("b", 3, 0, |d| {
                d.traces = vec![old()];
                says(MadeOf::Single, 3, "B")(d);
            }),
            Refused(lost),
            &["SER-B"],
        ),
        (
            "half of a firmware RAID",
            rig().bare("b", 3, 0, |d| d.traces = vec![imsm()]),
            Refused(lost),
            &["SER-B", "IMSM", "set-up"],
        ),
        (
            "both halves of a firmware RAID",
            rig().bare("b", 3, 0, |d| d.traces = vec![imsm()]).bare("c", 3, 0, |d| d.traces = vec![imsm()]),
            Refused(lost),
            &["SER-B", "SER-C"],
        ),
        (
            "a half whose superblock a dock hides",
            rig().bare("b", 3, 136 << 10, |_| ()),
            Refused(lost),
            &["SER-B", "ends 139264 bytes before", "dmesg"],
        ),
        (
            "both halves in a dock that hides their ends",
            rig().bare("b", 3, 136 << 10, |_| ()).bare("c", 3, 136 << 10, |_| ()),
            Refused(lost),
            &["SER-B", "SER-C"],
        ),
        (
            "a half whose record says mirror",
            rig().bare("b", 3, 0, says(MadeOf::Mirror, 3, "B")),
            Refused(lost),
            &["SER-B", "SID_DATA/Set"],
        ),
        (
            "a half whose file system was given another UUID",
            rig().bare("b", 3, 0, says(MadeOf::Mirror, 5, "B")),
            Refused(lost),
            &["SER-B", "SID_DATA/Set", "another UUID"],
        ),
        (
            "a half without a record, given another UUID, whose disk this server knows",
            rig().bare("b", 3, 0, |_| ()).bound_record(MadeOf::Mirror, 5),
            Refused(lost),
            &["SER-B", "/opt/atlas/Set"],
        ),
        (
            "a hardware RAID whose record is of another file system",
            rig().bare("b", 3, 0, says(MadeOf::Single, 5, "B")),
            Whole("b"),
            &["its record is of another file system"],
        ),
        (
            "a half that the Bound disk knows as a mirror's",
            rig().bare("b", 3, 0, |_| ()).bound_record(MadeOf::Mirror, 3),
            Refused(lost),
            &["/opt/atlas/Set"],
        ),
        (
            "a single one, while the Bound disk knows another set",
            rig().bare("b", 3, 0, says(MadeOf::Single, 3, "B")).bound_record(MadeOf::Mirror, 4),
            Whole("b"),
            &[],
        ),
        (
            "a half with the end cut off",
            rig().bare("b", 3, 0, |_| ()).cut(1 << 20),
            Refused(lost),
            &["SER-B", "1048576 bytes larger"],
        ),
        (
            "a bare file system on a partition for RAID",
            rig().bare("b1", 3, 0, |d| d.is_raid_partition = true),
            Refused(lost),
            &["of a type for RAID"],
        ),
        (
            "a record that cannot be read",
            rig().bare("b", 3, 0, |d| d.record = Some(Err("it is of format 2".into()))),
            Refused(lost),
            &["it is of format 2"],
        ),
        (
            "a bare disk whose end cannot be read",
            rig().bare("b", 3, 0, |d| d.traces = unreadable()),
            Refused(lost),
            &["SER-B", "Input/output error"],
        ),
        (
            "one file system on two disks",
            rig().bare("b", 3, 0, |_| ()).bare("c", 3, 0, |_| ()),
            Refused(lost),
            &["SER-B", "SER-C", "lies on /dev/sdc"],
        ),
        (
            "a half with its superblock, and one without",
            rig().member("b", 0, |_| ()).bare("c", 9, 0, |_| ()),
            Refused(lost),
            &["SER-B", "SER-C"],
        ),
        (
            "a pair, and a copy of its file system",
            rig().pair().bare("d", 9, 0, |_| ()),
            Refused(lost),
            &["SER-D", "a copy"],
        ),
        (
            "two hardware RAIDs",
            rig().bare("b", 3, 0, |_| ()).bare("c", 4, 0, |_| ()),
            Refused(RefusalCode::TwoSets),
            &["SER-B", "SER-C"],
        ),
        (
            "a hardware RAID and a half of a 0.90 mirror",
            rig().bare("b", 3, 0, |_| ()).bare("c", 4, 0, |d| d.traces = vec![old()]),
            Refused(RefusalCode::MixedSets),
            &["SER-B", "SER-C"],
        ),
        (
            "a hardware RAID that is write-protected",
            rig().bare("b", 3, 0, |d| d.read_only = true),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-B", "write-protected"],
        ),
        (
            "a hardware RAID by two paths",
            rig()
                .bare("b", 3, 0, |d| d.wwid = Some("naa.5".into()))
                .bare("c", 3, 0, |d| (d.wwid, d.serial) = (Some("naa.5".into()), Some("SER-B".into()))),
            Refused(RefusalCode::UnsupportedSet),
            &["two paths", "naa.5"],
        ),
        (
            "a pair and a hardware RAID",
            rig().pair().bare("d", 3, 0, |_| ()),
            Refused(RefusalCode::TwoSets),
            &["SER-B", "SER-C", "SER-D"],
        ),
    ]
}

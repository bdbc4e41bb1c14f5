//! Mirrors that may not be started, and nothing that could be.

use super::*;

fn headless() -> Vec<Trace> {
    vec![Trace::Headless { at_bytes: 1 << 20, ext4: ext4::testing::superblock(UNBOUND_LABEL, 5) }]
}

pub(super) fn half_on_a_partition() -> Rig {
    rig()
        .disk("b", |device| device.traces = [mark(Kind::PartitionTable), headless()].concat())
        .disk("b1", |device| device.disk = Some("/dev/sdb".into()))
        .md(0, |_| ())
}

pub(super) fn mirrors() -> Vec<Arrangement> {
    let missing = RefusalCode::MissingMember;
    let named = |number: u32| MdSuperblock { ..md::testing::half(number) };
    vec![
        (
            "half of a pair",
            rig().member("b", 0, |_| ()),
            Refused(missing),
            &["SER-B", "SATA port 1", "slot 1", "atlas.wait", "mdadm --zero-superblock DISK && mdadm"],
        ),
        (
            "half of a pair with an old partition table that shows its file system",
            rig().member("b", 0, |_| ()).old_table("b1", 9),
            Refused(missing),
            &["SER-B", "an old partition table (sdb1)"],
        ),
        ("the other half of a pair", rig().member("c", 1, |_| ()), Refused(missing), &["SER-C", "slot 0"]),
        (
            "a half, and a disk that cannot be read",
            rig().member("b", 0, |_| ()).found("c", unreadable()),
            Refused(missing),
            &["SER-B", "SER-C", "Input/output error"],
        ),
        (
            "a half, and one that cannot be read where its superblock is",
            rig().member("b", 0, |_| ()).found("c", [unreadable(), headless()].concat()),
            Refused(missing),
            &["SER-C", "cannot be read everywhere: it is failing", "put another disk in its place"],
        ),
        (
            "a half, and one whose superblock was wiped",
            rig().member("b", 0, |_| ()).found("c", headless()),
            Refused(missing),
            &["SER-C", "without the member's superblock"],
        ),
        (
            "a half, and one under a new partition table",
            rig().member("b", 0, |_| ()).found("c", [mark(Kind::PartitionTable), headless()].concat()),
            Refused(missing),
            &["SER-C", "a partition table", "overwritten"],
        ),
        (
            "a half on a partition, which the whole disk shows further in",
            half_on_a_partition(),
            Refused(missing),
            &["/dev/sdb1", "SER-B"],
        ),
        (
            "a half, and one whose superblock is damaged",
            rig()
                .member("b", 0, |_| ())
                .found("c", vec![Trace::Damaged("the md superblock's checksum does not hold".into())]),
            Refused(missing),
            &["SER-C", "checksum"],
        ),
        (
            "a half, and an empty disk",
            rig().member("b", 0, |_| ()).found("c", vec![Trace::Blank]),
            Refused(missing),
            &["SER-C", "empty"],
        ),
        (
            "a half, the other behind a controller without a driver",
            rig().member("b", 0, |_| ()).controller(),
            Refused(missing),
            &["1000:0072", "MODULES=most"],
        ),
        (
            "a half that is write-protected",
            rig().disk("b", |d| d.read_only = true).md(0, |_| ()),
            Refused(missing),
            &["SER-B", "write-protected"],
        ),
        (
            "halves written apart, equally often",
            rig()
                .member("b", 0, |m| (m.events, m.roles) = (50, alone(0)))
                .member("c", 1, |m| (m.events, m.roles) = (50, alone(1))),
            Refused(RefusalCode::WrittenApart),
            &[
                "SER-B",
                "SER-C",
                "--device /dev/sdc, reboot; then give up /dev/sdb and copy it anew: \
                 mdadm --zero-superblock /dev/sdb && mdadm /dev/md/atlas-unbound --add /dev/sdb",
                "/dev/sdb (serial SER-B, SATA port 1) alone in the server boots without a question",
                "mdadm --assemble --readonly --run --config=none /dev/md/look /dev/sdb && mount -o ro,noload /dev/md/look /mnt",
                "umount /mnt; mdadm --stop /dev/md/look",
            ],
        ),
        (
            "halves written apart, of which each waits for the other",
            rig()
                .member("b", 0, |_| ())
                .disk("c", |_| ())
                .md(1, |m| m.ext4 = Some(ext4::testing::superblock(UNBOUND_LABEL, 6))),
            Refused(RefusalCode::WrittenApart),
            &[
                "/dev/sdc (serial SER-C, SATA port 2) alone in the server is refused (missing-member) until that is accepted",
            ],
        ),
        (
            "halves written apart, of which one runs",
            rig()
                .disk("b", |d| d.holders = vec!["md127".into()])
                .md(0, |m| (m.md.events, m.md.roles) = (50, alone(0)))
                .member("c", 1, |m| (m.events, m.roles) = (50, alone(1))),
            Refused(RefusalCode::WrittenApart),
            &[
                "the set runs on /dev/sdb (serial SER-B, SATA port 1)",
                "mdadm --zero-superblock /dev/sdc && mdadm /dev/md/atlas-unbound --add /dev/sdc",
                "/dev/md/look /dev/sdc",
            ],
        ),
        (
            "halves written apart, one more often",
            rig()
                .member("b", 0, |m| (m.events, m.roles) = (50, alone(0)))
                .member("c", 1, |m| (m.events, m.roles) = (99, alone(1))),
            Refused(RefusalCode::WrittenApart),
            &["SER-B", "SER-C"],
        ),
        (
            "a member that lost writes",
            rig().member("b", 0, |m| m.events = 50).member("c", 1, |_| ()),
            Refused(RefusalCode::WrittenApart),
            &["SER-C"],
        ),
        (
            "equal tables, other content",
            rig()
                .member("b", 0, |_| ())
                .disk("c", |_| ())
                .md(1, |m| m.ext4 = Some(ext4::testing::superblock(UNBOUND_LABEL, 6))),
            Refused(RefusalCode::WrittenApart),
            &["SER-B"],
        ),
        (
            "a copy of a member beside it",
            rig().pair().member("d", 1, |_| ()),
            Refused(RefusalCode::DuplicateMember),
            &["SER-C", "SER-D"],
        ),
        (
            "a partition that is a member, and what the whole disk was before",
            rig().member("b", 0, |_| ()).disk("c1", |d| d.disk = Some("/dev/sdc".into())).md(1, |_| ()).member(
                "c",
                1,
                |_| (),
            ),
            Refused(RefusalCode::DuplicateMember),
            &["is a partition of /dev/sdc", "mdadm --zero-superblock /dev/sdc where /dev/sdc1 is in use"],
        ),
        (
            "partitions that are members, and on a whole disk the superblock of another set, with nothing behind it",
            rig()
                .member("b", 0, |_| ())
                .disk("c1", |d| d.disk = Some("/dev/sdc".into()))
                .md(1, |_| ())
                .disk("c", |_| ())
                .md(0, |m| (m.md.set_uuid, m.ext4) = (MdUuid([8; 16]), None)),
            Refused(RefusalCode::MixedSets),
            &["left over from an earlier use", "'mdadm --zero-superblock /dev/sdc'"],
        ),
        (
            "a member by two paths",
            rig()
                .disk("b", |d| d.wwid = Some("naa.5".into()))
                .md(0, |_| ())
                .disk("c", |d| d.wwid = Some("naa.5".into()))
                .md(0, |_| ())
                .member("d", 1, |_| ()),
            Refused(RefusalCode::UnsupportedSet),
            &["multipath", "SER-B", "naa.5"],
        ),
        (
            "a member by two paths, known by its serial number",
            rig().member("b", 0, |_| ()).disk("c", |d| d.serial = Some("SER-B".into())).md(0, |_| ()),
            Refused(RefusalCode::UnsupportedSet),
            &["multipath", "SER-B"],
        ),
        (
            "members that multipath holds",
            rig()
                .disk("b", |d| d.holders = vec!["dm-0".into()])
                .md(0, |_| ())
                .member("c", 1, |_| ())
                .disk("x", |d| (d.path, d.mapping) = ("/dev/dm-0".into(), mapping(Mapper::Multipath, "mpatha"))),
            Refused(RefusalCode::UnsupportedSet),
            &["in use by a multipath device", "SER-B", "mpatha"],
        ),
        (
            "members of two sets",
            rig().member("b", 0, |_| ()).other("c", 1),
            Refused(RefusalCode::MixedSets),
            &["SER-B", "SER-C"],
        ),
        (
            "two pairs",
            rig().pair().other("d", 0).other("e", 1),
            Refused(RefusalCode::TwoSets),
            &["SER-B", "SER-C", "SER-D", "SER-E"],
        ),
        (
            "a pair of partitions, on disks that were members of another set as a whole",
            rig()
                .other("b", 0)
                .disk("b1", |device| device.disk = Some("/dev/sdb".into()))
                .md(0, |_| ())
                .other("c", 1)
                .disk("c1", |device| device.disk = Some("/dev/sdc".into()))
                .md(1, |_| ()),
            Refused(RefusalCode::TwoSets),
            &["mdadm --examine /dev/sdb1", "mdadm --zero-superblock /dev/sdb'", "mdadm --zero-superblock /dev/sdb1'"],
        ),
        (
            "halves made anew as two sets, with one file system",
            rig().member("b", 0, |m| m.roles = alone(0)).disk("c", |_| ()).md(0, |m| {
                (m.md.set_uuid, m.md.roles) = (MdUuid([8; 16]), alone(0));
            }),
            Refused(RefusalCode::LostMirror),
            &["SER-B", "SER-C", "one file system", "/dev/md/look", "--zero-superblock /dev/sdc"],
        ),
        ("a pair and half of another", rig().pair().other("d", 1), Refused(RefusalCode::MixedSets), &["SER-D"]),
        (
            "a RAID-5",
            rig().member("b", 0, |m| m.level = 5).member("c", 1, |m| m.level = 5),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-B", "RAID level 5"],
        ),
        (
            "a mirror being reshaped",
            rig().member("b", 0, |m| m.exotic = true).member("c", 1, |m| m.exotic = true),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-B", "reshaped"],
        ),
        (
            "a member that was being filled, alone",
            rig().member("c", 1, |m| (m.rebuilding, m.roles) = (true, alone(1))),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-C", "not a full copy"],
        ),
        (
            "a spare alone",
            rig().member("d", 1, |m| m.roles = vec![Slot::Active(0), Slot::Other]),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-D", "spare"],
        ),
        (
            "a pair that is write-protected",
            rig().disk("b", |d| d.read_only = true).md(0, |_| ()).disk("c", |d| d.read_only = true).md(1, |_| ()),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-B", "write-protected", "switch"],
        ),
        (
            "a pair with LUKS in it",
            holding(Kind::Luks),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-B", "LUKS", "with an ext4"],
        ),
        ("a pair with LVM in it", holding(Kind::Lvm), Refused(RefusalCode::UnsupportedSet), &["SER-C", "LVM"]),
        ("a pair with xfs in it", holding(Kind::Other("xfs")), Refused(RefusalCode::UnsupportedSet), &["SER-B", "xfs"]),
        (
            "a pair with btrfs in it",
            holding(Kind::Other("btrfs")),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-B", "btrfs"],
        ),
        (
            "a pair with nothing in it",
            rig().disk("b", |_| ()).md(0, |m| m.ext4 = None).disk("c", |_| ()).md(1, |m| m.ext4 = None),
            Refused(RefusalCode::FilesystemBroken),
            &["SER-B", "atlas init"],
        ),
        (
            "a mirror on LUKS",
            rig()
                .found("b", mark(Kind::Luks))
                .found("c", mark(Kind::Luks))
                .disk("x", mapped(Mapper::Luks, Some(named(0)), None)),
            Refused(RefusalCode::UnsupportedSet),
            &["inside LUKS", "SER-B", "SER-C", "vault"],
        ),
        (
            "our file system in a logical volume",
            rig().found("b", mark(Kind::Lvm)).disk("x", mapped(Mapper::Lvm, None, Some(UNBOUND_LABEL))),
            Refused(RefusalCode::UnsupportedSet),
            &["logical volume", "SER-B"],
        ),
    ]
}

/// Members of a pair that neither md's name nor the label shows as an Unbound set.
pub(super) fn renamed(count: u32) -> Rig {
    (0..count).fold(rig(), |rig, number| {
        rig.disk(["b", "c"][number as usize], |_| ()).md(number, |member| {
            member.md.name = "data".into();
            member.ext4.as_mut().unwrap().label.clear();
        })
    })
}

pub(super) fn nothing() -> Vec<Arrangement> {
    let missing = RefusalCode::MissingMember;
    let none = RefusalCode::NoUnboundSet;
    let root = |_: &mut Device| ();
    vec![
        ("no disk at all", rig(), Refused(none), &["no disk at all"]),
        (
            "this server's pair under another name and without its label",
            renamed(2).bound_record(MadeOf::Mirror, 9),
            Refused(RefusalCode::UnsupportedSet),
            &[
                "SER-B",
                "SER-C",
                "'data' instead of 'atlas-unbound'",
                "/opt/atlas/Set",
                "e2label /dev/md/atlas-unbound ATLAS-UNBOUND",
            ],
        ),
        (
            "half of this server's pair under another name and without its label",
            renamed(1).bound_record(MadeOf::Mirror, 9),
            Refused(missing),
            &["SER-B", "'data' instead of 'atlas-unbound'"],
        ),
        (
            "no disk at all, a controller without a driver",
            rig().controller(),
            Refused(none),
            &["1000:0072", "0000:03:00.0", "/etc/initramfs-tools/modules"],
        ),
        (
            "no disk at all, and a SCSI disk without the driver for disks",
            rig().scsi_disk(),
            Refused(none),
            &["SCSI disk QEMU HARDDISK at 2:0:0:1", "write sd_mod to /etc/initramfs-tools/modules"],
        ),
        (
            "the root disk alone",
            rig().disk("a", root).disk("a1", |d| {
                d.disk = Some("/dev/sda".into());
                d.traces = mark(Kind::Swap);
            }),
            Refused(none),
            &["SER-A", "sda1 swap space", "SATA port 0"],
        ),
        (
            "closed LUKS on both disks",
            rig().found("b", mark(Kind::Luks)).found("c", mark(Kind::Luks)),
            Refused(none),
            &["SER-B", "SER-C", "LUKS"],
        ),
        (
            "LUKS with our label",
            rig().found("b", labelled(Kind::Luks)),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-B", "LUKS"],
        ),
        (
            "btrfs with our label",
            rig().found("b", labelled(Kind::Other("btrfs"))),
            Refused(RefusalCode::UnsupportedSet),
            &["SER-B", "btrfs"],
        ),
        (
            "xfs on both disks",
            rig().found("b", mark(Kind::Other("xfs"))).found("c", mark(Kind::Other("xfs"))),
            Refused(none),
            &["SER-B", "SER-C", "xfs"],
        ),
        (
            "swap with a hibernation image",
            rig().found("b", mark(Kind::Hibernation)),
            Refused(none),
            &["SER-B", "hibernation"],
        ),
        (
            "both superblocks wiped",
            rig().found("b", headless()).found("c", headless()),
            Refused(none),
            &["SER-B", "SER-C", "wiped"],
        ),
        (
            "both disks unreadable",
            rig().found("b", unreadable()).found("c", unreadable()),
            Refused(none),
            &["SER-B", "SER-C", "Input/output error"],
        ),
        (
            "both disks blank",
            rig().found("b", vec![Trace::Blank]).found("c", vec![Trace::Blank]),
            Refused(none),
            &["SER-B", "empty"],
        ),
        (
            "something that nobody knows",
            rig().found("b", vec![]),
            Refused(none),
            &["SER-B", "nothing that is recognised"],
        ),
        (
            "another array",
            rig().disk("b", |_| ()).md(0, |m| (m.md.name, m.ext4) = ("data".into(), None)),
            Refused(none),
            &["SER-B", "md array 'data'"],
        ),
        (
            "an ordinary ext4 disk, write-protected",
            rig().found("b", vec![Trace::Blank]).disk("c", |d| d.read_only = true),
            Refused(none),
            &["SER-C", "write-protected"],
        ),
        (
            "halves of a 0.90 array without our label",
            rig().found("b", vec![old()]),
            Refused(none),
            &["SER-B", "format 0.90"],
        ),
        (
            "two sticks with our label and no data",
            rig().bare("b", 3, 0, |d| d.has_sid_data = Some(false)).bare("c", 4, 0, |d| d.has_sid_data = Some(false)),
            Refused(none),
            &["SER-B", "SER-C", "left alone"],
        ),
    ]
}

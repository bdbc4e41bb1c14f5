//! What lies on a disk that is no member of an md 1.x array: a table of the marks that file systems, volume managers and firmware leave.
//!
//! libblkid knows more, but decides by itself what counts; here a mark only names what an operator has in hand. Every mark lies
//! in one of a few blocks of 4096 bytes, so that a disk is read at a few places:
//!
//! ```text
//!   block        0   partition tables, LUKS, LVM, xfs, FAT, NTFS, …; swap in its last bytes
//!   block        1   bcache
//!   block        8   ISO 9660, JFS
//!   block       16   btrfs
//!   last 4 KiB       firmware RAID: DDF, Intel (IMSM), NVIDIA, LSI, JMicron
//! ```

use crate::shorten;
use std::fmt;

/// The length of a block in bytes.
pub const BLOCK_LEN: usize = 4096;
/// Where the blocks at the beginning lie, in bytes.
pub const BLOCKS: [u64; 4] = [0, 4096, 8 * 4096, 16 * 4096];

/// Something that is known by a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What it is.
    pub kind: Kind,
    /// Its label, where it has one.
    pub label: Option<String>,
}

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A partition table of either kind.
    PartitionTable,
    /// An encrypted container.
    Luks,
    /// A physical volume of LVM.
    Lvm,
    /// Swap space.
    Swap,
    /// Swap space with a hibernation image.
    Hibernation,
    /// A file system that is not ext4, or the member of something else, by its usual name.
    Other(&'static str),
    /// The member of a RAID that the firmware or a RAID card keeps, by its usual name.
    FirmwareRaid(&'static str),
}

impl Kind {
    /// Whether somebody could mean an Unbound set by it: a place where a file system may lie.
    pub fn may_hold_a_set(self) -> bool {
        !matches!(self, Kind::PartitionTable | Kind::Swap | Kind::Hibernation)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::PartitionTable => "a partition table",
            Kind::Luks => "LUKS (an encrypted container)",
            Kind::Lvm => "LVM (a physical volume)",
            Kind::Swap => "swap space",
            Kind::Hibernation => "swap space with a hibernation image",
            Kind::Other(name) => name,
            Kind::FirmwareRaid(name) => return write!(f, "firmware RAID ({name})"),
        })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        self.label.as_ref().map_or(Ok(()), |label| write!(f, " '{label}'"))
    }
}

/// A mark in the block that begins at `block` bytes.
struct Mark {
    kind: Kind,
    block: u64,
    at: usize,
    bytes: &'static [u8],
    /// Where its label lies, and how long it may be.
    label: Option<(usize, usize)>,
}

const fn mark(kind: Kind, block: u64, at: usize, bytes: &'static [u8]) -> Mark {
    Mark { kind, block, at, bytes, label: None }
}

const fn labelled(kind: Kind, block: u64, at: usize, bytes: &'static [u8], label: (usize, usize)) -> Mark {
    Mark { kind, block, at, bytes, label: Some(label) }
}

/// In the order in which they count: what is meant, before what was left behind.
const MARKS: &[Mark] = &[
    labelled(Kind::Luks, 0, 0, b"LUKS\xba\xbe\x00\x02", (24, 48)),
    mark(Kind::Luks, 0, 0, b"LUKS\xba\xbe"),
    mark(Kind::Lvm, 0, 512, b"LABELONE"),
    mark(Kind::Lvm, 0, 0, b"LABELONE"),
    mark(Kind::Lvm, 0, 1024, b"LABELONE"),
    mark(Kind::Lvm, 0, 1536, b"LABELONE"),
    labelled(Kind::Other("xfs"), 0, 0, b"XFSB", (108, 12)),
    labelled(Kind::Other("btrfs"), 16 * 4096, 64, b"_BHRfS_M", (299, 256)),
    mark(Kind::Hibernation, 0, 4086, b"S1SUSPEND"),
    mark(Kind::Hibernation, 0, 4086, b"ULSUSPEND"),
    labelled(Kind::Swap, 0, 4086, b"SWAPSPACE2", (1052, 16)),
    mark(Kind::Swap, 0, 4086, b"SWAP-SPACE"),
    mark(Kind::Other("bcache"), 4096, 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    mark(Kind::Other("bcachefs"), 4096, 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    mark(Kind::Other("f2fs"), 0, 1024, b"\x10\x20\xf5\xf2"),
    mark(Kind::Other("JFS"), 8 * 4096, 0, b"JFS1"),
    mark(Kind::Other("ISO 9660 (a CD image)"), 8 * 4096, 1, b"CD001"),
    mark(Kind::Other("squashfs"), 0, 0, b"hsqs"),
    mark(Kind::Other("BitLocker"), 0, 3, b"-FVE-FS-"),
    mark(Kind::Other("NTFS"), 0, 3, b"NTFS    "),
    mark(Kind::Other("exFAT"), 0, 3, b"EXFAT   "),
    labelled(Kind::Other("FAT"), 0, 82, b"FAT32   ", (71, 11)),
    labelled(Kind::Other("FAT"), 0, 54, b"FAT1", (43, 11)),
    mark(Kind::PartitionTable, 0, 512, b"EFI PART"),
];

/// What the block at `block` bytes of a device, or of an array's data, is marked as.
pub fn recognise(block: u64, bytes: &[u8]) -> Option<Content> {
    let found = MARKS.iter().filter(|mark| mark.block == block).find(|mark| has(bytes, mark.at, mark.bytes));
    match found {
        Some(mark) => Some(Content { kind: mark.kind, label: mark.label.and_then(|place| label(bytes, place)) }),
        None if block == 0 && is_partition_table(bytes) => Some(Content { kind: Kind::PartitionTable, label: None }),
        None => None,
    }
}

/// Firmware RAID, by the last 4096 bytes of a disk.
pub fn firmware_raid(tail: &[u8]) -> Option<Kind> {
    let at_end = |back: usize, bytes: &[u8]| tail.len().checked_sub(back).is_some_and(|at| has(tail, at, bytes));
    let name = if at_end(512, b"\xde\x11\xde\x11") {
        "DDF"
    } else if at_end(1024, b"Intel Raid ISM Cfg Sig. ") || at_end(4096, b"Intel Raid ISM Cfg Sig. ") {
        "Intel Matrix Storage, IMSM"
    } else if at_end(1024, b"NVIDIA") {
        "NVIDIA"
    } else if at_end(512, b"$XIDE$") {
        "LSI MegaRAID"
    } else if at_end(512, b"JM") {
        "JMicron"
    } else {
        return None;
    };
    Some(Kind::FirmwareRaid(name))
}

fn has(bytes: &[u8], at: usize, mark: &[u8]) -> bool {
    bytes.get(at..at + mark.len()) == Some(mark)
}

fn label(bytes: &[u8], (at, length): (usize, usize)) -> Option<String> {
    let label = bytes.get(at..at + length)?;
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(length);
    let text = String::from_utf8_lossy(&label[..end]);
    Some(shorten(text.trim_end(), 64)).filter(|text| !text.is_empty())
}

/// The table of a PC's BIOS: the mark in the last two bytes, and entries that begin as such entries do.
fn is_partition_table(sector: &[u8]) -> bool {
    let entry = |number: usize| sector.get(446 + 16 * number..462 + 16 * number);
    let entries: Vec<&[u8]> = (0..4).filter_map(entry).collect();
    has(sector, 510, b"\x55\xaa")
        && entries.len() == 4
        && entries.iter().all(|entry| entry[0] & 0x7f == 0)
        && entries.iter().any(|entry| entry[4] != 0 && entry[8..16].iter().any(|byte| *byte != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(puts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut block = vec![0; BLOCK_LEN];
        puts.iter().for_each(|(at, bytes)| block[*at..at + bytes.len()].copy_from_slice(bytes));
        block
    }

    fn shown(at: u64, puts: &[(usize, &[u8])]) -> String {
        recognise(at, &block(puts)).map_or("nothing".into(), |content| content.to_string())
    }

    #[test]
    fn what_stands_where_ext4_was_expected_is_named() {
        assert_eq!(shown(0, &[(0, b"LUKS\xba\xbe\0\x02"), (24, b"vault")]), "LUKS (an encrypted container) 'vault'");
        assert_eq!(shown(0, &[(0, b"LUKS\xba\xbe\0\x01"), (24, b"aes")]), "LUKS (an encrypted container)");
        assert_eq!(shown(0, &[(0, b"XFSB"), (108, b"data")]), "xfs 'data'");
        assert_eq!(shown(16 * 4096, &[(64, b"_BHRfS_M"), (299, b"ATLAS-UNBOUND")]), "btrfs 'ATLAS-UNBOUND'");
        assert_eq!(shown(0, &[(512, b"LABELONE")]), "LVM (a physical volume)");
        assert_eq!(shown(0, &[(4086, b"SWAPSPACE2")]), "swap space");
        assert_eq!(shown(0, &[(4086, b"S1SUSPEND")]), "swap space with a hibernation image");
        assert_eq!(shown(0, &[(510, b"\x55\xaa"), (450, b"\xfd"), (454, b"\x01")]), "a partition table");
        assert_eq!(shown(0, &[(510, b"\x55\xaa")]), "nothing");
        assert_eq!(shown(0, &[]), "nothing");
    }

    #[test]
    fn a_label_moves_no_cursor() {
        assert_eq!(shown(0, &[(0, b"XFSB"), (108, b"a\x1b[2J")]), "xfs 'a\\u{1b}[2J'");
    }

    #[test]
    fn firmware_raid_is_known_by_its_anchor_on_sectors_of_either_size() {
        for (at, bytes, name) in [
            (4096 - 512, b"\xde\x11\xde\x11".as_slice(), "DDF"),
            (4096 - 1024, b"Intel Raid ISM Cfg Sig. ", "IMSM"),
            (0, b"Intel Raid ISM Cfg Sig. ", "IMSM"),
        ] {
            let kind = firmware_raid(&block(&[(at, bytes)])).unwrap().to_string();
            assert!(kind.contains(name), "{kind}");
        }
        assert_eq!(firmware_raid(&block(&[])), None);
        assert_eq!(firmware_raid(b"short"), None);
    }

    proptest! {
        #[test]
        fn no_block_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), which in 0..BLOCKS.len()) {
            let _ = (recognise(BLOCKS[which], &bytes), firmware_raid(&bytes));
        }
    }
}

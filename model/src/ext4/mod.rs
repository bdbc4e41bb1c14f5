//! The superblock of an ext4 file system, as far as ATLAS judges by it.
//!
//! ```text
//! byte 1024 of the file system: 0x04 blocks  0x18 block size  0x30 written  0x38 magic  0x3a state  0x60 incompatible features
//!                               0x68 uuid  0x78 label  0x150 blocks, upper half  0x194 error count
//! ```

pub mod files;

use crate::Digest;

/// Where it lies, in bytes from the beginning of the file system.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// Its length in bytes.
pub const SUPERBLOCK_LEN: usize = 1024;

const STATE_VALID: u16 = 1;
const STATE_ERRORS: u16 = 2;
const INCOMPAT_RECOVER: u32 = 4;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64_BIT: u32 = 0x80;

/// What the superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext4Superblock {
    /// The file system's UUID.
    pub uuid: [u8; 16],
    /// The label, without padding.
    pub label: String,
    /// Whether it was unmounted in order and no error was noted: nothing to replay, nothing to mend.
    pub clean: bool,
    /// Whether the journal has to be replayed.
    pub needs_recovery: bool,
    /// How much of its device it takes up, in bytes; 0 where that cannot be read.
    pub size_bytes: u64,
    /// Whether it consists of whole block groups: so mke2fs leaves it that drops a last one with no room for its own tables.
    pub is_whole_groups: bool,
    /// Seconds since 1970 of the last write to the superblock.
    pub written: u64,
    /// The same of the last mount that could write.
    pub mounted: u64,
    /// How many of these there were since the last check.
    pub mounts: u16,
    /// Of the whole superblock: equal on two mirrors that hold the same file system at the same time.
    pub digest: Digest,
}

impl Ext4Superblock {
    /// Reads a superblock; `None` where the bytes are none.
    pub fn parse(block: &[u8]) -> Option<Ext4Superblock> {
        let block = block.get(..SUPERBLOCK_LEN)?;
        let u16_at = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        if u16_at(0x38) != 0xef53 {
            return None;
        }
        let label = &block[0x78..0x88];
        let label = &label[..label.iter().position(|b| *b == 0).unwrap_or(label.len())];
        let needs_recovery = u32_at(0x60) & INCOMPAT_RECOVER != 0;
        let state = u16_at(0x3a);
        Some(Ext4Superblock {
            uuid: std::array::from_fn(|index| block[0x68 + index]),
            label: String::from_utf8_lossy(label).escape_debug().to_string(),
            clean: state & STATE_VALID != 0 && state & STATE_ERRORS == 0 && u32_at(0x194) == 0 && !needs_recovery,
            needs_recovery,
            size_bytes: size_bytes(u32_at(4), u32_at(0x150), u32_at(0x18), u32_at(0x60)),
            is_whole_groups: is_whole_groups(u32_at(4), u32_at(0x14), u32_at(0x20)),
            written: u64::from(u32_at(0x30)) | u64::from(block[0x274]) << 32,
            mounted: u64::from(u32_at(0x2c)) | u64::from(block[0x275]) << 32,
            mounts: u16_at(0x34),
            digest: Digest::of(block),
        })
    }

    /// Which mount was the last one that could write: the same for as long as nobody has run the file system since.
    pub fn last_mount(&self) -> String {
        format!("{} {} {}", self.uuid_text(), self.mounts, self.mounted)
    }

    /// The UUID in its usual form.
    pub fn uuid_text(&self) -> String {
        let hex =
            |range: std::ops::Range<usize>| self.uuid[range].iter().map(|b| format!("{b:02x}")).collect::<String>();
        [hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-")
    }
}

/// By the lower half of the number of blocks: groups are powers of two but on oddities, which count as not whole.
fn is_whole_groups(blocks: u32, first: u32, of_group: u32) -> bool {
    of_group.is_power_of_two() && blocks.wrapping_sub(first).is_multiple_of(of_group)
}

fn size_bytes(blocks_low: u32, blocks_high: u32, log: u32, incompatible: u32) -> u64 {
    let high = if incompatible & INCOMPAT_64_BIT == 0 { 0 } else { blocks_high };
    let blocks = u64::from(blocks_low) | u64::from(high) << 32;
    if log > 6 { 0 } else { blocks.checked_mul(1024 << log).unwrap_or(0) }
}

/// Writes superblocks, for tests of what reads them.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    use super::*;

    /// A clean superblock with this label, last written at `written`.
    pub fn block(label: &str, written: u32) -> Vec<u8> {
        let mut block = vec![0; SUPERBLOCK_LEN];
        block[0x30..0x34].copy_from_slice(&written.to_le_bytes());
        block[0x38..0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
        block[0x3a..0x3c].copy_from_slice(&STATE_VALID.to_le_bytes());
        block[0x68..0x78].copy_from_slice(&[9; 16]);
        block[0x78..0x78 + label.len()].copy_from_slice(label.as_bytes());
        block
    }

    /// The same, of a file system of `size_bytes`, and with a UUID of its own.
    pub fn block_of(label: &str, uuid: u8, size_bytes: u64) -> Vec<u8> {
        let mut block = block(label, 5);
        block[0x04..0x08].copy_from_slice(&((size_bytes / 4096) as u32).to_le_bytes());
        block[0x18] = 2;
        block[0x68..0x78].copy_from_slice(&[uuid; 16]);
        block
    }

    /// The same, parsed.
    pub fn superblock(label: &str, written: u32) -> Ext4Superblock {
        #[allow(clippy::unwrap_used, reason = "a block made just above is one")]
        Ext4Superblock::parse(&block(label, written)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::block, *};

    #[test]
    fn a_clean_file_system_is_told_from_one_that_needs_work() {
        let mut bytes = block(crate::UNBOUND_LABEL, 5);
        let clean = Ext4Superblock::parse(&bytes).unwrap();
        assert_eq!((clean.label.as_str(), clean.clean, clean.needs_recovery), (crate::UNBOUND_LABEL, true, false));
        bytes[0x60] |= 4;
        let dirty = Ext4Superblock::parse(&bytes).unwrap();
        assert!(dirty.needs_recovery && !dirty.clean && dirty.digest != clean.digest);
        bytes[0x60] = 0;
        bytes[0x3a] = 3;
        assert!(!Ext4Superblock::parse(&bytes).unwrap().clean, "an error was noted");
    }

    #[test]
    fn other_bytes_are_no_superblock() {
        assert_eq!(Ext4Superblock::parse(&[0; SUPERBLOCK_LEN]), None);
        assert_eq!(Ext4Superblock::parse(&block("x", 0)[..1000]), None);
    }
}

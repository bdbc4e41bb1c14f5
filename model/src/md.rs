//! The superblock of a member of a Linux md array, as far as ATLAS judges by it.
//!
//! Format 1.x only, which `mdadm` has made by default since 2009. The fields lie little-endian at fixed offsets of one 4 KiB block:
//!
//! ```text
//!   0 magic      16 set uuid    32 set name   72 level      92 raid disks   128 data offset   144 super offset
//! 152 recovery  160 dev number 168 dev uuid  192 utime     200 events      208 resync offset  216 checksum
//! 220 max_dev   256 roles[max_dev]: for each device number the slot that it fills, or spare / faulty
//! ```
//!
//! Every member carries the whole roles table: what it believes of *all* members, as of its last write. Comparing the tables is
//! what tells two halves that ran apart from one half that was left behind.

use crate::Digest;
use std::fmt;

/// How many bytes from the superblock's offset a reader must supply.
pub const SUPERBLOCK_LEN: usize = 4096;
/// Where a superblock may lie on a device of `size` bytes: formats 1.2, 1.1 and 1.0, in bytes.
pub fn superblock_offsets(size_bytes: u64) -> [Option<u64>; 3] {
    // 1.0: at least 8 KiB, less than 12 KiB from the end, on a 4 KiB boundary.
    let at_end = (size_bytes / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    [Some(4096), Some(0), at_end]
}

const MAGIC: u32 = 0xa92b_4efc;
const MAX_DEVICES: usize = (SUPERBLOCK_LEN - 256) / 2;
const FEATURE_RECOVERY_OFFSET: u32 = 2;
const FEATURE_RESHAPE_ACTIVE: u32 = 4;
const FEATURE_BAD_BLOCKS: u32 = 8;
const FEATURE_JOURNAL: u32 = 512;
const DONE: u64 = u64::MAX;

/// A UUID, written as md writes it: `a1b2c3d4:…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MdUuid(pub [u8; 16]);

impl fmt::Display for MdUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index > 0 && index % 4 == 0 { ":" } else { "" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for MdUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A member's superblock whose checksum holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MdSuperblock {
    /// Of the array.
    pub set_uuid: MdUuid,
    /// Of the array, without the home host before the colon.
    pub name: String,
    /// The RAID level: 1 is a mirror.
    pub level: i32,
    /// How many slots the array has.
    pub raid_disks: u32,
    /// Where the array's data begin on the member, in bytes.
    pub data_offset_bytes: u64,
    /// How much of each member the array uses from there, in bytes.
    pub used_bytes: u64,
    /// This member's number; indexes [`MdSuperblock::roles`].
    pub dev_number: u32,
    /// Of this member.
    pub device_uuid: MdUuid,
    /// Seconds since 1970 of the last change of the array's state.
    pub utime: u64,
    /// Counts the changes of the array's state.
    pub events: u64,
    /// Whether the array was at rest when this was written: all members hold the same bytes.
    pub clean: bool,
    /// Whether this member was still being filled from another.
    pub rebuilding: bool,
    /// Whether the array is of a kind that ATLAS does not start: being reshaped, or with a write journal.
    pub exotic: bool,
    /// Whether md has noted blocks that this member cannot give: it is no copy of those, although it counts as one.
    pub bad_blocks: bool,
    /// For each device number, which slot it fills, as this member believes.
    pub roles: Vec<Slot>,
}

/// What a device number stands for in the roles table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It fills this slot of the array.
    Active(u16),
    /// It is a spare, failed, gone, or was never there.
    Other,
}

/// Why a block that begins like a superblock is not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadMdSuperblock {
    /// Fewer bytes than [`SUPERBLOCK_LEN`].
    #[error("the superblock is cut off")]
    TooShort,
    /// Not format 1.
    #[error("md superblock format {0} is not supported; formats 1.0, 1.1 and 1.2 are")]
    Version(u32),
    /// The sum over the bytes is another than the one written.
    #[error("the md superblock's checksum does not hold")]
    Checksum,
    /// A number that no real superblock has.
    #[error("the md superblock's {0} is out of bounds")]
    Bounds(&'static str),
}

impl MdSuperblock {
    /// Reads the block found at `offset_bytes` of a device.
    ///
    /// `Ok(None)`: nothing there begins like a superblock, or it belongs to another place (a partition at the end of a disk shows
    /// its superblock on the disk, too).
    pub fn parse(block: &[u8], offset_bytes: u64) -> Result<Option<MdSuperblock>, BadMdSuperblock> {
        if block.len() < SUPERBLOCK_LEN {
            return Err(BadMdSuperblock::TooShort);
        }
        if u32_at(block, 0) != MAGIC {
            return Ok(None);
        }
        let major = u32_at(block, 4);
        if major != 1 {
            return Err(BadMdSuperblock::Version(major));
        }
        if u64_at(block, 144).checked_mul(512) != Some(offset_bytes) {
            return Ok(None);
        }
        let max_dev = u32_at(block, 220) as usize;
        if max_dev > MAX_DEVICES {
            return Err(BadMdSuperblock::Bounds("number of devices"));
        }
        if checksum(&block[..256 + 2 * max_dev]) != u32_at(block, 216) {
            return Err(BadMdSuperblock::Checksum);
        }
        let raid_disks = u32_at(block, 92);
        let roles = (0..max_dev)
            .map(|index| u16::from_le_bytes([block[256 + 2 * index], block[257 + 2 * index]]))
            .map(|role| if u32::from(role) < raid_disks { Slot::Active(role) } else { Slot::Other })
            .collect::<Vec<_>>();
        let features = u32_at(block, 8);
        let superblock = MdSuperblock {
            set_uuid: MdUuid(uuid_at(block, 16)),
            name: set_name(&block[32..64]),
            level: i32::from_le_bytes([block[72], block[73], block[74], block[75]]),
            raid_disks,
            data_offset_bytes: u64_at(block, 128).checked_mul(512).ok_or(BadMdSuperblock::Bounds("data offset"))?,
            used_bytes: u64_at(block, 80).checked_mul(512).ok_or(BadMdSuperblock::Bounds("size"))?,
            dev_number: u32_at(block, 160),
            device_uuid: MdUuid(uuid_at(block, 168)),
            utime: u64_at(block, 192) & 0xff_ffff_ffff,
            events: u64_at(block, 200),
            clean: u64_at(block, 208) == DONE,
            rebuilding: features & FEATURE_RECOVERY_OFFSET != 0 && u64_at(block, 152) != DONE,
            exotic: features & (FEATURE_RESHAPE_ACTIVE | FEATURE_JOURNAL) != 0,
            bad_blocks: features & FEATURE_BAD_BLOCKS != 0,
            roles,
        };
        if superblock.raid_disks == 0 || superblock.raid_disks as usize > MAX_DEVICES {
            return Err(BadMdSuperblock::Bounds("number of slots"));
        }
        if superblock.dev_number as usize >= max_dev {
            return Err(BadMdSuperblock::Bounds("device number"));
        }
        Ok(Some(superblock))
    }

    /// The slot that this member says it fills.
    pub fn slot(&self) -> Slot {
        self.roles.get(self.dev_number as usize).copied().unwrap_or(Slot::Other)
    }

    /// The slots that some member fills, as this one believes.
    pub fn filled_slots(&self) -> impl Iterator<Item = u16> + '_ {
        self.roles.iter().filter_map(|slot| match slot {
            Slot::Active(number) => Some(*number),
            Slot::Other => None,
        })
    }

    /// Whether some member fills `slot`, as this one believes.
    pub fn is_filled(&self, slot: u16) -> bool {
        self.filled_slots().any(|filled| filled == slot)
    }

    /// Whether this member believes that every slot is filled.
    pub fn is_whole(&self) -> bool {
        (0..self.raid_disks).all(|slot| u16::try_from(slot).is_ok_and(|slot| self.is_filled(slot)))
    }

    /// A digest of what decides: two surveys that found the same state of this member agree on it.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(
            format!("{} {} {} {} {:?}", self.set_uuid, self.device_uuid, self.events, self.utime, self.roles)
                .as_bytes(),
        )
    }
}

/// The name without its home host: md writes `host:name`, and `any:name` for an array that belongs to no host.
fn set_name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    text.rsplit_once(':').map_or(text.as_ref(), |(_, name)| name).escape_debug().to_string()
}

/// md's own sum: of all 32-bit words but the checksum's, a last half word included, folded to 32 bits.
fn checksum(block: &[u8]) -> u32 {
    let words = block.chunks(4).enumerate().filter(|(index, _)| *index != 54);
    let sum: u64 = words.map(|(_, w)| w.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte))).sum();
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

fn u64_at(block: &[u8], at: usize) -> u64 {
    u64::from(u32_at(block, at)) | u64::from(u32_at(block, at + 4)) << 32
}

fn uuid_at(block: &[u8], at: usize) -> [u8; 16] {
    std::array::from_fn(|index| block[at + index])
}

/// Writes superblocks, for tests of what reads them.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    use super::*;

    /// The block of a format 1.2 member that [`MdSuperblock::parse`] reads as `sb`.
    pub fn to_block(sb: &MdSuperblock) -> Vec<u8> {
        let mut block = vec![0; SUPERBLOCK_LEN];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(4, &1u32.to_le_bytes());
        put(
            8,
            &(if sb.rebuilding { FEATURE_RECOVERY_OFFSET } else { 0 }
                | if sb.exotic { FEATURE_RESHAPE_ACTIVE } else { 0 }
                | if sb.bad_blocks { FEATURE_BAD_BLOCKS } else { 0 })
            .to_le_bytes(),
        );
        put(16, &sb.set_uuid.0);
        put(32, format!("any:{}", sb.name).as_bytes());
        put(72, &sb.level.to_le_bytes());
        put(80, &(sb.used_bytes / 512).to_le_bytes());
        put(92, &sb.raid_disks.to_le_bytes());
        put(128, &(sb.data_offset_bytes / 512).to_le_bytes());
        put(144, &8u64.to_le_bytes());
        put(160, &sb.dev_number.to_le_bytes());
        put(168, &sb.device_uuid.0);
        put(192, &sb.utime.to_le_bytes());
        put(200, &sb.events.to_le_bytes());
        put(208, &(if sb.clean { DONE } else { 0 }).to_le_bytes());
        put(220, &(sb.roles.len() as u32).to_le_bytes());
        for (index, slot) in sb.roles.iter().enumerate() {
            let role = match slot {
                Slot::Active(number) => *number,
                Slot::Other => 0xffff,
            };
            put(256 + 2 * index, &role.to_le_bytes());
        }
        mend_checksum(&mut block);
        block
    }

    /// Makes the checksum hold again after a change, where the block has one.
    pub fn mend_checksum(block: &mut [u8]) {
        if block.len() < SUPERBLOCK_LEN {
            return;
        }
        let max_dev = u32_at(block, 220) as usize;
        if max_dev <= MAX_DEVICES {
            let sum = checksum(&block[..256 + 2 * max_dev]);
            block[216..220].copy_from_slice(&sum.to_le_bytes());
        }
    }

    /// One half of a healthy mirror.
    pub fn half(dev_number: u32) -> MdSuperblock {
        MdSuperblock {
            set_uuid: MdUuid([7; 16]),
            name: crate::UNBOUND_ARRAY_NAME.into(),
            level: 1,
            raid_disks: 2,
            data_offset_bytes: 1 << 20,
            used_bytes: 64 << 20,
            dev_number,
            device_uuid: MdUuid([dev_number as u8; 16]),
            utime: 1_700_000_000,
            events: 40,
            clean: true,
            rebuilding: false,
            exotic: false,
            bad_blocks: false,
            roles: vec![Slot::Active(0), Slot::Active(1)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::*, *};
    use proptest::prelude::*;

    #[test]
    fn a_superblock_reads_back() {
        let sb = half(1);
        assert_eq!(MdSuperblock::parse(&to_block(&sb), 4096), Ok(Some(sb)));
    }

    #[test]
    fn one_changed_byte_breaks_the_checksum() {
        let good = to_block(&half(0));
        for at in [17, 40, 92, 128, 192, 200, 256, 259] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(MdSuperblock::parse(&bad, 4096), Err(BadMdSuperblock::Checksum), "byte {at}");
        }
    }

    #[test]
    fn a_superblock_of_another_place_is_not_this_devices() {
        assert_eq!(MdSuperblock::parse(&to_block(&half(0)), 0), Ok(None));
        assert_eq!(MdSuperblock::parse(&vec![0; SUPERBLOCK_LEN], 4096), Ok(None));
    }

    proptest! {
        #[test]
        fn no_block_makes_it_panic(noise in prop::collection::vec((0..SUPERBLOCK_LEN, any::<u8>()), 0..40), fix in any::<bool>()) {
            let mut block = to_block(&half(0));
            noise.iter().for_each(|(at, byte)| block[*at] = *byte);
            if fix {
                mend_checksum(&mut block);
            }
            if let Ok(Some(sb)) = MdSuperblock::parse(&block, 4096) {
                prop_assert!((sb.dev_number as usize) < sb.roles.len());
                let _ = (sb.slot(), sb.is_whole(), sb.fingerprint());
            }
        }
    }
}

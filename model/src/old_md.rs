//! The superblock of format 0.90, which md wrote before 2009 and some installers long after.
//!
//! It lies in the last 64 to 128 KiB of a member, on a boundary of 64 KiB, and the data begin at the member's first byte: a half
//! of such a mirror looks like a disk with a bare file system. ATLAS does not start such arrays; it has to know them.
//!
//! ```text
//! 32-bit words: 0 magic  1 major  2 minor  5,13,14,15 uuid  7 level  10 raid disks  32 time  38 checksum  39,40 events  992 own number
//! ```

use crate::md::MdUuid;

/// How many bytes a reader must supply.
pub const SUPERBLOCK_LEN: usize = 4096;
const MAGIC: u32 = 0xa92b_4efc;
const RESERVED: u64 = 64 << 10;

/// Where it may lie on a device of `size_bytes`.
pub fn offset(size_bytes: u64) -> Option<u64> {
    (size_bytes & !(RESERVED - 1)).checked_sub(RESERVED)
}

/// A member of an array of format 0.90.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldMember {
    /// Of the array.
    pub uuid: MdUuid,
    /// The RAID level: 1 is a mirror.
    pub level: i32,
    /// How many members the array has.
    pub raid_disks: u32,
    /// This member's number.
    pub number: u32,
    /// Counts the changes of the array's state.
    pub events: u64,
    /// Seconds since 1970 of the last change.
    pub utime: u64,
}

/// Reads the block at [`offset`]. The checksum is not looked at: a superblock that md would not take was one all the same.
pub fn parse(block: &[u8]) -> Option<OldMember> {
    let word = |index: usize| -> Option<u32> {
        block.get(4 * index..4 * index + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    if block.len() < SUPERBLOCK_LEN || word(0)? != MAGIC || word(1)? != 0 || !(90..=91).contains(&word(2)?) {
        return None;
    }
    let uuid = [5, 13, 14, 15].into_iter().map(word).collect::<Option<Vec<u32>>>()?;
    // As mdadm shows it: each word, not each byte, in the order of reading.
    let bytes: Vec<u8> = uuid.iter().flat_map(|word| word.to_be_bytes()).collect();
    Some(OldMember {
        uuid: MdUuid(bytes.try_into().ok()?),
        level: word(7)?.cast_signed(),
        raid_disks: word(10)?,
        number: word(992)?,
        // The lower half comes first on the machines that ATLAS runs on.
        events: u64::from(word(39)?) | u64::from(word(40)?) << 32,
        utime: u64::from(word(32)?),
    })
}

/// Writes superblocks, for tests of what reads them.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    use super::*;

    /// The block of one half of a mirror.
    pub fn block(number: u32) -> Vec<u8> {
        let mut block = vec![0; SUPERBLOCK_LEN];
        let mut put = |index: usize, word: u32| block[4 * index..4 * index + 4].copy_from_slice(&word.to_le_bytes());
        for (index, word) in [(0, MAGIC), (2, 90), (5, 0x0707_0707), (7, 1), (10, 2), (32, 1_700_000_000), (39, 40)] {
            put(index, word);
        }
        put(992, number);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_lies_on_a_boundary_before_the_last_64_kib() {
        assert_eq!(offset(1 << 20), Some((1 << 20) - (64 << 10)));
        assert_eq!(offset((1 << 20) + 4096), Some((1 << 20) - (64 << 10)));
        assert_eq!(offset(1000), None);
    }

    #[test]
    fn a_member_reads_back_and_other_blocks_are_none() {
        let member = parse(&testing::block(1)).unwrap();
        assert_eq!((member.level, member.raid_disks, member.number, member.events), (1, 2, 1, 40));
        assert_eq!(parse(&crate::md::testing::to_block(&crate::md::testing::half(0))), None);
        assert_eq!(parse(&vec![0; SUPERBLOCK_LEN]), None);
        assert_eq!(parse(&testing::block(0)[..4000]), None);
    }

    proptest! {
        #[test]
        fn no_block_makes_it_panic(noise in prop::collection::vec((12..SUPERBLOCK_LEN, any::<u8>()), 0..40)) {
            let mut block = testing::block(0);
            noise.iter().for_each(|(at, byte)| block[*at] = *byte);
            prop_assert!(parse(&block).is_some());
        }
    }
}

//! Finding a file in an ext4 file system that is not mounted: just enough to know whether a disk holds Unbound Data, and what it
//! says of itself, before anything is started.
//!
//! Nothing is written, no journal is replayed: what was written last may be missing, and on a file system that needs recovery the
//! answer "not there" proves nothing. Everything is bounded; what is beyond a bound, or of a kind that is not known here, is
//! [`Unknown`].
//!
//! ```text
//!   superblock ──► group descriptor ──► inode 2 (the root) ──► its blocks ──► entries ──► inode ──► its blocks ──► content
//! ```

use super::{INCOMPAT_META_BG, SUPERBLOCK_LEN, SUPERBLOCK_OFFSET};

/// Reads `length` bytes at an offset from the beginning of the file system; `None` where they cannot be read.
pub type Read<'r> = &'r dyn Fn(u64, usize) -> Option<Vec<u8>>;

/// What was asked for cannot be said: damaged, beyond a bound, or of a kind that is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

const ROOT: u32 = 2;
/// More blocks than a directory with a hundred thousand entries has.
const MAX_BLOCKS: usize = 1024;
const MAX_DEPTH: u16 = 3;
const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAGS_NOT_KNOWN: u32 = 0x800 | 0x1000_0000;
const EXTENT_MAGIC: u16 = 0xf30a;
const TYPE: u16 = 0xf000;
const TYPE_DIR: u16 = 0x4000;
const TYPE_FILE: u16 = 0x8000;

/// A file system that is only looked at.
pub struct Files<'r> {
    read: Read<'r>,
    block_len: usize,
    descriptors: u64,
    descriptor_len: u64,
    inodes: u32,
    inodes_per_group: u32,
    inode_len: u64,
}

/// A directory or file.
#[derive(Clone, Debug)]
pub struct Inode {
    mode: u16,
    size_bytes: u64,
    flags: u32,
    map: [u8; 60],
}

impl std::fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("block_len", &self.block_len).finish_non_exhaustive()
    }
}

impl<'r> Files<'r> {
    /// Reads the superblock.
    pub fn open(read: Read<'r>) -> Result<Files<'r>, Unknown> {
        let block =
            read(SUPERBLOCK_OFFSET, SUPERBLOCK_LEN).filter(|block| block.len() >= SUPERBLOCK_LEN).ok_or(Unknown)?;
        if u16_at(&block, 0x38)? != 0xef53 || u32_at(&block, 0x60)? & INCOMPAT_META_BG != 0 {
            return Err(Unknown);
        }
        let log = u32_at(&block, 0x18)?;
        if log > 6 {
            return Err(Unknown);
        }
        let block_len = 1024_usize << log;
        let is_64_bit = u32_at(&block, 0x60)? & 0x80 != 0;
        let descriptor_len = if is_64_bit { u64::from(u16_at(&block, 0xfe)?).max(32) } else { 32 };
        let files = Files {
            read,
            block_len,
            descriptors: (u64::from(u32_at(&block, 0x14)?) + 1) * block_len as u64,
            descriptor_len,
            inodes: u32_at(&block, 0)?,
            inodes_per_group: u32_at(&block, 0x28)?,
            inode_len: u64::from(u16_at(&block, 0x58)?),
        };
        let is_sound = files.inodes_per_group > 0 && (128..=4096).contains(&files.inode_len) && descriptor_len <= 1024;
        if is_sound { Ok(files) } else { Err(Unknown) }
    }

    /// The root directory.
    pub fn root(&self) -> Result<Inode, Unknown> {
        self.inode(ROOT)
    }

    /// What the directory has under this name.
    pub fn child(&self, dir: &Inode, name: &str) -> Result<Option<Inode>, Unknown> {
        if dir.mode & TYPE != TYPE_DIR {
            return Ok(None);
        }
        for block in self.blocks(dir)? {
            let entries = self.block(block)?;
            let mut at = 0;
            while at + 8 <= entries.len() {
                let length = usize::from(u16_at(&entries, at + 4)?);
                if length < 8 || at + length > entries.len() {
                    return Err(Unknown);
                }
                let (inode, name_len) = (u32_at(&entries, at)?, usize::from(entries[at + 6]));
                if inode != 0 && entries.get(at + 8..at + 8 + name_len) == Some(name.as_bytes()) {
                    return self.inode(inode).map(Some);
                }
                at += length;
            }
        }
        Ok(None)
    }

    /// All that a file holds; a file of more than `max` bytes is unknown.
    pub fn content(&self, file: &Inode, max: usize) -> Result<Vec<u8>, Unknown> {
        let size = usize::try_from(file.size_bytes).ok().filter(|size| *size <= max).ok_or(Unknown)?;
        if file.mode & TYPE != TYPE_FILE {
            return Err(Unknown);
        }
        let mut content = Vec::new();
        for block in self.blocks(file)? {
            content.extend(self.block(block)?);
        }
        content.truncate(size);
        if content.len() == size { Ok(content) } else { Err(Unknown) }
    }

    fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, Unknown> {
        (self.read)(offset, length).filter(|bytes| bytes.len() == length).ok_or(Unknown)
    }

    fn block(&self, number: u64) -> Result<Vec<u8>, Unknown> {
        self.bytes(number.checked_mul(self.block_len as u64).ok_or(Unknown)?, self.block_len)
    }

    fn inode(&self, number: u32) -> Result<Inode, Unknown> {
        if number == 0 || number > self.inodes {
            return Err(Unknown);
        }
        let (group, index) = ((number - 1) / self.inodes_per_group, (number - 1) % self.inodes_per_group);
        let at = self.descriptors + u64::from(group) * self.descriptor_len;
        let descriptor = self.bytes(at, usize::try_from(self.descriptor_len).map_err(|_| Unknown)?)?;
        let high = if self.descriptor_len >= 64 { u32_at(&descriptor, 0x28)? } else { 0 };
        let table = u64::from(u32_at(&descriptor, 8)?) | u64::from(high) << 32;
        let at = table.checked_mul(self.block_len as u64).ok_or(Unknown)?;
        let at = at.checked_add(u64::from(index) * self.inode_len).ok_or(Unknown)?;
        let inode = self.bytes(at, 128)?;
        Ok(Inode {
            mode: u16_at(&inode, 0)?,
            size_bytes: u64::from(u32_at(&inode, 4)?) | u64::from(u32_at(&inode, 0x6c)?) << 32,
            flags: u32_at(&inode, 0x20)?,
            map: inode.get(0x28..0x28 + 60).and_then(|map| map.try_into().ok()).ok_or(Unknown)?,
        })
    }

    /// The numbers of all its blocks, in order; a hole is unknown.
    fn blocks(&self, inode: &Inode) -> Result<Vec<u64>, Unknown> {
        let count = usize::try_from(inode.size_bytes.div_ceil(self.block_len as u64)).map_err(|_| Unknown)?;
        if count > MAX_BLOCKS || inode.flags & FLAGS_NOT_KNOWN != 0 {
            return Err(Unknown);
        }
        let mut blocks = Vec::new();
        if inode.flags & FLAG_EXTENTS != 0 {
            self.extents(&inode.map, MAX_DEPTH, count, &mut blocks)?;
        } else {
            let pointers = |bytes: &[u8]| {
                bytes.chunks_exact(4).filter_map(|word| u32_at(word, 0).ok()).map(u64::from).collect::<Vec<_>>()
            };
            let direct = pointers(&inode.map);
            blocks.extend_from_slice(&direct[..12.min(count)]);
            if count > 12 {
                blocks.extend(pointers(&self.block(direct[12])?));
            }
            blocks.truncate(count);
        }
        if blocks.len() == count && !blocks.contains(&0) { Ok(blocks) } else { Err(Unknown) }
    }

    fn extents(&self, node: &[u8], depth: u16, count: usize, blocks: &mut Vec<u64>) -> Result<(), Unknown> {
        let (entries, own_depth) = (usize::from(u16_at(node, 2)?), u16_at(node, 6)?);
        if u16_at(node, 0)? != EXTENT_MAGIC || own_depth > depth || 12 + 12 * entries > node.len() {
            return Err(Unknown);
        }
        for entry in node[12..12 + 12 * entries].chunks_exact(12) {
            if own_depth == 0 {
                let (first, length) = (u32_at(entry, 0)? as usize, usize::from(u16_at(entry, 4)?));
                let start = u64::from(u32_at(entry, 8)?) | u64::from(u16_at(entry, 6)?) << 32;
                if first != blocks.len() || length > 0x8000 || blocks.len() + length > count {
                    return Err(Unknown);
                }
                blocks.extend((0..length as u64).map(|index| start + index));
            } else {
                let below = u64::from(u32_at(entry, 4)?) | u64::from(u16_at(entry, 8)?) << 32;
                // The depth has to fall: no loop, and no more nodes than blocks.
                self.extents(&self.block(below)?, own_depth - 1, count, blocks)?;
                if blocks.len() > count {
                    return Err(Unknown);
                }
            }
        }
        Ok(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Unknown> {
    bytes.get(at..at + 2).map(|word| u16::from_le_bytes([word[0], word[1]])).ok_or(Unknown)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Unknown> {
    Ok(u32::from(u16_at(bytes, at)?) | u32::from(u16_at(bytes, at + 2)?) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::RefCell,
        collections::{BTreeMap, BTreeSet},
        path::Path,
        process::Command,
    };

    /// A file system of mke2fs, with `SID_DATA/Set` and as many other entries as are asked for.
    fn image(options: &[&str], others: usize) -> Vec<u8> {
        let tmp = tempfile::tempdir().unwrap();
        let (tree, image) = (tmp.path().join("tree"), tmp.path().join("image"));
        std::fs::create_dir_all(tree.join("SID_DATA")).unwrap();
        std::fs::write(tree.join("SID_DATA/Set"), b"format = 1\n").unwrap();
        (0..others).for_each(|number| std::fs::write(tree.join(format!("client-{number:040}")), b"").unwrap());
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        run(
            "/sbin/mke2fs",
            &[&["-q", "-F", "-t", "ext4", "-N", "4000", "-d", tree.to_str().unwrap()], options].concat(),
            &image,
        );
        std::fs::read(image).unwrap()
    }

    fn run(program: &str, arguments: &[&str], image: &Path) {
        let output = Command::new(program).args(arguments).arg(image).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {said}");
    }

    fn look(image: &[u8]) -> Result<Option<Vec<u8>>, Unknown> {
        look_by(&|offset, length| bytes_of(image, offset, length))
    }

    fn bytes_of(image: &[u8], offset: u64, length: usize) -> Option<Vec<u8>> {
        let at = usize::try_from(offset).ok()?;
        image.get(at..at.checked_add(length)?).map(<[u8]>::to_vec)
    }

    fn look_by(read: Read<'_>) -> Result<Option<Vec<u8>>, Unknown> {
        let files = Files::open(read)?;
        let root = files.root()?;
        let Some(sid) = files.child(&root, "SID_DATA")? else { return Ok(None) };
        let Some(set) = files.child(&sid, "Set")? else { return Ok(None) };
        let others = [files.child(&root, "SID_DAT")?, files.child(&set, "x")?];
        if others.iter().any(Option::is_some) {
            return Err(Unknown);
        }
        files.content(&set, 100).map(Some)
    }

    #[test]
    fn a_file_is_found_in_every_kind_of_ext4_that_mke2fs_makes() {
        for options in [
            [].as_slice(),
            &["-b", "1024"],
            &["-b", "4096"],
            &["-O", "^extents,^64bit,^metadata_csum"],
            &["-b", "1024", "-O", "^extents,^64bit"],
            &["-I", "128"],
        ] {
            for others in [0, 700] {
                assert_eq!(look(&image(options, others)), Ok(Some(b"format = 1\n".to_vec())), "{options:?} {others}");
            }
        }
    }

    #[test]
    fn damage_is_unknown_or_another_answer_and_never_a_panic() {
        let good = image(&["-b", "1024"], 3);
        let reads = RefCell::new(BTreeSet::new());
        let noted = look_by(&|offset, length| {
            reads.borrow_mut().extend(offset..offset + length as u64);
            bytes_of(&good, offset, length)
        });
        assert!(noted.is_ok());
        let mut answers = BTreeMap::<String, usize>::new();
        for at in reads.into_inner() {
            let answer = look_by(&|offset, length| {
                let mut bytes = bytes_of(&good, offset, length)?;
                if let Some(byte) = at.checked_sub(offset).and_then(|at| bytes.get_mut(at as usize)) {
                    *byte ^= 0xff;
                }
                Some(bytes)
            });
            *answers.entry(format!("{:?}", answer.map(|found| found.is_some()))).or_default() += 1;
        }
        assert!(answers.get("Err(Unknown)").is_some_and(|count| *count > 20), "{answers:?}");
        assert!(answers.contains_key("Ok(false)"), "a changed name is another: {answers:?}");
    }

    #[test]
    fn what_is_cut_off_is_unknown() {
        let good = image(&[], 0);
        assert_eq!(look(&good[..1500]), Err(Unknown));
        assert_eq!(look(&good[..4096]), Err(Unknown));
        assert_eq!(look(&[]), Err(Unknown));
    }
}

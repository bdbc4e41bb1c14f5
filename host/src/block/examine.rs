//! Reading what lies on the disks.
//!
//! First only what decides: md's superblocks, ext4's, and around a bare file system with our label whatever speaks for or against
//! its being whole. That is a handful of reads for each device, because every boot waits for them. Only where the answer will be a
//! refusal is everything else looked at, so that the screen can name it.

use atlas_model::{
    UNBOUND_LABEL,
    content::{self, Content},
    ext4::{self, Ext4Superblock, files::Files},
    md::{self, MdSuperblock},
    old_md,
    set_record::SetRecord,
    survey::{Device, Member, Single, Survey, Trace},
};
use nix::fcntl::OFlag;
use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// The length of a block that is read, and what its offset is a multiple of where the disk's sectors want it, in bytes.
const BLOCK: u64 = 4096;
/// Smaller, there is nothing to look at: an extended partition, a disk without a medium.
const SMALLEST: u64 = 8192;
/// Where mdadm lets the data of a member of format 1.2 begin, by the size of the disk, in sectors.
const DATA_OFFSETS: [u64; 10] = [2048, 4096, 6144, 10240, 18432, 34816, 67584, 133_120, 264_192, 272];

/// Reads the superblocks of all `devices`. A device that cannot be read is in the survey with its reason, not an error.
pub fn survey(devices: &[Device]) -> Survey {
    survey_by(devices, |looks, look| looks.into_iter().map(look).collect())
}

/// As [`survey`]; `each` has the second look at every one of the first, by itself or by somebody who may give up.
pub(crate) fn survey_by(
    devices: &[Device],
    mut each: impl FnMut(Vec<Looked>, fn(Looked) -> Looked) -> Vec<Looked>,
) -> Survey {
    let looks = devices.iter().map(|device| Looked { device: device.clone(), ..Looked::default() }).collect();
    let looks = each(looks, look);
    let survey = put_together(&looks);
    if survey.choose(None).is_ok() {
        return survey;
    }
    Survey { is_thorough: true, ..put_together(&each(looks, look_closer)) }
}

/// A device, and what was found on it so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looked {
    pub(crate) device: Device,
    pub(crate) member: Option<Member>,
    pub(crate) single: Option<Single>,
}

fn put_together(looks: &[Looked]) -> Survey {
    Survey {
        members: looks.iter().filter_map(|looked| looked.member.clone()).collect(),
        singles: looks.iter().filter_map(|looked| looked.single.clone()).collect(),
        devices: looks.iter().map(|looked| looked.device.clone()).collect(),
        ..Survey::default()
    }
}

/// A device that is open for reading.
struct Open {
    file: File,
    size_bytes: u64,
}

impl Open {
    fn device(device: &Device) -> Result<Open, Trace> {
        if device.size_bytes < SMALLEST {
            let why = "it has no size: no medium is in it, or the disk is dead";
            return Err(if device.size_bytes == 0 { Trace::Unreadable(why.into()) } else { Trace::Blank });
        }
        let file =
            open_direct(&device.path).map_err(|error| Trace::Unreadable(format!("it cannot be opened: {error}")))?;
        Ok(Open { file, size_bytes: device.size_bytes })
    }

    /// A block; `None` where the device is shorter.
    fn block(&self, offset: u64) -> Result<Option<Vec<u8>>, Trace> {
        if offset.checked_add(BLOCK).is_none_or(|end| end > self.size_bytes) {
            return Ok(None);
        }
        let unreadable = |error| Trace::Unreadable(format!("it cannot be read at byte {offset}: {error}"));
        read_block(&self.file, offset).map(Some).map_err(unreadable)
    }

    /// Any bytes, read as the blocks that they lie in.
    fn bytes(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let end = offset.checked_add(length as u64)?;
        let first = offset / BLOCK * BLOCK;
        let mut bytes = Vec::new();
        for at in (first..end).step_by(BLOCK as usize) {
            bytes.extend(self.block(at).ok()??);
        }
        bytes.get((offset - first) as usize..(end - first) as usize).map(<[u8]>::to_vec)
    }

    fn ext4(&self, offset: u64) -> Result<Option<Ext4Superblock>, Trace> {
        let block = if offset.is_multiple_of(512) { self.block(offset)? } else { None };
        Ok(block.and_then(|block| Ext4Superblock::parse(&block[ext4::SUPERBLOCK_OFFSET as usize..])))
    }

    /// The superblock of a member, and what could not be read or be right on the way.
    fn md(&self, traces: &mut Vec<Trace>) -> Option<MdSuperblock> {
        for offset in md::superblock_offsets(self.size_bytes).into_iter().flatten() {
            match self.block(offset) {
                Ok(None) => {}
                Ok(Some(block)) => match MdSuperblock::parse(&block, offset) {
                    Ok(None) => {}
                    Ok(Some(md)) => return Some(md),
                    Err(error) => traces.push(Trace::Damaged(error.to_string())),
                },
                Err(trace) => traces.push(trace),
            }
        }
        None
    }
}

/// The file system at the beginning of a member's data.
fn inside(open: &Open, md: &MdSuperblock) -> Option<Ext4Superblock> {
    open.ext4(md.data_offset_bytes).ok().flatten()
}

/// What decides.
fn look(mut looked: Looked) -> Looked {
    let device = &mut looked.device;
    if device.mapping.is_some() {
        return looked;
    }
    let open = match Open::device(device) {
        Ok(open) => open,
        Err(trace) => {
            device.traces.push(trace);
            return looked;
        }
    };
    let (path, serial) = (device.path.display().to_string(), device.serial.clone());
    if let Some(md) = open.md(&mut device.traces) {
        let ext4 = inside(&open, &md);
        looked.member = Some(Member { device: path, serial, md, ext4 });
        return looked;
    }
    match open.ext4(0) {
        Ok(Some(ext4)) => {
            if ext4.label == UNBOUND_LABEL {
                is_it_whole(&open, device);
            }
            looked.single = Some(Single { device: path, serial, ext4 });
        }
        Ok(None) => {}
        Err(trace) => device.traces.push(trace),
    }
    looked
}

/// What speaks for and against a bare file system's being whole.
fn is_it_whole(open: &Open, device: &mut Device) {
    at_the_end(open, device);
    let read = |offset: u64, length: usize| open.bytes(offset, length);
    let Ok(files) = Files::open(&read) else { return };
    let Ok(sid) = files.root().and_then(|root| files.child(&root, "SID_DATA")) else { return };
    device.has_sid_data = Some(sid.is_some());
    let record = sid.and_then(|sid| files.child(&sid, SetRecord::NAME).transpose());
    let content = record.map(|record| record.and_then(|record| files.content(&record, SetRecord::MAX_SIZE)));
    device.record = content.map(|content| match content {
        Ok(content) => SetRecord::parse(&content).map_err(|error| error.to_string()),
        Err(_) => Err("the file cannot be read".into()),
    });
}

/// What a RAID keeps at the end.
fn at_the_end(open: &Open, device: &mut Device) {
    let old = old_md::offset(open.size_bytes).map_or(Ok(None), |offset| open.block(offset));
    let tail = open.block(open.size_bytes - BLOCK);
    match old.map(|block| block.and_then(|block| old_md::parse(&block))) {
        Ok(found) => device.traces.extend(found.map(Trace::OldMd)),
        Err(trace) => device.traces.push(trace),
    }
    match tail.map(|block| block.and_then(|block| content::firmware_raid(&block))) {
        Ok(found) => device.traces.extend(found.map(|kind| Trace::Content(Content { kind, label: None }))),
        Err(trace) => device.traces.push(trace),
    }
}

/// Everything else, for the screen.
fn look_closer(mut looked: Looked) -> Looked {
    let data_offset =
        looked.member.as_ref().filter(|member| member.ext4.is_none()).map(|member| member.md.data_offset_bytes);
    let is_known = looked.member.is_some() || looked.single.is_some();
    let device = &mut looked.device;
    let Ok(open) = Open::device(device) else { return looked };
    if let Some(at) = data_offset {
        device.traces.extend(marks(&open, at).1.into_iter().map(Trace::Inside));
    }
    if is_known {
        return looked;
    }
    if device.mapping.is_some() {
        let md = open.md(&mut device.traces);
        let ext4 = md.as_ref().map_or_else(|| open.ext4(0).ok().flatten(), |md| inside(&open, md));
        if md.is_some() || ext4.is_some() {
            device.traces.push(Trace::Mapped { md, ext4 });
            return looked;
        }
    }
    at_the_end(&open, device);
    let (is_blank, found) = marks(&open, 0);
    device.traces.extend(found.into_iter().map(Trace::Content));
    device.traces.extend(headless(&open));
    if is_blank && device.traces.is_empty() {
        device.traces.push(Trace::Blank);
    }
    looked
}

/// Marks in the blocks from `begin` on; and whether all of these are zero.
fn marks(open: &Open, begin: u64) -> (bool, Vec<Content>) {
    let mut is_blank = true;
    let mut found = Vec::new();
    for at in content::BLOCKS {
        let Some(block) = begin.checked_add(at).and_then(|offset| open.block(offset).ok().flatten()) else { continue };
        is_blank &= block.iter().all(|byte| *byte == 0);
        found.extend(content::recognise(at, &block));
    }
    (is_blank, found)
}

/// An Unbound file system where a member has it.
fn headless(open: &Open) -> Option<Trace> {
    DATA_OFFSETS.iter().find_map(|sectors| {
        let at_bytes = sectors * 512;
        let ext4 = open.ext4(at_bytes).ok().flatten().filter(|ext4| ext4.label == UNBOUND_LABEL)?;
        Some(Trace::Headless { at_bytes, ext4 })
    })
}

/// The ext4 file system on a device; `None` where there is none, or the device cannot be read.
pub fn ext4_on(device: &Path) -> Option<Ext4Superblock> {
    let block = read_block(&open_direct(device).ok()?, 0).ok()?;
    Ext4Superblock::parse(&block[ext4::SUPERBLOCK_OFFSET as usize..])
}

/// Its UUID.
pub fn ext4_uuid(device: &Path) -> Option<String> {
    ext4_on(device).map(|superblock| superblock.uuid_text())
}

/// The same of the file system that holds `path`.
pub fn ext4_uuid_below(path: &Path) -> Option<String> {
    let number = std::fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::libc::major(number), nix::libc::minor(number));
    let device = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    ext4_uuid(&Path::new("/dev").join(device.file_name()?))
}

/// Past the page cache where the file system under an image file allows it.
pub(crate) fn open_direct(path: &Path) -> io::Result<File> {
    let open = |flags: OFlag| File::options().read(true).custom_flags(flags.bits()).open(path);
    open(OFlag::O_DIRECT).or_else(|error| match error.raw_os_error() {
        Some(nix::libc::EINVAL) => open(OFlag::empty()),
        _ => Err(error),
    })
}

/// One block of 4096 bytes, read into memory that is aligned as direct reads need it.
pub(crate) fn read_block(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    #[repr(align(4096))]
    struct Aligned([u8; BLOCK as usize]);
    let mut block = Box::new(Aligned([0; BLOCK as usize]));
    file.read_exact_at(&mut block.0, offset)?;
    Ok(block.0.to_vec())
}

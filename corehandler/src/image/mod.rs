//! An ELF file that code came from: its build id, its sections, its symbols.
//!
//! Only what is asked for is read, from a file of any size; nothing of it is believed before its build id (or, where it has none, its
//! first page) was compared with what the core says was running.

mod blocks;
mod symbols;

use crate::unpack::Packing;
use blocks::Blocks;
use object::{
    Object, ObjectSection, ObjectSegment, ReadCache, ReadRef,
    elf::FileHeader64,
    read::elf::{FileHeader, SectionHeader},
    read::{CompressedData, CompressionFormat, elf::ElfFile},
};
use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    rc::Rc,
    time::SystemTime,
};
pub use symbols::Symbol;

/// The largest section that is read, in bytes.
pub const SECTION_LIMIT: u64 = 1 << 30;
/// The largest table of a "mini debug info" section, unpacked, in bytes.
const MINI_LIMIT: u64 = 256 << 20;

/// Where an image's bytes are.
#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Vec<u8>),
}

/// A section's place.
#[derive(Clone, Debug)]
struct Section {
    name: String,
    address: u64,
    size: u64,
    file_offset: u64,
    stored_size: u64,
    compression: CompressionFormat,
}

/// A loaded part.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its address in the file's own numbering.
    pub address: u64,
    /// Its bytes in memory.
    pub size: u64,
    /// Where it lies in the file.
    pub file_offset: u64,
    /// Its bytes in the file.
    pub file_size: u64,
}

/// A section's content with the address that it was linked for.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The address, in the file's own numbering.
    pub address: u64,
    /// The content, unpacked.
    pub data: Vec<u8>,
}

/// An ELF file.
#[derive(Debug)]
pub struct Image {
    /// Where it was found; empty for one that was found in the core's memory or in another image.
    pub path: PathBuf,
    bytes: Bytes,
    sections: Vec<Section>,
    /// Its loaded parts.
    pub loads: Vec<Load>,
    /// What the linker stamped it with.
    pub build_id: Option<Vec<u8>>,
    mini: OnceCell<Option<Box<Image>>>,
    kept: RefCell<BTreeMap<String, Option<Rc<Loaded>>>>,
}

impl Image {
    /// Opens a file.
    pub fn open(path: &Path) -> io::Result<Image> {
        // A file of the kernel's seems empty, and reading it may never end.
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(io::Error::other("it is no regular file with content"));
        }
        let file = File::open(path)?;
        let cache = ReadCache::new(Blocks::of(&file));
        let (sections, loads, build_id) = describe(&cache)?;
        let bytes = Bytes::File(file.try_clone()?);
        Ok(Image {
            path: path.to_owned(),
            bytes,
            sections,
            loads,
            build_id,
            mini: OnceCell::new(),
            kept: RefCell::default(),
        })
    }

    /// Takes one that lies in memory.
    pub fn from_memory(data: Vec<u8>) -> io::Result<Image> {
        let (sections, loads, build_id) = describe(data.as_slice())?;
        Ok(Image {
            path: PathBuf::new(),
            bytes: Bytes::Memory(data),
            sections,
            loads,
            build_id,
            mini: OnceCell::new(),
            kept: RefCell::default(),
        })
    }

    /// Whether the file was put there, or changed, after this time.
    pub fn is_newer(&self, time: SystemTime) -> bool {
        let Bytes::File(file) = &self.bytes else { return false };
        let since =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().cast_signed();
        file.metadata().is_ok_and(|metadata| {
            i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()) > since(time)
        })
    }

    /// Reads bytes of the file; says how many there were.
    pub fn read_file(&self, offset: u64, buffer: &mut [u8]) -> usize {
        match &self.bytes {
            Bytes::File(file) => file.read_at(buffer, offset).unwrap_or(0),
            Bytes::Memory(data) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
                let count = buffer.len().min(data.len() - from);
                buffer[..count].copy_from_slice(&data[from..from + count]);
                count
            }
        }
    }

    /// Reads what the file says lies at `address` in memory.
    pub fn read_address(&self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(load) =
            self.loads.iter().find(|load| address.checked_sub(load.address).is_some_and(|at| at < load.file_size))
        else {
            return 0;
        };
        let within = address - load.address;
        let count = usize::try_from(load.file_size - within).unwrap_or(usize::MAX).min(buffer.len());
        self.read_file(load.file_offset.saturating_add(within), &mut buffer[..count])
    }

    fn place(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Whether it has this section, with content.
    pub fn has(&self, name: &str) -> bool {
        self.place(name).is_some_and(|section| section.stored_size > 0)
    }

    /// The addresses that a section covers, in the file's own numbering.
    pub fn range(&self, name: &str) -> Option<std::ops::Range<u64>> {
        self.place(name).map(|section| section.address..section.address.saturating_add(section.size))
    }

    /// A section's content.
    pub fn section(&self, name: &str) -> Option<Loaded> {
        let place = self.place(name)?;
        if place.stored_size > SECTION_LIMIT || place.size > SECTION_LIMIT {
            return None;
        }
        let mut data = vec![0; self.there(place)];
        let got = self.read_file(place.file_offset, &mut data);
        data.truncate(got);
        let packed = CompressedData { format: place.compression, data: &data, uncompressed_size: place.size };
        let data = match place.compression {
            CompressionFormat::None => data,
            _ => packed.decompress().ok()?.into_owned(),
        };
        Some(Loaded { address: place.address, data })
    }

    /// A section's size, unpacked.
    pub fn size(&self, name: &str) -> Option<u64> {
        self.place(name).map(|section| section.size).filter(|size| *size <= SECTION_LIMIT)
    }

    /// A part of a section, whole; `None` where it is not there, or the section is packed.
    pub fn part(&self, name: &str, from: u64, length: u64) -> Option<Vec<u8>> {
        let place = self.place(name).filter(|place| place.compression == CompressionFormat::None)?;
        if from.checked_add(length)? > self.there(place) as u64 {
            return None;
        }
        let mut data = vec![0; usize::try_from(length).ok()?];
        let got = self.read_file(place.file_offset.checked_add(from)?, &mut data);
        (got == data.len()).then_some(data)
    }

    /// A section that is asked for again and again.
    fn kept(&self, name: &str) -> Option<Rc<Loaded>> {
        if let Some(kept) = self.kept.borrow().get(name) {
            return kept.clone();
        }
        let loaded = self.section(name).map(Rc::new);
        self.kept.borrow_mut().insert(name.to_owned(), loaded.clone());
        loaded
    }

    /// A section's stored size, as far as the file goes: a lying header buys no memory.
    fn there(&self, place: &Section) -> usize {
        let length = match &self.bytes {
            Bytes::File(file) => file.metadata().map_or(0, |metadata| metadata.len()),
            Bytes::Memory(data) => data.len() as u64,
        };
        usize::try_from(place.stored_size.min(length.saturating_sub(place.file_offset))).unwrap_or(0)
    }

    /// The symbol table that distributions pack into stripped files (`.gnu_debugdata`), where there is one.
    pub fn mini(&self) -> Option<&Image> {
        let unpack = || {
            let packed = self.section(".gnu_debugdata")?;
            let mut unpacked = Vec::new();
            let reader = Packing::Xz.reader(Box::new(packed.data.as_slice())).ok()?;
            reader.take(MINI_LIMIT + 1).read_to_end(&mut unpacked).ok()?;
            (unpacked.len() as u64 <= MINI_LIMIT).then(|| Image::from_memory(unpacked).ok().map(Box::new))?
        };
        self.mini.get_or_init(unpack).as_deref()
    }
}

/// What a file says of itself: its sections, its loaded parts, its build id.
type Description = (Vec<Section>, Vec<Load>, Option<Vec<u8>>);

/// The parts and sections that are read at most.
const PARTS_LIMIT: u32 = 1 << 18;

/// Whether the headers ask for more than any program has. They are read whole, as symbol tables are, and a file with holes can promise
/// any number of them.
fn asks_too_much<'d>(data: impl ReadRef<'d>) -> object::Result<bool> {
    let header = FileHeader64::<object::LittleEndian>::parse(data)?;
    let endian = header.endian()?;
    if header.phnum(endian, data)? > PARTS_LIMIT || header.shnum(endian, data)? > PARTS_LIMIT {
        return Ok(true);
    }
    let symbols = |kind| kind == object::elf::SHT_SYMTAB || kind == object::elf::SHT_DYNSYM;
    let mut sections = header.section_headers(endian, data)?.iter();
    Ok(sections.any(|section| symbols(section.sh_type(endian)) && section.sh_size(endian) > MINI_LIMIT))
}

/// Reads the headers.
fn describe<'d>(data: impl ReadRef<'d>) -> io::Result<Description> {
    if asks_too_much(data).map_err(io::Error::other)? {
        return Err(io::Error::other("its headers ask for more than any program has"));
    }
    let elf = ElfFile::<FileHeader64<object::LittleEndian>, _>::parse(data).map_err(io::Error::other)?;
    let mut sections = Vec::new();
    for section in elf.sections() {
        let Ok(range) = section.compressed_file_range() else { continue };
        sections.push(Section {
            name: section.name().unwrap_or_default().to_owned(),
            address: section.address(),
            size: range.uncompressed_size,
            file_offset: range.offset,
            stored_size: range.compressed_size,
            compression: range.format,
        });
    }
    let loads = elf.segments().map(|segment| {
        let (file_offset, file_size) = segment.file_range();
        Load { address: segment.address(), size: segment.size(), file_offset, file_size }
    });
    let mut build_id = elf.build_id().ok().flatten().map(<[u8]>::to_vec);
    if build_id.is_none() {
        // Go's linker has a mark of its own: three sizes and kinds, `Go`, and the mark.
        let note = elf.section_by_name(".note.go.buildid").and_then(|section| section.data().ok());
        build_id = note.and_then(|note| {
            let size = u32::from_le_bytes(note.get(4..8)?.try_into().ok()?);
            note.get(16..16usize.checked_add(usize::try_from(size).ok()?)?).map(<[u8]>::to_vec)
        });
    }
    Ok((sections, loads.collect(), build_id))
}

//! An ELF file that code came from: its build id, its sections, its symbols.
//!
//! Only what is asked for is read, from a file of any size; nothing of it is believed before its build id (or, where it has none, its
//! first page) was compared with what the core says was running.

use crate::unpack::Packing;
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
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    rc::Rc,
};

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

/// A function's name, as the linker knew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The mangled name, without the version that `@` begins.
    pub name: String,
    /// Where it begins, in the file's own numbering.
    pub address: u64,
    /// Whether the table says where it ends.
    pub has_size: bool,
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
        let cache = ReadCache::new(&file);
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

    /// The functions of the table `symbols` (`.symtab` or `.dynsym`) that cover these addresses, which are sorted, in the file's
    /// own numbering. One pass over the table; only the names that are wanted are read.
    pub fn functions(&self, table: &str, addresses: &[u64]) -> Vec<Option<Symbol>> {
        let strings = if table == ".dynsym" { ".dynstr" } else { ".strtab" };
        let mut best: Vec<Option<Candidate>> = vec![None; addresses.len()];
        let Some(symbols) = self.kept(table) else { return vec![None; addresses.len()] };
        for raw in symbols.data.chunks_exact(24) {
            let Some(entry) = Entry::parse(raw) else { continue };
            let from = addresses.partition_point(|address| *address < entry.address);
            for (address, best) in addresses.iter().zip(&mut best).skip(from) {
                // A symbol without a size (hand-written assembly) covers what nothing else does, up to a page.
                if *address - entry.address >= entry.size.max(if entry.size == 0 { 4096 } else { 0 }) {
                    break;
                }
                match best {
                    Some(best) => best.meet(entry),
                    None => *best = Some(Candidate { entry, names: vec![entry.name] }),
                }
            }
        }
        best.into_iter().map(|candidate| self.named(strings, &candidate?)).collect()
    }

    /// Of several names of one function, the one for people: few underscores, short.
    fn named(&self, strings: &str, candidate: &Candidate) -> Option<Symbol> {
        let names = candidate.names.iter().filter_map(|name| self.string(strings, u64::from(*name)));
        let underscores = |name: &str| name.bytes().take_while(|byte| *byte == b'_').count();
        let name =
            names.filter(|name| !name.is_empty()).min_by_key(|name| (underscores(name), name.len(), name.clone()))?;
        Some(Symbol { name, address: candidate.entry.address, has_size: candidate.entry.size > 0 })
    }

    fn string(&self, table: &str, at: u64) -> Option<String> {
        let place = self.place(table)?;
        let mut bytes = vec![0; 256];
        loop {
            let got = self.read_file(place.file_offset.checked_add(at)?, &mut bytes);
            let window = &bytes[..got];
            if let Some(end) = window.iter().position(|byte| *byte == 0) {
                let name = String::from_utf8_lossy(&window[..end]).into_owned();
                return Some(name.split('@').next().unwrap_or_default().to_owned());
            }
            if got < bytes.len() || bytes.len() > 1 << 16 {
                return None;
            }
            bytes.resize(bytes.len() * 4, 0);
        }
    }

    /// The address of a variable or function by its name, from the dynamic or the full table.
    pub fn address_of(&self, name: &str) -> Option<u64> {
        [".dynsym", ".symtab"].into_iter().find_map(|table| {
            let strings = self.section(if table == ".dynsym" { ".dynstr" } else { ".strtab" })?.data;
            let symbols = self.section(table)?.data;
            let wanted = |raw: &&[u8]| {
                let at = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]) as usize;
                strings.get(at..).is_some_and(|rest| {
                    rest.starts_with(name.as_bytes()) && matches!(rest.get(name.len()), Some(0 | b'@'))
                })
            };
            let raw = symbols.chunks_exact(24).find(wanted)?;
            Some(u64::from_le_bytes(raw[8..16].try_into().ok()?)).filter(|address| *address != 0)
        })
    }

    /// Which function's address the dynamic linker put at `slot`: how a call through the procedure linkage table finds its target.
    pub fn imported(&self, slot: u64) -> Option<String> {
        [".rela.plt", ".rela.dyn"].into_iter().find_map(|name| {
            let relocations = &self.kept(name)?.data;
            let field = |raw: &[u8], at: usize| u64::from_le_bytes(raw[at..at + 8].try_into().unwrap_or_default());
            let raw = relocations.chunks_exact(24).find(|raw| field(raw, 0) == slot)?;
            let (kind, symbol) = (field(raw, 8) & 0xffff_ffff, field(raw, 8) >> 32);
            // 37: a function that chooses its own implementation; the addend is the chooser, which bears the public name.
            if kind == 37 {
                let chooser = field(raw, 16);
                let [found] = self.functions(".symtab", &[chooser]).try_into().ok()?;
                return found.filter(|symbol| symbol.address == chooser).map(|symbol| symbol.name);
            }
            let symbols = &self.kept(".dynsym")?.data;
            let at = usize::try_from(symbol).ok()?.checked_mul(24)?;
            let name = u32::from_le_bytes(symbols.get(at..at + 4)?.try_into().ok()?);
            self.string(".dynstr", u64::from(name)).filter(|name| !name.is_empty())
        })
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
    Ok((sections, loads.collect(), elf.build_id().ok().flatten().map(<[u8]>::to_vec)))
}

/// A function in a symbol table.
#[derive(Clone, Copy, Debug)]
struct Entry {
    name: u32,
    address: u64,
    size: u64,
}

impl Entry {
    fn parse(raw: &[u8]) -> Option<Entry> {
        let (info, section) = (raw[4], u16::from_le_bytes([raw[6], raw[7]]));
        // Functions, functions that choose their implementation, and labels of hand-written code.
        if !matches!(info & 15, 0 | 2 | 10) || section == 0 || section == 0xfff1 {
            return None;
        }
        let address = u64::from_le_bytes(raw[8..16].try_into().ok()?);
        let size = u64::from_le_bytes(raw[16..24].try_into().ok()?);
        let name = u32::from_le_bytes(raw[0..4].try_into().ok()?);
        (name != 0 && address != 0).then_some(Entry { name, address, size })
    }
}

/// The symbols that may be the one around an address.
#[derive(Clone, Debug)]
struct Candidate {
    entry: Entry,
    names: Vec<u32>,
}

/// How many names of one function are compared.
const NAMES: usize = 16;

impl Candidate {
    /// Of two that cover an address the nearer one counts, and the one that has a size; names of one place add up.
    fn meet(&mut self, entry: Entry) {
        let rank = |entry: &Entry| (entry.size != 0, entry.address);
        match rank(&entry).cmp(&rank(&self.entry)) {
            std::cmp::Ordering::Greater => *self = Candidate { entry, names: vec![entry.name] },
            std::cmp::Ordering::Equal if self.names.len() < NAMES => self.names.push(entry.name),
            _ => {}
        }
    }
}

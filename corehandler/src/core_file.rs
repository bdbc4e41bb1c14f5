//! A core file: the threads' registers, what was mapped where, and the memory that the kernel wrote out.
//!
//! ```text
//! ELF header
//! PT_NOTE   NT_PRSTATUS (one per thread; the first is the one that crashed)  NT_PRPSINFO  NT_SIGINFO  NT_AUXV  NT_FILE
//! PT_LOAD…  p_vaddr, p_memsz: what was mapped;  p_offset, p_filesz: what of it was written (code usually was not)
//! ```
//!
//! A core comes from a program that has just shown that it cannot be trusted: every count and size is bounded, and nothing is read
//! into memory but the notes and what is asked for.

use crate::unpack::{self, Packing};
use object::{
    Endianness,
    elf::{self, FileHeader64},
    read::{
        ReadCache,
        elf::{FileHeader, ProgramHeader},
    },
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The bytes of notes that are read at most: some 600 bytes per thread, and the names of what is mapped.
pub const NOTES_LIMIT: u64 = 64 << 20;
/// The threads that are read at most.
pub const THREADS_LIMIT: usize = 100_000;
/// The mappings that are read at most.
pub const MAPPINGS_LIMIT: u64 = 1 << 20;
/// The parts of memory that are read at most; Linux lets a process have 65 530, if nobody raised that.
pub const PARTS_LIMIT: u32 = 1 << 20;
/// The bytes of the environment that are looked at.
const ENVIRONMENT_LIMIT: u64 = 256 << 10;
/// How much of it is looked at first, in bytes.
const ENVIRONMENT_FIRST: u64 = 4 << 10;

/// Why a file is not taken for a core.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// It could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// It is no core file of a kind that is known here.
    #[error("{} is not a core file that can be read: {why}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        why: String,
    },
}

/// How many registers are kept: the sixteen general ones, in DWARF's order for x86-64.
pub const REGISTERS: usize = 16;
/// DWARF's number of the register that holds a call's first argument.
pub const RDI: usize = 5;
/// DWARF's number of the frame pointer.
pub const RBP: usize = 6;
/// DWARF's number of the stack pointer.
pub const RSP: usize = 7;

/// The registers of a frame; `None` is a register whose value is not known there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The program counter.
    pub pc: u64,
    /// The general registers, by DWARF number.
    pub general: [Option<u64>; REGISTERS],
}

impl Registers {
    /// The stack pointer, where it is known.
    pub fn sp(&self) -> Option<u64> {
        self.general[RSP]
    }
}

/// A thread as it stood.
#[derive(Clone, Debug)]
pub struct Thread {
    /// The kernel's number of it.
    pub id: u32,
    /// Its registers.
    pub registers: Registers,
}

/// A file that was mapped, page by page the same bytes as on disk unless they were written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// The file's path when it was mapped.
    pub path: String,
}

/// What ended the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// `si_code`: what kind of it.
    pub code: i32,
    /// `si_addr`: the address that could not be used. Means something for memory faults only.
    pub address: u64,
}

/// A part of memory.
#[derive(Clone, Copy, Debug)]
struct Segment {
    start: u64,
    memory_size: u64,
    file_offset: u64,
    file_size: u64,
    executable: bool,
}

/// An opened core file.
#[derive(Debug)]
pub struct Core {
    file: File,
    segments: Vec<Segment>,
    /// All threads; the first is the one that crashed.
    pub threads: Vec<Thread>,
    /// What was mapped, by address.
    pub mappings: Vec<Mapping>,
    /// What ended the program.
    pub signal: Signal,
    /// The program's name, at most 15 bytes of it.
    pub name: String,
    /// Its command line, at most 79 bytes of it.
    pub command_line: String,
    /// Its number.
    pub pid: u32,
    /// Where the kernel's own small library lay.
    pub vdso: Option<u64>,
    /// Where the program's own code was entered.
    pub entry: Option<u64>,
    /// Where the kernel put the program's file name, above its environment.
    file_name: Option<u64>,
    /// Bytes that the headers promise and the file has not.
    pub missing_bytes: u64,
    /// When the file was last written to.
    pub written: Option<SystemTime>,
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(data.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn text(data: &[u8]) -> String {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..end]).into_owned()
}

impl Core {
    /// Opens a core file; one that is packed (see [`crate::unpack`]) is unpacked into a file without a name first.
    pub fn open(path: &Path) -> Result<Core, CoreError> {
        let failed = |source| CoreError::Read { path: path.to_owned(), source };
        let refused = |why: String| CoreError::Refused { path: path.to_owned(), why };
        // A pipe at that name would hold us for ever.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(refused("it is no regular file".into()));
        }
        let mut file = File::open(path).map_err(failed)?;
        if let Some(packing) = Packing::of_file(&file).map_err(failed)? {
            file = unpack::unpacked(&file, packing).map_err(|why| refused(why.to_string()))?;
        }
        let mut magic = [0; 4];
        match file.read_at(&mut magic, 0).map_err(failed)? {
            0 => Err(refused("it is empty".into())),
            _ if magic == *b"\x7fELF" => {
                let core = Core::parse(&file).map_err(refused)?;
                // The packed one's time is as good: nothing that was there when the program ran is younger.
                Ok(Core { written: metadata.modified().ok(), ..core })
            }
            _ => Err(refused("it does not begin like an ELF file".into())),
        }
    }

    /// Reads the headers and notes of an opened core.
    fn parse(file: &File) -> Result<Core, String> {
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let cache = ReadCache::new(file);
        let header = FileHeader64::<Endianness>::parse(&cache).map_err(|error| format!("{error} (64 bit)"))?;
        let endian = header.endian().map_err(|error| error.to_string())?;
        if header.e_type(endian) != elf::ET_CORE {
            return Err("it is an ELF file, but a program or a library".into());
        }
        if header.e_machine(endian) != elf::EM_X86_64 || endian != Endianness::Little {
            return Err(format!(
                "it comes from another kind of processor (ELF machine {})",
                header.e_machine(endian).0
            ));
        }
        // Asked first: all headers are read at once, and a file with holes can promise any number of them.
        if header.phnum(endian, &cache).map_err(|error| error.to_string())? > PARTS_LIMIT {
            return Err(format!("it has more than {PARTS_LIMIT} parts of memory"));
        }
        let programs = header.program_headers(endian, &cache).map_err(|error| error.to_string())?;
        let mut core = Core::empty(file.try_clone().map_err(|error| error.to_string())?);
        let mut notes_size = 0u64;
        for program in programs {
            if program.p_type(endian) == elf::PT_LOAD {
                core.add_segment(program, endian, length);
            } else if program.p_type(endian) == elf::PT_NOTE {
                notes_size = notes_size.saturating_add(program.p_filesz(endian));
                if notes_size > NOTES_LIMIT {
                    return Err(format!("its notes are larger than {NOTES_LIMIT} bytes"));
                }
                let Ok(Some(mut notes)) = program.notes(endian, &cache) else { continue };
                while let Ok(Some(note)) = notes.next() {
                    core.note(note.n_type(endian).0, note.name(), note.desc())?;
                }
            }
        }
        core.segments.sort_unstable_by_key(|segment| segment.start);
        core.mappings.sort_by_key(|mapping| mapping.start);
        if core.threads.is_empty() {
            return Err("it has no thread's registers; was it cut off?".into());
        }
        Ok(core)
    }

    fn empty(file: File) -> Core {
        Core {
            file,
            segments: vec![],
            threads: vec![],
            mappings: vec![],
            signal: Signal::default(),
            name: String::new(),
            command_line: String::new(),
            pid: 0,
            vdso: None,
            entry: None,
            file_name: None,
            missing_bytes: 0,
            written: None,
        }
    }

    fn add_segment(&mut self, program: &elf::ProgramHeader64<Endianness>, endian: Endianness, length: u64) {
        let file_offset = program.p_offset(endian);
        let promised = program.p_filesz(endian).min(program.p_memsz(endian));
        let file_size = promised.min(length.saturating_sub(file_offset));
        self.missing_bytes = self.missing_bytes.saturating_add(promised - file_size);
        self.segments.push(Segment {
            start: program.p_vaddr(endian),
            memory_size: program.p_memsz(endian),
            file_offset,
            file_size,
            executable: program.p_flags(endian).contains(elf::PF_X),
        });
    }

    fn note(&mut self, kind: u32, owner: &[u8], data: &[u8]) -> Result<(), String> {
        if owner != b"CORE" {
            return Ok(());
        }
        match kind {
            1 => self.prstatus(data)?,
            3 if data.len() >= 136 => {
                self.pid = u32_at(data, 24).unwrap_or(0);
                self.name = text(&data[40..56]);
                self.command_line = text(&data[56..136]).trim_end().to_owned();
            }
            6 => {
                let value = |wanted| {
                    let pair = data.chunks_exact(16).find(|pair| u64_at(pair, 0) == Some(wanted))?;
                    u64_at(pair, 8)
                };
                (self.entry, self.vdso, self.file_name) = (value(9), value(33), value(31));
            }
            0x5349_4749 if self.threads.len() <= 1 => {
                let field = |at| u32_at(data, at).map_or(0, u32::cast_signed);
                self.signal = Signal { number: field(0), code: field(8), address: u64_at(data, 16).unwrap_or(0) };
            }
            0x4649_4c45 => self.files(data)?,
            _ => {}
        }
        Ok(())
    }

    /// `struct elf_prstatus` of x86-64: 112 bytes of facts, then 27 registers in the kernel's order.
    fn prstatus(&mut self, data: &[u8]) -> Result<(), String> {
        if self.threads.len() >= THREADS_LIMIT {
            return Err(format!("it has more than {THREADS_LIMIT} threads"));
        }
        let register = |index: usize| u64_at(data, 112 + 8 * index);
        // rax rdx rcx rbx rsi rdi rbp rsp r8…r15, each at its place in the kernel's order.
        const ORDER: [usize; REGISTERS] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0];
        let Some(pc) = register(16) else { return Ok(()) };
        let registers = Registers { pc, general: ORDER.map(register) };
        self.threads.push(Thread { id: u32_at(data, 32).unwrap_or(0), registers });
        if self.threads.len() == 1 && self.signal.number == 0 {
            self.signal.number = i32::from(u32_at(data, 12).unwrap_or(0) as i16);
        }
        Ok(())
    }

    /// NT_FILE: count, page size, then start, end and page of each; then the names.
    fn files(&mut self, data: &[u8]) -> Result<(), String> {
        let (Some(count), Some(page)) = (u64_at(data, 0), u64_at(data, 8)) else { return Ok(()) };
        if count.saturating_add(self.mappings.len() as u64) > MAPPINGS_LIMIT {
            return Err(format!("it has more than {MAPPINGS_LIMIT} mapped files"));
        }
        let names_at = 16 + 24 * usize::try_from(count).unwrap_or(0);
        let mut names = data.get(names_at..).unwrap_or_default().split(|byte| *byte == 0);
        for index in 0..usize::try_from(count).unwrap_or(0) {
            let at = 16 + 24 * index;
            let (Some(start), Some(end), Some(offset), Some(name)) =
                (u64_at(data, at), u64_at(data, at + 8), u64_at(data, at + 16), names.next())
            else {
                break;
            };
            let path = String::from_utf8_lossy(name).into_owned();
            self.mappings.push(Mapping { start, end, offset: offset.saturating_mul(page), path });
        }
        Ok(())
    }

    fn segment(&self, address: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|segment| segment.start <= address);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (address - segment.start < segment.memory_size).then_some(segment)
    }

    /// Whether `address` was code, as far as the headers know; `None` where nothing was mapped.
    pub fn is_executable(&self, address: u64) -> Option<bool> {
        self.segment(address).map(|segment| segment.executable)
    }

    /// The range of the mapped part of memory around `address`.
    pub fn range(&self, address: u64) -> Option<std::ops::Range<u64>> {
        self.segment(address).map(|segment| segment.start..segment.start.saturating_add(segment.memory_size))
    }

    /// A variable of the environment that the program was started with.
    pub fn environment(&self, name: &str) -> Option<String> {
        let end = self.file_name?;
        let lowest = self.range(end)?.start.max(end.saturating_sub(ENVIRONMENT_LIMIT));
        // The variables lie one after the other, the last one right before the file's name; most programs have a page of them.
        let mut reach = ENVIRONMENT_FIRST;
        loop {
            let start = lowest.max(end.saturating_sub(reach));
            let mut block = vec![0; usize::try_from(end.checked_sub(start)?).ok()?];
            let got = self.read(start, &mut block);
            let mut variables = block[..got].split(|byte| *byte == 0).rev().skip(1);
            let last = variables.find_map(|variable| match variable.strip_prefix(name.as_bytes()) {
                _ if variable.is_empty() => Some(None),
                rest => rest?.strip_prefix(b"=").map(Some),
            });
            match last {
                Some(value) => return value.map(|value| String::from_utf8_lossy(value).into_owned()),
                None if start == lowest => return None,
                None => reach *= 8,
            }
        }
    }

    /// Reads memory that was written out; says how many bytes from `address` on it could give.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let Some(segment) = self.segment(address) else { return 0 };
        let within = address - segment.start;
        let there = segment.file_size.saturating_sub(within).min(buffer.len() as u64);
        let there = usize::try_from(there).unwrap_or(0);
        match self.file.read_exact_at(&mut buffer[..there], segment.file_offset.saturating_add(within)) {
            Ok(()) => there,
            Err(_) => 0,
        }
    }
}

/// Whether a file is as long as its headers say; what is no core counts as whole.
pub fn is_whole(file: &File) -> bool {
    Core::parse(file).map_or(true, |core| core.missing_bytes == 0)
}

//! The address space of the program that crashed: its memory, from the core or else from the files that were mapped, and the modules
//! (program, libraries, the kernel's vdso) that code in it came from.
//!
//! A file on this disk may not be the one that was running: it counts only where its build id is the one in the core's memory. Where it has
//! none, it counts where its first page is the same, it was not removed while it ran and not put there after the core, and what the
//! thread returns to lies behind calls in it ([`Space::distrust`]). What does not match is named and not used.

use crate::{
    core_file::{Core, Mapping},
    image::Image,
};
use std::path::{Path, PathBuf};

/// Whether the file that was found is the one that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// The build ids are equal; or, where there is none, nothing speaks against it.
    Proven,
    /// The core holds nothing to compare with: the path has to do.
    Unproven,
    /// Something else lies at that path now.
    Replaced,
    /// Nothing lies there.
    Missing,
}

/// A file of code in the program's memory.
#[derive(Debug)]
pub struct Module {
    /// The path that it was mapped from.
    pub path: String,
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// What to take from an address in memory to get the file's own numbering.
    pub bias: u64,
    /// The build id that lies in the core's memory.
    pub build_id: Option<Vec<u8>>,
    /// Whether the file is believed.
    pub identity: Identity,
    /// The file that ran, where it was found.
    pub image: Option<Image>,
    /// Its separate debug file, where one with the same build id was found.
    pub debug: Option<Image>,
    mappings: Vec<Mapping>,
}

impl Module {
    /// The file's name without its directory, and without the mark that the kernel puts on removed files.
    pub fn name(&self) -> &str {
        let path = self.path.strip_suffix(" (deleted)").unwrap_or(&self.path);
        path.rsplit('/').next().unwrap_or(path)
    }

    /// The images that may know names, the best first.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        let mini = self.image.as_ref().and_then(Image::mini);
        self.debug.iter().chain(&self.image).chain(mini)
    }

    /// Whether Go's linker made it.
    pub fn is_go(&self) -> bool {
        self.image.as_ref().is_some_and(|image| image.has(".gopclntab"))
    }

    /// An address of memory in the file's own numbering.
    pub fn to_file(&self, address: u64) -> u64 {
        address.wrapping_sub(self.bias)
    }
}

/// The memory and the modules of a core.
#[derive(Debug)]
pub struct Space {
    /// The core.
    pub core: Core,
    /// What was mapped, by address.
    pub modules: Vec<Module>,
}

/// Where programs and debug files are looked for.
#[derive(Clone, Debug)]
pub struct Search {
    /// The directory that stands for `/`.
    pub root: PathBuf,
    /// A program to use before the one that the core names.
    pub program: Option<PathBuf>,
    /// More directories with `.build-id/xx/….debug` in them.
    pub debug_dirs: Vec<PathBuf>,
}

impl Search {
    /// Looks below `/`.
    pub fn new(root: impl Into<PathBuf>) -> Search {
        Search { root: root.into(), program: None, debug_dirs: vec![] }
    }

    fn below_root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The separate debug file of a build id: by its name, and then checked.
    fn debug(&self, module: &str, image: Option<&Image>, build_id: Option<&[u8]>) -> Option<Image> {
        let mut candidates = Vec::new();
        if let Some((first, rest)) = build_id.and_then(<[u8]>::split_first) {
            let name = format!(".build-id/{first:02x}/{}.debug", hex(rest));
            let system = self.below_root("/usr/lib/debug");
            candidates.extend(self.debug_dirs.iter().chain([&system]).map(|dir| dir.join(&name)));
        }
        if let Some(link) = image.and_then(|image| image.section(".gnu_debuglink")) {
            let end = link.data.iter().position(|byte| *byte == 0).unwrap_or(0);
            let link = String::from_utf8_lossy(&link.data[..end]).into_owned();
            // A bare name; anything that leads elsewhere is not one.
            if !link.is_empty() && !link.contains('/') {
                let dir = Path::new(module).parent().unwrap_or(Path::new("/"));
                let dir = self.below_root(&dir.to_string_lossy());
                candidates.extend([dir.join(&link), dir.join(".debug").join(&link)]);
            }
        }
        let found = candidates.iter().filter_map(|path| Image::open(path).ok());
        found.filter(|image| image.build_id.is_some()).find(|image| image.build_id.as_deref() == build_id)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const PAGE: usize = 4096;
/// The files of code that are looked at; a program with a thousand libraries is a large one.
const MODULES_LIMIT: usize = 10_000;

impl Space {
    /// Finds the modules of a core, and their files.
    pub fn new(core: Core, search: &Search) -> Space {
        let mut modules = Vec::new();
        let mut mappings = core.mappings.iter().peekable();
        // What is mapped first of all files is the program.
        let program = core.mappings.iter().find(|mapping| mapping.path.starts_with('/'));
        while let Some(first) = mappings.next().filter(|_| modules.len() < MODULES_LIMIT) {
            let mut own = vec![first.clone()];
            while let Some(next) = mappings.next_if(|next| next.path == first.path && next.offset != 0) {
                own.push(next.clone());
            }
            let is_program = program.is_some_and(|program| std::ptr::eq(program, first));
            modules.extend(Module::found(&core, own, is_program, search));
        }
        modules.extend(Module::vdso(&core));
        modules.sort_by_key(|module| module.start);
        Space { core, modules }
    }

    /// Takes back that the file of a module is the one that ran.
    pub fn distrust(&mut self, index: usize) {
        if let Some(module) = self.modules.get_mut(index) {
            (module.identity, module.image, module.debug) = (Identity::Replaced, None, None);
        }
    }

    /// The module that an address lies in.
    pub fn module(&self, address: u64) -> Option<(usize, &Module)> {
        let after = self.modules.partition_point(|module| module.start <= address);
        let index = after.checked_sub(1)?;
        let module = self.modules.get(index)?;
        (address < module.end).then_some((index, module))
    }

    /// Reads memory whole, from the core or else from the files that are believed.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let mut done = self.core.read(address, buffer);
        while done < buffer.len() {
            let at = address.saturating_add(done as u64);
            let mut got = self.core.read(at, &mut buffer[done..]);
            if got == 0 {
                let Some((_, module)) = self.module(at) else { return false };
                got = module.read(at, &mut buffer[done..]);
            }
            if got == 0 {
                return false;
            }
            done += got;
        }
        true
    }

    /// Reads a word of memory.
    pub fn word(&self, address: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.read(address, &mut word).then(|| u64::from_le_bytes(word))
    }

    /// Reads a text that ends with a zero byte, at most `limit` bytes of it.
    pub fn text(&self, address: u64, limit: usize) -> Option<String> {
        let mut bytes = vec![0; limit];
        let got = self.core.read(address, &mut bytes);
        let end = bytes[..got].iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// Whether code could run at this address.
    pub fn is_code(&self, address: u64) -> bool {
        match self.core.is_executable(address) {
            Some(executable) => executable,
            None => self.module(address).is_some_and(|(_, module)| module.path == "[vdso]"),
        }
    }
}

impl Module {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let (Some(image), Some(mapping)) =
            (&self.image, self.mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address)))
        else {
            return 0;
        };
        let count = usize::try_from(mapping.end - address).unwrap_or(usize::MAX).min(buffer.len());
        image.read_file(mapping.offset.saturating_add(address - mapping.start), &mut buffer[..count])
    }

    /// The module that these mappings of one file make; `None` for a file that is no code.
    fn found(core: &Core, mappings: Vec<Mapping>, is_program: bool, search: &Search) -> Option<Module> {
        let (first, last) = (mappings.first()?.clone(), mappings.last()?.clone());
        let code = mappings.iter().any(|mapping| core.is_executable(mapping.start) == Some(true));
        if !code {
            return None;
        }
        let mut page = vec![0; PAGE];
        let got = if first.offset == 0 { core.read(first.start, &mut page) } else { 0 };
        page.truncate(got);
        let running = Running::of(core, &first, &page);
        let path = first.path.strip_suffix(" (deleted)").unwrap_or(&first.path);
        let given = search.program.as_deref().filter(|_| is_program || same_name(search.program.as_deref(), path));
        let candidates = given.map(Path::to_owned).into_iter().chain([search.below_root(path)]);
        let (mut identity, mut image) = (Identity::Missing, None);
        for candidate in candidates {
            let Ok(found) = Image::open(&candidate) else { continue };
            // Somebody who names a program says that it is the one.
            let is_given = given.is_some_and(|given| given == candidate);
            let is_gone = first.path != path || core.written.is_some_and(|written| found.is_newer(written));
            identity = match running.compare(&found) {
                _ if running.build_id.is_none() && is_gone && !is_given => Identity::Replaced,
                compared => compared,
            };
            if identity != Identity::Replaced {
                image = Some(found);
                break;
            }
        }
        let build_id = running.build_id.or_else(|| image.as_ref().and_then(|image| image.build_id.clone()));
        let debug = search.debug(path, image.as_ref(), build_id.as_deref());
        let bias = image.as_ref().or(debug.as_ref()).and_then(|image| bias(image, &first)).unwrap_or(running.bias);
        Some(Module {
            path: first.path,
            start: first.start,
            end: last.end,
            bias,
            build_id,
            identity,
            image,
            debug,
            mappings,
        })
    }

    /// The kernel's library: it lies in the core's memory whole.
    fn vdso(core: &Core) -> Option<Module> {
        let range = core.range(core.vdso?)?;
        let size = usize::try_from(range.end - range.start).ok().filter(|size| *size <= 1 << 20)?;
        let mut data = vec![0; size];
        if core.read(range.start, &mut data) != size {
            return None;
        }
        let image = Image::from_memory(data).ok()?;
        let bias = range.start.wrapping_sub(image.loads.first()?.address);
        Some(Module {
            path: "[vdso]".into(),
            start: range.start,
            end: range.end,
            bias,
            build_id: image.build_id.clone(),
            identity: Identity::Proven,
            image: Some(image),
            debug: None,
            mappings: vec![],
        })
    }
}

fn same_name(given: Option<&Path>, mapped: &str) -> bool {
    given.and_then(Path::file_name) == Path::new(mapped).file_name()
}

/// By how much the image was moved: the part of it that lies where the mapping begins tells.
fn bias(image: &Image, mapping: &Mapping) -> Option<u64> {
    let page = |value: u64| value & !(PAGE as u64 - 1);
    let load = image.loads.iter().find(|load| page(load.file_offset) == mapping.offset)?;
    Some(mapping.start.wrapping_sub(page(load.address)))
}

/// What the core's memory says of the file that ran.
struct Running {
    build_id: Option<Vec<u8>>,
    first_page: Vec<u8>,
    bias: u64,
}

impl Running {
    fn of(core: &Core, first: &Mapping, page: &[u8]) -> Running {
        let mut running = Running { build_id: None, first_page: page.to_vec(), bias: first.start };
        let field = |at: usize| Some(u64::from_le_bytes(page.get(at..at + 8)?.try_into().ok()?));
        let (Some(table), Some(count)) = (field(32), page.get(56..58)) else { return running };
        let count = u16::from_le_bytes([count[0], count[1]]);
        let header = |index: u64| {
            let at = usize::try_from(table).ok()?.checked_add(usize::try_from(index).ok()? * 56)?;
            let kind = page.get(at..at.checked_add(4)?)?;
            let kind = u32::from_le_bytes(kind.try_into().ok()?);
            Some((kind, field(at + 8)?, field(at + 16)?, field(at + 32)?))
        };
        let headers: Vec<(u32, u64, u64, u64)> = (0..u64::from(count.min(64))).map_while(header).collect();
        if let Some((_, _, address, _)) = headers.iter().find(|(kind, offset, ..)| *kind == 1 && *offset == 0) {
            running.bias = first.start.wrapping_sub(address & !(PAGE as u64 - 1));
        }
        let notes = headers.iter().filter(|(kind, _, _, size)| *kind == 4 && *size <= PAGE as u64);
        running.build_id = notes
            .filter_map(|(_, _, address, size)| build_id_at(core, running.bias.wrapping_add(*address), *size))
            .next();
        running
    }

    fn compare(&self, image: &Image) -> Identity {
        match (&self.build_id, &image.build_id) {
            (Some(running), Some(found)) if running == found => Identity::Proven,
            (Some(_), _) => Identity::Replaced,
            (None, _) if self.first_page.is_empty() => Identity::Unproven,
            (None, _) => {
                let mut page = vec![0; self.first_page.len()];
                let got = image.read_file(0, &mut page);
                let same = page[..got] == self.first_page[..got];
                if same { Identity::Proven } else { Identity::Replaced }
            }
        }
    }
}

/// The build id among notes in memory.
fn build_id_at(core: &Core, address: u64, size: u64) -> Option<Vec<u8>> {
    let mut data = vec![0; usize::try_from(size).ok()?];
    let got = core.read(address, &mut data);
    let mut rest = &data[..got];
    while let Some(header) = rest.get(..12) {
        let field =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
        let (name, desc, kind) = (field(0), field(4), field(8));
        let desc_at = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let desc_end = desc_at.checked_add(desc)?;
        if matches!((kind, rest.get(12..16)), (3, Some(b"GNU\0")) | (4, Some(b"Go\0\0"))) {
            return rest.get(desc_at..desc_end).map(<[u8]>::to_vec);
        }
        rest = rest.get(desc_end.checked_next_multiple_of(4)?..)?;
    }
    None
}

//! The functions that a compiler copied into others, and source lines, from debug information.
//!
//! A large program has hundreds of megabytes of it, and a traceback needs a few units. So `.debug_aranges` says which units cover the addresses,
//! and only these are read, and of the line programs only theirs; `addr2line` then works on what looks to it like a small program. Where a
//! compiler wrote no such index, or inlined functions across units, all is read.

mod paths;

use crate::image::Image;
use addr2line::{Context, FunctionName, LookupResult};
use gimli::{ArangeHeader, DebugAranges, Dwarf, EndianSlice, LittleEndian, SectionId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// A function at an address: its name as the debug information has it, and the place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The linkage name, or else the name.
    pub symbol: Option<String>,
    /// `file:line`.
    pub source: Option<String>,
    /// Whether its name lacks the path to it.
    is_local: bool,
}

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// The functions at each of these addresses (in the file's own numbering), innermost first; with source lines, which takes longer.
/// `None` where the debug information does not tell which they are, as line tables alone do not: `run` may be anyone's.
pub fn functions(image: &Image, addresses: &[u64], with_lines: bool) -> Option<HashMap<u64, Vec<Told>>> {
    let sections = Sections::read(image, addresses, with_lines);
    let dwarf = Dwarf::load(|id| Ok::<_, gimli::Error>(EndianSlice::new(sections.get(id), LittleEndian)));
    let Some(dwarf) = dwarf.ok().map(Arc::new) else { return Some(HashMap::new()) };
    let Ok(context) = Context::from_arc_dwarf(dwarf.clone()) else { return Some(HashMap::new()) };
    let told = |address: u64| {
        let mut told = at(&context, address)?;
        // The last one has the linker's name.
        let copied = told.len().saturating_sub(1);
        if told[..copied].iter().any(|told| told.is_local) {
            let paths = paths::at(&dwarf, address).filter(|paths| paths.len() == told.len())?;
            let locals = told.iter_mut().zip(paths).filter(|(told, _)| told.is_local);
            locals.for_each(|(told, path)| told.symbol = Some(path));
        }
        Some((address, told))
    };
    addresses.iter().map(|address| told(*address)).collect()
}

fn at(context: &Context<Slice<'_>>, address: u64) -> Option<Vec<Told>> {
    let (mut told, mut inner_is_bare) = (Vec::new(), false);
    // Debug information in files beside the objects is not followed.
    let mut frames = match context.find_frames(address) {
        LookupResult::Output(Ok(frames)) => frames,
        LookupResult::Output(Err(_)) | LookupResult::Load { .. } => return Some(told),
    };
    while let Ok(Some(frame)) = frames.next() {
        if inner_is_bare {
            return None;
        }
        inner_is_bare = frame.function.as_ref().is_some_and(is_bare);
        let is_local = frame.function.as_ref().is_some_and(is_local);
        let symbol = frame.function.and_then(|function| function.raw_name().ok().map(|name| name.into_owned()));
        let source = frame.location.and_then(|place| Some(format!("{}:{}", place.file?, place.line.unwrap_or(0))));
        told.push(Told { symbol, source, is_local });
    }
    Some(told)
}

/// Whether a name lacks the path to it, which the linkage name has. (In C and for the linker's own names there is none.)
fn is_bare(function: &FunctionName<Slice<'_>>) -> bool {
    let has_path = |name: &str| name.starts_with("_R") || name.starts_with("_ZN");
    function.language == Some(gimli::DW_LANG_Rust) && function.raw_name().is_ok_and(|name| !has_path(&name))
}

/// Whether it is one of C++'s functions that the linker knows nothing of. (So are those that C knows, which have no path.)
fn is_local(function: &FunctionName<Slice<'_>>) -> bool {
    let cxx = [gimli::DW_LANG_C_plus_plus, gimli::DW_LANG_C_plus_plus_11, gimli::DW_LANG_C_plus_plus_14];
    let newer = [gimli::DW_LANG_C_plus_plus_03, gimli::DW_LANG_C_plus_plus_17, gimli::DW_LANG_C_plus_plus_20];
    let is_cxx = function.language.is_some_and(|language| cxx.contains(&language) || newer.contains(&language));
    is_cxx && function.raw_name().is_ok_and(|name| !name.starts_with("_Z"))
}

/// The sections, with only what is needed in the large ones.
struct Sections {
    loaded: BTreeMap<&'static str, Vec<u8>>,
}

/// Those that a unit refers to anywhere.
const WHOLE: [SectionId; 8] = [
    SectionId::DebugAbbrev,
    SectionId::DebugStr,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugAddr,
    SectionId::DebugStrOffsets,
    SectionId::DebugTypes,
];

impl Sections {
    fn read(image: &Image, addresses: &[u64], with_lines: bool) -> Sections {
        let mut loaded = BTreeMap::new();
        let mut whole = |id: SectionId| {
            if let Some(section) = image.section(id.name()) {
                loaded.insert(id.name(), section.data);
            }
        };
        WHOLE.into_iter().for_each(&mut whole);
        let units = units(image, addresses).filter(|units| !units.is_empty());
        let abbreviations = loaded.get(SectionId::DebugAbbrev.name()).map_or(&[][..], Vec::as_slice);
        let info = units.and_then(|units| info(image, &units)).filter(|info| stands_alone(info, abbreviations));
        if info.is_none() {
            let index = SectionId::DebugAranges.name();
            loaded.extend(image.section(index).map(|section| (index, section.data)));
        }
        let all = || image.section(SectionId::DebugInfo.name()).map(|section| section.data).unwrap_or_default();
        let is_part = info.is_some();
        let info = info.unwrap_or_else(all);
        // A unit whose line program cannot be read counts as broken: where lines are not wanted there are programs of none.
        let part = is_part.then(|| lines(image, &info, &loaded, with_lines)).flatten();
        let all = || image.section(SectionId::DebugLine.name()).map(|section| section.data);
        loaded.insert(SectionId::DebugLine.name(), part.or_else(all).unwrap_or_default());
        loaded.insert(SectionId::DebugInfo.name(), info);
        Sections { loaded }
    }

    fn get(&self, id: SectionId) -> &[u8] {
        self.loaded.get(id.name()).map_or(&[], Vec::as_slice)
    }
}

/// Where the units that cover these addresses begin; `None` where the index does not know all of them.
fn units(image: &Image, addresses: &[u64]) -> Option<BTreeSet<u64>> {
    let index = image.section(SectionId::DebugAranges.name())?;
    let aranges = DebugAranges::new(&index.data, LittleEndian);
    let mut units = BTreeSet::new();
    let mut headers = aranges.headers();
    while let Some(header) = headers.next().ok()? {
        if covers(&header, addresses) {
            units.insert(header.debug_info_offset().0 as u64);
        }
    }
    Some(units)
}

fn covers(header: &ArangeHeader<Slice<'_>>, addresses: &[u64]) -> bool {
    let mut entries = header.entries();
    while let Ok(Some(entry)) = entries.next() {
        let (from, to) = (entry.address(), entry.address().saturating_add(entry.length()));
        if addresses.iter().any(|address| (from..to).contains(address)) {
            return true;
        }
    }
    false
}

/// These units, one after the other. Units refer to themselves by offsets from their own beginning.
fn info(image: &Image, units: &BTreeSet<u64>) -> Option<Vec<u8>> {
    let name = SectionId::DebugInfo.name();
    let mut info = Vec::new();
    for unit in units {
        let head = image.part(name, *unit, 12)?;
        let length = match u32::from_le_bytes(head[..4].try_into().ok()?) {
            u32::MAX => u64::from_le_bytes(head[4..12].try_into().ok()?).checked_add(12)?,
            length => u64::from(length) + 4,
        };
        info.extend(image.part(name, *unit, length)?);
    }
    Some(info)
}

/// Whether no entry of these units refers to one of another unit, as happens where functions were inlined across units.
fn stands_alone(info: &[u8], abbreviations: &[u8]) -> bool {
    let section = gimli::DebugInfo::new(info, LittleEndian);
    let abbreviations = gimli::DebugAbbrev::new(abbreviations, LittleEndian);
    let mut units = section.units();
    while let Ok(Some(unit)) = units.next() {
        let Ok(known) = unit.abbreviations(&abbreviations) else { return false };
        // Compilers number them from 1 without a gap.
        let mut all = (1..).map_while(|code| known.get(code));
        if all.any(|one| one.attributes().iter().any(|attribute| attribute.form() == gimli::DW_FORM_ref_addr)) {
            return false;
        }
    }
    true
}

/// The line programs of these units at their places in a section that is otherwise untouched zeroes, which take no memory; only their
/// heads where the lines are not wanted.
fn lines(image: &Image, info: &[u8], loaded: &BTreeMap<&'static str, Vec<u8>>, wanted: bool) -> Option<Vec<u8>> {
    let name = SectionId::DebugLine.name();
    let mut lines = vec![0; usize::try_from(image.size(name)?).ok()?];
    let abbreviations = loaded.get(SectionId::DebugAbbrev.name())?;
    let section = gimli::DebugInfo::new(info, LittleEndian);
    let abbreviations = gimli::DebugAbbrev::new(abbreviations, LittleEndian);
    let mut units = section.units();
    while let Some(unit) = units.next().ok()? {
        let known = unit.abbreviations(&abbreviations).ok()?;
        let mut entries = unit.entries(&known);
        let Ok(Some(top)) = entries.next_dfs() else { continue };
        let Some(gimli::AttributeValue::DebugLineRef(at)) = top.attr_value(gimli::DW_AT_stmt_list) else { continue };
        let program = line_program(image, at.0 as u64, wanted)?;
        lines.get_mut(at.0..at.0 + program.len())?.copy_from_slice(&program);
    }
    Some(lines)
}

/// The line program at this place of its section: all of it, or its head, whose length then says that nothing follows.
fn line_program(image: &Image, at: u64, wanted: bool) -> Option<Vec<u8>> {
    let name = SectionId::DebugLine.name();
    let head = image.part(name, at, 12)?;
    let number = |from: usize| Some(u32::from_le_bytes(head.get(from..from + 4)?.try_into().ok()?));
    let whole = u64::from(number(0).filter(|length| *length != u32::MAX)?) + 4;
    if wanted {
        return image.part(name, at, whole);
    }
    // Version 5 has the sizes of addresses and segments before the length of the head.
    let length_at = if head[4] < 5 { 6 } else { 8 };
    let length = u64::from(number(length_at)?) + length_at as u64 + 4;
    let mut program = image.part(name, at, length.min(whole))?;
    let rest = u32::try_from(program.len()).ok()?.checked_sub(4)?;
    program.get_mut(..4)?.copy_from_slice(&rest.to_le_bytes());
    Some(program)
}

//! The whole names of functions that debug information tells of without a linkage name.
//!
//! What only one source file can see has none in g++'s debug information: lambdas, the methods of classes within functions, and what the
//! library's templates make of these. Their bare names, `operator()` and `run`, may be anyone's. The path to each, through namespaces,
//! classes and functions, is where it stands in the tree of entries.

use super::Slice;
use gimli::{AttributeValue, DebuggingInformationEntry, Dwarf, Unit, UnitOffset};
use std::collections::HashMap;

/// The most entries of a unit that are looked at.
const ENTRIES_LIMIT: usize = 4 << 20;
/// How often one entry may refer to another.
const REFERENCES_LIMIT: usize = 8;

/// The method that calling a lambda calls, and what the class of it is called where it has no name.
const CALLED: &str = "operator()";
const LAMBDA: &str = "{lambda}";

/// An entry that gives or leads to a name.
struct Named<'d> {
    name: Option<Slice<'d>>,
    /// The declaration, or the function that was copied.
    same_as: Option<UnitOffset>,
    /// The one that it stands in.
    parent: Option<UnitOffset>,
    is_class: bool,
}

/// The functions at an address by their whole names, innermost first; `None` where the tree does not tell.
pub(super) fn at(dwarf: &Dwarf<Slice<'_>>, address: u64) -> Option<Vec<String>> {
    let mut units = dwarf.units();
    while let Some(header) = units.next().ok()? {
        let unit = dwarf.unit(header).ok()?;
        let mut ranges = dwarf.unit_ranges(&unit).ok()?;
        while let Some(range) = ranges.next().ok()? {
            if (range.begin..range.end).contains(&address) {
                return in_unit(dwarf, &unit, address);
            }
        }
    }
    None
}

fn in_unit<'d>(dwarf: &Dwarf<Slice<'d>>, unit: &Unit<Slice<'d>>, address: u64) -> Option<Vec<String>> {
    let mut known: HashMap<UnitOffset, Named<'_>> = HashMap::new();
    let mut functions: Vec<UnitOffset> = Vec::new();
    // Which entries the next one stands in, by depth.
    let mut above: Vec<UnitOffset> = Vec::new();
    let mut entries = unit.entries();
    let mut count = 0;
    while let Some(entry) = entries.next_dfs().ok()? {
        count += 1;
        if count > ENTRIES_LIMIT {
            return None;
        }
        above.truncate(usize::try_from(entry.depth()).ok()?);
        let parent = above.last().copied();
        above.push(entry.offset());
        let is_function = matches!(entry.tag(), gimli::DW_TAG_subprogram | gimli::DW_TAG_inlined_subroutine);
        let is_around = matches!(
            entry.tag(),
            gimli::DW_TAG_namespace
                | gimli::DW_TAG_class_type
                | gimli::DW_TAG_structure_type
                | gimli::DW_TAG_union_type
                | gimli::DW_TAG_lexical_block
        );
        if is_function || is_around {
            let name = entry.attr_value(gimli::DW_AT_name).and_then(|name| dwarf.attr_string(unit, name).ok());
            let is_class = matches!(entry.tag(), gimli::DW_TAG_class_type | gimli::DW_TAG_structure_type);
            known.insert(entry.offset(), Named { name, same_as: same_as(entry), parent, is_class });
        }
        if is_function && covers(dwarf, unit, entry, address) {
            functions.push(entry.offset());
        }
    }
    functions.iter().rev().map(|function| path(&known, *function)).collect()
}

/// The entry of the same unit that has this one's name.
fn same_as(entry: &DebuggingInformationEntry<Slice<'_>>) -> Option<UnitOffset> {
    let reference = |name| match entry.attr_value(name) {
        Some(AttributeValue::UnitRef(offset)) => Some(offset),
        _ => None,
    };
    reference(gimli::DW_AT_abstract_origin).or_else(|| reference(gimli::DW_AT_specification))
}

fn covers<'d>(
    dwarf: &Dwarf<Slice<'d>>,
    unit: &Unit<Slice<'d>>,
    entry: &DebuggingInformationEntry<Slice<'d>>,
    address: u64,
) -> bool {
    let Ok(mut ranges) = dwarf.die_ranges(unit, entry) else { return false };
    while let Ok(Some(range)) = ranges.next() {
        if (range.begin..range.end).contains(&address) {
            return true;
        }
    }
    false
}

/// `b::{lambda}::operator()`.
fn path(known: &HashMap<UnitOffset, Named<'_>>, function: UnitOffset) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    let mut next = Some(function);
    while let Some(at) = next {
        let mut entry = known.get(&at);
        // Where it was declared is where it stands.
        for _ in 0..REFERENCES_LIMIT {
            entry = match entry.and_then(|entry| entry.same_as) {
                Some(origin) => Some(known.get(&origin)?),
                None => break,
            };
        }
        let Some(entry) = entry else { break };
        match &entry.name {
            Some(name) => names.push(name.to_string_lossy().into_owned()),
            None if names.is_empty() => return None,
            None if entry.is_class && names.last().is_some_and(|name| name == CALLED) => names.push(LAMBDA.into()),
            None => {}
        }
        next = entry.parent;
    }
    names.reverse();
    Some(names.join("::"))
}

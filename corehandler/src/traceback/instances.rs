//! Functions of a program that bear one name.
//!
//! Rust's older mangling has neither type arguments nor the numbers of closures. Only a hash tells them apart, which
//! every build has another of. Of what only one file of C++ can see, overloads and lambdas too, debug information has
//! the bare name. Where the innermost function of the program has such namesakes, its name does not say which of them
//! failed.

use super::{Frame, Place};
use crate::{names, space::Module, unwind::Trust};
use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

/// What the languages' libraries are called, whose functions are no program's.
const LIBRARIES: [&str; 9] = [
    "std::",
    "core::",
    "alloc::",
    "hashbrown::",
    "compiler_builtins::",
    "panic_",
    "__gnu_cxx::",
    "__cxxabiv1::",
    "operator ",
];
/// How many names of a table are compared with one.
const COMPARED: usize = 1 << 12;

/// Marks the innermost function of the program, and what was copied into it, where it has namesakes.
pub(super) fn mark(module: &Module, frames: &mut [Frame]) {
    let is_own = |frame: &&Frame| {
        let name = frame.place.symbol.as_deref().filter(|name| is_mangled(name)).map(names::demangled);
        let name = name.map(|name| names::essence(&name));
        frame.place.is_program && name.is_some_and(|name| !LIBRARIES.iter().any(|library| name.starts_with(library)))
    };
    let Some(last) = frames.iter().position(|frame| frame.trust != Trust::Inline && is_own(&frame)) else { return };
    let mut wanted: HashMap<String, bool> = HashMap::new();
    for frame in frames[..=last].iter().filter(is_own) {
        wanted.extend(frame.place.symbol.clone().map(|symbol| (symbol, false)));
    }
    let Some(image) = module.images().find(|image| image.has(".symtab")) else { return };
    let Some(table) = image.section(".strtab") else { return };
    for (symbol, found) in &mut wanted {
        *found = match hash(symbol) {
            Some((before, own)) => has_another(&table.data, before, own),
            None => is_one_of_several(&table.data, symbol),
        };
    }
    let mut marked: HashMap<*const Place, Rc<Place>> = HashMap::new();
    for frame in frames.iter_mut() {
        let is_one = frame.place.symbol.as_ref().is_some_and(|symbol| wanted.get(symbol) == Some(&true));
        if frame.place.is_program && is_one {
            let own = || Rc::new(Place { has_namesakes: true, ..(*frame.place).clone() });
            frame.place = marked.entry(Rc::as_ptr(&frame.place)).or_insert_with(own).clone();
        }
    }
}

/// The hash, and what stands before it, of a symbol to which a compiler may have added something.
fn hash(symbol: &str) -> Option<(&str, &str)> {
    names::hash_of_instance(symbol.split('.').next().filter(|plain| plain.ends_with('E')).unwrap_or(symbol))
}

/// Whether a table of names has this beginning with another hash.
fn has_another(table: &[u8], before: &str, own: &str) -> bool {
    memchr::memmem::find_iter(table, before).any(|at| {
        let rest = &table[at + before.len()..];
        rest.get(..own.len()).is_some_and(|hash| hash != own.as_bytes() && rest.get(own.len()) == Some(&b'E'))
    })
}

/// Whether it is of a language whose names have paths, or is a path itself, as debug information has it.
fn is_mangled(symbol: &str) -> bool {
    symbol.starts_with("_Z") || symbol.contains("::")
}

/// Whether a table of names has several functions of C++ that only one file can see and that bear this one's name.
fn is_one_of_several(table: &[u8], symbol: &str) -> bool {
    let plain = plain(symbol);
    if plain.starts_with("_Z") && !names::is_local_cxx(plain) {
        return false;
    }
    let own = path(&names::demangled(plain));
    // A mangled name has each part of the path with its length before it.
    let is_part = |part: &&str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let Some(longest) = own.split("::").filter(is_part).max_by_key(|part| part.len()) else { return false };
    let part = format!("{}{longest}", longest.len());
    let mut others: HashSet<String> = HashSet::new();
    for at in memchr::memmem::find_iter(table, &part).take(COMPARED) {
        let begin = memchr::memrchr(0, &table[..at]).map_or(0, |end| end + 1);
        let end = memchr::memchr(0, &table[at..]).map_or(table.len(), |end| at + end);
        let Some(other) = std::str::from_utf8(&table[begin..end]).ok().map(self::plain) else { continue };
        if other.starts_with("_Z") && names::is_local_cxx(other) {
            let whole = names::demangled(other);
            if path(&whole) == own {
                others.insert(whole);
            }
        }
    }
    others.len() > 1
}

/// A symbol without what the compiler put behind it.
fn plain(symbol: &str) -> &str {
    symbol.split('.').next().unwrap_or(symbol)
}

/// The name as a signature has it: lambdas without numbers, and no anonymous namespaces.
fn path(whole: &str) -> String {
    let is_lambda = |part: &str| ["$_", "{lambda", "'lambda"].iter().any(|begin| part.starts_with(begin));
    let essence = names::essence(whole);
    let parts = essence.split("::").filter(|part| *part != "{anonymous}");
    let parts: Vec<&str> = parts.map(|part| if is_lambda(part) { "{lambda}" } else { part }).collect();
    parts.join("::")
}

//! Functions of a program that bear one name.
//!
//! Rust's older mangling has neither type arguments nor the numbers of closures. Only a hash tells them apart, which
//! every build has another of. Of what only one file of C++ can see, overloads and lambdas too, debug information has
//! the bare name. Functions of C that are `static` in several files have one name, too. Where the innermost function of
//! the program has such namesakes, its name does not say which of them failed.

use super::{Frame, Place, SIGNAL_FRAME};
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
    let last = frames.iter().position(|frame| frame.trust != Trust::Inline && is_own(&frame));
    let inner = &frames[..last.map_or(frames.len(), |last| last + 1)];
    let mut wanted: HashMap<String, bool> = HashMap::new();
    for frame in inner.iter().filter(|frame| last.is_some() && is_own(frame) || is_of_c(&frame.place)) {
        wanted.extend(frame.place.symbol.clone().map(|symbol| (symbol, false)));
    }
    if wanted.is_empty() {
        return;
    }
    let Some(image) = module.images().find(|image| image.has(".symtab")) else { return };
    let Some(table) = image.section(".strtab") else { return };
    let of_c = wanted.keys().filter(|symbol| !is_mangled(symbol)).map(|symbol| plain(symbol).to_owned()).collect();
    let several = in_several_files(&image.function_names(), &table.data, &of_c);
    for (symbol, found) in &mut wanted {
        *found = match hash(symbol) {
            _ if !is_mangled(symbol) => several.contains(plain(symbol)),
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

/// Whether it is a function of C in the program. There is but one `main`.
fn is_of_c(place: &Place) -> bool {
    let is_c = |symbol: &str| !is_mangled(symbol) && symbol != SIGNAL_FRAME && symbol != "main";
    place.is_program && !place.is_go && place.symbol.as_deref().is_some_and(is_c)
}

/// Those of the wanted names that functions at several addresses have. What a compiler split off a function is no other one.
fn in_several_files(functions: &[(u32, u64)], strings: &[u8], wanted: &HashSet<String>) -> HashSet<String> {
    let mut found = HashSet::new();
    if wanted.is_empty() {
        return found;
    }
    let mut seen: HashMap<String, u64> = HashMap::new();
    for (at, address) in functions {
        let name = strings.get(*at as usize..).unwrap_or_default();
        let end = memchr::memchr(0, name).unwrap_or(0);
        let Some(name) = std::str::from_utf8(&name[..end]).ok() else { continue };
        let Some(plain) = wanted.get(plain(name)).filter(|_| seen.len() < COMPARED) else { continue };
        if *seen.entry(stem(name)).or_insert(*address) != *address {
            found.insert(plain.clone());
        }
    }
    found
}

/// A name with what says which part or variant of a function it is, and without what tells functions of one name apart
/// where files are optimised together: `handle.lto_priv.1.part.0` is `handle.part.0`.
fn stem(name: &str) -> String {
    let mut stem = String::new();
    let mut is_variant = false;
    for (at, part) in name.split('.').enumerate() {
        let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        is_variant = if is_number { is_variant } else { !matches!(part, "lto_priv" | "llvm") };
        if at == 0 {
            stem.push_str(part);
            is_variant = false;
        } else if is_variant {
            stem.push('.');
            stem.push_str(part);
        }
    }
    stem
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these names are those of several functions, each name at an address of its own.
    fn several(names: &[&str]) -> bool {
        let mut strings = vec![0];
        let mut functions = Vec::new();
        for (address, name) in (0..).zip(names) {
            functions.push((u32::try_from(strings.len()).unwrap_or(0), address));
            strings.extend(name.bytes().chain([0]));
        }
        !in_several_files(&functions, &strings, &HashSet::from(["handle".to_owned()])).is_empty()
    }

    #[test]
    fn parts_and_variants_of_one_function_are_no_namesakes() {
        assert!(!several(&["handle", "handle.cold", "handle.part.0", "handle.constprop.0", "handle.constprop.1"]));
        assert!(!several(&[
            "handle.lto_priv.0",
            "handle.lto_priv.0.isra.0",
            "handle.lto_priv.0.cold",
            "handled",
            "main"
        ]));
        assert!(!several(&["handle.isra.0.part.0", "handle.isra.0", "other", "other"]));
    }

    #[test]
    fn functions_of_several_files_are_namesakes() {
        assert!(several(&["handle", "other", "handle"]));
        assert!(several(&["handle.isra.0", "handle.isra.0"]));
        assert!(several(&["handle.lto_priv.0", "handle.lto_priv.1"]));
        assert!(several(&["handle.llvm.12", "handle.llvm.77"]));
        // Where clang optimises files together, and where a function is within another.
        assert!(several(&["handle", "handle.2"]));
    }

    #[test]
    fn two_names_of_one_place_are_one_function() {
        let strings = b"\0handle\0";
        assert!(in_several_files(&[(1, 16), (1, 16)], strings, &HashSet::from(["handle".to_owned()])).is_empty());
    }
}

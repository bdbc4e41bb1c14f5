//! Instances of a generic function of Rust, and closures of one function, that bear one name.
//!
//! Rust's older mangling has neither type arguments nor the numbers of closures. Only a hash tells them apart, which
//! every build has another of. Where the innermost function of the program has such namesakes, its name does not say
//! which of them failed.

use super::{Frame, Place};
use crate::{names, space::Module, unwind::Trust};
use std::{collections::HashMap, rc::Rc};

/// What the languages' libraries are called, whose functions are no program's.
const LIBRARIES: [&str; 6] = ["std::", "core::", "alloc::", "hashbrown::", "compiler_builtins::", "panic_"];

/// Marks the innermost function of the program, and what was copied into it, where it has namesakes.
pub(super) fn mark(module: &Module, frames: &mut [Frame]) {
    let is_own = |frame: &&Frame| {
        let name = frame.place.symbol.as_deref().filter(|name| hash(name).is_some()).map(names::demangled);
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
        *found = hash(symbol).is_some_and(|(before, own)| has_another(&table.data, before, own));
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

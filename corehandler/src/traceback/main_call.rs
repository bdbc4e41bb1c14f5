//! A `main` that left by a jump.
//!
//! The C library calls `main` through a pointer, so that no call instruction tells its name: where `main` ends with the call of a function,
//! and the compiler made a jump of it, nothing on the stack is `main`'s. The stack is that of a build that did not, but for this.

use crate::{
    image::Image,
    space::{Module, Space},
    unwind::branches_out,
};
use std::collections::BTreeSet;

/// What the programs' first code calls in every C library.
pub(super) const START: &str = "__libc_start_main";
const MAIN: &str = "main";
/// The most functions that are looked at for a jump.
const FUNCTIONS_LIMIT: usize = 64;

/// Where `main` begins, in the file's own numbering, where its code leads to that of the function at `start` by jumps alone.
pub(super) fn leads_to(space: &Space, module: &Module, start: u64) -> Option<u64> {
    let main = module.images().find_map(|image| image.address_of(MAIN)).filter(|main| *main != start)?;
    let (mut seen, mut next) = (BTreeSet::from([main]), vec![main]);
    while let Some(function) = next.pop() {
        if function == start {
            return Some(main);
        }
        for target in jumps(space, module, function)? {
            if seen.len() < FUNCTIONS_LIMIT && seen.insert(target) {
                next.push(target);
            }
        }
    }
    None
}

/// Where a function's code jumps to, out of the function.
fn jumps(space: &Space, module: &Module, function: u64) -> Option<Vec<u64>> {
    let size = module.images().find_map(|image: &Image| Some(image.function(".symtab", function)?.size))?;
    let targets = branches_out(space, module.bias.wrapping_add(function), size);
    Some(targets.into_iter().map(|target| module.to_file(target)).collect())
}

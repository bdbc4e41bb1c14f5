//! Calls of a method that no class implements, in programs whose C++ runtime is not there to complain of them.
//!
//! Tables of virtual functions name `__cxa_pure_virtual` where there is nothing, but do not ask for it. A static program that needs it nowhere
//! else has a zero there, and a call of it is a call of nothing: the same fault as the complaint of a program that has it.

use super::{Frame, Place};
use crate::{
    core_file::RDI,
    space::Space,
    unwind::{Call, Step, Trust, call_before},
};
use std::rc::Rc;

const PURE_VIRTUAL: &str = "__cxa_pure_virtual";
/// What every program has that brings its own C++ runtime, and a class.
const CLASS_TABLE: &str = "_ZTVN10__cxxabiv117__class_type_infoE";
/// How much of a table is looked at, in bytes.
const TABLE_LIMIT: u64 = 1 << 16;

/// Names the innermost frame where it is such a call.
pub(super) fn name(space: &Space, steps: &[Step], frames: &mut [Frame]) {
    let ([inner, outer, ..], Some(first)) = (steps, frames.first_mut()) else { return };
    if inner.pc != 0 || outer.trust != Trust::BadCall {
        return;
    }
    let is_named = first.called_as.as_deref() == Some(PURE_VIRTUAL);
    if is_named || is_empty_place(space, outer.pc) {
        first.place = Rc::new(Place { symbol: Some(PURE_VIRTUAL.to_owned()), ..Place::default() });
        first.called_as = None;
    }
}

/// Whether the call before `pc` asked a table of virtual functions that has nothing at some place.
fn is_empty_place(space: &Space, pc: u64) -> bool {
    let found = match call_before(space, pc) {
        // The compiler knew which function it would be, and the linker had none.
        Some(Call::Direct(0)) => space.module(pc).map(|(_, module)| {
            let has = |name| module.images().any(|image| image.address_of(name).is_some());
            has(CLASS_TABLE) && !has(PURE_VIRTUAL)
        }),
        Some(Call::Slot(slot)) => table(space, slot).map(|_| space.word(slot) == Some(0)),
        // The object is the first argument, and begins with the table's address. A method that was called may have left by a jump.
        Some(Call::Computed | Call::Direct(_)) => {
            let this = space.core.threads[0].registers.general[RDI];
            let place = this.and_then(|this| space.word(this));
            place.and_then(|place| Some((place..table(space, place)?).step_by(8).any(|at| space.word(at) == Some(0))))
        }
        _ => None,
    };
    found == Some(true)
}

/// The end of the table of virtual functions that an address lies in.
fn table(space: &Space, address: u64) -> Option<u64> {
    let (_, module) = space.module(address)?;
    let mut variables = module.images().filter_map(|image| image.variable(module.to_file(address)));
    let symbol = variables.find(|symbol| symbol.name.starts_with("_ZTV"))?;
    Some(module.bias.wrapping_add(symbol.address).wrapping_add(symbol.size.min(TABLE_LIMIT)))
}

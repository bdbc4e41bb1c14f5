//! What the instruction before a return address tells.

use crate::space::Space;

/// What the call instruction before a return address says of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `call address`.
    Direct(u64),
    /// `call *address(%rip)`: the target stands at this address.
    Slot(u64),
    /// Through a register or computed memory.
    Computed,
}

/// Decodes the call before a return address; `None` where there is none.
pub fn call_before(space: &Space, pc: u64) -> Option<Call> {
    let mut code = [0; 8];
    if !space.read(pc.checked_sub(8)?, &mut code) {
        return None;
    }
    let offset = |at: usize| i64::from(i32::from_le_bytes([code[at], code[at + 1], code[at + 2], code[at + 3]]));
    if code[3] == 0xe8 {
        return Some(Call::Direct(pc.wrapping_add_signed(offset(4))));
    }
    if code[2..4] == [0xff, 0x15] {
        return Some(Call::Slot(pc.wrapping_add_signed(offset(4))));
    }
    // ff /2: a register (2 bytes), or memory with no, a byte's or a word's displacement, and perhaps an index byte.
    let computed = (2..=7).any(|length| {
        let [0xff, mode] = code[8 - length..10 - length] else { return false };
        let (form, base) = (mode >> 6, mode & 7);
        let index = usize::from(form != 3 && base == 4);
        let displacement = match form {
            0 if base == 5 => 4,
            0 | 3 => 0,
            1 => 1,
            _ => 4,
        };
        mode >> 3 & 7 == 2 && length == 2 + index + displacement
    });
    computed.then_some(Call::Computed)
}

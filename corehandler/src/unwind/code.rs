//! What call frame information would say of a function that has none, from its machine code.
//!
//! Compilers leave that information out where they are told to (`-fno-asynchronous-unwind-tables`, `-C force-unwind-tables=no`). But the
//! code itself says by how much the stack pointer has moved, and where registers were saved, on every way from the function's entry to an
//! address: all ways are followed, and where two of them meet, what they do not agree on is not known.
//!
//! A call that never returns is followed by code that other ways lead to. Such a call shows where the stack pointer behind it would
//! be in two places at once; then it is known not to return, and everything is followed anew.

use super::table::{Cfa, Rule, Rules};
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};
use std::collections::{BTreeMap, BTreeSet};

/// The most instructions that are looked at for one address.
const STEPS_LIMIT: usize = 1 << 20;
/// How many calls may be found not to return.
const RESTARTS_LIMIT: usize = 64;

/// A connected part of a function's code. A function has a second one where the compiler put what is seldom needed aside.
pub(super) struct Piece {
    /// Where it lies in memory.
    pub(super) start: u64,
    /// Its bytes.
    pub(super) code: Vec<u8>,
}

impl Piece {
    fn from(&self, address: u64) -> Option<&[u8]> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.code.get(at..).filter(|rest| !rest.is_empty())
    }
}

/// The rules at an address of a function whose entry is where the first piece begins.
pub(super) fn rules(pieces: &[Piece], address: u64) -> Option<Rules> {
    let ways = ways(pieces)?;
    let (at, state) = ways.states.range(..=address).next_back()?;
    let instruction = decode(pieces, *at)?;
    (address < instruction.next_ip()).then(|| state.rules(pieces[0].start)).flatten()
}

/// What is known at all instructions of a function.
fn ways(pieces: &[Piece]) -> Option<Ways> {
    let entry = pieces.first()?.start;
    let info = InstructionInfoFactory::new();
    let mut analysis = Analysis { pieces, info, never: BTreeSet::new(), budget: STEPS_LIMIT };
    for _ in 0..RESTARTS_LIMIT {
        let mut ways = Ways::default();
        ways.enter(entry, State::at_entry(), &mut analysis.never);
        analysis.follow(&mut ways);
        if !ways.is_wrong {
            return Some(ways);
        }
    }
    None
}

/// Where the code of a function of this size jumps to, out of it.
pub(super) fn branches_out(piece: &Piece) -> Vec<u64> {
    let inside = piece.start..piece.start.saturating_add(piece.code.len() as u64);
    let decoder = Decoder::with_ip(64, &piece.code, piece.start, DecoderOptions::NONE);
    let is_jump = |code: &Instruction| {
        matches!(code.flow_control(), FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch)
    };
    decoder
        .into_iter()
        .filter(is_jump)
        .map(|jump| jump.near_branch_target())
        .filter(|to| !inside.contains(to))
        .collect()
}

fn decode(pieces: &[Piece], address: u64) -> Option<Instruction> {
    let code = pieces.iter().find_map(|piece| piece.from(address))?;
    let instruction = Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// The processor's numbers of registers.
const SP: usize = 4;
const BP: usize = 5;
/// Those that a function gives back as it got them: rbx, rbp, r12 to r15.
const KEPT: [usize; 6] = [3, BP, 12, 13, 14, 15];
/// DWARF's numbers of the registers, in the processor's order.
const DWARF: [u16; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];

/// What is known before an instruction. The frame's address is that of the caller's stack pointer after the return.
#[derive(Clone, Copy, PartialEq)]
struct State {
    /// By how much the frame's address lies above what a register holds.
    below: [Option<i64>; 16],
    /// Where, from the frame's address, the caller's value of a register was put.
    saved: [Option<i64>; 16],
    /// Which registers hold the caller's value.
    is_callers: [bool; 16],
    /// The call behind which nothing but padding was gone over.
    after: Option<u64>,
    /// The register that the stack pointer was just compared with.
    compared: Option<usize>,
}

impl State {
    fn at_entry() -> State {
        let mut below = [None; 16];
        below[SP] = Some(8);
        State { below, saved: [None; 16], is_callers: [true; 16], after: None, compared: None }
    }

    /// What both agree on.
    fn met(&self, other: &State) -> State {
        let mut met = *self;
        for register in 0..16 {
            met.below[register] = self.below[register].filter(|_| self.below[register] == other.below[register]);
            met.saved[register] = self.saved[register].filter(|_| self.saved[register] == other.saved[register]);
            met.is_callers[register] &= other.is_callers[register];
        }
        met.after = self.after.filter(|_| self.after == other.after);
        met.compared = self.compared.filter(|_| self.compared == other.compared);
        met
    }

    fn write(&mut self, register: usize) {
        (self.below[register], self.is_callers[register]) = (None, false);
    }

    fn push(&mut self, register: Option<usize>, size: i64) {
        self.below[SP] = self.below[SP].map(|below| below + size);
        if let (Some(register), Some(below)) = (register, self.below[SP]) {
            self.save(register, -below);
        }
    }

    fn pop(&mut self, register: Option<usize>) {
        let place = self.below[SP].map(|below| -below);
        if let Some(register) = register {
            self.load(register, place);
        }
        if register != Some(SP) {
            self.below[SP] = self.below[SP].map(|below| below - 8);
        }
    }

    fn save(&mut self, register: usize, place: i64) {
        if self.is_callers[register] && self.saved[register].is_none() {
            self.saved[register] = Some(place);
        }
    }

    fn load(&mut self, register: usize, place: Option<i64>) {
        let is_callers = place.is_some() && self.saved[register] == place;
        self.write(register);
        self.is_callers[register] = is_callers;
    }

    /// The place of a memory operand, from the frame's address.
    fn place(&self, instruction: &Instruction) -> Option<i64> {
        let base = number(instruction.memory_base())?;
        let is_plain = instruction.memory_index() == Register::None && instruction.segment_prefix() == Register::None;
        let place = instruction.memory_displacement64().cast_signed().checked_sub(self.below[base]?)?;
        is_plain.then_some(place)
    }

    /// Goes over an instruction that the processor goes on behind.
    fn go_over(&mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) {
        if !is_padding(instruction) {
            self.after = None;
        }
        let operand = |at: u32| {
            let is_register = instruction.op_count() > at && instruction.op_kind(at) == OpKind::Register;
            is_register.then(|| number(instruction.op_register(at))).flatten()
        };
        self.compared = None;
        let is_memory = |at: u32| instruction.op_count() > at && instruction.op_kind(at) == OpKind::Memory;
        match (instruction.mnemonic(), operand(0), operand(1)) {
            (Mnemonic::Call, ..) => {
                (0..16)
                    .filter(|register| *register != SP && !KEPT.contains(register))
                    .for_each(|register| self.write(register));
                self.after = Some(instruction.ip());
            }
            (Mnemonic::Push, register, _) => self.push(register, -i64::from(instruction.stack_pointer_increment())),
            (Mnemonic::Pop, Some(register), _) => self.pop(Some(register)),
            (Mnemonic::Leave, ..) => {
                self.below[SP] = self.below[BP];
                self.pop(Some(BP));
            }
            (Mnemonic::Mov, Some(to), Some(from)) => {
                let below = self.below[from];
                self.write(to);
                self.below[to] = below;
            }
            (Mnemonic::Mov, None, Some(from)) if is_memory(0) => {
                if let Some(place) = self.place(instruction) {
                    self.save(from, place);
                }
            }
            (Mnemonic::Mov, Some(to), None) if is_memory(1) => self.load(to, self.place(instruction)),
            (Mnemonic::Lea, Some(to), _) => {
                let place = self.place(instruction);
                self.write(to);
                self.below[to] = place.map(|place| -place);
            }
            (Mnemonic::Add | Mnemonic::Sub, Some(to), None) if !is_memory(1) => {
                let change = instruction.immediate(1).cast_signed();
                let up = if instruction.mnemonic() == Mnemonic::Add { change } else { change.wrapping_neg() };
                let below = self.below[to].and_then(|below| below.checked_sub(up));
                self.write(to);
                self.below[to] = below;
            }
            (Mnemonic::Cmp, Some(SP), Some(other)) | (Mnemonic::Cmp, Some(other), Some(SP)) => {
                self.compared = Some(other);
            }
            _ => self.go_over_any(instruction, info),
        }
        // What lies below the stack pointer is nobody's.
        if let Some(below) = self.below[SP] {
            self.saved
                .iter_mut()
                .filter(|saved| saved.is_some_and(|place| place < -below))
                .for_each(|saved| *saved = None);
        }
    }

    /// An instruction that only counts by the registers that it writes.
    fn go_over_any(&mut self, instruction: &Instruction, info: &mut InstructionInfoFactory) {
        let moved = instruction.stack_pointer_increment();
        let before = self.below[SP];
        for used in info.info(instruction).used_registers() {
            let is_written = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            if let Some(register) = number(used.register().full_register()).filter(|_| is_written) {
                self.write(register);
            }
        }
        if moved != 0 {
            self.below[SP] = before.map(|below| below - i64::from(moved));
        }
    }

    fn rules(&self, function: u64) -> Option<Rules> {
        let base = [SP].into_iter().chain(KEPT).find(|register| self.below[*register].is_some())?;
        let mut registers = std::array::from_fn(|_| Rule::Unknown);
        for register in KEPT {
            registers[usize::from(DWARF[register])] = match self.saved[register] {
                _ if self.is_callers[register] => Rule::Same,
                Some(place) => Rule::At(place),
                None => Rule::Unknown,
            };
        }
        registers[usize::from(DWARF[SP])] = Rule::Is(0);
        let cfa = Cfa::Register(DWARF[base], self.below[base]?);
        Some(Rules { cfa, registers, return_address: Rule::At(-8), is_signal_frame: false, function })
    }
}

/// A whole general register's number.
fn number(register: Register) -> Option<usize> {
    register.is_gpr64().then(|| register.number())
}

fn is_padding(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Endbr64 | Mnemonic::Int3)
        // `xchg %ax,%ax`, with any number of prefixes.
        || matches!(instruction.code(), Code::Xchg_r16_AX | Code::Xchg_r32_EAX | Code::Xchg_r64_RAX) && instruction.op0_register() == instruction.op1_register()
}

/// What is known at each instruction that was reached, and what is still to be followed.
#[derive(Default)]
struct Ways {
    states: BTreeMap<u64, State>,
    queue: Vec<u64>,
    /// What is known at jumps whose target is computed: those that leave a frame standing, and the others, which may be calls in the last
    /// place.
    computed: [Option<State>; 2],
    /// A call behind which it was gone on does not return.
    is_wrong: bool,
}

impl Ways {
    /// Comes to an instruction by one more way.
    fn enter(&mut self, address: u64, new: State, never: &mut BTreeSet<u64>) {
        let Some(old) = self.states.get(&address) else {
            self.states.insert(address, new);
            self.queue.push(address);
            return;
        };
        if let (Some(here), Some(there)) = (old.below[SP], new.below[SP])
            && here != there
        {
            if let Some(call) = new.after {
                never.insert(call);
                return;
            }
            if let Some(call) = old.after {
                self.is_wrong |= never.insert(call);
                return;
            }
        }
        let met = old.met(&new);
        if met != *old {
            self.states.insert(address, met);
            self.queue.push(address);
        }
    }
}

struct Analysis<'c> {
    pieces: &'c [Piece],
    info: InstructionInfoFactory,
    /// The calls that do not return.
    never: BTreeSet<u64>,
    budget: usize,
}

impl Analysis<'_> {
    /// Follows all ways, and then those to which only a computed jump can lead.
    fn follow(&mut self, ways: &mut Ways) {
        self.drain(ways);
        let Some(computed) = ways.computed[0].or(ways.computed[1]) else { return };
        for piece in self.pieces {
            let mut at = piece.start;
            while let Some(instruction) = decode(self.pieces, at).filter(|_| !ways.is_wrong) {
                if !ways.states.contains_key(&at) && !is_padding(&instruction) {
                    ways.enter(at, computed, &mut self.never);
                    self.drain(ways);
                }
                at = instruction.next_ip();
            }
        }
    }

    fn drain(&mut self, ways: &mut Ways) {
        while let Some(at) = ways.queue.pop().filter(|_| !ways.is_wrong) {
            let (Some(instruction), Some(budget)) = (decode(self.pieces, at), self.budget.checked_sub(1)) else {
                continue;
            };
            self.budget = budget;
            self.pass(ways, &instruction);
        }
    }

    /// Goes over one instruction, to all that can come next.
    fn pass(&mut self, ways: &mut Ways, instruction: &Instruction) {
        let before = ways.states[&instruction.ip()];
        let mut after = before;
        after.go_over(instruction, &mut self.info);
        let (mut goes_on, mut jumps) = (true, false);
        match instruction.flow_control() {
            FlowControl::UnconditionalBranch => (goes_on, jumps) = (false, true),
            FlowControl::ConditionalBranch => jumps = true,
            FlowControl::Return | FlowControl::Exception => goes_on = false,
            FlowControl::IndirectBranch => {
                let known = &mut ways.computed[usize::from(before.below[SP] == Some(8))];
                // What the linker knows is another function.
                if !instruction.is_ip_rel_memory_operand() {
                    *known = Some(known.map_or(before, |known| known.met(&before)));
                }
                goes_on = false;
            }
            FlowControl::Call | FlowControl::IndirectCall => goes_on = !self.never.contains(&instruction.ip()),
            FlowControl::Interrupt => goes_on = instruction.mnemonic() != Mnemonic::Int3,
            _ => {}
        }
        let target = instruction.near_branch_target();
        if jumps && self.pieces.iter().any(|piece| piece.from(target).is_some()) {
            ways.enter(target, after, &mut self.never);
        }
        // A large frame is touched page by page, until the stack pointer is where another register points to.
        if let Some(other) = before.compared.filter(|_| instruction.mnemonic() == Mnemonic::Jne) {
            after.below[SP] = before.below[other];
        }
        if goes_on {
            ways.enter(instruction.next_ip(), after, &mut self.never);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{image::Image, unwind::table::Tables};
    use gimli::UnwindContext;
    use std::path::Path;

    /// How often the code told what call frame information tells, told something else, and told nothing.
    #[derive(Debug, Default)]
    struct Compared {
        alike: usize,
        unknown: usize,
        otherwise: Vec<String>,
    }

    /// Compares both at every instruction of every function that has a size.
    fn compare(path: &Path, functions: &[(u64, u64)]) -> Compared {
        let image = Image::open(path).unwrap();
        let tables = Tables::of(&image);
        let (mut compared, mut context) = (Compared::default(), UnwindContext::new());
        for (start, size) in functions {
            let mut code = vec![0; usize::try_from(*size).unwrap()];
            assert_eq!(image.read_address(*start, &mut code), code.len());
            let pieces = [Piece { start: *start, code }];
            let Some(ways) = ways(&pieces) else { continue };
            for (at, state) in ways.states.range(*start..start + size) {
                let Some(known) = tables.iter().find_map(|table| table.rules(*at, &mut context)) else { continue };
                let Cfa::Register(register, offset) = known.cfa else { continue };
                // What the compiler knows not to be reached has no true rules.
                if decode(&pieces, *at).is_some_and(|instruction| instruction.mnemonic() == Mnemonic::Ud2) {
                    continue;
                }
                let register = DWARF.iter().position(|dwarf| *dwarf == register).unwrap();
                let saved =
                    KEPT.iter().all(|kept| match (&known.registers[usize::from(DWARF[*kept])], state.saved[*kept]) {
                        (Rule::At(place), Some(saved)) => *place == saved,
                        _ => true,
                    });
                match state.below[register] {
                    None => compared.unknown += 1,
                    Some(below) if below == offset && saved => compared.alike += 1,
                    Some(below) => {
                        compared.otherwise.push(format!("{at:#x} of {start:#x}: {below}, not {offset}; {saved}"));
                    }
                }
            }
        }
        compared
    }

    #[test]
    fn code_tells_what_call_frame_information_tells() {
        let own = std::env::current_exe().unwrap();
        let image = Image::open(&own).unwrap();
        let every: Vec<(u64, u64)> = image.sized_functions(".symtab");
        assert!(every.len() > 5000, "{}", every.len());
        // Nothing called the program's entry: its table says so, and nothing of what it takes from the stack.
        let entry = image.address_of("_start");
        let called = every.into_iter().filter(|(start, _)| Some(*start) != entry);
        let some: Vec<(u64, u64)> = called.step_by(13).collect();
        let compared = compare(&own, &some);
        let all = compared.alike + compared.unknown + compared.otherwise.len();
        println!("{} alike, {} unknown, {} otherwise", compared.alike, compared.unknown, compared.otherwise.len());
        assert!(
            compared.otherwise.is_empty(),
            "{} of {all}: {:#?}",
            compared.otherwise.len(),
            &compared.otherwise[..compared.otherwise.len().min(20)]
        );
        assert!(compared.unknown * 100 < all, "{} of {all} are unknown", compared.unknown);
    }
}

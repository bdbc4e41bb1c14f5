//! From a thread's registers to the addresses that it came through.
//!
//! Each step is tried in the order of how much it can be believed, and the frame says which one found it: call frame information of the
//! file that ran, or of its debug file; the signal frame that the kernel left on the stack; what the function's own code does to the stack;
//! the frame pointer; the words of the stack that look like return addresses. A call to where no code is leaves its return address on top of the stack.

mod call;
mod code;
mod go;
mod table;

use crate::{
    core_file::{RBP, REGISTERS, RSP, Registers},
    image::Symbol,
    space::{Module, Space},
};
pub use call::{Call, call_before};
use code::Piece;
use gimli::{EndianSlice, EvaluationResult, LittleEndian, UnwindContext};
use go::GoRuntime;
use std::{collections::HashMap, rc::Rc, time::Duration};
use table::{Cfa, Rule, Rules, Tables};

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The thread's own registers.
    Registers,
    /// Call frame information.
    Cfi,
    /// What the function's machine code does to the stack on every way from its entry.
    Code,
    /// The registers that the kernel saved when it delivered a signal.
    SignalFrame,
    /// The word on top of the stack, after a call to where no code is.
    BadCall,
    /// The target of the caller's call instruction: a function that left by a jump.
    TailCall,
    /// Debug information: a function that the compiler copied into this one.
    Inline,
    /// The frame pointer of a goroutine, which Go's run time keeps when it changes to the stack of the system's thread.
    StackSwitch,
    /// The chain of frame pointers.
    FramePointer,
    /// A word of the stack that looks like a return address.
    Scan,
}

impl Trust {
    /// Whether a signature may rest on it.
    pub fn is_strong(self) -> bool {
        !matches!(self, Trust::Scan | Trust::FramePointer)
    }

    /// The word that people see.
    pub fn name(self) -> &'static str {
        match self {
            Trust::Registers => "registers",
            Trust::Cfi => "cfi",
            Trust::Code => "code",
            Trust::SignalFrame => "signal",
            Trust::BadCall => "bad-call",
            Trust::TailCall => "tail-call",
            Trust::Inline => "inline",
            Trust::StackSwitch => "stack-switch",
            Trust::FramePointer => "frame-pointer",
            Trust::Scan => "scan",
        }
    }
}

/// A place that the thread came through.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The address of the instruction, or of the one after the call.
    pub pc: u64,
    /// Whether `pc` is the instruction itself: the crash, or what a signal interrupted.
    pub exact: bool,
    /// The stack pointer there.
    pub sp: u64,
    /// How it was found.
    pub trust: Trust,
}

impl Step {
    /// An address that lies within the call, or within the instruction.
    pub fn lookup(&self) -> u64 {
        if self.exact { self.pc } else { self.pc.wrapping_sub(1) }
    }
}

/// How far a walk may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most frames.
    pub frames: usize,
    /// The longest time.
    pub time: Duration,
}

/// The processor's time that this thread has used: a server that is busy gives the same signature as one that is not.
fn used() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

impl Default for Limits {
    /// A stack of 8 MiB holds at most half a million frames.
    fn default() -> Limits {
        Limits { frames: 1 << 20, time: Duration::from_secs(20) }
    }
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// At the outermost function.
    Whole,
    /// Nothing told where the last one was called from.
    Lost,
    /// At the bound of frames or time.
    Bound,
}

/// A thread's way, innermost first.
#[derive(Debug)]
pub struct Walk {
    /// The places.
    pub steps: Vec<Step>,
    /// Where it ended.
    pub end: End,
}

/// Walks the threads of one core.
pub struct Unwinder<'s> {
    space: &'s Space,
    tables: Vec<Tables>,
    known: HashMap<u64, Option<Rc<Rules>>>,
    by_code: HashMap<u64, Option<Rc<Rules>>>,
    /// Whether an address is in the function where a program begins.
    entries: HashMap<u64, bool>,
    /// Where functions of Go's run time begin, by module.
    go: HashMap<usize, Rc<GoRuntime>>,
    context: UnwindContext<usize>,
}

/// The instructions of every signal return on x86-64: `mov $15, %rax; syscall`.
const SIGNAL_RETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// The largest function whose code is looked at, in bytes.
const FUNCTION_LIMIT: u64 = 1 << 20;
/// How many words are looked at for a return address.
const SCAN_WORDS: u64 = 1024;

impl<'s> Unwinder<'s> {
    /// For the threads of this core.
    pub fn new(space: &'s Space) -> Unwinder<'s> {
        let tables = space.modules.iter().map(|_| Tables::default()).collect();
        Unwinder {
            space,
            tables,
            known: HashMap::new(),
            by_code: HashMap::new(),
            entries: HashMap::new(),
            go: HashMap::new(),
            context: UnwindContext::new(),
        }
    }

    /// Where the function around an address begins, as call frame information knows it, in the file's own numbering.
    pub fn function_start(&mut self, address: u64) -> Option<u64> {
        self.rules(address).map(|rules| rules.function)
    }

    /// Walks from these registers outwards.
    pub fn walk(&mut self, registers: Registers, limits: Limits) -> Walk {
        let until = used() + limits.time;
        let mut now = registers;
        let mut exact = true;
        let mut steps: Vec<Step> = Vec::new();
        let mut trust = Trust::Registers;
        loop {
            let step = Step { pc: now.pc, exact, sp: now.sp().unwrap_or(0), trust };
            steps.push(step);
            if steps.len() >= limits.frames || (steps.len().is_multiple_of(1024) && used() > until) {
                return Walk { steps, end: End::Bound };
            }
            let Some(next) = self.step(&now, &step) else {
                let end = if self.is_outermost(&now, &step) { End::Whole } else { End::Lost };
                return Walk { steps, end };
            };
            if next.registers.pc == 0 {
                return Walk { steps, end: End::Whole };
            }
            (now, exact, trust) = (next.registers, next.exact, next.trust);
        }
    }

    /// Where the caller is said not to exist: the start of a program or of a thread.
    fn is_outermost(&mut self, _registers: &Registers, step: &Step) -> bool {
        self.is_entry(step.lookup())
            || self.rules(step.lookup()).is_some_and(|rules| matches!(rules.return_address, Rule::Unknown))
    }

    /// The kernel begins a program there, and nobody has called it. Some C libraries, as musl, do not say so in call frame information.
    fn is_entry(&mut self, address: u64) -> bool {
        let space = self.space;
        *self.entries.entry(address).or_insert_with(|| {
            space.module(address).is_some_and(|(_, module)| {
                let at = module.to_file(address);
                module.images().any(|image| image.function(".symtab", at).is_some_and(|symbol| symbol.name == "_start"))
            })
        })
    }

    fn step(&mut self, now: &Registers, step: &Step) -> Option<Next> {
        if let Some(next) = self.signal_frame(now) {
            return Some(next);
        }
        if !self.space.is_code(step.lookup()) {
            // Only the innermost one, or what a signal interrupted, can have gone astray.
            return step.exact.then(|| self.bad_call(now)).flatten();
        }
        if let Some(rules) = self.rules(step.lookup()) {
            if let Some(next) = self.stack_switch(now, step, rules.function) {
                return Some(next);
            }
            if matches!(rules.return_address, Rule::Unknown) {
                return None;
            }
            if let Some(next) = self.apply(&rules, now) {
                let exact = next.exact || self.is_interrupted(step.lookup(), rules.function);
                return Some(Next { exact, ..next });
            }
        } else if let Some(rules) = self.rules_by_code(step.lookup()) {
            let next = self.apply(&rules, now).filter(|next| self.is_return(next.registers.pc));
            if let Some(next) = next {
                return Some(Next { trust: Trust::Code, ..next });
            }
        }
        if self.is_entry(step.lookup()) {
            return None;
        }
        self.frame_pointer(now).or_else(|| self.scan(now))
    }

    fn rules(&mut self, address: u64) -> Option<Rc<Rules>> {
        if let Some(known) = self.known.get(&address) {
            return known.clone();
        }
        let found = self.space.module(address).and_then(|(index, module)| {
            let at = module.to_file(address);
            let tables = self.tables.get(index)?.get(module);
            tables.iter().find_map(|table| table.rules(at, &mut self.context)).map(Rc::new)
        });
        self.known.insert(address, found.clone());
        found
    }

    /// The rules for code without call frame information, where a table of symbols says which function it is part of.
    fn rules_by_code(&mut self, address: u64) -> Option<Rc<Rules>> {
        if let Some(known) = self.by_code.get(&address) {
            return known.clone();
        }
        let found = self.space.module(address).and_then(|(_, module)| {
            let pieces = pieces(self.space, module, module.to_file(address))?;
            code::rules(&pieces, address).map(Rc::new)
        });
        self.by_code.insert(address, found.clone());
        found
    }

    /// The kernel's signal frame: the return address was popped, so that the stack pointer stands at a `struct ucontext`.
    fn signal_frame(&self, now: &Registers) -> Option<Next> {
        if !self.returns_from_signal(now.pc) {
            return None;
        }
        // r8…r15 rdi rsi rbp rbx rdx rax rcx rsp rip, from byte 40 on.
        const ORDER: [u64; REGISTERS] = [13, 12, 14, 11, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7];
        let saved = now.sp()?.checked_add(40)?;
        let general = ORDER.map(|index| self.space.word(saved.wrapping_add(8 * index)));
        let pc = self.space.word(saved.wrapping_add(8 * 16))?;
        general[RSP]?;
        Some(Next { registers: Registers { pc, general }, exact: true, trust: Trust::SignalFrame })
    }

    /// Whether the code at `pc` tells the kernel that a signal handler has ended.
    fn returns_from_signal(&self, pc: u64) -> bool {
        let mut code = [0; SIGNAL_RETURN.len()];
        self.space.is_code(pc) && self.space.read(pc, &mut code) && code == SIGNAL_RETURN
    }

    fn bad_call(&self, now: &Registers) -> Option<Next> {
        let sp = now.sp()?;
        let pc = self.space.word(sp)?;
        if !self.follows_call(pc) {
            return None;
        }
        let mut registers = Registers { pc, general: now.general };
        registers.general[RSP] = Some(sp.wrapping_add(8));
        Some(Next { registers, exact: false, trust: Trust::BadCall })
    }

    fn apply(&self, rules: &Rules, now: &Registers) -> Option<Next> {
        let cfa = match &rules.cfa {
            Cfa::Register(register, offset) => {
                now.general.get(usize::from(*register)).copied()??.wrapping_add_signed(*offset)
            }
            Cfa::Expression(bytes) => self.evaluate(bytes, now, None)?,
        };
        // A caller's frame lies above; only a signal handler's own stack may lie anywhere.
        if !rules.is_signal_frame && now.sp().is_some_and(|sp| cfa <= sp) {
            return None;
        }
        let value = |rule: &Rule, old: Option<u64>| match rule {
            Rule::Unknown => None,
            Rule::Same => old,
            Rule::At(offset) => self.space.word(cfa.wrapping_add_signed(*offset)),
            Rule::Is(offset) => Some(cfa.wrapping_add_signed(*offset)),
            Rule::Register(other) => now.general.get(usize::from(*other)).copied().flatten(),
            Rule::AtExpression(bytes) => self.space.word(self.evaluate(bytes, now, Some(cfa))?),
            Rule::IsExpression(bytes) => self.evaluate(bytes, now, Some(cfa)),
            Rule::Constant(constant) => Some(*constant),
        };
        let pc = value(&rules.return_address, None)?;
        let mut registers = Registers { pc, general: [None; REGISTERS] };
        for ((register, rule), old) in registers.general.iter_mut().zip(&rules.registers).zip(now.general) {
            *register = value(rule, old);
        }
        if pc != 0 && !self.space.is_code(pc.wrapping_sub(u64::from(!rules.is_signal_frame))) {
            return None;
        }
        let trust = if rules.is_signal_frame { Trust::SignalFrame } else { Trust::Cfi };
        Some(Next { registers, exact: rules.is_signal_frame, trust })
    }

    /// Evaluates a DWARF expression over registers and memory, within a bound.
    fn evaluate(&self, bytes: &[u8], now: &Registers, initial: Option<u64>) -> Option<u64> {
        let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
        let mut evaluation = gimli::Evaluation::new(EndianSlice::new(bytes, LittleEndian), encoding);
        evaluation.set_max_iterations(1000);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => return evaluation.value_result()?.to_u64(u64::MAX).ok(),
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    evaluation.resume_with_memory(gimli::Value::Generic(self.space.word(address)?)).ok()?
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = match register.0 {
                        16 => Some(now.pc),
                        register => now.general.get(usize::from(register)).copied().flatten(),
                    };
                    evaluation.resume_with_register(gimli::Value::Generic(value?)).ok()?
                }
                _ => return None,
            };
        }
    }

    fn frame_pointer(&self, now: &Registers) -> Option<Next> {
        let (frame, sp) = (now.general[RBP]?, now.sp()?);
        if frame < sp || frame - sp > 1 << 20 {
            return None;
        }
        self.by_frame_pointer(frame, Trust::FramePointer)
    }

    fn by_frame_pointer(&self, frame: u64, trust: Trust) -> Option<Next> {
        let pc = self.space.word(frame.checked_add(8)?)?;
        if !frame.is_multiple_of(8) || !self.is_return(pc) {
            return None;
        }
        let mut registers = Registers { pc, general: [None; REGISTERS] };
        registers.general[RBP] = self.space.word(frame);
        registers.general[RSP] = Some(frame + 16);
        Some(Next { registers, exact: false, trust })
    }

    fn scan(&self, now: &Registers) -> Option<Next> {
        let sp = now.sp()?.checked_next_multiple_of(8)?;
        (0..SCAN_WORDS).find_map(|index| {
            let at = sp.checked_add(8 * index)?;
            let pc = self.space.word(at).filter(|pc| self.is_return(*pc))?;
            let mut registers = Registers { pc, general: [None; REGISTERS] };
            registers.general[RSP] = at.checked_add(8);
            registers.general[RBP] = now.general[RBP].filter(|frame| *frame > at);
            Some(Next { registers, exact: false, trust: Trust::Scan })
        })
    }

    /// Whether a function can return to `pc`: behind a call, or to the end of a signal handler.
    fn is_return(&self, pc: u64) -> bool {
        self.follows_call(pc) || self.returns_from_signal(pc)
    }

    /// Whether the instruction before `pc` is a call.
    fn follows_call(&self, pc: u64) -> bool {
        self.space.is_code(pc.wrapping_sub(1)) && call_before(self.space, pc).is_some()
    }
}

/// Where the code of a function jumps to, out of the function.
pub fn branches_out(space: &Space, start: u64, size: u64) -> Vec<u64> {
    let mut code = vec![0; usize::try_from(size.min(FUNCTION_LIMIT)).unwrap_or(0)];
    if space.read(start, &mut code) { code::branches_out(&Piece { start, code }) } else { vec![] }
}

/// The code of the function around an address, its entry first.
fn pieces(space: &Space, module: &Module, address: u64) -> Option<Vec<Piece>> {
    let tables = [".symtab", ".dynsym"];
    let (image, symbol) = tables.iter().find_map(|table| {
        module
            .images()
            .find_map(|image| Some((image, image.function(table, address).filter(|symbol| symbol.size > 0)?)))
    })?;
    let mut symbols = vec![symbol];
    if let Some((parent, _)) = symbols[0].name.split_once(".cold") {
        let entry = image.address_of(parent)?;
        symbols.insert(0, tables.iter().find_map(|table| image.function(table, entry))?);
    }
    let piece = |symbol: Symbol| {
        let mut code = vec![0; usize::try_from(symbol.size).ok().filter(|_| symbol.size <= FUNCTION_LIMIT)?];
        let start = module.bias.wrapping_add(symbol.address);
        space.read(start, &mut code).then_some(Piece { start, code })
    };
    symbols.into_iter().map(piece).collect()
}

struct Next {
    registers: Registers,
    exact: bool,
    trust: Trust,
}

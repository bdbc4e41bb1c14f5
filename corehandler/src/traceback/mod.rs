//! The raw traceback: every place that the crashed thread came through, with the function that it lies in and how that was found.

mod instances;
mod main_call;
mod naming;
mod virtual_call;

use crate::{
    core_file::{Core, Signal},
    names,
    space::{Identity, Module, Search, Space, hex},
    unwind::{End, Limits, Step, Trust, Unwinder, call_before},
};
use naming::Naming;
use std::{collections::BTreeSet, rc::Rc};

/// A place in code.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// The linker's name of the function, or the debug information's where it has no other.
    pub symbol: Option<String>,
    /// The source file and line, where debug information is at hand.
    pub source: Option<String>,
    /// The module's file name; empty outside of all modules.
    pub module: String,
    /// The module's build id, in hexadecimal.
    pub build_id: Option<String>,
    /// The address in the file's own numbering.
    pub offset: u64,
    /// Where the function begins, in the file's own numbering.
    pub function_start: Option<u64>,
    /// Whether the module is the program itself, and no library.
    pub is_program: bool,
    /// Whether debug information covers it.
    #[serde(default)]
    pub has_debug: bool,
    /// Whether the file that names come from is the one that ran.
    pub is_proven: bool,
    /// Whether the program has other functions whose names differ in the hash alone that each build has another of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_namesakes: bool,
    /// Whether Go's linker made the module.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_go: bool,
}

/// A frame of the raw traceback.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The address in memory.
    pub pc: u64,
    /// How it was found.
    pub trust: Trust,
    /// The place.
    pub place: Rc<Place>,
    /// The name by which the caller called this function, where the call instruction tells.
    pub called_as: Option<Rc<str>>,
}

/// What one core tells.
#[derive(Debug)]
pub struct Traceback {
    /// The program's file name.
    pub program: String,
    /// Its path as it was mapped.
    pub program_path: String,
    /// Its build id.
    pub program_build_id: Option<String>,
    /// Its command line, cut by the kernel.
    pub command_line: String,
    /// Its number.
    pub pid: u32,
    /// How many threads it had.
    pub threads: usize,
    /// What ended it.
    pub signal: Signal,
    /// The frames, innermost first.
    pub frames: Vec<Frame>,
    /// How many steps were walked, functions that were copied into others not counted.
    pub depth: usize,
    /// Where the walk ended.
    pub end: End,
    /// Whether the stack ran over.
    pub is_stack_overflow: bool,
    /// Whether debug information of the program was at hand.
    pub has_inlines: bool,
    /// What the C library said before it aborted.
    pub abort_message: Option<String>,
    /// The log file of the run, where ssRun ran the program.
    pub log: Option<String>,
    /// What was mapped: path, build id, and whether the file on this disk is the one that ran.
    pub modules: Vec<(String, Option<String>, Identity)>,
}

/// The symbol that the frame of a delivered signal gets, whatever the C library calls the code there.
pub const SIGNAL_FRAME: &str = "<signal>";
/// The variable by which ssRun tells a program the log file of its run.
pub const LOG_VARIABLE: &str = "ATLAS_RUN_LOG";
/// How much is told of each place. More takes longer, and gives the same signature but for [`Detail::Functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The functions that the linker knew.
    Functions,
    /// And those that were copied into them.
    Inlines,
    /// And the source lines.
    Lines,
}

/// A stack that ran over is at least this deep.
const OVERFLOW_DEPTH: usize = 100;
/// Where, behind the registers that the kernel puts on the stack for a signal handler, it tells of the signal.
const SIGNAL_INFO: u64 = 304;
/// How far from the stack pointer the first missing page may be touched.
const OVERFLOW_REACH: u64 = 1 << 20;

impl Traceback {
    /// Reads, walks and names the crashed thread of a core.
    pub fn of(core: Core, search: &Search, detail: Detail) -> Traceback {
        let mut space = Space::new(core, search);
        distrust_others(&mut space);
        let mut unwinder = Unwinder::new(&space);
        let walk = unwinder.walk(space.core.threads[0].registers, Limits::default());
        let program = program(&space);
        let mut naming = Naming::new(&space, program);
        naming.look_up(&walk.steps, &mut unwinder, detail);
        let mut frames = naming.frames(&walk.steps);
        virtual_call::name(&space, &walk.steps, &mut frames);
        let module = program.map(|program| &space.modules[program]);
        if let Some(module) = module {
            instances::mark(module, &mut frames);
        }
        let is_stack_overflow = overflowed(&space, &walk.steps);
        let core = &space.core;
        Traceback {
            program: module.map_or_else(|| core.name.clone(), |module| module.name().to_owned()),
            program_path: module.map(|module| module.path.clone()).unwrap_or_default(),
            program_build_id: module.and_then(|module| module.build_id.as_deref()).map(hex),
            command_line: core.command_line.clone(),
            pid: core.pid,
            threads: core.threads.len(),
            signal: core.signal,
            depth: walk.steps.len(),
            end: walk.end,
            is_stack_overflow,
            has_inlines: naming.has_inlines,
            abort_message: abort_message(&space),
            log: core.environment(LOG_VARIABLE),
            modules: space
                .modules
                .iter()
                .map(|module| (module.path.clone(), module.build_id.as_deref().map(hex), module.identity))
                .collect(),
            frames,
        }
    }
}

/// Takes back the trust in files that have no build id, and no call before an address that the thread returns to.
fn distrust_others(space: &mut Space) {
    let is_doubtful = |module: &Module| module.build_id.is_none() && module.image.is_some();
    if !space.modules.iter().any(is_doubtful) {
        return;
    }
    let walk = Unwinder::new(space).walk(space.core.threads[0].registers, Limits::default());
    let returns = walk.steps.iter().filter(|step| !step.exact && matches!(step.trust, Trust::Cfi | Trust::BadCall));
    let places = returns.filter_map(|step| Some((step.pc, space.module(step.lookup())?)));
    let others = places.filter(|(pc, (_, module))| is_doubtful(module) && call_before(space, *pc).is_none());
    let others: BTreeSet<usize> = others.map(|(_, (index, _))| index).collect();
    others.into_iter().for_each(|index| space.distrust(index));
}

/// The module that the kernel started.
fn program(space: &Space) -> Option<usize> {
    let entry = space.core.entry.and_then(|entry| space.module(entry)).map(|(index, _)| index);
    entry.or_else(|| space.modules.iter().position(|module| module.path.starts_with('/')))
}

fn overflowed(space: &Space, steps: &[Step]) -> bool {
    let signal = space.core.signal;
    let reached = |steps: &[Step], number: i32, address: u64| {
        let sp = steps.first().map_or(0, |step| step.sp);
        matches!(number, 7 | 11) && steps.len() >= OVERFLOW_DEPTH && sp.abs_diff(address) <= OVERFLOW_REACH
    };
    if reached(steps, signal.number, signal.address) {
        return true;
    }
    // A handler that ended the program in its own way, as Rust's does: the kernel told it the address.
    let Some(at) = steps.iter().position(|step| step.trust == Trust::SignalFrame) else { return false };
    let Some(context) = at.checked_sub(1).map(|at| steps[at].sp) else { return false };
    let field = |at: u64| space.word(context.wrapping_add(SIGNAL_INFO + at));
    field(0).zip(field(16)).is_some_and(|(number, address)| reached(&steps[at..], number as i32, address))
}

/// glibc keeps the text that it ended the program with.
fn abort_message(space: &Space) -> Option<String> {
    if space.core.signal.number != 6 {
        return None;
    }
    // A static program is its own C library.
    let is_libc = |module: &&Module| module.name().starts_with("libc.so") || module.name().starts_with("libc-");
    let libc = space.modules.iter().find(is_libc).or_else(|| space.modules.get(program(space)?));
    libc.and_then(|module| {
        let image = module.image.as_ref()?;
        let at = image.address_of("__abort_msg")?;
        let message = space.word(at.wrapping_add(module.bias)).filter(|at| *at != 0)?;
        // A length, then the text.
        let text = space.text(message.wrapping_add(4), 4096)?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    })
}

impl Place {
    /// Whether nothing that was copied into it can be missing: it is a library's, or debug information covers it.
    pub fn is_told_whole(&self) -> bool {
        self.has_debug || !self.is_program
    }

    /// What people see: the whole name, or where it lies.
    pub fn shown(&self) -> String {
        match &self.symbol {
            Some(symbol) => names::demangled(symbol),
            None if self.module.is_empty() => "no code".to_owned(),
            None => format!("{}+{:#x}", self.module, self.offset),
        }
    }
}

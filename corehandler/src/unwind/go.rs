//! Go's own ways with stacks: a signal's handler that goes on as if it had been called, and a run time that works on the stack of the system's
//! thread, from where nothing but the frame pointer leads back to the goroutine's.

use super::{Next, Step, Trust, Unwinder};
use crate::core_file::{RBP, REGISTERS, RSP, Registers};
use std::rc::Rc;

/// The function that Go's signal handler puts between what was interrupted and the panic.
const GO_INTERRUPTED: &str = "runtime.sigpanic";
/// Go's functions that go on on the stack of the system's thread, and leave the frame pointer as their caller had it.
const GO_SWITCHES: [&str; 5] =
    ["runtime.systemstack.abi0", "runtime.systemstack", "runtime.mcall", "runtime.morestack.abi0", "runtime.morestack"];
/// Go's function that calls C, on the stack of the system's thread.
const GO_CALLS_C: [&str; 2] = ["runtime.asmcgocall.abi0", "runtime.asmcgocall"];
/// Where, above its stack pointer, that function keeps the goroutine, and how deep the goroutine's stack was: before Go 1.21, and since.
const GO_KEPT: [(u64, u64); 2] = [(48, 40), (8, 0)];
/// Go's function that finds that every goroutine waits: no goroutine called it.
const GO_ALL_ASLEEP: &str = "runtime.checkdead";
/// Go's list of goroutines; the first is the one that runs `main`.
const GO_GOROUTINES: &str = "runtime.allgs";
/// Where a goroutine that waits has its stack pointer, program counter and frame pointer, in every Go since 1.7.
const GO_SAVED: [u64; 3] = [56, 64, 104];
/// Where functions of Go's run time begin, in the file's own numbering.
pub(super) struct GoRuntime {
    interrupted: Option<u64>,
    switches: Vec<u64>,
    calls_c: Vec<u64>,
    all_asleep: Option<u64>,
    /// The list of goroutines, in the program's memory.
    goroutines: Option<u64>,
}

impl Unwinder<'_> {
    /// What is known of Go's run time in the module around an address, where it is a Go program.
    fn go_runtime(&mut self, address: u64) -> Option<Rc<GoRuntime>> {
        let (index, module) = self.space.module(address).filter(|(_, module)| module.is_go())?;
        let of_module = || {
            let start = |name: &&str| module.images().find_map(|image| image.address_of(name));
            Rc::new(GoRuntime {
                interrupted: start(&GO_INTERRUPTED),
                switches: GO_SWITCHES.iter().filter_map(start).collect(),
                calls_c: GO_CALLS_C.iter().filter_map(start).collect(),
                all_asleep: start(&GO_ALL_ASLEEP),
                goroutines: start(&GO_GOROUTINES).map(|address| module.bias.wrapping_add(address)),
            })
        };
        Some(self.go.entry(index).or_insert_with(of_module).clone())
    }

    /// Whether what this function returns to was interrupted and has called nothing: Go's signal handler lets the program go on in it.
    pub(super) fn is_interrupted(&mut self, address: u64, function: u64) -> bool {
        self.go_runtime(address).is_some_and(|go| go.interrupted == Some(function))
    }

    /// From the stack of the system's thread back to the goroutine's, which lies anywhere.
    pub(super) fn stack_switch(&mut self, now: &Registers, step: &Step, function: u64) -> Option<Next> {
        let go = self.go_runtime(step.lookup())?;
        if go.switches.contains(&function) {
            return self.by_frame_pointer(now.general[RBP]?, Trust::StackSwitch);
        }
        if go.calls_c.contains(&function) {
            return GO_KEPT.iter().find_map(|kept| self.calling_goroutine(now, *kept));
        }
        (go.all_asleep == Some(function)).then(|| self.main_goroutine(go.goroutines?)).flatten()
    }

    /// To where the goroutine called what calls C, which has no frame of its own there. The stack may have been moved since, so that it is
    /// measured from its upper end.
    fn calling_goroutine(&self, now: &Registers, (goroutine, depth): (u64, u64)) -> Option<Next> {
        let kept = |offset: u64| self.space.word(now.sp()?.checked_add(offset)?);
        let (goroutine, depth) = (kept(goroutine)?, kept(depth)?);
        let (low, high) = (self.space.word(goroutine)?, self.space.word(goroutine.checked_add(8)?)?);
        let sp = high.checked_sub(depth).filter(|sp| (low..high).contains(sp))?;
        let pc = self.space.word(sp).filter(|pc| self.is_return(*pc))?;
        let mut registers = Registers { pc, general: [None; REGISTERS] };
        (registers.general[RSP], registers.general[RBP]) = (sp.checked_add(8), now.general[RBP]);
        Some(Next { registers, exact: false, trust: Trust::StackSwitch })
    }

    /// To where the goroutine that runs `main` waits: what found that all wait is called by whichever was the last.
    fn main_goroutine(&self, goroutines: u64) -> Option<Next> {
        let main = self.space.word(self.space.word(goroutines)?)?;
        let [sp, pc, frame] = GO_SAVED.map(|offset| self.space.word(main.wrapping_add(offset)));
        let pc = pc.filter(|pc| self.is_return(*pc))?;
        let mut registers = Registers { pc, general: [None; REGISTERS] };
        (registers.general[RSP], registers.general[RBP]) = (sp, frame);
        Some(Next { registers, exact: false, trust: Trust::StackSwitch })
    }
}

//! Names for the places of a walk: from the tables of symbols, from debug information, and from the calls that led there.

use super::{Detail, Frame, Place, SIGNAL_FRAME, main_call};
use crate::{
    image::{Image, Symbol},
    inline::{self, Told},
    space::{Identity, Module, Space, hex},
    unwind::{Call, Step, Trust, Unwinder, call_before},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

/// What is known of a place that the walk came through.
#[derive(Default)]
struct Known {
    /// The functions, the innermost copied one first; the last is the one that the linker knew.
    places: Vec<Rc<Place>>,
    /// The target of the call before this return address.
    target: Option<Target>,
}

#[derive(Clone)]
struct Target {
    name: Rc<str>,
    /// Where it begins, where it is in the same module.
    address: Option<u64>,
    place: Rc<Place>,
}

pub(super) struct Naming<'s> {
    space: &'s Space,
    program: Option<usize>,
    known: HashMap<(u64, bool), Known>,
    /// Whether debug information of the program was at hand.
    pub(super) has_inlines: bool,
}

impl<'s> Naming<'s> {
    pub(super) fn new(space: &'s Space, program: Option<usize>) -> Naming<'s> {
        Naming { space, program, known: HashMap::new(), has_inlines: false }
    }

    /// Looks all addresses up, module by module, so that each table is read once.
    pub(super) fn look_up(&mut self, steps: &[Step], unwinder: &mut Unwinder<'_>, detail: Detail) {
        let mut by_module: BTreeMap<usize, BTreeSet<(u64, bool)>> = BTreeMap::new();
        for step in steps {
            let key = (step.pc, step.exact);
            if self.known.contains_key(&key) {
                continue;
            }
            self.known.insert(key, Known::default());
            if let Some((index, _)) = self.space.module(step.lookup()).filter(|_| self.space.is_code(step.lookup())) {
                by_module.entry(index).or_default().insert(key);
            }
        }
        let mut all_named = true;
        for (index, keys) in by_module {
            let own = Some(index) == self.program;
            // Functions copied into a library's functions are the library's affair; reading its debug information costs the most.
            let found = self.look_up_module(index, &keys, unwinder, if own { detail } else { Detail::Functions });
            all_named &= !own || found;
        }
        self.has_inlines = detail != Detail::Functions && all_named && self.program.is_some();
        for known in self.known.values_mut().filter(|known| known.places.is_empty()) {
            known.places.push(Rc::new(Place::default()));
        }
    }

    fn look_up_module(
        &mut self,
        index: usize,
        keys: &BTreeSet<(u64, bool)>,
        unwinder: &mut Unwinder<'_>,
        detail: Detail,
    ) -> bool {
        let module = &self.space.modules[index];
        let calls: BTreeMap<u64, Callee> = keys
            .iter()
            .filter(|(_, exact)| !exact)
            .filter_map(|(pc, _)| Some((*pc, Callee::of(self.space, module, *pc)?)))
            .collect();
        let file = |(pc, exact): (u64, bool)| module.to_file(if exact { pc } else { pc.wrapping_sub(1) });
        let mut wanted: Vec<u64> = keys.iter().map(|key| file(*key)).collect();
        wanted.extend(calls.values().filter_map(|callee| match callee {
            Callee::Address(address) => Some(*address),
            Callee::Imported(_) => None,
        }));
        wanted.sort_unstable();
        wanted.dedup();
        let symbols = functions(module, &wanted);
        let symbol = |address: u64| wanted.binary_search(&address).ok().and_then(|at| symbols[at].as_ref());
        let debug = module.images().find(|image| detail != Detail::Functions && image.has(".debug_info"));
        let places: Vec<u64> = keys.iter().map(|key| file(*key)).collect();
        let told = debug.and_then(|image| inline::functions(image, &places, detail == Detail::Lines));
        for key in keys {
            let address = file(*key);
            let memory = module.bias.wrapping_add(address);
            let start = unwinder.function_start(memory);
            // A symbol without an end reaches no further than the function that call frame information knows.
            let reaches = |symbol: &&Symbol| symbol.size > 0 || start.is_none_or(|start| start == symbol.address);
            let function = symbol(address).filter(reaches);
            let place = Place {
                symbol: function.map(|symbol| symbol.name.clone()),
                function_start: function.map(|symbol| symbol.address).or(start),
                ..self.place(index, address)
            };
            let mut places = vec![Rc::new(place)];
            // Some place may have only a line; a function is what tells that nothing is missing.
            let own = told.as_ref().and_then(|told| told.get(&address));
            if let Some(told) = own.filter(|told| told.iter().any(|told| told.symbol.is_some())) {
                add_inlines(told, &mut places);
            }
            let target = calls.get(&key.0).and_then(|callee| match callee {
                Callee::Address(address) => {
                    symbol(*address).filter(|symbol| symbol.address == *address).map(|symbol| {
                        let place = Place {
                            symbol: Some(symbol.name.clone()),
                            function_start: Some(*address),
                            ..self.place(index, *address)
                        };
                        Target { name: symbol.name.as_str().into(), address: Some(*address), place: Rc::new(place) }
                    })
                }
                Callee::Imported(name) => {
                    Some(Target { name: name.as_str().into(), address: None, place: Rc::new(Place::default()) })
                }
            });
            self.known.insert(*key, Known { places, target: target.filter(|_| !key.1) });
        }
        told.is_some()
    }

    fn place(&self, index: usize, offset: u64) -> Place {
        let module = &self.space.modules[index];
        Place {
            module: module.name().to_owned(),
            build_id: module.build_id.as_deref().map(hex),
            offset,
            is_program: Some(index) == self.program,
            is_proven: module.identity == Identity::Proven,
            is_go: module.is_go(),
            ..Place::default()
        }
    }

    /// Puts the walk and the names together; a function that left by a jump comes back by its caller's call instruction.
    pub(super) fn frames(&self, steps: &[Step]) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(steps.len());
        let signal = Rc::new(Place { symbol: Some(SIGNAL_FRAME.to_owned()), ..Place::default() });
        for (at, step) in steps.iter().enumerate() {
            if steps.get(at + 1).is_some_and(|outer| outer.trust == Trust::SignalFrame) {
                frames.push(Frame { pc: step.pc, trust: step.trust, place: signal.clone(), called_as: None });
                continue;
            }
            let known = &self.known[&(step.pc, step.exact)];
            let last = known.places.len() - 1;
            for (depth, place) in known.places.iter().enumerate() {
                let trust = if depth == last { step.trust } else { Trust::Inline };
                frames.push(Frame { pc: step.pc, trust, place: place.clone(), called_as: None });
            }
            if let Some(main) = self.main_before(steps, at) {
                frames.push(Frame { pc: step.pc, trust: Trust::TailCall, place: main.into(), called_as: None });
                continue;
            }
            let caller = steps.get(at + 1).filter(|caller| !caller.exact);
            let Some(target) = caller.and_then(|caller| self.known[&(caller.pc, false)].target.as_ref()) else {
                continue;
            };
            let own = &known.places[last];
            let came_by_jump = target.address.is_some_and(|address| Some(address) != own.function_start)
                && own.symbol.as_deref().map(plain) != Some(plain(&target.name));
            if came_by_jump && target.place.module == own.module && !own.module.is_empty()
                || came_by_jump && own.is_program != target.place.is_program
            {
                let pc = step.pc;
                frames.push(Frame { pc, trust: Trust::TailCall, place: target.place.clone(), called_as: None });
            } else if let Some(frame) = frames.last_mut() {
                frame.called_as = Some(target.name.clone());
            }
        }
        frames
    }
}

impl Naming<'_> {
    /// `main`, where the step is of a function of the program that was called by the C library's start, and `main` jumps to it.
    fn main_before(&self, steps: &[Step], at: usize) -> Option<Place> {
        let target = |step: &Step| self.known[&(step.pc, false)].target.as_ref().map(|target| &*target.name);
        // The C library has one function or two between `main` and the program's first code.
        let is_start = |step: &Step| !step.exact && target(step) == Some(main_call::START);
        steps.get(at + 2..)?.iter().take(2).find(|step| is_start(step))?;
        let caller = steps.get(at + 1).filter(|caller| !caller.exact && target(caller).is_none())?;
        let own = self.known[&(steps[at].pc, steps[at].exact)].places.last()?;
        let (index, module) =
            self.space.module(steps[at].lookup()).filter(|(index, _)| Some(*index) == self.program)?;
        // A static program is its own C library.
        let start = own.function_start.filter(|start| {
            let of_caller = self.known[&(caller.pc, false)].places.last();
            of_caller.is_none_or(|place| place.function_start != Some(*start))
        })?;
        let main = main_call::leads_to(self.space, module, start)?;
        Some(Place { symbol: Some("main".into()), function_start: Some(main), ..self.place(index, main) })
    }
}

/// A symbol without what the compiler put behind it.
fn plain(symbol: &str) -> &str {
    symbol.split('.').next().unwrap_or(symbol)
}

/// Where a call goes, in the numbering of the caller's file.
enum Callee {
    Address(u64),
    Imported(String),
}

impl Callee {
    fn of(space: &Space, module: &Module, pc: u64) -> Option<Callee> {
        match call_before(space, pc)? {
            Call::Computed => None,
            Call::Slot(slot) => module.image.as_ref()?.imported(module.to_file(slot)).map(Callee::Imported),
            Call::Direct(target) => {
                let address = module.to_file(target);
                let Some(slot) = linkage_slot(space, module, target) else { return Some(Callee::Address(address)) };
                module.image.as_ref()?.imported(module.to_file(slot)).map(Callee::Imported)
            }
        }
    }
}

/// The slot that an entry of the procedure linkage table jumps through: `[endbr64] [bnd] jmp *slot(%rip)`.
fn linkage_slot(space: &Space, module: &Module, entry: u64) -> Option<u64> {
    let image = module.image.as_ref()?;
    let at = module.to_file(entry);
    let tables = [".plt.sec", ".plt", ".plt.got", ".iplt"];
    tables.iter().filter_map(|name| image.range(name)).find(|range| range.contains(&at))?;
    let mut code = [0; 16];
    space.read(entry, &mut code).then_some(())?;
    let mut skip = if code.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) { 4 } else { 0 };
    skip += usize::from(code[skip] == 0xf2);
    if code[skip..skip + 2] != [0xff, 0x25] {
        return None;
    }
    let offset = i32::from_le_bytes(code[skip + 2..skip + 6].try_into().ok()?);
    Some(entry.wrapping_add(skip as u64 + 6).wrapping_add_signed(i64::from(offset)))
}

/// The functions at these sorted addresses, from the best table that knows each.
fn functions(module: &Module, addresses: &[u64]) -> Vec<Option<Symbol>> {
    let mut found: Vec<Option<Symbol>> = vec![None; addresses.len()];
    // A name is believed only from the file that ran, or from one with its build id.
    let images: Vec<&Image> = module.images().collect();
    for (image, table) in
        images.iter().map(|image| (image, ".symtab")).chain(images.iter().map(|image| (image, ".dynsym")))
    {
        if found.iter().all(Option::is_some) {
            break;
        }
        if image.has(table) {
            for (found, new) in found.iter_mut().zip(image.functions(table, addresses)) {
                *found = found.take().or(new);
            }
        }
    }
    found
}

/// Puts the functions that were copied into this one before it, and adds the source lines.
fn add_inlines(told: &[Told], places: &mut Vec<Rc<Place>>) {
    let (Some((outer, inner)), Some(own)) = (told.split_last(), places.pop()) else { return };
    let outer = Place { source: outer.source.clone(), has_debug: true, ..(*own).clone() };
    places.extend(
        inner
            .iter()
            .map(|told| Rc::new(Place { symbol: told.symbol.clone(), source: told.source.clone(), ..outer.clone() })),
    );
    places.push(Rc::new(outer));
}

//! Cleaning: from the raw traceback to what is the same on every server, by the rules of one table.
//!
//! A run of library frames becomes one, named by what the program called: the caller's call instruction tells that name even where the
//! library has no symbols. Recursion becomes one round of it, so that the depth, which depends on data and stack size, does not count.

mod pattern;
mod recursion;
mod rules;

use crate::{
    names,
    traceback::{Frame, Place, SIGNAL_FRAME, Traceback},
    unwind::Trust,
};
use pattern::Pattern;
use recursion::{erase_loops, overflow};
use rules::Rule;
pub use rules::{RuleShown, Rules, RulesError};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    rc::Rc,
};

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stands in the cleaned traceback under this name.
    Kept(Rc<str>),
    /// It is part of a run of library frames that stands under this name.
    Joined(Rc<str>),
    /// It is left out.
    Dropped,
    /// It is another round of a recursion.
    Repeated,
}

/// What happened to one raw frame, and by which rules.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The index of the raw frame.
    pub raw: usize,
    /// What became of it.
    pub fate: Fate,
    /// The rules that had a part in it.
    pub rules: Vec<Rc<str>>,
}

/// A cleaned traceback.
#[derive(Clone, Debug)]
pub struct Cleaned {
    /// The names, innermost first.
    pub frames: Vec<String>,
    /// Whether debug information told, for every frame of the program, what was copied into it.
    pub is_complete: bool,
    /// Why a signature of it would be weak; nothing where it is strong.
    pub weaknesses: Vec<String>,
    /// What happened to each raw frame.
    pub explained: Vec<Explained>,
}

/// A frame's name after the rules for names.
#[derive(Clone)]
struct Named {
    name: Rc<str>,
    rules: Vec<Rc<str>>,
    /// The name has none of the program's meaning: an address.
    is_address: bool,
    /// What tells it apart from others of its name; no rule is about it.
    overload: Rc<str>,
    kind: Kind,
}

impl Named {
    /// As it stands in the cleaned traceback, where it is the program's own.
    fn whole(&self) -> Rc<str> {
        if self.overload.is_empty() { self.name.clone() } else { format!("{}{}", self.name, self.overload).into() }
    }
}

#[derive(Clone, PartialEq)]
enum Kind {
    Own,
    Drop,
    Library(Option<Rc<str>>),
    /// A library frame only where nothing of the program's lies outside of it.
    Outermost,
}

/// What a panic is labelled as.
const PANIC: &str = "panic";
/// What stands for a function without a name that was copied into another.
const CALLABLE: &str = "{callable}";
/// Go's function that begins a panic, and calls what was deferred.
const GO_PANIC: &str = "runtime.gopanic";
/// What is added to the name of a panic that called a deferred function.
const DEFERRED: &str = ", deferred";
/// Go's function that finds no room for a stack.
const GO_STACK_OVERFLOW: &str = "runtime.newstack";

impl Rules {
    /// Cleans a traceback; without the functions that were copied into others where `inlines` is false.
    pub fn clean(&self, traceback: &Traceback, inlines: bool) -> Cleaned {
        let mut cache: HashMap<(*const Place, Option<Rc<str>>), Named> = HashMap::new();
        let handler = go_handler(traceback);
        let frames: Vec<(usize, &Frame)> = traceback
            .frames
            .iter()
            .enumerate()
            .skip(handler)
            .filter(|(_, frame)| inlines || frame.trust != Trust::Inline)
            .collect();
        let mut named: Vec<Named> = frames
            .iter()
            .map(|(_, frame)| {
                cache.entry((Rc::as_ptr(&frame.place), None)).or_insert_with(|| self.named(frame)).clone()
            })
            .collect();
        for at in 0..named.len() {
            let inner = at.checked_sub(1).map(|inner| named[inner].name.clone());
            self.by_neighbour(&mut named[at], inner.as_deref());
        }
        let of_go = |named: &&Named| named.kind != Kind::Own;
        let is_stack_overflow = traceback.is_stack_overflow
            || named.iter().take_while(of_go).any(|named| &*named.name == GO_STACK_OVERFLOW);
        let mut run = Run { rules: self, frames: &frames, inlines, named, kept: vec![], explained: vec![] };
        run.mark_callable();
        run.join();
        let (mut kept, mut explained) = (run.kept, run.explained);
        let dropped = |raw| Explained { raw, fate: Fate::Dropped, rules: vec!["go-signal".into()] };
        explained.splice(0..0, (0..handler).map(dropped));
        let weaknesses = weaknesses(traceback, &frames, &kept);
        let is_complete = inlines && kept.iter().all(|kept| kept.is_complete);
        let keep = if is_stack_overflow { overflow(&kept) } else { erase_loops(&kept) };
        let staying: HashSet<usize> = keep.iter().map(|at| kept[*at].raw).collect();
        for line in &mut explained {
            if matches!(line.fate, Fate::Kept(_)) && !staying.contains(&line.raw) {
                line.fate = Fate::Repeated;
                line.rules.push("recursion".into());
            }
        }
        kept = keep.into_iter().map(|at| kept[at].clone()).collect();
        Cleaned {
            frames: kept.into_iter().map(|kept| kept.name.to_string()).collect(),
            is_complete,
            weaknesses,
            explained,
        }
    }

    fn named(&self, frame: &Frame) -> Named {
        let place = &frame.place;
        let mut rules = Vec::new();
        if let Some(rule) = self.module.iter().find(|rule| rule.pattern.is_match(&place.module)) {
            let name =
                place.symbol.as_deref().map_or_else(|| "?".into(), |symbol| self.name(symbol, place.is_go, &mut rules));
            // What is inlined elsewhere is dropped here, too.
            let by_name =
                self.frame.iter().find(|rule| rule.pattern.is_match(&name) && !rule.outermost && rule.inner.is_none());
            let kind = match by_name {
                Some(by_name) if by_name.drop => Kind::Drop,
                Some(by_name) => Kind::Library(by_name.label.clone()),
                None => Kind::Library(None),
            };
            rules.push(by_name.map_or(&rule.id, |rule| &rule.id).clone());
            return Named { name, rules, is_address: false, overload: "".into(), kind };
        }
        let Some(symbol) = &place.symbol else {
            let name = if place.module.is_empty() { "bad call".into() } else { address(place) };
            return Named {
                name: name.into(),
                rules,
                is_address: !place.module.is_empty(),
                overload: "".into(),
                kind: Kind::Own,
            };
        };
        if symbol == SIGNAL_FRAME {
            return Named { name: "[signal]".into(), rules, is_address: false, overload: "".into(), kind: Kind::Own };
        }
        let name = self.name(symbol, place.is_go, &mut rules);
        let rule = self.frame.iter().find(|rule| rule.pattern.is_match(&name) && rule.inner.is_none());
        let kind = match rule {
            None => Kind::Own,
            Some(rule) if rule.drop => Kind::Drop,
            Some(rule) if rule.outermost => Kind::Outermost,
            Some(rule) => Kind::Library(rule.label.clone()),
        };
        rules.extend(rule.map(|rule| rule.id.clone()));
        let is_own = matches!(kind, Kind::Own | Kind::Outermost);
        let overload = if is_own { self.overload(symbol, place.is_go) } else { "".into() };
        Named { name, rules, is_address: false, overload, kind }
    }

    /// Rules that ask for the next inner frame.
    fn by_neighbour(&self, named: &mut Named, inner: Option<&str>) {
        let matching = |rule: &&Rule| {
            let inner_matches = |pattern: &Pattern| inner.is_some_and(|inner| pattern.is_match(inner));
            rule.inner.as_ref().is_some_and(inner_matches) && rule.pattern.is_match(&named.name)
        };
        if let Some(rule) = self.frame.iter().find(matching) {
            named.kind = if rule.drop { Kind::Drop } else { Kind::Library(rule.label.clone()) };
            named.rules.push(rule.id.clone());
        }
    }

    /// The name that is the same on every server.
    fn name(&self, symbol: &str, is_go: bool, used: &mut Vec<Rc<str>>) -> Rc<str> {
        // Go's names have dots of their own, and no compiler adds to them.
        if is_go && names::is_go(symbol) {
            return names::go_essence(symbol).into();
        }
        let symbol = apply(&self.symbol, symbol.to_owned(), used);
        let whole = names::demangled(&symbol);
        let essence = names::essence(&whole);
        if essence != symbol {
            used.push("demangled".into());
        }
        apply(&self.name, essence, used).into()
    }

    /// What tells a function apart from others of its name.
    fn overload(&self, symbol: &str, is_go: bool) -> Rc<str> {
        if is_go && names::is_go(symbol) {
            return "".into();
        }
        let symbol = apply(&self.symbol, symbol.to_owned(), &mut Vec::new());
        names::overload(&symbol, &names::demangled(&symbol)).into()
    }
}

fn apply(rules: &[Rule], mut text: String, used: &mut Vec<Rc<str>>) -> String {
    for rule in rules {
        let new = rule.pattern.replace_all(&text, &rule.replace);
        if new != text {
            used.push(rule.id.clone());
            text = new.into_owned();
        }
    }
    text
}

/// Go ends a program by a signal to itself, and some versions of it meet that in a handler of their own before they let it through:
/// how many frames are that handler's.
fn go_handler(traceback: &Traceback) -> usize {
    let is_signal = |frame: &Frame| frame.place.symbol.as_deref() == Some(SIGNAL_FRAME);
    let of_runtime = |frame: &&Frame| {
        frame.place.is_go && frame.place.symbol.as_deref().is_some_and(|name| name.starts_with("runtime."))
    };
    let count = traceback.frames.iter().take_while(of_runtime).count();
    let is_handler = count > 0 && traceback.frames.get(count).is_some_and(is_signal);
    if is_handler { count + 1 } else { 0 }
}

/// What stands for a function without a name: the same in every run of one build.
fn address(place: &Place) -> String {
    format!("{}{}", place.module, place_in_build(place))
}

fn place_in_build(place: &Place) -> String {
    in_build(place, place.function_start.unwrap_or(place.offset))
}

/// Just where in a function: two calls in it are two places.
fn call_in_build(place: &Place) -> String {
    in_build(place, place.offset)
}

fn in_build(place: &Place, offset: u64) -> String {
    let build = place.build_id.as_deref().map_or("", |id| id.get(..16).unwrap_or(id));
    format!("@{build}+{offset:#x}")
}

/// Whether a library's function was made for one callable: a lambda or closure, or an object behind libstdc++'s wrappers of comparisons.
fn takes_a_callable(whole: &str) -> bool {
    let lambdas = ["{lambda", "'lambda", "$_", "{closure"];
    let wrappers = ["__ops::_Iter_comp_", "__ops::_Val_comp_", "__ops::_Iter_pred<", "_Function_handler<"];
    let is_in = |all: &[&str]| all.iter().any(|name| whole.contains(name));
    // What is called through a pointer was not copied.
    is_in(&lambdas) || is_in(&wrappers) && !whole.contains("(*)")
}

/// A frame of the cleaned traceback.
#[derive(Clone)]
struct Kept {
    name: Rc<str>,
    /// The index of the raw frame that it stands for.
    raw: usize,
    is_address: bool,
    is_own: bool,
    is_complete: bool,
    /// Whether what lies within is a deferred function that a panic called: another fault than the same place without it.
    is_deferring: bool,
}

struct Run<'r> {
    rules: &'r Rules,
    frames: &'r [(usize, &'r Frame)],
    /// Whether what debug information tells counts.
    inlines: bool,
    named: Vec<Named>,
    kept: Vec<Kept>,
    explained: Vec<Explained>,
}

impl Run<'_> {
    /// Goes through the frames, innermost first, and joins runs of library frames.
    fn join(&mut self) {
        // What lies outside of the program's outermost own function started it.
        let own = |named: &Named| named.kind == Kind::Own;
        let outermost = self.named.iter().rposition(own);
        for (at, named) in self.named.iter_mut().enumerate() {
            if named.kind == Kind::Outermost {
                named.kind = match outermost {
                    None => Kind::Drop,
                    Some(outermost) if at > outermost => Kind::Library(None),
                    // Go's run time changes stacks on its way to where it ends the program.
                    Some(_) if self.frames[at].1.place.is_go => Kind::Library(None),
                    Some(_) => Kind::Own,
                };
            }
        }
        let outermost = self.named.iter().rposition(own);
        let nameless = self.namesake();
        let alone = self.alone_in_main();
        let mut at = 0;
        while at < self.named.len() {
            match self.named[at].kind {
                Kind::Own | Kind::Outermost => {
                    let named = &self.named[at];
                    let place = &self.frames[at].1.place;
                    let is_namesake = nameless.is_some() && place.symbol == nameless;
                    let name = match (is_namesake, alone == Some(at)) {
                        (_, true) => format!("{}{}", named.whole(), call_in_build(place)).into(),
                        (true, _) => format!("{}{}", named.whole(), place_in_build(place)).into(),
                        _ => named.whole(),
                    };
                    let fate = Fate::Kept(name.clone());
                    self.kept.push(Kept {
                        name,
                        raw: self.frames[at].0,
                        is_address: named.is_address || is_namesake || alone == Some(at),
                        is_own: true,
                        is_complete: self.frames[at].1.place.is_told_whole(),
                        is_deferring: false,
                    });
                    self.explained.push(Explained { raw: self.frames[at].0, fate, rules: named.rules.clone() });
                    at += 1;
                }
                Kind::Drop | Kind::Library(_) => {
                    let end =
                        (at..self.named.len()).find(|at| self.named[*at].kind == Kind::Own).unwrap_or(self.named.len());
                    self.library_run(at..end, outermost.is_some_and(|outermost| at > outermost));
                    at = end;
                }
            }
        }
        if outermost.is_none() {
            self.mark_place();
        }
    }

    /// The symbol of the innermost of the program's functions, where its name does not say which function it is.
    fn namesake(&self) -> Option<String> {
        let is_function = |named: &Named| {
            matches!(named.kind, Kind::Own | Kind::Outermost) && !matches!(&*named.name, "bad call" | "[signal]")
        };
        let at = self.named.iter().position(is_function)?;
        Some(&self.frames[at].1.place).filter(|place| place.has_namesakes)?.symbol.clone()
    }

    /// Where a function without a name of its own was copied into the library's function that was made for it: that one, by its address.
    /// Any other would have the same frames around it.
    fn mark_callable(&mut self) {
        let Some(first) = self.named.iter().position(|named| named.kind == Kind::Own) else { return };
        let labelled = |named: &Named| matches!(named.kind, Kind::Library(Some(_)));
        let from = self.named[..first].iter().rposition(labelled).map_or(0, |at| at + 1);
        let is_for_a_callable = |at: &usize| {
            let place = &self.frames[*at].1.place;
            let is_blind = place.is_program && !place.is_go && !(self.inlines && place.has_debug);
            let symbol = place.symbol.as_deref().filter(|_| is_blind && self.frames[*at].1.trust != Trust::Inline);
            symbol.is_some_and(|symbol| takes_a_callable(&names::demangled(symbol)))
        };
        let Some(at) = (from..first).find(is_for_a_callable) else { return self.mark_copied_callable(first) };
        let named = &mut self.named[at];
        named.name = format!("{CALLABLE}{}", place_in_build(&self.frames[at].1.place)).into();
        (named.is_address, named.kind) = (true, Kind::Own);
    }

    /// The same where debug information names it, without a number: by its name, and the address of the library's function.
    fn mark_copied_callable(&mut self, at: usize) {
        let is_callable = ["{lambda}", "{closure}"].iter().any(|kind| self.named[at].name.contains(kind));
        if !is_callable || self.frames[at].1.trust != Trust::Inline {
            return;
        }
        let concrete = (at..self.frames.len()).find(|at| self.frames[*at].1.trust != Trust::Inline);
        let Some(around) = concrete.filter(|around| self.named[*around].kind != Kind::Own) else { return };
        let place = &self.frames[around].1.place;
        // The newer mangling of Rust numbers closures; the older one has nothing but a hash for what a function was made for.
        let is_made_for_it =
            |symbol: &&str| takes_a_callable(&names::demangled(symbol)) || names::hash_of_instance(symbol).is_some();
        let symbol = place.symbol.as_deref().filter(|symbol| !symbol.starts_with("_R"));
        if place.is_program && !place.is_go && symbol.filter(is_made_for_it).is_some() {
            let named = &mut self.named[at];
            named.name = format!("{}{}", named.whole(), place_in_build(place)).into();
            (named.overload, named.is_address) = ("".into(), true);
        }
    }

    /// The main function of a program in Rust, where nothing else of the program's is on the stack: what panicked was written there, or in any
    /// function that the compiler copied into it.
    fn alone_in_main(&self) -> Option<usize> {
        let mut own = (0..self.named.len()).filter(|at| self.named[*at].kind == Kind::Own);
        let (at, None) = (own.next()?, own.next()) else { return None };
        let place = &self.frames[at].1.place;
        let is_blind = place.is_program && !(self.inlines && place.has_debug);
        let is_main =
            is_blind && place.symbol.as_deref().is_some_and(names::is_rust) && self.named[at].name.ends_with("::main");
        let is_panic = |named: &Named| matches!(&named.kind, Kind::Library(Some(label)) if &**label == PANIC);
        (is_main && self.named[..at].iter().any(is_panic)).then_some(at)
    }

    /// Where all of the program's functions were copied into the languages' own: the function that they were copied into, by its address.
    fn mark_place(&mut self) {
        let labelled = self.named.iter().rposition(|named| matches!(named.kind, Kind::Library(Some(_))));
        let from = labelled.map_or(0, |at| at + 1);
        let of_program = |at: &usize| {
            self.named[*at].kind == Kind::Drop
                && self.frames[*at].1.place.is_program
                && !self.frames[*at].1.place.is_go
                && self.frames[*at].1.trust != Trust::Inline
        };
        let Some(at) = (from..self.named.len()).find(of_program) else { return };
        let (raw, frame) = self.frames[at];
        let name: Rc<str> = address(&frame.place).into();
        let place = self.kept.partition_point(|kept| kept.raw < raw);
        let marked =
            Kept { name: name.clone(), raw, is_address: true, is_own: true, is_complete: false, is_deferring: false };
        self.kept.insert(place, marked);
        if let Some(line) = self.explained.iter_mut().find(|line| line.raw == raw) {
            line.fate = Fate::Kept(name);
        }
    }

    /// A run of frames that are not the program's: one frame, or none.
    fn library_run(&mut self, range: std::ops::Range<usize>, is_start: bool) {
        let mut library = range.clone().rev().find(|at| matches!(self.named[*at].kind, Kind::Library(_)));
        if range.len() == self.named.len() {
            // None of the program's functions is left; what started it says nothing.
            let is_start = |at: &usize| {
                self.rules.frame.iter().any(|rule| rule.outermost && rule.pattern.is_match(&self.named[*at].name))
            };
            let labelled = range.clone().rev().find(|at| matches!(self.named[*at].kind, Kind::Library(Some(_))));
            let other =
                || range.clone().rev().find(|at| matches!(self.named[*at].kind, Kind::Library(_)) && !is_start(at));
            library = labelled.or_else(other).or(library);
        }
        let is_deferring = self.is_deferring(range.clone());
        let label = library.filter(|_| !is_start).map(|at| self.label(at, is_deferring));
        for at in range {
            let named = &self.named[at];
            let (fate, rule) = match (&label, &named.kind) {
                (Some(label), Kind::Library(_)) if Some(at) == library => (Fate::Kept(label.clone()), None),
                (Some(label), Kind::Library(_)) => (Fate::Joined(label.clone()), None),
                _ => (Fate::Dropped, is_start.then(|| Rc::from("start-up"))),
            };
            if let Fate::Kept(name) = &fate {
                self.kept.push(Kept {
                    name: name.clone(),
                    raw: self.frames[at].0,
                    is_address: false,
                    is_own: false,
                    is_complete: true,
                    is_deferring,
                });
            }
            let rules = named.rules.iter().cloned().chain(rule).collect();
            self.explained.push(Explained { raw: self.frames[at].0, fate, rules });
        }
    }

    /// Whether a panic of Go's is among these frames, and has called a function of the program.
    fn is_deferring(&self, mut range: std::ops::Range<usize>) -> bool {
        self.kept.iter().any(|kept| kept.is_own) && range.any(|at| &*self.named[at].name == GO_PANIC)
    }

    /// What the outermost frame of a library run was called as.
    fn label(&self, at: usize, is_deferring: bool) -> Rc<str> {
        if let Kind::Library(Some(label)) = &self.named[at].kind {
            return format!("[{label}]").into();
        }
        let called_as = self.frames[at].1.called_as.as_deref();
        let name = called_as.map_or_else(
            || self.named[at].name.clone(),
            |called| self.rules.name(called, self.frames[at].1.place.is_go, &mut Vec::new()),
        );
        let deferring = if is_deferring { DEFERRED } else { "" };
        format!("[{name}{deferring}]").into()
    }
}

/// Why a signature would be weak.
fn weaknesses(traceback: &Traceback, frames: &[(usize, &Frame)], kept: &[Kept]) -> Vec<String> {
    let mut found = Vec::new();
    match traceback.end {
        crate::unwind::End::Whole => {}
        crate::unwind::End::Lost => found.push("the traceback does not reach the program's start".to_owned()),
        crate::unwind::End::Bound => found.push("the traceback was cut at the bound of frames or time".to_owned()),
    }
    if !kept.iter().any(|kept| kept.is_own && !kept.is_address && !matches!(&*kept.name, "bad call" | "[signal]")) {
        found.push("no function of the program has a name".to_owned());
    } else if kept.iter().any(|kept| kept.is_address) {
        found.push("some functions have no name".to_owned());
    }
    // How the frames that started the program were found says nothing about the fault; but a guess that leads out of the last one
    // of the program's may have passed others.
    let last = kept.last().map_or(usize::MAX, |kept| kept.raw);
    let count = frames.iter().take_while(|(raw, _)| *raw <= last).count();
    let left = frames.iter().skip(count).find(|(_, frame)| frame.trust != Trust::Inline).map(|(_, frame)| *frame);
    let frames = || frames[..count].iter().map(|(_, frame)| *frame);
    if let Some(frame) = frames().chain(left).find(|frame| !frame.trust.is_strong()) {
        found.push(format!("frames were found by {} only", frame.trust.name()));
    }
    let unproven = |frame: &&Frame| !frame.place.is_proven && !frame.place.module.is_empty();
    let modules: BTreeSet<&str> = frames().filter(unproven).map(|frame| frame.place.module.as_str()).collect();
    if !modules.is_empty() {
        let names: Vec<&str> = modules.into_iter().collect();
        found.push(format!("the file on this disk is not proven to be the one that ran: {}", names.join(", ")));
    }
    found
}

//! Cleaning: from the raw traceback to what is the same on every server, by the rules of one table.
//!
//! A run of library frames becomes one, named by what the program called: the caller's call instruction tells that name even where the
//! library has no symbols. Recursion becomes one round of it, so that the depth, which depends on data and stack size, does not count.

mod rules;

use crate::{
    names,
    traceback::{Frame, SIGNAL_FRAME, Traceback},
    unwind::Trust,
};
use regex_lite::Regex;
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
    kind: Kind,
}

#[derive(Clone, PartialEq)]
enum Kind {
    Own,
    Drop,
    Library(Option<Rc<str>>),
    /// A library frame only where nothing of the program's lies outside of it.
    Outermost,
}

/// A function is part of a deep recursion when it stands on the stack this often.
const RECURSION: usize = 10;

impl Rules {
    /// Cleans a traceback; without the functions that were copied into others where `inlines` is false.
    pub fn clean(&self, traceback: &Traceback, inlines: bool) -> Cleaned {
        let mut cache: HashMap<(*const crate::traceback::Place, Option<Rc<str>>), Named> = HashMap::new();
        let frames: Vec<(usize, &Frame)> =
            traceback.frames.iter().enumerate().filter(|(_, frame)| inlines || frame.trust != Trust::Inline).collect();
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
        let mut run = Run { rules: self, frames: &frames, named, kept: vec![], explained: vec![] };
        run.join();
        let (mut kept, mut explained) = (run.kept, run.explained);
        let weaknesses = weaknesses(traceback, &frames, &kept);
        let is_complete = inlines && kept.iter().all(|kept| kept.is_complete);
        let keep = if traceback.is_stack_overflow { overflow(&kept) } else { erase_loops(&kept) };
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
            let name = place.symbol.as_deref().map_or_else(|| "?".into(), |symbol| self.name(symbol, &mut rules));
            // What is inlined elsewhere is dropped here, too.
            let by_name =
                self.frame.iter().find(|rule| rule.pattern.is_match(&name) && !rule.outermost && rule.inner.is_none());
            let kind = match by_name {
                Some(by_name) if by_name.drop => Kind::Drop,
                Some(by_name) => Kind::Library(by_name.label.clone()),
                None => Kind::Library(None),
            };
            rules.push(by_name.map_or(&rule.id, |rule| &rule.id).clone());
            return Named { name, rules, is_address: false, kind };
        }
        let Some(symbol) = &place.symbol else {
            let name = match (place.module.as_str(), place.function_start) {
                ("", _) => "bad call".into(),
                (module, start) => {
                    let build = place.build_id.as_deref().map_or("", |id| id.get(..16).unwrap_or(id));
                    format!("{module}@{build}+{:#x}", start.unwrap_or(place.offset))
                }
            };
            return Named { name: name.into(), rules, is_address: !place.module.is_empty(), kind: Kind::Own };
        };
        if symbol == SIGNAL_FRAME {
            return Named { name: "[signal]".into(), rules, is_address: false, kind: Kind::Own };
        }
        let name = self.name(symbol, &mut rules);
        let rule = self.frame.iter().find(|rule| rule.pattern.is_match(&name) && rule.inner.is_none());
        let kind = match rule {
            None => Kind::Own,
            Some(rule) if rule.drop => Kind::Drop,
            Some(rule) if rule.outermost => Kind::Outermost,
            Some(rule) => Kind::Library(rule.label.clone()),
        };
        rules.extend(rule.map(|rule| rule.id.clone()));
        Named { name, rules, is_address: false, kind }
    }

    /// Rules that ask for the next inner frame.
    fn by_neighbour(&self, named: &mut Named, inner: Option<&str>) {
        let matching = |rule: &&Rule| {
            let inner_matches = |pattern: &Regex| inner.is_some_and(|inner| pattern.is_match(inner));
            rule.inner.as_ref().is_some_and(inner_matches) && rule.pattern.is_match(&named.name)
        };
        if let Some(rule) = self.frame.iter().find(matching) {
            named.kind = if rule.drop { Kind::Drop } else { Kind::Library(rule.label.clone()) };
            named.rules.push(rule.id.clone());
        }
    }

    /// The name that is the same on every server.
    fn name(&self, symbol: &str, used: &mut Vec<Rc<str>>) -> Rc<str> {
        let apply = |rules: &[Rule], mut text: String, used: &mut Vec<Rc<str>>| {
            for rule in rules {
                let new = rule.pattern.replace_all(&text, rule.replace.as_str());
                if new != text {
                    used.push(rule.id.clone());
                    text = new.into_owned();
                }
            }
            text
        };
        let symbol = apply(&self.symbol, symbol.to_owned(), used);
        let whole = names::demangled(&symbol);
        let essence = names::essence(&whole);
        if essence != symbol {
            used.push("demangled".into());
        }
        apply(&self.name, essence, used).into()
    }
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
}

struct Run<'r> {
    rules: &'r Rules,
    frames: &'r [(usize, &'r Frame)],
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
                named.kind = if Some(at) > outermost { Kind::Library(None) } else { Kind::Own };
            }
        }
        let outermost = self.named.iter().rposition(own);
        let mut at = 0;
        while at < self.named.len() {
            match self.named[at].kind {
                Kind::Own | Kind::Outermost => {
                    let named = &self.named[at];
                    let fate = Fate::Kept(named.name.clone());
                    self.kept.push(Kept {
                        name: named.name.clone(),
                        raw: self.frames[at].0,
                        is_address: named.is_address,
                        is_own: true,
                        is_complete: self.frames[at].1.place.is_told_whole(),
                    });
                    self.explained.push(Explained { raw: self.frames[at].0, fate, rules: named.rules.clone() });
                    at += 1;
                }
                Kind::Drop | Kind::Library(_) => {
                    let end =
                        (at..self.named.len()).find(|at| self.named[*at].kind == Kind::Own).unwrap_or(self.named.len());
                    self.library_run(at..end, outermost.is_none_or(|outermost| at > outermost) && outermost.is_some());
                    at = end;
                }
            }
        }
    }

    /// A run of frames that are not the program's: one frame, or none.
    fn library_run(&mut self, range: std::ops::Range<usize>, is_start: bool) {
        let library = range.clone().rev().find(|at| matches!(self.named[*at].kind, Kind::Library(_)));
        let label = library.filter(|_| !is_start).map(|at| self.label(at));
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
                });
            }
            let rules = named.rules.iter().cloned().chain(rule).collect();
            self.explained.push(Explained { raw: self.frames[at].0, fate, rules });
        }
    }

    /// What the outermost frame of a library run was called as.
    fn label(&self, at: usize) -> Rc<str> {
        if let Kind::Library(Some(label)) = &self.named[at].kind {
            return format!("[{label}]").into();
        }
        let called_as = self.frames[at].1.called_as.as_deref();
        let name =
            called_as.map_or_else(|| self.named[at].name.clone(), |called| self.rules.name(called, &mut Vec::new()));
        format!("[{name}]").into()
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
    // How the frames that started the program were found says nothing about the fault.
    let last = kept.last().map_or(usize::MAX, |kept| kept.raw);
    let frames = || frames.iter().take_while(|(raw, _)| *raw <= last).map(|(_, frame)| *frame);
    if let Some(frame) = frames().find(|frame| !frame.trust.is_strong()) {
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

/// Leaves out rounds of recursion: going inwards, what comes back to a function begins there anew. Gives indices, innermost first.
fn erase_loops(kept: &[Kept]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut place: HashMap<&str, usize> = HashMap::new();
    for (at, frame) in kept.iter().enumerate().rev() {
        if let Some(known) = place.get(&*frame.name).copied() {
            for removed in path.drain(known..) {
                place.remove(&*kept[removed].name);
            }
        }
        place.insert(&frame.name, path.len());
        path.push(at);
    }
    path.reverse();
    path
}

/// A stack that ran over: which function touched the end is chance. What recurs counts, in the order in which it was entered.
fn overflow(kept: &[Kept]) -> Vec<usize> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for frame in kept {
        *counts.entry(&*frame.name).or_default() += 1;
    }
    let Some(innermost) = kept.iter().position(|frame| counts[&*frame.name] >= RECURSION) else {
        return erase_loops(kept);
    };
    let first = kept.iter().rposition(|frame| counts[&*frame.name] >= RECURSION).unwrap_or(innermost);
    let mut seen: HashSet<&str> = HashSet::new();
    let mut path = Vec::new();
    for at in (innermost..kept.len()).rev() {
        let name = &*kept[at].name;
        if (at > first || counts[name] >= RECURSION) && seen.insert(name) {
            path.push(at);
        }
    }
    path.reverse();
    path
}

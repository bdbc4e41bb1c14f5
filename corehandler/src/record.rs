//! A raw traceback as it is kept: enough to clean it again by other rules, long after the core is gone.

use crate::{
    core_file::Signal,
    space::Identity,
    traceback::{Frame, Place, Traceback},
    unwind::{End, Trust},
};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, rc::Rc};

/// How many frames are kept from each end of a deep one.
const KEPT: usize = 500;

/// A traceback as it stands in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    program: String,
    program_path: String,
    program_build_id: Option<String>,
    command_line: String,
    threads: usize,
    signal: Signal,
    depth: usize,
    end: End,
    is_stack_overflow: bool,
    has_inlines: bool,
    abort_message: Option<String>,
    /// Path, build id, and whether the file on the disk was the one that ran.
    pub modules: Vec<(String, Option<String>, Identity)>,
    places: Vec<Place>,
    frames: Vec<Kept>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    trust: Trust,
    place: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    called_as: Option<String>,
}

impl Record {
    /// Of a traceback; the middle of a deep one is left out.
    pub fn of(traceback: &Traceback) -> Record {
        let mut places: Vec<Place> = Vec::new();
        let mut known: HashMap<*const Place, usize> = HashMap::new();
        let total = traceback.frames.len();
        let kept = traceback.frames.iter().enumerate();
        let kept = kept.filter(|(at, _)| *at < KEPT || *at + KEPT >= total).map(|(_, frame)| frame);
        let frames = kept
            .map(|frame| Kept {
                // What is read from code is as good, and earlier versions know no other name for it.
                trust: if frame.trust == Trust::Code { Trust::Cfi } else { frame.trust },
                called_as: frame.called_as.as_deref().map(str::to_owned),
                place: *known.entry(Rc::as_ptr(&frame.place)).or_insert_with(|| {
                    places.push((*frame.place).clone());
                    places.len() - 1
                }),
            })
            .collect();
        Record {
            program: traceback.program.clone(),
            program_path: traceback.program_path.clone(),
            program_build_id: traceback.program_build_id.clone(),
            command_line: traceback.command_line.clone(),
            threads: traceback.threads,
            signal: traceback.signal,
            depth: traceback.depth,
            end: traceback.end,
            is_stack_overflow: traceback.is_stack_overflow,
            has_inlines: traceback.has_inlines,
            abort_message: traceback.abort_message.clone(),
            modules: traceback.modules.clone(),
            places,
            frames,
        }
    }

    /// The traceback again.
    pub fn traceback(&self) -> Traceback {
        let places: Vec<Rc<Place>> = self.places.iter().cloned().map(Rc::new).collect();
        let frame = |kept: &Kept| {
            let place = places.get(kept.place)?.clone();
            Some(Frame {
                pc: place.offset,
                trust: kept.trust,
                place,
                called_as: kept.called_as.as_deref().map(Rc::from),
            })
        };
        Traceback {
            program: self.program.clone(),
            program_path: self.program_path.clone(),
            program_build_id: self.program_build_id.clone(),
            command_line: self.command_line.clone(),
            pid: 0,
            threads: self.threads,
            signal: self.signal,
            frames: self.frames.iter().filter_map(frame).collect(),
            depth: self.depth,
            end: self.end,
            is_stack_overflow: self.is_stack_overflow,
            has_inlines: self.has_inlines,
            abort_message: self.abort_message.clone(),
            log: None,
            modules: self.modules.clone(),
        }
    }

    /// Without what may tell of a customer: the arguments.
    pub fn without_arguments(mut self) -> Record {
        self.command_line = String::new();
        self
    }

    /// The command line, for people.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// The raw frames as lines of text.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .frames
            .iter()
            .enumerate()
            .map(|(at, kept)| {
                let Some(place) = self.places.get(kept.place) else { return format!("#{at}") };
                let source = place.source.as_deref().map(|source| format!(" at {source}")).unwrap_or_default();
                let module = if place.module.is_empty() {
                    String::new()
                } else {
                    format!(" in {}+{:#x}", place.module, place.offset)
                };
                format!("#{at:<3} {:<13} {}{module}{source}", kept.trust.name(), place.shown())
            })
            .collect();
        if self.frames.len() == 2 * KEPT {
            lines.insert(KEPT, format!("… {} steps in all; the middle is left out …", self.depth));
        }
        lines
    }
}

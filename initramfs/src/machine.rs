//! The disks of this machine, as the decision asks for them.

use crate::{Places, arrays, decide::Disks, record, refuse};
use atlas_host::{arrivals, arrivals::Arrivals, block, survey::Reader};
use atlas_model::{Refusal, set_record::SetRecord, survey::Survey};
use std::time::{Duration, Instant};

/// How long all disks together have to give their superblocks. A disk that must start its motor first takes seconds.
const READ_DEADLINE: Duration = Duration::from_secs(15);

/// The machine that this program runs on.
#[derive(Debug)]
pub struct Machine {
    places: arrivals::Places,
    reader: Reader,
    began: Instant,
    /// Whether nothing may be changed: nothing is stopped then, nothing written down.
    looks_only: bool,
    trouble: Vec<String>,
    /// What the Bound disk remembers of the set.
    pub bound_record: Option<SetRecord>,
}

impl Machine {
    /// For a boot.
    pub fn new(places: &Places) -> Machine {
        let arrivals = arrivals::Places { sys: "/sys".into(), proc: "/proc".into(), run: places.run.clone() };
        let reader = Reader::new(READ_DEADLINE);
        Machine {
            places: arrivals,
            reader,
            began: Instant::now(),
            looks_only: false,
            trouble: vec![],
            bound_record: None,
        }
    }

    /// For a question: see [`Machine::looks_only`].
    pub fn looking(places: &Places) -> Machine {
        Machine { looks_only: true, ..Machine::new(places) }
    }
}

impl Disks for Machine {
    fn arrivals(&mut self) -> Arrivals {
        arrivals::look(&self.places)
    }

    fn survey(&mut self) -> Result<Survey, Refusal> {
        let sources = block::Sources::default();
        let devices = sources.devices().map_err(|error| refuse::of_file("list the disks", &error))?;
        let survey = self.reader.survey(&devices);
        Ok(Survey { controllers: sources.controllers(), bound_record: self.bound_record.clone(), ..survey })
    }

    fn clear(&mut self, survey: &Survey) -> Vec<String> {
        if self.looks_only {
            return vec![];
        }
        let mut lines = arrays::stop(survey);
        if let Err(error) = arrays::keep_out(&self.places.run, &arrays::sets(survey)) {
            let line = format!("{error}: {}", error.source);
            if !self.trouble.contains(&line) {
                self.trouble.push(line.clone());
                lines.push(line);
            }
        }
        lines
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn say(&mut self, what: &str) {
        if !self.looks_only {
            record::say(what);
        }
    }
}

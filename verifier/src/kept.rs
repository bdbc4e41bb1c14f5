//! The last answers of SetUp, kept for as long as nothing that they rest on has changed.
//!
//! `/run/atlas/setup.json`: it goes with the boot. An answer counts for the program that gave it, on the server of this name.

use crate::{
    seen::{self, Look, OLD},
    service::Tree,
};
use atlas_host::{durable, tree::Dir};
use atlas_model::verify::Found;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::Path,
    time::{Duration, SystemTime},
};

const DIRECTORY: &str = "run/atlas";
const FILE: &str = "setup.json";
const FORMAT: u32 = 1;
const MAX_FILE: usize = 16 << 20;

/// Answers by the name of the service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    format: u32,
    /// The stamp of the program, and the server's name: daemons put it into what they say.
    whose: String,
    services: BTreeMap<String, Answer>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer {
    /// In seconds since 1970.
    given: u64,
    found: Found,
}

impl Kept {
    /// Reads what `program` answered in this tree; nothing where anything is in doubt.
    pub(crate) fn read(root: &Path, program: &Path) -> Kept {
        let whose = whose(program);
        let none = Kept { format: FORMAT, whose: whose.clone().unwrap_or_default(), ..Kept::default() };
        let read = || {
            let dir = Dir::open_root(root).ok()?.dir(DIRECTORY).ok()?;
            let kept: Kept = serde_json::from_slice(&dir.read(FILE, MAX_FILE).ok()?).ok()?;
            (kept.format == FORMAT && Some(&kept.whose) == whose.as_ref()).then_some(kept)
        };
        read().unwrap_or(none)
    }

    /// The answer of one service, where it would be the same now.
    pub(crate) fn find(&self, service: &str, tree: &Tree) -> Option<Found> {
        let answer = self.services.get(service)?;
        let age = now().checked_sub(answer.given)?;
        (age < OLD.as_secs() && seen::is_same(tree, &answer.found.seen)).then(|| answer.found.clone())
    }

    /// Keeps these answers, and no others; those that were kept before stay as old as they are.
    pub(crate) fn write(mut self, root: &Path, found: &BTreeMap<String, Found>) {
        let before = std::mem::take(&mut self.services);
        for (name, found) in found.iter().filter(|(_, found)| !found.seen.is_empty()) {
            let given =
                before.get(name).filter(|answer| answer.found == *found).map_or_else(now, |answer| answer.given);
            self.services.insert(name.clone(), Answer { given, found: found.clone() });
        }
        let is_ready = !self.whose.is_empty() && !self.services.is_empty();
        // Without it, the next SetUp takes longer.
        let _ = is_ready.then(|| -> anyhow::Result<()> {
            let dir = Dir::open_root(root)?.make_dirs(DIRECTORY)?;
            durable::write_if_changed(&dir, OsStr::new(FILE), &serde_json::to_vec(&self)?, 0o600)?;
            Ok(())
        });
    }
}

fn whose(program: &Path) -> Option<String> {
    let program = program.canonicalize().ok()?;
    let tree = Tree::open(Path::new("/")).ok()?;
    let stamp = Look::File.stamp(&tree, program.to_str()?, SystemTime::now()).ok()?;
    let name = nix::unistd::gethostname().ok()?;
    Some(format!("{stamp} {}", name.to_string_lossy()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

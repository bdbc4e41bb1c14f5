//! What is on this server itself: found again in a thread of its own, so often that what has changed is told within a minute.

use crate::{
    board::Board,
    catalogue::{find_here, plugins},
    cold_boot,
};
use atlas_model::verify::{Instance, Profile, Verdict};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(45);

/// What is here, by the name of the service.
type Here = BTreeMap<String, Vec<Instance>>;

/// What was found last.
#[derive(Debug)]
pub(super) struct Finder {
    found: Arc<Mutex<Option<Here>>>,
}

impl Finder {
    /// Begins to look.
    pub(super) fn start(root: &Path, built_in: PathBuf, board: Arc<Board>) -> Finder {
        let found = Arc::<Mutex<Option<Here>>>::default();
        let (shared, root) = (Arc::clone(&found), root.to_owned());
        std::thread::spawn(move || {
            loop {
                let (plugins, _) = plugins(&root, &built_in);
                let (all, failed) = find_here(&root, &plugins);
                let about = Some(board.lock().findings(false).role);
                let profile = match failed.iter().next() {
                    None => Profile::ok("what is on this server is known"),
                    Some((name, why)) => Profile::new(Verdict::Unknown, format!("SetUp of {name} failed: {why}"))
                        .hint(format!("VerifyService {name} setup")),
                };
                board.take(about, "verifier", "setup", EVERY.as_secs(), profile);
                let mut here: BTreeMap<_, _> = all.into_iter().map(|(name, found)| (name, found.instances)).collect();
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                // One whose SetUp failed keeps what it had: it is not gone for that.
                let old = shared.take().unwrap_or_default();
                here.extend(old.into_iter().filter(|(name, _)| failed.contains_key(name)));
                *shared = Some(here);
                drop(shared);
                let boots_with = cold_boot::gather(&root);
                board.lock().boots_with = Some(boots_with);
                std::thread::sleep(EVERY);
            }
        });
        Finder { found }
    }

    /// By the name of the service; `None` until it was looked for the first time.
    pub(super) fn here(&self) -> Option<Here> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

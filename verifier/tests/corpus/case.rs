//! One configuration: of which daemon, what is written where, and what has to be run before it stands.
//!
//! ```text
//! # Virtual hosts out of a macro, in files that a glob takes in.       what it is, for people
//! releases bookworm trixie                                              where the daemon knows what stands in it; else everywhere
//! -- setup --                                                           shell, in the root file system of the server
//! a2enmod -q macro
//! -- /etc/apache2/sites-enabled/a.conf --                               files, up to the next such line
//! …
//! ```

use super::daemons::{self, Daemon};
use std::path::Path;

/// A configuration.
#[derive(Clone, Debug)]
pub struct Case {
    /// `nginx/map-with-braces`, or `apache2-doc vhosts/examples.html 3`.
    pub name: String,
    pub daemon: &'static Daemon,
    /// Empty for all.
    pub releases: Vec<String>,
    pub setup: String,
    pub files: Vec<(String, String)>,
    /// Whether it is a part of what somebody wrote for people, of which the daemon says whether it is a configuration.
    pub is_excerpt: bool,
}

impl Case {
    pub fn is_for(&self, release: &str) -> bool {
        self.releases.is_empty() || self.releases.iter().any(|one| one == release)
    }

    /// Reads the text of one.
    ///
    /// # Panics
    /// Where it is none.
    pub fn parse(name: &str, daemon: &'static Daemon, text: &str) -> Case {
        let mut case = Case {
            name: name.to_owned(),
            daemon,
            releases: vec![],
            setup: String::new(),
            files: vec![],
            is_excerpt: false,
        };
        for line in text.split_inclusive('\n') {
            let heading = line.trim_end().strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --"));
            match (heading, case.files.last_mut()) {
                (Some(path), _) => case.files.push((path.to_owned(), String::new())),
                (None, Some((_, content))) => content.push_str(line),
                (None, None) => match line.split_once(' ') {
                    Some(("releases", all)) => {
                        case.releases = all.split_whitespace().map(str::to_owned).collect();
                    }
                    _ => assert!(line.starts_with('#') || line.trim().is_empty(), "{name}: what is '{line}'?"),
                },
            }
        }
        if let Some(at) = case.files.iter().position(|(path, _)| path == "setup") {
            case.setup = case.files.remove(at).1;
        }
        assert!(case.files.iter().all(|(path, _)| path.starts_with('/')), "{name}: a file without a place");
        case
    }
}

/// Those of our own making: `cases/DAEMON/NAME.conf`.
pub fn own() -> Vec<Case> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/cases");
    let mut all = vec![];
    for daemon in daemons::ALL {
        let Ok(dir) = std::fs::read_dir(top.join(daemon.name)) else { continue };
        for entry in dir {
            let path = entry.unwrap().path();
            let name = format!("{}/{}", daemon.name, path.file_stem().unwrap().to_str().unwrap());
            all.push(Case::parse(&name, daemon, &std::fs::read_to_string(&path).unwrap()));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

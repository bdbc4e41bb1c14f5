//! Where a unit's process is, and whether it is started at all: what systemd makes first, another root directory, conditions.

use crate::{cold_boot::unit_file::UnitFile, here, service::Target};
use std::{
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// What systemd makes when the unit starts: the directive, and where that is.
const MADE: [(&str, &str); 5] = [
    ("StateDirectory", "/var/lib"),
    ("LogsDirectory", "/var/log"),
    ("CacheDirectory", "/var/cache"),
    ("RuntimeDirectory", "/run"),
    ("ConfigurationDirectory", "/etc"),
];
/// Where systemd looks for a program that is named without its directory.
const PROGRAMS: [&str; 6] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin"];
/// The most bytes of a script's first line.
const FIRST_LINE: u64 = 256;

/// What the process of a unit sees of the tree.
pub(super) struct Place<'f> {
    /// The directory that is its root; `None` where that is in an image, which is not looked into.
    root: Option<PathBuf>,
    file: &'f UnitFile,
}

impl<'f> Place<'f> {
    pub(super) fn of(root: &Path, file: &'f UnitFile) -> Place<'f> {
        let own = file.last("Service", "RootDirectory").map_or(root.to_owned(), |dir| here::below(root, dir));
        Place { root: file.last("Service", "RootImage").is_none().then_some(own), file }
    }

    /// Whether something that is named by its path is not there for the process, and nobody makes it.
    pub(super) fn lacks(&self, path: &str) -> bool {
        let bound = ["BindPaths", "BindReadOnlyPaths"].iter().flat_map(|key| self.file.words("Service", key));
        let inside = bound.filter_map(|word| word.split(':').nth(1).map(str::to_owned));
        let is_made = |dir: &String| Path::new(path).starts_with(dir) || Path::new(dir).starts_with(path);
        match &self.root {
            Some(root) => !made(self.file).chain(inside).any(|dir| is_made(&dir)) && !here::is_there(root, path),
            None => false,
        }
    }

    /// Why a program cannot be run; its path may be one of those in which systemd looks.
    pub(super) fn not_run(&self, program: &str) -> Option<String> {
        let root = self.root.as_ref()?;
        if program.starts_with('$') {
            return Some("begins with a variable, which systemd puts in behind it alone".into());
        }
        if program.contains(['%', '$']) {
            return None;
        }
        let file = match program.starts_with('/') {
            true if self.lacks(program) => return Some("is not there".into()),
            true => here::below(root, program),
            false => match PROGRAMS.iter().map(|dir| root.join(dir).join(program)).find(|file| file.is_file()) {
                Some(file) => file,
                None => return Some("is in none of the directories in which systemd looks".into()),
            },
        };
        // What lies where it is made for it is whatever comes to lie there.
        let meta = file.metadata().ok()?;
        if meta.is_file() && meta.permissions().mode() & 0o111 == 0 {
            return Some("is no program that may be run".into());
        }
        match Begins::of(&file)? {
            Begins::Program => None,
            Begins::Script(path) if path.ends_with('\r') => {
                Some("is a script whose lines end as those of Windows do".into())
            }
            Begins::Script(path) => {
                (!here::is_there(root, &path)).then(|| format!("is a script for {path}, which is not there"))
            }
            Begins::ByName(name) => {
                let is_there = self.has_path() || PROGRAMS.iter().any(|dir| root.join(dir).join(&name).exists());
                (!is_there).then(|| format!("is a script for {name}, which is in none of the usual directories"))
            }
            Begins::Text => Some("is a text, and does not begin with the program that it is for (#!/bin/sh)".into()),
        }
    }

    /// Whether it sees the tree of the server itself.
    pub(super) fn is_of_server(&self) -> bool {
        self.root.is_some() && self.file.last("Service", "RootDirectory").is_none()
    }

    /// Whether its unit says where programs are looked for.
    fn has_path(&self) -> bool {
        let own = self.file.words("Service", "Environment").any(|pair| pair.starts_with("PATH="));
        own || !self.file.all("Service", "EnvironmentFile").is_empty()
    }
}

/// What the kernel makes of a file by its first bytes.
enum Begins {
    /// A program, or something that nothing is known of.
    Program,
    /// A script: `#!/usr/bin/python3 -u`.
    Script(String),
    /// One whose program is looked for: `#!/usr/bin/env node`.
    ByName(String),
    /// Only a shell would run it, and systemd is none.
    Text,
}

impl Begins {
    fn of(file: &Path) -> Option<Begins> {
        let mut first = vec![];
        std::fs::File::open(file).ok()?.take(FIRST_LINE).read_to_end(&mut first).ok()?;
        let Some(rest) = first.strip_prefix(b"#!") else {
            // Other kinds may be known to the kernel by what is registered for them.
            let is_text =
                first.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')) && !first.is_empty();
            return Some(if is_text { Begins::Text } else { Begins::Program });
        };
        let line = std::str::from_utf8(rest.split(|byte| *byte == b'\n').next()?).ok()?;
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let path = words.next().filter(|path| path.starts_with('/'))?;
        let by_name =
            words.next().filter(|name| path.ends_with("/env") && !name.starts_with('-') && !name.contains('='));
        Some(match by_name {
            Some(name) => Begins::ByName(name.trim_end_matches('\r').to_owned()),
            None => Begins::Script(path.to_owned()),
        })
    }
}

/// The directories that systemd makes for a unit, with what it made before.
fn made(file: &UnitFile) -> impl Iterator<Item = String> {
    MADE.iter().flat_map(|(key, below)| {
        file.words("Service", key).map(move |name| format!("{below}/{}", name.split(':').next().unwrap_or_default()))
    })
}

/// Whether a condition that is not known here may keep a unit from being started: systemd is asked, and where it does not say, it may.
pub(super) fn may_be_passed_over(target: &Target, file: &UnitFile) -> bool {
    let conditions = file.conditions();
    if file.last("Service", "ExecCondition").is_some() {
        return true;
    }
    let args: Vec<&str> = ["condition"].into_iter().chain(conditions.iter().map(String::as_str)).collect();
    let ask = || here::run(&target.root, "systemd-analyze", &args, target.left());
    !conditions.is_empty() && !ask().is_some_and(|told| told.is_ok_and(|output| output.status.success()))
}

/// Whether a unit is passed over at the boot, by a condition that is known here. One that no condition keeps from it starts, or is to.
pub(super) fn is_passed_over(root: &Path, file: &UnitFile) -> bool {
    let holds = |key: &str, value: &str| -> Option<bool> {
        let path = || here::below(root, value);
        let is_filled = |dir: &Path| std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        Some(match key {
            "ConditionPathExists" => path().exists(),
            "ConditionPathIsDirectory" => path().is_dir(),
            "ConditionPathIsSymbolicLink" => path().is_symlink(),
            "ConditionFileNotEmpty" => path().metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0),
            "ConditionDirectoryNotEmpty" => is_filled(&path()),
            "ConditionFileIsExecutable" => {
                path().metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
            }
            "ConditionHost" if !value.contains(['*', '?', '[']) => {
                let own = |file: &str| here::text(root, file).unwrap_or_default();
                [own("etc/hostname"), own("etc/machine-id")].iter().any(|own| own.eq_ignore_ascii_case(value))
            }
            _ => return None,
        })
    };
    const KNOWN: [&str; 7] = [
        "ConditionPathExists",
        "ConditionPathIsDirectory",
        "ConditionPathIsSymbolicLink",
        "ConditionFileNotEmpty",
        "ConditionDirectoryNotEmpty",
        "ConditionFileIsExecutable",
        "ConditionHost",
    ];
    let all = KNOWN.iter().flat_map(|key| file.all("Unit", key).iter().map(move |value| (*key, value.as_str())));
    // Of those with a `|`, which one is enough, others may be unknown.
    all.filter(|(_, value)| !value.starts_with('|') && !value.contains('%')).any(|(key, value)| {
        let (is_not, value) = value.strip_prefix('!').map_or((false, value), |value| (true, value));
        holds(key, value.trim()).is_some_and(|holds| holds == is_not)
    })
}

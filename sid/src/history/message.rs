//! What a commit says of itself: which server, what changed, and who changed it.

use super::Cause;
use crate::{
    layout::{SidData, SidError},
    lines::{Difference, Lines},
    snapshot::{MANIFEST, generation},
};
use atlas_host::tree::Dir;
use atlas_model::{
    EnvVersion, Role, TreePath,
    manifest::{Entry, FileSet, Kind},
};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

/// How many changed objects a message names.
const LISTED: usize = 200;
/// Of how many it is asked who changed them.
const JUDGED: usize = 100_000;

/// What changed from one commit to the next.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// How many objects.
    pub(super) objects: usize,
    /// The sizes of the files that were added or replaced, in bytes.
    pub(super) bytes: u64,
    /// Whether there is anything to record; objects of the residue count for nothing else, as no server has them.
    pub(super) is_worth_it: bool,
    /// Whether it will be asked who changed them.
    is_judged: bool,
    counts: [usize; 3],
    listed: Vec<(char, FileSet, TreePath)>,
    /// The configuration that a secondary may have from PRI: what it is now.
    sync: HashMap<TreePath, Kind>,
}

impl Summary {
    /// Of a Role's changes; the first Snapshot and those of the primary are nobody else's doing.
    pub(super) fn new(role: Role, is_first: bool) -> Summary {
        Summary { is_judged: !role.is_primary() && !is_first, ..Summary::default() }
    }

    pub(super) fn add(&mut self, difference: &Difference) {
        let Some(entry) = difference.entry() else { return };
        self.is_worth_it = true;
        if entry.set == FileSet::Residue {
            return;
        }
        let is = |side: &Option<Entry>| side.as_ref().is_some_and(|entry| entry.kind != Kind::Absent);
        let (sign, index) = match (is(&difference.old), is(&difference.new)) {
            (false, _) => ('A', 0),
            (true, true) => ('M', 1),
            (true, false) => ('D', 2),
        };
        self.objects += 1;
        self.counts[index] += 1;
        if let Some(Entry { kind: Kind::File { size, .. }, .. }) = &difference.new {
            self.bytes += size;
        }
        if self.listed.len() < LISTED {
            self.listed.push((sign, entry.set, entry.path.clone()));
        }
        if self.is_judged && entry.set == FileSet::Sync && self.sync.len() < JUDGED {
            let kind = difference.new.as_ref().map_or(Kind::Absent, |entry| entry.kind.clone());
            self.sync.insert(entry.path.clone(), kind);
        }
    }

    fn counted(&self) -> String {
        let words = ["added", "changed", "removed"].iter().zip(self.counts).filter(|(_, count)| *count > 0);
        let parts: Vec<String> = words.map(|(word, count)| format!("{count} {word}")).collect();
        if parts.is_empty() { "path lists or residue changed".into() } else { parts.join(", ") }
    }
}

/// The facts of a commit besides what changed.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) role: Role,
    pub(super) env_version: EnvVersion,
    pub(super) generation: u64,
    pub(super) server: &'a str,
    pub(super) is_first: bool,
}

/// The message, and the cause alone.
pub(super) fn message(facts: &Facts<'_>, summary: &Summary, cause: &Judged) -> String {
    let Facts { role, env_version, generation, server, .. } = facts;
    let mut text =
        format!("{role} of {env_version} on {server}: {}\n\n", summary.counted(), env_version = env_version.dir_name());
    for (sign, set, path) in &summary.listed {
        let note = if *set == FileSet::Sync && cause.locals.as_ref().is_some_and(|locals| locals.contains(path)) {
            " (changed here)"
        } else {
            ""
        };
        let _ = writeln!(text, "{sign} {path}{note}");
    }
    if summary.objects > summary.listed.len() {
        let _ = writeln!(text, "and {} more", summary.objects - summary.listed.len());
    }
    let _ = write!(
        text,
        "\nServer: {server}\nRole: {role}\nEnvVersion: {}\nGeneration: {generation}\nCause: {}\nFiles: {}\nBytes: {}\n",
        env_version.number(),
        cause.text,
        summary.objects,
        summary.bytes,
    );
    text
}

/// Who changed what is recorded.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) text: String,
    /// Whether some of it was changed on the server itself.
    pub(super) here: bool,
    /// Where a part came from PRI: the paths that did not.
    locals: Option<HashSet<TreePath>>,
}

impl Judged {
    /// A cause, of changes that were made on the server itself.
    pub(super) fn plain(text: String) -> Judged {
        Judged { text, here: true, locals: None }
    }
}

/// Says who made the changes. On a secondary it is seen in what changed: what is now as PRI has it came from PRI, all else was done there.
pub(super) fn judge(sid: &SidData, facts: &Facts<'_>, summary: &Summary, cause: &Cause) -> Result<Judged, SidError> {
    let plain = |text: String, here: bool| Ok(Judged { text, here, locals: None });
    let role = facts.role;
    match cause {
        Cause::Restored(commit) => return plain(format!("restored on {role} from {commit}"), true),
        _ if role.is_primary() => return plain(format!("taken on {role}"), true),
        _ if facts.is_first => return plain(format!("first Snapshot of {role}"), false),
        _ => {}
    }
    let here = format!("changed on {role} itself");
    let Some((locals, from)) = not_from_primary(sid, facts.env_version, summary)? else { return plain(here, true) };
    // The identity of a secondary is its own.
    let own = summary.objects - summary.sync.len() + locals.len();
    let installed = format!("installed from PRI generation {from}");
    Ok(match own {
        0 if summary.objects > 0 => Judged { text: installed, here: false, locals: None },
        _ if own == summary.objects => Judged { text: here, here: true, locals: None },
        _ => Judged {
            text: format!("{here} ({own}), and {installed} ({})", summary.objects - own),
            here: true,
            locals: Some(locals),
        },
    })
}

/// The changed paths of the common configuration that are not now as PRI's Snapshot has them; and that Snapshot's generation.
fn not_from_primary(
    sid: &SidData,
    env_version: EnvVersion,
    summary: &Summary,
) -> Result<Option<(HashSet<TreePath>, u64)>, SidError> {
    let Some(primary) = sid.role_dir(Role::Pri)? else { return Ok(None) };
    let name = format!("{}/{MANIFEST}", env_version.dir_name());
    let file = match primary.file(&name) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (_, mut lines) = Lines::open(file, primary.show(&name))?;
    let wanted: HashMap<Vec<u8>, &TreePath> =
        summary.sync.keys().map(|path| (crate::lines::json_text(&path.to_string()), path)).collect();
    // What PRI does not have is from PRI where it is gone here, too.
    let mut locals: HashSet<TreePath> =
        summary.sync.iter().filter(|(_, kind)| **kind != Kind::Absent).map(|(path, _)| path.clone()).collect();
    while lines.advance()? {
        let path = match lines.place()? {
            (FileSet::Sync, raw) => wanted.get(raw.as_ref()).copied(),
            _ => None,
        };
        if let Some(path) = path
            && let Some(kind) = summary.sync.get(path)
        {
            if is_alike(kind, &lines.entry()?.kind) {
                locals.remove(path);
            } else {
                locals.insert(path.clone());
            }
        }
    }
    Ok(Some((locals, generation(&primary)?)))
}

/// The same but for owners, whose numbers differ from server to server.
fn is_alike(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::File { sha256: a, meta: ma, .. }, Kind::File { sha256: b, meta: mb, .. }) => {
            a == b && ma.mode == mb.mode
        }
        (Kind::Dir { meta: a }, Kind::Dir { meta: b }) => a.mode == b.mode,
        (Kind::Link { target: a, .. }, Kind::Link { target: b, .. }) => a == b,
        (a, b) => a == b,
    }
}

/// The name of the server that a Snapshot was taken of: its own hostname file says it; otherwise this machine's.
pub(super) fn server_of(snapshot: &Dir) -> String {
    let from_snapshot = snapshot.read(format!("{}/etc/hostname", FileSet::Ident.dir_name()), 255).ok();
    let named = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let word = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?.to_owned();
        let good = word.len() <= 253 && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        good.then_some(word)
    };
    from_snapshot
        .and_then(|content| named(&content))
        .or_else(|| named(nix::unistd::gethostname().ok()?.as_encoded_bytes()))
        .unwrap_or_else(|| "unnamed".into())
}

//! `ssSync create`: Snapshot Create of this server's (Role, EnvVersion).

use crate::{
    hooks::{self, HookReport, Point},
    server::Server,
};
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, print, print_json};
use atlas_host::{FileError, durable};
use atlas_model::{EnvVersion, PathList, Role, TreePath, manifest::FileSet, worn::RoleIdentity};
use atlas_sid::{
    SidData, SidError,
    create::{self, Created, How},
    outgoing::is_source,
    worn,
};
use std::{ffi::OsStr, io};

/// The list that is the operator's own.
const OWN_LIST: &str = "SyncFilePathsSpecial";
/// How many paths of it that are not there are named.
const MAX_ABSENT: usize = 20;

/// What was done, as `--json` tells it.
#[derive(serde::Serialize)]
struct Answer {
    format: u32,
    #[serde(flatten)]
    taken: Taken,
}

/// A Snapshot that was taken, and what the hooks around it did.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Taken {
    /// What was made.
    #[serde(flatten)]
    pub(crate) created: Created,
    /// What is the matter with the lists that people write.
    pub(crate) lists: Vec<String>,
    /// The hooks before and after it.
    pub(crate) hooks: Vec<HookReport>,
}

/// Makes the Snapshot and says what was made.
pub(crate) fn run(common: &Common, full: bool) -> anyhow::Result<Exit> {
    let taken = snapshot(&Server::open(&common.root)?, full)?;
    if common.json {
        print_json(&Answer { format: 1, taken })?;
    } else {
        print(tell(&taken))?;
    }
    Ok(Exit::Done)
}

/// Makes the Snapshot of this server's (Role, EnvVersion); reads every file, or only what seems to have changed.
pub(crate) fn snapshot(server: &Server, full: bool) -> anyhow::Result<Taken> {
    snapshot_as(server, &How { reads_all: full, ..How::default() })
}

/// The same, in a certain way.
pub(crate) fn snapshot_as(server: &Server, how: &How) -> anyhow::Result<Taken> {
    let (role, env_version) = (server.role(), server.env_version());
    let mut hooks = hooks::run(&server.path, Point::BeforeCreate, role, env_version)
        .context("run the hooks before the Snapshot")
        .hint("mend the hook, or take it out of /etc/atlas/hooks.d; no Snapshot was made")?;
    let lists = check_lists(server)?;
    let created =
        give_identity(server).and_then(|()| create::create_how(&server.root, &server.sid, role, env_version, how));
    let hint = created.as_ref().err().map(|error| hint_for(error, role, env_version)).unwrap_or_default();
    let created = created.with_context(|| format!("make the Snapshot of {role} for {env_version}")).hint(hint)?;
    declare_format(&server.sid).context("note which program wrote the Snapshot")?;
    hooks.extend(
        hooks::run(&server.path, Point::AfterCreate, role, env_version)
            .context("run the hooks after the Snapshot, which was made")
            .hint("mend the hook, or take it out of /etc/atlas/hooks.d")?,
    );
    Ok(Taken { created, lists, hooks })
}

/// Refuses a line that people wrote and that stands for nothing, before a Snapshot leaves out what it was meant for. Gives what of their
/// own list is not there: perhaps it never was.
fn check_lists(server: &Server) -> anyhow::Result<Vec<String>> {
    let Some(role_dir) = server.sid.role_dir(server.role())? else { return Ok(vec![]) };
    let mut versions = std::iter::successors(Some(server.env_version()), |version| version.older());
    // A role that has no lists yet is reported by who makes the Snapshot.
    let Some(dir) = versions.find_map(|version| {
        let dir = role_dir.dir(version.dir_name()).ok()?;
        dir.stat(OsStr::new(FileSet::Ident.list_name())).ok()?.map(|_| dir)
    }) else {
        return Ok(vec![]);
    };
    let mut absent = vec![];
    let (mut own, mut listed) = (PathList::default(), vec![]);
    for name in dir.names(10_000)?.iter().filter_map(|name| name.to_str()) {
        let is_written = is_source(name);
        let rest = name.strip_prefix(FileSet::Sync.list_name()).filter(|rest| !rest.is_empty() && !is_written);
        if rest.is_some_and(|rest| !KEPT_ASIDE.iter().any(|end| rest.ends_with(end))) {
            absent.push(format!(
                "{name} is no list: its name has others than letters, digits, - and _; nothing of it counts"
            ));
        }
        if !is_written && name != FileSet::Ident.list_name() {
            if name == FileSet::Sync.list_name() {
                listed.extend(PathList::parse(&dir.read(name, PathList::MAX_SIZE)?));
            }
            continue;
        }
        let content = dir.read(name, PathList::MAX_SIZE)?;
        PathList::check_written(&content)
            .with_context(|| format!("read {}", dir.show(name).display()))
            .hint("name the directory, which stands for all that it holds; a character of a name is written as \\x2a (*) or \\x3f (?)")?;
        if name == OWN_LIST {
            own = PathList::parse(&content)?;
            let is_absent = |path: &&TreePath| server.path.join(path.relative()).symlink_metadata().is_err();
            let not_there = own.paths().iter().filter(is_absent).take(MAX_ABSENT);
            absent.extend(not_there.map(|path| format!("{path}, which {name} lists, is not there")));
        }
        listed.push(PathList::parse(&content)?);
    }
    let ends = own.paths().iter().filter_map(|path| Some((path, end_of_link(server, path)?)));
    let loose = ends.filter(|(_, end)| {
        let is_everywhere = EVERYWHERE.iter().any(|dir| end.as_path().starts_with(dir));
        !is_everywhere && !listed.iter().any(|list| list.covers(end))
    });
    absent.extend(loose.take(MAX_ABSENT).map(|(path, end)| {
        format!("{path}, which {OWN_LIST} lists, is a link to {end}, which no list has: list that, too, or it leads nowhere on a secondary")
    }));
    Ok(absent)
}

/// What editors and package managers call the file of before.
const KEPT_ASIDE: [&str; 8] = ["~", ".bak", ".swp", ".save", ".orig", ".old", ".dpkg-old", ".ucf-old"];

/// What packages, the kernel or PRI's disks bring to each server.
const EVERYWHERE: [&str; 7] = ["/usr", "/proc", "/sys", "/dev", "/run", "/unbound", "/opt/atlas"];

/// Where a link that is listed leads to, as it says itself.
fn end_of_link(server: &Server, path: &TreePath) -> Option<TreePath> {
    let target = std::fs::read_link(server.path.join(path.relative())).ok()?;
    let mut end = std::path::PathBuf::from("/");
    let from = path.as_path().parent()?;
    for part in from.join(target).components() {
        match part {
            std::path::Component::ParentDir => drop(end.pop()),
            std::path::Component::Normal(name) => end.push(name),
            _ => {}
        }
    }
    TreePath::parse(end.to_str()?).ok()
}

/// Notes on the Bound disk that the identity in place is this Role's from now on: whoever boots its disks has it.
fn give_identity(server: &Server) -> Result<(), SidError> {
    let paths = create::ident_list(&server.sid, server.role(), server.env_version())?.paths().to_vec();
    let set = server.file_system();
    let identity = RoleIdentity { role: server.role(), cluster: server.config.cluster().clone(), set, paths };
    worn::give(&server.root, &server.sid, server.env_version(), identity)
}

/// Leaves word of the format and of who writes it, for a version that may be set later and cannot read it.
fn declare_format(sid: &SidData) -> Result<bool, FileError> {
    let writer = concat!("format = 1\nwritten_by = \"ssSync v", env!("CARGO_PKG_VERSION"), "\"\n");
    durable::write_if_changed(&sid.dir().make_dirs("formats")?, OsStr::new("manifest.toml"), writer.as_bytes(), 0o600)
}

/// What to try when the Snapshot could not be made. The one before, if there was one, is whole.
fn hint_for(error: &SidError, role: Role, env_version: EnvVersion) -> String {
    match error {
        SidError::NoSnapshot { .. } => {
            format!(
                "list the paths of the identity in SID_DATA/{role}/{env_version}/IdentFilePaths; 'atlas init' makes a first list"
            )
        }
        SidError::Reserved { .. } => "take that line off the list; each server keeps such files for itself".into(),
        SidError::Elsewhere { .. } => "take that line off IdentFilePaths, or move the path to the root file system: a boot installs the identity before anything else is mounted".into(),
        SidError::ForeignIdentity { has_snapshot: true, .. } => {
            format!("reboot: that installs the identity of {role}; nothing was written")
        }
        SidError::ForeignIdentity { .. } => {
            format!(
                "give this server a name, addresses and host keys of its own: atlas init --role {role} … --hostname NAME --address ADDRESS/LENGTH"
            )
        }
        SidError::PathList { .. } => "mend that line of the list".into(),
        SidError::LeadsOut { .. } => "name the real path in the list, without '..' and without links on the way".into(),
        SidError::Restless(path) => format!("stop what writes to {path}, or take it off the list"),
        SidError::Conversion { to, .. } => {
            format!(
                "mend or install the converter in /opt/atlas/bin; without a Snapshot for {to} no server of {to} could take over"
            )
        }
        SidError::File(file) if file.source.kind() == io::ErrorKind::StorageFull => {
            "free some space on the Unbound file system".into()
        }
        SidError::File(file) if file.source.kind() == io::ErrorKind::PermissionDenied => "run it as root".into(),
        SidError::File(file) if file.source.kind() == io::ErrorKind::WouldBlock => {
            "wait until the other program that changes the Sync and Identity Data has ended".into()
        }
        _ => "the Snapshot before is as it was; mend what is named above, and run 'ssSync create' again".into(),
    }
}

fn tell(taken: &Taken) -> String {
    let Taken { created, lists, hooks } = taken;
    let Created { role, env_version, ident_objects, sync_objects, changed, changed_objects, .. } = created;
    let objects = |count: &usize| if *count == 1 { "1 object".to_owned() } else { format!("{count} objects") };
    let mut text = format!(
        "Snapshot of {role} for {env_version}: identity {}, other configuration {}\n",
        objects(ident_objects),
        objects(sync_objects)
    );
    if !changed {
        text.push_str("nothing changed since the one before\n");
    } else if let Some(recorded) = &created.recorded {
        text.push_str(&format!("changed: {}, recorded as {:.12}\n", objects(changed_objects), recorded.commit));
    }
    for version in &created.converted_to {
        text.push_str(&format!("converted from it: {version}\n"));
    }
    for note in created.notes.iter().chain(lists).chain(&created.passed_over) {
        text.push_str(&format!("note: {note}\n"));
    }
    if let Some(aside) = created.recorded.as_ref().and_then(|recorded| recorded.set_aside.as_ref()) {
        text.push_str(&format!("the history was damaged; it is kept as {}, and a new one begun\n", aside.display()));
    }
    if let Some(error) = &created.history_error {
        text.push_str(&format!("NOT recorded in the history: {error}\n"));
    }
    for hook in hooks {
        match &hook.error {
            None => text.push_str(&format!("hook {}: done\n", hook.hook.display())),
            Some(error) => text.push_str(&format!("hook {}: FAILED: {error}\n", hook.hook.display())),
        }
    }
    text
}

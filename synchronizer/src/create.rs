//! `ssSync create`: Snapshot Create of this server's (Role, EnvVersion).

use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, print, print_json};
use atlas_host::{FileError, durable, mount, tree::Dir};
use atlas_model::{ClusterId, EnvVersion, Role};
use atlas_sid::{
    BoundData, SidData, SidError,
    bound::ESD_DATA,
    create::{self, Created},
    layout::UNBOUND_MOUNT,
};
use std::{ffi::OsStr, io, path::Path};

/// What was done, as `--json` tells it.
#[derive(serde::Serialize)]
struct Answer {
    format: u32,
    #[serde(flatten)]
    created: Created,
}

/// Makes the Snapshot and says what was made.
pub(crate) fn run(common: &Common) -> anyhow::Result<Exit> {
    let created = snapshot(&common.root)?;
    if common.json {
        print_json(&Answer { format: 1, created })?;
    } else {
        print(tell(&created))?;
    }
    Ok(Exit::Done)
}

fn snapshot(root: &Path) -> anyhow::Result<Created> {
    let tree = Dir::open_root(root).context("open the server's tree").hint("name an existing directory with --root")?;
    let bound = read_bound(&tree)?;
    let unbound = open_unbound(root)?;
    let sid = open_sid(&unbound)?;
    let config = sid
        .master_config()
        .context("read who this server is")
        .hint("restore MasterConfig; on a new Unbound set, 'atlas init' writes it")?;
    check_cluster(config.cluster(), &bound.cluster)?;
    let (role, env_version) = (config.role(), bound.env_id);
    let created = create::create(&tree, &sid, role, env_version);
    let hint = created.as_ref().err().map(|error| hint_for(error, role, env_version)).unwrap_or_default();
    let created = created.with_context(|| format!("make the Snapshot of {role} for {env_version}")).hint(hint)?;
    declare_format(&sid).context("note which program wrote the Snapshot")?;
    Ok(created)
}

/// Leaves word of the format and of who writes it, for a version that may be set later and cannot read it.
fn declare_format(sid: &SidData) -> Result<bool, FileError> {
    let writer = concat!("format = 1\nwritten_by = \"ssSync v", env!("CARGO_PKG_VERSION"), "\"\n");
    durable::write_if_changed(&sid.dir().make_dirs("formats")?, OsStr::new("manifest.toml"), writer.as_bytes(), 0o600)
}

pub(crate) fn read_bound(tree: &Dir) -> anyhow::Result<BoundData> {
    BoundData::read(tree)
        .context("read which environment this server is")
        .hint("run 'atlas init' again with this server's EnvVersion and cluster")?
        .ok_or_else(|| anyhow::anyhow!("this server was never set up: {} has no EnvID", tree.show(ESD_DATA).display()))
        .hint("run 'atlas init' first; 'atlas init --help' shows how")
}

/// Opens the Unbound file system; on the running system it must be mounted, lest the root disk be written to in its stead.
pub(crate) fn open_unbound(root: &Path) -> anyhow::Result<Dir> {
    let at = root.join(UNBOUND_MOUNT);
    let not_mounted = || format!("no Unbound set is mounted at {}", at.display());
    let hint =
        "see /run/atlas/boot.json for why the last boot did not mount it, and 'atlas init --check' for its state now";
    let dir = match Dir::open_root(&at) {
        Err(error) if error.is_not_found() => return Err(error).with_context(not_mounted).hint(hint),
        other => other.context("open the Unbound file system")?,
    };
    let canonical = std::fs::canonicalize(root).with_context(|| format!("look at {}", root.display()))?;
    if canonical == Path::new("/") && !mount::is_mount_point(&at)? {
        return Err(anyhow::anyhow!(not_mounted())).hint(hint);
    }
    Ok(dir)
}

pub(crate) fn open_sid(unbound: &Dir) -> anyhow::Result<SidData> {
    let opened = SidData::open(unbound);
    let hint = match &opened {
        Err(SidError::File(file)) if file.source.kind() == io::ErrorKind::PermissionDenied => "run it as root",
        _ => "on a new Unbound set, run 'atlas init'; otherwise check that these are the right disks",
    };
    opened.context("open the Sync and Identity Data").hint(hint)
}

pub(crate) fn check_cluster(disks: &ClusterId, server: &ClusterId) -> anyhow::Result<()> {
    let differ = || anyhow::anyhow!("the Unbound disks belong to cluster '{disks}', this server to '{server}'");
    if disks == server { Ok(()) } else { Err(differ()) }
        .hint("shut down and put in the disks of this server's own cluster; nothing was written")
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

fn tell(created: &Created) -> String {
    let Created { role, env_version, ident_objects, sync_objects, converted_to, .. } = created;
    let objects = |count: &usize| if *count == 1 { "1 object".to_owned() } else { format!("{count} objects") };
    let mut text = format!(
        "Snapshot of {role} for {env_version}: identity {}, other configuration {}\n",
        objects(ident_objects),
        objects(sync_objects)
    );
    for version in converted_to {
        text.push_str(&format!("converted from it: {version}\n"));
    }
    text
}

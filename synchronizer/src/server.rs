//! The server that this program runs on: what its own disk and the mounted Unbound set say of it, checked against each other.

use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::{block, mount, tree::Dir};
use atlas_model::{ClusterId, EnvVersion, GateReport, MasterConfig, RefusalCode, Role};
use atlas_sid::{BoundData, SidData, SidError, bound::ESD_DATA, layout::UNBOUND_MOUNT};
use std::{
    io,
    path::{Path, PathBuf},
};

/// More than the gate's report has, in bytes.
const GATE_LIMIT: usize = 4 << 20;

/// A server whose disks agree on its cluster.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where its tree lies; `/` on the running server.
    pub(crate) path: PathBuf,
    /// Its tree.
    pub(crate) root: Dir,
    /// What its own disk says.
    pub(crate) bound: BoundData,
    /// What lies on the Unbound set.
    pub(crate) sid: SidData,
    /// Who the Unbound set makes of it.
    pub(crate) config: MasterConfig,
}

impl Server {
    /// Reads all of it; writes nothing.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Server> {
        let root =
            Dir::open_root(path).context("open the server's tree").hint("name an existing directory with --root")?;
        let bound = read_bound(&root)?;
        still_has_its_disks(&root)?;
        let unbound = open_unbound(path)?;
        let sid = open_sid(&unbound)?;
        let config = sid
            .master_config()
            .context("read who this server is")
            .hint("restore MasterConfig; on a new Unbound set, 'atlas init' writes it")?;
        check_cluster(config.cluster(), &bound.cluster)?;
        Ok(Server { path: path.to_owned(), root, bound, sid, config })
    }

    /// Its Role.
    pub(crate) fn role(&self) -> Role {
        self.config.role()
    }

    /// The UUID of the Unbound file system, on a running server.
    pub(crate) fn file_system(&self) -> Option<String> {
        let is_running = std::fs::canonicalize(&self.path).is_ok_and(|path| path == Path::new("/"));
        is_running.then(|| block::ext4_uuid_below(&self.path.join(UNBOUND_MOUNT))).flatten()
    }

    /// Its Environment.
    pub(crate) fn env_version(&self) -> EnvVersion {
        self.bound.env_id
    }
}

fn read_bound(tree: &Dir) -> anyhow::Result<BoundData> {
    BoundData::read(tree)
        .context("read which environment this server is")
        .hint("run 'atlas init' again with this server's EnvVersion and cluster")?
        .ok_or_else(|| anyhow::anyhow!("this server was never set up: {} has no EnvID", tree.show(ESD_DATA).display()))
        .hint("run 'atlas init' first; 'atlas init --help' shows how")
}

/// A server that has given its role up, because its disks are gone or answer nothing, begins no work on them: it would wait for ever, and they may be
/// another's by now.
fn still_has_its_disks(root: &Dir) -> anyhow::Result<()> {
    let read = root.read_if_there(format!("run/atlas/{}", GateReport::NAME), GATE_LIMIT);
    // What cannot be read says nothing of the disks.
    let report = read.ok().flatten().and_then(|content| serde_json::from_slice::<GateReport>(&content).ok());
    match report.and_then(|report| report.refusal).filter(|refusal| refusal.code == RefusalCode::DisksLost) {
        Some(refusal) => Err(anyhow::anyhow!("this server has given its role up: {refusal}")).hint(
            "see the console or /run/atlas/gate.json; only switching the server off and on gives it a role again",
        ),
        None => Ok(()),
    }
}

/// Opens the Unbound file system; on the running system it must be mounted, lest the root disk be written to in its stead.
fn open_unbound(root: &Path) -> anyhow::Result<Dir> {
    let at = root.join(UNBOUND_MOUNT);
    let not_mounted = || format!("no Unbound set is mounted at {}", at.display());
    let hint = "see /run/atlas/boot.json for why the last boot did not mount it (without that file it was no boot of ATLAS': reboot), and 'atlas init --check' for its state now";
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

fn open_sid(unbound: &Dir) -> anyhow::Result<SidData> {
    let opened = SidData::open(unbound);
    let hint = match &opened {
        Err(SidError::File(file)) if file.source.kind() == io::ErrorKind::PermissionDenied => "run it as root",
        _ => "on a new Unbound set, run 'atlas init'; otherwise check that these are the right disks",
    };
    opened.context("open the Sync and Identity Data").hint(hint)
}

fn check_cluster(disks: &ClusterId, server: &ClusterId) -> anyhow::Result<()> {
    let differ = || anyhow::anyhow!("the Unbound disks belong to cluster '{disks}', this server to '{server}'");
    if disks == server { Ok(()) } else { Err(differ()) }
        .hint("shut down and put in the disks of this server's own cluster; nothing was written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::Refusal;

    #[test]
    fn a_server_that_lost_its_disks_begins_no_work_on_them() {
        let tmp = tempfile::tempdir().unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        assert!(still_has_its_disks(&root).is_ok(), "nobody keeps a gate");
        std::fs::create_dir_all(tmp.path().join("run/atlas")).unwrap();
        for (code, may) in [(RefusalCode::AddressInUse, true), (RefusalCode::DisksLost, false)] {
            let refusal = Some(Refusal::new(code, "It is so."));
            let report = GateReport { format: GateReport::FORMAT, refusal, ..GateReport::default() };
            std::fs::write(tmp.path().join("run/atlas/gate.json"), serde_json::to_vec(&report).unwrap()).unwrap();
            let said = still_has_its_disks(&root);
            assert_eq!(said.is_ok(), may, "{code}: {said:?}");
        }
        let error = still_has_its_disks(&root).unwrap_err();
        assert!(format!("{error:#}").contains("given its role up: disks-lost"), "{error:#}");
    }
}

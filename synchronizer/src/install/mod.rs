//! Snapshot Install: a secondary takes over the configuration of PRI [202-204].

mod command;

pub(crate) use command::run;

use anyhow::{Context, bail};
use atlas_cli::Hint;
use atlas_host::tree::Dir;
use atlas_model::{EnvVersion, Role, manifest::FileSet};
use atlas_sid::{
    Found, SidData, Snapshot,
    install::{Plan, Protected, Trust, Wanted},
    snapshot,
};
use std::collections::BTreeMap;

/// What an installation did and found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InstallReport {
    /// The generation of PRI's Snapshot that is installed now.
    pub generation: u64,
    /// One line per changed path: `replaced /etc/hosts`.
    pub changes: Vec<String>,
}

/// Installs PRI's Snapshot of `env_version` on this secondary, below `root`.
///
/// # Errors
/// Where nothing could be installed; what was installed before is then as it was.
pub fn install(
    root: &Dir,
    sid: &SidData,
    own: Role,
    env_version: EnvVersion,
    generation: u64,
) -> anyhow::Result<InstallReport> {
    let snapshot = snapshot_of_pri(sid, own, env_version)?;
    let protected = Protected { paths: snapshot.ident_paths.clone(), reserved: true };
    let wanted = Wanted {
        entries: snapshot.manifest.of_set(FileSet::Sync).as_slice(),
        files: snapshot.files(FileSet::Sync)?,
        made: BTreeMap::new(),
        protected,
        trust: Trust::Stat,
    };
    let plan = Plan::of(root, wanted).context("compare PRI's Snapshot with this server")?;
    let staged =
        plan.stage(root).context("make ready what PRI has changed").hint("free some space; nothing was changed")?;
    let changes = staged.commit().context("install what PRI has changed")?;
    Ok(InstallReport { generation, changes: changes.iter().map(ToString::to_string).collect() })
}

fn snapshot_of_pri(sid: &SidData, own: Role, env_version: EnvVersion) -> anyhow::Result<Snapshot> {
    if own.is_primary() {
        return Err(anyhow::anyhow!("this server is PRI; its configuration is what the others install"))
            .hint("run it on a secondary");
    }
    let role_dir = sid
        .role_dir(Role::Pri)?
        .ok_or_else(|| anyhow::anyhow!("no Snapshot of PRI was received yet"))
        .hint("wait for the next cycle, or run 'ssSync cycle' on PRI")?;
    match snapshot::find(&role_dir, Role::Pri, env_version)? {
        Found::Exact(snapshot) => Ok(snapshot),
        Found::Older(older) => {
            bail!("PRI's Snapshot is of {} and was not converted to {env_version} yet", older.manifest.env_version)
        }
        Found::FromScratch => bail!("PRI has made no Snapshot yet"),
    }
}

//! `ssSync install`.

use super::{InstallReport, install};
use crate::create::{check_cluster, open_sid, open_unbound, read_bound};
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, print, print_json};
use atlas_host::tree::Dir;
use atlas_model::Role;
use atlas_sid::snapshot::generation;

/// What was done, as `--json` tells it.
#[derive(serde::Serialize)]
struct Answer {
    format: u32,
    #[serde(flatten)]
    report: InstallReport,
}

/// Installs, and says what was changed.
pub(crate) fn run(common: &Common) -> anyhow::Result<Exit> {
    let tree = Dir::open_root(&common.root)
        .context("open the server's tree")
        .hint("name an existing directory with --root")?;
    let bound = read_bound(&tree)?;
    let unbound = open_unbound(&common.root)?;
    let sid = open_sid(&unbound)?;
    let config = sid.master_config().context("read who this server is")?;
    check_cluster(config.cluster(), &bound.cluster)?;
    let generation = sid.role_dir(Role::Pri)?.map_or(Ok(0), |dir| generation(&dir))?;
    let report = install(&tree, &sid, config.role(), bound.env_id, generation)?;
    if common.json {
        print_json(&Answer { format: 1, report })?;
    } else {
        print(tell(&report))?;
    }
    Ok(Exit::Done)
}

fn tell(report: &InstallReport) -> String {
    let mut text = format!(
        "generation {} of PRI's configuration is installed, {} changes\n",
        report.generation,
        report.changes.len()
    );
    report.changes.iter().for_each(|change| text.push_str(&format!("{change}\n")));
    text
}

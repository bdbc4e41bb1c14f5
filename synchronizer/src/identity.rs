//! `ssSync identity`: where this server's identity differs from its Snapshot.
//!
//! Installing it is atlas-boot's work, before the network is up [326]; on a running server an identity is never exchanged.

use crate::{report::shortened, server::Server};
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, print, print_json};
use atlas_model::manifest::FileSet;
use atlas_sid::{install::Plan, snapshot::Snapshot};
use serde::Serialize;

#[derive(Serialize)]
struct Answer {
    format: u32,
    differences: Vec<String>,
}

/// Compares and tells.
pub(crate) fn run(common: &Common) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    let (role, env_version) = (server.role(), server.env_version());
    let dir = server.sid.role_dir(role)?;
    let snapshot = dir.map(|dir| Snapshot::open(&dir, role, env_version)).transpose()?.flatten();
    let snapshot = snapshot
        .with_context(|| format!("there is no Snapshot of {role} for {env_version}"))
        .hint("run 'ssSync create'")?;
    let plan = Plan::make(&server.root, &snapshot, FileSet::Ident)?;
    let differences = shortened(plan.changes().iter().map(|change| format!("at the next boot: {change}")));
    let exit = if differences.is_empty() { Exit::Done } else { Exit::No };
    if common.json {
        print_json(&Answer { format: 1, differences })?;
    } else if differences.is_empty() {
        print(format!("the identity is that of {role}, as its Snapshot has it\n"))?;
    } else {
        print(differences.join("\n"))?;
    }
    Ok(exit)
}

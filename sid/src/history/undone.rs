//! What somebody changed on a secondary and a cycle undid: PRI never has a Snapshot of it, and its history tells of it all the same.
//!
//! ```text
//! SEC1's history    changed on SEC1 itself ──► installed from PRI        both with their content
//! PRI's, of SEC1    changed on SEC1 itself, and undone by a cycle        the paths; the Snapshot is the one before
//! ```

use super::{
    message::{self, Facts},
    record::{Prepared, Recorded, Written, recorded_by},
    repository::Repository,
};
use crate::{
    layout::{SidData, SidError, read_env_version},
    snapshot::{SNAPSHOT_ENV_VERSION, generation},
};
use atlas_model::{Role, tree_path::is_hidden};
use std::{fmt::Write, time::Duration};

/// At most so many changes are named.
const LISTED: usize = 200;
/// The longest name of one, in characters: it came from another server.
const LONGEST: usize = 1000;

/// Records that a cycle undid these changes (`/etc/app.conf (its content)`), which `commit` of that server's own history holds. Gives `None` where
/// nothing of that server was recorded yet. The caller holds the lock of the Role.
pub fn undone(
    sid: &SidData,
    role: Role,
    changes: &[String],
    commit: Option<&str>,
) -> Result<Option<Recorded>, SidError> {
    let Some(role_dir) = sid.role_dir(role)?.filter(|_| !changes.is_empty()) else { return Ok(None) };
    let Some(env_version) = read_env_version(&role_dir, SNAPSHOT_ENV_VERSION)? else { return Ok(None) };
    let lock = sid.lock_history(Duration::from_secs(600))?;
    let Some(repository) = Repository::open(sid)? else { return Ok(None) };
    let Some(parent) = repository.tip(role)? else { return Ok(None) };
    let snapshot = role_dir.dir(env_version.dir_name())?;
    let server = message::server_of(&snapshot);
    let facts = Facts { role, env_version, generation: generation(&role_dir)?, server: &server, is_first: false };
    let cause = format!("changed on {role} itself, and undone by a cycle");
    let written = Written { message: text(&facts, &cause, changes, commit), cause, files: changes.len() };
    let recorded = recorded_by(&repository, &snapshot, &facts, &parent, written)?;
    sid.dir().sync_file_system()?;
    Prepared::new(repository, role, recorded, lock).finish().map(Some)
}

fn text(facts: &Facts<'_>, cause: &str, changes: &[String], commit: Option<&str>) -> String {
    let Facts { role, env_version, generation, server, .. } = facts;
    let plain = |text: &str| -> String { text.chars().filter(|c| !is_hidden(*c)).take(LONGEST).collect() };
    let mut text =
        format!("{role} of {} on {server}: {} changed there, and undone\n\n", env_version.dir_name(), changes.len());
    for change in changes.iter().take(LISTED) {
        let _ = writeln!(text, "U {}", plain(change));
    }
    if changes.len() > LISTED {
        let _ = writeln!(text, "and {} more", changes.len() - LISTED);
    }
    if let Some(commit) = commit {
        let _ = writeln!(text, "\nwhat was in them: on {role}, atlas history show {:.12}", plain(commit));
    }
    let _ = write!(
        text,
        "\nServer: {server}\nRole: {role}\nEnvVersion: {}\nGeneration: {generation}\nCause: {cause}\nFiles: {}\nBytes: 0\n",
        env_version.number(),
        changes.len()
    );
    text
}

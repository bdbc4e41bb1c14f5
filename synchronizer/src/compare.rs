//! Snapshot Compare: on PRI, whether a secondary has what it should have [210-214].

use crate::{report::shortened, server::Server};
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, print, print_json};
use atlas_model::{
    EnvVersion, Role, TreePath,
    compare::{What, compare, compare_at},
};
use atlas_sid::{
    SidData,
    accounts::{self, Which},
    lines,
    snapshot::Snapshot,
};
use serde::Serialize;
use std::path::Path;

/// On a secondary, the list of what PRI synchronizes: what the secondary is compared by.
pub(crate) const PRI_LIST: &str = "SyncFilePathsPRI";

/// How one secondary differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Compared {
    /// Whose Snapshot.
    pub(crate) role: Role,
    /// The version at which the two were compared.
    pub(crate) env_version: EnvVersion,
    /// One line per object that is not the same, by path.
    pub(crate) differences: Vec<String>,
}

/// `ssSync compare`.
#[derive(Serialize)]
struct Answer {
    format: u32,
    compared: Vec<Compared>,
}

/// Compares every secondary, or those named, by the Snapshots that lie here.
pub(crate) fn run(common: &Common, only: &[Role]) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    if server.role() != Role::Pri {
        return Err(anyhow::anyhow!("this server is {}", server.role()))
            .hint("run it on PRI, which has every partner's Snapshots");
    }
    let partners = server.config.partners().iter().map(|partner| partner.role);
    let compared: Vec<Compared> = partners
        .filter(|role| only.is_empty() || only.contains(role))
        .map(|role| with(&server.sid, server.env_version(), role))
        .collect::<anyhow::Result<_>>()?;
    let differs = compared.iter().any(|one| !one.differences.is_empty());
    if common.json {
        print_json(&Answer { format: 1, compared })?;
    } else {
        compared.iter().try_for_each(|one| print(tell(one)))?;
    }
    Ok(if differs { Exit::No } else { Exit::Done })
}

fn tell(compared: &Compared) -> String {
    let Compared { role, env_version, differences } = compared;
    if differences.is_empty() {
        return format!("{role}: the same as PRI at {env_version}\n");
    }
    let lines: String = differences.iter().map(|line| format!("  {line}\n")).collect();
    format!("{role}: {} differences from PRI at {env_version}\n{lines}", differences.len())
}

/// Compares PRI's Snapshot with that of `role`, at the older of the two servers' versions.
pub(crate) fn with(sid: &SidData, pri: EnvVersion, role: Role) -> anyhow::Result<Compared> {
    let own = open_newest(sid, role)?;
    let env_version = compare_at(pri, own);
    let dir = |whose: Role| sid.role_dir(whose)?.with_context(|| format!("there is no Snapshot of {whose} here"));
    // Mostly they say the same, which two files tell at once.
    let of_version = |whose: Role| anyhow::Ok(dir(whose)?.dir(env_version.dir_name())?);
    if let (Ok(one), Ok(other)) = (of_version(Role::Pri), of_version(role))
        && lines::differing(&one, &other).is_ok_and(|paths| paths.is_some_and(|paths| paths.is_empty()))
    {
        return Ok(Compared { role, env_version, differences: vec![] });
    }
    let open = |whose: Role| -> anyhow::Result<Snapshot> {
        let dir = dir(whose)?;
        Snapshot::open(&dir, whose, env_version)?.with_context(|| format!("{whose} has no Snapshot for {env_version}"))
    };
    let (pri, secondary) = (open(Role::Pri)?, open(role)?);
    let mut differences = compare(&pri.manifest, &secondary.manifest)?;
    // Accounts are merged, not copied: these files differ on servers that agree.
    let is_accounts = |path: &TreePath| Which::ALL.iter().any(|which| path.as_path() == Path::new(which.path()));
    if differences.iter().any(|one| is_accounts(&one.path))
        && accounts::agree(&accounts::in_snapshot(&pri)?, &accounts::in_snapshot(&secondary)?)
    {
        differences.retain(|one| one.what != What::Differs || !is_accounts(&one.path));
    }
    let lines = differences.iter().map(|difference| match difference.what {
        What::Missing => format!("missing   {}", difference.path),
        What::Added => format!("added     {}", difference.path),
        What::Differs => format!("differs   {}", difference.path),
        What::OnlyNewer(version) => format!("differs   {} (only {version} can say it)", difference.path),
    });
    Ok(Compared { role, env_version, differences: shortened(lines) })
}

fn open_newest(sid: &SidData, role: Role) -> anyhow::Result<EnvVersion> {
    let dir = sid.role_dir(role)?.with_context(|| format!("nothing was received from {role} yet"));
    let newest =
        dir.and_then(|dir| atlas_sid::snapshot::newest(&dir)?.with_context(|| format!("{role} never made a Snapshot")));
    newest.hint("run 'ssSync cycle' on PRI; it says what keeps it from coming")
}

/// The differences in one sentence; none where there is none.
pub(crate) fn summary(compared: &Compared) -> Option<String> {
    let first = compared.differences.first()?;
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(match compared.differences.len() {
        1 => format!("its configuration differs from PRI's in one object: {first}"),
        count => format!("its configuration differs from PRI's in {count} objects, the first: {first}"),
    })
}

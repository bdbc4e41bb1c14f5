//! `ssSync older` and `ssSync newer`: the conversions as commands of their own. A cycle does both by itself.

use crate::server::Server;
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, print, print_json};
use atlas_model::{EnvVersion, Role};
use atlas_sid::convert::{self, Converters};
use serde::Serialize;

#[derive(Serialize)]
struct Answer {
    format: u32,
    converted: Vec<Converted>,
}

#[derive(Serialize)]
struct Converted {
    role: Role,
    to: Vec<EnvVersion>,
    /// What the converters said, for somebody to look at.
    notes: Vec<String>,
}

impl Converted {
    fn of(role: Role, made: convert::Converted) -> Converted {
        Converted { role, to: made.versions, notes: made.notes }
    }
}

const HINT: &str = "see that the converters in /opt/atlas/bin are there and work: atlas-convert check";

/// ConvertToOlder, for this server's Role [190-194].
pub(crate) fn older(common: &Common) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    let (role, env_version) = (server.role(), server.env_version());
    let made = convert::to_older(&Converters::of(&server.path), &server.sid, role, env_version)
        .with_context(|| format!("make the older Snapshots of {role}"))
        .hint(HINT)?;
    tell(common, vec![Converted::of(role, made)])
}

/// ConvertToNewer, for every partner whose Snapshots are here [198-201].
pub(crate) fn newer(common: &Common) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    let mut converted = Vec::new();
    for partner in server.config.partners() {
        if server.sid.role_dir(partner.role)?.is_some() {
            let made =
                convert::to_newer(&Converters::of(&server.path), &server.sid, partner.role, server.env_version())
                    .with_context(|| format!("convert the Snapshot of {}", partner.role))
                    .hint(HINT)?;
            converted.push(Converted::of(partner.role, made));
        }
    }
    tell(common, converted)
}

fn tell(common: &Common, converted: Vec<Converted>) -> anyhow::Result<Exit> {
    if common.json {
        print_json(&Answer { format: 1, converted })?;
        return Ok(Exit::Done);
    }
    for Converted { role, to, notes } in converted {
        let versions: Vec<String> = to.iter().map(ToString::to_string).collect();
        let versions = if versions.is_empty() { "nothing to convert".into() } else { versions.join(", ") };
        let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
        print(format!("{role}: {versions}\n{notes}"))?;
    }
    Ok(Exit::Done)
}

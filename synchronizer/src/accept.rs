//! `ssSync accept`: the one way out of a refusal for disks that are not the ones that a partner remembers.

use crate::server::Server;
use atlas_cli::{Common, Exit, Hint, print, print_json};
use atlas_model::Role;
use atlas_sid::bond::Bond;
use serde::Serialize;

#[derive(Serialize)]
struct Answer {
    format: u32,
    role: Role,
    forgotten: bool,
}

/// Forgets the partner, so that both meet as if for the first time.
pub(crate) fn run(common: &Common, partner: Role, yes: bool) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    if !server.config.partners().iter().any(|known| known.role == partner) {
        return Err(anyhow::anyhow!("{partner} is no partner of {} in MasterConfig", server.role()))
            .hint("name a partner that MasterConfig lists");
    }
    if !yes {
        return Err(anyhow::anyhow!("this makes {} forget which disks it knows {partner} by", server.role())).hint(
            "if one of the two is an old copy, its configuration will go everywhere. When you know that it is not: the same with --yes, on both servers",
        );
    }
    let forgotten = Bond::forget(&server.sid, partner)?;
    if common.json {
        print_json(&Answer { format: 1, role: partner, forgotten })?;
    } else if forgotten {
        print(format!("{partner} will be met as if for the first time\n"))?;
    } else {
        print(format!("{partner} was not remembered; nothing had to be done\n"))?;
    }
    Ok(Exit::Done)
}

//! What a program of ATLAS noticed on this server and nobody has dealt with: a version that was set back, a caller that was
//! refused, a limit that was passed before a run. No check finds these again: each stays until somebody says that it is dealt with.

use crate::{
    here::{self, Faults},
    service::{Service, Target},
};
use atlas_cli::notice::{self, Notice};
use atlas_model::verify::{Fault, MAX_ITEMS, Profile, Verdict};

pub(super) const SERVICE: Service = Service {
    name: "notices",
    about: "what programs noticed on this server is dealt with",
    interval: 30,
    deadline: 10,
    find: |_| Ok(here::found()),
    verify,
};

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let waiting = notice::waiting(&target.root)?;
    let mut faults = Faults::default();
    for (id, notice) in waiting.notices.iter().take(MAX_ITEMS) {
        let hint = format!(
            "on that server: atlas notices, which has it in full; when it is dealt with: atlas notices done {id}"
        );
        faults.add(Fault::new(Verdict::Slow, what(notice), hint).is("notice", &[id]));
    }
    for (id, why) in &waiting.unreadable {
        let hint = format!("look at /{}/{id}.json; atlas notices done {id}", notice::PLACE);
        faults.slow(format!("the notice {id} cannot be read: {why}"), hint);
    }
    Ok(faults.profile("no notice waits"))
}

fn what(Notice { source, title, count, .. }: &Notice) -> String {
    match count {
        0 | 1 => format!("{source}: {title}"),
        count => format!("{source}: {title} ({count} times)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn a_notice_is_told_until_it_is_dealt_with() {
        let server = Server::new();
        server.is_well(&SERVICE);
        for _ in 0..2 {
            notice::send(server.root(), "atlas-module", "oven", "a version of oven was set back", "in full").unwrap();
        }
        let told = "atlas-module: a version of oven was set back (2 times)";
        let profile = server.says(&SERVICE, Verdict::Slow, &[told]);
        assert!(profile.hint.unwrap().contains("atlas notices done atlas-module-oven"));
        notice::done(server.root(), "atlas-module-oven").unwrap();
        server.is_well(&SERVICE);
        server.write("var/lib/atlas/notices/cut.json", "{");
        server.says(&SERVICE, Verdict::Slow, &["the notice cut cannot be read"]);
    }
}

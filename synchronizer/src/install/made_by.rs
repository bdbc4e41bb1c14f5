//! Which rule of a converter made what a service complains of: it is the rule's mistake then, and not PRI's.

use super::source::Source;
use atlas_host::process::Command;
use atlas_model::EnvVersion;
use atlas_sid::layout::UNBOUND_MOUNT;
use std::{path::Path, time::Duration};

/// The program that knows the rules.
const CONVERT: &str = "/opt/atlas/bin/atlas-convert";
/// How long it may look for them.
const DEADLINE: Duration = Duration::from_secs(30);

/// A complaint, with the rules that made what it names, where some did.
pub(super) fn with_rules(root: &Path, source: &Source, env_version: EnvVersion, complaint: String) -> String {
    let newer = EnvVersion::try_from(env_version.number() + 1).ok();
    let ways = [("older", newer, newer), ("newer", Some(env_version), env_version.older())];
    for (direction, newer, from) in ways {
        let (Some(newer), Some(from)) = (newer, from) else { continue };
        if !source.role_dir.stat(from.dir_name().as_ref()).is_ok_and(|there| there.is_some()) {
            continue;
        }
        let snapshot = Path::new("/").join(UNBOUND_MOUNT).join("SID_DATA/PRI").join(from.dir_name());
        let command = Command::new(CONVERT).args(["trace", direction, &newer.number().to_string()]).arg(snapshot);
        let said = command.args(["--", &complaint]).in_root(root).deadline(DEADLINE).run();
        // Who cannot say which rule it was takes nothing from the complaint.
        let rules = said.map(|output| output.text()).unwrap_or_default();
        let rules: Vec<&str> = rules.lines().take(3).collect();
        if !rules.is_empty() {
            return format!("{complaint}; made by the converter: {}", rules.join(", "));
        }
    }
    complaint
}

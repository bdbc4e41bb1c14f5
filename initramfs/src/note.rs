//! Whose identity a server wears, written down after the fact: for a server whose last boot was that of an ATLAS that did not record it.

use crate::{Places, accept, role};
use atlas_host::tree::Dir;
use atlas_model::{
    BootReport, ClusterId, Outcome, TreePath,
    worn::{RoleIdentity, Worn},
};
use atlas_sid::{SidData, SidError, bound::BoundData, snapshot, worn};

/// Writes the record where there is none and the last boot says whose identity it installed; tells what was done.
pub fn note(places: &Places) -> Result<String, String> {
    let root = Dir::open_root(&places.root).map_err(|error| format!("{error}: {}", error.source))?;
    let of_sid = |error: SidError| error.to_string();
    let Some(bound) = role::read_bound(&root).map_err(|refusal| refusal.to_string())? else {
        return Ok("'atlas init' was never run here\n".into());
    };
    let already = worn::read(&root).map_err(of_sid)?;
    if already != Worn::UNKNOWN {
        return Ok("it is written down already\n".into());
    }
    if !places.run.join("atlas/boot.json").exists() {
        return Ok("this server was booted without ATLAS\n".into());
    }
    let report = accept::read_report(places)?;
    let Some(identity) = installed(places, &report, &bound) else {
        return Ok("the last boot does not say whose identity this server wears\n".into());
    };
    let text = format!("this server wears the identity of {identity}\n");
    worn::write(&root, &Worn::of(identity)).map_err(|error| format!("{error}: {}", error.source))?;
    Ok(text)
}

/// The identity that the last boot installed.
fn installed(places: &Places, report: &BootReport, bound: &BoundData) -> Option<RoleIdentity> {
    if report.outcome != Outcome::IdentityInstalled {
        return None;
    }
    let (role, cluster) = (report.role?, report.cluster.as_ref()?.parse::<ClusterId>().ok()?);
    // The set may not be there any more; then its paths are not known.
    let paths = || -> Option<Vec<TreePath>> {
        let sid = SidData::open(&Dir::open_root(places.unbound()).ok()?).ok()?;
        match snapshot::find_identity(&sid.role_dir(role).ok()??, role, bound.env_id).ok()? {
            atlas_sid::Found::Exact(snapshot) | atlas_sid::Found::Older(snapshot) => {
                Some(snapshot.ident_paths.paths().to_vec())
            }
            atlas_sid::Found::FromScratch => None,
        }
    };
    Some(RoleIdentity { role, cluster, set: None, paths: paths().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::worn::Whose;
    use std::{fs, path::Path};

    fn server(root: &Path, outcome: Outcome) -> Places {
        for (path, content) in [("opt/atlas/EnvID", "1\n"), ("opt/atlas/Cluster", "bakery\n")] {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), content).unwrap();
        }
        let report = BootReport {
            outcome,
            role: Some(atlas_model::Role::Pri),
            cluster: Some("bakery".into()),
            ..BootReport::begin("test")
        };
        fs::create_dir_all(root.join("run/atlas")).unwrap();
        fs::write(root.join("run/atlas/boot.json"), serde_json::to_vec(&report).unwrap()).unwrap();
        Places { root: root.into(), run: root.join("run") }
    }

    fn noted(places: &Places) -> Worn {
        note(places).unwrap();
        worn::read(&Dir::open_root(&places.root).unwrap()).unwrap()
    }

    #[test]
    fn a_server_that_runs_with_an_installed_identity_is_noted_as_its_role() {
        let tmp = tempfile::tempdir().unwrap();
        let places = server(tmp.path(), Outcome::IdentityInstalled);
        assert!(matches!(noted(&places).whose, Whose::Of(identity) if identity.role == atlas_model::Role::Pri));
    }

    #[test]
    fn what_the_last_boot_does_not_say_stays_unknown_and_what_is_written_stays() {
        for outcome in [Outcome::FromScratch, Outcome::Refused] {
            let tmp = tempfile::tempdir().unwrap();
            assert_eq!(noted(&server(tmp.path(), outcome)), Worn::UNKNOWN, "{outcome:?}");
        }
        let tmp = tempfile::tempdir().unwrap();
        let places = server(tmp.path(), Outcome::IdentityInstalled);
        worn::write(&Dir::open_root(&places.root).unwrap(), &Worn::OWN).unwrap();
        assert_eq!(noted(&places), Worn::OWN);
    }
}

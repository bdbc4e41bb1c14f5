//! Installs the identity of a Role, as a boot does, and ends: the program whose runs `tests/worn_cuts.rs` cuts off.
//!
//! `wear --root DIR ROLE`: DIR/server is the server's tree, DIR/unbound the Unbound file system.

use atlas_host::tree::Dir;
use atlas_model::{EnvVersion, Role, manifest::FileSet, worn::RoleIdentity};
use atlas_sid::{Found, SidData, install::Plan, snapshot, worn};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, _, dir, role] = args.as_slice() else { return Err("wear --root DIR ROLE".into()) };
    let role: Role = role.parse()?;
    let root = Dir::open_root(Path::new(dir).join("server"))?;
    let sid = SidData::open(&Dir::open_root(Path::new(dir).join("unbound"))?)?;
    let role_dir = sid.role_dir(role)?.ok_or("no such Role")?;
    let Found::Exact(snapshot) = snapshot::find_identity(&role_dir, role, EnvVersion::OLDEST)? else {
        return Err("no Snapshot".into());
    };
    let (was, _) = worn::read_or_unknown(&root)?;
    let paths = snapshot.ident_paths.paths().to_vec();
    let identity =
        RoleIdentity { role, cluster: "bakery".parse()?, set: Some(format!("set of {role}")), paths: paths.clone() };
    let littered = worn::littered(&root, &paths);
    let plan = Plan::make(&root, &snapshot, FileSet::Ident)?;
    let mut staged = if plan.changes().is_empty() { None } else { Some(plan.stage(&root)?) };
    let wears = worn::wear(&root, &was, identity, staged.as_mut())?;
    if let Some(error) = wears.not_recorded {
        return Err(error.into());
    }
    if let Some(staged) = staged {
        staged.discard();
    }
    worn::clean(&littered);
    Ok(())
}

//! Telling people of what was done while nobody watched: a notice (see [`atlas_cli::notice`]), and a line in the system's log.

use crate::{Error, name::ModuleName, store::Store};
use atlas_cli::notice;
use atlas_host::process::Command;

/// Raises an alert about a module.
pub fn raise(store: &Store, module: &ModuleName, text: &str) -> Result<(), Error> {
    if store.root_path() == "/" {
        // The notice is what counts; a server without a log has still been told.
        let _ = Command::new("logger").args(["-p", "daemon.alert", "-t", "atlas-module", text]).run();
    }
    let title = format!("a version of {module} was set back");
    let text = format!("{text}\nsee 'atlas-module history {module}'");
    Ok(notice::send(store.root_path(), "atlas-module", module.as_str(), &title, &text)?)
}

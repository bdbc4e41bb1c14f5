//! `atlas-history`: see [`atlas_synchronizer::history`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: atlas_synchronizer::history::Args = atlas_cli::parse();
    atlas_cli::finish("atlas-history", args.common.json, atlas_synchronizer::history::run(&args))
}

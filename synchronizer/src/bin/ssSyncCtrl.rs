//! `ssSyncCtrl`: see [`atlas_synchronizer::ctrl`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: atlas_synchronizer::ctrl::Args = atlas_cli::parse();
    atlas_cli::finish("ssSyncCtrl", args.common.json, atlas_synchronizer::ctrl::run(&args))
}

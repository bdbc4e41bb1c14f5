//! `ssSyncLoop`: see [`atlas_synchronizer::looped`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: atlas_synchronizer::looped::Args = atlas_cli::parse();
    atlas_cli::finish("ssSyncLoop", args.common.json, atlas_synchronizer::looped::run(&args))
}

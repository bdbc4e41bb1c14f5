//! `ssSync`: takes and keeps Snapshots of this server's configuration.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: atlas_synchronizer::Args = atlas_cli::parse();
    atlas_cli::finish("ssSync", args.common.json, atlas_synchronizer::run(&args))
}

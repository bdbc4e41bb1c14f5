//! `VerifyService`: see [`atlas_verifier::plugin`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: atlas_verifier::plugin::Args = atlas_cli::parse();
    atlas_verifier::plugin::run(&args)
}

//! `VerifierControl`: see [`atlas_verifier::control`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: atlas_verifier::control::Args = atlas_cli::parse();
    atlas_cli::finish("VerifierControl", args.common.json, atlas_verifier::control::run(&args))
}

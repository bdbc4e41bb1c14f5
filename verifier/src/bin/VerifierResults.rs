//! `VerifierResults`: see [`atlas_verifier::show`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: atlas_verifier::show::Args = atlas_cli::parse();
    atlas_cli::finish("VerifierResults", args.common.json, atlas_verifier::show::run(&args))
}

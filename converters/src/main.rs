//! `atlas-convert`: Snapshots of one EnvVersion as another, for people.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = atlas_converters::as_confined() {
        return code;
    }
    let args: atlas_converters::Args = atlas_cli::parse();
    atlas_cli::finish("atlas-convert", args.common.json, atlas_converters::run(&args))
}

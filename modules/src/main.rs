//! `atlas-module`: see the library for what it does, and how.

use std::process::ExitCode;

fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(atlas_module::command).complete();
    let args: atlas_module::args::Args = atlas_cli::parse();
    let json = args.common.json;
    atlas_cli::finish("atlas-module", json, atlas_module::run::run(args))
}

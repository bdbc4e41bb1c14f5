//! `atlas`: the operator's front.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: atlas_console::Args = atlas_cli::parse();
    match atlas_console::run(&args) {
        Err(error) if error.is::<atlas_console::CalledWrongly>() => atlas_console::usage(&args, &error).exit(),
        result => atlas_cli::finish("atlas", args.common.json, result),
    }
}

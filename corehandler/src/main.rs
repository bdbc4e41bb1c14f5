//! ssCoreHandler: cores to signatures.

fn main() -> std::process::ExitCode {
    atlas_corehandler::command::main()
}

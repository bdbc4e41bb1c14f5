//! ssRun: runs a program and keeps its output.

fn main() -> std::process::ExitCode {
    atlas_runner::run::main()
}

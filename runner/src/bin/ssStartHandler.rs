//! ssStartHandler: looks at the server before a program is run.

fn main() -> std::process::ExitCode {
    atlas_runner::start::main()
}

//! `SyncConverter3`: Snapshots between Env2 and Env3.

fn main() -> std::process::ExitCode {
    atlas_converters::sync_converter(3)
}

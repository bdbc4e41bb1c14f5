//! `SyncConverter2`: Snapshots between Env1 and Env2.

fn main() -> std::process::ExitCode {
    atlas_converters::sync_converter(2)
}

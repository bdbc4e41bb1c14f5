//! What somebody should know, put where whatever watches this server looks: see [`atlas_cli::notice`].

use atlas_host::FileError;
use std::path::Path;

/// What somebody should know.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Notice {
    /// In one line.
    pub title: String,
    /// In full.
    pub text: String,
}

impl Notice {
    /// Puts it where it is seen; `key` makes the file's name, and one of the same second and key replaces the other.
    pub fn send(&self, root: &Path, source: &str, key: &str) -> Result<(), FileError> {
        atlas_cli::notice::send(root, source, key, &self.title, &self.text)
    }
}

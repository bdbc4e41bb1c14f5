//! Making one server of an image different from another, before it ever runs: files put onto a copy of its root disk.
//!
//! `debugfs` writes into the file system as it lies in its file, so neither root nor a mount is needed, and no boot is
//! spent on what could be there from the start.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{run, within};

/// A regular file of root's, to be on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedFile {
    /// Absolute path on the server, in a directory that the image has; letters, digits and `/._-@:+` only.
    pub path: String,
    /// Permission bits, such as `0o600`.
    pub mode: u32,
    /// All of its content.
    pub content: Vec<u8>,
}

impl PlacedFile {
    /// A file that everyone may read and root may write.
    #[must_use]
    pub fn new(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        PlacedFile { path: path.into(), mode: 0o644, content: content.into() }
    }

    /// The same file for root's eyes only, as ssh wants its keys.
    #[must_use]
    pub fn secret(mut self) -> Self {
        self.mode = 0o600;
        self
    }
}

/// Writes the files into the ext4 file system in `disk`, replacing those that are there. No machine may be using it.
///
/// # Errors
/// Where a path cannot be taken, its directory is not there, or the file system cannot be written.
pub fn place_files(disk: &Path, files: &[PlacedFile]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let scratch = Scratch::new(disk)?;
    let mut script = String::new();
    for (number, file) in files.iter().enumerate() {
        let path = &file.path;
        ensure!(is_plain(path), "cannot place {path:?}: not an absolute path of letters, digits and /._-@:+");
        let content = scratch.0.join(number.to_string());
        fs::write(&content, &file.content).with_context(|| format!("cannot write {}", content.display()))?;
        let mode = 0o100_000 | (file.mode & 0o7777);
        // debugfs writes only where nothing is; `write` takes a name without its directory's links resolved.
        script += &format!("rm {path}\nwrite {number} {path}\n");
        script += &format!("sif {path} mode 0{mode:o}\nsif {path} uid 0\nsif {path} gid 0\n");
    }
    fs::write(scratch.0.join("script"), script)?;
    let mut command = within(Duration::from_secs(60), "/sbin/debugfs");
    let disk = disk.canonicalize().with_context(|| format!("cannot find {}", disk.display()))?;
    run(command.current_dir(&scratch.0).args(["-w", "-f", "script"]).arg(&disk), "write files onto a disk")?;
    // debugfs reports success whatever happens; what is there now counts.
    files.iter().try_for_each(|file| verify(&disk, file, &scratch.0.join("read-back")))
}

fn verify(disk: &Path, file: &PlacedFile, read_back: &Path) -> Result<()> {
    let mut command = within(Duration::from_secs(60), "/sbin/debugfs");
    let request = format!("dump {} {}", file.path, read_back.display());
    let _ = fs::remove_file(read_back);
    run(command.args(["-R", &request]).arg(disk), "read a file back from a disk")?;
    match fs::read(read_back) {
        Ok(content) if content == file.content => Ok(()),
        _ => bail!("cannot place {} on {}: is its directory there?", file.path, disk.display()),
    }
}

/// `debugfs` splits its commands at blanks and knows quotes; such a path is not worth the trouble.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-@:+".contains(&byte);
    path.starts_with('/') && !path.ends_with('/') && path.bytes().all(plain)
}

/// A directory beside the disk that goes when this does.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(disk: &Path) -> Result<Self> {
        let directory = disk.with_extension(format!("placing-{}", std::process::id()));
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Scratch(directory.canonicalize()?))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn disk(folder: &Path) -> PathBuf {
        let tree = folder.join("tree");
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/hostname"), "nobody\n").unwrap();
        let disk = folder.join("root.img");
        let mut command = within(Duration::from_secs(30), "/sbin/mke2fs");
        command.args(["-q", "-t", "ext4", "-d"]).args([&tree, &disk]).arg("16M");
        run(&mut command, "make a disk").unwrap();
        disk
    }

    fn debugfs(disk: &Path, request: &str) -> String {
        run(within(Duration::from_secs(30), "/sbin/debugfs").args(["-R", request]).arg(disk), "look").unwrap()
    }

    #[test]
    fn placed_files_have_their_content_and_mode_and_leave_the_file_system_sound() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let key = PlacedFile::new("/etc/key", vec![7; 10_000]).secret();
        place_files(&disk, &[PlacedFile::new("/etc/hostname", "pri\n"), key]).unwrap();

        assert_eq!(debugfs(&disk, "cat /etc/hostname"), "pri\n");
        let stat = debugfs(&disk, "stat /etc/key");
        assert!(stat.contains("Mode:  0600") && stat.contains("Type: regular"), "{stat}");
        assert!(stat.contains("User:     0") && stat.contains("Size: 10000"), "{stat}");
        let mut check = within(Duration::from_secs(30), "/sbin/e2fsck");
        run(check.args(["-f", "-n"]).arg(&disk), "check the disk").unwrap();
    }

    #[test]
    fn a_file_whose_directory_is_not_there_is_an_error_and_not_silence() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let message = place_files(&disk, &[PlacedFile::new("/nowhere/x", "1")]).unwrap_err().to_string();
        assert!(message.contains("cannot place /nowhere/x"), "{message}");
    }

    #[test]
    fn a_path_that_debugfs_would_read_as_something_else_is_refused() {
        for path in ["etc/x", "/etc/a b", "/etc/\"x", "/etc/x\nrm /etc/hostname", "/etc/"] {
            assert!(!is_plain(path), "{path:?}");
        }
        assert!(is_plain("/etc/ssh/ssh_host_ed25519_key.pub"));
    }
}

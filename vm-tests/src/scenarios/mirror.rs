//! The file system of a mirror that no server runs, from outside: what is on a member, and faults put there: the first member is written to with
//! debugfs, and becomes the second one, too. A workbench does more, and boots a machine for it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::Disk;
use crate::disk::output_of;

/// Where the superblock of format 1.2 lies on a member.
const SUPERBLOCK: u64 = 4096;

/// The file system on a member.
pub(crate) struct FileSystem {
    /// As debugfs and its library know it: the image, and where in it the file system begins.
    name: PathBuf,
    scratch: tempfile::TempDir,
}

/// Changes what both members of a mirror hold.
pub(crate) fn edit_mirror(members: &mut [Disk], edit: impl FnOnce(&FileSystem) -> Result<()>) -> Result<()> {
    let [first, second] = members else { bail!("a mirror has two members") };
    let (offset, length) = data_area(first)?;
    ensure!((offset, length) == data_area(second)?, "the members are not of one mirror");
    let files = FileSystem::of(first)?;
    files.check().context("it was not in order before")?;
    edit(&files)?;
    second.write_at(offset, &first.read_at(offset, length)?)
}

/// Offset and length of a member's data in bytes, of which its superblock tells in sectors.
pub(crate) fn data_area(member: &Disk) -> Result<(u64, usize)> {
    let block = member.read_at(SUPERBLOCK, 256)?;
    let number = |at: usize| Ok::<_, anyhow::Error>(u64::from_le_bytes(block[at..at + 8].try_into()?));
    ensure!(block[..4] == 0xa92b_4efc_u32.to_le_bytes(), "{} is no member of an array", member.serial());
    Ok((number(128)? * 512, usize::try_from(number(80)? * 512)?))
}

impl FileSystem {
    /// That of a member.
    pub(crate) fn of(member: &Disk) -> Result<FileSystem> {
        let (offset, _) = data_area(member)?;
        let name = PathBuf::from(format!("{}?offset={offset}", member.path().display()));
        Ok(FileSystem { name, scratch: tempfile::tempdir()? })
    }

    /// A copy of that of a member, in a file of its own: e2fsck replays the journal of no other.
    pub(crate) fn copied(member: &Disk) -> Result<FileSystem> {
        let (offset, length) = data_area(member)?;
        let scratch = tempfile::tempdir()?;
        let name = scratch.path().join("file-system");
        let [from, to] = [member.path(), &name].map(Path::display);
        let what = format!("bs=64k iflag=skip_bytes,count_bytes skip={offset} count={length} conv=sparse status=none");
        let arguments: Vec<String> =
            [format!("if={from}"), format!("of={to}")].into_iter().chain(what.split(' ').map(str::to_owned)).collect();
        output_of("dd", &arguments.iter().map(OsStr::new).collect::<Vec<_>>())?;
        // A hole at the end is no part of what was written.
        std::fs::File::options().write(true).open(&name)?.set_len(length as u64)?;
        Ok(FileSystem { name, scratch })
    }

    /// Replays its journal and mends what can be mended without a person's word, as a boot does.
    pub(crate) fn mend(&self) -> Result<()> {
        let output =
            Command::new("/sbin/e2fsck").args(["-f", "-p"]).arg(&self.name).output().context("running e2fsck")?;
        let said = String::from_utf8_lossy(&output.stdout);
        // 1: something was mended.
        let (status, complaint) = (output.status, String::from_utf8_lossy(&output.stderr));
        ensure!(matches!(status.code(), Some(0 | 1)), "it cannot be mended: {status}: {said}{complaint}");
        Ok(())
    }

    /// Copies a directory and all that is in it into another one.
    pub(crate) fn dump(&self, dir: &str, into: &Path) -> Result<()> {
        self.debugfs(&format!("rdump {dir} {}", into.display())).map(drop)
    }

    /// What the file holds.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>> {
        let copy = self.scratch.path().join("read");
        let _ = std::fs::remove_file(&copy);
        self.debugfs(&format!("dump {path} {}", copy.display()))?;
        std::fs::read(&copy).with_context(|| format!("there is no {path} to read"))
    }

    /// Puts other content in the place of a file's.
    pub(crate) fn replace(&self, path: &str, content: &[u8]) -> Result<()> {
        self.remove(path)?;
        self.add(path, content)
    }

    /// Makes a file where none is, and the directories that it needs.
    pub(crate) fn add(&self, path: &str, content: &[u8]) -> Result<()> {
        ensure!(!self.exists(path)?, "{path} is there already");
        let above: Vec<_> = Path::new(path).ancestors().skip(1).map(|dir| dir.display().to_string()).collect();
        for dir in above.iter().rev() {
            if !self.exists(dir)? {
                self.debugfs(&format!("mkdir {dir}"))?;
            }
        }
        let new = self.scratch.path().join("new");
        std::fs::write(&new, content)?;
        self.debugfs(&format!("write {} {path}", new.display()))?;
        ensure!(self.read(path)? == content, "{path} is not what was written");
        Ok(())
    }

    /// Removes a file that is there.
    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        self.read(path)?;
        self.debugfs(&format!("rm {path}"))?;
        ensure!(!self.exists(path)?, "{path} is still there");
        Ok(())
    }

    /// Gives a directory another name, and its own to a link that leads to `target`.
    pub(crate) fn put_link_before(&self, dir: &str, target: &str) -> Result<()> {
        self.debugfs(&format!("ln {dir} {dir}-real"))?;
        self.debugfs(&format!("unlink {dir}"))?;
        self.debugfs(&format!("symlink {dir} {target}"))?;
        let (link, real) = (self.debugfs(&format!("stat {dir}"))?, self.debugfs(&format!("stat {dir}-real"))?);
        ensure!(link.contains("Type: symlink") && real.contains("Type: directory"), "{link}\n{real}");
        Ok(())
    }

    fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.debugfs(&format!("stat {path}"))?.contains("Inode:"))
    }

    /// Has debugfs do something, which reports success whatever happens: whoever asks looks whether it was done.
    pub(crate) fn debugfs(&self, request: &str) -> Result<String> {
        output_of("/sbin/debugfs", &["-w".as_ref(), "-R".as_ref(), request.as_ref(), self.name.as_ref()])
    }

    /// Has it checked without mending anything; fails where there would be something to mend.
    pub(crate) fn check(&self) -> Result<String> {
        output_of("/sbin/e2fsck", &["-f".as_ref(), "-n".as_ref(), self.name.as_ref()])
    }
}

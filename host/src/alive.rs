//! Whether a disk still answers: one block, read past the page cache, by a thread of its own.
//!
//! A read of a dead disk may take minutes, or for ever, and nothing can end it. So it happens in a thread that is waited for by nobody; who
//! watches learns of its end by a message, or of its absence by the clock.

use crate::block;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::mpsc::{Sender, SyncSender, TrySendError, sync_channel},
    thread,
};

/// The threads do nothing but read one block.
const STACK: usize = 64 << 10;

/// A read that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The device.
    pub device: String,
    /// Which reader of it: one that was given up may speak late.
    pub reader: u64,
    /// Whether the block was read.
    pub well: bool,
}

/// Reads one device.
#[derive(Debug)]
pub struct Reader {
    /// Which one it is, as [`Ended`] tells.
    pub number: u64,
    ask: SyncSender<()>,
}

impl Reader {
    /// A reader of `/dev/DEVICE`, or of that name below another directory, which tells `ended` about each read.
    pub fn start(dev: &Path, device: &str, number: u64, ended: Sender<Ended>) -> io::Result<Reader> {
        let (ask, asked) = sync_channel::<()>(1);
        let (path, device) = (dev.join(device), device.to_owned());
        thread::Builder::new().name(format!("read-{device}")).stack_size(STACK).spawn(move || {
            let mut file = None;
            while asked.recv().is_ok() {
                let well = read(&path, &mut file).is_ok();
                if ended.send(Ended { device: device.clone(), reader: number, well }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Reader { number, ask })
    }

    /// Asks for one read. `false`: the one before has not ended.
    pub fn ask(&self) -> bool {
        !matches!(self.ask.try_send(()), Err(TrySendError::Full(())))
    }
}

/// The file is opened once: what comes back under the same name later is another disk.
fn read(path: &Path, file: &mut Option<File>) -> io::Result<()> {
    if file.is_none() {
        *file = Some(block::open_direct(path)?);
    }
    file.as_ref().map_or(Ok(()), |file| block::read_block(file, 0).map(drop))
}

/// What the kernel knows a disk by, beyond its name: another one in the same bay differs. `None`: there is none of that name.
pub fn identity(sys: &Path, device: &str) -> Option<String> {
    let place = std::fs::canonicalize(sys.join("class/block").join(device)).ok()?;
    let sequence = |at: PathBuf| std::fs::read_to_string(at).ok();
    // A partition's lies with its disk. Kernels before 5.15 do not count.
    let sequence = sequence(place.join("diskseq")).or_else(|| sequence(place.join("../diskseq")));
    Some(format!("{} {}", place.display(), sequence.unwrap_or_default().trim()))
}

/// Keeps this program and all that it will use in memory: it has to act when no disk answers any more.
pub fn stay_in_memory() -> io::Result<()> {
    use nix::sys::mman::{MlockAllFlags, mlockall};
    Ok(mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc::channel, time::Duration};

    #[test]
    fn a_disk_answers_until_it_is_gone_and_one_that_comes_back_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("vdb");
        std::fs::write(&image, vec![0; 8192]).unwrap();
        let (ended, told) = channel();
        let reader = Reader::start(dir.path(), "vdb", 7, ended).unwrap();
        let read = || {
            assert!(reader.ask());
            told.recv_timeout(Duration::from_secs(10)).unwrap()
        };
        let well = |well| Ended { device: "vdb".into(), reader: 7, well };
        assert_eq!(read(), well(true));
        File::options().write(true).open(&image).unwrap().set_len(0).unwrap();
        assert_eq!(read(), well(false));
        std::fs::remove_file(&image).unwrap();
        std::fs::write(&image, vec![0; 8192]).unwrap();
        assert_eq!(read(), well(false));
    }

    #[test]
    fn a_reader_that_hangs_takes_one_question_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        // A pipe that nobody writes to: it cannot even be opened.
        nix::unistd::mkfifo(&dir.path().join("vdb"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (ended, told) = channel();
        let reader = Reader::start(dir.path(), "vdb", 1, ended).unwrap();
        assert!(reader.ask());
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while reader.ask() && std::time::Instant::now() < until {
            thread::yield_now();
        }
        assert!(!reader.ask());
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn another_disk_in_the_same_place_differs() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("devices/vdb");
        std::fs::create_dir_all(place.join("vdb1")).unwrap();
        std::fs::create_dir_all(dir.path().join("class/block")).unwrap();
        std::os::unix::fs::symlink(&place, dir.path().join("class/block/vdb")).unwrap();
        std::os::unix::fs::symlink(place.join("vdb1"), dir.path().join("class/block/vdb1")).unwrap();
        let seen = |number: &str| {
            std::fs::write(place.join("diskseq"), number).unwrap();
            ["vdb", "vdb1"].map(|device| identity(dir.path(), device).unwrap())
        };
        let (before, after) = (seen("3\n"), seen("4\n"));
        assert!(before[0] != after[0] && before[1] != after[1] && before[0].ends_with("vdb 3"), "{before:?}");
        assert_eq!(identity(dir.path(), "vdc"), None);
    }
}

//! Where a configuration stands: a root file system of its own over that of a release, with a network in which a partner is.
//!
//! ```text
//!  ROOM/up, work   what was changed          ROOM/m    the server: the release's root file system below it
//!  ROOM/run        its /run                  ROOM/sec  the tree of its partner, in another network, at 10.77.0.2
//!  ROOM/out/NAME   what a step printed       ROOM/go   made by us: steps that wait for it
//! ```
//!
//! All of it is gone, and everything that ran there has ended, when the room is dropped.

use super::case::Case;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A room.
pub struct Room {
    dir: tempfile::TempDir,
    process: Option<Child>,
}

/// Puts up the room of `$W`, over `$ROOT`, with the programs in `$PROGRAMS`.
const FURNISH: &str = r#"
mount --make-rprivate /
mount -t proc proc /proc
mount -t overlay overlay -o "lowerdir=$ROOT,upperdir=$W/up,workdir=$W/work" "$W/m"
mount -t proc proc "$W/m/proc"
mount --rbind /dev "$W/m/dev"
mount --bind "$W/run" "$W/m/run"
mkdir -p "$W/m/run/atlas" "$W/m/opt/atlas/programs" "$W/m/mirror"
mount --bind "$PROGRAMS" "$W/m/opt/atlas/programs"
mount --bind "$W/m" "$W/m/mirror"
ip link set lo up
in_root() { chroot "$W/m" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C HOME=/root /bin/sh -ec "$1"; }
"#;

impl Room {
    /// Begins to run `script` in a room where the files of `case` are.
    pub fn open(root: &Path, programs: &Path, case: &Case, script: &str) -> Room {
        let dir = tempfile::Builder::new().prefix("atlas-corpus-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["up", "work", "m", "run", "sec", "out", "files"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        for (path, content) in &case.files {
            let path = dir.path().join("files").join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let log = fs::File::create(dir.path().join("out/log")).unwrap();
        let process = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-euc"])
            .arg(format!("{FURNISH}{script}"))
            .env("W", dir.path())
            .env("ROOT", root)
            .env("PROGRAMS", programs)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Room { dir, process: Some(process) }
    }

    /// Waits for the end of the script; says whether it was a good one.
    pub fn ends(&mut self) -> bool {
        self.process.take().unwrap().wait().unwrap().success()
    }

    /// A path in the room.
    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// What is in a file of the room; empty where it is not there.
    pub fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.at(path)).unwrap_or_default()).into_owned()
    }

    /// Waits until something is so, or the script has ended, or the time is over; says whether it became so.
    pub fn until(&mut self, time: Duration, mut is_so: impl FnMut(&Room) -> bool) -> bool {
        let end = Instant::now() + time;
        loop {
            if is_so(self) {
                return true;
            }
            let ended = self.process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if ended || Instant::now() > end {
                return is_so(self);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Its child, the first process of the room, ends with it, and with that one all others.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

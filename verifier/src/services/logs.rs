//! Logs: they can be written, do not fill the disk, and are rotated [441].
//!
//! ```text
//! /var/log/.atlas-verify    written and removed again: what cannot be logged is found out only when it is needed
//! /var/log/**               how much of its file system they take, and which file takes most
//! /var/lib/logrotate/status when they were rotated last
//! ```

use crate::{
    here::{self, Faults},
    service::{Service, Target},
};
use atlas_host::tree::Dir;
use atlas_model::verify::{Profile, Worse};
use nix::sys::statvfs::statvfs;
use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

pub(super) const SERVICE: Service = Service {
    name: "logs",
    about: "logs can be written, do not fill the disk, and are rotated",
    interval: 60,
    deadline: 30,
    find: |_| Ok(here::found()),
    verify,
};

const LOGS: &str = "var/log";
/// Written and removed again.
const PROBE: &str = ".atlas-verify";
/// As much as a log writes at once; a disk without a free block refuses it.
const PROBE_BYTES: [u8; 8192] = [b'\n'; 8192];
/// How much of their file system logs take, in percent: slow, unacceptable.
const SHARE: (f64, f64) = (40.0, 80.0);
/// One log as large as this is written by something that does not stop, in MiB.
const LARGEST: f64 = 4096.0;
/// The most files that are counted.
const MAX_FILES: usize = 50_000;
/// Rotation is daily.
const NOT_ROTATED: Duration = Duration::from_secs(3 * 86_400);
/// A server that was off does it within a day.
const CATCHING_UP: f64 = 86_400.0;

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let mut faults = Faults::default();
    if !here::is_there(&target.root, LOGS) {
        faults.unacceptable(
            "/var/log is not there: nothing can be logged",
            "mkdir -m 755 /var/log; systemd-tmpfiles --create",
        );
        return Ok(faults.profile(""));
    }
    if let Err(why) = write(&target.root) {
        faults.unacceptable(
            format!("nothing can be logged: {why}"),
            "df -h /var/log; df -i /var/log; findmnt -T /var/log",
        );
    }
    sizes(target, &mut faults)?;
    rotation(&target.root, &mut faults);
    Ok(faults.profile("logs can be written"))
}

/// Writes as a log is written. The error is a sentence.
fn write(root: &Path) -> Result<(), String> {
    let told = |error: &dyn std::error::Error| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let dir = Dir::open_root(root).and_then(|root| root.dir(LOGS)).map_err(|error| told(&error))?;
    let probe = OsStr::new(PROBE);
    // One that was cut off may have left it.
    dir.remove(probe).map_err(|error| told(&error))?;
    let mut file = dir.create_new(PROBE, 0o600).map_err(|error| told(&error))?;
    let written = file.write_all(&PROBE_BYTES).map_err(|error| format!("/var/log cannot be written to: {error}"));
    dir.remove(probe).map_err(|error| told(&error))?;
    written
}

fn sizes(target: &Target, faults: &mut Faults) -> anyhow::Result<()> {
    let dir = target.root.join(LOGS);
    let (all, largest) = total(&dir);
    if let Some((path, bytes)) = largest {
        let shown = Path::new("/").join(path.strip_prefix(&target.root).unwrap_or(&path));
        let mib = (bytes as f64 / f64::from(1 << 20)).round();
        let measure = target.measure("largest", mib, "MiB", (Some(LARGEST), None), Worse::Higher)?;
        let hint = format!(
            "tail {0}; see what writes it (lsof {0}) and how it is rotated (/etc/logrotate.d)",
            shown.display()
        );
        faults.measure(measure, &format!("{} grows without end", shown.display()), &hint);
    }
    if let Ok(stat) = statvfs(&dir) {
        let room = stat.blocks().saturating_mul(stat.fragment_size()).max(1);
        let percent = (all as f64 * 1000.0 / room as f64).round() / 10.0;
        let measure = target.measure("share", percent, "%", (Some(SHARE.0), Some(SHARE.1)), Worse::Higher)?;
        faults.measure(
            measure,
            "logs fill their file system",
            "du -xh /var/log | sort -h | tail; journalctl --vacuum-size=500M",
        );
    }
    Ok(())
}

/// Bytes that all logs take on the disk, and the largest one.
fn total(dir: &Path) -> (u64, Option<(PathBuf, u64)>) {
    use std::os::unix::fs::MetadataExt;
    let (mut queue, mut all, mut left) = (vec![dir.to_owned()], 0_u64, MAX_FILES);
    let mut largest: Option<(PathBuf, u64)> = None;
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            // Of the entry itself: a link is not followed.
            let Ok(meta) = entry.metadata() else { continue };
            if left == 0 {
                return (all, largest);
            }
            left -= 1;
            if meta.is_dir() {
                queue.push(entry.path());
                continue;
            }
            // A file with holes, as lastlog, takes less than it is long.
            let bytes = meta.blocks().saturating_mul(512);
            all = all.saturating_add(bytes);
            if largest.as_ref().is_none_or(|(_, most)| bytes > *most) {
                largest = Some((entry.path(), bytes));
            }
        }
    }
    (all, largest)
}

/// Whether whoever rotates logs still does.
fn rotation(root: &Path, faults: &mut Faults) {
    let is_on = ["etc/systemd/system/timers.target.wants/logrotate.timer", "etc/cron.daily/logrotate"]
        .iter()
        .any(|path| std::fs::symlink_metadata(root.join(path)).is_ok());
    let last = std::fs::metadata(root.join("var/lib/logrotate/status")).and_then(|meta| meta.modified());
    let Ok(last) = last else { return };
    let age = SystemTime::now().duration_since(last).unwrap_or_default();
    if is_on && age > NOT_ROTATED && here::uptime(root).is_none_or(|uptime| uptime > CATCHING_UP) {
        faults.slow(
            format!("logs were rotated {} ago, which should happen every day", here::duration(age.as_secs())),
            "systemctl status logrotate.timer logrotate.service; logrotate --debug /etc/logrotate.conf",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::verify::Verdict;
    use std::fs::File;

    fn server() -> Server {
        let server = Server::new();
        server.write("var/log/syslog", "all is well\n");
        server.write("var/log/nginx/access.log", "GET /\n");
        server
    }

    #[test]
    fn logs_that_can_be_written_are_well_and_nothing_is_left_behind() {
        let server = server();
        server.is_well(&SERVICE);
        assert_eq!(here::names(server.root(), LOGS), ["nginx", "syslog"]);
        // What was left by one that was cut off is no obstacle.
        server.write("var/log/.atlas-verify", "");
        server.is_well(&SERVICE);
        assert_eq!(here::names(server.root(), LOGS), ["nginx", "syslog"]);
    }

    #[test]
    fn logs_that_cannot_be_written_are_told() {
        let server = server();
        server.remove("var/log");
        server.says(&SERVICE, Verdict::Unacceptable, &["/var/log is not there"]);
        server.write("var/log", "a file");
        server.says(&SERVICE, Verdict::Unacceptable, &["nothing can be logged", "Not a directory"]);
        // What cannot be replaced cannot be written: root may write anywhere else in a test.
        server.remove("var/log");
        server.write("var/log/.atlas-verify/x", "");
        server.says(&SERVICE, Verdict::Unacceptable, &["nothing can be logged", "var/log/.atlas-verify"]);
    }

    #[test]
    fn a_log_that_grows_without_end_is_named() {
        let mut server = server();
        server.options = vec![("largest-slow", "2"), ("share-slow", "101")];
        server.write("var/log/nginx/error.log", &"e".repeat(3 << 20));
        // As long, with nothing in it.
        File::create(server.root().join("var/log/lastlog")).unwrap().set_len(1 << 30).unwrap();
        server.says(&SERVICE, Verdict::Slow, &["/var/log/nginx/error.log grows", "3 MiB"]);
        server.options = vec![("share-slow", "-1")];
        server.says(&SERVICE, Verdict::Slow, &["logs fill their file system"]);
    }

    #[test]
    fn logs_that_are_no_longer_rotated_are_told() {
        let server = server();
        server.write("proc/uptime", "900000.0 1.0\n");
        server.write("etc/cron.daily/logrotate", "");
        server.write("var/lib/logrotate/status", "logrotate state\n");
        server.is_well(&SERVICE);
        let old = SystemTime::now() - Duration::from_secs(5 * 86_400);
        let status = || File::options().write(true).open(server.root().join("var/lib/logrotate/status")).unwrap();
        status().set_modified(old).unwrap();
        server.says(&SERVICE, Verdict::Slow, &["rotated 5 days ago"]);
        server.write("proc/uptime", "900.0 1.0\n");
        server.is_well(&SERVICE);
        server.write("proc/uptime", "900000.0 1.0\n");
        server.remove("etc/cron.daily/logrotate");
        server.is_well(&SERVICE);
    }
}

//! What the server is like now, from `/proc` and the file systems.
//!
//! Rates need two looks: the last one is kept in `/run/atlas/start-handler.json`, so that nobody waits for the second.

use crate::copies;
use atlas_host::{
    durable,
    tree::{Dir, Rename},
};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};
use procfs::FromRead;
use std::{
    ffi::OsStr,
    path::Path,
    time::{Duration, SystemTime},
};

/// A file system.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Disk {
    /// Where it was looked at.
    pub path: String,
    /// Space that is free, in percent.
    pub free_percent: f64,
    /// Inodes that are free, in percent; none where the file system makes them as needed.
    pub inodes_free_percent: Option<f64>,
}

/// All measures; none where one could not be taken.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Measured {
    /// Processes that run this program, each for an ssRun that waits for it.
    pub copies: Vec<i32>,
    /// Load of one minute per CPU.
    pub load_per_cpu: Option<f64>,
    /// Memory that is available.
    pub memory_available_percent: Option<f64>,
    /// Swap in use.
    pub swap_used_percent: Option<f64>,
    /// Pages read because they were missing, per second, since the last look.
    pub paging_per_second: Option<f64>,
    /// File handles in use, of what the kernel allows.
    pub file_handles_percent: Option<f64>,
    /// The file systems.
    pub disks: Vec<Disk>,
}

/// Looks that are nearer to each other give no rate.
const NEAREST: Duration = Duration::from_secs(1);

/// Takes all measures below `root`.
pub fn now(root: &Path, program: &str, paths: &[String]) -> Measured {
    let proc = root.join("proc");
    let memory = procfs::Meminfo::from_file(proc.join("meminfo")).ok();
    let percent = |part: u64, whole: u64| (whole > 0).then(|| part as f64 * 100.0 / whole as f64);
    Measured {
        // Where nobody can tell, none is known.
        copies: copies::running(root, program).unwrap_or_default(),
        load_per_cpu: procfs::LoadAverage::from_file(proc.join("loadavg"))
            .ok()
            .map(|load| f64::from(load.one) / cpus()),
        memory_available_percent: memory.as_ref().and_then(|memory| percent(memory.mem_available?, memory.mem_total)),
        swap_used_percent: memory
            .as_ref()
            .and_then(|memory| percent(memory.swap_total.saturating_sub(memory.swap_free), memory.swap_total)),
        paging_per_second: paging(root, &proc),
        file_handles_percent: file_handles(&proc),
        disks: paths.iter().filter_map(|path| disk(root, path)).collect(),
    }
}

/// Those that this program may run on. What else bounds it, as a quota does, says nothing of the server's load.
fn cpus() -> f64 {
    let may_run = sched_getaffinity(Pid::from_raw(0)).ok();
    let count = may_run.map(|set| (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).count());
    count.filter(|count| *count > 0).map_or(1.0, |count| count as f64)
}

fn file_handles(proc: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(proc.join("sys/fs/file-nr")).ok()?;
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [used, free, most] = numbers[..] else { return None };
    (most > 0.0).then(|| (used - free) * 100.0 / most)
}

fn disk(root: &Path, path: &str) -> Option<Disk> {
    // One that is not there is not mounted here: the Verifier's business, not ours.
    let stat = nix::sys::statvfs::statvfs(&root.join(path.trim_start_matches('/'))).ok()?;
    let percent = |part: u64, whole: u64| (whole > 0).then(|| part as f64 * 100.0 / whole as f64);
    Some(Disk {
        path: path.to_owned(),
        free_percent: percent(stat.blocks_available(), stat.blocks())?,
        inodes_free_percent: percent(stat.files_available(), stat.files()),
    })
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Look {
    format: u32,
    time: f64,
    pages: u64,
}

/// The rate since the last look, which this one then is. One that is too near is left as it is, and costs nothing more.
fn paging(root: &Path, proc: &Path) -> Option<f64> {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    let dir = Dir::open_root(root).and_then(|root| root.make_dirs("run/atlas")).ok()?;
    let name = OsStr::new("start-handler.json");
    let last = dir.read_if_there(name, 4096).ok().flatten();
    let last: Option<Look> = last.and_then(|content| serde_json::from_slice(&content).ok());
    let since = last.as_ref().map(|last| time - last.time);
    // A clock that was set back, or a boot since then, begins anew.
    if since.is_some_and(|since| (0.0..NEAREST.as_secs_f64()).contains(&since)) {
        return None;
    }
    let pages = pages_read(proc)?;
    let content = serde_json::to_vec(&Look { format: 1, time, pages }).unwrap_or_default();
    // In memory, and nothing after a boot: it need not last. One that cannot be kept costs the next its rate.
    let temp = durable::temp_name();
    let _ = durable::put(&dir, &temp, &content, 0o644).and_then(|()| dir.rename(&temp, &dir, name, Rename::Replace));
    let (last, since) = (last?, since?);
    let read = pages.checked_sub(last.pages).filter(|_| since > 0.0)?;
    Some(read as f64 / since)
}

/// How many pages have been read because they were missing, since the boot.
fn pages_read(proc: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(proc.join("vmstat")).ok()?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse::<u64>().ok()
    };
    Some(value("pswpin").unwrap_or(0) + value("pgmajfault")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_read_from_a_tree() {
        let tmp = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = tmp.path().join("proc").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("loadavg", "6.00 0.1 0.1 1/100 77\n");
        put("sys/fs/file-nr", "850\t0\t1000\n");
        put("vmstat", "pgmajfault 100\npswpin 20\n");
        let _runs = copies::count(tmp.path(), "ssSync", 10).unwrap();
        let measured = now(tmp.path(), "ssSync", &["/".into(), "/nowhere".into()]);
        assert_eq!(measured.copies, [10]);
        assert_eq!(measured.load_per_cpu, Some(6.0 / cpus()));
        assert_eq!(measured.file_handles_percent, Some(85.0));
        assert_eq!(
            (measured.paging_per_second, measured.disks.len(), measured.memory_available_percent),
            (None, 1, None)
        );
    }

    #[test]
    fn paging_is_the_rate_since_the_last_look() {
        let tmp = tempfile::tempdir().unwrap();
        let proc = tmp.path().join("proc");
        std::fs::create_dir_all(&proc).unwrap();
        std::fs::create_dir_all(tmp.path().join("run/atlas")).unwrap();
        std::fs::write(proc.join("vmstat"), "pgmajfault 1100\npswpin 0\n").unwrap();
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64() - 10.0;
        let last = serde_json::to_vec(&Look { format: 1, time, pages: 100 }).unwrap();
        std::fs::write(tmp.path().join("run/atlas/start-handler.json"), last).unwrap();
        let rate = paging(tmp.path(), &proc).unwrap();
        assert!((90.0..=100.0).contains(&rate), "{rate}");
    }
}

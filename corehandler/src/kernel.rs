//! The kernel's own crashes, as pstore and kdump keep them: the log's last lines become entries with signatures of their own.
//!
//! ```text
//! /sys/fs/pstore/dmesg-…                          what the firmware kept, until systemd-pstore takes it away
//! /var/lib/systemd/pstore/ID/dmesg-…              the parts that it took
//!                            dmesg.txt            all of them, in order
//! /var/crash/202611210900/dmesg.202611210900      kdump's
//! ```
//!
//! One crash may lie in several of them: it is counted once, by the time that the kernel gave it.

use crate::signature::Strength;
use atlas_host::{FileError, tree::Dir};
use regex_lite::Regex;
use sha2::{Digest, Sha256};
use std::{
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// The largest log that is read, in bytes.
const LOG_LIMIT: u64 = 16 << 20;
const NAMES_LIMIT: usize = 10_000;
/// How much of a line is kept, in characters.
const MOMENT_LIMIT: usize = 200;
/// Where such logs lie.
const PLACES: [&str; 3] = ["sys/fs/pstore", "var/lib/systemd/pstore", "var/crash"];
/// What systemd-pstore makes of the parts that lie beside it: a part alone may begin in the middle of a traceback.
const WHOLE: &str = "dmesg.txt";
/// What a function's name can end with that a compiler added.
const CLONE: [&str; 6] = [".cold", ".isra", ".constprop", ".part", ".llvm", ".lto_priv"];

/// A crash that a kernel log tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelCrash {
    /// SHA-256 of `text`.
    pub signature: String,
    /// How sure it is.
    pub strength: Strength,
    /// What was hashed: as for programs.
    pub text: String,
    /// The line that told of it first, with the time since that boot; none where the kernel wrote no times.
    pub moment: Option<String>,
}

/// Reads the first crash of a kernel log; `None` where it tells of none.
pub fn parse(log: &str) -> Option<KernelCrash> {
    let stamp = Regex::new(r"^(<\d+>)?\s*((\[[^\]]*\]\s*)*)").ok()?;
    let lines: Vec<&str> = log.lines().map(|line| &line[stamp.find(line).map_or(0, |found| found.end())..]).collect();
    let start = lines.iter().position(|line| kind(line).is_some())?;
    let stamped = log.lines().nth(start).and_then(|line| stamp.captures(line)?.get(2));
    let moment = stamped.map(|time| format!("{}{}", time.as_str(), lines[start])).filter(|line| line.starts_with('['));
    let moment = moment.map(|line| line.chars().take(MOMENT_LIMIT).collect());
    let kind = kind(lines[start])?;
    let lines = &lines[start..];
    let mut frames: Vec<String> = Vec::new();
    let at_fault =
        lines.iter().find_map(|line| function(line.strip_prefix("RIP: 0010:").or(line.strip_prefix("RIP: 0018:"))?));
    frames.extend(at_fault);
    let trace = lines.iter().position(|line| line.starts_with("Call Trace:")).unwrap_or(lines.len());
    for line in lines.iter().skip(trace + 1) {
        let line = line.trim();
        if line.starts_with('<') {
            if line.starts_with("</TASK") {
                break;
            }
            continue;
        }
        // "? " marks what only looks like a return address.
        if line.starts_with("? ") {
            continue;
        }
        let Some(name) = function(line) else { break };
        if is_entry(&name) {
            break;
        }
        if !is_machinery(&name) && frames.last() != Some(&name) {
            frames.push(name);
        }
    }
    let strength = if frames.is_empty() { Strength::Weak } else { Strength::Strong };
    let text = format!(
        "{}\nprogram kernel\n{kind}\n{}",
        strength.name(),
        frames.iter().map(|f| format!("{f}\n")).collect::<String>()
    );
    let signature = crate::space::hex(&Sha256::digest(text.as_bytes()));
    Some(KernelCrash { signature, strength, text, moment })
}

/// What a line says that only a crash says; addresses and numbers left out.
fn kind(line: &str) -> Option<&'static str> {
    let kinds = [
        ("BUG: kernel NULL pointer dereference", "null pointer"),
        ("BUG: unable to handle", "bad address"),
        ("BUG: stack guard page", "stack overflow"),
        ("general protection fault", "general protection"),
        ("kernel BUG at", "BUG"),
        ("invalid opcode:", "invalid opcode"),
        ("divide error:", "arithmetic"),
        ("BUG: soft lockup", "soft lockup"),
        ("watchdog: BUG: soft lockup", "soft lockup"),
        ("watchdog: hard LOCKUP", "hard lockup"),
        ("INFO: task", "hung task"),
        ("Kernel panic - not syncing: Out of memory", "out of memory"),
        ("Kernel panic - not syncing", "panic"),
        ("Oops:", "oops"),
    ];
    // From 6.10 on "Oops: " stands before what earlier kernels began the line with.
    let told = line.strip_prefix("Oops: ").unwrap_or(line);
    kinds.into_iter().find(|(text, _)| told.starts_with(text) || line.starts_with(text)).map(|(_, kind)| kind)
}

/// `do_it.cold+0x12/0x80 [module]` is `do_it`.
fn function(text: &str) -> Option<String> {
    let (name, offset) = text.split_once("+0x")?;
    if name.is_empty() || name.contains(' ') || !offset.contains("/0x") {
        return None;
    }
    let end = CLONE.iter().filter_map(|clone| name.find(clone)).min().unwrap_or(name.len());
    Some(name[..end].to_owned())
}

fn is_machinery(name: &str) -> bool {
    let names = [
        "dump_stack",
        "show_stack",
        "__die",
        "die",
        "oops_end",
        "panic",
        "page_fault_oops",
        "exc_page_fault",
        "asm_exc_page_fault",
    ];
    names.contains(&name)
        || name.starts_with("dump_stack")
        || name.starts_with("asm_exc_")
        || name.starts_with("exc_")
        || name.starts_with("__warn")
        || name.starts_with("report_bug")
        || name.starts_with("handle_bug")
        || name.starts_with("do_user_addr_fault")
}

fn is_entry(name: &str) -> bool {
    name.starts_with("do_syscall")
        || name.starts_with("entry_SYSCALL")
        || name.starts_with("ret_from_fork")
        || name.starts_with("x64_sys_call")
        || name.starts_with("__x64_sys_")
}

/// A kernel log that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where it lies, below the root.
    pub path: PathBuf,
    /// What tells it from every other.
    pub mark: String,
    /// When it was written, in seconds since 1970.
    pub time: u64,
}

/// The kernel logs that lie below `root`.
pub fn logs(root: &Dir) -> Result<Vec<Log>, FileError> {
    let mut found = Vec::new();
    for place in PLACES {
        match root.dir(place) {
            Ok(dir) => look(&dir, Path::new(place), 2, &mut found)?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn look(dir: &Dir, path: &Path, depth: usize, found: &mut Vec<Log>) -> Result<(), FileError> {
    let names = dir.names(NAMES_LIMIT)?;
    let has_whole = names.iter().any(|name| name == WHOLE);
    for name in names {
        let Some(stat) = dir.stat(&name)? else { continue };
        match stat.st_mode & nix::libc::S_IFMT {
            nix::libc::S_IFDIR if depth > 0 => look(&dir.dir(&name)?, &path.join(&name), depth - 1, found)?,
            nix::libc::S_IFREG if name.to_string_lossy().starts_with("dmesg") && (!has_whole || name == WHOLE) => {
                let mark = format!("kernel:{}:{}:{}", stat.st_ino, stat.st_mtime, stat.st_size);
                let time = u64::try_from(stat.st_mtime).unwrap_or(0);
                found.push(Log { path: path.join(&name), mark, time });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads a log, its end where it is too long.
pub fn read(root: &Dir, path: &Path) -> Result<String, FileError> {
    let mut file = root.file(path)?;
    let mut bytes = Vec::new();
    let too_much = file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(LOG_LIMIT);
    let read = file.seek(SeekFrom::Start(too_much)).and_then(|_| file.take(LOG_LIMIT).read_to_end(&mut bytes));
    read.map_err(FileError::on("read", root.show(path)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "<1>[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000010
<1>[   12.345679] #PF: supervisor read access in kernel mode
<4>[   12.345680] Oops: 0000 [#1] PREEMPT SMP NOPTI
<4>[   12.345681] CPU: 1 PID: 77 Comm: sh Not tainted 6.1.0-13-amd64
<4>[   12.345682] RIP: 0010:md_do_sync.cold+0x30/0x1500 [md_mod]
<4>[   12.345683] Call Trace:
<4>[   12.345684]  <TASK>
<4>[   12.345685]  ? __die_body.cold+0x1a/0x1f
<4>[   12.345686]  md_thread+0xab/0x190 [md_mod]
<4>[   12.345687]  kthread+0xd7/0x100
<4>[   12.345688]  ret_from_fork+0x1f/0x30
<4>[   12.345689]  </TASK>
";

    #[test]
    fn one_oops_has_one_signature_whatever_the_addresses() {
        let here = parse(LOG).unwrap();
        assert_eq!(here.text, "strong\nprogram kernel\nnull pointer\nmd_do_sync\nmd_thread\nkthread\n");
        let there = LOG
            .replace("0x30/0x1500", "0x99/0x1777")
            .replace("12.34", "99.12")
            .replace("md_do_sync.cold", "md_do_sync");
        assert_eq!(parse(&there).unwrap().signature, here.signature);
        assert_ne!(parse(&LOG.replace("md_thread", "raid1d")).unwrap().signature, here.signature);
        // kdump's text has no levels, and is of the same crash.
        let bare = LOG.replace("<1>", "").replace("<4>", "");
        assert_eq!(parse(&bare), Some(here.clone()));
        assert!(here.moment.unwrap().starts_with("[   12.345678] BUG: kernel NULL"));
    }

    /// What the kernels of Debian 12 and 13 wrote when they were told to crash, in virtual machines: `echo c > /proc/sysrq-trigger`.
    const TOLD_TO_CRASH: [&str; 2] =
        [include_str!("../tests/kernel/debian-12.txt"), include_str!("../tests/kernel/debian-13.txt")];

    #[test]
    fn two_releases_kernels_that_crash_alike_have_one_signature() {
        let [twelve, thirteen] = TOLD_TO_CRASH.map(|log| parse(log).unwrap());
        let frames = "sysrq_handle_crash\n__handle_sysrq\nwrite_sysrq_trigger\nproc_reg_write\nvfs_write\nksys_write\n";
        assert_eq!(twelve.text, format!("strong\nprogram kernel\npanic\n{frames}"));
        assert_eq!(twelve.signature, thirteen.signature);
        assert_ne!(twelve.moment, thirteen.moment);
    }

    /// As Debian 12's kernel writes it, and as Debian 13's does.
    const PROTECTION: [&str; 2] = [
        "[  321.041230] general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] PREEMPT SMP NOPTI
[  321.041244] CPU: 0 PID: 911 Comm: md0_raid1 Not tainted 6.1.0-13-amd64 #1  Debian 6.1.55-1
[  321.041251] RIP: 0010:raid1d+0x1c1/0x1760 [raid1]
[  321.041260] RSP: 0018:ffffb27d40733e10 EFLAGS: 00010246
[  321.041266] Call Trace:
[  321.041270]  <TASK>
[  321.041274]  ? __die_body.cold+0x1a/0x1f
[  321.041281]  ? asm_exc_general_protection+0x22/0x30
[  321.041288]  md_thread+0xab/0x190 [md_mod]
[  321.041295]  kthread+0xd7/0x100
[  321.041302]  ret_from_fork+0x1f/0x30
[  321.041309]  </TASK>
[  321.041312] ---[ end trace 0000000000000000 ]---
[  321.041320] RIP: 0010:raid1d+0x1c1/0x1760 [raid1]
",
        "[   87.220011][  T702] Oops: general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] PREEMPT SMP PTI
[   87.220023][  T702] CPU: 1 UID: 0 PID: 702 Comm: md127_raid1 Not tainted 6.12.48+deb13-amd64 #1  Debian 6.12.48-1
[   87.220031][  T702] RIP: 0010:raid1d+0x1f4/0x18a0 [raid1]
[   87.220040][  T702] RSP: 0018:ffffa8c4407b3df0 EFLAGS: 00010206
[   87.220046][  T702] Call Trace:
[   87.220050][  T702]  <TASK>
[   87.220054][  T702]  ? __die_body.cold+0x19/0x27
[   87.220061][  T702]  ? die_addr+0x3c/0x60
[   87.220068][  T702]  md_thread+0xb3/0x1a0 [md_mod]
[   87.220075][  T702]  kthread+0xcf/0x100
[   87.220082][  T702]  ret_from_fork+0x31/0x50
[   87.220089][  T702]  ret_from_fork_asm+0x1a/0x30
[   87.220096][  T702]  </TASK>
",
    ];

    #[test]
    fn a_fault_that_kernels_announce_in_other_words_is_the_same_fault() {
        let [older, newer] = PROTECTION.map(|log| parse(log).unwrap());
        assert_eq!(older.text, "strong\nprogram kernel\ngeneral protection\nraid1d\nmd_thread\nkthread\n");
        assert_eq!(newer.text, older.text);
        for (older, newer) in [
            ("divide error: 0000 [#1] SMP", "Oops: divide error: 0000 [#1] PREEMPT SMP"),
            ("invalid opcode: 0000 [#1] SMP", "Oops: invalid opcode: 0000 [#1] PREEMPT SMP"),
        ] {
            assert_eq!(kind(older), kind(newer));
            assert_ne!(kind(newer), Some("oops"));
        }
        assert_eq!(kind("Oops: 0000 [#1] PREEMPT SMP NOPTI"), Some("oops"));
        assert_eq!(kind("Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI"), Some("oops"));
    }

    #[test]
    fn a_log_without_a_crash_is_none() {
        assert_eq!(parse("[ 1.0] md: raid1 personality registered\n"), None);
    }
}

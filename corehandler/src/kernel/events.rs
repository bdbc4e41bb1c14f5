//! The events that a kernel log tells of: where each report begins and ends, and the functions in it.
//!
//! A log is of a whole boot. A task that hung in the morning and a fault in the evening are two events, and nothing of one may get
//! into the other's signature. So a report ends where another begins, whether that is a crash's or any other that has a traceback
//! (a warning, a stall, memory that ran out), and one report has one traceback. Where the kernel wrote who prints each line (`[  T702]`,
//! `[    C1]`), the lines of each are read on their own: two processors may print at once.

use super::KernelCrash;
use crate::signature::Strength;
use regex_lite::Regex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// How much of a line is kept, in characters.
const MOMENT_LIMIT: usize = 200;
/// How many events of one log are told.
const EVENTS_LIMIT: usize = 1000;
/// How many lines after a report's first the line can be that names the processor and the process.
const HEAD_LINES: usize = 24;
/// What a function's name can end with that a compiler added.
const CLONE: [&str; 6] = [".cold", ".isra", ".constprop", ".part", ".llvm", ".lto_priv"];

/// Reads all events of a kernel log, in the order in which they began.
pub fn crashes(log: &str) -> Vec<KernelCrash> {
    let Ok(stamp) = Regex::new(r"^(<\d+>)?\s*((\[[^\]]*\]\s*)*)") else { return vec![] };
    let mut by_caller: BTreeMap<&str, Vec<Line<'_>>> = BTreeMap::new();
    for (number, whole) in log.lines().enumerate() {
        let captures = stamp.captures(whole);
        let (stamps, end) = captures.as_ref().map_or(("", 0), |found| {
            (found.get(2).map_or("", |stamps| stamps.as_str()), found.get(0).map_or(0, |all| all.end()))
        });
        let line = Line { number, stamps, text: &whole[end..] };
        by_caller.entry(caller(stamps)).or_default().push(line);
    }
    let mut found: Vec<(usize, KernelCrash)> = by_caller.values().flat_map(|lines| events(lines)).collect();
    found.sort_by_key(|(number, _)| *number);
    let mut crashes: Vec<KernelCrash> = Vec::new();
    for (_, crash) in found.into_iter().take(EVENTS_LIMIT) {
        // The firmware keeps the same lines for an oops and for the panic that follows.
        if crash.moment.is_none() || !crashes.contains(&crash) {
            crashes.push(crash);
        }
    }
    crashes
}

/// A line of the log.
#[derive(Clone, Copy)]
struct Line<'l> {
    number: usize,
    /// Its time, and who printed it, as they stand there.
    stamps: &'l str,
    text: &'l str,
}

/// The task or processor that printed a line, where the kernel tells.
fn caller(stamps: &str) -> &str {
    let is_caller = |text: &&str| {
        text.strip_prefix(['T', 'C'])
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    stamps.split(['[', ']']).map(str::trim).find(is_caller).unwrap_or("")
}

/// The events in the lines of one caller, each with the number of its first line.
fn events(lines: &[Line<'_>]) -> Vec<(usize, KernelCrash)> {
    let mut found = Vec::new();
    let (mut at, mut last) = (0, None);
    while let Some(line) = lines.get(at) {
        let kind = kind(line.text).filter(|kind| !(*kind == "panic" && is_consequence(line.text, last)));
        let Some(kind) = kind else {
            at += 1;
            continue;
        };
        let end = at + length(kind, &lines[at..]);
        found.push((line.number, crash(kind, &lines[at..end])));
        (at, last) = (end, Some(kind));
    }
    found
}

/// Whether a panic is only how the kernel ended after an event that was told already.
fn is_consequence(panic: &str, last: Option<&str>) -> bool {
    let Some(last) = last else { return false };
    let why = panic.split_once("not syncing: ").map_or("", |(_, why)| why);
    match last {
        "hung task" => why.starts_with("hung_task"),
        "soft lockup" => why.starts_with("softlockup"),
        "hard lockup" => why.starts_with("Hard LOCKUP"),
        "panic" | "out of memory" => false,
        _ => why.starts_with("Fatal exception") || why.starts_with("Attempted to kill"),
    }
}

/// How many lines belong to the report that begins with the first of these.
fn length(kind: &str, lines: &[Line<'_>]) -> usize {
    let mut has_number = lines[0].text.contains("[#") || kind == "oops";
    let (mut in_trace, mut has_processor) = (false, kind == "hung task");
    for (at, line) in lines.iter().enumerate().skip(1) {
        let text = line.text;
        if text.starts_with("---[ end") {
            return at;
        }
        // `BUG: …` or `kernel BUG at …`, and below it what numbers the same event: `Oops: 0000 [#1] …`.
        let is_numbered = text.contains("[#") || self::kind(text) == Some("oops");
        let is_second_head = !in_trace && !has_number && kind != "hung task" && is_numbered;
        if is_second_head {
            has_number = true;
        } else if is_report(text) {
            return at;
        }
        if text.starts_with("CPU: ") && text.contains(" PID: ") {
            if has_processor || at > HEAD_LINES {
                return at;
            }
            has_processor = true;
        }
        in_trace |= text.starts_with("Call Trace:") || fault(text).is_some();
    }
    lines.len()
}

/// Whether a report of its own begins here, of a crash or of anything else that has a traceback.
fn is_report(text: &str) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "------------[ cut here",
        "BUG: ",
        "WARNING: ",
        "INFO: ",
        "rcu: INFO: ",
        "watchdog: ",
        "NMI backtrace ",
        "Sending NMI ",
    ];
    kind(text).is_some()
        || BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
        || text.contains(" invoked oom-killer: ")
        || text.contains(": page allocation failure: ")
}

/// What a report says.
fn crash(kind: &str, lines: &[Line<'_>]) -> KernelCrash {
    let first = lines[0];
    let moment = format!("{}{}", first.stamps, first.text);
    let moment = moment.starts_with('[').then(|| moment.chars().take(MOMENT_LIMIT).collect());
    let (kind, says_where) = match why(first.text) {
        Some(why) => (format!("{kind}, {why}"), false),
        None => (kind.to_owned(), true),
    };
    let frames = if says_where { frames(lines) } else { vec![] };
    let strength = if frames.is_empty() { Strength::Weak } else { Strength::Strong };
    let frames: String = frames.iter().map(|frame| format!("{frame}\n")).collect();
    let text = format!("{}\nprogram kernel\n{kind}\n{frames}", strength.name());
    let signature = crate::space::hex(&Sha256::digest(text.as_bytes()));
    KernelCrash { signature, strength, text, moment }
}

/// Why the kernel ended where its functions do not say it: how the first process ended, which has the same way out each time, and a
/// machine check, which interrupts whatever runs.
fn why(line: &str) -> Option<String> {
    let (_, why) = line.split_once("Kernel panic - not syncing: ")?;
    if let Some((_, code)) = why.split_once("Attempted to kill init! exitcode=0x") {
        let code = u32::from_str_radix(code.get(..8)?, 16).ok()?;
        // 0x80 is whether there was a core; the status is above it.
        return Some(match code & 0x7f {
            0 => format!("init ended with {}", code >> 8 & 0xff),
            signal => format!("init ended by signal {signal}"),
        });
    }
    let begins = ["Fatal machine check", "Fatal local machine check"];
    begins.iter().any(|begin| why.starts_with(begin)).then(|| "machine check".to_owned())
}

/// The functions of a report, innermost first: where the processor stood, and the first traceback.
fn frames(lines: &[Line<'_>]) -> Vec<String> {
    let mut frames: Vec<String> = lines.iter().find_map(|line| fault(line.text)).into_iter().collect();
    let trace = lines.iter().position(|line| line.text.starts_with("Call Trace:")).unwrap_or(lines.len());
    for line in lines.iter().skip(trace + 1) {
        let line = line.text.trim();
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
    frames
}

/// The kernel's function in `RIP: 0010:do_it+0x12/0x80`; a program's address has no name.
fn fault(line: &str) -> Option<String> {
    line.strip_prefix("RIP: ")?.split_once(':').and_then(|(_, place)| function(place))
}

/// What a line says that only a crash says; addresses and numbers left out.
pub(super) fn kind(line: &str) -> Option<&'static str> {
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
        ("Kernel panic - not syncing: Out of memory", "out of memory"),
        ("Kernel panic - not syncing", "panic"),
        ("Oops:", "oops"),
    ];
    if line.contains("atchdog detected hard LOCKUP on cpu") {
        return Some("hard lockup");
    }
    if line.starts_with("INFO: task ") {
        // Newer kernels go on, in a line like this one, with who holds the lock.
        return line.contains(" blocked for more than ").then_some("hung task");
    }
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

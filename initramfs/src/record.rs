//! Telling what happened: boot.json, the console, the kernel log, the login screen.
//!
//! ```text
//! /run/atlas/boot.json       the report; the gate (`gate`) reads it
//! /run/issue.d/atlas.issue   a refusal or a warning, above the login prompt of every console (also by way of a link in /etc/issue.d)
//! ```

use crate::Places;
use atlas_host::{FileError, durable, tree::Dir};
use atlas_model::{BootReport, Outcome, Refusal};
use std::{ffi::OsStr, fs::File, io::Write};

const BOOT_JSON: &str = "boot.json";

/// Writes the report, and what follows from it above the login.
pub fn write(places: &Places, report: &BootReport) -> Result<(), FileError> {
    let run = Dir::open_root(&places.run)?;
    let dir = run.make_dirs("atlas")?;
    let json = serde_json::to_vec_pretty(report).map_err(FileError::on("write", dir.show(BOOT_JSON)))?;
    if let Err(error) = durable::write(&dir, OsStr::new(BOOT_JSON), &json, 0o644) {
        // There may be no room. Better none than one that still allows what this one forbids.
        let _ = dir.remove(OsStr::new(BOOT_JSON));
        return Err(error);
    }
    let above_the_login = match &report.refusal {
        Some(refusal) => Some(screen(refusal, report)),
        None if report.warnings.is_empty() => None,
        None => Some(summary(report)),
    };
    if let Some(text) = above_the_login {
        let issue = format!("\n{text}\n");
        // agetty reads a backslash as the beginning of a code.
        durable::write(
            &run.make_dirs("issue.d")?,
            OsStr::new("atlas.issue"),
            issue.replace('\\', "\\\\").as_bytes(),
            0o644,
        )?;
    }
    Ok(())
}

/// The screen of a refusal, and what else this boot saw: a clock that is wrong may explain the rest.
fn screen(refusal: &Refusal, report: &BootReport) -> String {
    let mut text = refusal.screen();
    if !report.warnings.is_empty() {
        text.push_str("\nAlso seen by this boot:\n");
        report.warnings.iter().for_each(|warning| text.push_str(&format!("  - {warning}\n")));
    }
    text
}

/// Says it on the console and in the kernel log. Neither may be there; boot.json is.
pub fn announce(report: &BootReport) {
    let text = match (&report.refusal, report.outcome) {
        (Some(refusal), _) => screen(refusal, report),
        (None, Outcome::NotInitialised) => return,
        (None, _) => summary(report),
    };
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        for record in kernel_records(report) {
            let _ = log.write_all(record.as_bytes());
        }
    }
    if report.refusal.is_some()
        && let Ok(mut console) = File::options().write(true).open("/dev/console")
    {
        let _ = console.write_all(text.replace('\n', "\r\n").as_bytes());
    }
}

/// Says on the console, and in the kernel log, what a boot does that takes longer than a moment.
pub fn say(what: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        let _ = log.write_all(format!("<5>atlas: {what}\n").as_bytes());
    }
    if let Ok(mut console) = File::options().write(true).open("/dev/console") {
        let _ = console.write_all(format!("atlas: {what}\r\n").as_bytes());
    }
}

/// How many characters a record of the kernel log is filled with.
const RECORD_CHARS: usize = 800;

/// The report as records of the kernel log: few, because it drops what comes in a rush, and below its bound of about 1000 bytes each.
///
/// The level is notice: the console gets the whole screen already.
fn kernel_records(report: &BootReport) -> Vec<String> {
    let lines = match &report.refusal {
        Some(refusal) => [
            vec![format!("{}: {refusal}", refusal.title().to_lowercase())],
            filled("found", &refusal.found),
            vec![format!("why this is not safe: {}", refusal.why)],
            filled("also seen", &report.warnings),
            filled("what to do", &refusal.remedy),
        ]
        .concat(),
        None => summary(report).lines().take(6).map(str::to_owned).collect(),
    };
    lines.iter().map(|line| kernel_record(line)).collect()
}

fn kernel_record(line: &str) -> String {
    format!("<5>atlas: {}\n", line.chars().take(RECORD_CHARS).collect::<String>().replace('\n', " "))
}

/// Says one thing in the kernel log.
pub(crate) fn log(line: &str) {
    let _ =
        File::options().write(true).open("/dev/kmsg").and_then(|mut log| log.write_all(kernel_record(line).as_bytes()));
}

/// As many facts in each record as it has room for, in at most three records: the log takes ten in five seconds.
fn filled(title: &str, facts: &[String]) -> Vec<String> {
    let mut records: Vec<String> = vec![];
    for fact in facts {
        match records.last_mut() {
            Some(last) if last.chars().count() + fact.chars().count() + 2 <= RECORD_CHARS => {
                last.push_str("; ");
                last.push_str(fact);
            }
            _ => records.push(format!("{title}: {fact}")),
        }
    }
    records.truncate(3);
    records
}

/// One line per thing that an operator wants to know of a boot that went well.
pub fn summary(report: &BootReport) -> String {
    told(report, "this server is", "was in place")
}

/// The same of the boot that would come next.
pub fn outlook(report: &BootReport) -> String {
    told(report, "this server would boot as", "is in place")
}

fn told(report: &BootReport, server: &str, in_place: &str) -> String {
    let role = report.role.map_or_else(|| "no role".to_owned(), |role| role.to_string());
    let env = report.env_version.map(|env| format!(" on {env}")).unwrap_or_default();
    let mut text = match report.outcome {
        Outcome::IdentityInstalled if report.installed.is_empty() => {
            format!("{server} {role}{env}; its identity {in_place}\n")
        }
        Outcome::IdentityInstalled => {
            format!("{server} {role}{env}; paths of its identity that change: {}\n", report.installed.len())
        }
        Outcome::FromScratch => {
            format!("{server} {role}{env}; it keeps the identity of its OS, no Snapshot was made yet\n")
        }
        Outcome::NotInitialised => "'atlas init' was never run here; ATLAS leaves this machine alone\n".to_owned(),
        Outcome::Refused => "this server holds no role\n".to_owned(),
    };
    for warning in &report.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::RefusalCode;

    #[test]
    fn a_screen_says_what_else_the_boot_saw() {
        let refusal = Refusal::new(RefusalCode::ForeignCluster, "another cluster's").because("why").remedy("do this");
        let mut report = BootReport::begin("test");
        assert_eq!(screen(&refusal, &report), refusal.screen());
        report.warnings = vec!["the Unbound set was last written 2040-01-01, in the future".into()];
        assert!(
            screen(&refusal, &report)
                .ends_with("Also seen by this boot:\n  - the Unbound set was last written 2040-01-01, in the future\n")
        );
    }

    #[test]
    fn the_kernel_log_has_every_fact_of_a_machine_with_eight_disks() {
        let mut report = BootReport::begin("test");
        let fact =
            |number: u32| format!("/dev/sd{number} (serial SERIAL-{number}, SATA port {number}): {}", "x".repeat(190));
        let refusal =
            (0..8).fold(Refusal::new(RefusalCode::NoUnboundSet, "none"), |refusal, number| refusal.found(fact(number)));
        report.refusal = Some(refusal.because("why").remedy("do this"));
        let records = kernel_records(&report);
        assert!(records.len() <= 10 && records.iter().all(|record| record.len() < 1000), "{records:?}");
        for number in 0..8 {
            assert!(records.iter().any(|record| record.contains(&format!("SERIAL-{number},"))), "{records:?}");
        }
    }
}

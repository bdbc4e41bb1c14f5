//! `cargo xtask demo`: a failover that one can watch.

use std::time::{Duration, Instant};

use anyhow::Result;
use atlas_image::Options;
use atlas_vm_tests::demo::{Check, Report, demo};

use crate::{process, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Returns whether the failover did what it should.
pub(crate) fn run(_arguments: &Arguments) -> Result<bool> {
    setup::run()?;
    let start = Instant::now();
    let say = |step: &str| println!("{}  {step}", clock(start.elapsed()));
    let logs = process::repository().join("target/demo");
    let played = atlas_image::server_image(&Options::new(&say)?).and_then(|_| demo(&logs, &say));
    match played {
        Ok(report) => {
            print!("{}", table(&report, start.elapsed()));
            println!("{}", verdict(&report.checks));
            Ok(is_good(&report.checks))
        }
        Err(error) => {
            println!("failover: FAILED: it broke off after {}", clock(start.elapsed()));
            Err(error.context(format!("the servers' consoles are in {}", logs.display())))
        }
    }
}

/// What was checked, and how long what took.
fn table(report: &Report, all: Duration) -> String {
    let check = |check: &Check| {
        let Check { what, expected, seen } = check;
        match check.is_ok() {
            true => format!("  ok      {what:38}  {seen}\n"),
            false => format!("  FAILED  {what:38}  {seen}\n          {:38}  {expected}\n", "  it should be"),
        }
    };
    let time = |(what, time): (&str, Duration)| format!("  {:>7.1} s  {what}\n", time.as_secs_f64());
    let checks: String = report.checks.iter().map(check).collect();
    let times: String = report.timings.iter().copied().chain([("all of it", all)]).map(time).collect();
    format!("\nchecked\n{checks}\ntimes\n{times}\n")
}

fn verdict(checks: &[Check]) -> String {
    let wrong: Vec<&str> = checks.iter().filter(|check| !check.is_ok()).map(|check| check.what).collect();
    match (is_good(checks), wrong.is_empty()) {
        (true, _) => "failover: ok".to_owned(),
        (false, true) => "failover: FAILED: nothing was checked".to_owned(),
        (false, false) => format!("failover: FAILED: {}", wrong.join("; ")),
    }
}

fn is_good(checks: &[Check]) -> bool {
    !checks.is_empty() && checks.iter().all(Check::is_ok)
}

fn clock(time: Duration) -> String {
    format!("[{:2}:{:02}]", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seen: &str) -> Check {
        Check { what: "the name", expected: "pri".into(), seen: seen.into() }
    }

    #[test]
    fn all_is_well_only_if_something_was_checked_and_nothing_was_wrong() {
        assert_eq!(verdict(&[]), "failover: FAILED: nothing was checked");
        assert_eq!(verdict(&[check("pri")]), "failover: ok");
        assert_eq!(verdict(&[check("pri"), check("sec1")]), "failover: FAILED: the name");
    }

    #[test]
    fn the_table_shows_what_was_seen_and_what_it_should_be() {
        let timings = vec![("they boot", Duration::from_millis(1500))];
        let table = table(&Report { checks: vec![check("sec1")], timings }, Duration::from_secs(3));
        assert!(table.contains("FAILED  the name") && table.contains("sec1") && table.contains("pri"), "{table}");
        assert!(table.contains("1.5 s  they boot\n") && table.contains("3.0 s  all of it\n"), "{table}");
    }

    #[test]
    fn the_clock_shows_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_secs(125)), "[ 2:05]");
    }
}

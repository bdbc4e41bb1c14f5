//! Time: the clock is kept by whoever is there to keep it, the hardware clock goes with it, and the time zone exists [441].
//!
//! A cold boot begins with what the hardware clock says: files get that time, certificates are judged by it, before any time service has
//! answered.
//!
//! ```text
//! chronyc -c tracking                                  where chronyd runs
//! /run/systemd/timesync/synchronized                   where systemd-timesyncd runs, and got an answer since the boot
//! /sys/class/rtc/rtc0/since_epoch, /etc/adjtime        the hardware clock, and whether it is local time
//! /etc/localtime -> /usr/share/zoneinfo/Europe/Berlin  the time zone
//! ```

use crate::{
    here::{self, Faults},
    service::{Service, Target},
};
use atlas_model::verify::{Profile, Worse};
use std::path::Path;

pub(super) const SERVICE: Service = Service {
    name: "time",
    about: "the clock is synchronised, the hardware clock goes with it, and the time zone exists",
    interval: 60,
    deadline: 15,
    find: |_| Ok(here::found()),
    verify,
};

/// How far the clock is off what the time servers say, in milliseconds: slow, unacceptable.
const OFFSET: (f64, f64) = (500.0, 60_000.0);
/// How far the hardware clock is off the system's, in seconds.
const HARDWARE: (f64, f64) = (60.0, 3600.0);
/// How long a time service may take after a boot until it is sure, in seconds.
const SETTLING: f64 = 900.0;
/// 2020: no clock that was ever set is before it.
const SENSIBLE: f64 = 1_577_836_800.0;

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let mut faults = Faults::default();
    let kept = synchronised(target, &mut faults)?;
    let hardware = hardware(target, &mut faults)?;
    zone(&target.root, &mut faults);
    Ok(faults.profile(format!("{kept}; {hardware}")))
}

/// Whether somebody keeps the clock, and how well; says by whom.
fn synchronised(target: &Target, faults: &mut Faults) -> anyhow::Result<String> {
    if here::is_there(&target.root, "/run/chrony/chronyd.pid") {
        return chrony(target, faults);
    }
    if !here::is_there(&target.root, "/run/systemd/timesync") {
        return Ok("no time service that is known here keeps the clock".into());
    }
    if here::is_there(&target.root, "/run/systemd/timesync/synchronized") {
        return Ok("the clock is synchronised".into());
    }
    not_synchronised(
        target,
        faults,
        "timedatectl timesync-status; journalctl -b -u systemd-timesyncd; are its servers reachable?",
    );
    Ok("systemd-timesyncd is about to synchronise the clock".into())
}

fn chrony(target: &Target, faults: &mut Faults) -> anyhow::Result<String> {
    let hint = "chronyc tracking; chronyc sources -v; journalctl -b -u chrony";
    let tracking = match here::run(&target.root, "chronyc", &["-c", "tracking"], target.left()) {
        Some(Ok(output)) if output.status.success() => output.text(),
        Some(Ok(output)) => {
            faults.unacceptable(format!("chronyd does not answer: {}", output.complaint()), hint);
            return Ok(String::new());
        }
        Some(Err(why)) => {
            faults.unacceptable(format!("chronyd does not answer: {why}"), hint);
            return Ok(String::new());
        }
        None => return Ok("chronyd keeps the clock".into()),
    };
    // Reference, its name, stratum, its time, the clock's offset in seconds, …, leap status.
    let fields: Vec<&str> = tracking.trim().split(',').collect();
    let name = fields.get(1).copied().unwrap_or_default();
    if fields.last() == Some(&"Not synchronised") {
        not_synchronised(target, faults, hint);
        return Ok("chronyd is about to synchronise the clock".into());
    }
    if let Some(offset) = fields.get(4).and_then(|field| field.parse::<f64>().ok()) {
        let milliseconds = (offset.abs() * 1e6).round() / 1e3;
        let measure = target.measure("offset", milliseconds, "ms", (Some(OFFSET.0), Some(OFFSET.1)), Worse::Higher)?;
        faults.measure_of("clock", measure, &format!("the clock is off what {name} says"), hint);
    }
    Ok(format!("the clock is synchronised with {name}"))
}

fn not_synchronised(target: &Target, faults: &mut Faults, hint: &str) {
    if here::uptime(&target.root).is_none_or(|uptime| uptime > SETTLING) {
        faults.slow("the clock is not synchronised, although a time service runs", hint);
    }
}

/// What a cold boot would begin with.
fn hardware(target: &Target, faults: &mut Faults) -> anyhow::Result<String> {
    let root = &target.root;
    if here::text(root, "/proc/driver/rtc").is_some_and(|text| text.lines().any(is_dead_battery)) {
        faults.slow("the battery of the hardware clock is empty", "replace the battery on the board");
    }
    let Some(seconds) = here::value(root, "/sys/class/rtc/rtc0/since_epoch") else {
        return Ok("this server has no hardware clock".into());
    };
    let hint = "hwclock --show; date; when the system's time is right: hwclock --systohc --utc";
    if seconds < SENSIBLE {
        faults.unacceptable(
            "the hardware clock was never set, or has lost its time: a cold boot would begin in the past",
            hint,
        );
        return Ok(String::new());
    }
    if here::text(root, "/etc/adjtime").is_some_and(|text| text.lines().nth(2).map(str::trim) == Some("LOCAL")) {
        return Ok("the hardware clock has local time, and is not compared".into());
    }
    let off = (seconds - here::now() as f64).abs();
    let measure = target.measure("hardware-clock", off, "s", (Some(HARDWARE.0), Some(HARDWARE.1)), Worse::Higher)?;
    faults.measure(measure, "a cold boot would begin with a wrong time, the hardware clock is off", hint);
    Ok("the hardware clock goes with it".into())
}

/// `batt_status : dead`, as some drivers have it.
fn is_dead_battery(line: &str) -> bool {
    line.split_once(':').is_some_and(|(name, value)| name.trim() == "batt_status" && value.trim() == "dead")
}

/// A time zone whose file is gone makes every program take UTC, without a word.
fn zone(root: &Path, faults: &mut Faults) {
    let Ok(target) = std::fs::read_link(here::below(root, "/etc/localtime")) else { return };
    let file = if target.is_absolute() { target.clone() } else { Path::new("/etc").join(&target) };
    if !here::below(root, &file.to_string_lossy()).exists() {
        let hint = "install tzdata (and tzdata-legacy, which has the old names); dpkg-reconfigure tzdata";
        faults.unacceptable(format!("the time zone {} does not exist", target.display()), hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::verify::Verdict;

    fn server() -> Server {
        let server = Server::new();
        server.write("proc/uptime", "5000.00 9000.00\n");
        server.write("sys/class/rtc/rtc0/since_epoch", &format!("{}\n", here::now()));
        server.write("usr/share/zoneinfo/Europe/Berlin", "TZif");
        server.link("../usr/share/zoneinfo/Europe/Berlin", "etc/localtime");
        server.write("run/systemd/timesync/synchronized", "");
        server
    }

    #[test]
    fn a_clock_that_is_kept_is_well_and_one_that_nobody_keeps_no_fault() {
        assert_eq!(server().is_well(&SERVICE).summary, "the clock is synchronised; the hardware clock goes with it");
        let alone = server();
        alone.remove("run/systemd/timesync");
        alone.remove("sys/class/rtc/rtc0/since_epoch");
        assert_eq!(
            alone.is_well(&SERVICE).summary,
            "no time service that is known here keeps the clock; this server has no hardware clock"
        );
        Server::new().is_well(&SERVICE);
    }

    #[test]
    fn a_time_service_that_does_not_synchronise_is_told_once_it_had_its_time() {
        let server = server();
        server.remove("run/systemd/timesync/synchronized");
        server.says(&SERVICE, Verdict::Slow, &["not synchronised"]);
        server.write("proc/uptime", "100.00 9000.00\n");
        server.is_well(&SERVICE);
    }

    #[test]
    fn chrony_is_asked_where_it_runs() {
        let server = server();
        server.write("run/chrony/chronyd.pid", "7\n");
        let tracking = |offset: &str, leap: &str| {
            server.program(
                "usr/bin/chronyc",
                &format!("echo 'C0A80101,ntp1,3,1763.5,{offset},0.1,0.1,1.0,0.0,0.1,0.02,0.001,64.3,{leap}'"),
            );
        };
        tracking("-0.000012", "Normal");
        assert!(server.is_well(&SERVICE).summary.contains("synchronised with ntp1"));
        tracking("2.5", "Normal");
        server.says(&SERVICE, Verdict::Slow, &["off what ntp1 says: 2500 ms"]);
        tracking("0.0", "Not synchronised");
        server.says(&SERVICE, Verdict::Slow, &["not synchronised"]);
        server.program("usr/bin/chronyc", "echo '506 Cannot talk to daemon'; exit 1");
        server.says(&SERVICE, Verdict::Unacceptable, &["chronyd does not answer", "506"]);
    }

    #[test]
    fn a_hardware_clock_that_is_wrong_is_told() {
        let server = server();
        let rtc = |seconds: u64| server.write("sys/class/rtc/rtc0/since_epoch", &format!("{seconds}\n"));
        rtc(here::now() - 600);
        server.says(&SERVICE, Verdict::Slow, &["cold boot would begin with a wrong time"]);
        rtc(here::now() + 86_400);
        server.says(&SERVICE, Verdict::Unacceptable, &["hardware clock is off"]);
        rtc(3);
        server.says(&SERVICE, Verdict::Unacceptable, &["never set"]);
        rtc(here::now() + 7200);
        server.write("etc/adjtime", "0.0 0 0.0\n0\nLOCAL\n");
        server.is_well(&SERVICE);
        server.write("proc/driver/rtc", "rtc_time\t: 1\nbatt_status\t: dead\n");
        server.says(&SERVICE, Verdict::Slow, &["battery"]);
    }

    #[test]
    fn a_time_zone_that_does_not_exist_is_named() {
        let server = server();
        server.link("/usr/share/zoneinfo/US/Eastern", "etc/localtime");
        server.says(&SERVICE, Verdict::Unacceptable, &["US/Eastern does not exist"]);
        server.write("usr/share/zoneinfo/US/Eastern", "TZif");
        server.is_well(&SERVICE);
    }
}

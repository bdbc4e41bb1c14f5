//! The operating system: load, memory, swap, tasks, file handles, temperature, and the units of systemd that failed [90, 441].
//!
//! ```text
//! /proc/loadavg  meminfo  stat  sys/fs/file-nr  sys/kernel/threads-max     /etc/fstab: swap that should be there
//! /sys/class/hwmon/hwmon0/temp1_input  temp1_max  temp1_crit  temp1_label  /sys/class/thermal/thermal_zone0/temp
//! ```

use crate::{
    here::{self, Faults},
    service::{Service, Target},
};
use anyhow::Context;
use atlas_model::verify::{Fault, Profile, Verdict, Worse};
use procfs::{FromRead, LoadAverage, Meminfo};
use std::path::Path;

pub(super) const SERVICE: Service = Service {
    name: "system",
    about: "load, memory, swap, tasks, file handles, temperature and systemd's units are as they should be",
    interval: 30,
    deadline: 15,
    find: |_| Ok(here::found()),
    verify,
};

/// Load of five minutes for each CPU: slow, unacceptable. A server that has much to do is not one that fails.
const LOAD: (f64, f64) = (6.0, 30.0);
/// Memory that is available, in percent.
const MEMORY: (f64, f64) = (12.0, 4.0);
/// Swap that is used, in percent.
const SWAP: (f64, f64) = (60.0, 95.0);
/// Of what the kernel allows, in percent: tasks, and file handles.
const OF_ALLOWED: (f64, f64) = (70.0, 90.0);
/// Degrees, where the sensor does not know its own limits.
const HOT: (f64, f64) = (85.0, 95.0);
/// The same for processors that slow down at 95 degrees by themselves, run there by design, and do not say so.
const HOT_BY_DESIGN: (f64, f64) = (100.0, 110.0);
/// Their drivers.
const BY_DESIGN: [&str; 2] = ["k10temp", "zenpower"];
/// A limit from there on is the end of what a chip can say, in degrees.
const NO_LIMIT: f64 = 125.0;
/// What no sensor measures in a server that runs: it is not connected, or broken.
const NO_TEMPERATURE: (f64, f64) = (-20.0, 115.0);
/// Inputs of the chips of mainboards to which somebody may connect a sensor, and hardly anybody does: they say anything.
const SPARE: &str = "AUXTIN";

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let mut faults = Faults::default();
    let load = load_and_tasks(target, &mut faults)?;
    memory(target, &mut faults)?;
    file_handles(target, &mut faults)?;
    temperatures(target, &mut faults)?;
    units(target, &mut faults);
    default_target(&target.root, &mut faults);
    Ok(faults.profile(format!("load {load:.2}, and nothing is short")))
}

/// A number with limits above which it is worse.
fn higher(
    target: &Target,
    faults: &mut Faults,
    (name, value, unit): (&str, f64, &str),
    (slow, unacceptable): (f64, f64),
    (what, hint): (&str, &str),
) -> anyhow::Result<()> {
    let value = (value * 100.0).round() / 100.0;
    faults.measure(target.measure(name, value, unit, (Some(slow), Some(unacceptable)), Worse::Higher)?, what, hint);
    Ok(())
}

fn load_and_tasks(target: &Target, faults: &mut Faults) -> anyhow::Result<f32> {
    let root = &target.root;
    let load = LoadAverage::from_file(here::below(root, "/proc/loadavg")).context("read the load")?;
    let stat = here::text(root, "/proc/stat").unwrap_or_default();
    let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count().max(1);
    let hint = "ps -eo pcpu,stat,pid,args --sort=-pcpu | head; tasks in state D wait for a disk or for NFS";
    let words = ("too much to do, load of 5 min for each CPU", hint);
    higher(target, faults, ("load", f64::from(load.five) / cpus as f64, ""), LOAD, words)?;
    let limits = ["/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max"];
    let allowed = limits.iter().filter_map(|file| here::value(root, file)).fold(f64::INFINITY, f64::min);
    if allowed.is_finite() && allowed > 0.0 {
        let words = (
            "nearly no more tasks can begin, of what the kernel allows",
            "ps -eLf | awk '{print $1,$NF}' | sort | uniq -c | sort -n | tail",
        );
        higher(target, faults, ("tasks", f64::from(load.max) * 100.0 / allowed, "%"), OF_ALLOWED, words)?;
    }
    Ok(load.five)
}

fn memory(target: &Target, faults: &mut Faults) -> anyhow::Result<()> {
    let root = &target.root;
    let memory = Meminfo::from_file(here::below(root, "/proc/meminfo")).context("read how much memory there is")?;
    let percent = |part: u64, whole: u64| (part as f64 * 1000.0 / whole.max(1) as f64).round() / 10.0;
    if let Some(available) = memory.mem_available {
        let usual = (Some(MEMORY.0), Some(MEMORY.1));
        let measure = target.measure("memory", percent(available, memory.mem_total), "%", usual, Worse::Lower)?;
        faults.measure(measure, "memory is short, available", "ps -eo rss,pid,args --sort=-rss | head");
    }
    if memory.swap_total > 0 {
        let used = percent(memory.swap_total.saturating_sub(memory.swap_free), memory.swap_total);
        let words = ("swap is nearly full, used", "ps -eo rss,pid,args --sort=-rss | head; free -h");
        higher(target, faults, ("swap", used, "%"), SWAP, words)?;
    }
    let wanted = here::text(root, "/etc/fstab").unwrap_or_default();
    if memory.swap_total == 0 && wanted.lines().any(is_swap) {
        faults.slow("the swap space that /etc/fstab names is not in use", "swapon --all --verbose; cat /proc/swaps");
    }
    Ok(())
}

/// Whether a line of fstab asks for swap at every boot.
fn is_swap(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_optional = |options: &&str| options.split(',').any(|option| option == "noauto" || option == "nofail");
    !line.trim_start().starts_with('#') && words.get(2) == Some(&"swap") && !words.get(3).is_some_and(is_optional)
}

fn file_handles(target: &Target, faults: &mut Faults) -> anyhow::Result<()> {
    let text = here::text(&target.root, "/proc/sys/fs/file-nr").unwrap_or_default();
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [used, _, allowed] = numbers[..] else { return Ok(()) };
    let words = (
        "nearly no more files can be opened, of what the kernel allows",
        "lsof -n | awk '{print $1,$2}' | sort | uniq -c | sort -n | tail",
    );
    higher(target, faults, ("file-handles", used * 100.0 / allowed.max(1.0), "%"), OF_ALLOWED, words)
}

/// A sensor: its name, what it says, and from where on it is too hot and much too hot, in degrees Celsius.
struct Sensor {
    name: String,
    degrees: f64,
    limits: (f64, f64),
}

fn temperatures(target: &Target, faults: &mut Faults) -> anyhow::Result<()> {
    for sensor in sensors(&target.root) {
        let Sensor { name, degrees, limits } = sensor;
        let words = (format!("{name} is too hot, degrees"), "see the fans (sensors) and the room's cooling");
        let measure = format!("temperature/{}", name.replace(char::is_whitespace, "_"));
        higher(target, faults, (&measure, degrees, ""), limits, (&words.0, words.1))?;
    }
    Ok(())
}

fn sensors(root: &Path) -> Vec<Sensor> {
    let degrees = |file: &str| here::value(root, file).map(|value| value / 1000.0);
    let sensible = |value: &f64| *value > NO_TEMPERATURE.0 && *value < NO_TEMPERATURE.1 && *value != 0.0;
    let mut sensors = Vec::new();
    for chip in here::names(root, "/sys/class/hwmon") {
        let dir = format!("/sys/class/hwmon/{chip}");
        let chip = here::text(root, &format!("{dir}/name")).unwrap_or(chip);
        for file in here::names(root, &dir) {
            let Some(index) = file.strip_suffix("_input").filter(|index| index.starts_with("temp")) else { continue };
            let Some(now) = degrees(&format!("{dir}/{file}")).filter(sensible) else { continue };
            let is_fault = here::value(root, &format!("{dir}/{index}_fault")).is_some_and(|fault| fault != 0.0);
            let label = here::text(root, &format!("{dir}/{index}_label")).unwrap_or_else(|| index.to_owned());
            if is_fault || label.starts_with(SPARE) {
                continue;
            }
            // One that nobody has set is 0, or near the end of what the chip can say.
            let limit = |what: &str| {
                degrees(&format!("{dir}/{index}_{what}")).filter(|limit| *limit > 20.0 && *limit < NO_LIMIT)
            };
            let usual = if BY_DESIGN.contains(&chip.as_str()) { HOT_BY_DESIGN } else { HOT };
            let limits = limits(usual, limit("max"), limit("crit"), limit("emergency"));
            sensors.push(Sensor { name: format!("{chip} {label}"), degrees: now, limits });
        }
    }
    for zone in here::names(root, "/sys/class/thermal").into_iter().filter(|name| name.starts_with("thermal_zone")) {
        let dir = format!("/sys/class/thermal/{zone}");
        let Some(now) = degrees(&format!("{dir}/temp")).filter(sensible) else { continue };
        let name = here::text(root, &format!("{dir}/type")).unwrap_or_default();
        sensors.push(Sensor { name: format!("{zone} {name}").trim().to_owned(), degrees: now, limits: HOT });
    }
    sensors
}

/// From where on it is too hot, and much too hot: as the driver says, as far as it does.
fn limits(usual: (f64, f64), max: Option<f64>, critical: Option<f64>, emergency: Option<f64>) -> (f64, f64) {
    match (max, critical, emergency) {
        // At its critical one such a chip slows down, as it may do under load; at the other it is switched off.
        (None, Some(critical), Some(emergency)) if emergency > critical => (critical, emergency),
        (None, Some(critical), _) => ((critical - 10.0).min(usual.0), critical),
        (Some(max), Some(critical), _) => (max.min(critical), critical),
        (Some(max), None, _) => (max, usual.1.max(max + 10.0)),
        (None, None, _) => usual,
    }
}

fn units(target: &Target, faults: &mut Faults) {
    if !here::has_systemd(&target.root) {
        return;
    }
    let args = ["list-units", "--state=failed", "--all", "--plain", "--no-legend", "--no-pager", "--full"];
    let Some(output) = here::run(&target.root, "systemctl", &args, target.left()) else { return };
    let answer =
        output.and_then(|output| if output.status.success() { Ok(output.text()) } else { Err(output.complaint()) });
    match answer {
        Ok(text) => {
            for unit in text.lines().filter_map(|line| line.split_whitespace().next()) {
                let hint = format!("systemctl status {unit}; journalctl -b -u {unit}");
                faults.add(Fault::new(Verdict::Slow, format!("the unit {unit} has failed"), hint).is("unit", &[unit]));
            }
        }
        Err(why) => faults.unknown(format!("systemd does not answer: {why}"), "systemctl is-system-running"),
    }
}

/// Where the next boot ends: a server that was repaired may have been left to end there again.
fn default_target(root: &Path, faults: &mut Faults) {
    const ENDS: [&str; 7] = ["rescue", "emergency", "poweroff", "halt", "reboot", "kexec", "runlevel1"];
    let Ok(link) = std::fs::read_link(here::below(root, "/etc/systemd/system/default.target")) else { return };
    let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if ENDS.iter().any(|end| name == format!("{end}.target")) {
        let what = format!("the next boot would end in {name}, without services");
        faults.unacceptable(what, "systemctl set-default multi-user.target");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    const MEMINFO: &str = "MemTotal: 1000000 kB\nMemFree: 100000 kB\nMemAvailable: 600000 kB\nBuffers: 0 kB\nCached: 0 kB\nSwapCached: 0 kB\nActive: 0 kB\nInactive: 0 kB\nSwapTotal: 500000 kB\nSwapFree: 400000 kB\nDirty: 0 kB\nWriteback: 0 kB\nAnonPages: 0 kB\nMapped: 0 kB\nShmem: 0 kB\nSlab: 0 kB\nSReclaimable: 0 kB\nSUnreclaim: 0 kB\nKernelStack: 0 kB\nPageTables: 0 kB\nNFS_Unstable: 0 kB\nBounce: 0 kB\nWritebackTmp: 0 kB\nCommitLimit: 0 kB\nCommitted_AS: 0 kB\nVmallocTotal: 0 kB\nVmallocUsed: 0 kB\nVmallocChunk: 0 kB\n";

    fn server() -> Server {
        let server = Server::new();
        server.write("proc/loadavg", "0.10 0.50 0.05 1/200 4242\n");
        server.write("proc/stat", "cpu  1 2\ncpu0 1 2\ncpu1 1 2\nintr 5\n");
        server.write("proc/meminfo", MEMINFO);
        server.write("proc/sys/fs/file-nr", "1000\t0\t100000\n");
        server.write("proc/sys/kernel/threads-max", "10000\n");
        server.write("proc/sys/kernel/pid_max", "32768\n");
        server.write("etc/fstab", "/dev/vda2 none swap sw 0 0\n");
        server.write("run/systemd/system/x", "");
        server.program("usr/bin/systemctl", "exit 0");
        server
    }

    #[test]
    fn a_quiet_server_is_well() {
        let profile = server().is_well(&SERVICE);
        let load = profile.measures.iter().find(|measure| measure.name == "load").unwrap();
        assert_eq!(load.value, 0.25);
        let bare = server();
        bare.remove("usr/bin/systemctl");
        bare.remove("proc/sys");
        bare.is_well(&SERVICE);
    }

    #[test]
    fn each_shortage_is_told() {
        let cases = [
            ("proc/loadavg", "0.10 13.0 0.05 1/200 4242\n", Verdict::Slow, "load of 5 min for each CPU: 6.5"),
            ("proc/loadavg", "0.10 0.5 0.05 1/9500 4242\n", Verdict::Unacceptable, "no more tasks can begin"),
            ("proc/sys/fs/file-nr", "95000\t0\t100000\n", Verdict::Unacceptable, "no more files can be opened"),
        ];
        for (file, content, verdict, words) in cases {
            let server = server();
            server.write(file, content);
            server.says(&SERVICE, verdict, &[words]);
        }
        let memory = [
            ("MemAvailable: 600000", "MemAvailable: 20000", Verdict::Unacceptable, "memory is short"),
            ("SwapFree: 400000", "SwapFree: 100000", Verdict::Slow, "swap is nearly full, used: 80 %"),
            ("SwapTotal: 500000", "SwapTotal: 0", Verdict::Slow, "swap space that /etc/fstab names"),
        ];
        for (was, is, verdict, words) in memory {
            let server = server();
            server.write("proc/meminfo", &MEMINFO.replace(was, is));
            server.says(&SERVICE, verdict, &[words]);
        }
    }

    #[test]
    fn a_unit_that_failed_is_named_and_a_systemd_that_is_silent_unknown() {
        let server = server();
        server.program("usr/bin/systemctl", "echo 'nginx.service loaded failed failed A web server'");
        let profile = server.says(&SERVICE, Verdict::Slow, &["nginx.service has failed"]);
        assert!(profile.hint.unwrap().contains("journalctl -b -u nginx.service"));
        server.program("usr/bin/systemctl", "echo 'Failed to connect to bus' >&2; exit 1");
        server.says(&SERVICE, Verdict::Unknown, &["Failed to connect to bus"]);
    }

    #[test]
    fn a_boot_that_would_end_without_services_is_told() {
        let server = server();
        server.link("/usr/lib/systemd/system/graphical.target", "etc/systemd/system/default.target");
        server.is_well(&SERVICE);
        server.link("/usr/lib/systemd/system/rescue.target", "etc/systemd/system/default.target");
        server.says(&SERVICE, Verdict::Unacceptable, &["next boot would end in rescue.target"]);
    }

    #[test]
    fn a_hot_sensor_is_named_by_its_own_limits_and_a_broken_one_is_not_believed() {
        let server = server();
        let hwmon = |file: &str, content: &str| server.write(&format!("sys/class/hwmon/hwmon0/{file}"), content);
        hwmon("name", "coretemp\n");
        hwmon("temp1_input", "55000\n");
        hwmon("temp1_label", "Package id 0\n");
        hwmon("temp1_crit", "100000\n");
        hwmon("temp2_input", "-128000\n");
        hwmon("temp3_input", "127500\n");
        hwmon("temp4_input", "98000\n");
        hwmon("temp4_fault", "1\n");
        hwmon("temp5_input", "104000\n");
        hwmon("temp5_label", "AUXTIN2\n");
        hwmon("temp6_input", "31000\n");
        hwmon("temp6_max", "0\n");
        hwmon("temp6_crit", "16000\n");
        server.write("sys/class/thermal/thermal_zone0/temp", "40000\n");
        server.is_well(&SERVICE);
        hwmon("temp1_input", "91000\n");
        server.says(&SERVICE, Verdict::Slow, &["coretemp Package id 0 is too hot, degrees: 91"]);
        hwmon("temp1_crit", "90000\n");
        server.says(&SERVICE, Verdict::Unacceptable, &["coretemp Package id 0"]);
        hwmon("temp1_input", "50000\n");
        server.write("sys/class/thermal/thermal_zone0/temp", "97000\n");
        server.says(&SERVICE, Verdict::Unacceptable, &["thermal_zone0"]);
    }

    #[test]
    fn a_sensor_is_judged_by_what_its_driver_says() {
        let with = |chip: &str, files: &[(&str, u32)]| {
            let server = server();
            server.write("sys/class/hwmon/hwmon0/name", &format!("{chip}\n"));
            for (file, degrees) in files {
                server.write(&format!("sys/class/hwmon/hwmon0/temp1_{file}"), &format!("{degrees}000\n"));
            }
            server
        };
        for (chip, files) in [
            ("k10temp", &[("input", 95)][..]),
            ("ixgbe", &[("input", 95), ("max", 120)]),
            ("amdgpu", &[("input", 108), ("crit", 110), ("emergency", 115)]),
            ("coretemp", &[("input", 91), ("max", 92), ("crit", 100)]),
        ] {
            with(chip, files).is_well(&SERVICE);
        }
        for (chip, files, verdict) in [
            ("k10temp", &[("input", 102)][..], Verdict::Slow),
            ("k10temp", &[("input", 111)], Verdict::Unacceptable),
            ("amdgpu", &[("input", 111), ("crit", 110), ("emergency", 114)], Verdict::Slow),
            ("nct6798", &[("input", 90), ("max", 127)], Verdict::Slow),
            ("nct6798", &[("input", 96)], Verdict::Unacceptable),
            ("jc42", &[("input", 61), ("max", 60)], Verdict::Slow),
        ] {
            with(chip, files).says(&SERVICE, verdict, &[chip, "is too hot"]);
        }
    }
}

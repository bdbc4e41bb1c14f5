//! What a cold boot of this server depends on besides files that are synchronised, read from its tree alone.
//!
//! ```text
//! packages          /var/lib/dpkg/status                       nginx → 1.22.1-9
//!   asked for       /var/lib/apt/extended_states               nginx → yes
//! units             /etc/systemd/system/*.wants, links         nginx.service → enabled, cups.service → masked
//! unit files        /etc/systemd/system, its drop-ins          nginx.service.d/limits.conf → a digest
//! files of units    what those of /etc/systemd/system name     app.service's /srv/app → of app, mode 0750
//! running           /sys/fs/cgroup                             nginx.service → running
//! kernel            /vmlinuz, /boot, /lib/modules, cmdline     default → 6.1.0-32-amd64, modules → there
//! network devices   /sys/class/net                             eth0 → up; names, for the configuration names them, and no addresses
//! network           /sys/class/net, /proc/net/route, ip rule   eth0's mtu → 1500, default route → by eth0
//! limits            /etc/security/limits*, /proc/sys           * hard nofile → 65536, vm.max_map_count → 65530
//! start pages       Services.json, document roots              *:80 → a digest of what clients see first
//! swap, resolver, time, locale
//! administrators    /etc/shadow, authorized_keys                root's password → usable, root's keys → a digest
//! ```
//!
//! What each of them means at a failover is decided in [`atlas_model::cold_boot`]. What is not there makes no fact.

mod administrators;
mod network;
mod start_pages;
pub(crate) mod unit_file;
mod unit_paths;
pub(crate) mod units;

use crate::here::{self, below, names, text};
use atlas_model::{
    cold_boot::{
        ASKED_FOR, DEVICES, KERNEL, LIMITS, NETWORK, PACKAGES, RUNNING, START_PAGES, SWAP, UNIT_FILES, UNIT_PATHS,
        UNITS,
    },
    verify::ColdBoot,
};
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

pub use atlas_model::cold_boot::{Difference, differences};

/// The largest list of packages that is read, in bytes.
const MAX_STATUS: u64 = 64 << 20;
/// The most facts of one subject.
const MAX_FACTS: usize = 20_000;
/// What of the kernel's settings does not follow from how large the machine is.
const SETTINGS: [&str; 8] = [
    "fs/nr_open",
    "fs/inotify/max_user_watches",
    "net/core/somaxconn",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/disable_ipv6",
    "vm/max_map_count",
    "vm/overcommit_memory",
    "vm/swappiness",
];

type Facts = BTreeMap<String, String>;

/// Gathers the facts of the server below `root`. Takes some milliseconds.
pub fn gather(root: &Path) -> ColdBoot {
    let packages = packages(root);
    let subjects = [
        (ASKED_FOR, packages.as_ref().and_then(|packages| asked_for(root, packages))),
        (PACKAGES, packages),
        (UNITS, units::enabled(root)),
        (UNIT_FILES, units::files(root)),
        (RUNNING, units::running(root)),
        (KERNEL, kernel(root)),
        (DEVICES, devices(root)),
        (UNIT_PATHS, unit_paths::facts(root)),
        (START_PAGES, start_pages::facts(root)),
        (NETWORK, network::facts(root)),
        (LIMITS, limits(root)),
        (SWAP, swap(root)),
        ("resolver", resolver(root)),
        ("time", time(root)),
        ("locale", locale(root)),
        ("administrators", administrators::facts(root)),
    ];
    let told = subjects.into_iter().filter_map(|(name, facts)| Some((name.to_owned(), facts?)));
    ColdBoot { subjects: told.map(|(name, facts)| (name, facts.into_iter().take(MAX_FACTS).collect())).collect() }
}

/// Installed packages; `None` where dpkg does not know of any.
pub(crate) fn packages(root: &Path) -> Option<Facts> {
    let file = File::open(below(root, "/var/lib/dpkg/status")).ok()?;
    let mut facts = Facts::new();
    let (mut name, mut version, mut is_installed) = (String::new(), String::new(), false);
    for line in BufReader::new(file.take(MAX_STATUS)).split(b'\n').map_while(Result::ok).chain([vec![]]) {
        if line.is_empty() {
            if is_installed && !name.is_empty() {
                facts.insert(std::mem::take(&mut name), std::mem::take(&mut version));
            }
            (name, version, is_installed) = (String::new(), String::new(), false);
        } else if let Some(value) = line.strip_prefix(b"Package: ") {
            name = String::from_utf8_lossy(value).trim().to_owned();
        } else if let Some(value) = line.strip_prefix(b"Version: ") {
            version = String::from_utf8_lossy(value).trim().to_owned();
        } else if let Some(value) = line.strip_prefix(b"Status: ") {
            is_installed = value.trim_ascii().ends_with(b" ok installed");
        }
    }
    (!facts.is_empty()).then_some(facts)
}

/// Those of the packages that did not come along with others; nothing where apt has noted none.
fn asked_for(root: &Path, packages: &Facts) -> Option<Facts> {
    let file = File::open(below(root, "/var/lib/apt/extended_states")).ok()?;
    let mut asked: Facts = packages.keys().map(|name| (name.clone(), "yes".to_owned())).collect();
    let mut name = String::new();
    for line in BufReader::new(file.take(MAX_STATUS)).split(b'\n').map_while(Result::ok) {
        if let Some(value) = line.strip_prefix(b"Package: ") {
            name = String::from_utf8_lossy(value).trim().to_owned();
        } else if line.trim_ascii() == b"Auto-Installed: 1" {
            asked.remove(&name);
        }
    }
    Some(asked)
}

/// The kernel that the next boot starts by default.
pub(crate) fn kernel(root: &Path) -> Option<Facts> {
    let of_link = |path: &str| {
        let target = std::fs::read_link(below(root, path)).ok()?;
        target.file_name()?.to_str()?.strip_prefix("vmlinuz-").map(str::to_owned)
    };
    let newest = || {
        let versions =
            names(root, "/boot").into_iter().filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()));
        versions.max_by(|a, b| by_number(a, b))
    };
    let default = of_link("/vmlinuz").or_else(|| of_link("/boot/vmlinuz")).or_else(newest)?;
    let modules =
        if here::is_there(root, &format!("/lib/modules/{default}/modules.dep")) { "there" } else { "missing" };
    let mut facts = Facts::from([("default".into(), default), ("modules".into(), modules.into())]);
    let line = text(root, "/proc/cmdline").unwrap_or_default();
    // Which disk, and which file: of this machine.
    let own = ["BOOT_IMAGE=", "root=", "initrd=", "resume=", "UUID="];
    let others: Vec<&str> =
        line.split_whitespace().filter(|word| !own.iter().any(|own| word.starts_with(own))).collect();
    if !others.is_empty() {
        facts.insert("command line".into(), others.join(" "));
    }
    Some(facts)
}

/// Versions as people order them: `6.1.0-9` before `6.1.0-32`.
fn by_number(a: &str, b: &str) -> Ordering {
    let split = |text: &str| -> Vec<(u64, String)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let word_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(word_end);
            let number_end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let (number, after) = after.split_at(number_end);
            parts.push((number.parse().unwrap_or(0), word.to_owned()));
            rest = after;
        }
        parts
    };
    let (a, b) = (split(a), split(b));
    let pairs = a.iter().zip(&b).map(|(a, b)| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
    pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
}

/// Network devices of the machine, not those that the configuration makes.
fn devices(root: &Path) -> Option<Facts> {
    let all = names(root, "/sys/class/net");
    let real = all.iter().filter(|name| here::is_there(root, &format!("/sys/class/net/{name}/device")));
    let state = |name: &String| {
        let state = text(root, &format!("/sys/class/net/{name}/operstate")).unwrap_or_default();
        (name.clone(), if state == "down" { "down".into() } else { "up".into() })
    };
    let facts: Facts = real.map(state).collect();
    (!all.is_empty()).then_some(facts)
}

fn limits(root: &Path) -> Option<Facts> {
    let mut facts = Facts::new();
    for setting in SETTINGS {
        if let Some(value) = text(root, &format!("/proc/sys/{setting}")) {
            facts.insert(setting.replace('/', "."), value.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    let dir = "/etc/security/limits.d";
    let drop_ins =
        names(root, dir).into_iter().filter(|name| name.ends_with(".conf")).map(|name| format!("{dir}/{name}"));
    for file in std::iter::once("/etc/security/limits.conf".to_owned()).chain(drop_ins) {
        for line in text(root, &file).unwrap_or_default().lines().filter(|line| !line.trim_start().starts_with('#')) {
            if let [who, kind, item, value] = line.split_whitespace().collect::<Vec<_>>()[..] {
                facts.insert(format!("{who} {kind} {item}"), value.to_owned());
            }
        }
    }
    (!facts.is_empty()).then_some(facts)
}

/// Nothing in it where there is no swap.
fn swap(root: &Path) -> Option<Facts> {
    let memory = text(root, "/proc/meminfo")?;
    let line = memory.lines().find_map(|line| line.strip_prefix("SwapTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(if kib == 0 { Facts::new() } else { Facts::from([("total".into(), format!("{} MiB", kib / 1024))]) })
}

fn resolver(root: &Path) -> Option<Facts> {
    let text = text(root, "/etc/resolv.conf")?;
    let mut facts = Facts::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let Some(key @ ("nameserver" | "search" | "domain" | "options")) = words.next() {
            let value = words.collect::<Vec<_>>().join(" ");
            facts.entry(key.to_owned()).and_modify(|all| *all = format!("{all} {value}")).or_insert(value);
        }
    }
    Some(facts)
}

fn time(root: &Path) -> Option<Facts> {
    let target = std::fs::read_link(below(root, "/etc/localtime")).ok()?;
    let target = target.to_string_lossy();
    let zone = target.split_once("zoneinfo/").map_or(&*target, |(_, zone)| zone).to_owned();
    let is_local = text(root, "/etc/adjtime").is_some_and(|text| text.lines().nth(2).map(str::trim) == Some("LOCAL"));
    let clock = if is_local { "local time" } else { "UTC" };
    Some(Facts::from([("zone".into(), zone), ("hardware clock".into(), clock.into())]))
}

fn locale(root: &Path) -> Option<Facts> {
    let text = text(root, "/etc/locale.conf").or_else(|| text(root, "/etc/default/locale"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    Some(pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn server() -> Server {
        let server = Server::new();
        server.write(
            "var/lib/dpkg/status",
            "Package: nginx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.22.1-9\nDescription: web\n Version: no\n\n\
             Package: apache2\nStatus: deinstall ok config-files\nVersion: 2.4\n\nPackage: zlib\nVersion: 1.3\nStatus: hold ok installed\n",
        );
        server.write("lib/systemd/system/nginx.service", "");
        server.write("lib/systemd/system/cups.service", "");
        server.link("/lib/systemd/system/nginx.service", "etc/systemd/system/multi-user.target.wants/nginx.service");
        server.link("/lib/systemd/system/cups.service", "etc/systemd/system/multi-user.target.wants/cups.service");
        server.link("/dev/null", "etc/systemd/system/cups.service");
        server.write("boot/vmlinuz-6.1.0-9-amd64", "");
        server.write("boot/vmlinuz-6.1.0-32-amd64", "");
        server.write("lib/modules/6.1.0-32-amd64/modules.dep", "");
        server.write("proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=UUID=1 ro quiet\n");
        server.write("sys/class/net/eth0/device/vendor", "");
        server.write("sys/class/net/eth0/operstate", "up\n");
        server.write("sys/class/net/eth0/address", "52:54:00:12:34:56\n");
        server.write("sys/class/net/eth1/device/vendor", "");
        server.write("sys/class/net/eth1/operstate", "down\n");
        server.write("sys/class/net/lo/operstate", "unknown\n");
        server.write("proc/sys/vm/swappiness", "60\n");
        server.write("etc/security/limits.conf", "# <domain> <type> <item> <value>\n* hard nofile 65536\n");
        server.write("proc/meminfo", "MemTotal: 8 kB\nSwapTotal:       2097152 kB\n");
        server.write("etc/resolv.conf", "# made\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch bakery.example\n");
        server.link("/usr/share/zoneinfo/Europe/Berlin", "etc/localtime");
        server.write("var/lib/apt/extended_states", "Package: zlib\nArchitecture: amd64\nAuto-Installed: 1\n\n");
        server.write("etc/default/locale", "#  File\nLANG=\"de_DE.UTF-8\"\n");
        server
    }

    fn facts<'f>(boots: &'f ColdBoot, subject: &str) -> Vec<(&'f str, &'f str)> {
        boots.subjects.get(subject).into_iter().flatten().map(|(fact, value)| (fact.as_str(), value.as_str())).collect()
    }

    #[test]
    fn everything_is_read_from_the_tree() {
        let server = server();
        let boots = gather(server.root());
        assert_eq!(facts(&boots, PACKAGES), [("nginx", "1.22.1-9"), ("zlib", "1.3")]);
        assert_eq!(facts(&boots, ASKED_FOR), [("nginx", "yes")]);
        assert_eq!(facts(&boots, UNITS), [("cups.service", "masked"), ("nginx.service", "enabled")]);
        assert_eq!(
            facts(&boots, KERNEL),
            [("command line", "ro quiet"), ("default", "6.1.0-32-amd64"), ("modules", "there")]
        );
        assert_eq!(facts(&boots, DEVICES), [("eth0", "up"), ("eth1", "down")]);
        assert_eq!(facts(&boots, LIMITS), [("* hard nofile", "65536"), ("vm.swappiness", "60")]);
        assert_eq!(facts(&boots, SWAP), [("total", "2048 MiB")]);
        assert_eq!(facts(&boots, "resolver"), [("nameserver", "10.0.0.1 10.0.0.2"), ("search", "bakery.example")]);
        assert_eq!(facts(&boots, "time"), [("hardware clock", "UTC"), ("zone", "Europe/Berlin")]);
        assert_eq!(facts(&boots, "locale"), [("LANG", "de_DE.UTF-8")]);
        assert!(gather(Server::new().root()).subjects.is_empty());
    }

    #[test]
    fn the_kernel_is_the_one_that_the_link_names() {
        let server = server();
        server.link("boot/vmlinuz-6.1.0-9-amd64", "vmlinuz");
        let boots = gather(server.root());
        assert!(facts(&boots, KERNEL).contains(&("default", "6.1.0-9-amd64")));
        assert!(facts(&boots, KERNEL).contains(&("modules", "missing")));
    }

    #[test]
    fn a_secondary_that_lost_something_differs_by_just_that() {
        use atlas_model::{EnvVersion, verify::Verdict};
        let (pri, sec) = (server(), server());
        sec.remove("etc/systemd/system/multi-user.target.wants/nginx.service");
        let status = std::fs::read_to_string(sec.root().join("var/lib/dpkg/status")).unwrap();
        sec.write("var/lib/dpkg/status", &status.replacen("install ok installed", "deinstall ok config-files", 1));
        let version = EnvVersion::OLDEST;
        let (pri, sec) = (gather(pri.root()), gather(sec.root()));
        assert!(differences((version, &pri), (version, &pri)).is_empty());
        let found = differences((version, &pri), (version, &sec));
        let told: Vec<_> = found.iter().map(|it| (it.subject.as_str(), it.fact.as_str(), it.weight)).collect();
        assert_eq!(told, [(UNITS, "nginx.service", Verdict::Unacceptable), (PACKAGES, "nginx", Verdict::Slow)]);
    }
}

//! What dnsmasq is configured to answer. It has no word for that: its files are read, and what the running one was started with.

use super::server::Server;
use crate::{
    here,
    service::Tree,
    services::{
        daemon::{Daemon, started},
        found::{Finding, is_loopback},
        included,
        running::device,
    },
};
use std::cell::RefCell;

const DAEMON: Daemon = Daemon { name: "dnsmasq", programs: &["dnsmasq"], units: &["dnsmasq.service"] };
/// What Debian passes over in its directory.
const LEFT: [&str; 3] = [".dpkg-dist", ".dpkg-old", ".dpkg-new"];

pub(super) fn dnsmasq(tree: &Tree, finding: &mut Finding) -> anyhow::Result<Option<Server>> {
    let main = tree.installed("dnsmasq", "/etc/dnsmasq.conf");
    if !tree.exists(main) || !DAEMON.is_there(tree) {
        return Ok(None);
    }
    finding.path(tree, main);
    let more = started::options(tree, finding, "dnsmasq", "CONFIG_DIR");
    let include = |line: &str| {
        let (key, value) = line.split('#').next()?.split_once('=')?;
        match key.trim() {
            "conf-file" => Some(vec![value.split(',').next()?.trim().to_owned()]),
            "conf-dir" => Some(of_dir(tree, value)),
            _ => None,
        }
    };
    let dirs = RefCell::new(vec![]);
    let include = |line: &str| {
        let included = include(line);
        // The directory itself, for what comes to lie in it.
        dirs.borrow_mut().extend(included.is_some().then(|| line.to_owned()));
        included
    };
    let mut lines = included::lines(tree, finding, main, &include)?;
    let value = more.first().map_or("/etc/dnsmasq.d", String::as_str);
    let usual = value.split(',').next().unwrap_or_default();
    for file in of_dir(tree, value).iter().filter(|file| !LEFT.iter().any(|end| file.ends_with(end))) {
        finding.path(tree, usual);
        lines.extend(included::lines(tree, finding, file, &include)?);
    }
    lines.extend(
        arguments(tree)?.unwrap_or_else(|| settings(&started::options(tree, finding, "dnsmasq", "DNSMASQ_OPTS"))),
    );
    lines.extend(dirs.into_inner());
    finding.files_of(tree, lines.iter().filter_map(|line| line.split('#').next()));
    let mut server = self::server(&lines, finding);
    if let Some(server) = &mut server {
        leave_out(server, &lines, device::of_clients(tree.path()).as_deref());
    }
    if server.is_none() {
        finding.note(
            "dnsmasq answers for no names; that it gives out addresses (DHCP, ports 67 and 547) is not exercised"
                .into(),
        );
    }
    Ok(server)
}

/// The files of `/dir`, `/dir,.bak` (not those) or `/dir,*.conf` (those alone).
fn of_dir(tree: &Tree, value: &str) -> Vec<String> {
    let mut parts = value.split(',').map(str::trim);
    let dir = parts.next().unwrap_or_default().trim_end_matches('/');
    let (only, not): (Vec<&str>, Vec<&str>) = parts.filter(|end| !end.is_empty()).partition(|end| end.starts_with('*'));
    let is_taken = |file: &String| {
        let is_rest = file.ends_with('~') || file.ends_with('#');
        let is_only = only.is_empty() || only.iter().any(|end| file.ends_with(end.trim_start_matches('*')));
        !is_rest && is_only && !not.iter().any(|end| file.ends_with(end))
    };
    tree.matching(&format!("{dir}/*")).into_iter().filter(is_taken).collect()
}

/// What the running one was started with, if one runs, as lines of its file: `/etc/default/dnsmasq` and drop-ins of its unit say more than the file does.
fn arguments(tree: &Tree) -> anyhow::Result<Option<Vec<String>>> {
    // Others run beside it, of libvirt and the like. This file is written anew at each start.
    let pid = tree.read("/run/dnsmasq/dnsmasq.pid")?.unwrap_or_default();
    let Ok(pid) = pid.trim().parse::<u32>() else { return Ok(None) };
    let line = here::text(tree.path(), &format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split('\0');
    if words.next().is_none_or(|program| program.rsplit('/').next() != Some("dnsmasq")) {
        return Ok(None);
    }
    Ok(Some(settings(&words.map(str::to_owned).collect::<Vec<_>>())))
}

/// Words that it is started with, as lines of its file.
fn settings(words: &[String]) -> Vec<String> {
    let mut words = words.iter().map(String::as_str);
    let mut lines = vec![];
    while let Some(word) = words.next() {
        let short = SHORT.iter().find_map(|(short, name)| Some((name, word.strip_prefix(short)?)));
        match (word.strip_prefix("--"), short) {
            (Some(long), _) => lines.push(long.to_owned()),
            (None, Some((name, ""))) => lines.push(format!("{name}={}", words.next().unwrap_or_default())),
            (None, Some((name, value))) => lines.push(format!("{name}={value}")),
            (None, None) => {}
        }
    }
    lines
}

/// Short names of what counts here.
const SHORT: [(&str, &str); 4] = [("-p", "port"), ("-a", "listen-address"), ("-i", "interface"), ("-H", "addn-hosts")];

/// What takes away the effect of `local-service`.
const SAID: [&str; 4] = ["interface", "except-interface", "listen-address", "auth-server"];

/// It does not answer at the device by which clients come, or may not: `except-interface=eth0`.
fn leave_out(server: &mut Server, lines: &[String], device: Option<&str>) {
    let words = lines.iter().filter_map(|line| line.split('#').next()?.split_once('='));
    let excepted = words.filter(|(name, _)| name.trim() == "except-interface").flat_map(|(_, value)| value.split(','));
    for excepted in excepted.map(str::trim).filter(|name| *name != "lo") {
        match device {
            Some(device) => {
                let is_it = excepted.strip_suffix('*').map_or(excepted == device, |begin| device.starts_with(begin));
                server.is_local |= is_it;
            }
            None => server.is_limited = true,
        }
    }
}

fn server(lines: &[String], finding: &mut Finding) -> Option<Server> {
    let pairs = || {
        lines.iter().filter_map(|line| line.split('#').next()).map(|line| line.split_once('=').unwrap_or((line, "")))
    };
    let value = |key: &'static str| pairs().filter(move |(name, _)| name.trim() == key).map(|(_, value)| value.trim());
    let port = value("port").next_back().map_or(Ok(53), |port| port.parse()).unwrap_or(53);
    let at: Vec<&str> =
        value("listen-address").chain(value("interface")).flat_map(|at| at.split(',')).map(str::trim).collect();
    let is_said = pairs().any(|(name, _)| SAID.contains(&name.trim()));
    let service = value("local-service").next_back().filter(|_| !is_said);
    if let Some(other) = service.filter(|service| !["", "net", "host"].contains(service)) {
        finding.problem(format!("dnsmasq: local-service={other} is not understood: it is net or host"));
    }
    let is_local = service == Some("host") || !at.is_empty() && at.iter().all(|at| is_loopback(at));
    let addresses = at.into_iter().map(str::to_owned).collect();
    let is_of_net = service.is_some() && !is_local;
    // Port 0 means that it only gives out addresses.
    (port != 0).then_some(Server { port, is_local, addresses, is_of_net, ..Server::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server as Root;

    #[test]
    fn it_does_not_answer_at_a_device_that_is_left_out() {
        let without = |line: &str, device: Option<&str>| {
            let mut server = Server::default();
            leave_out(&mut server, &[line.to_owned()], device);
            (server.is_local, server.is_limited)
        };
        assert_eq!(without("except-interface=eth0", Some("eth0")), (true, false));
        assert_eq!(without("except-interface = wlan0,eth* # the others", Some("eth0")), (true, false));
        assert_eq!(without("except-interface=eth1", Some("eth0")), (false, false));
        assert_eq!(without("except-interface=eth1", None), (false, true));
        assert_eq!(without("except-interface=lo", None), (false, false));
    }

    #[test]
    fn dnsmasq_is_read_with_all_that_it_includes() {
        let root = Root::with(&[
            ("etc/dnsmasq.conf", "port=54 # ours\nconf-dir=/srv/dns/,*.conf\n"),
            ("srv/dns/a.conf", "interface=lo\n"),
            ("etc/dnsmasq.d/old.dpkg-old", "port=0\n"),
        ]);
        let found = dnsmasq(&root.tree(), &mut Finding::default()).unwrap().unwrap();
        assert_eq!((found.port, found.is_local), (54, true));
        assert_eq!(server(&["port=0".to_owned()], &mut Finding::default()), None);
    }

    #[test]
    fn a_directory_says_which_of_its_files_count_and_travels() {
        let root = Root::with(&[
            ("etc/dnsmasq.conf", "conf-dir=/srv/a,.bak\nconf-dir=/srv/b,*.conf,*.dns\nconf-script=/srv/script x\n"),
            ("srv/a/one", "port=54\n"),
            ("srv/a/two.bak", "port=55\n"),
            ("srv/a/three~", "port=56\n"),
            ("srv/b/one.dns", "interface=lo\n"),
            ("srv/b/two", "port=57\n"),
            ("srv/script", ""),
        ]);
        let mut finding = Finding::default();
        let found = dnsmasq(&root.tree(), &mut finding).unwrap().unwrap();
        assert_eq!((found.port, found.is_local), (54, true));
        assert_eq!(finding.done().paths, ["/etc/dnsmasq.conf", "/srv/script", "/srv/a", "/srv/b"]);
    }

    #[test]
    fn debian_s_own_setting_names_another_directory() {
        let root = Root::with(&[
            ("etc/dnsmasq.conf", ""),
            ("etc/dnsmasq.d/a", "port=54\n"),
            ("srv/dns/a", "port=55\n"),
            ("etc/default/dnsmasq", "CONFIG_DIR=/srv/dns,.dpkg-dist\n"),
        ]);
        let mut finding = Finding::default();
        assert_eq!(dnsmasq(&root.tree(), &mut finding).unwrap().unwrap().port, 55);
        assert!(finding.done().paths.contains(&"/srv/dns".to_owned()));
    }

    #[test]
    fn whom_local_service_lets_in_is_understood_or_told() {
        for (text, is_local, is_of_net) in [
            ("local-service", false, true),
            ("local-service = net", false, true),
            ("local-service=host # ours", true, false),
            ("local-service\nlisten-address=192.0.2.1", false, false),
            ("local-service=host\nexcept-interface=eth1", false, false),
        ] {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let found = server(&lines, &mut Finding::default()).unwrap();
            assert_eq!((found.is_local, found.is_of_net), (is_local, is_of_net), "{text}");
        }
        let mut finding = Finding::default();
        server(&["local-service=lan".to_owned()], &mut finding);
        assert_eq!(finding.done().problems, ["dnsmasq: local-service=lan is not understood: it is net or host"]);
    }

    #[test]
    fn what_dnsmasq_was_started_with_comes_last() {
        let root = Root::with(&[("etc/dnsmasq.conf", "port=54\n"), ("run/dnsmasq/dnsmasq.pid", "42\n")]);
        let found = |root: &Root| {
            let server = dnsmasq(&root.tree(), &mut Finding::default()).unwrap().unwrap();
            (server.port, server.addresses)
        };
        assert_eq!(found(&root), (54, vec![]));
        root.write(
            "proc/42/cmdline",
            "/usr/sbin/dnsmasq\0-x\0/run/dnsmasq/dnsmasq.pid\0-p\x005300\0--listen-address=192.0.2.1\0-u\0dnsmasq\0",
        );
        assert_eq!(found(&root), (5300, vec!["192.0.2.1".to_owned()]));
        // The number is another program's by now.
        root.write("proc/42/cmdline", "sleep\0-p\x0055\0");
        assert_eq!(found(&root), (54, vec![]));
    }
}

//! Who else listens: what clients can reach on this server and nobody exercises is said. A second instance of a daemon, a proxy, an application of one's
//! own has no configuration that SetUp reads.
//!
//! ```text
//! /proc/net/tcp, tcp6, udp, udp6   ports that are listened on, not by this server alone
//!   − instances, and what notes name                            what is exercised, or known not to be
//! /proc/PID/fd, comm, cgroup   who it is: the program and its unit
//! ```

use crate::{exchange, here};
use atlas_model::verify::Found;
use procfs::{
    FromBufReadSI, current_system_info,
    net::{TcpNetEntries, TcpState, UdpNetEntries, UdpState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// The kind of service that the notes stand with.
const WHERE: &str = "services";
/// From here on ports are given out as they are asked for, and are others after a restart.
const GIVEN_OUT: u16 = 32768;
/// Helpers of services that are exercised. The kernel's own sockets have no process.
const HELPERS: [&str; 6] = ["rpcbind", "rpc.mountd", "rpc.statd", "blkmapd", "VerifierControl", "ssSyncLoop"];
/// The most that are told.
const MOST: usize = 20;

/// Adds a note for each port.
pub(super) fn note(root: &Path, found: &mut BTreeMap<String, Found>) {
    let unknown = unknown(&listening(root), found);
    let owners = if unknown.is_empty() { BTreeMap::new() } else { owners(root, &unknown) };
    let Some(services) = found.get_mut(WHERE) else { return };
    for (port, owner) in owners.into_iter().take(MOST) {
        services.notes.push(format!(
            "{owner} listens on port {port}, and nothing there is exercised: a VerifyService of your own can do so"
        ));
    }
}

/// The ports at which others can reach this server, with the sockets.
fn listening(root: &Path) -> Vec<(u16, u64)> {
    let tables = ["proc/net/tcp", "proc/net/tcp6"].map(|table| here::text(root, table).unwrap_or_default());
    let entries =
        tables.iter().filter_map(|table| TcpNetEntries::from_buf_read(table.as_bytes(), current_system_info()).ok());
    let listening = entries.flat_map(|table| table.0).filter(|entry| entry.state == TcpState::Listen);
    let all = listening.filter(|entry| !here::is_own(entry.local_address.ip()));
    let all = all.map(|entry| (entry.local_address.port(), entry.inode));
    all.chain(over_udp(root)).filter(|(port, _)| *port < GIVEN_OUT).collect()
}

/// Those of UDP: sockets that talk to nobody yet.
fn over_udp(root: &Path) -> Vec<(u16, u64)> {
    let tables = ["proc/net/udp", "proc/net/udp6"].map(|table| here::text(root, table).unwrap_or_default());
    let entries =
        tables.iter().filter_map(|table| UdpNetEntries::from_buf_read(table.as_bytes(), current_system_info()).ok());
    let waiting = entries.flat_map(|table| table.0).filter(|entry| entry.state == UdpState::Close);
    let all = waiting.filter(|entry| !here::is_own(entry.local_address.ip()) && entry.remote_address.port() == 0);
    all.map(|entry| (entry.local_address.port(), entry.inode)).filter(|(port, _)| !OF_CLIENTS.contains(port)).collect()
}

/// Ports of UDP at which clients wait for answers: DHCP, its IPv6, and names in the neighbourhood.
const OF_CLIENTS: [u16; 4] = [68, 546, 5353, 5355];

/// Those of them that no service has and no note names, by socket.
fn unknown(listening: &[(u16, u64)], found: &BTreeMap<String, Found>) -> BTreeMap<u64, u16> {
    let instances = found.values().flat_map(|found| &found.instances);
    let mut known: BTreeSet<u16> = instances.filter_map(|one| one.options.get("port")?.parse().ok()).collect();
    known.insert(exchange::PORT);
    let numbers = |text: &String| -> Vec<u16> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
    };
    let texts = found.values().flat_map(|found| found.notes.iter().chain(&found.problems));
    known.extend(texts.flat_map(numbers));
    listening.iter().filter(|(port, _)| !known.contains(port)).map(|(port, socket)| (*socket, *port)).collect()
}

/// Who has these sockets open, by port.
fn owners(root: &Path, sockets: &BTreeMap<u64, u16>) -> BTreeMap<u16, String> {
    let mut owners = BTreeMap::new();
    for pid in here::names(root, "proc").iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
        for fd in here::names(root, &format!("proc/{pid}/fd")) {
            let link = std::fs::read_link(here::below(root, &format!("proc/{pid}/fd/{fd}"))).unwrap_or_default();
            let socket = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let Some(port) = socket.and_then(|socket: u64| sockets.get(&socket)) else { continue };
            let name = here::text(root, &format!("proc/{pid}/comm")).unwrap_or_default();
            if !HELPERS.contains(&name.as_str()) {
                owners.entry(*port).or_insert_with(|| shown(&name, unit(root, pid).as_deref()));
            }
        }
    }
    owners
}

/// The unit that a process belongs to.
fn unit(root: &Path, pid: &str) -> Option<String> {
    let groups = here::text(root, &format!("proc/{pid}/cgroup"))?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let unit = path.rsplit('/').find(|part| part.ends_with(".service") || part.ends_with(".socket"))?;
    Some(unit.to_owned())
}

fn shown(name: &str, unit: Option<&str>) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    unit.map_or(name.clone(), |unit| format!("{name} ({unit})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::verify::Instance;

    #[test]
    fn who_listens_and_is_exercised_by_nobody_is_told() {
        let line = |at: &str, port: u16, socket: u64| {
            format!(
                "   0: {at}:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {socket} 1 0 100 0 0 10 0\n"
            )
        };
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let any = "00000000";
        let table = [
            head.to_owned(),
            line(any, 80, 1),
            line(any, 2260, 2),
            line("0100007F", 3000, 3),
            line(any, 40_000, 4),
            line(any, 111, 5),
            line(any, 853, 6),
            line(any, 2049, 7),
        ]
        .concat();
        let udp = |port: u16, socket: u64| line(any, port, socket).replace(" 0A ", " 07 ");
        let of_udp = [head.to_owned(), udp(1194, 11), udp(68, 12), udp(40_001, 13), udp(80, 14)].concat();
        let server = Server::with(&[
            ("proc/net/tcp", &table),
            ("proc/net/udp", &of_udp),
            ("proc/10/comm", "openvpn\n"),
            ("proc/7/comm", "sshd\n"),
            ("proc/7/cgroup", "0::/system.slice/sshd-int.service\n"),
            ("proc/8/comm", "rpcbind\n"),
            ("proc/9/comm", "named\n"),
        ]);
        for (link, socket) in [
            ("proc/7/fd/3", 2),
            ("proc/7/fd/4", 1),
            ("proc/8/fd/3", 5),
            ("proc/9/fd/3", 6),
            ("proc/10/fd/3", 11),
            ("proc/10/fd/4", 12),
        ] {
            std::fs::create_dir_all(server.root().join(link).parent().unwrap()).unwrap();
            server.link(&format!("socket:[{socket}]"), link);
        }
        let instance = Instance { options: [("port".into(), "80".into())].into(), ..Instance::default() };
        let bind = "bind answers over TLS or HTTPS at port 853, which is not exercised".to_owned();
        let mut found = BTreeMap::from([
            ("services".to_owned(), Found::default()),
            ("web".to_owned(), Found { instances: vec![instance], ..Found::default() }),
            ("dns".to_owned(), Found { notes: vec![bind], ..Found::default() }),
        ]);
        note(server.root(), &mut found);
        let [openvpn, told] = &found["services"].notes[..] else { panic!("{:?}", found["services"].notes) };
        assert!(openvpn.starts_with("openvpn listens on port 1194"), "{openvpn}");
        assert!(told.starts_with("sshd (sshd-int.service) listens on port 2260, and nothing"), "{told}");
    }
}

//! Whether the services listen where clients come, and not to this server alone: `/proc/net/tcp`, `/proc/net/tcp6`.

use crate::here::{self, Faults};
use atlas_model::verify::{Fault, Verdict};
use procfs::{
    FromBufReadSI, current_system_info,
    net::{TcpNetEntries, TcpState},
};
use std::{collections::BTreeSet, net::IpAddr, path::Path};

/// Looks at each port. One on which nobody listens is told by whoever finds that the service does not run.
pub(super) fn look(root: &Path, ports: &[(String, u16, bool)], faults: &mut Faults) {
    let tables = ["proc/net/tcp", "proc/net/tcp6"].map(|table| here::text(root, table).unwrap_or_default());
    let entries =
        tables.iter().filter_map(|table| TcpNetEntries::from_buf_read(table.as_bytes(), current_system_info()).ok());
    let listening = entries.flat_map(|table| table.0).filter(|entry| entry.state == TcpState::Listen);
    let addresses: Vec<(IpAddr, u16)> =
        listening.map(|entry| (entry.local_address.ip(), entry.local_address.port())).collect();
    for (service, port, _) in ports.iter().filter(|(_, _, is_udp)| !is_udp) {
        let at: BTreeSet<IpAddr> = addresses.iter().filter(|(_, at)| at == port).map(|(address, _)| *address).collect();
        if !at.is_empty() && at.iter().all(|address| here::is_own(*address)) {
            let at: Vec<String> = at.iter().map(ToString::to_string).collect();
            let what = format!("{service} listens on {} alone, port {port}: clients cannot reach it", at.join(" and "));
            let hint = format!("ss -ltnp 'sport = :{port}'; what its configuration says of addresses");
            faults.add(Fault::new(Verdict::Unacceptable, what, hint).is("address", &[service]));
        }
    }
}

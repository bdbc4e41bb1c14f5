//! The addresses of a cluster's other servers, as far as this one's disks say them.

use crate::{SidData, SidError, snapshot};
use atlas_host::net::addresses;
use atlas_model::{
    Role,
    address::{Described, Plan},
    manifest::FileSet,
};
use std::net::IpAddr;

/// Static addresses of the newest Snapshot of `role`; none where there is no Snapshot.
pub fn of_role(sid: &SidData, role: Role) -> Result<Vec<IpAddr>, SidError> {
    let Some(role_dir) = sid.role_dir(role)? else { return Ok(vec![]) };
    let Some(version) = snapshot::newest(&role_dir)? else { return Ok(vec![]) };
    let files = role_dir.dir(format!("{}/{}", version.dir_name(), FileSet::Ident.dir_name()));
    Ok(files.map(|files| addresses::read(&files).addresses()).unwrap_or_default())
}

/// Those of a configuration that are one server's alone: on a wire, for a bridge between the containers of one server may have the same address as
/// that of another.
pub fn on_wires(plan: &Plan) -> impl Iterator<Item = IpAddr> {
    let is_island = |name: &String| plan.uppers.iter().any(|upper| &upper.name == name && upper.over.is_empty());
    let on_a_wire = move |one: &&Described| one.cards.names.is_empty() || !one.cards.names.iter().all(is_island);
    let addresses = plan.described.iter().filter(on_a_wire).flat_map(|one| one.addresses.iter().copied());
    addresses.filter(is_of_one_server)
}

/// Every server has the others, or may.
fn is_of_one_server(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_unspecified(),
    }
}

/// A host that is an address, or that `hosts`, the text of `/etc/hosts`, gives one.
pub fn of_host(host: &str, hosts: &str) -> Vec<IpAddr> {
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    let line = |line: &str| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    };
    hosts.lines().filter_map(line).filter(|address| !address.is_loopback()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_is_named_by_the_file_of_hosts() {
        let hosts = "127.0.0.1 localhost pri\n192.168.77.1 pri.bakery PRI # main\n# 1.1.1.1 pri\nnonsense pri\n";
        let shown = |host: &str| of_host(host, hosts).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown("192.168.77.9"), ["192.168.77.9"]);
        assert_eq!(shown("pri"), ["192.168.77.1"]);
        assert!(shown("sec1").is_empty());
    }
}

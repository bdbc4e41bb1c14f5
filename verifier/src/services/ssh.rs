//! ssh: somebody listens where sshd is configured to, and speaks the protocol in good time.

use crate::service::{Service, Target, Tree};
use atlas_model::verify::{Found, Instance, Profile};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    time::Instant,
};

pub(super) const SERVICE: Service = Service {
    name: "ssh",
    about: "sshd accepts connections on its ports and says who it is",
    interval: 30,
    deadline: 10,
    find,
    verify,
};

const CONFIG: &str = "/etc/ssh";
/// The longest greeting line that the protocol allows, in bytes.
const LONGEST: u64 = 255;

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let dir = tree.installed("ssh", CONFIG);
    let main = format!("{dir}/sshd_config");
    let Some(mut text) = tree.read(&main)? else { return Ok(Found { format: 1, ..Found::default() }) };
    let drop_ins = format!("{dir}/sshd_config.d");
    for name in tree.names(&drop_ins).iter().filter(|name| name.ends_with(".conf")) {
        // A drop-in stands before the rest, which does not matter for ports: they add up.
        text.push_str(&format!("\n{}", tree.read(&format!("{drop_ins}/{name}"))?.unwrap_or_default()));
    }
    let instances = ports(&text).into_iter().map(|port| Instance {
        name: port.to_string(),
        options: BTreeMap::from([("port".into(), port.to_string())]),
        ..Instance::default()
    });
    let paths = [main].into_iter().chain(tree.exists(&drop_ins).then_some(drop_ins)).collect();
    Ok(Found { format: 1, instances: instances.collect(), paths, ..Found::default() })
}

/// The ports that sshd listens on by this configuration.
fn ports(config: &str) -> Vec<u16> {
    let mut ports: Vec<u16> = config
        .lines()
        // What stands under a Match is not about the server as a whole.
        .take_while(|line| !line.trim_start().to_ascii_lowercase().starts_with("match "))
        .filter_map(|line| {
            let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
            words.next().filter(|word| word.eq_ignore_ascii_case("port")).and_then(|_| words.next()?.parse().ok())
        })
        .collect();
    if ports.is_empty() {
        ports.push(22);
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let port = target.port(22)?;
    let start = Instant::now();
    let hint = format!(
        "on that server: systemctl status ssh; sshd -t; ss -ltnp 'sport = :{port}'; and its firewall: nft list ruleset"
    );
    let stream = match target.connect(port)? {
        Ok(stream) => stream,
        Err(error) => return Ok(Profile::unacceptable(format!("nobody answers on port {port}: {error}")).hint(hint)),
    };
    let mut greeting = String::new();
    let read = BufReader::new(stream.take(LONGEST)).read_line(&mut greeting);
    let greeting = greeting.trim_end();
    Ok(match read {
        Err(error) => Profile::unacceptable(format!("port {port} accepts and then says nothing: {error}")).hint(hint),
        Ok(_) if !greeting.starts_with("SSH-2.0-") => {
            Profile::unacceptable(format!("what answers on port {port} is no ssh: '{}'", greeting.escape_debug()))
                .hint(hint)
        }
        Ok(_) => {
            Profile::ok(format!("{} answers on port {port}", greeting.trim_start_matches("SSH-2.0-").escape_debug()))
                .measure(target.time("answer", start, 1000.0, None)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_configuration_and_22_where_it_names_none() {
        assert_eq!(ports("# Port 99\nPermitRootLogin no\n"), [22]);
        assert_eq!(ports("Port 2222\nport=22\nPort 22\nMatch User x\n  Port 5\n"), [22, 2222]);
    }
}

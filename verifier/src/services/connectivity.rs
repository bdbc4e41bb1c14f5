//! connectivity: packets come back, large ones too, and how fast. Any host can be asked, a router as well.

use crate::service::{Service, Target, Tree};
use anyhow::Context;
use atlas_host::process::Command;
use atlas_model::verify::{Found, Instance, Profile, Worse};
use std::net::IpAddr;

pub(super) const SERVICE: Service = Service {
    name: "connectivity",
    about: "the host answers echo requests, small and larger than a packet, and at what rate",
    interval: 30,
    deadline: 15,
    find,
    verify,
};

/// What `ping` sends unless told otherwise, in bytes.
const SMALL: u32 = 56;
/// Six packets of an Ethernet, in bytes.
const LARGE: u32 = 8000;
/// How many are sent one after the other, and how many at once: as many as anybody may.
const COUNT: u32 = 3;

fn find(_: &Tree) -> anyhow::Result<Found> {
    Ok(Found { format: 1, instances: vec![Instance::default()], ..Found::default() })
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let address = target.address()?;
    let hint = format!(
        "here: ip route get {address}; ip -br link; nft list ruleset; on that server: ip -br address; nft list ruleset"
    );
    let small = match ping(target, address, SMALL)? {
        Err(why) => {
            let what = format!("nothing can be sent to {address}: {why}");
            return Ok(Profile::unacceptable(what).hint(hint).kind("unreachable"));
        }
        Ok(echoes) => echoes,
    };
    let Some(answer) = small.average_ms else {
        let what = format!("{address} answers no echo request (ping)");
        return Ok(Profile::unacceptable(what).hint(hint).kind("unreachable"));
    };
    let mut profile = Profile::ok(format!("{address} answers"))
        .measure(target.measure("answer", answer, "ms", (Some(50.0), Some(1000.0)), Worse::Higher)?)
        .measure(target.measure("lost", small.lost_percent(), "%", (Some(0.0), Some(50.0)), Worse::Higher)?);
    if target.option("fragments") == Some("no") {
        return Ok(profile);
    }
    let large = ping(target, address, LARGE)?.unwrap_or_default();
    let (Some(fragmented), Some(slowest)) = (large.average_ms, large.slowest_ms) else {
        return Ok(Profile::unacceptable(format!("{address} answers, but not to packets that are sent in fragments"))
            .hint(format!("here: ping -s {LARGE} {address}; tracepath {address}; look for unequal MTUs (ip link) and for a firewall that drops fragments"))
            .kind("fragments"));
    };
    profile = profile.measure(target.measure("fragmented", fragmented, "ms", (Some(100.0), None), Worse::Higher)?);
    // All of them were sent at once: the last was back when all had gone there and back.
    let bytes = f64::from(large.received * LARGE);
    let rate = (bytes / (slowest.max(0.001) / 1e3)).round();
    Ok(profile.measure(target.measure("rate", rate, "B/s", (None, None), Worse::Lower)?))
}

/// What came back.
#[derive(Debug, Default, PartialEq)]
struct Echoes {
    sent: u32,
    received: u32,
    average_ms: Option<f64>,
    slowest_ms: Option<f64>,
}

impl Echoes {
    fn lost_percent(&self) -> f64 {
        f64::from(self.sent.saturating_sub(self.received)) * 100.0 / f64::from(self.sent.max(1))
    }
}

/// Asks for echoes; inside, why nothing could be sent.
fn ping(target: &Target, address: IpAddr, size: u32) -> anyhow::Result<Result<Echoes, String>> {
    let mut command = Command::new("ping").args(["-n", "-q", "-W", "2", "-i", "0.2"]);
    command = command.arg("-c").arg(COUNT.to_string()).arg("-s").arg(size.to_string());
    if size == LARGE {
        command = command.arg("-l").arg(COUNT.to_string());
    }
    let output = target
        .run(command.arg(address.to_string()))
        .context("ask for echoes with ping (Debian package iputils-ping)")?;
    if let Some(echoes) = echoes(&output.text()) {
        return Ok(Ok(echoes));
    }
    let complaint = output.complaint();
    // Anything else is about the program, not about the network.
    anyhow::ensure!(complaint.contains("nreachable") || complaint.contains("sendmsg"), "ping failed: {complaint}");
    Ok(Err(complaint))
}

/// Reads the last lines of `ping`, of iputils or of busybox.
fn echoes(text: &str) -> Option<Echoes> {
    let counts = text.lines().find(|line| line.contains("packets transmitted"))?;
    let count = |what: &str| {
        let part = counts.split(',').find(|part| part.contains(what))?;
        part.split_whitespace().next()?.parse::<u32>().ok()
    };
    let times = text.lines().find(|line| line.contains("min/avg/max")).and_then(|line| line.split(" = ").nth(1));
    let time = |index| times.and_then(|times| times.trim_end_matches(" ms").split('/').nth(index)?.parse().ok());
    Some(Echoes { sent: count("transmitted")?, received: count("received")?, average_ms: time(1), slowest_ms: time(2) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_ping_are_read_as_iputils_and_busybox_write_them() {
        let iputils = "PING 10.0.0.1 (10.0.0.1) 56(84) bytes of data.\n\n--- 10.0.0.1 ping statistics ---\n\
            3 packets transmitted, 2 received, +1 errors, 33.3333% packet loss, time 409ms\n\
            rtt min/avg/max/mdev = 0.030/0.046/0.061/0.012 ms\n";
        let expected = Echoes { sent: 3, received: 2, average_ms: Some(0.046), slowest_ms: Some(0.061) };
        assert_eq!(echoes(iputils), Some(expected));
        let busybox = "3 packets transmitted, 3 packets received, 0% packet loss\nround-trip min/avg/max = 0.030/0.046/0.061 ms\n";
        assert_eq!(echoes(busybox).unwrap().lost_percent(), 0.0);
        let none = echoes("3 packets transmitted, 0 received, 100% packet loss, time 2049ms\n").unwrap();
        assert_eq!((none.average_ms, none.lost_percent()), (None, 100.0));
        assert_eq!(echoes("ping: connect: Network is unreachable\n"), None);
    }
}

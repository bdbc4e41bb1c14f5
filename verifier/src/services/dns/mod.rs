//! dns: servers answer for their zones, and this server's own resolver works.
//!
//! ```text
//!  bind9, unbound, dnsmasq ─► an instance per zone (its SOA), or one per server (a name that it is asked for)
//!  /etc/resolv.conf        ─► `resolver`, asked by each server on itself, through the system's own lookup
//! ```
//!
//! Questions go over UDP, as clients' do, and over TCP where nobody listens on UDP. Of a zone that is signed, the end of its signatures is read.

mod bind;
mod dnsmasq;
mod matched;
mod message;
mod server;
mod unbound;

use super::{
    access,
    found::{Finding, Six, reached},
};
use crate::{
    here,
    service::{DATA, Service, Target, Tree},
    talk,
};
use anyhow::Context;
use atlas_host::process::Command;
use atlas_model::verify::{At, Found, Instance, Profile, Verdict, Worse};
use message::{Answer, Kind, Record};
use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

pub(super) const SERVICE: Service = Service {
    name: "dns",
    about: "name servers answer for their zones, and this server's own resolver works",
    interval: 60,
    deadline: 15,
    find,
    verify,
};

/// The most zones that are exercised of one server.
const MAX_ZONES: usize = 200;
/// The option that names who is shown another view than that of the zone.
const SHADOWED: &str = "shadowed";
/// The option of one that answers over TCP alone.
const TRANSPORT: &str = "transport";
/// How many days before its signatures end a zone is told of: whoever signs it anew does so before that.
const SIGNATURES: f64 = 1.0;
/// How long an answer may take where some are left out, in milliseconds: it is asked for three times.
const RATIONED_SLOW: &str = "12000";
/// Zones that every installation has; they say nothing of this one.
const USUAL: [&str; 4] = ["localhost", "127.in-addr.arpa", "0.in-addr.arpa", "255.in-addr.arpa"];

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let servers = [
        ("bind", bind::bind(tree, &mut finding)),
        ("unbound", unbound::unbound(tree, &mut finding)),
        ("dnsmasq", dnsmasq::dnsmasq(tree, &mut finding)),
    ];
    for (name, server) in servers {
        match server {
            Ok(Some(server)) => take(&mut finding, name, server),
            Ok(None) => (),
            Err(error) => finding.problem(format!("{name}: {}", atlas_cli::in_one_line(&error))),
        }
    }
    let nameservers = tree.read("/etc/resolv.conf")?.unwrap_or_default();
    if nameservers.lines().any(|line| line.trim_start().starts_with("nameserver")) {
        let options = BTreeMap::from([("resolver".into(), "yes".into())]);
        finding.instance(Instance { name: "resolver".into(), options, at: At::Here });
    }
    Ok(finding.done())
}

fn take(finding: &mut Finding, name: &str, server: server::Server) {
    let (at, bound) = reached(server.addresses.iter().map(String::as_str), Six::Alone);
    let at = if server.is_local { At::Here } else { at };
    let port = ("port".to_owned(), server.port.to_string());
    let rationed = server.is_rationed.then(|| ("answer-slow".to_owned(), RATIONED_SLOW.to_owned()));
    let tcp = server.is_of_tcp.then(|| (TRANSPORT.to_owned(), "tcp".to_owned()));
    let bound: Vec<(String, String)> = bound.chain(rationed).chain(tcp).collect();
    let limited = |is_limited: bool, clients: Vec<String>| {
        let clients = (is_limited && !clients.is_empty()).then(|| (access::CLIENTS.to_owned(), clients.join(" ")));
        is_limited.then(|| ("limited".to_owned(), "yes".to_owned())).into_iter().chain(clients)
    };
    let seen = |is_of_view: bool| is_of_view.then(|| ("limited".to_owned(), "view".to_owned()));
    let of_net = server.is_of_net.then(|| ("limited".to_owned(), "net".to_owned()));
    let mut zones = server.zones;
    zones.sort_by(|a, b| a.name.cmp(&b.name));
    zones.retain(|zone| !USUAL.contains(&zone.name.as_str()));
    if zones.len() > MAX_ZONES {
        finding.problem(format!("{name} has {} zones; the first {MAX_ZONES} are exercised", zones.len()));
    }
    if zones.is_empty() {
        finding.note(format!(
            "{name} is asked for localhost alone: set `name` to one of others, to know that it finds these"
        ));
        let options = [port.clone()]
            .into_iter()
            .chain(bound.clone())
            .chain(limited(server.is_limited, server.clients))
            .chain(of_net)
            .collect();
        finding.instance(Instance { name: name.into(), options, at });
    }
    for zone in zones.into_iter().take(MAX_ZONES) {
        let own = [port.clone(), ("zone".into(), zone.name.clone())];
        let options = own.into_iter().chain(bound.clone()).chain(limited(zone.is_limited, zone.clients));
        let shadowed = (!zone.shadowed.is_empty()).then(|| (SHADOWED.to_owned(), zone.shadowed.join(" ")));
        let data = zone.data.map(|data| (DATA.to_owned(), data));
        let options = options.chain(seen(zone.is_of_view)).chain(shadowed).chain(data).collect();
        finding.instance(Instance { name: zone.name, options, at });
    }
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    if target.option("resolver") == Some("yes") {
        return resolver(target);
    }
    let port = target.port(53)?;
    let hint = format!(
        "on that server: systemctl status named unbound dnsmasq; named-checkconf -z; ss -lnup 'sport = :{port}'; nft list ruleset; here: dig @{} SOA",
        target.host
    );
    let (name, kind) = match (target.option("zone"), target.option("name")) {
        (Some(zone), _) => (zone, Kind::Soa),
        (None, Some(name)) if target.option("expect").is_some_and(|address| address.contains(':')) => {
            (name, Kind::Aaaa)
        }
        (None, Some(name)) => (name, Kind::A),
        // Every server knows it, whatever else it knows.
        (None, None) => ("localhost", Kind::A),
    };
    let start = Instant::now();
    // Perhaps this server is one of those.
    let is_shadowed = match target.option(SHADOWED) {
        Some(clients) => access::is_among(target, clients)? != Some(false),
        None => false,
    };
    let limited = if is_shadowed { Some("view") } else { target.option("limited").filter(|how| *how != "no") };
    let answer = match ask(target, port, name, kind)? {
        // Who is shown another view is told what is known of the name there, if anything.
        Ok(answer) if limited == Some("view") && !answer.is_authoritative => {
            let what = "it answers; the zone is in a view for some, and this server may be none of them";
            return Ok(Profile::ok(what).measure(target.time("answer", start, 500.0, None)?));
        }
        Ok(answer) if limited.is_some() && answer.is_refused() => {
            let what = "it answers, and refuses this server, which may not ask for that";
            return Ok(Profile::ok(what).measure(target.time("answer", start, 500.0, None)?));
        }
        Ok(answer) => answer,
        // Whoever may not ask may get no answer at all; where nobody listens, the system says so. The server itself may ask.
        Err(why) if !why.contains("refused") && !why.contains("unreachable") && is_left_out(target, limited)? => {
            return Ok(Profile::ok("not exercised: it answers some addresses, and this server may be none of them"));
        }
        Err(why) => {
            return Ok(Profile::unacceptable(format!("no answer for {name} from port {port}: {why}")).hint(hint));
        }
    };
    let time = target.time("answer", start, 500.0, None)?;
    Ok(match judge(&answer, name, kind, target.option("expect"), target.option("name").is_some()) {
        Ok(what) if kind == Kind::Soa && !answer.signed.is_empty() => {
            judge_signed(target, Profile::ok(what).measure(time), name, &answer.signed)?
        }
        Ok(what) => Profile::ok(what).measure(time),
        Err(complaint) => Profile::unacceptable(complaint).hint(hint),
    })
}

/// What the bounds of a zone's signatures mean: whoever looks at them takes nothing from it outside of these.
fn judge_signed(target: &Target, mut profile: Profile, name: &str, signed: &[(u32, u32)]) -> anyhow::Result<Profile> {
    let begun = signed.iter().filter(|(from, _)| u64::from(*from) <= here::now());
    let Some(until) = begun.map(|(_, until)| *until).max() else {
        let what = format!("the signatures of {name} begin later than now: resolvers that look at them say SERVFAIL");
        return Ok(Profile::unacceptable(what)
            .hint("timedatectl, here and on that server; sign the zone anew there (rndc sign ZONE)"));
    };
    let days = (f64::from(until) - here::now() as f64) / 86_400.0;
    let left = target.measure("signatures", days, "days", (Some(SIGNATURES), Some(0.0)), Worse::Lower)?;
    if left.verdict().exit_code() > 0 {
        let what = match days > 0.0 {
            true => format!("the signatures of {name} end in {days:.1} days"),
            false => format!(
                "the signatures of {name} ended {:.1} days ago: resolvers that look at them say SERVFAIL",
                -days
            ),
        };
        profile.summary.push_str(&format!("; {what}"));
        profile = profile.hint("on that server: sign the zone anew (rndc sign ZONE, or dnssec-signzone and rndc reload), and look at what does so each week");
    }
    Ok(profile.measure(left))
}

/// Whether it may be configured to give this server no answer.
fn is_left_out(target: &Target, limited: Option<&str>) -> anyhow::Result<bool> {
    Ok(match limited {
        None => false,
        // Whom its list names is answered.
        Some("yes") if target.option(access::CLIENTS).is_some() && access::is_let_in(target)? == Some(true) => false,
        Some("net") => access::is_routed(target)?,
        Some(_) => !target.address()?.is_loopback(),
    })
}

/// What an answer says of the server.
fn judge(answer: &Answer, name: &str, kind: Kind, expected: Option<&str>, is_named: bool) -> Result<String, String> {
    match (kind, &answer.records[..]) {
        // Whatever it says of localhost, it says it: that it has nobody to ask, too.
        (Kind::A, _) if !is_named && (matches!(answer.code, 0 | 2 | 3) || answer.is_refused()) => {
            Ok("it answers".into())
        }
        _ if answer.code != 0 => Err(format!("asked for {name}, it says {}", answer.said())),
        (_, []) => Err(format!("asked for {name}, it has no such record")),
        (Kind::Soa, _) if !answer.is_authoritative => {
            Err(format!("it does not answer for {name} out of its own zone: the zone is not loaded"))
        }
        (Kind::Soa, [Record::Serial(serial), ..]) => Ok(format!("it answers for {name}, serial {serial}")),
        (_, records) => {
            let addresses: Vec<&str> = records
                .iter()
                .filter_map(|record| if let Record::Address(address) = record { Some(address.as_str()) } else { None })
                .collect();
            match expected {
                Some(expected) if !addresses.contains(&expected) => {
                    Err(format!("{name} is {}, not {expected}", addresses.join(", ")))
                }
                _ => Ok(format!("{name} is {}", addresses.join(", "))),
            }
        }
    }
}

fn ask(target: &Target, port: u16, name: &str, kind: Kind) -> anyhow::Result<Result<Answer, String>> {
    anyhow::ensure!(message::question(0, name, kind).is_some(), "'{name}' is no name");
    let question = || {
        // Who sends us answers that are none of ours has to guess the port and this.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        message::question((now >> 4) as u16, name, kind).unwrap_or_default()
    };
    if target.option(TRANSPORT) == Some("tcp") {
        return over_tcp(target, port, &question(), kind);
    }
    match talk::ask(target, port, question, |answer, question| message::answer(answer, question, kind))? {
        Ok(answer) if answer.is_cut => over_tcp(target, port, &question(), kind),
        asked => Ok(asked),
    }
}

/// Asks as a client does whom an answer over UDP has told to: every message behind its length.
fn over_tcp(target: &Target, port: u16, question: &[u8], kind: Kind) -> anyhow::Result<Result<Answer, String>> {
    let mut talk = match talk::Talk::open(target, port)? {
        Ok(talk) => talk,
        Err(why) => return Ok(Err(format!("over TCP: {why}"))),
    };
    let length = u16::try_from(question.len()).context("a question is short")?.to_be_bytes();
    let said = talk.say(&[&length[..], question].concat()).and_then(|()| talk.exactly(2)).and_then(|length| {
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        talk.exactly(length)
    });
    Ok(said.and_then(|said| message::answer(&said, question, kind).ok_or("over TCP it says something else".to_owned())))
}

/// This server's own lookup, as all its programs use it.
fn resolver(target: &Target) -> anyhow::Result<Profile> {
    let hint =
        "here: cat /etc/resolv.conf; resolvectl status; getent ahosts NAME; ping the name servers that are named there";
    let start = Instant::now();
    if let Some(name) = target.option("name") {
        let output = target.run(Command::new("getent").args(["ahosts", "--", name]));
        let Ok(output) = output else {
            return Ok(Profile::unacceptable(format!("looking up {name} does not come to an end")).hint(hint));
        };
        if !output.status.success() {
            return Ok(Profile::unacceptable(format!("this server cannot look up {name}")).hint(hint));
        }
        return Ok(
            Profile::ok(format!("this server looks up {name}")).measure(target.time("answer", start, 1000.0, None)?)
        );
    }
    // Without a name to look up, each name server has to answer something.
    let path = target.root.join("etc/resolv.conf");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let servers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next())
        .take(3)
        .collect();
    let mut silent = vec![];
    for (index, server) in servers.iter().enumerate() {
        // The time that is left is for all of them.
        let until = Instant::now() + target.left() / (servers.len() - index) as u32;
        let asked = Target { host: (*server).to_owned(), until, ..target.clone() };
        if let Err(why) = ask(&asked, target.port(53)?, "localhost", Kind::A)? {
            silent.push(format!("{server} ({why})"));
        }
    }
    let answering = (servers.len() - silent.len()) as f64;
    let profile = match silent.len() {
        0 => Profile::ok(format!("all name servers of this server answer: {}", servers.join(", "))),
        all if all == servers.len() => {
            return Ok(Profile::unacceptable(format!("no name server of this server answers: {}", silent.join(", ")))
                .hint(hint));
        }
        _ => Profile::new(
            Verdict::Slow,
            format!("of this server's name servers these do not answer: {}", silent.join(", ")),
        )
        .hint(hint),
    };
    Ok(profile
        .measure(target.measure("name-servers", answering, "", (None, None), Worse::Lower)?)
        .measure(target.time("answer", start, 2000.0, None)?))
}

#[cfg(feature = "testing")]
pub(super) fn reads(bytes: &[u8]) -> bool {
    let answers = [Kind::A, Kind::Soa, Kind::Aaaa].map(|kind| {
        let question = message::question(0x4154, "shop.example", kind)?;
        let answer = message::answer(bytes, &question, kind)?;
        Some(judge(&answer, "shop.example", kind, None, true).is_ok())
    });
    answers.into_iter().any(|answer| answer.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_judged_by_what_was_asked() {
        let answer =
            |code, is_authoritative, records| Answer { code, is_authoritative, is_cut: false, records, signed: vec![] };
        let soa = |code, own, records| judge(&answer(code, own, records), "shop.example", Kind::Soa, None, false);
        assert!(soa(0, true, vec![Record::Serial(7)]).unwrap().contains("serial 7"));
        assert!(soa(0, false, vec![Record::Serial(7)]).unwrap_err().contains("not loaded"));
        assert!(soa(2, true, vec![]).unwrap_err().contains("SERVFAIL"));
        let address = || vec![Record::Address("192.0.2.7".into())];
        assert!(
            judge(&answer(0, false, address()), "a.example", Kind::A, Some("192.0.2.8"), true)
                .unwrap_err()
                .contains("not 192.0.2.8")
        );
        assert!(judge(&answer(0, false, address()), "a.example", Kind::A, None, true).is_ok());
        assert!(judge(&answer(3, false, vec![]), "localhost", Kind::A, None, false).is_ok());
        assert!(judge(&answer(2, false, vec![]), "localhost", Kind::A, None, false).is_ok());
        assert!(judge(&answer(5, false, vec![]), "a.example", Kind::A, None, true).unwrap_err().contains("REFUSED"));
        // One that looks up nothing for others refuses a name that is none of its own, and works.
        assert!(judge(&answer(5, false, vec![]), "localhost", Kind::A, None, false).is_ok());
    }
}

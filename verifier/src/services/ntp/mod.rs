//! ntp: a server that gives others the time has it itself, and it is ours.

mod ntpsec;

use super::{
    access,
    daemon::{self, Daemon, started},
    found::{Finding, Six, reached},
    included,
};
use crate::{
    service::{Service, Target, Tree},
    talk,
};
use atlas_model::verify::{At, Found, Instance, Profile, Worse};
use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

pub(super) const SERVICE: Service = Service {
    name: "ntp",
    about: "chrony and ntpsec, where they serve others, give the time, and the right one",
    interval: 60,
    deadline: 10,
    find,
    verify,
};

const CHRONY: Daemon = Daemon { name: "chrony", programs: &["chronyd"], units: &["chrony.service", "chronyd.service"] };
/// Between 1900, NTP's first year, and 1970, in seconds.
const EPOCH: f64 = 2_208_988_800.0;
const LENGTH: usize = 48;
/// The option `limited` of a server that answers only some of the questions of one who asks often.
const RATE: &str = "rate";
/// What begins a comment of chrony.
const COMMENTS: [char; 4] = ['#', '%', '!', ';'];

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let chrony = tree.installed("chrony", "/etc/chrony");
    let given = started::words(tree, &mut finding, &CHRONY, "chrony", "DAEMON_OPTS");
    let other = started::option(&given, "-f").filter(|file| file.starts_with('/'));
    let main = other.map_or_else(|| format!("{chrony}/chrony.conf"), str::to_owned);
    if tree.exists(&main) && CHRONY.is_there(tree) {
        let own = included::lines(tree, &mut finding, &main, &|line| {
            let (word, path) = line.split_once(char::is_whitespace)?;
            let path = path.split_whitespace().next()?;
            match word.to_ascii_lowercase().as_str() {
                "include" => Some(tree.matching(path)),
                "confdir" => Some(tree.matching(&format!("{path}/*.conf"))),
                _ => None,
            }
        })?;
        let told = (chrony == "/etc/chrony")
            .then(|| daemon::says(tree, &mut finding, "chronyd", &["-p", "-f", &main]))
            .flatten();
        // The file of keys beside it is needed as well.
        finding.path(tree, chrony);
        finding.path(tree, "/etc/default/chrony");
        finding.files_of(tree, own.iter().map(String::as_str).filter(|line| !line.starts_with(COMMENTS)));
        let text = told.unwrap_or_else(|| own.join("\n"));
        if let Some((port, clients)) = chrony_serves(&text) {
            if let Some(port) = nts(&text) {
                finding.note(format!("chrony gives keys for the time at port {port} (NTS), which is not exercised"));
            }
            let clients = clients.map(|clients| (access::CLIENTS.to_owned(), clients));
            let (at, where_to) = reached(bind_addresses(&text).into_iter(), Six::Alone);
            let is_rationed = text.lines().any(|line| line.trim().to_ascii_lowercase().starts_with("ratelimit"));
            let rationed = is_rationed.then(|| ("limited".to_owned(), RATE.to_owned()));
            server(&mut finding, "chrony", port, where_to.chain(clients).chain(rationed).collect(), at);
        }
    }
    ntpsec::find(tree, &mut finding)?;
    Ok(finding.done())
}

fn server(finding: &mut Finding, name: &str, port: u16, mut options: BTreeMap<String, String>, at: At) {
    options.insert("port".into(), port.to_string());
    finding.instance(Instance { name: name.into(), options, at });
}

/// The addresses that chrony gives the time at, or the interface, where those are not all; the last one of each kind counts.
fn bind_addresses(text: &str) -> Vec<&str> {
    let mut all: Vec<&str> = vec![];
    let mut device = None;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(key) = words.next().map(str::to_ascii_lowercase) else { continue };
        match (key.as_str(), words.next()) {
            ("binddevice", name) => device = name,
            ("bindaddress", Some(address)) if !address.starts_with('/') => {
                all.retain(|known| known.contains(':') != address.contains(':'));
                all.push(address);
            }
            _ => {}
        }
    }
    if all.is_empty() { device.into_iter().collect() } else { all }
}

/// The port at which chrony gives keys, where it has a certificate for that.
fn nts(text: &str) -> Option<String> {
    let value = |name: &'static str| {
        let pairs = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
        pairs.filter(|(word, _)| word.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned()).next_back()
    };
    value("ntsservercert").map(|_| value("ntsport").unwrap_or_else(|| "4460".to_owned()))
}

/// On which port chrony serves others, and whom, where that is not everybody; `None` where it allows nobody.
fn chrony_serves(text: &str) -> Option<(u16, Option<String>)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(COMMENTS));
    let directives = |name: &'static str| {
        lines
            .clone()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(move |words| words.first().is_some_and(|word| word.eq_ignore_ascii_case(name)))
    };
    let mut clients: Vec<String> = vec![];
    for line in lines.clone() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(sign) = words.first().and_then(|word| match word.to_ascii_lowercase().as_str() {
            "allow" => Some(""),
            "deny" => Some("!"),
            _ => None,
        }) else {
            continue;
        };
        // Of all, it takes back what was said of some.
        if words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("all")) {
            clients.clear();
        }
        let net = words.iter().skip(1).find(|word| !word.eq_ignore_ascii_case("all")).copied().unwrap_or("*");
        clients.push(format!("{sign}{net}"));
    }
    let port = directives("port").next_back().and_then(|words| words.get(1)?.parse().ok()).unwrap_or(123);
    let is_any = |net: &String| net == "*" || net == "0/0" || net == "0.0.0.0/0";
    let is_for_all = clients.iter().any(is_any) && !clients.iter().any(|net| net.starts_with('!'));
    let is_for_some = clients.iter().any(|net| !net.starts_with('!'));
    (is_for_some && port != 0).then(|| (port, (!is_for_all).then(|| clients.join(" "))))
}

/// What a server said.
#[derive(Debug, PartialEq)]
struct Time {
    /// How far from a clock of its own; 0 says why nothing was answered.
    stratum: u8,
    is_synchronised: bool,
    /// How far its clock is before ours, in seconds.
    offset: f64,
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let port = target.port(123)?;
    let hint = format!(
        "on that server: systemctl status chrony ntpsec; chronyc tracking; chronyc sources; ss -lnup 'sport = :{port}'; nft list ruleset"
    );
    let start = Instant::now();
    let ask = || question(seconds());
    let time = match talk::ask(target, port, ask, |answer, question| read(answer, question, seconds()))? {
        Ok(time) => time,
        // Whoever is not allowed gets no answer; where nobody listens, the system says so.
        Err(why) if access::is_let_in(target)? != Some(true) && (!why.contains("refused") || is_of_six(target)) => {
            return Ok(Profile::ok(
                "not exercised: it gives the time to some addresses, and this server is none of them",
            ));
        }
        Err(why) if target.option("limited") == Some(RATE) && !why.contains("refused") => {
            return Ok(Profile::ok(
                "it leaves some questions of one who asks often without an answer (ratelimit), and this one was among them",
            ));
        }
        Err(why) => return Ok(Profile::unacceptable(format!("no time comes from port {port}: {why}")).hint(hint)),
    };
    let answer = target.time("answer", start, 500.0, None)?;
    if !time.is_synchronised {
        return Ok(
            Profile::unacceptable("it answers, but has not got the time itself: clients do not take it").hint(hint)
        );
    }
    let offset = (time.offset.abs() * 1e6).round() / 1e3;
    let profile = Profile::ok(format!("it gives the time, stratum {}", time.stratum))
        .measure(answer)
        .measure(target.measure("offset", offset, "ms", (Some(100.0), Some(5000.0)), Worse::Higher)?);
    Ok(if profile.verdict.exit_code() > 0 {
        profile.hint(format!("{hint}; it may as well be this server's clock: timedatectl"))
    } else {
        profile
    })
}

/// Whether it is for addresses of IPv6 alone, and does not listen where this server comes by.
fn is_of_six(target: &Target) -> bool {
    let clients = target.option(access::CLIENTS).unwrap_or_default();
    clients.split_whitespace().all(|net| net.contains(':')) && target.address().is_ok_and(|address| address.is_ipv4())
}

/// Now, in seconds since 1900.
fn seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()) + EPOCH
}

/// Version 4, a client, with when it was sent.
fn question(now: f64) -> Vec<u8> {
    let mut packet = vec![0; LENGTH];
    packet[0] = 0x23;
    packet[40..].copy_from_slice(&((now * 2f64.powi(32)) as u64).to_be_bytes());
    packet
}

/// Reads the answer to a question; `None` for what is none.
fn read(answer: &[u8], question: &[u8], now: f64) -> Option<Time> {
    // A server's, with the time that we sent.
    if answer.len() < LENGTH || answer[0] & 7 != 4 || answer[24..32] != question[40..48] {
        return None;
    }
    let stamp = |from: &[u8], at: usize| {
        let bytes = <[u8; 8]>::try_from(&from[at..at + 8]).unwrap_or_default();
        u64::from_be_bytes(bytes) as f64 / 2f64.powi(32)
    };
    let (sent, received, replied) = (stamp(question, 40), stamp(answer, 32), stamp(answer, 40));
    Some(Time {
        stratum: answer[1],
        is_synchronised: answer[0] >> 6 != 3 && (1..16).contains(&answer[1]),
        offset: ((received - sent) + (replied - now)) / 2.0,
    })
}

#[cfg(feature = "testing")]
pub(super) fn reads(bytes: &[u8]) -> bool {
    let now = 4_000_000_000.0;
    read(bytes, &question(now), now).is_some_and(|time| time.offset.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chrony_serves_whom_it_allows() {
        let of = |text: &str| chrony_serves(text);
        assert_eq!(of("allow ::/0\n"), Some((123, Some("::/0".into()))), "nobody comes by IPv4");
        assert_eq!(of("pool pool.example iburst\n# allow\n"), None);
        assert_eq!(of("allow 192.0.2.0/24\nallow 10\n"), Some((123, Some("192.0.2.0/24 10".into()))));
        assert_eq!(of("port 1123\n  allow\n"), Some((1123, None)));
        assert_eq!(of("deny 10/8\nallow all\n"), Some((123, None)));
        assert_eq!(of("allow\nport 0\n"), None);
        assert_eq!(of("allow 10/8\ndeny 10.1/16\n"), Some((123, Some("10/8 !10.1/16".into()))));
        assert_eq!(of("deny all\n"), None);
        assert_eq!(bind_addresses("binddevice lan0\nallow\n"), ["lan0"]);
        let text = "binddevice lan0\nbindaddress 192.0.2.1\nBindAddress 192.0.2.2 # ours\nbindaddress /run/x\nbindaddress 2001:db8::1\n";
        assert_eq!(bind_addresses(text), ["192.0.2.2", "2001:db8::1"]);
    }

    #[test]
    fn files_travel_from_wherever_they_lie() {
        let files = ["cert", "key", "keys", "leap", "sources.d/a.sources", "more"];
        let root = crate::here::testing::Server::with(&[
            (
                "etc/chrony/chrony.conf",
                "allow\nntsservercert /srv/cert\nNtsServerKey /srv/key\nkeyfile /srv/keys\nleapseclist /srv/leap\n\
                 sourcedir /srv/sources.d\ndriftfile /srv/drift\nlogdir /srv/log\n# ntsservercert /srv/old\ninclude /srv/more\n",
            ),
            ("srv/drift", ""),
            ("srv/old", ""),
            ("srv/log/x", ""),
        ]);
        files.iter().for_each(|name| root.write(&format!("srv/{name}"), ""));
        let found = find(&root.tree()).unwrap();
        assert_eq!(
            found.paths,
            ["/srv/more", "/etc/chrony", "/srv/cert", "/srv/key", "/srv/keys", "/srv/leap", "/srv/sources.d"]
        );
        assert_eq!(found.notes, ["chrony gives keys for the time at port 4460 (NTS), which is not exercised"]);
    }

    #[test]
    fn the_offset_is_what_is_left_when_the_way_is_taken_off() {
        let question = question(4_000_000_000.0);
        let mut answer = vec![0; LENGTH];
        (answer[0], answer[1]) = (0x24, 2);
        answer[24..32].copy_from_slice(&question[40..]);
        for at in [32, 40] {
            answer[at..at + 4].copy_from_slice(&4_000_000_003_u32.to_be_bytes());
        }
        let time = read(&answer, &question, 4_000_000_002.0).unwrap();
        assert!((time.offset - 2.0).abs() < 1e-3 && time.is_synchronised, "{time:?}");
        answer[0] = 0xe4;
        assert!(!read(&answer, &question, 0.0).unwrap().is_synchronised);
        answer[24] ^= 1;
        assert_eq!(read(&answer, &question, 0.0), None);
        assert_eq!(read(&answer[..47], &question, 0.0), None);
    }
}

//! The program `curl`, the client that speaks HTTP and IMAP as people's do.

use crate::service::Target;
use anyhow::Context;
use atlas_host::process::Command;
use atlas_model::verify::{Measure, Worse};
use std::{fmt, net::IpAddr, time::SystemTime};

/// The most that is read of an answer, in bytes; less than what is kept of a program's output.
const MAX_ANSWER: &str = "1000000";
/// Ends the answer: curl's own words follow. Debian 11's curl does not know the certificates, says so, and goes on.
const WORDS: &str = "\natlas %{http_code} %{time_total}%{stderr}%{certs}";

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The body.
    pub(super) body: Vec<u8>,
    /// The status; 0 where the protocol has none.
    pub(super) status: u32,
    /// From the first packet to the last, in milliseconds.
    pub(super) time_ms: f64,
    /// Until when the server's certificate is good, and that of its issuer where it sends one; `None` without TLS.
    pub(super) expires: Option<Expiry>,
}

/// The end of a certificate.
#[derive(Debug, PartialEq)]
pub(super) struct Expiry {
    /// As the certificate has it.
    pub(super) date: String,
    /// In how many days; negative where it is past.
    pub(super) days: f64,
    /// Which certificate it is of.
    pub(super) of: Shown,
}

/// A certificate of those that a server shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Shown {
    /// Its own.
    #[default]
    Own,
    /// Its own for one kind of keys, of several.
    Key(&'static str),
    /// That of its issuer, by name.
    Issuer(String),
    /// Its own, which is good from this date on, and not yet.
    Early,
}

impl Expiry {
    /// What is left, in days; whoever has no three weeks is about to forget it.
    pub(super) fn measure(&self, target: &Target) -> anyhow::Result<Measure> {
        let days = (self.days * 10.0).floor() / 10.0;
        target.measure("certificate", days, "days", (Some(21.0), Some(3.0)), Worse::Lower)
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if self.days < 0.0 { "has expired on" } else { "expires on" };
        match &self.of {
            Shown::Own => write!(f, "the certificate {is} {}", self.date),
            Shown::Early => write!(f, "the certificate is not good before {}", self.date),
            Shown::Key(kind) => write!(f, "the certificate for {kind} {is} {}", self.date),
            Shown::Issuer(name) => {
                write!(f, "the intermediate certificate of {name}, which is sent with it, {is} {}", self.date)
            }
        }
    }
}

/// `http://shop.example:80/path`, where that name means the target's address, whatever else it may mean to this server.
pub(super) fn url(scheme: &str, name: &str, port: u16, path: &str) -> String {
    let name = if name.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{name}]") } else { name.to_owned() };
    format!("{scheme}://{name}:{port}{path}")
}

/// Takes any certificate; without it, one has to be good for the name and of an issuer that this server knows.
pub(super) const ANY_CERTIFICATE: &str = "--insecure";

/// Fetches something; inside, why nothing came. `more` are further options: never a secret, which anybody on this server could see.
pub(super) fn fetch(target: &Target, url: &str, port: u16, more: &[&str]) -> anyhow::Result<Result<Answer, String>> {
    let address = match target.address()? {
        IpAddr::V6(address) => format!("[{address}]"),
        IpAddr::V4(address) => address.to_string(),
    };
    // It ends a little before it is ended.
    let seconds = (target.left().as_secs_f64() * 0.9).max(0.1);
    let command = Command::new("curl")
        // Reads no settings of whoever runs it.
        .arg("--disable")
        .args(["--silent", "--show-error", "--verbose", "--noproxy", "*"])
        .args(["--max-filesize", MAX_ANSWER, "--write-out", WORDS])
        .arg("--max-time")
        .arg(format!("{seconds:.1}"))
        .arg("--connect-to")
        .arg(format!("::{address}:{port}"))
        .args(more)
        // Whatever it begins with, it is no option.
        .arg("--url")
        .arg(url);
    let output = match target.client(command.own_env()).context("ask with curl (Debian package curl)")? {
        Ok(output) => output,
        Err(why) => return Ok(Err(why)),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Ok(Err(why(&said)));
    }
    let end = output.stdout.windows(7).rposition(|bytes| bytes == b"\natlas ").context("curl said nothing")?;
    let words = String::from_utf8_lossy(&output.stdout[end + 7..]).into_owned();
    let (status, seconds) = words.split_once(' ').context("curl said nothing")?;
    Ok(Ok(Answer {
        body: output.stdout[..end].to_vec(),
        status: status.parse().context("read what curl said")?,
        time_ms: seconds.trim().parse::<f64>().context("read what curl said")? * 1e3,
        expires: first_end(&said, SystemTime::now()),
    }))
}

/// The reason in what curl tells of its work: what the system said of the connection, or else its own last word.
fn why(said: &str) -> String {
    let refused = said.lines().rev().find_map(|line| line.strip_prefix("* ")?.split_once(" failed: "));
    let is_of_words = |line: &&str| !line.contains("--write-out variable");
    let own = said.lines().rev().filter(is_of_words).find_map(|line| line.strip_prefix("curl: "));
    let own = own.map(|own| own.split_once(") ").map_or(own, |(_, own)| own));
    match (refused, own) {
        (Some((_, why)), Some(own)) if own.contains("connect") => why.trim().to_owned(),
        // Of a mail server's answer it gives the number alone.
        (_, Some(own)) if own.contains("smtp-server response: ") => {
            let words = said.lines().rev().find_map(|line| line.strip_prefix("< ")).unwrap_or_default();
            own.strip_suffix(words.get(..3).unwrap_or_default())
                .map_or(own.to_owned(), |own| format!("{own}{}", words.trim_end()))
        }
        (_, Some(own)) => own.to_owned(),
        _ => "curl said nothing of why".into(),
    }
}

/// The end of the server's certificate, or of its issuer's where that is sent and ends before. Further ones may be of
/// issuers that clients know by newer ones.
fn first_end(said: &str, now: SystemTime) -> Option<Expiry> {
    let own = expiry(said, now)?;
    // As bad as one that has ended: clients take neither.
    let start = said.lines().find_map(|line| end(line.strip_prefix("*  start date: ")?, now));
    if let Some(early) = start.filter(|start| start.days > CLOCKS_DIFFER) {
        return Some(Expiry { days: -early.days, of: Shown::Early, ..early });
    }
    let all = sent(said);
    let Some(first) = all.first() else { return Some(own) };
    let of_issuer = all[1..].iter().filter(|one| one.subject == first.issuer && one.subject != first.subject);
    // Of two of the same name clients take the one that is good.
    let ends = of_issuer.filter_map(|one| end(one.end, now));
    let last = ends.reduce(|one, other| if other.days > one.days { other } else { one });
    Some(match last.filter(|last| last.days < own.days) {
        Some(last) => Expiry { of: Shown::Issuer(first.issuer.to_owned()), ..last },
        None => own,
    })
}

/// By how much, in days, the clocks of an issuer and of this server may differ.
const CLOCKS_DIFFER: f64 = 1.0 / 24.0;

/// One certificate that was sent, in curl's words.
#[derive(Default)]
struct Sent<'s> {
    subject: &'s str,
    issuer: &'s str,
    end: &'s str,
}

/// All that were sent, the server's own first: `Subject:CN = shop.example`, `Issuer:…`, `Expire date:…`, and more.
fn sent(said: &str) -> Vec<Sent<'_>> {
    let mut all: Vec<Sent<'_>> = vec![];
    for line in said.lines() {
        if let Some(subject) = line.strip_prefix("Subject:") {
            all.push(Sent { subject, ..Sent::default() });
        } else if let Some(last) = all.last_mut() {
            last.issuer = line.strip_prefix("Issuer:").unwrap_or(last.issuer);
            last.end = line.strip_prefix("Expire date:").unwrap_or(last.end);
        }
    }
    all
}

/// `*  expire date: Nov  1 12:00:00 2027 GMT`
fn expiry(said: &str, now: SystemTime) -> Option<Expiry> {
    end(said.lines().find_map(|line| line.strip_prefix("*  expire date: "))?, now)
}

fn end(date: &str, now: SystemTime) -> Option<Expiry> {
    let date = date.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = jiff::civil::DateTime::strptime("%b %d %H:%M:%S %Y GMT", &date).ok()?;
    let end = end.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    let now = jiff::Timestamp::try_from(now).ok()?;
    Some(Expiry { days: (end.as_second() - now.as_second()) as f64 / 86_400.0, date, of: Shown::Own })
}

#[cfg(feature = "testing")]
pub(super) fn reads(bytes: &[u8]) -> bool {
    let said = String::from_utf8_lossy(bytes);
    let _ = why(&said);
    first_end(&said, SystemTime::UNIX_EPOCH).is_some_and(|expiry| expiry.days.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_end_of_a_certificate_and_the_reason_of_a_failure_are_read_from_what_curl_tells() {
        let said =
            "* Server certificate:\n*  subject: CN=x\n*  expire date: Jan  3 00:00:00 1970 GMT\n*  issuer: CN=x\n";
        let expected = Expiry { date: "Jan 3 00:00:00 1970 GMT".into(), days: 1.0, of: Shown::Own };
        assert_eq!(expiry(said, SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)), Some(expected));
        assert_eq!(expiry("* Connected\n", SystemTime::now()), None);
        let early = "*  start date: Jan  3 00:00:00 1970 GMT\n*  expire date: Jan  9 00:00:00 1970 GMT\n";
        let first = first_end(early, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(
            (first.days, first.to_string().as_str()),
            (-2.0, "the certificate is not good before Jan 3 00:00:00 1970 GMT")
        );
        assert_eq!(first_end(early, SystemTime::UNIX_EPOCH + Duration::from_secs(172_800)).unwrap().of, Shown::Own);
        let unknown = "curl: (7) Couldn't connect to server\ncurl: unknown --write-out variable: 'certs'\n";
        assert_eq!(why(unknown), "Couldn't connect to server");
        let said = "* connect to 127.0.0.1 port 81 failed: Connection refused\ncurl: (7) Failed to connect to 127.0.0.1 port 81: Couldn't connect to server\n";
        assert_eq!(why(said), "Connection refused");
        let said =
            "< 421 4.7.1 mail.example Error: no\r\n* Closing\ncurl: (8) Got unexpected smtp-server response: 421\n";
        assert_eq!(why(said), "Got unexpected smtp-server response: 421 4.7.1 mail.example Error: no");
        assert_eq!(why("* x failed: y\ncurl: (52) Empty reply from server\n"), "Empty reply from server");
    }

    #[test]
    fn the_first_end_counts_of_a_certificate_and_of_its_issuer_s_that_is_sent() {
        let first = |issuers: &[(&str, &str)]| {
            let one = |subject: &str, issuer: &str, day: &str| {
                format!("Subject:CN = {subject}\nIssuer:CN = {issuer}\nExpire date:Jan  {day} 00:00:00 1970 GMT\n")
            };
            let all: String = issuers.iter().map(|(name, day)| one(name, "root", day)).collect();
            let said = format!("*  expire date: Jan  5 00:00:00 1970 GMT\n{}{all}", one("shop.example", "R1", "5"));
            let first = first_end(&said, SystemTime::UNIX_EPOCH).unwrap();
            (first.days, first.of)
        };
        let own = (4.0, Shown::Own);
        assert_eq!(first(&[]), own);
        assert_eq!(first(&[("R1", "3")]), (2.0, Shown::Issuer("CN = R1".into())));
        assert_eq!(first(&[("R1", "9")]), own);
        assert_eq!(first(&[("R1", "3"), ("R1", "9")]), own, "clients take the newer one");
        assert_eq!(first(&[("R1", "9"), ("root", "2")]), own, "clients may know a newer one of that name");
    }
}

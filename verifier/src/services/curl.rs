//! The program `curl`, the client that speaks HTTP and IMAP as people's do.

use crate::service::Target;
use anyhow::Context;
use atlas_host::process::Command;
use atlas_model::verify::{Measure, Worse};
use std::{fmt, net::IpAddr, time::SystemTime};

/// The most that is read of an answer, in bytes; less than what is kept of a program's output.
const MAX_ANSWER: &str = "1000000";
/// Ends the answer: curl's own words follow.
const WORDS: &str = "\natlas %{http_code} %{time_total}";

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// The body.
    pub(super) body: Vec<u8>,
    /// The status; 0 where the protocol has none.
    pub(super) status: u32,
    /// From the first packet to the last, in milliseconds.
    pub(super) time_ms: f64,
    /// Until when the server's certificate is good; `None` without TLS.
    pub(super) expires: Option<Expiry>,
}

/// The end of a certificate.
#[derive(Debug, PartialEq)]
pub(super) struct Expiry {
    /// As the certificate has it.
    pub(super) date: String,
    /// In how many days; negative where it is past.
    pub(super) days: f64,
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
        write!(f, "the certificate {is} {}", self.date)
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
        expires: expiry(&said, SystemTime::now()),
    }))
}

/// The reason in what curl tells of its work: what the system said of the connection, or else its own last word.
fn why(said: &str) -> String {
    let refused = said.lines().rev().find_map(|line| line.strip_prefix("* ")?.split_once(" failed: "));
    let own = said.lines().rev().find_map(|line| line.strip_prefix("curl: "));
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

/// `*  expire date: Nov  1 12:00:00 2027 GMT`
fn expiry(said: &str, now: SystemTime) -> Option<Expiry> {
    let date = said.lines().find_map(|line| line.strip_prefix("*  expire date: "))?;
    let date = date.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = jiff::civil::DateTime::strptime("%b %d %H:%M:%S %Y GMT", &date).ok()?;
    let end = end.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    let now = jiff::Timestamp::try_from(now).ok()?;
    Some(Expiry { days: (end.as_second() - now.as_second()) as f64 / 86_400.0, date })
}

#[cfg(feature = "testing")]
pub(super) fn reads(bytes: &[u8]) -> bool {
    let said = String::from_utf8_lossy(bytes);
    let _ = why(&said);
    expiry(&said, SystemTime::UNIX_EPOCH).is_some_and(|expiry| expiry.days.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_end_of_a_certificate_and_the_reason_of_a_failure_are_read_from_what_curl_tells() {
        let said =
            "* Server certificate:\n*  subject: CN=x\n*  expire date: Jan  3 00:00:00 1970 GMT\n*  issuer: CN=x\n";
        let expected = Expiry { date: "Jan 3 00:00:00 1970 GMT".into(), days: 1.0 };
        assert_eq!(expiry(said, SystemTime::UNIX_EPOCH + Duration::from_secs(86_400)), Some(expected));
        assert_eq!(expiry("* Connected\n", SystemTime::now()), None);
        let said = "* connect to 127.0.0.1 port 81 failed: Connection refused\ncurl: (7) Failed to connect to 127.0.0.1 port 81: Couldn't connect to server\n";
        assert_eq!(why(said), "Connection refused");
        let said =
            "< 421 4.7.1 mail.example Error: no\r\n* Closing\ncurl: (8) Got unexpected smtp-server response: 421\n";
        assert_eq!(why(said), "Got unexpected smtp-server response: 421 4.7.1 mail.example Error: no");
        assert_eq!(why("* x failed: y\ncurl: (52) Empty reply from server\n"), "Empty reply from server");
    }
}

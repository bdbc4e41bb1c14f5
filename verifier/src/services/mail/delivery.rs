//! A mail on its whole way: accepted by SMTP, found in the mailbox by IMAP, deleted there.
//!
//! Options: `mail-to` (the address), `mail-from` (its sender; empty, as a bounce has, where none is set), `credentials` (a file as curl's `--netrc-file`
//! reads it: `default login NAME password SECRET`), `imap-port` (993), `imap-tls` (`no` for a plain connection).

use super::expected;
use crate::{service::Target, services::curl, talk::Talk};
use atlas_model::verify::{Measure, Worse};
use std::time::{Duration, Instant, SystemTime};

/// How long between two looks into the mailbox.
const PAUSE: Duration = Duration::from_millis(500);

/// Sends a mail and fetches it, where `credentials` are set; inside, where it was lost.
pub(super) fn exercise(target: &Target, port: u16, to: &str) -> anyhow::Result<Result<Vec<Measure>, String>> {
    let from = target.option("mail-from").unwrap_or_default();
    let is_address = |text: &str| !text.contains(['<', '>', ' ']) && !text.contains(char::is_control);
    anyhow::ensure!(is_address(to) && is_address(from), "mail-to={to}, mail-from={from}: these are no addresses");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let subject = format!("atlas-verify-{}-{}", now.as_nanos(), std::process::id());
    let mut talk = match Talk::open(target, port)? {
        Ok(talk) => talk,
        Err(why) => return Ok(Err(format!("nobody answers on port {port}: {why}"))),
    };
    let start = Instant::now();
    if let Err(why) = send(&mut talk, from, to, &subject) {
        return Ok(Err(format!("a mail to {to} is not accepted: {why}")));
    }
    let mut measures = vec![target.time("accepted", start, 3000.0, None)?];
    let Some(credentials) = target.option("credentials") else { return Ok(Ok(measures)) };
    let mailbox = Mailbox::new(target, credentials)?;
    match mailbox.wait_for(&subject)? {
        Ok(()) => (),
        Err(why) => return Ok(Err(format!("a mail to {to} was accepted, and is not in its mailbox: {why}"))),
    }
    let took = start.elapsed().as_secs_f64();
    measures.push(target.measure("delivered", (took * 1e3).round() / 1e3, "s", (Some(20.0), None), Worse::Higher)?);
    Ok(Ok(measures))
}

fn send(talk: &mut Talk, from: &str, to: &str, subject: &str) -> Result<(), String> {
    expected(talk, "220")?;
    talk.say(b"EHLO atlas.invalid\r\n")?;
    expected(talk, "250")?;
    for (line, code) in
        [(format!("MAIL FROM:<{from}>"), "250"), (format!("RCPT TO:<{to}>"), "250"), ("DATA".into(), "354")]
    {
        talk.say(format!("{line}\r\n").as_bytes())?;
        expected(talk, code)?;
    }
    let from = if from.is_empty() { "atlas-verify@atlas.invalid" } else { from };
    let mail = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nAuto-Submitted: auto-generated\r\n\r\n\
        Sent by the Verifier, to see whether mail arrives. It deletes it again.\r\n.\r\n"
    );
    talk.say(mail.as_bytes())?;
    expected(talk, "250")?;
    talk.say(b"QUIT\r\n")
}

struct Mailbox<'t> {
    target: &'t Target,
    credentials: &'t str,
    url: String,
    port: u16,
}

impl Mailbox<'_> {
    fn new<'t>(target: &'t Target, credentials: &'t str) -> anyhow::Result<Mailbox<'t>> {
        let port = target.number("imap-port", 993.0)? as u16;
        let scheme = if target.option("imap-tls") == Some("no") { "imap" } else { "imaps" };
        Ok(Mailbox { target, credentials, url: curl::url(scheme, &target.host, port, "/INBOX"), port })
    }

    fn ask(&self, request: &str) -> anyhow::Result<Result<String, String>> {
        let options = [curl::ANY_CERTIFICATE, "--netrc-file", self.credentials, "--request", request];
        let answer = curl::fetch(self.target, &self.url, self.port, &options)?;
        Ok(answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// Waits until a mail of this subject is there, and deletes it.
    fn wait_for(&self, subject: &str) -> anyhow::Result<Result<(), String>> {
        loop {
            let said = match self.ask(&format!("UID SEARCH SUBJECT {subject}"))? {
                Ok(said) => said,
                Err(why) => return Ok(Err(why)),
            };
            if let Some(uid) = found(&said) {
                // Whoever finds it later finds it twice; no more comes of a failure here.
                let _ = self.ask(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
                let _ = self.ask("EXPUNGE");
                return Ok(Ok(()));
            }
            if self.target.left() < 3 * PAUSE {
                return Ok(Err("it did not arrive in time".into()));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// The first number of `* SEARCH 7 9`.
fn found(said: &str) -> Option<u32> {
    said.lines().find_map(|line| line.strip_prefix("* SEARCH")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_is_found_by_its_number_or_not() {
        assert_eq!(found("* SEARCH 7 9\r\n"), Some(7));
        assert_eq!(found("* SEARCH\r\n"), None);
        assert_eq!(found("a OK done\r\n"), None);
    }
}

//! One site, asked as a browser asks.

use super::{PAGE, apart, configured::judge_names, page};
use crate::{
    service::Target,
    services::{
        as_pri::APART,
        curl::{self, Answer},
        trust::{self, Distrust},
    },
};
use atlas_model::verify::{Profile, Verdict, Worse};
use std::time::Duration;

/// Who asks: many sites send tools away.
pub(super) const BROWSER: &str = "Mozilla/5.0 (compatible; ATLAS VerifyService)";
/// In which language; a browser always says so.
pub(super) const LANGUAGE: &str = "en";
/// What to do where the test page is not found.
const MISSING: &str = "after a new release was put there, on PRI: VerifierControl setup (each SyncCycle does it, too); \
    else on that server: nginx -T or apachectl -S, and whether the document root is synchronised";
/// How soon VerifierControl on PRI has placed a test page again that went with an earlier release.
const PUT_BACK: Duration = Duration::from_secs(7);
/// How much is told of what a page says, in characters.
const MAX_SAID: usize = 200;

pub(super) fn verify(target: &Target) -> anyhow::Result<Profile> {
    let port = target.port(80)?;
    if let Some(profile) = apart::elsewhere(target)? {
        return Ok(profile);
    }
    let site = Site {
        target,
        scheme: if target.option("tls") == Some("yes") { "https" } else { "http" },
        name: target.option("name").unwrap_or(&target.host),
        port,
    };
    let hint = format!(
        "on that server: systemctl status nginx apache2; nginx -t; apachectl configtest; ss -ltnp 'sport = :{port}'; nft list ruleset"
    );
    site.exercise().map(|profile| {
        if profile.hint.is_none() && profile.verdict.exit_code() > 1 { profile.hint(hint) } else { profile }
    })
}

/// How a handshake ends where both speak TLS, and no version that both take.
const OLD_TLS: [&str; 4] =
    ["legacy sigalg disallowed", "alert protocol version", "unsupported protocol", "no protocols available"];

pub(super) struct Site<'t> {
    pub(super) target: &'t Target,
    pub(super) scheme: &'t str,
    pub(super) name: &'t str,
    pub(super) port: u16,
}

impl Site<'_> {
    fn exercise(&self) -> anyhow::Result<Profile> {
        let root = self.target.option("root");
        let path = if root.is_some() { format!("/{PAGE}") } else { "/".into() };
        let refusal = self.target.option("refuses");
        let (mut first, distrust) = match self.first(&path)? {
            Ok(answer) if refusal == Some("certificate") && (answer.0.status == 403 || answer.0.status >= 500) => {
                answer
            }
            Ok(answer) if refusal.is_some_and(|refusal| refusal != "perhaps") => return Ok(self.not_refused(&answer.0)),
            Ok(answer) => answer,
            Err(why) if refusal.is_some_and(|refusal| is_refusal(refusal, &why)) => {
                let what = match refusal {
                    Some("perhaps") => {
                        "it turns some away without a word, or the site is not loaded, which nobody can tell"
                    }
                    _ => "it turns away who comes so, as it is configured to",
                };
                return Ok(Profile::ok(format!("{what} ({why})")));
            }
            Err(why) if OLD_TLS.iter().any(|words| why.contains(words)) => {
                return Ok(Profile::ok(format!(
                    "not exercised: port {} speaks an older TLS than this server's programs take ({why})",
                    self.port
                )));
            }
            Err(why) => return Ok(Profile::unacceptable(format!("nothing comes from port {}: {why}", self.port))),
        };
        // A release that was put there this moment has no test page yet.
        if root.is_some() && first.status == 404 && self.target.left() > 2 * PUT_BACK {
            std::thread::sleep(PUT_BACK);
            if let Ok(again) = self.ask(&path)? {
                first = again;
            }
        }
        let configured = self.as_configured(&first);
        if self.is_limit(&first) {
            return Ok(self.too_often(&first));
        }
        if configured.is_none() && self.is_filtered(&first) {
            return Ok(Profile::ok(format!(
                "port {} turns this request away ({}), as a filter of its server may (mod_evasive, mod_security): what it serves was not looked at",
                self.port, first.status
            )));
        }
        let complaint = match root {
            _ if configured.is_some() => None,
            Some(root) => is_page(&first, root),
            None => (first.status >= 500 && !self.is_of_another(&first)).then(|| format!("/ answers {}", first.status)),
        };
        if let Some(complaint) = complaint {
            let profile = Profile::unacceptable(complaint);
            return Ok(if root.is_some() && first.status == 404 { profile.hint(MISSING) } else { profile });
        }
        if let Some(complaint) = self.restricted()? {
            return Ok(complaint);
        }
        let what = match (configured, root) {
            (Some(_), _) => format!("it answers {}, as it is configured to", first.status),
            (None, Some(_)) => "the test page comes as it was placed".into(),
            (None, None) => "it answers".into(),
        };
        let mut profile = Profile::new(
            configured.unwrap_or(Verdict::Ok),
            format!("{what} ({}://{}:{})", self.scheme, self.name, self.port),
        )
        .measure(self.target.measure(
            "answer",
            round(first.time_ms),
            "ms",
            (Some(1000.0), None),
            Worse::Higher,
        )?);
        if let Some(dynamic) = self.target.option("dynamic") {
            let time = match self.dynamic(dynamic)? {
                Ok(time) => time,
                Err(complaint) => return Ok(complaint),
            };
            profile = profile.measure(self.target.measure(
                "dynamic",
                round(time),
                "ms",
                (Some(3000.0), None),
                Worse::Higher,
            )?);
        }
        if configured == Some(Verdict::Slow) {
            profile =
                profile.hint("on that server: nginx -T, or apachectl -S: look for what answers so (a maintenance?)");
        }
        if self.scheme == "http" {
            return Ok(profile);
        }
        self.first_of_all_keys(&mut first)?;
        let judged = trust::judge(self.target, profile, &first, distrust, "web")?;
        let Some(judged) = judged else {
            return Ok(Profile::unknown("the certificate's end could not be read from curl's words"));
        };
        let names = if trust::is_looked_at(self.target) { self.distrusted_names()? } else { vec![] };
        Ok(judge_names(judged, &names))
    }

    fn too_often(&self, answer: &Answer) -> Profile {
        let what = format!(
            "port {} answers {} again and again: it limits how often clients may ask, or what is behind it fails",
            self.port, answer.status
        );
        let hint = "on that server: the error log (limiting requests); nginx -T: limit_req, limit_conn";
        Profile::new(Verdict::Slow, what).hint(hint)
    }

    /// Whether it only says that whom it passes requests on to is not there, where nobody can be.
    fn is_of_another(&self, answer: &Answer) -> bool {
        self.target.option(APART).is_some() && (502..=504).contains(&answer.status)
    }

    fn not_refused(&self, answer: &Answer) -> Profile {
        let what = format!("port {} should turn away who comes so, and answers {}", self.port, answer.status);
        Profile::new(Verdict::Slow, what).hint("on that server: nginx -T; has it been reloaded since?")
    }

    pub(super) fn ask(&self, path: &str) -> anyhow::Result<Result<Answer, String>> {
        self.ask_with(path, &[curl::ANY_CERTIFICATE])
    }

    pub(super) fn ask_with(&self, path: &str, options: &[&str]) -> anyhow::Result<Result<Answer, String>> {
        let proxied: &[&str] = if self.target.option("proxy") == Some("yes") { &["--haproxy-protocol"] } else { &[] };
        let plain_h2: &[&str] =
            if self.target.option("http2") == Some("plain") { &["--http2-prior-knowledge"] } else { &[] };
        let language = format!("Accept-Language: {LANGUAGE}");
        let options = [options, proxied, plain_h2, &["--user-agent", BROWSER, "--header", &language]].concat();
        let url = curl::url(self.scheme, self.name, self.port, path);
        self.patiently(|| curl::fetch(self.target, &url, self.port, &options))
    }

    /// The first answer, with why a client would not take the certificate.
    pub(super) fn first(&self, path: &str) -> anyhow::Result<Result<(Answer, Option<Distrust>), String>> {
        if self.scheme == "http" {
            return Ok(self.ask(path)?.map(|answer| (answer, None)));
        }
        trust::first(self.target, |options| self.ask_with(path, options))
    }

    /// What is open that should not be.
    fn restricted(&self) -> anyhow::Result<Option<Profile>> {
        for path in self.target.option("restricted").unwrap_or_default().split_whitespace() {
            let complaint = match self.ask(path)? {
                // Some sites say that there is no such page, rather than that it is closed.
                Ok(answer) if (400..500).contains(&answer.status) || self.is_of_another(&answer) => continue,
                // Closed or not, it lets nobody in who asks too often.
                Ok(answer) if self.is_limit(&answer) || (answer.status < 400 && self.is_masked(path, &answer)?) => {
                    continue;
                }
                Ok(answer) if answer.status < 400 => {
                    format!("{path} should be restricted, and is open to anybody (it answers {})", answer.status)
                }
                Ok(answer) => format!("{path} should be restricted (401 or 403), and answers {}", answer.status),
                Err(why) => format!("nothing comes from {path}: {why}"),
            };
            let hint = "on that server: look for what overrides auth_basic, deny or Require there (nginx -T; apachectl -S), and for the file of accounts that it names";
            return Ok(Some(Profile::unacceptable(complaint).hint(hint)));
        }
        Ok(None)
    }

    fn dynamic(&self, path: &str) -> anyhow::Result<Result<f64, Profile>> {
        let hint = "on that server: the application behind it (systemctl --failed), its database, and the web server's error log";
        let complaint = match self.ask(path)? {
            Err(why) => format!("nothing comes from the dynamic page {path}: {why}"),
            Ok(answer) if answer.status != 200 => {
                format!("the dynamic page {path} answers {}{}", answer.status, said(&answer.body))
            }
            Ok(answer) if is_source(&answer.body) => {
                format!("the dynamic page {path} is sent as its source: nobody runs it, and everybody can read it")
            }
            Ok(answer) => match self.target.option("expect") {
                Some(text) if !contains(&answer.body, text.as_bytes()) => {
                    format!("the dynamic page {path} comes without '{}'{}", text.escape_debug(), said(&answer.body))
                }
                _ => return Ok(Ok(answer.time_ms)),
            },
        };
        Ok(Err(Profile::unacceptable(complaint).hint(hint)))
    }
}

/// Whether curl's words say that the server turned us away, as it should: nginx ends the connection, whichever protocol it speaks.
fn is_refusal(how: &str, why: &str) -> bool {
    let handshake = ["unrecognized name", "alert", "handshake"];
    let empty = [
        "Empty reply",
        "unexpected eof",
        "was not closed cleanly",
        "HTTP2 framing",
        "HTTP/2 framing",
        "Recv failure",
        "SSL_read",
    ];
    match how {
        // Some releases end the handshake that asks for it, some the connection.
        "certificate" => handshake.iter().chain(&empty).any(|words| why.contains(words)),
        "handshake" => handshake.iter().any(|words| why.contains(words)),
        _ => empty.iter().any(|words| why.contains(words)),
    }
}

/// What a page says first, for people: its words without the marks between them.
fn said(body: &[u8]) -> String {
    let (mut text, mut is_mark) = (String::new(), false);
    for char in String::from_utf8_lossy(body).chars().take(MAX_SAID * 10) {
        match char {
            '<' => is_mark = true,
            '>' => {
                is_mark = false;
                text.push(' ');
            }
            char if !is_mark => text.push(char),
            _ => (),
        }
    }
    let words: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_SAID).collect();
    if words.is_empty() { words } else { format!(", and says '{words}'") }
}

/// What is wrong with the test page.
fn is_page(answer: &Answer, root: &str) -> Option<String> {
    let expected = page(root);
    match answer.status {
        200 if answer.body == expected.as_bytes() => None,
        200 => Some(format!("/{PAGE} is not what was placed in {root}: another site answers, or the file was changed")),
        404 => {
            Some(format!("/{PAGE} is not there: {root} is missing, or was not synchronised, or is not what is served"))
        }
        403 => Some(format!("/{PAGE} may not be read (403): look at the owners and modes of {root}")),
        status => Some(format!("/{PAGE} answers {status}")),
    }
}

/// Whether a page in PHP came as it was written.
fn is_source(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<?php")
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_told_by_its_words() {
        let page = b"<html>\n<head><title>502 Bad Gateway</title></head>\n<hr>nginx</html>";
        assert_eq!(said(page), ", and says '502 Bad Gateway nginx'");
        assert_eq!(said(b"<br>\n"), "");
        assert!(said(&b"x".repeat(100_000)).len() < 300);
    }
}

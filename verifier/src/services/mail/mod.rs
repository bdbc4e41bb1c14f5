//! mail: SMTP and IMAP servers are greeted, secured, and, where an address is set for it, a mail is sent and fetched again.
//!
//! ```text
//!  postfix.rs exim.rs dovecot.rs ─► config.rs: a Listener per port
//!  ../certificate.rs  PRI's certificate ─► for whom it is, whether its issuer is known
//!  here             greeting ─► capabilities ─► TLS, its certificate ─► delivery.rs: mail sent, found in the box, deleted
//! ```
//!
//! A secondary's certificate is to be as good as PRI's, for the same name: where PRI's is of an issuer that is known there, it is looked at as a
//! client does; where it is not (one that vouches for itself, as Debian's packages make it), clients of PRI do not mind, and nobody does here.

mod config;
mod delivery;
mod dovecot;
mod exim;
mod exim_file;
mod postfix;

use super::{
    certificate,
    curl::{self, Answer},
    found::{Finding, beside},
    trust::{self, Distrust},
};
use crate::{
    service::{Service, Target, Tree},
    talk::Talk,
};
use atlas_model::verify::{Found, Instance, Profile, Worse};
use std::time::Instant;

pub(super) const SERVICE: Service = Service {
    name: "mail",
    about: "SMTP and IMAP servers answer, offer TLS, and deliver a mail",
    interval: 120,
    deadline: 40,
    find,
    verify,
};

/// The most lines of one answer.
const MAX_LINES: usize = 100;

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    for (name, server) in [
        ("postfix", postfix::postfix(tree, &mut finding)),
        ("exim", exim::exim(tree, &mut finding)),
        ("dovecot", dovecot::dovecot(tree, &mut finding)),
    ] {
        match server {
            Ok(server) => take(tree, &mut finding, &server),
            Err(error) => finding.problem(format!("{name}: {}", atlas_cli::in_one_line(&error))),
        }
    }
    Ok(finding.done())
}

fn take(tree: &Tree, finding: &mut Finding, server: &config::Server) {
    // A secondary has the same certificate, or it has one that nobody expects.
    server.files.iter().for_each(|file| finding.path(tree, file));
    let first = |files: &[String]| {
        let mut certificates = files.iter().map(|file| certificate::options(tree, file));
        certificates.find(|options| !options.is_empty()).unwrap_or_default()
    };
    let certificate = first(&server.files);
    let one = |listener: &config::Listener| {
        let mut instance = listener.instance();
        if listener.is_tls || listener.starts_tls {
            let own = (!listener.certificates.is_empty()).then(|| first(&listener.certificates));
            instance.options.extend(own.unwrap_or_else(|| certificate.clone()));
            // Which certificate is shown hangs on who is asked for.
            instance.options.extend(listener.name.iter().map(|name| ("name".to_owned(), name.clone())));
        }
        instance
    };
    let mut instances: Vec<Instance> = server.listeners.iter().map(one).collect();
    beside(&mut instances);
    instances.into_iter().for_each(|instance| finding.instance(instance));
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let protocol = target.option("protocol").unwrap_or("smtp");
    let port = target.port(if protocol == "smtp" { 25 } else { 143 })?;
    let units = if protocol == "smtp" { "postfix exim4" } else { "dovecot" };
    let hint = format!(
        "on that server: systemctl status {units}; journalctl -u {}; ss -ltnp 'sport = :{port}'; nft list ruleset",
        units.replace(' ', " -u ")
    );
    let mailbox = target.option("mail-to").filter(|_| protocol == "smtp" && target.option("tls") != Some("yes"));
    let profile = match server(target, protocol, port)? {
        Ok(profile) => profile,
        Err(why) => return Ok(Profile::unacceptable(why).hint(hint)),
    };
    let Some(to) = mailbox else { return Ok(profile) };
    Ok(match delivery::exercise(target, port, to)? {
        Ok(measures) => measures.into_iter().fold(profile, Profile::measure),
        Err(why) => Profile::unacceptable(why).hint(format!("{hint}; mailq; and its mail log")),
    })
}

/// Greeting, capabilities and TLS; inside, what is wrong.
fn server(target: &Target, protocol: &str, port: u16) -> anyhow::Result<Result<Profile, String>> {
    let is_tls = target.option("tls") == Some("yes");
    let start = Instant::now();
    let (said, answer) = if is_tls {
        (String::new(), target.time("answer", start, config::ANSWER_SLOW.into(), None)?)
    } else {
        let mut talk = match Talk::open(target, port)? {
            Ok(talk) => talk,
            Err(why) => return Ok(Err(format!("nobody answers on port {port}: {why}"))),
        };
        let said = if protocol == "smtp" { smtp(&mut talk) } else { imap(&mut talk) };
        let answer = target.time("answer", start, config::ANSWER_SLOW.into(), None)?;
        match said {
            Ok(said) => match (protocol == "smtp").then(|| takes_none(target, &mut talk, &said)).flatten() {
                Some(why) => return Ok(Err(format!("port {port}: {why}"))),
                None => (said, answer),
            },
            Err(why) if is_turned_away(target, &why) || is_too_often(&why) => {
                return turned_away(target, port, &why, start).map(Ok);
            }
            Err(why) => return Ok(Err(format!("port {port}: {why}"))),
        }
    };
    let starttls = target.option("starttls");
    let wants_tls = starttls == Some("yes") || starttls == Some("perhaps") && said.contains("STARTTLS");
    if wants_tls && !said.contains("STARTTLS") {
        return Ok(Err(format!(
            "{protocol} on port {port} offers no STARTTLS, and should: its certificate or key cannot be read, or TLS is off"
        )));
    }
    // Only a mail that is sent shows it, and only to whom the operator says.
    let untold = protocol == "smtp" && port == 25 && target.option("mail-to").is_none();
    let untold = if untold { "; that it delivers is not exercised (mail-to)" } else { "" };
    let profile = Profile::ok(format!("{protocol} answers on port {port}{untold}")).measure(answer);
    if !is_tls && !wants_tls {
        return Ok(Ok(profile));
    }
    match tls(target, protocol, port, is_tls)? {
        Ok((answer, distrust)) => secured(target, profile, &answer, distrust).map(Ok),
        Err(why) if is_turned_away(target, &why) || is_too_often(&why) => {
            turned_away(target, port, &why, start).map(Ok)
        }
        Err(why) if wants_certificate(target, &why) => Ok(Ok(Profile::ok(format!(
            "{protocol} answers on port {port}, and wants a certificate of its clients, which this server has not: TLS is not looked at further"
        )))),
        Err(why) => Ok(Err(format!("TLS with port {port} fails: {why}"))),
    }
}

/// Whether it does not talk to this server, as it is configured to; what it says when something is wrong with itself is none of that.
fn is_turned_away(target: &Target, why: &str) -> bool {
    // Its own words, or what curl gives of them.
    let said = why.split_once("it says '").or_else(|| why.split_once("smtp-server response: ")).map(|(_, said)| said);
    let Some((code, words)) = said.and_then(|said| said.split_at_checked(3)) else { return false };
    // The second number of a status says what it is about: 7 is what a server decides.
    let status = words.get(1..).unwrap_or_default();
    let (is_for_ever, is_decided) =
        (code.starts_with('5'), ["5.7.", "4.7."].iter().any(|kind| status.starts_with(kind)));
    let has_status = status.starts_with(['4', '5']) && status[1..].starts_with('.');
    target.option(config::TURNS_AWAY) == Some("yes") && (is_decided || is_for_ever && !has_status)
}

/// Whether postfix lets one client connect no more often, or no oftener at once: `421 4.7.0 … too many connections from 192.0.2.1`.
fn is_too_often(why: &str) -> bool {
    why.contains("421 4.7.0")
        && ["too many connections from", "too many new TLS sessions from"].iter().any(|words| why.contains(words))
}

fn turned_away(target: &Target, port: u16, why: &str, start: Instant) -> anyhow::Result<Profile> {
    let why = why.strip_prefix("it says ").unwrap_or(why);
    let profile = Profile::ok(format!(
        "it answers on port {port}, and turns this server away, as it is configured to do with some: {why}"
    ));
    Ok(profile.measure(target.time("answer", start, config::ANSWER_SLOW.into(), None)?))
}

/// Whether TLS ended because this server has no certificate to show. One that has none itself ends it before that.
fn wants_certificate(target: &Target, why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    let is_alert = why.contains("alert")
        && ["certificate required", "bad certificate", "handshake failure"].iter().any(|word| why.contains(word));
    // Postfix goes without a word after STARTTLS, which it takes only where it can speak TLS.
    let is_left = target.option("starttls").is_some_and(|how| how != "no") && why.contains("response reading failed");
    let is_said = why.contains("smtp-server response: 421") && why.contains("certificate");
    target.option(config::CLIENT_CERTIFICATE) == Some("yes") && (is_alert || is_said || is_left)
}

/// Greets as a mail server does; gives the capabilities.
fn smtp(talk: &mut Talk) -> Result<String, String> {
    expected(talk, "220")?;
    talk.say(b"EHLO atlas.invalid\r\n")?;
    let said = expected(talk, "250")?;
    Ok(said)
}

/// Begins a mail to the one whom every mail server has, and ends it: why it takes none at all. Who may not send one is turned away as it is
/// configured, and is told so by other numbers.
fn takes_none(target: &Target, talk: &mut Talk, capabilities: &str) -> Option<String> {
    // Where nobody said for whom it takes mail: what it calls itself. Restrictions do not count for a postmaster without a domain.
    let name = capabilities.get(4..).and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    let is_name = name.contains('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    let known =
        target.option(config::RECIPIENT).filter(|to| !to.contains(['<', '>', ' ']) && !to.contains(char::is_control));
    let own = || if is_name { format!("postmaster@{name}") } else { "postmaster".to_owned() };
    let postmaster = known.map_or_else(own, str::to_owned);
    let mut ask = |words: &[u8], fails: &[&str]| {
        let answer = talk.say(words).and_then(|()| talk.line()).ok()?;
        fails.iter().any(|code| answer.starts_with(code)).then_some(answer)
    };
    let answer = ask(b"MAIL FROM:<>\r\n", &[&["452"][..], &FAILS].concat())
        // A box may be full; where addresses are looked up may be gone.
        .or_else(|| ask(format!("RCPT TO:<{postmaster}>\r\n").as_bytes(), &FAILS));
    // Nobody waits for its farewell.
    let _ = talk.say(b"QUIT\r\n");
    Some(format!("it takes no mail: '{}'", answer?.escape_debug()))
}

/// How a mail server says that something of its own fails: also a filter that it asks (milter), and exim in its own words.
const FAILS: [&str; 5] =
    ["451 4.3", "452 4.3", "421 4.3", "451 4.7.1 Service unavailable", "451 Temporary local problem"];

/// The lines of an answer that has this code.
fn expected(talk: &mut Talk, code: &str) -> Result<String, String> {
    let mut said = String::new();
    for _ in 0..MAX_LINES {
        let line = talk.line()?;
        if !line.starts_with(code) {
            return Err(format!("it says '{}'", line.escape_debug()));
        }
        said.push_str(&line);
        said.push('\n');
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(said);
        }
    }
    Err(format!("it says more than {MAX_LINES} lines"))
}

fn imap(talk: &mut Talk) -> Result<String, String> {
    let greeting = talk.line()?;
    if !greeting.starts_with("* OK") && !greeting.starts_with("* PREAUTH") {
        return Err(format!("it says '{}'", greeting.escape_debug()));
    }
    talk.say(b"a CAPABILITY\r\n")?;
    let mut said = String::new();
    for _ in 0..MAX_LINES {
        let line = talk.line()?;
        if let Some(end) = line.strip_prefix("a ") {
            talk.say(b"b LOGOUT\r\n")?;
            return if end.starts_with("OK") && said.contains("IMAP4") {
                Ok(said)
            } else {
                Err(format!("it says '{}'", line.escape_debug()))
            };
        }
        said.push_str(&line);
    }
    Err(format!("it says more than {MAX_LINES} lines"))
}

/// Whether a certificate is looked at. Where nothing is known of PRI's, there is nothing that it could be for.
fn is_looked_at(target: &Target) -> bool {
    let is_known = target.option("name").is_some() && target.option(certificate::ISSUER) != Some(certificate::UNKNOWN);
    target.option("trust") != Some("no") && (is_known || target.option("ca").is_some())
}

/// Speaks TLS; with why clients would not take the certificate. Inside, what is wrong.
fn tls(
    target: &Target,
    protocol: &str,
    port: u16,
    from_the_start: bool,
) -> anyhow::Result<Result<(Answer, Option<Distrust>), String>> {
    let scheme = if from_the_start { format!("{protocol}s") } else { protocol.to_owned() };
    let url = curl::url(&scheme, target.option("name").unwrap_or(&target.host), port, "/");
    let word = if protocol == "smtp" { "NOOP" } else { "CAPABILITY" };
    let ask = |more: &[&str]| curl::fetch(target, &url, port, &[more, &["--ssl-reqd", "--request", word]].concat());
    if is_looked_at(target) {
        return trust::first(target, ask);
    }
    Ok(ask(&[curl::ANY_CERTIFICATE])?.map(|answer| (answer, None)))
}

fn secured(
    target: &Target,
    mut profile: Profile,
    answer: &Answer,
    distrust: Option<Distrust>,
) -> anyhow::Result<Profile> {
    let time = target.measure("tls", answer.time_ms, "ms", (Some(config::TLS_SLOW.into()), None), Worse::Higher)?;
    profile = profile.measure(time);
    let name = target.option("name").filter(|_| distrust.is_none());
    match name {
        Some(name) if is_looked_at(target) => {
            profile.summary.push_str(&format!("; its certificate is for {name}, of an issuer that is known"));
        }
        Some(_) => profile.summary.push_str(
            "; the name and the issuer of its certificate are not looked at: PRI's is of no issuer that is known",
        ),
        None => (),
    }
    Ok(trust::judge(target, profile.clone(), answer, distrust, "mail")?.unwrap_or(profile))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_is_told_from_a_server_that_fails() {
        let target = |option: &str| Target {
            options: [(option.to_owned(), "yes".to_owned())].into(),
            ..crate::here::testing::Server::new().target()
        };
        let (wary, open) = (target(config::TURNS_AWAY), target("starttls"));
        for why in [
            "it says '554 5.7.1 <unknown[10.9.0.11]>: Client host rejected: Access denied'",
            "it says '550 go away'",
            "it says '554-mail.example'",
            "it says '450 4.7.25 Client host rejected: cannot find your hostname'",
            "Got unexpected smtp-server response: 554 5.7.1 x",
        ] {
            assert!(is_turned_away(&wary, why) && !is_turned_away(&open, why), "{why}");
        }
        for why in [
            "it says '421 4.3.2 all server ports are busy'",
            "it says '452 4.3.1 Insufficient system storage'",
            "it says '451 4.3.5 Server configuration problem'",
            "it says '451 Temporary local problem'",
            "it says '554 5.3.0 unable to verify'",
            "it says ''",
            "no answer in time",
        ] {
            assert!(!is_turned_away(&wary, why), "{why}");
            assert!(!is_too_often(why), "{why}");
        }
        assert!(is_too_often("it says '421 4.7.0 mail.example Error: too many connections from 192.0.2.1'"));
        let wants = target(config::CLIENT_CERTIFICATE);
        for why in [
            "Got unexpected smtp-server response: 421 4.7.1 mail.example Error: No client certificate presented",
            "OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0",
        ] {
            assert!(wants_certificate(&wants, why) && !wants_certificate(&open, why), "{why}");
        }
        for why in ["Recv failure: Connection reset by peer", "Got unexpected smtp-server response: 421 4.3.2 busy"] {
            assert!(!wants_certificate(&wants, why), "{why}");
        }
    }

    #[test]
    fn what_listens_is_found_once_for_each_port() {
        let tmp = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("etc/postfix/main.cf", "inet_interfaces = all\n"),
            ("etc/postfix/master.cf", "smtp inet n - y - - smtpd\n"),
            (
                "etc/dovecot/dovecot.conf",
                "!include_try /usr/share/dovecot/protocols.d/*.protocol\n!include conf.d/*.conf\n",
            ),
            ("etc/dovecot/conf.d/10-ssl.conf", "ssl = yes\n"),
            ("usr/share/dovecot/protocols.d/imapd.protocol", "protocols = $protocols imap\n"),
        ] {
            std::fs::create_dir_all(tmp.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(tmp.path().join(path), content).unwrap();
        }
        let found = find(&Tree::open(tmp.path()).unwrap()).unwrap();
        let names: Vec<&str> = found.instances.iter().map(|instance| instance.name.as_str()).collect();
        assert_eq!(names, ["smtp:25", "imap:143", "imap:993"]);
        assert_eq!(found.paths, ["/etc/postfix", "/etc/dovecot"]);
    }
}

//! Whether clients take a certificate: it has to be for the name they ask for, and of an issuer they know.
//!
//! What clients know is not known here. A name that does not fit is refused by all of them; an issuer that this server does not know may be
//! known to them, unless the settings say which ones they know (`ca`).

use super::{
    certificate,
    curl::{ANY_CERTIFICATE, Answer, Shown},
};
use crate::service::Target;
use atlas_model::verify::{Profile, Verdict};
use std::fmt;

/// Asks as a client asks. Where that would not take the certificate, it is asked again without looking at it, and the reason stands beside the
/// answer. `ask` has further options for curl.
pub(super) fn first(
    target: &Target,
    ask: impl Fn(&[&str]) -> anyhow::Result<Result<Answer, String>>,
) -> anyhow::Result<Result<(Answer, Option<Distrust>), String>> {
    if !is_looked_at(target) {
        return Ok(ask(&[ANY_CERTIFICATE])?.map(|answer| (answer, None)));
    }
    let ca = target.option("ca");
    let why = match ask(&ca.map_or_else(Vec::new, |ca| vec!["--cacert", ca]))? {
        Ok(answer) => return Ok(Ok((answer, None))),
        Err(why) => why,
    };
    let Some(distrust) = Distrust::read(&why, ca) else { return Ok(Err(why)) };
    let is_incomplete = target.option(certificate::ISSUER) == Some(certificate::INCOMPLETE);
    let distrust = match distrust {
        Distrust::Unknown(why) if is_incomplete && why.contains("issuer") => Distrust::Incomplete(why),
        other => other,
    };
    // Where the configuration has no name, nobody knows by which one clients come.
    let counts = !matches!(distrust, Distrust::Name(_)) || target.option("name").is_some();
    Ok(ask(&[ANY_CERTIFICATE])?.map(|answer| (answer, Some(distrust).filter(|_| counts))))
}

/// Whether it matters for which name the certificate is, and of whom. Clients of PRI, whose certificate is of no issuer that is known there, do not
/// mind.
pub(super) fn is_looked_at(target: &Target) -> bool {
    let is_of_none = target.option(certificate::ISSUER) == Some(certificate::UNKNOWN) && target.option("ca").is_none();
    target.option("trust") != Some("no") && !is_of_none
}

/// What an answer's certificate means for a service, which is `ok` without it; `None` where the answer has none.
pub(super) fn judge(
    target: &Target,
    mut profile: Profile,
    answer: &Answer,
    distrust: Option<Distrust>,
    service: &str,
) -> anyhow::Result<Option<Profile>> {
    let Some(expires) = &answer.expires else { return Ok(None) };
    let left = expires.measure(target)?;
    // Of one that has expired nothing else is told.
    if let Some(distrust) = distrust.filter(|_| expires.days > 0.0) {
        profile.verdict = profile.verdict.or(distrust.verdict());
        profile.summary.push_str(&format!("; {distrust}"));
        profile = profile.hint(distrust.hint(service));
    }
    if left.verdict().exit_code() > 0 {
        profile.summary.push_str(&format!("; {expires}"));
        let renew = match expires.of {
            Shown::Own | Shown::Key(_) => "renew the certificate (certbot renew, or whatever made it)",
            Shown::Early => "look at the clocks of both servers (timedatectl), or put the certificate of before back",
            Shown::Issuer(_) => {
                "fetch the issuer's present intermediate, which comes with a new one (certbot renew --force-renewal)"
            }
        };
        profile = profile.hint(format!("{renew}, then reload the {service} server"));
    }
    Ok(Some(profile.measure(left)))
}

/// Why clients do not take a certificate.
#[derive(Debug)]
pub(super) enum Distrust {
    /// It is for other names; in curl's words.
    Name(String),
    /// It is not of the issuers in the file that was set; in curl's words.
    NotOf(String, String),
    /// It is of no issuer that this server knows; in curl's words. Others may know it.
    Unknown(String),
    /// The certificate between it and an issuer that clients know is not sent; in curl's words.
    Incomplete(String),
    /// It is not for servers; in curl's words.
    Purpose(String),
    /// The file of issuers, that of the system or the one that was set, cannot be read; in curl's words.
    NoFile(String),
}

impl Distrust {
    /// Reads why curl did not go on; `None` where that was not for the certificate.
    fn read(why: &str, ca: Option<&str>) -> Option<Distrust> {
        if let Some(why) = why.strip_prefix("SSL certificate problem: ") {
            let why = why.to_owned();
            if why.contains("purpose") {
                return Some(Distrust::Purpose(why));
            }
            return Some(ca.map_or(Distrust::Unknown(why.clone()), |ca| Distrust::NotOf(ca.to_owned(), why)));
        }
        if why.starts_with("error setting certificate") {
            return Some(Distrust::NoFile(why.to_owned()));
        }
        why.strip_prefix("SSL: ").filter(|why| why.contains("name")).map(|why| Distrust::Name(why.to_owned()))
    }

    /// Who is known to be refused is without the service; who may be is worth a look.
    fn verdict(&self) -> Verdict {
        match self {
            Distrust::Name(_) | Distrust::NotOf(..) | Distrust::Purpose(_) => Verdict::Unacceptable,
            Distrust::Unknown(_) | Distrust::Incomplete(_) => Verdict::Slow,
            Distrust::NoFile(_) => Verdict::Unknown,
        }
    }

    fn hint(&self, service: &str) -> String {
        let renew = format!(
            "put the right certificate there, with the whole chain of its issuers (openssl s_client -showcerts), and reload the {service} server"
        );
        match self {
            Distrust::NoFile(_) => format!(
                "install the package ca-certificates here; where [service.{service}] has a ca, put that file on every server"
            ),
            Distrust::Incomplete(_) => format!(
                "serve the certificate with those of its issuers: certbot's fullchain.pem in place of cert.pem, or \
                append the issuer's file to it; then reload the {service} server (openssl s_client -showcerts shows the chain)"
            ),
            Distrust::Unknown(_) => format!(
                "{renew}; where clients know an issuer of their own: [service.{service}] set = {{ ca = \"/etc/atlas/verifier/ca.pem\" }}, or trust = \"no\""
            ),
            _ => renew,
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distrust::Name(why) => write!(f, "clients refuse the certificate, which is for another name: {why}"),
            Distrust::NotOf(ca, why) => {
                write!(f, "clients refuse the certificate, which is not of the issuers in {ca}: {why}")
            }
            Distrust::Unknown(why) => write!(f, "the certificate is of no issuer that this server knows: {why}"),
            Distrust::Incomplete(why) => {
                write!(f, "clients may not know the issuer: the chain lacks an intermediate ({why})")
            }
            Distrust::Purpose(why) => write!(f, "clients refuse the certificate, which is not one for servers: {why}"),
            Distrust::NoFile(why) => write!(f, "whether clients take the certificate cannot be told here: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_certificate_is_refused_is_told_from_other_failures() {
        let read = |why: &str, ca| Distrust::read(why, ca).map(|distrust| (distrust.verdict(), distrust.to_string()));
        let (verdict, told) = read("SSL certificate problem: self-signed certificate", None).unwrap();
        assert!(verdict == Verdict::Slow && told.ends_with("this server knows: self-signed certificate"), "{told}");
        let (verdict, told) =
            read("SSL certificate problem: unable to get local issuer certificate", Some("/ca")).unwrap();
        assert!(verdict == Verdict::Unacceptable && told.contains("issuers in /ca: unable to get"), "{told}");
        let (verdict, told) = read("SSL certificate problem: unsuitable certificate purpose", None).unwrap();
        assert!(verdict == Verdict::Unacceptable && told.contains("not one for servers"), "{told}");
        for why in [
            "SSL: no alternative certificate subject name matches target host name 'shop.example'",
            "SSL: certificate subject name 'x' does not match target hostname 'shop.example'",
        ] {
            let (verdict, told) = read(why, None).unwrap();
            assert!(verdict == Verdict::Unacceptable && told.contains("another name: "), "{told}");
        }
        let gone = read("error setting certificate file: /ca", Some("/ca")).unwrap();
        assert!(gone.0 == Verdict::Unknown && gone.1.contains("/ca"), "{gone:?}");
        assert_eq!(read("Connection refused", None), None);
        assert_eq!(read("OpenSSL SSL_connect: SSL_ERROR_SYSCALL", Some("/ca")), None);
    }
}

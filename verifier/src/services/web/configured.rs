//! What a site answers because it is configured to: a maintenance's 503, too many requests, a login page in place of a refusal.

use super::exercise::Site;
use crate::services::{
    curl::{ANY_CERTIFICATE, Answer, Expiry, Shown},
    trust::Distrust,
};
use atlas_model::verify::{Profile, Verdict};
use std::time::Duration;

/// The option that says what is answered in any case, as in a maintenance: `503`, or `503 perhaps` where that depends on something.
pub(super) const ANSWERS: &str = "answers";
/// The option that says how whoever asks too often is turned away.
pub(super) const LIMITS: &str = "limits";
/// The option that says with which statuses a filter may turn a request away that its rules do not like: mod_evasive, mod_security.
pub(super) const FILTER: &str = "filter";
/// Of the restricted paths, those for which an error page answers as it likes.
pub(super) const MASKED: &str = "masked";
/// Names besides the one that is asked for.
pub(super) const ALIASES: &str = "aliases";
/// The option of a site that shows one of several certificates, by the kind of key that a client takes: `several`.
pub(super) const KEYS: &str = "keys";
/// The kinds of keys, each with the ciphers of TLS 1.2 that are for it.
const KINDS: [(&str, &str); 2] = [("RSA", "aRSA"), ("ECDSA", "aECDSA")];
/// How long is waited before whoever asked too often asks again.
const WAITS_MS: [u64; 4] = [300, 700, 1500, 3000];

/// How a status is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u16,
    /// Whether it depends on something that is not known here.
    pub(super) is_perhaps: bool,
}

impl Status {
    /// As the option says it.
    pub(super) fn words(self) -> String {
        format!("{}{}", self.code, if self.is_perhaps { " perhaps" } else { "" })
    }
}

impl Site<'_> {
    /// The verdict on an answer that the configuration itself gives; `None` where it is another.
    pub(super) fn as_configured(&self, answer: &Answer) -> Option<Verdict> {
        let (code, rest) = self.target.option(ANSWERS).map(|words| words.split_once(' ').unwrap_or((words, "")))?;
        let verdict = if rest.is_empty() { Verdict::Ok } else { Verdict::Slow };
        (code.parse() == Ok(answer.status)).then_some(verdict)
    }

    /// Whether a filter may have turned this server away.
    pub(super) fn is_filtered(&self, answer: &Answer) -> bool {
        let mut statuses = self.target.option(FILTER).unwrap_or_default().split(' ');
        statuses.any(|code| code.parse() == Ok(answer.status))
    }

    /// Whether it may say that this server asks too often.
    pub(super) fn is_limit(&self, answer: &Answer) -> bool {
        let mut limits = self.target.option(LIMITS).unwrap_or_default().split(' ');
        limits.any(|code| code.parse() == Ok(answer.status)) && self.as_configured(answer).is_none()
    }

    /// Asks again, ever later, while the answer is that this server asks too often.
    pub(super) fn patiently(
        &self,
        ask: impl Fn() -> anyhow::Result<Result<Answer, String>>,
    ) -> anyhow::Result<Result<Answer, String>> {
        let mut answer = ask()?;
        for wait in WAITS_MS.map(Duration::from_millis) {
            let is_limit = answer.as_ref().is_ok_and(|answer| self.is_limit(answer));
            if !is_limit || self.target.left() < wait * 4 {
                break;
            }
            std::thread::sleep(wait);
            answer = ask()?;
        }
        Ok(answer)
    }

    /// Whether a restricted path is closed by a page that answers in its place: all below it have the same answer.
    pub(super) fn is_masked(&self, path: &str, answer: &Answer) -> anyhow::Result<bool> {
        if !self.target.option(MASKED).unwrap_or_default().split(' ').any(|masked| masked == path) {
            return Ok(false);
        }
        Ok(self.ask(&beside(path))?.is_ok_and(|other| other.status == answer.status))
    }

    /// Takes the end of whichever certificate ends first, where a site shows one for each kind of key.
    pub(super) fn first_of_all_keys(&self, answer: &mut Answer) -> anyhow::Result<()> {
        let kinds = KINDS.iter().filter(|_| self.target.option(KEYS) == Some("several"));
        for (kind, ciphers) in kinds {
            // Ciphers of TLS 1.3 are for all kinds.
            let other = self.ask_with("/", &[ANY_CERTIFICATE, "--tls-max", "1.2", "--ciphers", ciphers])?;
            let end = other.ok().and_then(|other| other.expires);
            let is_first = |end: &Expiry| answer.expires.as_ref().is_some_and(|first| end.days < first.days);
            if let Some(end) = end.filter(is_first) {
                let of = if end.of == Shown::Own { Shown::Key(kind) } else { end.of };
                answer.expires = Some(Expiry { of, date: end.date, days: end.days });
            }
        }
        Ok(())
    }

    /// The names for which clients do not take the certificate.
    pub(super) fn distrusted_names(&self) -> anyhow::Result<Vec<String>> {
        let mut all = vec![];
        for name in self.target.option(ALIASES).unwrap_or_default().split_whitespace() {
            let site = Site { name, ..*self };
            if let Ok((_, Some(Distrust::Name(_)))) = site.first("/")? {
                all.push(name.to_owned());
            }
        }
        Ok(all)
    }
}

/// What is said of names that the certificate is not for.
pub(super) fn judge_names(mut profile: Profile, names: &[String]) -> Profile {
    if names.is_empty() {
        return profile;
    }
    let what = format!("; clients who come by {} refuse the certificate, which is for other names", names.join(" or "));
    profile.summary.push_str(&what);
    profile.verdict = profile.verdict.or(Verdict::Slow);
    profile.hint("have a certificate made for all names of the site (certbot --expand), or take those out of it")
}

/// A path that is closed by the same words as this one, and of which there is no file.
fn beside(path: &str) -> String {
    format!("{}/atlas-verify-closed", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beside_a_closed_path_is_closed_by_the_same_words() {
        for (path, other) in [
            ("/admin/", "/admin/atlas-verify-closed"),
            ("/admin", "/admin/atlas-verify-closed"),
            ("/", "/atlas-verify-closed"),
        ] {
            assert_eq!(beside(path), other);
        }
    }
}

//! Whom TCP wrappers let in: `/etc/hosts.allow` and `/etc/hosts.deny`, which sshd of Debian goes by.
//!
//! ```text
//! sshd: 192.168.1. , .example.org     in hosts.allow: these are let in
//! ALL : ALL EXCEPT 10.0.0.0/255.0.0.0 in hosts.deny, which is looked at second: all others are kept out
//! ```

use super::{access, found::Finding};
use crate::service::Tree;

const ALLOW: &str = "/etc/hosts.allow";
const DENY: &str = "/etc/hosts.deny";
const ALL: &str = "ALL";

/// The option that says who is let in to a daemon, where some are kept out; the files travel then.
pub(super) fn option(tree: &Tree, finding: &mut Finding, daemon: &str) -> anyhow::Result<Option<(String, String)>> {
    let [allowed, denied] =
        [ALLOW, DENY].map(|path| tree.read(path).map(|text| clients(&text.unwrap_or_default(), daemon)));
    let (allowed, denied) = (allowed?, denied?);
    if denied.is_empty() {
        return Ok(None);
    }
    [ALLOW, DENY].iter().for_each(|path| finding.path(tree, path));
    Ok(Some((access::CLIENTS.into(), let_in(&allowed, &denied))))
}

/// Those who are let in, as words for [`access`]. Names, and words that are not understood, stay as they are: of these nobody can tell.
fn let_in(allowed: &[String], denied: &[String]) -> String {
    let plain = |word: &String| word.replace(['[', ']'], "");
    let allowed: Vec<String> =
        allowed.iter().map(plain).map(|word| if word == ALL { "all".into() } else { word }).collect();
    match denied.contains(&ALL.to_owned()) && denied.len() == 1 {
        true => allowed.join(" "),
        // Whoever is in both is let in, which a list of networks cannot say: it is asked for as a name, of which nobody can tell.
        false if !allowed.is_empty() || denied.contains(&ALL.to_owned()) => "some".into(),
        false => denied.iter().map(plain).fold("all".to_owned(), |all, word| format!("{all} !{word}")),
    }
}

/// The words for clients of all lines for a daemon.
fn clients(text: &str, daemon: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let is_separator = |c: char| c == ',' || c.is_whitespace();
    let words =
        |text: &str| text.split(is_separator).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(daemons, _)| words(daemons).iter().any(|word| word == daemon || word == ALL))
        .flat_map(|(_, rest)| words(before_options(rest)))
        .collect()
}

/// The clients of a line: what stands before the next colon that is not within the brackets of an address.
fn before_options(rest: &str) -> &str {
    let mut depth = 0;
    let end = rest.find(|c: char| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        c == ':' && depth == 0
    });
    &rest[..end.unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn told(allow: &str, deny: &str) -> Option<String> {
        let server = Server::with(&[("etc/hosts.allow", allow), ("etc/hosts.deny", deny)]);
        let mut finding = Finding::default();
        option(&server.tree(), &mut finding, "sshd").unwrap().map(|(_, clients)| clients)
    }

    #[test]
    fn who_is_let_in_is_read_of_both_files() {
        assert_eq!(told("# /etc/hosts.allow\nALL: LOCAL\n", "# none\n"), None);
        assert_eq!(told("", "vsftpd: ALL\n"), None);
        assert_eq!(told("", "sshd: ALL\n").as_deref(), Some(""));
        assert_eq!(
            told("sshd: 192.168.1. , 10.0.0.0/255.0.0.0\n", "ALL: ALL\n").as_deref(),
            Some("192.168.1. 10.0.0.0/255.0.0.0")
        );
        assert_eq!(
            told("sshd : [2001:db8::]/32 : spawn echo\n", "sshd \\\n : ALL\n").as_deref(),
            Some("2001:db8::/32")
        );
        assert_eq!(told("ALL: ALL\n", "ALL: ALL\n").as_deref(), Some("all"));
        assert_eq!(told("", "sshd: 203.0.113.7\n").as_deref(), Some("all !203.0.113.7"));
        assert_eq!(told("", "ALL: ALL EXCEPT 10.0.0.1\n").as_deref(), Some("some"));
    }
}

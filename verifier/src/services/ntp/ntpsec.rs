//! ntpsec: its files are read, for it has no word for what they mean: `restrict` says whom it answers, `interface` where it listens.

use crate::{
    service::Tree,
    services::{
        access,
        daemon::{Daemon, started},
        found::{Finding, Six, is_loopback, reached},
        included,
    },
};
use std::collections::BTreeMap;

const DAEMON: Daemon =
    Daemon { name: "ntpsec", programs: &["ntpd"], units: &["ntpsec.service", "ntp.service", "ntpd.service"] };
/// What keeps strangers without an answer.
const CLOSED: [&str; 3] = ["ignore", "noserve", "notrust"];

/// Finds it.
pub(super) fn find(tree: &Tree, finding: &mut Finding) -> anyhow::Result<()> {
    let dir = tree.installed("ntpsec", "/etc/ntpsec");
    let main = format!("{dir}/ntp.conf");
    if !tree.exists(&main) || !DAEMON.is_there(tree) {
        return Ok(());
    }
    finding.path(tree, dir);
    finding.path(tree, "/etc/default/ntpsec");
    let include = |line: &str| {
        let path = line.strip_prefix("includefile")?.split_whitespace().next()?.trim_matches('"');
        Some(vec![if path.starts_with('/') { path.to_owned() } else { format!("{dir}/{path}") }])
    };
    let mut lines = vec![];
    // It takes these after its file.
    for file in [main].into_iter().chain(tree.matching(&format!("{dir}/ntp.d/*.conf"))) {
        lines.extend(included::lines(tree, finding, &file, &include)?);
    }
    finding.files_of(tree, lines.iter().filter_map(|line| line.split('#').next()));
    if directives(&lines, &["nts"]).any(|words| words.contains(&"enable")) {
        finding.note("ntpsec gives keys for the time at port 4460 (NTS), which is not exercised".into());
    }
    let Some(clients) = clients(&lines) else {
        finding.note("ntpsec is not exercised: at port 123 it answers nobody but this server".into());
        return Ok(());
    };
    let mut listens = listens(&lines);
    let given = started::options(tree, finding, "ntpsec", "NTPD_OPTS");
    if let Some(one) = started::option(&given, "-I") {
        listens.get_or_insert(vec!["127.0.0.1".to_owned()]).push(one.to_owned());
    }
    let (at, where_to) = reached(listens.iter().flatten().map(String::as_str), Six::Alone);
    let mut options: BTreeMap<String, String> = where_to.collect();
    if clients != ["*"] {
        options.insert(access::CLIENTS.into(), clients.join(" "));
    }
    super::server(finding, "ntpsec", 123, options, at);
    Ok(())
}

/// The words of each line that begins with one of these.
fn directives<'l>(lines: &'l [String], names: &'static [&str]) -> impl Iterator<Item = Vec<&'l str>> {
    lines.iter().filter_map(move |line| {
        let mut words = line.split('#').next()?.split_whitespace();
        names.contains(&words.next()?).then(|| words.collect())
    })
}

/// Whom it answers, `*` for everybody, with a `!` who is not; `None` where that is this server alone. The nearest network counts.
fn clients(lines: &[String]) -> Option<Vec<String>> {
    let mut all: BTreeMap<String, bool> = BTreeMap::from([("*".to_owned(), true)]);
    for words in directives(lines, &["restrict"]) {
        let is_six = words.first() == Some(&"-6");
        let rest = if matches!(words.first(), Some(&("-4" | "-6"))) { &words[1..] } else { &words[..] };
        let Some((who, flags)) = rest.split_first() else { continue };
        let (mask, flags) = match flags {
            ["mask", mask, flags @ ..] => (Some(mask), flags),
            _ => (None, flags),
        };
        let who = match (*who, mask) {
            // Partners come by IPv4.
            ("source", _) => continue,
            ("default", _) if is_six => continue,
            ("default", _) => "*".to_owned(),
            (who, Some(mask)) => format!("{who}/{mask}"),
            (who, None) => who.to_owned(),
        };
        all.insert(who, !flags.iter().any(|flag| CLOSED.contains(flag)));
    }
    let is_for_all = all.get("*") == Some(&true);
    let all: Vec<(String, bool)> = all.into_iter().filter(|(who, _)| !is_loopback(who)).collect();
    let named = all.into_iter().filter(|(who, is_open)| who == "*" || *is_open != is_for_all);
    let clients: Vec<String> = named
        .filter(|(who, is_open)| who != "*" || *is_open)
        .map(|(who, is_open)| if is_open { who } else { format!("!{who}") })
        .collect();
    clients.iter().any(|who| !who.starts_with('!')).then_some(clients)
}

/// The addresses or interfaces that it listens on, loopback always among them; `None` for all of them.
fn listens(lines: &[String]) -> Option<Vec<String>> {
    let mut all = None;
    for words in directives(lines, &["interface", "nic"]) {
        match (&words[..], &mut all) {
            (["ignore" | "drop", "all" | "ipv4", ..], _) => all = Some(vec!["127.0.0.1".to_owned()]),
            (["listen", "all" | "ipv4", ..], _) => all = None,
            // Who names one means that one alone.
            (["listen", what, ..], all) => all.get_or_insert(vec!["127.0.0.1".to_owned()]).push((*what).to_owned()),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::verify::{At, Instance};

    fn found(files: &[(&str, &str)]) -> (Vec<Instance>, Vec<String>) {
        let mut finding = Finding::default();
        find(&Server::with(files).tree(), &mut finding).unwrap();
        let found = finding.done();
        (found.instances, found.notes)
    }

    #[test]
    fn whom_ntpsec_answers_is_read_from_its_restrictions() {
        let of = |text: &str| {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            clients(&lines).map(|clients| clients.join(" "))
        };
        assert_eq!(
            of("restrict default kod nomodify nopeer noquery limited\nrestrict 127.0.0.1\n").as_deref(),
            Some("*")
        );
        assert_eq!(of("restrict default ignore # all\nrestrict 127.0.0.1\nrestrict ::1\n"), None);
        let some =
            "restrict -4 default noserve\nrestrict 10.77.0.0 mask 255.255.0.0 nomodify\nrestrict source nomodify\n";
        assert_eq!(of(some).as_deref(), Some("10.77.0.0/255.255.0.0"));
        assert_eq!(
            of("restrict 192.0.2.0/24 notrust\nrestrict -6 default ignore\n").as_deref(),
            Some("* !192.0.2.0/24")
        );
        assert_eq!(of("restrict default ignore\nrestrict default kod\n").as_deref(), Some("*"), "the last one counts");
    }

    #[test]
    fn files_travel_from_wherever_they_lie_and_those_that_are_included_count() {
        let main = "driftfile /srv/drift\nleapfile /usr/share/zoneinfo/leap-seconds.list\nkeys \"/srv/keys\"\nnts enable\n\
            nts cert /srv/cert key /srv/key # ours\nincludefile \"/srv/more\"\n";
        let root = Server::with(&[
            ("etc/ntpsec/ntp.conf", main),
            ("srv/more", "restrict default ignore\nrestrict 10.9.0.0/24\n"),
            ("usr/share/zoneinfo/leap-seconds.list", ""),
        ]);
        ["drift", "keys", "cert", "key"].iter().for_each(|name| root.write(&format!("srv/{name}"), ""));
        let mut finding = Finding::default();
        find(&root.tree(), &mut finding).unwrap();
        let found = finding.done();
        let mut paths = found.paths.clone();
        paths.sort();
        assert_eq!(paths, ["/etc/ntpsec", "/srv/cert", "/srv/key", "/srv/keys", "/srv/more"]);
        assert_eq!(found.instances[0].options["clients"], "10.9.0.0/24");
        assert!(found.notes[0].contains("4460"), "{found:?}");
    }

    #[test]
    fn where_ntpsec_listens_and_which_files_it_takes_is_read() {
        let main = ("etc/ntpsec/ntp.conf", "includefile more # x\nrestrict default ignore\nrestrict 127.0.0.1\n");
        let (none, notes) = found(&[main]);
        assert!(none.is_empty() && notes[0].contains("nobody but this server"), "{notes:?}");
        let more = ("etc/ntpsec/more", "interface ignore all\ninterface listen 192.0.2.1\n");
        let (all, notes) = found(&[main, more, ("etc/ntpsec/ntp.d/a.conf", "restrict 192.0.2.0/24\n")]);
        assert_eq!((all.len(), notes.len()), (1, 0));
        let options = ["clients=192.0.2.0/24", "bound=192.0.2.1", "port=123"];
        let has = |one: &str| one.split_once('=').is_some_and(|(key, value)| all[0].options[key] == value);
        assert!(options.iter().all(|one| has(one)) && all[0].at == At::Partners, "{all:?}");
        for text in
            ["nic ignore all\n", "interface ignore wildcard\ninterface listen 127.0.0.1\n", "interface listen ::1\n"]
        {
            assert_eq!(found(&[("etc/ntpsec/ntp.conf", text)]).0[0].at, At::Here, "{text}");
        }
        let usual = ("etc/ntpsec/ntp.conf", "restrict default kod\n");
        assert_eq!(found(&[usual]).0[0].at, At::Partners);
        assert_eq!(found(&[usual, ("etc/default/ntpsec", "NTPD_OPTS=\"-g -I lo\"\n")]).0[0].at, At::Here);
    }
}

//! `/etc/exports`: a directory a line, and to whom it is given in which manner.

/// One exported directory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Export {
    pub(super) path: String,
    /// Whether everybody it is given to may write.
    pub(super) is_writable: bool,
    /// Who a client's root is here.
    pub(super) root: Root,
    /// Whom it is given to: addresses, networks, names, `*`; with a `!` before who needs what not everybody has.
    pub(super) clients: Vec<String>,
    /// Whether clients of NFS 4 see it as `/`.
    pub(super) is_pseudo_root: bool,
    /// What every client of it needs.
    pub(super) needs: Needs,
    /// Whether it is another server's, to which clients are sent.
    pub(super) is_elsewhere: bool,
    /// Options that are not understood.
    pub(super) unknown: Vec<String>,
}

/// What a client needs that not everybody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// A ticket of Kerberos.
    Ticket,
    /// TLS below NFS.
    Tls,
}

/// Who a client's root is on the server.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(super) enum Root {
    /// Root as well.
    Itself,
    /// nobody.
    Nobody,
    /// An account that is given by its number.
    Another,
}

impl Root {
    /// Who it may be taken for where it is both to some.
    fn and(self, other: Root) -> Root {
        if other > self { other } else { self }
    }
}

/// How it is given to one client.
#[derive(Debug)]
struct Given {
    is_writable: bool,
    root: Root,
    is_pseudo_root: bool,
    needs: Needs,
    is_elsewhere: bool,
    unknown: Vec<String>,
}

/// What exportfs understands besides what counts here, up to a `=`.
const KNOWN: [&str; 33] = [
    "acl",
    "anongid",
    "anonuid",
    "async",
    "auth_nlm",
    "crossmnt",
    "fsid",
    "hide",
    "insecure",
    "insecure_locks",
    "mountpoint",
    "mp",
    "no_acl",
    "no_auth_nlm",
    "no_pnfs",
    "no_security_label",
    "no_subtree_check",
    "no_wdelay",
    "nocrossmnt",
    "nohide",
    "nordirplus",
    "pnfs",
    "reexport",
    "refer",
    "replicas",
    "sec",
    "secure",
    "secure_locks",
    "security_label",
    "subtree_check",
    "sync",
    "wdelay",
    "xprtsec",
];

impl Given {
    /// By options for all and those of its own, in this order. What stands behind `sec=` holds for those ways of proving who one is alone, and
    /// what a list says before it holds for them as well; but a list of its own says nothing of those that the one for all has named.
    fn by(lists: &[&str]) -> Given {
        // Whether it is writable, and whether root, and all, are nobody: of ways that nobody names, and of each that is named.
        let mut usual = (false, true, false);
        let mut ways: Vec<(&str, (bool, bool, bool))> = vec![];
        let mut has_number = false;
        let mut is_pseudo_root = false;
        let (mut needs_tls, mut is_elsewhere, mut unknown) = (false, false, vec![]);
        for list in lists {
            let mut named: Vec<&str> = vec![];
            for option in list.split(',') {
                if let Some(of) = option.strip_prefix("sec=") {
                    named = of.split(':').collect();
                    for way in &named {
                        if !ways.iter().any(|(known, _)| known == way) {
                            ways.push((way, usual));
                        }
                    }
                }
                has_number |= option.starts_with("anonuid=") && option != "anonuid=65534";
                is_pseudo_root |= matches!(option, "fsid=0" | "fsid=root");
                is_elsewhere |= option.starts_with("refer=");
                if let Some(ways) = option.strip_prefix("xprtsec=") {
                    needs_tls = !ways.split(':').any(|way| way == "none");
                }
                let held = ways.iter_mut().filter(|(way, _)| named.contains(way)).map(|(_, said)| said);
                for (is_writable, is_nobody, are_all) in held.chain([&mut usual]) {
                    match option {
                        "rw" | "ro" => *is_writable = option == "rw",
                        "all_squash" | "no_all_squash" => *are_all = option == "all_squash",
                        "root_squash" | "no_root_squash" => *is_nobody = option == "root_squash",
                        _ => {}
                    }
                }
                let is_squash = matches!(option, "rw" | "ro" | "") || option.ends_with("_squash");
                if !is_squash && !KNOWN.contains(&option.split('=').next().unwrap_or_default()) {
                    unknown.push(option.to_owned());
                }
            }
        }
        let is_kerberos = |way: &str| way.starts_with("krb5");
        let (is_writable, is_nobody, are_all) =
            ways.iter().find(|(way, _)| !is_kerberos(way)).or(ways.first()).map_or(usual, |(_, said)| *said);
        let root = match (has_number, is_nobody || are_all) {
            (true, _) => Root::Another,
            (_, true) => Root::Nobody,
            (_, false) => Root::Itself,
        };
        let needs = match ways.is_empty() || ways.iter().any(|(way, _)| !is_kerberos(way)) {
            false => Needs::Ticket,
            true if needs_tls => Needs::Tls,
            true => Needs::Nothing,
        };
        Given { is_writable, root, is_pseudo_root, needs, is_elsewhere, unknown }
    }
}

/// Reads lines such as `/srv/data 192.0.2.0/24(rw,no_root_squash) *(ro)`.
pub(super) fn exports(text: &str) -> Vec<Export> {
    let text = text.replace("\\\n", " ");
    let (mut exports, mut defaults) = (Vec::<Export>::new(), String::new());
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        let Some((path, clients)) = path(line) else { continue };
        let (mut options, mut names): (Vec<(String, String)>, Vec<String>) = (vec![], vec![]);
        for client in clients.split_whitespace() {
            match (client.strip_prefix('-'), client.split_once('(')) {
                (Some(all), _) => defaults = all.to_owned(),
                (_, Some((name, own))) => {
                    names.push(name.to_owned());
                    options.push((defaults.clone(), own.trim_end_matches(')').to_owned()));
                }
                _ => {
                    names.push(client.to_owned());
                    options.push((defaults.clone(), String::new()));
                }
            }
        }
        if options.is_empty() {
            names.push("*".to_owned());
            options.push((defaults.clone(), String::new()));
        }
        // Options without a name are for everybody.
        names.iter_mut().filter(|name| name.is_empty()).for_each(|name| "*".clone_into(name));
        let mut given: Vec<Given> = options.iter().map(|(all, own)| Given::by(&[all, own])).collect();
        // Whoever this is in the place of an address has a ticket.
        let tickets = given.iter_mut().zip(&names).filter(|(_, name)| name.starts_with("gss/krb5"));
        tickets.for_each(|(given, _)| given.needs = Needs::Ticket);
        defaults.clear();
        let export = Export {
            path,
            is_writable: given.iter().all(|given| given.is_writable),
            root: given.iter().map(|given| given.root).fold(Root::Itself, Root::and),
            is_pseudo_root: given.iter().any(|given| given.is_pseudo_root),
            is_elsewhere: given.iter().any(|given| given.is_elsewhere),
            unknown: given.iter().flat_map(|given| given.unknown.clone()).collect(),
            needs: of_all(given.iter().map(|given| given.needs)),
            clients: names.iter().zip(&given).map(|(name, given)| client(name, given.needs)).collect(),
        };
        match exports.iter_mut().find(|known| known.path == export.path) {
            None => exports.push(export),
            Some(known) => {
                known.is_writable &= export.is_writable;
                known.is_pseudo_root |= export.is_pseudo_root;
                known.is_elsewhere |= export.is_elsewhere;
                known.needs = of_all([known.needs, export.needs].into_iter());
                known.clients.extend(export.clients);
                known.unknown.extend(export.unknown);
                known.root = known.root.and(export.root);
            }
        }
    }
    exports
}

/// What all need: nothing, where one of them needs nothing.
fn of_all(mut needs: impl Iterator<Item = Needs>) -> Needs {
    let first = needs.next().unwrap_or(Needs::Nothing);
    needs.fold(first, |all, one| if one == Needs::Nothing { one } else { all })
}

/// A client as the option has it; with a `!` before one who needs something.
fn client(name: &str, needs: Needs) -> String {
    format!("{}{name}", if needs == Needs::Nothing { "" } else { "!" })
}

impl Export {
    /// Whom it is for, where that is not everybody: without those who need something where nobody else is let in.
    pub(super) fn limited_to(&self) -> Option<String> {
        let is_ticket = |client: &&str| client.trim_start_matches('!').starts_with("gss/krb5");
        let mut clients: Vec<&str> =
            self.clients.iter().map(String::as_str).filter(|client| !is_ticket(client)).collect();
        if self.needs != Needs::Nothing {
            clients.iter_mut().for_each(|client| *client = client.trim_start_matches('!'));
        }
        clients.sort_unstable();
        clients.dedup();
        (clients.iter().any(|client| client.starts_with('!')) || !clients.contains(&"*")).then(|| clients.join(" "))
    }
}

/// The path at the beginning of a line, in quotes or with `\040` for a blank, and the rest.
fn path(line: &str) -> Option<(String, &str)> {
    let (path, rest) = match line.strip_prefix('"') {
        Some(line) => line.split_once('"')?,
        None => line.split_once(char::is_whitespace).unwrap_or((line, "")),
    };
    let mut parts = path.split('\\');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let char = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        plain.push(char.map_or('\\', char::from));
        plain.push_str(if char.is_some() { &part[3..] } else { part });
    }
    let is_plain =
        plain.starts_with('/') && !plain.split('/').any(|name| name == "..") && !plain.contains(char::is_control);
    let plain = if plain == "/" { plain } else { plain.trim_end_matches('/').to_owned() };
    is_plain.then_some((plain, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_is_read_with_what_holds_for_all_it_is_given_to() {
        let text = "# /old *(rw)\n/srv/data 192.0.2.0/24(rw,no_root_squash) \\\n  192.0.3.1(rw,no_root_squash)\n\
            \"/srv/two words\" *(ro) # why\n/srv/three\\040words -rw,sync a b(ro)\n/srv/bare/\n../up *(rw)\n/a/../b *(rw)\n/srv/anon *(rw,anonuid=5)\n";
        let shown: Vec<(String, bool, Root)> =
            exports(text).into_iter().map(|export| (export.path, export.is_writable, export.root)).collect();
        let expected = [
            ("/srv/data", true, Root::Itself),
            ("/srv/two words", false, Root::Nobody),
            ("/srv/three words", false, Root::Nobody),
            ("/srv/bare", false, Root::Nobody),
            ("/srv/anon", true, Root::Another),
        ];
        assert_eq!(shown, expected.map(|(path, rw, squashed)| (path.to_owned(), rw, squashed)));
    }

    #[test]
    fn whom_an_export_is_for_and_how_is_known() {
        let text = "/srv/root *(ro,fsid=0)\n/srv/root/home 192.0.2.0/24(rw) @group(rw)\n/srv/k -sec=krb5p:krb5i *(rw)\n/srv/both (ro,sec=krb5:sys)\n";
        let all = exports(text);
        let shown: Vec<(String, bool, bool)> = all
            .iter()
            .map(|export| {
                let clients = export.limited_to().unwrap_or_else(|| "*".into());
                (clients, export.is_pseudo_root, export.needs == Needs::Nothing)
            })
            .collect();
        let expected =
            [("*", true, true), ("192.0.2.0/24 @group", false, true), ("*", false, false), ("*", false, true)];
        assert_eq!(shown, expected.map(|(clients, root, plain)| (clients.to_owned(), root, plain)));
    }

    #[test]
    fn what_an_export_says_of_one_way_of_proving_who_one_is_holds_for_that_alone() {
        let shown = |text: &str| {
            let all = exports(text);
            (all[0].is_writable, all[0].root, all[0].needs == Needs::Nothing)
        };
        assert_eq!(shown("/a *(sec=krb5p,rw,sec=sys,ro)"), (false, Root::Nobody, true));
        assert_eq!(shown("/a *(rw,no_root_squash,sec=sys:krb5)"), (true, Root::Itself, true));
        // exportfs itself takes what is said of one client for nothing here.
        assert_eq!(shown("/a -sec=sys *(rw,no_root_squash)"), (false, Root::Nobody, true));
        assert_eq!(shown("/a *(rw,no_root_squash,all_squash)").1, Root::Nobody);
        assert_eq!(shown("/a gss/krb5i(rw)"), (true, Root::Nobody, false));
        assert_eq!(shown("/a -rw *(no_root_squash)"), (true, Root::Itself, true));
        assert_eq!(shown("/a *(rw,all_squash,anonuid=65534)").1, Root::Nobody, "which is nobody");
    }

    #[test]
    fn who_needs_what_not_everybody_has_is_none_of_those_it_is_for() {
        let shown = |text: &str| {
            let export = exports(text).remove(0);
            (export.limited_to().unwrap_or_else(|| "*".into()), export.needs, export.is_elsewhere)
        };
        let of = |clients: &str, needs| (clients.to_owned(), needs, false);
        assert_eq!(shown("/a *(ro,sec=krb5) 192.0.2.9(rw)"), of("!* 192.0.2.9", Needs::Nothing));
        assert_eq!(shown("/a gss/krb5(rw) *(ro)"), of("*", Needs::Nothing));
        assert_eq!(shown("/a *(rw) 192.0.2.9(rw,xprtsec=tls:mtls)"), of("!192.0.2.9 *", Needs::Nothing));
        assert_eq!(shown("/a *(rw,xprtsec=mtls)"), of("*", Needs::Tls));
        assert_eq!(shown("/a a.example(sec=krb5p)"), of("a.example", Needs::Ticket));
        assert_eq!(shown("/a *(rw,xprtsec=none:tls)"), of("*", Needs::Nothing));
        assert!(shown("/a *(rw,refer=/b@192.0.2.1)").2);
    }

    #[test]
    fn an_option_that_nobody_knows_is_told() {
        let unknown = |text: &str| exports(text).remove(0).unknown;
        assert_eq!(
            unknown("/a -rw,trust=maybe *(sync,no_subtree_check) b(rw,roo)"),
            ["trust=maybe", "trust=maybe", "roo"]
        );
        let all = "/a *(rw,no_root_squash,all_squash,anonuid=5,anongid=5,fsid=0,insecure,async,wdelay,crossmnt,mp=/a,sec=sys,replicas=/b@c)";
        assert!(unknown(all).is_empty());
    }

    #[test]
    fn anything_at_all_is_read_without_harm() {
        for text in ["\\", "/a\\", "/a\\9", "\"", "/a (", "/a -", "/a\\377 *(rw)", "/ä\\04ö"] {
            assert!(exports(text).len() <= 1, "{text}");
        }
    }
}

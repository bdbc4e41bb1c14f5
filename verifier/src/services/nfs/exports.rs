//! `/etc/exports`: a directory a line, and to whom it is given in which manner.

/// One exported directory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Export {
    pub(super) path: String,
    /// Whether everybody it is given to may write.
    pub(super) is_writable: bool,
    /// Who a client's root is here.
    pub(super) root: Root,
    /// Whom it is given to: addresses, networks, names, `*`.
    pub(super) clients: Vec<String>,
    /// Whether clients of NFS 4 see it as `/`.
    pub(super) is_pseudo_root: bool,
    /// Whether it is given without a ticket of Kerberos.
    pub(super) is_plain: bool,
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

/// Reads lines such as `/srv/data 192.0.2.0/24(rw,no_root_squash) *(ro)`.
pub(super) fn exports(text: &str) -> Vec<Export> {
    let text = text.replace("\\\n", " ");
    let (mut exports, mut defaults) = (Vec::<Export>::new(), String::new());
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        let Some((path, clients)) = path(line) else { continue };
        let (mut options, mut names): (Vec<String>, Vec<String>) = (vec![], vec![]);
        for client in clients.split_whitespace() {
            match (client.strip_prefix('-'), client.split_once('(')) {
                (Some(all), _) => defaults = all.to_owned(),
                (_, Some((name, own))) => {
                    names.push(name.to_owned());
                    options.push(format!("{defaults},{}", own.trim_end_matches(')')));
                }
                _ => {
                    names.push(client.to_owned());
                    options.push(defaults.clone());
                }
            }
        }
        if options.is_empty() {
            names.push("*".to_owned());
            options.push(defaults.clone());
        }
        // Options without a name are for everybody.
        names.iter_mut().filter(|name| name.is_empty()).for_each(|name| "*".clone_into(name));
        let says = |options: &str, wanted: &[&str]| options.split(',').any(|option| wanted.contains(&option));
        let kerberos = |options: &str| {
            let kinds = options.split(',').filter_map(|option| option.strip_prefix("sec=")).next_back();
            kinds.is_some_and(|kinds| kinds.split(':').all(|kind| kind.starts_with("krb5")))
        };
        defaults.clear();
        let last = |options: &str, these: [&'static str; 2]| {
            options.rsplit(',').find_map(|is| these.into_iter().find(|option| *option == is))
        };
        let export = Export {
            path,
            is_writable: options.iter().all(|options| last(options, ["rw", "ro"]) == Some("rw")),
            root: options.iter().fold(Root::Itself, |root, options| {
                match last(options, ["root_squash", "no_root_squash"]) {
                    _ if options.contains("anonuid=") => Root::Another,
                    Some("no_root_squash") => root,
                    _ if root == Root::Another => root,
                    _ => Root::Nobody,
                }
            }),
            clients: names,
            is_pseudo_root: options.iter().any(|options| says(options, &["fsid=0", "fsid=root"])),
            is_plain: !options.iter().all(|options| kerberos(options)),
        };
        match exports.iter_mut().find(|known| known.path == export.path) {
            None => exports.push(export),
            Some(known) => {
                known.is_writable &= export.is_writable;
                known.is_pseudo_root |= export.is_pseudo_root;
                known.is_plain |= export.is_plain;
                known.clients.extend(export.clients);
                known.root = if export.root > known.root { export.root } else { known.root };
            }
        }
    }
    exports
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
        let shown: Vec<(String, bool, bool)> =
            all.iter().map(|export| (export.clients.join(" "), export.is_pseudo_root, export.is_plain)).collect();
        let expected =
            [("*", true, true), ("192.0.2.0/24 @group", false, true), ("*", false, false), ("*", false, true)];
        assert_eq!(shown, expected.map(|(clients, root, plain)| (clients.to_owned(), root, plain)));
    }

    #[test]
    fn anything_at_all_is_read_without_harm() {
        for text in ["\\", "/a\\", "/a\\9", "\"", "/a (", "/a -", "/a\\377 *(rw)", "/ä\\04ö"] {
            assert!(exports(text).len() <= 1, "{text}");
        }
    }
}

//! nginx 1.25.1 and later say `http2 on;` for a server, and `listen … quic`; earlier ones know `listen … http2` alone. `ssl on;` for a server went
//! with that version; `listen … ssl` is the same, and all versions know it.

use crate::{Error, part::Pattern, rule::each_text, tree::Tree};
use atlas_model::TreePath;
use std::{collections::BTreeSet, ops::Range};

const FILES: [&str; 5] = [
    "/etc/nginx/nginx.conf",
    "/etc/nginx/conf.d/*",
    "/etc/nginx/sites-available/*",
    "/etc/nginx/sites-enabled/*",
    "/etc/nginx/snippets/*",
];

/// What is about QUIC alone besides `http3`.
const OF_QUIC: [&str; 8] = [
    "http3_hq",
    "http3_max_concurrent_streams",
    "http3_stream_buffer_size",
    "quic_active_connection_id_limit",
    "quic_bpf",
    "quic_gso",
    "quic_host_key",
    "quic_retry",
];

fn files() -> Result<Vec<Pattern>, Error> {
    FILES.iter().map(|file| Pattern::parse(file).map_err(Error::Damaged)).collect()
}

pub(super) fn to_newer(tree: &mut Tree) -> Result<(), Error> {
    each_text(tree, &files()?, newer)
}

pub(super) fn to_older(tree: &mut Tree) -> Result<(), Error> {
    let mut texts = Vec::new();
    for path in tree.files(&files()?) {
        texts.extend(tree.configuration(&path)?.map(|text| (path, text)));
    }
    let around = Around::of(&texts);
    for (path, text) in texts {
        let changed = older_within(&text, &around);
        if changed != text {
            tree.put(&path, changed.into_bytes(), None);
        }
    }
    Ok(())
}

/// What other files say of HTTP/2 for the servers of one.
#[derive(Debug, Default)]
struct Around {
    /// `http2 on;` for all servers.
    everywhere: bool,
    /// The files with `http2 on;` outside of all blocks: it is for whoever includes them.
    included: BTreeSet<TreePath>,
}

impl Around {
    fn of(texts: &[(TreePath, String)]) -> Around {
        let files: Vec<(&TreePath, Vec<Directive>)> =
            texts.iter().map(|(path, text)| (path, directives(text))).collect();
        let mut around = Around::default();
        // A file may get it from one that it includes.
        loop {
            let says = |one: &Directive| one.block == 0 && (one.words == SWITCH || around.includes(one));
            let found = files.iter().filter(|(_, all)| all.iter().any(says)).map(|(path, _)| (*path).clone());
            let found: BTreeSet<TreePath> = found.collect();
            if found == around.included {
                break;
            }
            around.included = found;
        }
        let of_http = |one: &Directive| one.block > 0 && !one.in_server;
        let mut all = files.iter().flat_map(|(_, all)| all);
        around.everywhere = all.any(|one| of_http(one) && (one.words == SWITCH || around.includes(one)));
        around
    }

    /// Whether it includes one of those files.
    fn includes(&self, one: &Directive) -> bool {
        let ["include", path] = one.words.as_slice() else { return false };
        let path = path.trim_matches(['"', '\'']);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/etc/nginx/{path}") };
        Pattern::parse(&path).is_ok_and(|pattern| self.included.iter().any(|file| pattern.fits(file)))
    }
}

const SWITCH: [&str; 2] = ["http2", "on"];

/// One `word word …;`.
#[derive(Debug, PartialEq)]
struct Directive<'t> {
    words: Vec<&'t str>,
    /// With its semicolon.
    at: Range<usize>,
    /// The number of the block that it stands in, and whether that is a server's.
    block: usize,
    in_server: bool,
}

/// The file as a version before 1.25 reads it: HTTP/2 where connections are encrypted, at `listen`; no QUIC.
pub(super) fn older(text: &str) -> String {
    older_within(text, &Around::default())
}

fn older_within(text: &str, around: &Around) -> String {
    let goes = |one: &Directive| {
        let is_quic = one.words.first() == Some(&"listen") && one.words.contains(&"quic");
        is_quic || one.words.first().is_some_and(|name| matches!(*name, "http2" | "http3") || OF_QUIC.contains(name))
    };
    let directives = directives(text);
    let is_switch = |one: &Directive| one.words == SWITCH || around.includes(one);
    let off = blocks(&directives, |one| one.words == ["http2", "off"]);
    let switched = if around.everywhere {
        blocks(&directives, |one| one.in_server).difference(&off).copied().collect()
    } else {
        blocks(&directives, |one| (one.in_server || one.block == 0) && is_switch(one))
    };
    // Without encryption such a port would speak HTTP/2 alone.
    rewrite(text, &directives, &switched, "http2", |listen| listen.words.contains(&"ssl"), goes)
}

/// The file as version 1.25.1 and later read it.
pub(super) fn newer(text: &str) -> String {
    let directives = directives(text);
    let switched = blocks(&directives, |one| one.in_server && one.words == ["ssl", "on"]);
    let goes = |one: &Directive| one.words == ["ssl", "on"] || one.words == ["ssl", "off"];
    rewrite(text, &directives, &switched, "ssl", |_| true, goes)
}

/// The blocks with such a directive.
fn blocks(directives: &[Directive], wanted: impl Fn(&Directive) -> bool) -> BTreeSet<usize> {
    directives.iter().filter(|one| wanted(one)).map(|one| one.block).collect()
}

/// Takes away the directives that go, and says `word` at those ports in the `switched` blocks that are `meant`.
fn rewrite(
    text: &str,
    directives: &[Directive],
    switched: &BTreeSet<usize>,
    word: &str,
    meant: impl Fn(&Directive) -> bool,
    goes: impl Fn(&Directive) -> bool,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for one in directives {
        let is_listen = one.words.first() == Some(&"listen");
        if goes(one) {
            let line = whole_line(text, &one.at);
            out.push_str(&text[copied..line.start.max(copied)]);
            copied = line.end;
        } else if is_listen && meant(one) && !one.words.contains(&word) && switched.contains(&one.block) {
            out.push_str(&text[copied..one.at.end - 1]);
            out.push_str(&format!(" {word}"));
            copied = one.at.end - 1;
        }
    }
    out + &text[copied..]
}

/// The line of a directive, if there is nothing else on it; the directive itself otherwise.
fn whole_line(text: &str, at: &Range<usize>) -> Range<usize> {
    let start = text[..at.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[at.end..].find('\n').map_or(text.len(), |newline| at.end + newline + 1);
    let alone = text[start..at.start].trim().is_empty() && text[at.end..end].trim().is_empty();
    if alone { start..end } else { at.clone() }
}

fn directives(text: &str) -> Vec<Directive<'_>> {
    let mut found = Vec::new();
    // Blocks that are open: their number, and whether it is a server's.
    let mut open: Vec<(usize, bool)> = vec![(0, false)];
    let mut blocks = 0;
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '#' => while chars.next_if(|(_, c)| *c != '\n').is_some() {},
            '{' => {
                let is_server = words.len() == 1 && &text[words[0].clone()] == "server";
                blocks += 1;
                open.push((blocks, is_server));
                words.clear();
            }
            '}' => {
                if open.len() > 1 {
                    open.pop();
                }
                words.clear();
            }
            ';' => {
                if let (Some(first), Some((block, in_server))) = (words.first(), open.last()) {
                    let texts = words.iter().map(|word| &text[word.clone()]).collect();
                    found.push(Directive {
                        words: texts,
                        at: first.start..at + 1,
                        block: *block,
                        in_server: *in_server,
                    });
                }
                words.clear();
            }
            c if c.is_whitespace() => {}
            quote @ ('"' | '\'') => {
                let mut end = at + 1;
                let mut escaped = false;
                for (here, c) in chars.by_ref() {
                    end = here + c.len_utf8();
                    if c == quote && !escaped {
                        break;
                    }
                    escaped = c == '\\' && !escaped;
                }
                words.push(at..end);
            }
            _ => {
                let mut end = at + c.len_utf8();
                // '${name}' is part of a word.
                let mut last = c;
                let ends = |c: char, last: char| c.is_whitespace() || c == ';' || (c == '{' && last != '$');
                let mut braces = 0_usize;
                while let Some((here, c)) = chars.next_if(|(_, c)| !(ends(*c, last) || (*c == '}' && braces == 0))) {
                    end = here + c.len_utf8();
                    braces = match c {
                        '{' => braces + 1,
                        '}' => braces - 1,
                        _ => braces,
                    };
                    last = c;
                }
                words.push(at..end);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http2_goes_to_the_encrypted_ports_of_its_server_alone() {
        let text = "http {\n  server {\n    listen 443 ssl; # a\n    listen [::]:443 ssl;\n    listen 80;\n    http2 on;\n\
                    location / { return 200 \"http2 on;}\"; }\n  }\n  server { listen 443 ssl; }\n}\n";
        let expected = "http {\n  server {\n    listen 443 ssl http2; # a\n    listen [::]:443 ssl http2;\n    listen 80;\n\
                    location / { return 200 \"http2 on;}\"; }\n  }\n  server { listen 443 ssl; }\n}\n";
        assert_eq!(older(text), expected);
    }

    #[test]
    fn quic_goes_and_what_older_versions_know_stays() {
        let text = "server {\n listen 443 quic reuseport;\n listen 443 ssl http2;\n http3 on;\n set $a ${b}c;\n # http2 on;\n}\n";
        assert_eq!(older(text), "server {\n listen 443 ssl http2;\n set $a ${b}c;\n # http2 on;\n}\n");
        assert_eq!(older("a { b; } http2 on; c;"), "a { b; }  c;");
    }

    #[test]
    fn what_is_about_quic_alone_goes_with_it() {
        let text = "http {\n quic_bpf on;\n server {\n  quic_retry on;\n  http3_stream_buffer_size 64k;\n  listen 443 ssl;\n }\n}\n";
        assert_eq!(older(text), "http {\n server {\n  listen 443 ssl;\n }\n}\n");
    }

    /// These files of `/etc/nginx` as versions before 1.25 read them.
    fn all_older(files: &[(&str, &str)]) -> Vec<String> {
        let path = |name: &str| TreePath::parse(&format!("/etc/nginx/{name}")).unwrap();
        let texts: Vec<_> = files.iter().map(|(name, text)| (path(name), (*text).to_owned())).collect();
        let around = Around::of(&texts);
        texts.iter().map(|(_, text)| older_within(text, &around)).collect()
    }

    #[test]
    fn http2_for_all_servers_goes_to_each_that_does_not_say_otherwise() {
        let site = "server {\n listen 443 ssl;\n}\nserver {\n listen 444 ssl;\n http2 off;\n}\n";
        let expected = "server {\n listen 443 ssl http2;\n}\nserver {\n listen 444 ssl;\n}\n";
        let main = "http {\n http2 on;\n include sites-enabled/*;\n}\n";
        let got = all_older(&[("nginx.conf", main), ("sites-enabled/a", site)]);
        assert_eq!(got, ["http {\n include sites-enabled/*;\n}\n", expected]);
        let main = "http {\n include /etc/nginx/conf.d/*.conf;\n}\n";
        let got = all_older(&[("nginx.conf", main), ("conf.d/a.conf", "http2 on;\n"), ("sites-enabled/a", site)]);
        assert_eq!(got, [main, "", expected]);
    }

    #[test]
    fn http2_in_a_snippet_goes_to_the_servers_that_include_it() {
        let site = "server {\n listen 443 ssl;\n include snippets/tls.conf;\n}\nserver {\n listen 444 ssl;\n}\n";
        let expected =
            "server {\n listen 443 ssl http2;\n include snippets/tls.conf;\n}\nserver {\n listen 444 ssl;\n}\n";
        let files = [
            ("sites-enabled/a", site),
            ("snippets/tls.conf", "include snippets/h2.conf;\n"),
            ("snippets/h2.conf", "http2 on;\nlisten [::]:443 ssl;\n"),
        ];
        assert_eq!(all_older(&files), [expected, "include snippets/h2.conf;\n", "listen [::]:443 ssl http2;\n"]);
    }

    #[test]
    fn a_server_that_was_encrypted_as_a_whole_is_so_at_each_port() {
        let text = "server {\n ssl on;\n listen 443;\n listen 444 ssl;\n}\nserver {\n ssl off;\n listen 80;\n}\n";
        let expected = "server {\n listen 443 ssl;\n listen 444 ssl;\n}\nserver {\n listen 80;\n}\n";
        assert_eq!(newer(text), expected);
    }

    #[test]
    fn nothing_makes_it_lose_its_place() {
        for text in ["}", "{{{", "'", "\"\\", "http2 on", "server { http2 on; listen 1 ssl", "${", "a${};", "#"] {
            let once = older(text);
            assert_eq!(older(&once), once, "{text:?}");
        }
    }
}

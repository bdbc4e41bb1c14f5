//! nginx 1.25.1 and later say `http2 on;` for a server, and `listen … quic`; earlier ones know `listen … http2` alone. `ssl on;` for a server went
//! with that version; `listen … ssl` is the same, and all versions know it.

use crate::{Error, part::Pattern, rule::each_text, tree::Tree};
use std::ops::Range;

const FILES: [&str; 5] = [
    "/etc/nginx/nginx.conf",
    "/etc/nginx/conf.d/*",
    "/etc/nginx/sites-available/*",
    "/etc/nginx/sites-enabled/*",
    "/etc/nginx/snippets/*",
];

pub(super) fn each_file(tree: &mut Tree, change: impl Fn(&str) -> String) -> Result<(), Error> {
    let patterns = FILES.iter().map(|file| Pattern::parse(file).map_err(Error::Damaged));
    each_text(tree, &patterns.collect::<Result<Vec<_>, _>>()?, change)
}

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
    let goes = |one: &Directive| {
        let is_quic = one.words.first() == Some(&"listen") && one.words.contains(&"quic");
        is_quic || matches!(one.words.first(), Some(&("http2" | "http3")))
    };
    // Without encryption such a port would speak HTTP/2 alone.
    rewrite(text, &["http2", "on"], "http2", |listen| listen.words.contains(&"ssl"), goes)
}

/// The file as version 1.25.1 and later read it.
pub(super) fn newer(text: &str) -> String {
    rewrite(text, &["ssl", "on"], "ssl", |_| true, |one| one.words == ["ssl", "on"] || one.words == ["ssl", "off"])
}

/// Takes away the directives that go, and says `word` at those ports of servers with the directive `switch` that are `meant`.
fn rewrite(
    text: &str,
    switch: &[&str],
    word: &str,
    meant: impl Fn(&Directive) -> bool,
    goes: impl Fn(&Directive) -> bool,
) -> String {
    let directives = directives(text);
    let servers: Vec<usize> =
        directives.iter().filter(|one| one.in_server && one.words == switch).map(|one| one.block).collect();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for one in &directives {
        let is_listen = one.words.first() == Some(&"listen");
        if goes(one) {
            let line = whole_line(text, &one.at);
            out.push_str(&text[copied..line.start.max(copied)]);
            copied = line.end;
        } else if is_listen && meant(one) && !one.words.contains(&word) && servers.contains(&one.block) {
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

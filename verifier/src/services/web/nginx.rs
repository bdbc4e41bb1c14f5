//! The configuration of nginx: words, `;` and blocks.

use super::{Content, Site, Sites};
use crate::service::Tree;

/// The most directives, files included in all.
const MAX_DIRECTIVES: usize = 50_000;
/// The most files.
const MAX_FILES: usize = 1000;
/// How deep blocks and files may lie in each other.
const MAX_DEPTH: usize = 16;

/// `name args;` or `name args { block }`.
#[derive(Debug, Default, PartialEq)]
struct Directive {
    name: String,
    args: Vec<String>,
    block: Vec<Directive>,
}

/// What is served by the configuration in `dir`; `None` where there is none.
pub(super) fn sites(tree: &Tree, dir: &str) -> anyhow::Result<Option<Sites>> {
    let main = format!("{dir}/nginx.conf");
    let Some(text) = tree.read(&main)? else { return Ok(None) };
    let mut reader = Reader { tree, dir, files: 0, directives: 0 };
    let directives = reader.block(&mut words(&text).into_iter(), 0)?;
    let mut sites = Sites::default();
    for http in directives.iter().filter(|directive| directive.name == "http") {
        let root = argument(&http.block, "root");
        sites.files.extend(files(&http.block));
        for server in http.block.iter().filter(|directive| directive.name == "server") {
            sites.files.extend(files(&server.block));
            sites.sites.extend(site(&server.block, root));
        }
    }
    Ok(Some(sites))
}

/// The sites of one `server` block: one for each port that it listens on.
fn site(server: &[Directive], root: Option<&str>) -> Vec<Site> {
    let name = server.iter().filter(|directive| directive.name == "server_name").flat_map(|names| &names.args);
    let name = name.into_iter().find(|name| !name.contains(['*', '~', '_', '"', '$']) && name.contains('.'));
    let root = argument(server, "root").or(root);
    let locations: Vec<&Directive> = server.iter().filter(|directive| directive.name == "location").collect();
    let whole = locations.iter().find(|location| location.args == ["/"]).map_or(&[][..], |location| &location.block);
    let has = |name: &str| server.iter().chain(whole).any(|directive| directive.name == name);
    let is_passed_on = ["proxy_pass", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass"].into_iter().any(has);
    let restricted: Vec<String> = locations
        .iter()
        .filter(|location| is_restricted(&location.block))
        .filter_map(|location| url(location))
        .collect();
    let content = match root {
        _ if has("return") || has("rewrite") || is_passed_on => Content::Any,
        _ if is_restricted(server) || restricted.iter().any(|path| path == "/") => Content::Any,
        root => argument(whole, "root")
            .or(root)
            .filter(|root| super::is_plain(root))
            .map_or(Content::Any, |root| Content::Files(root.into())),
    };
    let mut listens: Vec<&[String]> =
        server.iter().filter(|directive| directive.name == "listen").map(|listen| &listen.args[..]).collect();
    let usual = ["80".to_owned()];
    if listens.is_empty() {
        listens.push(&usual);
    }
    let sites = listens.into_iter().filter_map(|listen| {
        let (address, port) = address(listen.first()?)?;
        let ssl = server.iter().any(|directive| directive.name == "ssl" && directive.args == ["on"]);
        Some(Site {
            port,
            address,
            tls: ssl || listen.iter().any(|word| word == "ssl"),
            name: name.cloned(),
            content: content.clone(),
            restricted: restricted.clone(),
        })
    });
    sites.collect()
}

/// `80`, `*:80`, `192.0.2.1:80`, `[::]:80`, `192.0.2.1`; not a Unix socket.
fn address(listen: &str) -> Option<(String, u16)> {
    if let Ok(port) = listen.parse() {
        return Some((String::new(), port));
    }
    match listen.rsplit_once(':') {
        _ if listen.starts_with("unix:") => None,
        Some((address, port)) if !port.ends_with(']') => Some((address.into(), port.parse().ok()?)),
        _ => Some((listen.into(), 80)),
    }
}

/// Whether nobody gets in who has no password. Who is let in by address cannot be told from here.
fn is_restricted(block: &[Directive]) -> bool {
    let has = |name: &str, arg: Option<&str>| {
        block.iter().any(|directive| directive.name == name && arg.is_none_or(|arg| directive.args == [arg]))
    };
    let wants_password = has("auth_basic", None) && !has("auth_basic", Some("off"));
    (wants_password && !has("satisfy", Some("any"))) || (has("deny", Some("all")) && !has("allow", None))
}

/// A path that lies in a location, where one can be told.
fn url(location: &Directive) -> Option<String> {
    match &location.args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path] | ["=" | "^~", path] if path.starts_with('/') => Some((*path).to_owned()),
        // What Debian's own example has.
        ["~", r"/\.ht"] => Some("/.htaccess".into()),
        _ => None,
    }
}

fn argument<'d>(block: &'d [Directive], name: &str) -> Option<&'d str> {
    block.iter().find(|directive| directive.name == name)?.args.first().map(String::as_str)
}

/// Files that a block names and cannot do without.
fn files(block: &[Directive]) -> Vec<String> {
    let names =
        ["ssl_certificate", "ssl_certificate_key", "auth_basic_user_file", "ssl_dhparam", "ssl_client_certificate"];
    let inner =
        block.iter().filter(|directive| directive.name == "location").flat_map(|location| files(&location.block));
    let named = block.iter().filter(|directive| names.contains(&directive.name.as_str()));
    named.filter_map(|directive| directive.args.first().cloned()).chain(inner).collect()
}

struct Reader<'t> {
    tree: &'t Tree,
    dir: &'t str,
    files: usize,
    directives: usize,
}

impl Reader<'_> {
    fn block(&mut self, words: &mut dyn Iterator<Item = Word>, depth: usize) -> anyhow::Result<Vec<Directive>> {
        anyhow::ensure!(depth <= MAX_DEPTH, "nginx's blocks and files lie more than {MAX_DEPTH} deep in each other");
        let (mut block, mut directive) = (vec![], Directive::default());
        while let Some(word) = words.next() {
            match word {
                Word::Text(text) if directive.name.is_empty() => directive.name = text,
                Word::Text(text) => directive.args.push(text),
                Word::Close => break,
                Word::Open | Word::End => {
                    if word == Word::Open {
                        directive.block = self.block(words, depth + 1)?;
                    }
                    self.directives += 1;
                    anyhow::ensure!(
                        self.directives <= MAX_DIRECTIVES,
                        "nginx has more than {MAX_DIRECTIVES} directives"
                    );
                    let directive = std::mem::take(&mut directive);
                    match directive.args.first() {
                        Some(pattern) if directive.name == "include" => block.extend(self.include(pattern, depth)?),
                        _ => block.push(directive),
                    }
                }
            }
        }
        Ok(block)
    }

    fn include(&mut self, pattern: &str, depth: usize) -> anyhow::Result<Vec<Directive>> {
        let pattern = if pattern.starts_with('/') { pattern.into() } else { format!("{}/{pattern}", self.dir) };
        let mut block = vec![];
        for path in self.tree.matching(&pattern) {
            self.files += 1;
            anyhow::ensure!(self.files <= MAX_FILES, "nginx includes more than {MAX_FILES} files");
            let text = self.tree.read(&path)?.unwrap_or_default();
            block.extend(self.block(&mut words(&text).into_iter(), depth + 1)?);
        }
        Ok(block)
    }
}

#[derive(Debug, PartialEq)]
enum Word {
    Text(String),
    Open,
    Close,
    End,
}

fn words(text: &str) -> Vec<Word> {
    let (mut words, mut chars) = (vec![], text.chars().peekable());
    while let Some(char) = chars.next() {
        match char {
            '{' => words.push(Word::Open),
            '}' => words.push(Word::Close),
            ';' => words.push(Word::End),
            '#' => while chars.next().is_some_and(|char| char != '\n') {},
            '"' | '\'' => {
                let mut quoted = String::new();
                while let Some(next) = chars.next().filter(|next| *next != char) {
                    quoted.push(if next == '\\' { chars.next().unwrap_or(next) } else { next });
                }
                words.push(Word::Text(quoted));
            }
            space if space.is_whitespace() => (),
            first => {
                let mut word = String::from(first);
                while let Some(next) = chars.next_if(|next| !next.is_whitespace() && !matches!(next, ';' | '{')) {
                    word.push(next);
                }
                words.push(Word::Text(word));
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    fn read(files: &[(&str, &str)]) -> anyhow::Result<Option<Sites>> {
        sites(&Server::with(files).tree(), "/etc/nginx")
    }

    #[test]
    fn servers_are_found_in_all_files_with_what_they_serve_and_what_they_keep_closed() {
        let sites = read(&[
            (
                "etc/nginx/nginx.conf",
                "http { root /srv/all; # not; {this}\n include sites-enabled/*; include /etc/nginx/conf.d/*.conf; }",
            ),
            (
                "etc/nginx/sites-enabled/shop",
                "server { listen 80; listen [::]:443 ssl http2; server_name _ shop.example;\n\
                ssl_certificate /etc/ssl/shop.pem; root \"/srv/the shop\";\n\
                location /admin { auth_basic \"Staff only\"; auth_basic_user_file /etc/web.users; }\n\
                location = /off { deny all; } location /lan { allow 10.0.0.0/8; deny all; } location ~ /\\.ht { deny all; } }",
            ),
            ("etc/nginx/conf.d/app.conf", "server { listen 127.0.0.1:8080; location / { proxy_pass http://app; } }"),
            ("etc/nginx/conf.d/old.conf~", "server { listen 99; }"),
        ]);
        let sites = sites.unwrap().unwrap();
        let [plain, tls, app] = &sites.sites[..] else { panic!("{sites:?}") };
        assert_eq!((plain.port, plain.tls, tls.port, tls.tls), (80, false, 443, true));
        assert_eq!(plain.name.as_deref(), Some("shop.example"));
        assert_eq!(plain.content, Content::Files("/srv/the shop".into()));
        assert_eq!(tls.restricted, ["/admin", "/off", "/.htaccess"]);
        assert_eq!((app.address.as_str(), &app.content), ("127.0.0.1", &Content::Any));
        assert_eq!(sites.files, ["/etc/ssl/shop.pem", "/etc/web.users"]);
    }

    #[test]
    fn a_file_that_includes_itself_and_blocks_without_end_are_told() {
        let error = read(&[("etc/nginx/nginx.conf", "include nginx.conf;")]).unwrap_err();
        assert!(error.to_string().contains("16 deep"), "{error}");
        let error = read(&[("etc/nginx/nginx.conf", &"a {".repeat(100_000))]).unwrap_err();
        assert!(error.to_string().contains("16 deep"), "{error}");
        assert!(read(&[("etc/passwd", "")]).unwrap().is_none());
    }
}

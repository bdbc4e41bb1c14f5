//! How nginx reads its files: words, `;` and blocks, and what is included.

use crate::service::Tree;
use std::collections::BTreeMap;

/// The most directives, files included in all.
const MAX_DIRECTIVES: usize = 50_000;
/// The most files.
const MAX_FILES: usize = 1000;
/// How deep blocks and files may lie in each other.
const MAX_DEPTH: usize = 16;
/// What nginx writes before each file of `nginx -T`.
const HEADING: &str = "# configuration file ";

/// `name args;` or `name args { block }`.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) args: Vec<String>,
    pub(super) block: Vec<Directive>,
}

/// All that is configured.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) directives: Vec<Directive>,
    /// The files that were included.
    pub(super) files: Vec<String>,
}

/// Reads a file with all that it includes. `told` is what `nginx -T` printed: then no file but those in it is there.
pub(super) fn read(tree: &Tree, dir: &str, main: &str, told: Option<&str>) -> anyhow::Result<Option<Config>> {
    let source = match told.map(dumped).filter(|files| files.contains_key(main)) {
        Some(files) => Source::Told(files),
        None => Source::Tree(tree),
    };
    let Some(text) = source.read(main)? else { return Ok(None) };
    let mut reader = Reader { source, dir, files: vec![], directives: 0 };
    let directives = reader.block(&mut words(&text).into_iter(), 0)?;
    Ok(Some(Config { directives, files: reader.files }))
}

/// The files in what `nginx -T` prints.
fn dumped(told: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut at: Option<String> = None;
    for line in told.split_inclusive('\n') {
        let heading = line.strip_prefix(HEADING).and_then(|line| line.trim_end().strip_suffix(':'));
        match (heading.filter(|path| path.starts_with('/')), &at) {
            (Some(path), _) => {
                at = Some(path.to_owned());
                files.insert(path.to_owned(), String::new());
            }
            (None, Some(path)) => {
                if let Some(text) = files.get_mut(path) {
                    text.push_str(line);
                }
            }
            (None, None) => (),
        }
    }
    files
}

/// Where files come from.
enum Source<'t> {
    Tree(&'t Tree),
    Told(BTreeMap<String, String>),
}

impl Source<'_> {
    fn read(&self, path: &str) -> anyhow::Result<Option<String>> {
        match self {
            Source::Tree(tree) => tree.read(path),
            Source::Told(files) => Ok(files.get(path).cloned()),
        }
    }

    fn matching(&self, pattern: &str) -> Vec<String> {
        match self {
            Source::Tree(tree) => tree.matching(pattern),
            Source::Told(files) => {
                files.keys().filter(|path| crate::pattern::fits_path(pattern, path)).cloned().collect()
            }
        }
    }
}

struct Reader<'t> {
    source: Source<'t>,
    dir: &'t str,
    files: Vec<String>,
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
        for path in self.source.matching(&pattern) {
            anyhow::ensure!(self.files.len() < MAX_FILES, "nginx includes more than {MAX_FILES} files");
            let text = self.source.read(&path)?.unwrap_or_default();
            self.files.push(path);
            block.extend(self.block(&mut words(&text).into_iter(), depth + 1)?);
        }
        Ok(block)
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Word {
    Text(String),
    Open,
    Close,
    End,
}

pub(super) fn words(text: &str) -> Vec<Word> {
    let (mut words, mut chars) = (Vec::<Word>::new(), text.chars().peekable());
    let mut is_first = true;
    let mut is_foreign = false;
    while let Some(char) = chars.next() {
        let word = match char {
            '{' if is_foreign => {
                skip_block(&mut chars);
                words.push(Word::Open);
                Word::Close
            }
            '{' => Word::Open,
            '}' => Word::Close,
            ';' => Word::End,
            '#' => {
                while chars.next().is_some_and(|char| char != '\n') {}
                continue;
            }
            space if space.is_whitespace() => continue,
            '"' | '\'' => Word::Text(quoted(&mut chars, char)),
            first => Word::Text(plain(&mut chars, first)),
        };
        // Another language stands in such a block, whose braces and quotes are its own.
        match &word {
            Word::Text(name) if is_first => is_foreign = name.ends_with("_by_lua_block"),
            Word::Text(_) => {}
            _ => is_foreign = false,
        }
        is_first = !matches!(word, Word::Text(_));
        words.push(word);
    }
    words
}

type Chars<'t> = std::iter::Peekable<std::str::Chars<'t>>;

fn skip_block(chars: &mut Chars<'_>) {
    let mut depth = 1_usize;
    for char in chars.by_ref() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            return;
        }
    }
}

fn quoted(chars: &mut Chars<'_>, quote: char) -> String {
    let mut word = String::new();
    while let Some(next) = chars.next().filter(|next| *next != quote) {
        if next == '\\' { escaped(chars, &mut word) } else { word.push(next) }
    }
    word
}

/// A word without quotes. The brace of `${name}` belongs to it.
fn plain(chars: &mut Chars<'_>, first: char) -> String {
    let (mut word, mut next) = (String::new(), Some(first));
    while let Some(char) = next {
        if char == '\\' {
            escaped(chars, &mut word);
        } else {
            word.push(char);
        }
        next = chars.next_if(|next| {
            let is_of_variable = char == '$' && *next == '{';
            !next.is_whitespace() && *next != ';' && (*next != '{' || is_of_variable)
        });
    }
    word
}

/// What a backslash makes of the character behind it.
fn escaped(chars: &mut Chars<'_>, word: &mut String) {
    match chars.next() {
        Some(plain @ ('"' | '\'' | '\\')) => word.push(plain),
        Some('t') => word.push('\t'),
        Some('r') => word.push('\r'),
        Some('n') => word.push('\n'),
        Some(other) => word.extend(['\\', other]),
        None => word.push('\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(word: &str) -> Word {
        Word::Text(word.to_owned())
    }

    #[test]
    fn words_end_where_nginx_ends_them() {
        assert_eq!(words("a ${b}/c{d};"), [text("a"), text("${b}/c"), Word::Open, text("d}"), Word::End]);
        assert_eq!(
            words("log /x/${host}.log;#}{\nb 'a;\"{' \"\\\"\";"),
            [text("log"), text("/x/${host}.log"), Word::End, text("b"), text("a;\"{"), text("\""), Word::End]
        );
        assert_eq!(words("~ \\.php$ {}"), [text("~"), text("\\.php$"), Word::Open, Word::Close]);
        assert_eq!(words("a#b c\\ d;"), [text("a#b"), text("c\\ d"), Word::End]);
    }

    #[test]
    fn the_braces_of_another_language_are_its_own() {
        let lua = "content_by_lua_block { local t = { a = '}' } ngx.say(t) } }listen 80;";
        let words = words(lua);
        assert_eq!(words[..3], [text("content_by_lua_block"), Word::Open, Word::Close], "{words:?}");
    }

    #[test]
    fn what_nginx_prints_is_divided_into_its_files() {
        let told = "nginx: ok\n# configuration file /etc/nginx/nginx.conf:\nevents {}\n\n# configuration file /srv/a b:\nx y;\n# configuration file x\n";
        let files = dumped(told);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["/etc/nginx/nginx.conf", "/srv/a b"]);
        assert_eq!(files["/srv/a b"], "x y;\n# configuration file x\n");
    }
}

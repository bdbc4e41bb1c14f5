//! The text of Apache's configuration: a directive a line, and sections; what Apache does while it reads is done here as well.

use crate::{here, service::Tree};
use std::collections::BTreeMap;

/// The most lines, files included in all.
const MAX_LINES: usize = 200_000;
/// The most files.
const MAX_FILES: usize = 1000;
/// How deep files may lie in each other.
const MAX_DEPTH: usize = 16;
/// How deep sections may lie in each other.
const MAX_SECTIONS: usize = 32;
/// How long a word may become by what is put into it, in bytes.
const MAX_WORD: usize = 4096;
/// How long the lines of a macro may become, in bytes.
const MAX_MACRO: usize = 100_000;
/// Modules that are part of Debian's program and never loaded.
const BUILT_IN: [&str; 6] = ["core", "so", "http", "log_config", "unixd", "version"];

/// What the directives of modules that are not always loaded begin with.
const OF_MODULES: [(&str, &str); 8] = [
    ("ssl", "ssl"),
    ("rewrite", "rewrite"),
    ("proxy", "proxy"),
    ("header", "headers"),
    ("expires", "expires"),
    ("md", "md"),
    ("wsgi", "wsgi"),
    ("dav", "dav"),
];

/// The third word of a section that stands for an access file.
pub(super) const OVERRIDE: &str = "access-file";

/// A directive, and the sections that it stands in, outermost first: `["VirtualHost *:80", "Location /admin"]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Directive {
    pub(super) within: Vec<Vec<String>>,
    pub(super) words: Vec<String>,
}

impl Directive {
    pub(super) fn is(&self, name: &str) -> bool {
        self.words[0].eq_ignore_ascii_case(name)
    }

    pub(super) fn arg(&self, index: usize) -> &str {
        self.words.get(index + 1).map_or("", String::as_str)
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) all: Vec<Directive>,
    /// The files that it lies in.
    pub(super) files: Vec<String>,
    /// The modules that are loaded, where that is known.
    pub(super) modules: Vec<String>,
    /// What was defined.
    pub(super) defined: BTreeMap<String, String>,
}

/// The configuration whose first file is `main`.
pub(super) fn read(tree: &Tree, dir: &str, main: &str) -> anyhow::Result<Config> {
    let mut reader = Reader::new(tree, dir);
    reader.read(&tree.read(main)?.unwrap_or_default(), 0)?;
    Ok(Config { all: reader.all, files: reader.included, modules: reader.modules, defined: reader.defined })
}

/// The one that Apache prints, each line of it below the file and the line where it stands: `# In file: /etc/apache2/ports.conf`, `#   5:`.
pub(super) fn told(tree: &Tree, dir: &str, told: &str) -> anyhow::Result<Config> {
    let files = told.lines().filter_map(|line| line.trim_start().strip_prefix("# In file: ")?.strip_prefix('/'));
    let mut reader = Reader::new(tree, dir);
    reader.read(&closed(told), 0)?;
    let files = files.map(|file| format!("/{file}")).collect();
    Ok(Config { all: reader.all, files, modules: reader.modules, defined: reader.defined })
}

/// What an access file in `at` says, as a section of that directory. Whoever writes such a file may not include others,
/// nor define anything.
pub(super) fn access_file(tree: &Tree, config: &Config, at: &str, text: &str) -> anyhow::Result<Vec<Directive>> {
    let section = ["Directory", at, OVERRIDE].map(str::to_owned).to_vec();
    let mut reader = Reader { within: vec![section], is_access_file: true, ..Reader::new(tree, at) };
    reader.modules.clone_from(&config.modules);
    reader.defined.clone_from(&config.defined);
    reader.read(text, 0)?;
    Ok(reader.all)
}

/// What Apache prints, with the end of each section in which nothing is: it prints their beginning alone. What stands in a section is indented.
fn closed(told: &str) -> String {
    let mut whole = String::new();
    // A section that has just begun: how far it is indented, and its name.
    let mut begun: Option<(usize, &str)> = None;
    for line in told.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if text.is_empty() || text.starts_with('#') {
            whole.extend([line, "\n"]);
            continue;
        }
        if let Some((before, name)) = begun.take().filter(|(before, _)| *before >= indent) {
            let is_end = indent == before && text.starts_with("</");
            if !is_end {
                whole.extend(["</", name, ">\n"]);
            }
        }
        if let Some(section) = text.strip_prefix('<').filter(|section| !section.starts_with('/')) {
            begun = Some((indent, section.split([' ', '>']).next().unwrap_or_default()));
        }
        whole.extend([line, "\n"]);
    }
    whole
}

struct Reader<'t> {
    tree: &'t Tree,
    dir: &'t str,
    files: usize,
    lines: usize,
    within: Vec<Vec<String>>,
    modules: Vec<String>,
    defined: BTreeMap<String, String>,
    /// By name in lower case: parameters, and lines.
    macros: BTreeMap<String, (Vec<String>, String)>,
    included: Vec<String>,
    is_access_file: bool,
    all: Vec<Directive>,
}

impl<'t> Reader<'t> {
    fn new(tree: &'t Tree, dir: &'t str) -> Reader<'t> {
        Reader {
            tree,
            dir,
            files: 0,
            lines: 0,
            within: vec![],
            modules: vec![],
            defined: BTreeMap::new(),
            macros: BTreeMap::new(),
            included: vec![],
            is_access_file: false,
            all: vec![],
        }
    }

    fn read(&mut self, text: &str, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth <= MAX_DEPTH, "Apache's files lie more than {MAX_DEPTH} deep in each other");
        // A line goes on inside a word, too; blanks at the beginning of the next one stay.
        let text = text.replace("\r\n", "\n").replace("\\\n", "");
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        while let Some(line) = lines.next() {
            self.lines += 1;
            anyhow::ensure!(self.lines <= MAX_LINES, "Apache's configuration has more than {MAX_LINES} lines");
            if let Some(head) = line.get(..7).filter(|head| head.eq_ignore_ascii_case("<macro ")) {
                let words = words(line[head.len()..].trim_end_matches('>'));
                let body: Vec<&str> =
                    lines.by_ref().take_while(|line| !line.to_ascii_lowercase().starts_with("</macro")).collect();
                if let Some((name, parameters)) = words.split_first() {
                    self.macros.insert(name.to_ascii_lowercase(), (parameters.to_vec(), body.join("\n")));
                }
            } else if line.starts_with("</") {
                self.within.pop();
            } else if let Some(section) = line.strip_prefix('<') {
                anyhow::ensure!(
                    self.within.len() < MAX_SECTIONS,
                    "Apache's sections lie more than {MAX_SECTIONS} deep in each other"
                );
                self.open(&words(section.trim_end_matches('>')));
            } else if !self.within.iter().any(|section| section[0] == "skipped") {
                self.directive(&words(line), depth)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, words: &[String]) {
        let mut section = words.iter().map(|word| self.substituted(word)).collect::<Vec<_>>();
        if section.is_empty() {
            section.push("skipped".into());
        }
        let of = section.get(1).map(String::as_str).unwrap_or_default();
        let (is_not, of) = of.strip_prefix('!').map_or((false, of), |of| (true, of));
        let is_there = match section[0].to_ascii_lowercase().as_str() {
            "ifmodule" => {
                let name = of.trim_start_matches("mod_").trim_end_matches(".c").trim_end_matches("_module");
                // Where it is not known what is loaded, what an access file says for a module counts.
                let is_unknown = self.is_access_file && self.modules.is_empty();
                is_unknown || BUILT_IN.contains(&name) || self.modules.iter().any(|module| module == name)
            }
            "ifversion" => is_version(&section[1..]),
            "ifdefine" => self.defined.contains_key(of),
            // What a directive's name begins with says of which module it is.
            "ifdirective" => {
                let of = of.to_ascii_lowercase();
                let module = OF_MODULES.iter().find(|(start, _)| of.starts_with(start)).map(|(_, module)| *module);
                module.is_none_or(|module| self.modules.iter().any(|known| known == module))
            }
            "iffile" => {
                self.tree.exists(&if of.starts_with('/') { of.to_owned() } else { format!("{}/{of}", self.dir) })
            }
            _ => !is_not,
        };
        if is_there == is_not {
            section = vec!["skipped".into()];
        } else if section[0].eq_ignore_ascii_case("VirtualHost")
            && !self.within.iter().any(|section| section[0] == "skipped")
        {
            let mut words = section;
            words[0] = "<VirtualHost".into();
            let number = self.all.iter().filter(|directive| directive.is("<VirtualHost")).count();
            self.all.push(Directive { within: vec![], words });
            section = vec!["VirtualHost".into(), number.to_string()];
        }
        self.within.push(section);
    }

    fn directive(&mut self, words: &[String], depth: usize) -> anyhow::Result<()> {
        let words: Vec<String> = words.iter().map(|word| self.substituted(word)).collect();
        let Some(name) = words.first().map(|name| name.to_ascii_lowercase()) else { return Ok(()) };
        let arg = words.get(1).cloned().unwrap_or_default();
        match name.as_str() {
            _ if self.is_access_file => self.all.push(Directive { within: self.within.clone(), words }),
            // Apache does these while it reads, and prints them nowhere.
            "loadmodule" | "loadfile" => {
                let file = words.last().filter(|file| file.starts_with('/') && !file.starts_with("/usr/lib/"));
                self.included.extend(file.cloned());
                if name == "loadmodule" {
                    self.modules.push(arg.trim_end_matches("_module").into());
                }
            }
            "undefine" => drop(self.defined.remove(&arg)),
            "use" => {
                let Some((parameters, mut body)) = self.macros.get(&arg.to_ascii_lowercase()).cloned() else {
                    return Ok(());
                };
                // The longest first: one may be the beginning of another.
                let mut pairs: Vec<(&String, &String)> = parameters.iter().zip(words.iter().skip(2)).collect();
                pairs.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
                for (name, value) in pairs {
                    anyhow::ensure!(
                        body.len() <= MAX_MACRO && value.len() <= MAX_WORD,
                        "Apache's macro {arg} becomes too long"
                    );
                    body = body.replace(name.as_str(), value);
                }
                self.read(&body, depth + 1)?;
            }
            "define" => drop(self.defined.insert(arg, words.get(2).cloned().unwrap_or_default())),
            "include" | "includeoptional" => {
                let pattern = if arg.starts_with('/') { arg } else { format!("{}/{arg}", self.dir) };
                for path in self.tree.matching(&pattern) {
                    self.include(&path, depth + 1)?;
                }
            }
            _ => self.all.push(Directive { within: self.within.clone(), words }),
        }
        Ok(())
    }

    /// Reads a file, or all that lie in a directory and below.
    fn include(&mut self, path: &str, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(depth <= MAX_DEPTH, "Apache's files lie more than {MAX_DEPTH} deep in each other");
        self.files += 1;
        self.included.push(path.to_owned());
        anyhow::ensure!(self.files <= MAX_FILES, "Apache includes more than {MAX_FILES} files");
        if !here::below(self.tree.path(), path).is_dir() {
            let text = self.tree.read(path)?.unwrap_or_default();
            return self.read(&text, depth);
        }
        self.tree.names(path).iter().try_for_each(|name| self.include(&format!("{path}/{name}"), depth + 1))
    }

    /// `${NAME}` is what was defined by that name; what was not stays as it is.
    fn substituted(&self, word: &str) -> String {
        let (mut whole, mut rest) = (String::new(), word);
        while let Some((before, after)) = rest.split_once("${") {
            whole.push_str(before);
            let end = after.find(['}', '$']).filter(|end| after[*end..].starts_with('}'));
            let value = end.and_then(|end| Some((self.defined.get(&after[..end])?, end + 1)));
            match value.filter(|(value, _)| whole.len() + value.len() <= MAX_WORD) {
                Some((value, end)) => {
                    whole.push_str(value);
                    rest = &after[end..];
                }
                None => {
                    whole.push_str("${");
                    rest = after;
                }
            }
        }
        whole + rest
    }
}

/// Whether Apache 2.4 is of this version: `>= 2.4`, `2.4.10`.
fn is_version(words: &[String]) -> bool {
    let (how, wanted) = match words {
        [how, wanted, ..] => (how.trim_start_matches('!'), wanted.as_str()),
        [wanted] => ("=", wanted.as_str()),
        [] => return true,
    };
    let numbers: Vec<u32> = wanted.split('.').take(2).filter_map(|number| number.parse().ok()).collect();
    let own = 2_u32.cmp(numbers.first().unwrap_or(&2)).then(4.cmp(numbers.get(1).unwrap_or(&4)));
    match how {
        ">" => own.is_gt(),
        ">=" => own.is_ge(),
        "<" => own.is_lt(),
        "<=" => own.is_le(),
        _ => own.is_eq(),
    }
}

/// Words, of which some stand in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut rest) = (vec![], line.trim());
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

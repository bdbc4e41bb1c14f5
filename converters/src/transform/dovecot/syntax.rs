//! How Dovecot writes its files, alike in both versions: a setting, a comment, or the first or last line of a block on each line.
//!
//! What is read is written again byte for byte; only what a conversion changes is written anew.

/// Blocks within blocks beyond this are no configuration that somebody wrote.
const MAX_DEPTH: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Comments, blank lines, `!include`, and what Dovecot would refuse.
    Text(String),
    Set(Setting),
    Block(Block),
}

/// `key = value`, perhaps over several lines.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    pub(super) indent: String,
    pub(super) key: String,
    /// The sign with the blanks around it.
    pub(super) equals: String,
    /// As it is written, with quotes and the ends of lines within.
    pub(super) value: String,
    /// A comment, and the end of the line.
    pub(super) tail: String,
}

/// `kind name {` … `}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) indent: String,
    pub(super) kind: String,
    /// As it is written; empty where there is none.
    pub(super) name: String,
    /// The blanks between kind, name and brace, while they are as they were read.
    pub(super) gaps: [String; 2],
    /// What follows the brace on its line.
    pub(super) tail: String,
    pub(super) nodes: Vec<Node>,
    /// Its last line.
    pub(super) close: String,
}

impl Setting {
    /// A new line.
    pub(super) fn new(indent: &str, key: &str, value: &str) -> Setting {
        let [indent, key] = [indent, key].map(str::to_owned);
        let equals = if value.is_empty() { " =" } else { " = " }.to_owned();
        Setting { indent, key, equals, value: quoted(value), tail: "\n".into() }
    }

    /// The same line with another key and value.
    pub(super) fn becomes(&self, key: &str, value: &str) -> Setting {
        let blank = if self.value.is_empty() && self.equals.ends_with(" =") { " " } else { "" };
        Setting { key: key.into(), equals: format!("{}{blank}", self.equals), value: quoted(value), ..self.clone() }
    }

    /// The same line with another key.
    pub(super) fn renamed(&self, key: &str) -> Setting {
        Setting { key: key.into(), ..self.clone() }
    }

    /// The value as Dovecot reads it, without expanding anything.
    pub(super) fn text(&self) -> String {
        let mut joined = String::new();
        for line in self.value.lines() {
            let bare = bare(line).trim();
            let (part, _) = bare.strip_suffix('\\').map_or((bare, false), |part| (part.trim_end(), true));
            if !part.is_empty() {
                joined.push_str(if joined.is_empty() { "" } else { " " });
                joined.push_str(part);
            }
        }
        unquoted(&joined).unwrap_or(joined)
    }

    pub(super) fn is_yes(&self) -> bool {
        matches!(self.text().to_ascii_lowercase().as_str(), "yes" | "y" | "1")
    }

    pub(super) fn is_no(&self) -> bool {
        self.text().eq_ignore_ascii_case("no")
    }
}

impl Block {
    /// A new one.
    pub(super) fn new(indent: &str, kind: &str, name: &str, nodes: Vec<Node>) -> Block {
        let [indent_, kind, name] = [indent, kind, name].map(str::to_owned);
        let close = format!("{indent}}}\n");
        Block { indent: indent_, kind, name, gaps: [" ".into(), " ".into()], tail: "\n".into(), nodes, close }
    }

    /// With another kind and name.
    pub(super) fn renamed(self, kind: &str, name: &str) -> Block {
        Block { kind: kind.into(), name: name.into(), gaps: [" ".into(), " ".into()], ..self }
    }

    /// The name without quotes.
    pub(super) fn bare_name(&self) -> String {
        unquoted(&self.name).unwrap_or_else(|| self.name.clone())
    }

    /// The settings right in it.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Setting> {
        settings(&self.nodes)
    }

    /// The value of a setting right in it; the last one counts.
    pub(super) fn value(&self, key: &str) -> Option<String> {
        self.settings().filter(|one| one.key == key).last().map(Setting::text)
    }

    /// Whether nothing is set in it, nor in a block in it.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.iter().all(|node| match node {
            Node::Text(text) => is_comment(text),
            Node::Set(_) => false,
            Node::Block(block) => block.is_empty(),
        })
    }

    /// The blanks before what is in it.
    pub(super) fn inner(&self) -> String {
        format!("{}  ", self.indent)
    }
}

/// The settings right among these.
pub(super) fn settings(nodes: &[Node]) -> impl Iterator<Item = &Setting> {
    nodes.iter().filter_map(|node| match node {
        Node::Set(setting) => Some(setting),
        _ => None,
    })
}

/// Whether it is a comment or a blank line.
pub(super) fn is_comment(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// What `!include` and `!include_try` name.
pub(super) fn included(line: &str) -> Option<&str> {
    let (word, path) = bare(line).trim().split_once([' ', '\t'])?;
    (word == "!include" || word == "!include_try").then_some(path.trim())
}

/// Its lines as comments, which mean nothing to either version.
pub(super) fn commented(node: &Node) -> Node {
    let mut out = String::new();
    for line in print(std::slice::from_ref(node)).split_inclusive('\n') {
        let at = line.len() - line.trim_start_matches([' ', '\t']).len();
        let (indent, rest) = line.split_at(at);
        let sign = if is_comment(rest) { "" } else { "#" };
        out.extend([indent, sign, rest]);
    }
    Node::Text(out)
}

pub(super) fn print(nodes: &[Node]) -> String {
    let mut out = String::new();
    print_to(nodes, &mut out);
    out
}

fn print_to(nodes: &[Node], out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Set(Setting { indent, key, equals, value, tail }) => {
                out.extend([indent, key, equals, value, tail].map(String::as_str));
            }
            Node::Block(block) => {
                let [before_name, before_brace] = &block.gaps;
                let before_name = if block.name.is_empty() { "" } else { before_name };
                out.extend([&block.indent, &block.kind, before_name, &block.name, before_brace, "{", &block.tail]);
                print_to(&block.nodes, out);
                out.push_str(&block.close);
            }
        }
    }
}

/// Reads a file; `None` where blocks do not close.
pub(super) fn parse(text: &str) -> Option<Vec<Node>> {
    let mut open: Vec<(Block, Vec<Node>)> = Vec::new();
    let mut nodes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, further) = rest.split_at(logical(rest));
        rest = further;
        match line_of(line) {
            Line::Open(block) => {
                if open.len() >= MAX_DEPTH {
                    return None;
                }
                open.push((block, std::mem::take(&mut nodes)));
            }
            Line::Close => {
                let (block, outer) = open.pop()?;
                let inner = std::mem::replace(&mut nodes, outer);
                nodes.push(Node::Block(Block { nodes: inner, close: line.to_owned(), ..block }));
            }
            Line::Other(node) => nodes.push(node),
        }
    }
    open.is_empty().then_some(nodes)
}

enum Line {
    Open(Block),
    Close,
    Other(Node),
}

/// Where the setting ends that begins here: a backslash at the end of a line goes on in the next that is no comment.
fn logical(text: &str) -> usize {
    let mut end = 0;
    let mut goes_on = false;
    for line in text.split_inclusive('\n') {
        end += line.len();
        if is_comment(line) && end > line.len() {
            continue;
        }
        goes_on = !is_comment(line) && bare(line).ends_with('\\');
        if !goes_on {
            break;
        }
    }
    if goes_on { text.len() } else { end }
}

fn line_of(line: &str) -> Line {
    let text = |line: &str| Line::Other(Node::Text(line.to_owned()));
    if is_comment(line) {
        return text(line);
    }
    let start = line.len() - line.trim_start_matches([' ', '\t']).len();
    let (indent, body) = line.split_at(start);
    let last = body.trim_end_matches(['\n', '\r']).rfind('\n').map_or(0, |newline| newline + 1);
    let end = last + bare(&body[last..]).len();
    let (body, tail) = body.split_at(end);
    let key_end = body.find([' ', '\t', '=']).unwrap_or(body.len());
    let (key, rest) = body.split_at(key_end);
    if key.is_empty() || key.starts_with('!') {
        return text(line);
    }
    let after = rest.trim_start_matches([' ', '\t']);
    if let Some(value) = after.strip_prefix('=') {
        let value = value.trim_start_matches([' ', '\t']);
        let equals = &rest[..rest.len() - value.len()];
        let [indent, key, equals, value, tail] = [indent, key, equals, value, tail].map(str::to_owned);
        return Line::Other(Node::Set(Setting { indent, key, equals, value, tail }));
    }
    if key == "}" && after.is_empty() {
        return Line::Close;
    }
    let Some(name) = after.strip_suffix('{').filter(|_| !body.contains('\n')) else { return text(line) };
    let before_name = rest[..rest.len() - after.len()].to_owned();
    let bare_name = name.trim_end_matches([' ', '\t']);
    let (before_name, before_brace) = match bare_name {
        "" => (" ".to_owned(), before_name),
        _ => (before_name, name[bare_name.len()..].to_owned()),
    };
    let [indent, kind, name, tail] = [indent, key, bare_name, tail].map(str::to_owned);
    let gaps = [before_name, before_brace];
    Line::Open(Block { indent, kind, name, gaps, tail, nodes: Vec::new(), close: String::new() })
}

/// The line without its comment and the blanks at its end.
fn bare(line: &str) -> &str {
    let mut chars = line.char_indices();
    let mut end = line.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '#' => {
                end = at;
                break;
            }
            '"' | '\'' => {
                while let Some((_, inner)) = chars.next() {
                    if inner == '\\' {
                        chars.next();
                    } else if inner == c {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    line[..end].trim_end_matches([' ', '\t', '\r', '\n'])
}

/// What stands in quotes, where all of it does.
fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| *c == '"' || *c == '\'')?;
    let inner = text.get(1..)?.strip_suffix(quote)?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            c if c == quote => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// In quotes, where Dovecot would not read it as it is.
pub(super) fn quoted(text: &str) -> String {
    let is_plain =
        text.trim() == text && !text.starts_with(['"', '\'']) && !text.contains(['#', '\n']) && !text.ends_with('\\');
    // A quote that is opened and not closed takes a comment with it, and no more than that.
    if is_plain { text.to_owned() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_byte_for_byte() {
        for text in [
            "",
            "a=b",
            "  a  =  b  # c\r\n\n#x\nprotocol\timap  { # y\n a = \"x # y\" # z\n  mailbox \"Sent Messages\"{\n}\n }\n",
            "query = SELECT a \\\n  # between\n\n  FROM b # end\nx = y\n",
            "a = b \\",
            "!include x\nnonsense\n= 1\nnamespace {\n}\n",
        ] {
            assert_eq!(print(&parse(text).unwrap()), text);
        }
        for text in ["}\n", "a {\n", "a {\n}\n}\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&"a {\n".repeat(100_000)), None);
    }

    #[test]
    fn a_value_is_what_dovecot_reads() {
        let value = |text: &str| settings(&parse(text).unwrap()).next().unwrap().text();
        assert_eq!(value("a = \" x # y\\\" \" # z\n"), " x # y\" ");
        assert_eq!(value("a = SELECT a \\\n   # b\n  FROM 'c # d' # e\n"), "SELECT a FROM 'c # d'");
        assert_eq!(value("a =\n"), "");
        assert_eq!(value("a = \\Sent\n"), "\\Sent");
        assert_eq!(quoted("a#b\""), "\"a#b\\\"\"");
    }

    #[test]
    fn a_comment_stays_one() {
        let nodes = parse("  dict {\n    # a\n\n    b = c\n  }\n").unwrap();
        assert_eq!(commented(&nodes[0]), Node::Text("  #dict {\n    # a\n\n    #b = c\n  #}\n".into()));
    }
}

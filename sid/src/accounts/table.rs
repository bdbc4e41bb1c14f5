//! One file of accounts: lines of fields, parted by colons.

use std::collections::{BTreeMap, BTreeSet};

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// `/etc/group`
    Group,
    /// `/etc/gshadow`
    Gshadow,
    /// `/etc/passwd`
    Passwd,
    /// `/etc/shadow`
    Shadow,
}

impl Which {
    /// All of them.
    pub const ALL: [Which; 4] = [Which::Group, Which::Gshadow, Which::Passwd, Which::Shadow];
    /// The largest file, in bytes.
    pub const MAX_SIZE: usize = 16 << 20;

    /// Where it lies on a server.
    pub fn path(self) -> &'static str {
        match self {
            Which::Group => "/etc/group",
            Which::Gshadow => "/etc/gshadow",
            Which::Passwd => "/etc/passwd",
            Which::Shadow => "/etc/shadow",
        }
    }

    /// What one line of it is.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Which::Group | Which::Gshadow => "group",
            Which::Passwd | Which::Shadow => "account",
        }
    }

    /// The file whose names this one repeats.
    pub(super) fn accounts(self) -> Which {
        match self {
            Which::Group | Which::Gshadow => Which::Group,
            Which::Passwd | Which::Shadow => Which::Passwd,
        }
    }

    fn fields(self) -> usize {
        match self {
            Which::Group | Which::Gshadow => 4,
            Which::Passwd => 7,
            Which::Shadow => 9,
        }
    }

    /// The fields that must be numbers.
    fn numbers(self) -> &'static [usize] {
        match self {
            Which::Group => &[2],
            Which::Passwd => &[2, 3],
            Which::Gshadow | Which::Shadow => &[],
        }
    }
}

/// Why a file of accounts cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{whose} {} is malformed: {why}", which.path())]
pub struct BadAccounts {
    /// `PRI's` or `this server's`.
    pub whose: &'static str,
    /// The file.
    pub which: Which,
    /// What is wrong, with the line.
    pub why: String,
}

/// Whether a text can be the name of an account.
pub(super) fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && !text.starts_with(['-', '+', '#'])
        && !text.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | ',' | '/'))
}

/// One account or group. Its name, and the numbers that its file has, were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    name: String,
    fields: Vec<Vec<u8>>,
}

impl Line {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn field(&self, index: usize) -> &[u8] {
        &self.fields[index]
    }

    pub(super) fn set(&mut self, index: usize, value: &[u8]) {
        self.fields[index] = value.to_vec();
    }

    fn number_at(&self, index: usize) -> u32 {
        std::str::from_utf8(&self.fields[index]).ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX)
    }

    /// The number of the account or group.
    pub(super) fn number(&self) -> u32 {
        self.number_at(2)
    }

    /// The number of an account's group.
    pub(super) fn group(&self) -> u32 {
        self.number_at(3)
    }

    /// The members of a group.
    pub(super) fn members(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.fields[3]);
        text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn set_members(&mut self, members: &[String]) {
        self.fields[3] = members.join(",").into_bytes();
    }
}

/// A file that was read; each name once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    lines: Vec<Line>,
    by_name: BTreeMap<String, usize>,
    /// Lines that name no account of this file, but those of a directory service: `+@staff::::::`, `-guest`.
    compat: Vec<Vec<u8>>,
}

impl Table {
    pub(super) fn of(lines: Vec<Line>) -> Table {
        let by_name = lines.iter().enumerate().map(|(index, line)| (line.name.clone(), index)).collect();
        Table { lines, by_name, compat: vec![] }
    }

    /// The same with the lines for a directory service that another file has.
    pub(super) fn with_compat_of(self, other: Option<&Table>) -> Table {
        Table { compat: other.map(|other| other.compat.clone()).unwrap_or_default(), ..self }
    }

    /// Reads a file. Blank lines and comments are passed over, as the C library does.
    pub(super) fn parse(whose: &'static str, which: Which, content: &[u8]) -> Result<Table, BadAccounts> {
        let bad = |why: String| BadAccounts { whose, which, why };
        if content.len() > Which::MAX_SIZE {
            return Err(bad(format!("it is larger than {} bytes", Which::MAX_SIZE)));
        }
        let (mut lines, mut compat) = (Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for (index, text) in content.split(|b| *b == b'\n').enumerate() {
            if text.trim_ascii().is_empty() || text.starts_with(b"#") {
                continue;
            }
            if text.starts_with(b"+") || text.starts_with(b"-") {
                compat.push(text.to_vec());
                continue;
            }
            let line = parse_line(which, text).map_err(|why| bad(format!("line {} {why}", index + 1)))?;
            if !names.insert(line.name.clone()) {
                return Err(bad(format!("line {} names {} a second time", index + 1, line.name)));
            }
            lines.push(line);
        }
        let is_root = |line: &Line| line.name == "root" && (which.numbers().is_empty() || line.number() == 0);
        if !lines.iter().any(is_root) {
            return Err(bad("it has no root; it was emptied, or is another file".into()));
        }
        Ok(Table { compat, ..Table::of(lines) })
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn find(&self, name: &str) -> Option<&Line> {
        self.by_name.get(name).map(|index| &self.lines[*index])
    }

    /// The file that [`Table::parse`] reads back.
    pub(super) fn to_file(&self) -> Vec<u8> {
        let mut content = Vec::new();
        for line in &self.lines {
            content.extend(line.fields.join(&b':'));
            content.push(b'\n');
        }
        // Who stands before them counts first.
        for line in &self.compat {
            content.extend_from_slice(line);
            content.push(b'\n');
        }
        content
    }
}

fn parse_line(which: Which, text: &[u8]) -> Result<Line, String> {
    let fields: Vec<Vec<u8>> = text.split(|b| *b == b':').map(<[u8]>::to_vec).collect();
    if fields.len() != which.fields() {
        return Err(format!("has {} fields, not {}", fields.len(), which.fields()));
    }
    let name = std::str::from_utf8(&fields[0]).ok().filter(|name| is_name(name)).map(str::to_owned);
    let line = Line { name: name.ok_or("has no name that an account can have")?, fields };
    for index in which.numbers() {
        let text = String::from_utf8_lossy(line.field(*index));
        let canonical = text.parse::<u32>().is_ok_and(|number| number.to_string() == text);
        if !canonical || [u32::MAX, u32::from(u16::MAX)].contains(&line.number_at(*index)) {
            return Err(format!("has no number in field {}", index + 1));
        }
    }
    Ok(line)
}

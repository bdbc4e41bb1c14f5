//! A path in a server's tree, made so that it cannot climb out of one.

use serde::{Deserialize, Serialize};
use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path};

/// An absolute path of a server's tree, such as `/etc/hostname`, in its one canonical form.
///
/// Holding one proves: it begins with `/`, has at least one component, no empty, `.` or `..` component, no NUL or newline, and is
/// within the bounds of a Linux path. Whether a *link* lies on the way cannot be seen in the text; `atlas-host` refuses those
/// when it opens the path.
///
/// In text (path lists, Manifest) a byte that is not printable UTF-8, and the backslash, stand as `\xNN`. A control character that
/// stands in the text as it is, is refused: a list that an editor saved with `\r\n` would name files that nobody has.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(Vec<u8>);

/// Why a text is no [`TreePath`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{path}' cannot be synchronized: {why}")]
pub struct BadPath {
    /// The path as it was given, shortened and escaped.
    pub path: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

impl TreePath {
    /// The longest path, in bytes.
    pub const MAX_LEN: usize = 4000;
    /// The most components.
    pub const MAX_DEPTH: usize = 128;

    /// Validates the bytes of a path.
    pub fn new(bytes: &[u8]) -> Result<TreePath, BadPath> {
        let bad = |why| BadPath { path: escape(&bytes[..bytes.len().min(200)]), why };
        if bytes.first() != Some(&b'/') {
            return Err(bad("it is not absolute; begin it with '/'"));
        }
        if bytes.len() > Self::MAX_LEN {
            return Err(bad("it is longer than 4000 bytes"));
        }
        let trimmed = if bytes.len() > 1 { bytes.strip_suffix(b"/").unwrap_or(bytes) } else { bytes };
        let mut depth = 0;
        for component in trimmed[1..].split(|b| *b == b'/') {
            depth += 1;
            match component {
                b"" if trimmed.len() == 1 => return Err(bad("it is the whole tree")),
                b"" => return Err(bad("it has an empty component ('//')")),
                b"." => return Err(bad("it has a '.' component")),
                b".." => return Err(bad("it climbs out with '..'")),
                c if c.len() > 255 => return Err(bad("it has a name of more than 255 bytes")),
                c if c.contains(&0) || c.contains(&b'\n') => return Err(bad("it has a NUL or newline")),
                _ => {}
            }
        }
        if depth > Self::MAX_DEPTH {
            return Err(bad("it is more than 128 directories deep"));
        }
        Ok(TreePath(trimmed.to_vec()))
    }

    /// Reads the escaped text form.
    pub fn parse(text: &str) -> Result<TreePath, BadPath> {
        let bad = |why| BadPath { path: escape(&text.as_bytes()[..text.len().min(200)]), why };
        // Escaped, each byte takes four.
        if text.len() > 4 * Self::MAX_LEN {
            return Err(bad("it is longer than 4000 bytes"));
        }
        if is_plain(text.as_bytes()) {
            return TreePath::new(text.as_bytes());
        }
        if text.ends_with('\r') {
            return Err(bad("the line ends as on Windows (\\r\\n); save the file with Unix line ends"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("it has a control character; write such bytes as \\xNN"));
        }
        let bytes = unescape(text).ok_or_else(|| bad("a backslash in it begins no \\xNN"))?;
        TreePath::new(&bytes)
    }

    /// The path without its leading `/`, for opening it below a held directory.
    pub fn relative(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0[1..]))
    }

    /// The absolute path, for messages and for programs that run in the tree.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The last component.
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(self.0.rsplit(|b| *b == b'/').next().unwrap_or_default())
    }

    /// The directory that holds it; `None` where that is the root of the tree.
    pub fn parent(&self) -> Option<TreePath> {
        let end = self.0.iter().rposition(|b| *b == b'/').filter(|end| *end > 0)?;
        Some(TreePath(self.0[..end].to_vec()))
    }

    /// This path with one more component, which is validated like any other.
    pub fn join(&self, name: &OsStr) -> Result<TreePath, BadPath> {
        let mut bytes = self.0.clone();
        bytes.push(b'/');
        bytes.extend_from_slice(name.as_bytes());
        if name.as_bytes().contains(&b'/') || name.is_empty() {
            return Err(BadPath { path: escape(&bytes), why: "its last component is no file name" });
        }
        TreePath::new(&bytes)
    }

    /// Whether this path is `other` or lies below it.
    pub fn is_within(&self, other: &TreePath) -> bool {
        self.0.strip_prefix(other.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

/// Whether a character shows nothing of itself: a control, one without width, or one that turns the direction of writing, with
/// which a path could be shown as another.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Whether each byte is a printable character of ASCII that stands for itself in the text form, as in nearly all paths.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'\\')
}

/// Writes bytes as text: printable UTF-8 as it is, everything else and the backslash as `\xNN`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    if is_plain(bytes) {
        text.extend(bytes.iter().map(|b| char::from(*b)));
        return text;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_hidden(c) || c == '\\' {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|b| text.push_str(&format!("\\x{b:02x}")));
            } else {
                text.push(c);
            }
        }
        chunk.invalid().iter().for_each(|b| text.push_str(&format!("\\x{b:02x}")));
    }
    text
}

/// Reads what [`escape`] wrote; `None` where a backslash begins no `\xNN`.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'\\' {
            let digits = tail.strip_prefix(b"x")?.get(..2)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &tail[3..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    Some(bytes)
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escape(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for TreePath {
    type Error = BadPath;
    fn try_from(text: String) -> Result<Self, BadPath> {
        TreePath::parse(&text)
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> String {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_that_could_climb_out_is_refused() {
        for bad in [
            "",
            "/",
            "etc/hosts",
            "/..",
            "/etc/../shadow",
            "/etc/..",
            "/./etc",
            "//etc",
            "/etc//hosts",
            "/a\0b",
            "/a\nb",
        ] {
            assert!(TreePath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(TreePath::parse("/etc/\\x2e\\x2e/shadow").is_err(), "an escaped '..' is still one");
        assert!(TreePath::parse("/etc\\x2f..\\x2fshadow").is_err(), "an escaped '/' is still one");
        assert!(TreePath::new("/a".repeat(200).as_bytes()).is_err());
        assert!(TreePath::new(format!("/{}", "n".repeat(256)).as_bytes()).is_err());
    }

    #[test]
    fn a_control_character_is_written_escaped_or_not_at_all() {
        assert!(TreePath::parse("/etc/hosts\r").unwrap_err().why.contains("Unix line ends"));
        assert!(TreePath::parse("/etc/\u{1b}[2J").is_err());
        assert_eq!(TreePath::parse("/etc/\\x1b[2J").unwrap().name(), "\u{1b}[2J");
        let turned = TreePath::new("/etc/\u{202e}stsoh".as_bytes()).unwrap();
        assert_eq!(turned.to_string(), "/etc/\\xe2\\x80\\xaestsoh", "it would be shown as another path");
    }

    #[test]
    fn a_text_without_end_is_refused_and_shown_shortened() {
        let error = TreePath::parse(&format!("/{}", "\u{e9}".repeat(1 << 20))).unwrap_err();
        assert!(error.path.len() <= 800, "{}", error.path.len());
    }

    #[test]
    fn within_means_the_same_path_or_a_component_below() {
        let at = |text: &str| TreePath::parse(text).unwrap();
        assert!(at("/etc/ssh").is_within(&at("/etc/ssh/")));
        assert!(at("/etc/ssh/key").is_within(&at("/etc/ssh")));
        assert!(!at("/etc/sshd").is_within(&at("/etc/ssh")));
        assert_eq!(at("/etc/ssh").parent(), Some(at("/etc")));
        assert_eq!(at("/etc").parent(), None);
    }

    proptest! {
        #[test]
        fn any_path_reads_back_from_its_text(names in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 1..6)) {
            let bytes = names.iter().flat_map(|name| [b"/", name.as_slice()].concat()).collect::<Vec<_>>();
            if let Ok(path) = TreePath::new(&bytes) {
                prop_assert_eq!(TreePath::parse(&path.to_string()), Ok(path));
            }
        }

        #[test]
        fn no_accepted_path_has_a_component_that_climbs(bytes in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a'), any::<u8>()], 0..40)) {
            if let Ok(path) = TreePath::new(&bytes) {
                prop_assert!(path.as_path().components().skip(1).all(|c| matches!(c, std::path::Component::Normal(_))));
            }
        }
    }
}

//! The lines of `mdadm.conf` that name arrays, as far as they concern an Unbound set.
//!
//! An `ARRAY` line has `mdadm --assemble --scan` start that array, whatever other lines say: one that names an Unbound set hands the set to
//! whoever runs mdadm, Debian's initramfs among them. Such lines are found here, and left out of the initramfs.
//!
//! ```text
//! ARRAY /dev/md/atlas-unbound metadata=1.2 UUID=3aaa0122:29827cfa:5331ad66:ca767371      ours: by its device, its name= or its UUID=
//!       name=any:atlas-unbound                                                           a line that begins with a blank goes on
//! ARRAY <ignore> UUID=3aaa0122:29827cfa:5331ad66:ca767371                                keeps mdadm away from the array
//! ```
//!
//! `name=` alone does not keep mdadm away: mdadm 4.4 (Debian 13) reads no names from its configuration. So it is written by UUID, once a
//! member was seen.

use crate::{UNBOUND_ARRAY_NAME, md::MdUuid};

/// Where Debian's mdadm looks for its configuration, in this order.
pub const PLACES: [&str; 2] = ["etc/mdadm/mdadm.conf", "etc/mdadm.conf"];
/// Where the lines for the sets that were seen since the machine was switched on are written, below `/run`.
pub const SEEN: &str = "atlas/mdadm.conf";

/// The line that keeps mdadm from starting this array by itself.
pub fn ignored(uuid: MdUuid) -> String {
    format!("ARRAY <ignore> UUID={uuid}\n")
}

/// The entries that would start an Unbound set, each on one line; `sets` are the arrays known to be such.
pub fn starts_ours(text: &str, sets: &[MdUuid]) -> Vec<String> {
    entries(text).filter(|entry| is_ours(entry, sets)).map(|entry| words(&entry).join(" ")).collect()
}

/// The text without them.
pub fn without_ours(text: &str, sets: &[MdUuid]) -> String {
    entries(text).filter(|entry| !is_ours(entry, sets)).collect()
}

/// The text with each of them turned into a comment.
pub fn with_ours_in_comments(text: &str, sets: &[MdUuid]) -> String {
    let comment = |entry: String| {
        let lines = entry.lines().map(|line| format!("#{line}\n")).collect::<String>();
        format!("# An Unbound set is started by atlas-boot alone:\n{lines}")
    };
    entries(text).map(|entry| if is_ours(&entry, sets) { comment(entry) } else { entry }).collect()
}

/// The text cut into entries: a line, and those after it that begin with a blank.
fn entries(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut lines = text.split_inclusive('\n').peekable();
    std::iter::from_fn(move || {
        let mut entry = lines.next()?.to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with([' ', '\t'])) {
            entry.push_str(more);
        }
        Some(entry)
    })
}

/// The words of an entry; a word that begins with `#` hides the rest of its line.
fn words(entry: &str) -> Vec<&str> {
    entry.lines().flat_map(|line| line.split_whitespace().take_while(|word| !word.starts_with('#'))).collect()
}

fn is_ours(entry: &str, sets: &[MdUuid]) -> bool {
    let words = words(entry);
    let Some((keyword, identity)) = words.split_first() else { return false };
    // mdadm takes any beginning of at least three letters for the keyword.
    let keyword = keyword.to_ascii_lowercase();
    if keyword.len() < 3 || !"array".starts_with(&keyword) || identity.contains(&"<ignore>") {
        return false;
    }
    identity.iter().any(|word| names_ours(word, sets))
}

fn names_ours(word: &str, sets: &[MdUuid]) -> bool {
    let word: String = word.chars().filter(|c| !matches!(c, '"' | '\'')).collect::<String>().to_ascii_lowercase();
    let is_name = |name: &str| name.rsplit(':').next() == Some(UNBOUND_ARRAY_NAME);
    match word.split_once('=') {
        Some(("name", name)) => is_name(name),
        Some(("uuid", uuid)) => sets.iter().any(|set| hex(&set.to_string()) == hex(uuid)),
        Some(_) => false,
        None => word.rsplit('/').next() == Some(UNBOUND_ARRAY_NAME),
    }
}

/// mdadm allows any punctuation between the digits.
fn hex(text: &str) -> String {
    text.chars().filter(char::is_ascii_hexdigit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: MdUuid = MdUuid([0x3a; 16]);
    const OTHERS: &str = "# ARRAY /dev/md/atlas-unbound\nHOMEHOST <system>\nARRAY /dev/md/0 metadata=1.2 UUID=01010101:01010101:01010101:01010101\n\
                          ARRAY <ignore> UUID=3a3a3a3a:3a3a3a3a:3a3a3a3a:3a3a3a3a\nAUTO +all\n";

    #[test]
    fn every_way_to_name_an_unbound_set_is_found_and_nothing_else() {
        assert_eq!(starts_ours(OTHERS, &[SET]), Vec::<String>::new());
        for ours in [
            "ARRAY /dev/md/atlas-unbound metadata=1.2 UUID=02020202:02020202:02020202:02020202\n",
            "array atlas-unbound\n",
            "ARRAY /dev/md127 metadata=1.2 name=any:atlas-unbound\n",
            "ARRAY /dev/md127 name='srv:atlas-unbound'\n",
            "ARR /dev/md127 uuid=3A3A3A3A:3A3A3A3A:3A3A3A3A:3A3A3A3A\n",
            "ARRAY /dev/md127\n   UUID=3a3a3a3a-3a3a3a3a-3a3a3a3a-3a3a3a3a # since 2024\n",
        ] {
            let text = format!("{OTHERS}{ours}MAILADDR root\n");
            assert_eq!(starts_ours(&text, &[SET]).len(), 1, "{ours}");
            assert_eq!(without_ours(&text, &[SET]), format!("{OTHERS}MAILADDR root\n"), "{ours}");
            let commented = with_ours_in_comments(&text, &[SET]);
            assert_eq!(starts_ours(&commented, &[SET]).len(), 0, "{commented}");
            assert!(commented.contains(&format!("#{}", ours.lines().next().unwrap())), "{commented}");
        }
    }

    #[test]
    fn an_array_of_another_uuid_is_not_ours() {
        let text = "ARRAY /dev/md127 UUID=3a3a3a3a:3a3a3a3a:3a3a3a3a:3a3a3a3b\n";
        assert_eq!(without_ours(text, &[SET]), text);
    }

    #[test]
    fn the_line_that_keeps_mdadm_away_is_none_that_starts_a_set() {
        assert_eq!(ignored(SET), "ARRAY <ignore> UUID=3a3a3a3a:3a3a3a3a:3a3a3a3a:3a3a3a3a\n");
        assert_eq!(starts_ours(&ignored(SET), &[SET]), Vec::<String>::new());
    }
}

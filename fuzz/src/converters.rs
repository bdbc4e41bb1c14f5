//! What must hold for every input of the converters' parsers, as `properties.rs` has it for the others; `converters/tests/fuzz_seeds.rs` includes
//! this file. Configuration files and residue may come from a partner, parts from whoever administers the server.

use atlas_converters::{part::Part, patch, residue::Change, transform};

/// A parser's properties as a function of the input; `true` where it parsed.
pub type Property = fn(&[u8]) -> bool;

/// Every target by its name, which is that of its folder below `seeds-converters`, too.
pub const TARGETS: [(&str, Property); 7] = [
    ("part", part),
    ("interfaces", interfaces),
    ("network_file", network_file),
    ("nginx", nginx),
    ("dovecot", dovecot),
    ("diff", diff),
    ("changes", changes),
];

/// A part file: an error that can be shown, or rules within the bounds.
pub fn part(data: &[u8]) -> bool {
    match Part::parse("fuzz", data) {
        Ok(part) => {
            assert!(data.len() <= Part::MAX_SIZE && part.rules.len() <= 6 * Part::MAX_RULES * 100);
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 4000, "{error}");
            false
        }
    }
}

/// `/etc/network/interfaces`: what is taken out and written again says the same, and what stays describes no interface.
pub fn interfaces(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(found) = transform::parse_interfaces(text) else { return false };
    let rest = transform::parse_interfaces(&found.rest).expect("what stays can be read");
    assert!(rest.described.is_empty(), "{:?} stays", rest.described);
    assert_eq!(rest.rest, found.rest);
    true
}

/// A `.network` file: what a stanza can say is read from the stanza again.
pub fn network_file(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(one) = transform::parse_network(text) else { return false };
    let stanzas = transform::stanzas(&one);
    if let Ok(found) = transform::parse_interfaces(&stanzas) {
        assert_eq!(found.described.len(), 1, "{stanzas}");
        assert_eq!((&found.described[0].name, found.described[0].auto), (&one.name, one.auto), "{stanzas}");
        assert_eq!(found.described[0].addresses.len(), one.addresses.len(), "{stanzas}");
    }
    true
}

/// A file of nginx: done once, there is nothing more to do.
pub fn nginx(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (older, newer) = transform::nginx(text);
    assert_eq!(transform::nginx(&older).0, older);
    assert_eq!(transform::nginx(&newer).1, newer);
    true
}

/// `dovecot.conf` and a database's file, parted by the first NUL: what is made can be read, and done once, there is nothing more to do.
pub fn dovecot(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let (main, sql) = text.split_once('\0').unwrap_or((text, ""));
    let Some([older, newer]) = transform::dovecot(main, sql) else { return false };
    let [again, _] = transform::dovecot(&older[0], &older[1]).expect("what was made can be read");
    assert_eq!(again, older);
    let [_, again] = transform::dovecot(&newer[0], &newer[1]).expect("what was made can be read");
    assert_eq!(again, newer);
    true
}

/// A diff on a file, parted by the first NUL: whatever does not fit is left out.
pub fn diff(data: &[u8]) -> bool {
    let mut halves = data.splitn(2, |byte| *byte == 0);
    let (file, diff) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let again = patch::between(file, diff, "x");
    let applied = patch::apply(file, &again).expect("what was written can be read");
    assert!(applied.content == diff && applied.left_out == 0);
    patch::apply(file, diff).is_some()
}

/// `Changes` of a residue: what is read can be written again, and no list has a name that leads elsewhere.
pub fn changes(data: &[u8]) -> bool {
    let Some(changes) = Change::parse_all(data) else { return false };
    for change in &changes {
        let line = serde_json::to_vec(change).expect("what was read can be written");
        assert_eq!(&serde_json::from_slice::<Change>(&line).expect("and read again"), change);
        if let Change::List { name } = change {
            assert!(!name.contains('/') && !name.starts_with('.'));
        }
    }
    true
}

//! What must hold for every input of ssCoreHandler's readers, as `properties.rs` has it for the others; `corehandler/tests/fuzz_seeds.rs`
//! includes this file. Cores and reports come from programs that have just shown that they cannot be trusted, or from their users.

use atlas_corehandler::{
    clean::Rules,
    core_file::Core,
    exchange, kernel,
    signature::{Signature, Strength},
    space::Search,
    traceback::{Detail, Traceback},
    unpack::Packing,
};
use std::{
    collections::BTreeSet,
    io::{Cursor, Read, Write},
};

/// A reader's properties as a function of the input; `true` where it could be read.
pub type Property = fn(&[u8]) -> bool;

/// Every target by its name, which is that of its folder below `seeds-crashes`, too.
pub const TARGETS: [(&str, Property); 4] =
    [("packed", packed), ("core", core), ("kernel_log", kernel_log), ("known", known)];

/// What is unpacked here at most: the bound of real cores is larger than a fuzzer's patience.
const UNPACKED: u64 = 4 << 20;

thread_local! {
    static RULES: Rules = Rules::built_in().expect("the table can be read");
}

/// A packed core, or a report of apport's: it unpacks, or gives an error, and the same when asked again.
pub fn packed(data: &[u8]) -> bool {
    let Some(packing) = Packing::of(data) else { return false };
    let unpack = || -> std::io::Result<Vec<u8>> {
        let mut unpacked = Vec::new();
        packing.reader(Box::new(Cursor::new(data)))?.take(UNPACKED).read_to_end(&mut unpacked)?;
        Ok(unpacked)
    };
    let (once, again) = (unpack(), unpack());
    match (&once, &again) {
        (Ok(once), Ok(again)) => assert!(once == again),
        (Err(once), Err(again)) => assert_eq!(once.to_string(), again.to_string()),
        _ => panic!("{once:?} and then {again:?}"),
    }
    once.is_ok()
}

/// A core: a signature, or a refusal that can be shown. Without names there is nothing strong.
pub fn core(data: &[u8]) -> bool {
    let mut file = tempfile::NamedTempFile::new().expect("a file for the core");
    file.write_all(data).expect("written");
    let core = match Core::open(file.path()) {
        Ok(core) => core,
        Err(error) => {
            assert!(error.to_string().len() < 4000, "{error}");
            return false;
        }
    };
    let traceback = Traceback::of(core, &Search::new("/nonexistent"), Detail::Lines);
    let signature = RULES.with(|rules| Signature::of(&traceback, rules));
    assert_eq!(signature.strength, Strength::Weak, "{}", signature.text);
    assert!(signature.text.starts_with("weak\nprogram "), "{}", signature.text);
    true
}

/// A kernel's log: the signature rests on nothing that differs between boots.
pub fn kernel_log(data: &[u8]) -> bool {
    let log = String::from_utf8_lossy(data);
    let crashes = kernel::crashes(&log);
    let later = log.lines().map(|line| format!("<4>[ 4711.000815] {}\n", without_level(line))).collect::<String>();
    let texts = |crashes: &[kernel::KernelCrash]| -> BTreeSet<(String, String)> {
        crashes.iter().map(|crash| (crash.text.clone(), crash.signature.clone())).collect()
    };
    assert_eq!(texts(&kernel::crashes(&later)), texts(&crashes));
    for crash in &crashes {
        assert!(crash.moment.as_ref().is_none_or(|moment| moment.starts_with('[') && moment.len() <= 1000));
        assert_eq!(crash.text.lines().next(), Some(crash.strength.name()));
    }
    if crashes.is_empty() {
        return false;
    }
    true
}

/// A line without the `<4>` that pstore puts before it.
fn without_level(line: &str) -> &str {
    let level = line.strip_prefix('<').and_then(|line| line.split_once('>'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    level.filter(|(level, _)| is_number(level)).map_or(line, |(_, rest)| rest)
}

/// Known crashes of another site: what is taken over is given to the next one the same, and teaches nothing when it comes back.
pub fn known(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(entries) = exchange::parse(text) else { return false };
    let given = exchange::export(&entries);
    let back = exchange::parse(&given).expect("what was written can be read");
    assert_eq!(exchange::export(&back), given);
    for entry in &entries {
        let same = back.iter().find(|other| other.signature == entry.signature).expect("nothing is lost");
        assert!(entry.count == 0 && entry.is_imported && same.text == entry.text);
    }
    !entries.is_empty()
}

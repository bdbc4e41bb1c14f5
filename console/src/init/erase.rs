//! Being told twice that the content of a disk may be lost.

use super::{answers::InitArgs, ask::Person, objection::Objection};
use std::path::{Path, PathBuf};

/// Makes sure that each of these devices may lose what it holds: by the flags, or typed at the terminal, twice each.
pub fn told_twice(
    to_erase: &[(PathBuf, String)],
    args: &InitArgs,
    person: &mut dyn Person,
) -> anyhow::Result<Vec<Objection>> {
    let mut objections = Vec::new();
    for (device, holds) in to_erase {
        let by_flags = args.erase && args.erase_confirm.iter().any(|named| is_same(named, device));
        if !by_flags && !typed(device, holds, person)? {
            let hint = format!(
                "check that it is the right disk; to lose what it holds, add: --erase --erase-confirm {}",
                device.display()
            );
            objections.push(Objection::new(format!("{} holds {holds}", device.display())).hint(hint));
        }
    }
    Ok(objections)
}

fn is_same(named: &Path, device: &Path) -> bool {
    named == device || std::fs::canonicalize(named).is_ok_and(|path| path == device)
}

fn typed(device: &Path, holds: &str, person: &mut dyn Person) -> anyhow::Result<bool> {
    let question = format!("{} holds {holds}. Type 'erase' if it may be lost:", device.display());
    if person.ask(&question)?.as_deref() != Some("erase") {
        return Ok(false);
    }
    let again = person.ask("Once more, to be sure: type the name of the disk that is erased:")?;
    Ok(again.is_some_and(|name| Path::new(&name) == device))
}

#[cfg(test)]
mod tests {
    use super::{
        super::ask::{Nobody, testing::Scripted},
        *,
    };

    fn disk() -> Vec<(PathBuf, String)> {
        vec![("/dev/vdb".into(), "ext4 'books'".into())]
    }

    fn flags(erase: bool, confirm: &[&str]) -> InitArgs {
        let erase_confirm = confirm.iter().map(PathBuf::from).collect();
        InitArgs { erase, erase_confirm, ..InitArgs::default() }
    }

    #[test]
    fn one_flag_alone_or_another_disks_name_erases_nothing() {
        for args in [flags(false, &[]), flags(true, &[]), flags(true, &["/dev/vdc"]), flags(false, &["/dev/vdb"])] {
            let objections = told_twice(&disk(), &args, &mut Nobody).unwrap();
            assert_eq!(objections[0].what, "/dev/vdb holds ext4 'books'");
            assert!(objections[0].hints[0].contains("--erase --erase-confirm /dev/vdb"));
        }
        assert!(told_twice(&disk(), &flags(true, &["/dev/vdb"]), &mut Nobody).unwrap().is_empty());
    }

    #[test]
    fn at_a_terminal_the_word_and_the_name_are_typed() {
        for (answers, is_told) in [
            (vec!["erase", "/dev/vdb"], true),
            (vec!["erase", "/dev/vdc"], false),
            (vec!["erase", ""], false),
            (vec!["y"], false),
        ] {
            let mut person = Scripted { answers, ..Scripted::default() };
            let objections = told_twice(&disk(), &InitArgs::default(), &mut person).unwrap();
            assert_eq!(objections.is_empty(), is_told, "{:?}", person.asked);
        }
    }
}

//! What could get at the disks before atlas-boot has decided, or beside it: mdadm's configuration, and a hibernated system that wakes.

use super::check::{Finding, WARNING};
use anyhow::Context;
use atlas_host::{durable, tree::Dir};
use atlas_model::{
    md::MdUuid,
    mdadm_conf::{self, PLACES},
};
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// All that is to be said of it; `sets` are the arrays that are Unbound sets.
pub(super) fn findings(root: &Path, sets: &[MdUuid]) -> Vec<Finding> {
    vec![mdadm(root, sets), hibernation(root)]
}

/// The lines of mdadm's configuration that start an Unbound set, with the file of each.
pub(super) fn lines_that_start_a_set(root: &Path, sets: &[MdUuid]) -> Vec<(PathBuf, Vec<String>)> {
    let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let lines = files(root).into_iter().map(|path| {
        let lines = mdadm_conf::starts_ours(&text(&path), sets);
        (path, lines)
    });
    lines.filter(|(_, lines)| !lines.is_empty()).collect()
}

/// Every file that mdadm reads.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = PLACES.iter().map(|place| root.join(place)).collect();
    for place in PLACES {
        let dir = std::fs::read_dir(root.join(format!("{place}.d"))).into_iter().flatten().flatten();
        files.extend(dir.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "conf")));
    }
    files
}

fn mdadm(root: &Path, sets: &[MdUuid]) -> Finding {
    let about = "mdadm";
    let found = lines_that_start_a_set(root, sets);
    let Some((file, lines)) = found.first() else {
        return Finding::well(about, "its configuration starts no Unbound set");
    };
    let file = file.strip_prefix(root).unwrap_or(file).display();
    let found = format!(
        "/{file} has 'mdadm --assemble --scan' start the Unbound set, even one that was refused: {}",
        lines.join("; ")
    );
    Finding::well(WARNING, found).remedy("atlas init turns the line into a comment")
}

/// Turns the lines that start a set into comments.
pub(super) fn comment_out(root: &Path, sets: &[MdUuid]) -> anyhow::Result<()> {
    for (path, _) in lines_that_start_a_set(root, sets) {
        let doing = || format!("change {}", path.display());
        let text = std::fs::read_to_string(&path).with_context(doing)?;
        let mode = std::fs::metadata(&path).with_context(doing)?.permissions().mode();
        let (dir, name) = (path.parent().unwrap_or(root), path.file_name().unwrap_or_default());
        let new = mdadm_conf::with_ours_in_comments(&text, sets);
        durable::write(&Dir::open_root(dir)?, name, new.as_bytes(), mode & 0o777)?;
    }
    Ok(())
}

/// A system that wakes from hibernation goes on with the disks that it had: none of what atlas-boot decides is looked at.
fn hibernation(root: &Path) -> Finding {
    let about = "hibernation";
    let line = std::fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    let has = |word: &str| line.split_whitespace().any(|other| other == word);
    let resume = line.split_whitespace().find(|word| word.starts_with("resume=") && *word != "resume=");
    match resume {
        _ if has("nohibernate") || has("noresume") => {
            Finding::well(about, "the kernel neither hibernates nor wakes what did")
        }
        Some(word) => Finding::well(
            WARNING,
            format!(
                "'{word}' on the kernel's command line: early boot does not wake what hibernated, but the kernel itself does where the \
                 driver of that disk is built into it (Debian's are modules)"
            ),
        )
        .remedy("take it out of /etc/default/grub, and run 'update-grub'"),
        None => Finding::well(about, "early boot wakes nothing that hibernated"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: MdUuid = MdUuid([0x3a; 16]);

    fn server(files: &[(&str, &str)]) -> tempfile::TempDir {
        let tmp = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = tmp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        tmp
    }

    #[test]
    fn a_line_that_starts_the_set_is_found_and_commented_out_wherever_mdadm_reads_it() {
        for file in ["etc/mdadm/mdadm.conf", "etc/mdadm.conf", "etc/mdadm/mdadm.conf.d/arrays.conf"] {
            let by_uuid = server(&[(file, "ARRAY /dev/md127 UUID=3a3a3a3a:3a3a3a3a:3a3a3a3a:3a3a3a3a\n")]);
            let finding = mdadm(by_uuid.path(), &[SET]);
            assert!(finding.about == WARNING && finding.found.contains(&format!("/{file} ")), "{finding:?}");
            assert_eq!(mdadm(by_uuid.path(), &[]).about, "mdadm", "of another set, nobody can know");
            comment_out(by_uuid.path(), &[SET]).unwrap();
            assert_eq!(mdadm(by_uuid.path(), &[SET]).about, "mdadm");
            assert!(std::fs::read_to_string(by_uuid.path().join(file)).unwrap().contains("#ARRAY /dev/md127"));
        }
        let other = server(&[
            ("etc/mdadm/mdadm.conf", "ARRAY /dev/md/0 UUID=01010101:01010101:01010101:01010101\n"),
            ("etc/mdadm/mdadm.conf.d/note", "ARRAY /dev/md/atlas-unbound\n"),
        ]);
        assert_eq!(mdadm(other.path(), &[SET]).about, "mdadm");
    }

    #[test]
    fn a_system_that_could_wake_is_reported() {
        let about = |line: &str| hibernation(server(&[("proc/cmdline", line)]).path()).about;
        assert_eq!(about("root=/dev/vda resume=/dev/vda2 quiet\n"), WARNING);
        for harmless in ["root=/dev/vda quiet\n", "resume=/dev/vda2 nohibernate\n", "resume=/dev/vda2 noresume\n"] {
            assert_eq!(about(harmless), "hibernation", "{harmless}");
        }
    }
}

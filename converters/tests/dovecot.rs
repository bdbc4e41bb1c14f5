//! Dovecot's files, converted, and what the other version's own `doveconf` says to them: in a root of that release, where the Verifier's corpus keeps
//! one (`$ATLAS_CACHE`, or `~/.cache/atlas`). Without one, or without the rights to mount, it is said what was not asked, and the rest is tested.
//!
//! ```text
//! tests/dovecot/NAME.conf        from 2.3, or from 2.4
//!                                base debian                       begin with the files that the release itself has
//!                                needs /usr/lib/dovecot/…          asked only in a root that has this
//!                                -- /etc/dovecot/… --              a file
//!                                -- says --                        lines of the other version's 'doveconf -n'
//!                                -- refused --                     or what it says, refusing
//!                                -- is /etc/dovecot/… --           lines of a file, converted
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use atlas_converters::{
    Direction, convert_tree,
    part::Part,
    program::Programs,
    residue::Residue,
    tree::{Tree, plain_meta},
};
use atlas_model::{TreePath, manifest::Meta};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

struct Case {
    name: String,
    direction: Direction,
    is_debian: bool,
    needs: Option<String>,
    files: BTreeMap<String, String>,
    says: Vec<String>,
    refused: Option<String>,
    is: BTreeMap<String, Vec<String>>,
}

fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dovecot");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| parse(path.file_stem().unwrap().to_str().unwrap(), &fs::read_to_string(path).unwrap()))
        .collect()
}

fn parse(name: &str, text: &str) -> Case {
    let mut case = Case {
        name: name.to_owned(),
        direction: Direction::Newer,
        is_debian: false,
        needs: None,
        files: BTreeMap::new(),
        says: vec![],
        refused: None,
        is: BTreeMap::new(),
    };
    let mut section = String::new();
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if let Some(begun) = bare.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) {
            begun.clone_into(&mut section);
            if section.starts_with('/') {
                case.files.insert(section.clone(), String::new());
            }
            continue;
        }
        match (section.as_str(), bare) {
            ("", "from 2.3" | "") => {}
            ("", "from 2.4") => case.direction = Direction::Older,
            ("", "base debian") => case.is_debian = true,
            ("", other) => match other.strip_prefix("needs ") {
                Some(path) => case.needs = Some(path.to_owned()),
                None => assert!(other.starts_with('#'), "{name}: {other}"),
            },
            ("says", line) => case.says.push(line.to_owned()),
            ("refused", line) => case.refused = Some(line.to_owned()),
            (section, line_of) => match section.strip_prefix("is ") {
                Some(path) => case.is.entry(path.to_owned()).or_default().push(line_of.to_owned()),
                None => case.files.get_mut(section).unwrap().push_str(line),
            },
        }
    }
    case.says.retain(|line| !line.is_empty());
    case
}

fn part() -> [Part; 1] {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("parts/Env3/dovecot.toml");
    [Part::parse("dovecot", &fs::read(file).unwrap()).unwrap()]
}

/// A root of a release with Dovecot, as the corpus keeps them.
fn root(release: &str) -> Option<PathBuf> {
    let of_user = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/atlas");
    let roots = std::env::var_os("ATLAS_CACHE").map_or_else(of_user, PathBuf::from).join("corpus-roots");
    let mut found: Vec<PathBuf> = fs::read_dir(roots).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    let fits = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&format!("{release}-")) && path.join("usr/bin/doveconf").exists()
    };
    found.into_iter().find(fits)
}

fn releases(direction: Direction) -> (&'static str, &'static str) {
    direction.order("bookworm", "trixie")
}

/// The tree of a case; `None` where it begins with files of a release that is not there.
fn tree(case: &Case) -> Option<Tree> {
    let mut files = BTreeMap::new();
    if case.is_debian {
        let etc = root(releases(case.direction).0)?.join("etc/dovecot");
        for dir in [etc.clone(), etc.join("conf.d")] {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(&etc).unwrap().display().to_string();
                if path.is_file() && (name.ends_with(".conf") || name.ends_with(".ext")) {
                    files.insert(format!("/etc/dovecot/{name}"), fs::read_to_string(&path).unwrap());
                }
            }
        }
    }
    files.extend(case.files.clone());
    let mut tree = Tree::default();
    for (path, text) in files {
        let meta = Meta { mode: 0o644, ..plain_meta() };
        tree.put(&TreePath::parse(&path).unwrap(), text.into_bytes(), Some(&meta));
    }
    tree.lists.insert("SyncFilePaths".into(), b"/etc/dovecot\n".to_vec());
    Some(tree)
}

fn texts(tree: &Tree) -> BTreeMap<String, String> {
    let files =
        tree.objects.keys().map(|path| (path.to_string(), tree.configuration(path).unwrap().unwrap_or_default()));
    files.collect()
}

/// What `doveconf -n` says in the root with these files, and whether it takes them.
fn doveconf(root: &Path, files: &BTreeMap<String, String>) -> Option<(bool, String)> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let at = dir.path().join("etc").join(path.strip_prefix("/etc/dovecot/").unwrap());
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    }
    // The root itself stays as it is: whatever is written goes to a file system in memory, which ends with the namespace.
    let script = "mkdir room && mount -t tmpfs room room && mkdir room/up room/work room/root \
         && mount -t overlay overlay -o lowerdir=\"$0\",upperdir=room/up,workdir=room/work room/root \
         && rm -rf room/root/etc/dovecot && cp -r etc room/root/etc/dovecot || exit 77\n\
         exec chroot room/root doveconf -n 2>&1";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(root)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(code) if code != 77 && !said.is_empty() => Some((code == 0, said)),
        _ => None,
    }
}

fn there(said: &str, line: &str) -> bool {
    said.lines().any(|one| one.trim() == line)
}

/// Converts a case, there and back, and asks the other version; what was not asked, and why, is no error.
fn check(case: &Case, part: &[Part], is_shown: bool) -> Result<Result<(), String>, String> {
    let Some(tree) = tree(case) else { return Ok(Err(format!("no root of {}", releases(case.direction).0))) };
    let convert = |tree: &Tree, kept: &Residue, direction| {
        convert_tree(part, tree, kept, direction, &Programs::none()).map_err(|error| error.to_string())
    };
    let (converted, residue, _) = convert(&tree, &Residue::default(), case.direction)?;
    let (again, _, left_out) = convert(&converted, &residue, case.direction.back())?;
    if again != tree || !left_out.is_empty() {
        return Err(format!("there and back it is another one: {left_out:?}"));
    }
    let files = texts(&converted);
    if is_shown {
        files
            .iter()
            .filter(|(path, _)| case.is_debian || case.files.contains_key(*path))
            .for_each(|(path, text)| println!("== {path}\n{text}"));
        residue.diffs().for_each(|(path, diff)| println!("== residue of {path}\n{}", String::from_utf8_lossy(diff)));
    }
    for (path, lines) in &case.is {
        let text = &files[path];
        if let Some(line) = lines.iter().find(|line| !line.is_empty() && !there(text, line)) {
            return Err(format!("{path} has no line {line:?}:\n{text}"));
        }
    }
    let release = releases(case.direction).1;
    let Some(root) = root(release) else { return Ok(Err(format!("no root of {release}"))) };
    if let Some(needs) = case.needs.as_ref().filter(|needs| !root.join(needs.trim_start_matches('/')).exists()) {
        return Ok(Err(format!("no {needs} in {}", root.display())));
    }
    let Some((takes, said)) = doveconf(&root, &files) else { return Ok(Err("no overlay can be mounted here".into())) };
    match &case.refused {
        Some(why) if takes || !said.contains(why.as_str()) => {
            return Err(format!("{why:?} is not why it is refused:\n{said}"));
        }
        None if !takes => return Err(format!("it is refused:\n{said}")),
        _ => {}
    }
    match case.says.iter().find(|line| !there(&said, line)) {
        Some(line) => Err(format!("{line:?} is not said:\n{said}")),
        None => Ok(Ok(())),
    }
}

#[test]
fn the_other_versions_own_doveconf_takes_what_was_converted_and_means_the_same() {
    let (part, only) = (part(), std::env::var("CASE").ok());
    let (mut asked, mut wrong) = (0, vec![]);
    for case in cases().iter().filter(|case| only.as_ref().is_none_or(|only| case.name.contains(only.as_str()))) {
        match check(case, &part, only.is_some()) {
            Ok(Ok(())) => asked += 1,
            Ok(Err(why)) => println!("skipped: {}: {why}", case.name),
            Err(why) => wrong.push(format!("{}: {why}", case.name)),
        }
    }
    println!("{asked} asked of doveconf");
    assert!(wrong.is_empty(), "{} of them are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

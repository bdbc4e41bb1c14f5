//! Which rule made the line that a program of the other version complains of.
//!
//! ```text
//!  PRI/Env3 ── rule by rule ──► PRI/Env2      what each rule changed, of which file, and the lines that it put there
//!  "/etc/ssh/sshd_config line 12: Bad …"  ──► the rule of that line; else the rules of that file
//! ```

use crate::{Converter, Direction, Error, command::explain_rule, program::Programs, rule, snapshot, tree::Tree};
use atlas_host::tree::Dir;
use atlas_model::{TreePath, manifest::FileSet};
use std::collections::BTreeSet;

/// As many rules are named.
const NAMED: usize = 3;
/// A file with more lines is not compared line by line.
const MAX_LINES: usize = 100_000;

/// What one rule did to one file.
struct Step {
    path: TreePath,
    rule: String,
    /// The lines that it put there.
    lines: BTreeSet<String>,
}

/// The rules that a complaint is about, in words; none where no rule has touched what it names.
pub(crate) fn rules_of(
    converter: &Converter,
    from: &Dir,
    direction: Direction,
    programs: &Programs,
    complaint: &str,
) -> Result<Vec<String>, Error> {
    let manifest = snapshot::manifest(from)?;
    let mut tree = snapshot::read(from, &manifest, FileSet::Sync)?;
    let steps = steps(converter, &mut tree, direction, programs)?;
    let mut named: Vec<String> = vec![];
    for step in steps.iter().filter(|step| complaint.contains(&step.path.to_string())) {
        let line = line_of(complaint, &step.path, &tree)?;
        if line.is_none_or(|line| step.lines.contains(line.trim())) && !named.contains(&step.rule) {
            named.push(step.rule.clone());
        }
    }
    named.truncate(NAMED);
    Ok(named)
}

fn steps(
    converter: &Converter,
    tree: &mut Tree,
    direction: Direction,
    programs: &Programs,
) -> Result<Vec<Step>, Error> {
    let mut rules: Vec<_> =
        converter.parts.iter().flat_map(|part| part.rules.iter().map(move |rule| (part, rule))).collect();
    if direction == Direction::Older {
        // Parts and the rules in each go the other way round.
        rules = converter
            .parts
            .iter()
            .rev()
            .flat_map(|part| part.rules.iter().rev().map(move |rule| (part, rule)))
            .collect();
    }
    let mut steps = vec![];
    for (part, one) in rules {
        let before = tree.clone();
        rule::apply_rule(one, tree, direction, programs)?;
        for (path, _) in tree.objects.iter().filter(|(path, object)| before.objects.get(path) != Some(object)) {
            let old = lines(&before, path)?;
            let lines = lines(tree, path)?.difference(&old).cloned().collect();
            let rule = format!("rule '{}' of part '{}'", explain_rule(one), part.name);
            steps.push(Step { path: path.clone(), rule, lines });
        }
    }
    Ok(steps)
}

fn lines(tree: &Tree, path: &TreePath) -> Result<BTreeSet<String>, Error> {
    let text = tree.configuration(path)?.unwrap_or_default();
    Ok(text.lines().take(MAX_LINES).map(|line| line.trim().to_owned()).collect())
}

/// The line whose number stands behind the file's name in a complaint: `FILE:12`, `FILE line 12`, `FILE: 12`.
fn line_of(complaint: &str, path: &TreePath, tree: &Tree) -> Result<Option<String>, Error> {
    let Some((_, rest)) = complaint.split_once(&path.to_string()) else { return Ok(None) };
    let rest = rest.trim_start_matches([':', ' ', ',', '"', '\'', '(']);
    let rest = rest.strip_prefix("line ").unwrap_or(rest);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let Some(index) = rest[..digits].parse::<usize>().ok().and_then(|number| number.checked_sub(1)) else {
        return Ok(None);
    };
    let text = tree.configuration(path)?.unwrap_or_default();
    Ok(text.lines().nth(index).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        part::Part,
        tree::{Object, plain_meta},
    };
    use atlas_model::EnvVersion;

    #[test]
    fn a_complaint_names_the_rule_that_made_the_line() {
        let part = |name: &str, text: &str| Part::parse(name, text.as_bytes()).unwrap();
        let text = |older: &str, newer: &str| {
            format!(
                "format = 1\nabout = \"x\"\n[[text]]\nfiles = [\"/etc/a\"]\nolder = \"{older}\"\nnewer = \"{newer}\"\n"
            )
        };
        let converter = Converter {
            newer: EnvVersion::try_from(2).unwrap(),
            parts: vec![part("one", &text("Old1", "New1")), part("two", &text("Old2", "New2"))],
        };
        let mut tree = Tree::default();
        let path = TreePath::parse("/etc/a").unwrap();
        tree.objects.insert(path.clone(), Object::file(b"first\nNew1 x\nNew2 y\n".to_vec(), plain_meta()));
        let steps = steps(&converter, &mut tree, Direction::Older, &Programs::none()).unwrap();
        let made: Vec<(&str, Vec<&str>)> =
            steps.iter().map(|step| (step.rule.as_str(), step.lines.iter().map(String::as_str).collect())).collect();
        assert_eq!(made[0], ("rule '\"Old2\" ↔ \"New2\" in /etc/a' of part 'two'", vec!["Old2 y"]));
        assert_eq!(made[1].1, ["Old1 x"]);
        for (complaint, line) in [
            ("/etc/a line 2: Bad configuration option", Some("Old1 x")),
            ("unknown directive \"Old2\" in /etc/a:3", Some("Old2 y")),
            ("/etc/a: bad owner", None),
            ("elsewhere:2", None),
        ] {
            assert_eq!(line_of(complaint, &path, &tree).unwrap().as_deref(), line, "{complaint}");
        }
    }
}

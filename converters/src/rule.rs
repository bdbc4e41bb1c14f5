//! Applying rules to a tree.

use crate::{
    Direction, Error,
    part::{FileRule, KeyRule, LineRule, Made, Part, Pattern, Rule, TextRule},
    program::Programs,
    syntax::{self, Setting},
    transform,
    tree::{Object, Tree, plain_meta},
};
use atlas_model::{
    TreePath,
    manifest::{Kind, Meta},
    tree_path::{escape, unescape},
};
use regex_lite::Regex;
use std::{collections::BTreeMap, ffi::OsStr, os::unix::ffi::OsStrExt};

/// Applies a whole part in one direction.
pub(crate) fn apply(part: &Part, tree: &mut Tree, direction: Direction, programs: &Programs) -> Result<(), Error> {
    let of_part =
        |error: Error| Error::Part { part: part.name.clone(), direction: direction.name(), source: Box::new(error) };
    let mut one = |rule: &Rule| apply_rule(rule, tree, direction, programs).map_err(of_part);
    match direction {
        Direction::Newer => part.rules.iter().try_for_each(&mut one),
        Direction::Older => part.rules.iter().rev().try_for_each(&mut one),
    }
}

pub(crate) fn apply_rule(rule: &Rule, tree: &mut Tree, direction: Direction, programs: &Programs) -> Result<(), Error> {
    match rule {
        Rule::Move(older, newer) => {
            let (from, to) = direction.order(older, newer);
            move_path(tree, from, to);
            Ok(())
        }
        Rule::File(rule) => {
            file(rule, tree, direction);
            Ok(())
        }
        Rule::Text(rule) => text(rule, tree, direction),
        Rule::Key(rule) => key(rule, tree, direction),
        Rule::Line(rule) => lines(rule, tree, direction),
        Rule::Program(rule) => programs.run(rule, tree, direction),
        Rule::Transform(transform) => transform::apply(*transform, tree, direction),
    }
}

/// Moves an object with all that lies below it, in the lists and where links point to it. Where something lies at `to` already, both
/// versions' places are in use, and nothing is moved.
fn move_path(tree: &mut Tree, from: &TreePath, to: &TreePath) {
    let is_there = |object: &Object| object.kind != Kind::Absent;
    if tree.objects.iter().any(|(path, object)| path.is_within(to) && is_there(object)) {
        return;
    }
    let moving: Vec<TreePath> = tree.objects.keys().filter(|path| path.is_within(from)).cloned().collect();
    if moving.is_empty() {
        return;
    }
    let was_listed = tree.objects.contains_key(to);
    tree.objects.remove(to);
    let parent_meta = from.parent().and_then(|parent| tree.objects.get(&parent)?.kind.meta().cloned());
    for path in moving {
        let Some(new) = replanted(&path, from, to) else { continue };
        if let Some(object) = tree.objects.remove(&path) {
            tree.objects.insert(new, object);
        }
    }
    tree.map_lists(|line| {
        let Ok(path) = TreePath::parse(line) else { return Some(line.to_owned()) };
        match replanted(&path, from, to) {
            // The list names the new place already.
            Some(new) if was_listed && new == *to => None,
            Some(new) => Some(new.to_string()),
            None => Some(line.to_owned()),
        }
    });
    let links = tree.objects.values_mut().filter_map(|object| match &mut object.kind {
        Kind::Link { target, .. } => Some(target),
        _ => None,
    });
    for target in links {
        let path = unescape(target).and_then(|bytes| TreePath::new(&bytes).ok());
        if let Some(new) = path.and_then(|path| replanted(&path, from, to)) {
            *target = escape(new.as_path().as_os_str().as_bytes());
        }
    }
    fill_in_parents(tree, to, parent_meta.as_ref());
}

/// `path` with `to` in the place of `from`, if it is that or lies below it.
fn replanted(path: &TreePath, from: &TreePath, to: &TreePath) -> Option<TreePath> {
    let below = path.relative().strip_prefix(from.relative()).ok()?;
    below.iter().try_fold(to.clone(), |path, name: &OsStr| path.join(name).ok())
}

/// The directories above `path` that are part of the set, because something above them is listed, and are not there yet.
pub(crate) fn fill_in_parents(tree: &mut Tree, path: &TreePath, like: Option<&Meta>) {
    let mut path = path.clone();
    while let Some(parent) = path.parent() {
        let missing = tree.objects.get(&parent).is_none_or(|object| object.kind == Kind::Absent);
        if missing && tree.is_listed(&parent) {
            let meta = like.cloned().unwrap_or_else(|| Meta { mode: 0o755, ..plain_meta() });
            tree.objects.insert(parent.clone(), Object::plain(Kind::Dir { meta }));
        }
        path = parent;
    }
}

/// Makes for the older version what only that has, in a directory that is there and where nothing else lies; takes it away for the newer one, unless
/// somebody changed it.
fn file(rule: &FileRule, tree: &mut Tree, direction: Direction) {
    let made = match &rule.is {
        Made::File(content) => Object::file(content.clone().into_bytes(), plain_meta()),
        Made::Link(target) => {
            let target = escape(target.as_path().as_os_str().as_bytes());
            Object::plain(Kind::Link { target, meta: Meta { mode: 0o777, ..plain_meta() } })
        }
    };
    let is = tree.objects.get(&rule.path).map(|object| &object.kind).filter(|kind| **kind != Kind::Absent);
    let is_as_made = match (is, &made.kind) {
        (Some(Kind::File { sha256: is, .. }), Kind::File { sha256: made, .. }) => is == made,
        (Some(Kind::Link { target: is, .. }), Kind::Link { target: made, .. }) => is == made,
        _ => false,
    };
    let is_dir = |path: &TreePath| tree.objects.get(path).is_some_and(|object| matches!(object.kind, Kind::Dir { .. }));
    match direction {
        Direction::Newer if is_as_made => {
            tree.objects.remove(&rule.path);
            // What a list names itself is in the set, there or not.
            if tree.lists_itself(&rule.path) {
                tree.objects.insert(rule.path.clone(), Object::plain(Kind::Absent));
            }
        }
        Direction::Older if is.is_none() && rule.path.parent().as_ref().is_some_and(is_dir) => {
            tree.objects.insert(rule.path.clone(), made);
        }
        _ => {}
    }
}

/// Gives every file that fits, and is configuration, the new text that `change` makes of it.
pub(crate) fn each_text(tree: &mut Tree, files: &[Pattern], change: impl Fn(&str) -> String) -> Result<(), Error> {
    for path in tree.files(files) {
        let Some(text) = tree.configuration(&path)? else { continue };
        let changed = change(&text);
        if changed != text {
            tree.put(&path, changed.into_bytes(), None);
        }
    }
    Ok(())
}

fn text(rule: &TextRule, tree: &mut Tree, direction: Direction) -> Result<(), Error> {
    let (from, to) = direction.order(&rule.older, &rule.newer);
    each_text(tree, &rule.files, |text| text.replace(from, to))
}

fn lines(rule: &LineRule, tree: &mut Tree, direction: Direction) -> Result<(), Error> {
    let side = match direction {
        Direction::Newer => &rule.to_newer,
        Direction::Older => &rule.to_older,
    };
    let Some((matches, becomes)) = side else { return Ok(()) };
    each_text(tree, &rule.files, |text| {
        text.split_inclusive('\n').map(|line| replaced(line, matches, becomes)).collect()
    })
}

/// What becomes of a line; nothing where it is replaced by nothing.
fn replaced(line: &str, matches: &Regex, becomes: &str) -> String {
    let bare = line.strip_suffix('\n').unwrap_or(line);
    match matches.replace(bare, becomes) {
        std::borrow::Cow::Borrowed(_) => line.to_owned(),
        std::borrow::Cow::Owned(new) if new.is_empty() => new,
        std::borrow::Cow::Owned(new) => new + &line[bare.len()..],
    }
}

fn key(rule: &KeyRule, tree: &mut Tree, direction: Direction) -> Result<(), Error> {
    let values = rule.values.iter().map(|(older, newer)| direction.order(older.as_str(), newer.as_str()));
    let values: BTreeMap<&str, &str> = values.collect();
    for (older, newer) in &rule.names {
        // A setting that the version it comes from does not know is not there.
        let (Some(from), to) = direction.order(older, newer) else { continue };
        each_text(tree, &rule.files, |text| {
            syntax::change_settings(text, rule.syntax, rule.section.as_deref(), from, |setting: Setting| {
                Some(setting.renamed(to.as_ref()?, values.get(setting.value()).copied()))
            })
        })?;
    }
    Ok(())
}

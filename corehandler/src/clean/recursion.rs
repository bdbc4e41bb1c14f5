//! Recursion becomes one round of it, so that the depth, which depends on data and stack size, does not count.

use super::{DEFERRED, Kept};
use std::collections::{HashMap, HashSet};

/// A function is part of a deep recursion when it stands on the stack this often.
const RECURSION: usize = 10;

/// Leaves out rounds of recursion: going inwards, what comes back to a function begins there anew. Gives indices, innermost first.
///
/// What a panic deferred is no round of what panicked, and stays; where that repeats, it is told once.
pub(super) fn erase_loops(kept: &[Kept]) -> Vec<usize> {
    let mut parts: Vec<Vec<usize>> = vec![vec![]];
    let mut place: HashMap<&str, usize> = HashMap::new();
    let mut path: Vec<usize> = Vec::new();
    for (at, frame) in kept.iter().enumerate().rev() {
        if let Some(known) = place.get(&*frame.name).copied() {
            for removed in path.drain(known..) {
                place.remove(&*kept[removed].name);
            }
        }
        place.insert(&frame.name, path.len());
        path.push(at);
        if frame.is_deferring {
            end_part(&mut parts, std::mem::take(&mut path), kept);
            place.clear();
        }
    }
    end_part(&mut parts, path, kept);
    let mut path: Vec<usize> = parts.concat();
    path.reverse();
    path
}

/// Adds a part, in the place of the one before it where that is the same round once more.
fn end_part(parts: &mut Vec<Vec<usize>>, part: Vec<usize>, kept: &[Kept]) {
    let name = |at: &usize| kept[*at].name.replace(DEFERRED, "");
    let is_same = |last: &Vec<usize>| last.iter().map(name).eq(part.iter().map(name));
    if parts.last().is_some_and(is_same) {
        parts.pop();
    }
    parts.push(part);
}

/// A stack that ran over: which function touched the end is chance. What recurs counts, in the order in which it was entered.
pub(super) fn overflow(kept: &[Kept]) -> Vec<usize> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for frame in kept {
        *counts.entry(&*frame.name).or_default() += 1;
    }
    let Some(innermost) = kept.iter().position(|frame| counts[&*frame.name] >= RECURSION) else {
        return erase_loops(kept);
    };
    let first = kept.iter().rposition(|frame| counts[&*frame.name] >= RECURSION).unwrap_or(innermost);
    let mut seen: HashSet<&str> = HashSet::new();
    let mut path = Vec::new();
    for at in (innermost..kept.len()).rev() {
        let name = &*kept[at].name;
        if (at > first || counts[name] >= RECURSION) && seen.insert(name) {
            path.push(at);
        }
    }
    path.reverse();
    path
}

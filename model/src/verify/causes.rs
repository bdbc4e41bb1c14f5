//! Which fault follows from which: one root, one hint, and what falls with it listed below.
//!
//! ```text
//!  Findings, own and heard ─► sightings: each fault with its server, its check and who sees it
//!                             RULES: a fault of this kind ─► these checks fail, too ─► trees
//! ```
//!
//! Invariants: a consequence is listed below its cause and never left out; it has one cause, which is no consequence of it; where the cause is
//! gone, or is not known any more, what remains stands by itself. What only may follow ([`Rule::sure`]) does so from a cause that weighs
//! as much as it does itself, and is told to people as well.

use super::{Fault, Findings, Observed, SUMMED, Verdict, listed_by};
use crate::Role;

/// A kind of cause, and what follows from it. The first rule that fits a fault counts, so that the deepest causes come first.
#[derive(Debug)]
pub struct Rule {
    /// The check that finds the cause, and the kind of the fault; `*` for any.
    pub cause: (&'static str, &'static str),
    /// The checks that fail with it, and the kinds of their faults; `*` for any.
    pub then: &'static [(&'static str, &'static str)],
    /// Which of these.
    pub link: Link,
    /// Whether nobody needs to be told of the consequence, too.
    pub sure: bool,
}

/// What a cause and its consequence have in common, besides the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nothing more.
    Server,
    /// Whoever sees both, from another server.
    Observer,
    /// A service, package or unit that both concern.
    Concerns,
}

/// The rules. docs/verifier.md has them as a table.
pub const RULES: &[Rule] = &[
    // Who does not answer at all answers no check.
    rule(("serving", "nobody"), &[("*", "*")], Link::Observer, true),
    rule(("connectivity", "unreachable"), &[("*", "*")], Link::Observer, true),
    // A program that is not installed has no unit, no port and no answer.
    rule(("packages", "package"), &[("*", "*")], Link::Concerns, true),
    rule(("services", "package"), &[("*", "*")], Link::Concerns, true),
    rule(("cold-boot", "package"), &[("*", "*")], Link::Concerns, true),
    // What was changed by hand breaks what it is of.
    rule(("drift", "*"), &[("*", "*")], Link::Concerns, false),
    // A disk that fails takes its file system with it.
    rule(("raid", "*"), &[("disk", "*"), ("gate", "*"), ("verifier", "unbound")], Link::Server, false),
    // Nothing can be written.
    rule(("disk", "read-only"), WRITERS, Link::Server, false),
    rule(("disk", "full"), WRITERS, Link::Server, false),
    // Nobody may go where programs need to.
    rule(("boot", "mode"), SERVED, Link::Server, false),
    rule(("boot", "driver"), &[("atlas", "*")], Link::Server, false),
    rule(("boot", "hook"), &[("atlas", "*")], Link::Server, false),
    // PRI comes as root.
    rule(
        ("identity", "login"),
        &[("cycle", "*"), ("synchronizer", "cycle"), ("synchronizer", "late")],
        Link::Server,
        false,
    ),
    // Two servers with one address answer each other's clients.
    rule(("identity", "address"), &[("connectivity", "*"), ("gate", "*"), ("verifier", "silent")], Link::Server, false),
    rule(("cold-boot", "road"), &[("connectivity", "*")], Link::Server, false),
    // A clock that is wrong spoils what compares times.
    rule(("verifier", "clock"), DATED, Link::Server, false),
    rule(("time", "clock"), DATED, Link::Server, false),
    // What a package brings along: its units, its accounts, what its files need.
    rule(("packages", "package"), BROUGHT, Link::Server, false),
    rule(("cold-boot", "package"), BROUGHT, Link::Server, false),
    // A unit that lacks what it names, or is another than PRI's.
    rule(("units", "unit"), &[("*", "*")], Link::Concerns, false),
    rule(("units", "circle"), &[("*", "*")], Link::Concerns, false),
    rule(("units", "masked"), &[("*", "*")], Link::Concerns, false),
    rule(("units", "disabled"), &[("*", "*")], Link::Concerns, false),
    rule(("cold-boot", "unit-file"), &[("*", "*")], Link::Concerns, false),
    rule(("cold-boot", "unit-path"), &[("*", "*")], Link::Concerns, false),
    // An application that may not use its data answers its clients with an error.
    rule(("cold-boot", "owner"), SERVED, Link::Server, false),
    rule(("cold-boot", "unit-path"), SERVED, Link::Server, false),
    rule(("units", "unit"), SERVED, Link::Server, false),
    // Whose program, directory or configuration is broken does not run; who does not run does not answer.
    rule(("services", "directory"), &[("*", "*")], Link::Concerns, false),
    rule(("services", "configuration"), &[("*", "*")], Link::Concerns, false),
    rule(("services", "stopped"), &[("*", "*")], Link::Concerns, true),
    rule(("services", "address"), &[("*", "*")], Link::Concerns, true),
    rule(("services", "firewall"), &[("*", "*")], Link::Concerns, true),
    rule(("system", "unit"), &[("*", "*")], Link::Concerns, false),
    // What a cycle said is said by the server itself as well.
    rule(("synchronizer", "stopped"), &[("synchronizer", "late")], Link::Server, true),
    rule(("cycle", "*"), &[("synchronizer", "cycle")], Link::Server, true),
];

const WRITERS: &[(&str, &str)] = &[("*", "")];
const SERVED: &[(&str, &str)] = &[
    ("web", "*"),
    ("mail", "*"),
    ("samba", "*"),
    ("postgresql", "*"),
    ("mariadb", "*"),
    ("services", "stopped"),
    ("system", "unit"),
];
const DATED: &[(&str, &str)] = &[("ntp", "*"), ("time", "*"), ("synchronizer", "*"), ("web", "*"), ("samba", "*")];
const BROUGHT: &[(&str, &str)] =
    &[("cold-boot", "package"), ("cold-boot", "unit"), ("cycle", "*"), ("synchronizer", "cycle"), ("system", "unit")];

const fn rule(
    cause: (&'static str, &'static str),
    then: &'static [(&'static str, &'static str)],
    link: Link,
    sure: bool,
) -> Rule {
    Rule { cause, then, link, sure }
}

/// One fault, where it is and who sees it.
#[derive(Clone, Debug)]
pub struct Sighting<'f> {
    /// Who sees it.
    pub by: Role,
    /// By which check.
    pub observed: &'f Observed,
    /// What is wrong.
    pub fault: Fault,
    is_stale: bool,
}

/// All faults that are known, and which follows from which.
#[derive(Debug)]
pub struct Causes<'f> {
    all: Vec<Sighting<'f>>,
    /// For each: its cause, and the rule.
    causes: Vec<Option<(usize, &'static Rule)>>,
}

/// A fault that follows from no other, and what follows from it.
#[derive(Debug)]
pub struct Root<'c, 'f> {
    /// The fault. Those of the same kind that one check found at once are one.
    pub fault: Fault,
    /// What it is made of.
    pub parts: Vec<&'c Fault>,
    /// Where it is, and who sees it.
    pub at: &'c Sighting<'f>,
    /// What follows from it, directly or not; and whether that is sure.
    pub follows: Vec<(&'c Sighting<'f>, bool)>,
}

impl Findings {
    /// Relates all faults that this server knows of.
    pub fn causes(&self) -> Causes<'_> {
        let own = self.observed.iter().map(|observed| (self.role, observed));
        let heard =
            self.heard.iter().filter(|heard| heard.silent.is_none()).filter_map(|heard| heard.findings.as_deref());
        let others = heard.flat_map(|said| said.observed.iter().map(|observed| (said.role, observed)));
        let all: Vec<Sighting<'_>> =
            own.chain(others).flat_map(|(by, observed)| sightings(by, observed, self.time)).collect();
        let mut causes = vec![None; all.len()];
        for rule in RULES {
            let is_cause = |one: &usize| !all[*one].is_stale && fits(&all[*one], rule.cause);
            for cause in (0..all.len()).filter(is_cause) {
                for one in 0..all.len() {
                    let follows = causes[one].is_none()
                        && !leads_to(&causes, cause, one)
                        && rule.then.iter().any(|then| fits(&all[one], *then))
                        && rule.relates(&all[cause], &all[one]);
                    if follows {
                        causes[one] = Some((cause, rule));
                    }
                }
            }
        }
        Causes { all, causes }
    }
}

/// Whether `from`, its cause, or the cause of that, is `to`.
fn leads_to(causes: &[Option<(usize, &'static Rule)>], from: usize, to: usize) -> bool {
    let mut at = Some(from);
    while let Some(one) = at {
        if one == to {
            return true;
        }
        at = causes[one].map(|(cause, _)| cause);
    }
    false
}

fn fits(sighting: &Sighting<'_>, (service, kind): (&str, &str)) -> bool {
    (service == "*" || sighting.observed.service == service) && (kind == "*" || sighting.fault.kind == kind)
}

impl Rule {
    fn relates(&self, cause: &Sighting<'_>, then: &Sighting<'_>) -> bool {
        let concerns = |name: &String| then.fault.of.contains(name) || *name == then.observed.service;
        let is_linked = match self.link {
            Link::Server => true,
            Link::Observer => cause.by == then.by && Some(then.by) != then.observed.about,
            Link::Concerns => cause.fault.of.iter().any(concerns),
        };
        let weighs = self.sure || cause.fault.verdict.weight() >= then.fault.verdict.weight();
        // What one check found of one kind stands side by side.
        let is_beside = cause.fault.kind == then.fault.kind && cause.observed.key() == then.observed.key();
        is_linked
            && weighs
            && !is_beside
            && cause.observed.about.is_some()
            && cause.observed.about == then.observed.about
    }
}

/// The faults of one check. A check that names none has one; what it found besides those that it names is one, too.
fn sightings<'f>(by: Role, observed: &'f Observed, now: u64) -> Vec<Sighting<'f>> {
    let profile = &observed.profile;
    let weight = profile.verdict.weight();
    let mut faults = profile.faults.clone();
    if weight > faults.iter().map(|fault| fault.verdict.weight()).max().unwrap_or(0) {
        // As versions say it that name no faults.
        let kind = match observed.service.as_str() {
            "connectivity" if profile.verdict == Verdict::Unacceptable => "unreachable",
            _ if !profile.lacks.is_empty() => "package",
            _ => "",
        };
        let (what, hint) = (profile.summary.clone(), profile.hint.clone());
        faults.insert(0, Fault { verdict: profile.verdict, what, hint, kind: kind.into(), of: profile.lacks.clone() });
    }
    let is_stale = observed.is_stale(now);
    faults.into_iter().map(|fault| Sighting { by, observed, fault, is_stale }).collect()
}

impl Sighting<'_> {
    /// What to do, and on which server.
    pub fn hint(&self) -> Option<String> {
        self.fault.hint.as_deref().map(|hint| self.observed.placed(self.by, hint))
    }
}

impl Observed {
    /// What to do, said so that it can be read on any server: a hint of a server about itself is for its own shell.
    pub fn placed(&self, by: Role, hint: &str) -> String {
        let Some(about) = self.about else { return hint.to_owned() };
        match about == by {
            true if hint.starts_with("on ") || about == Role::Pri => hint.to_owned(),
            true => format!("on {about}: {hint}"),
            false => hint.replace("on that server:", &format!("on {about}:")),
        }
    }
}

impl<'f> Causes<'f> {
    /// The faults that no other causes, the weightiest first, each with what follows from it.
    pub fn roots(&self) -> Vec<Root<'_, 'f>> {
        let mut roots: Vec<(usize, Root<'_, 'f>)> = Vec::new();
        for (index, at) in self.all.iter().enumerate().filter(|(index, _)| self.causes[*index].is_none()) {
            let follows: Vec<_> =
                (0..self.all.len()).filter_map(|one| Some((&self.all[one], self.follows(one, index)?))).collect();
            let is_same = |root: &Root<'_, '_>| {
                (root.at.by, root.at.observed.key(), &root.fault.kind, root.fault.verdict)
                    == (at.by, at.observed.key(), &at.fault.kind, at.fault.verdict)
            };
            match roots.iter_mut().find(|(_, root)| !at.fault.kind.is_empty() && is_same(root)) {
                Some((_, root)) => {
                    root.parts.push(&at.fault);
                    root.follows.extend(follows);
                }
                None => roots.push((index, Root { fault: at.fault.clone(), parts: vec![&at.fault], at, follows })),
            }
        }
        for (_, root) in roots.iter_mut().filter(|(_, root)| root.parts.len() > 1) {
            root.fault = together(&root.parts, &root.at.observed.key());
        }
        roots.sort_by_key(|(index, root)| (std::cmp::Reverse(root.verdict().weight()), *index));
        roots.into_iter().map(|(_, root)| root).collect()
    }

    /// Whether `one` follows from `root`, and if so, whether that is sure.
    fn follows(&self, one: usize, root: usize) -> Option<bool> {
        let (mut at, mut sure) = (one, true);
        while let Some((cause, rule)) = self.causes[at] {
            (at, sure) = (cause, sure && rule.sure);
        }
        (at == root && at != one).then_some(sure)
    }

    /// The faults of a check, each with what it follows from and whether that is sure.
    pub fn of(&self, key: &str) -> impl Iterator<Item = (&Sighting<'f>, Option<(&Sighting<'f>, bool)>)> {
        let root = |index: usize| {
            let mut at = index;
            while let Some((cause, _)) = self.causes[at] {
                at = cause;
            }
            (at != index).then(|| (&self.all[at], self.follows(index, at).unwrap_or(false)))
        };
        let is_wanted = move |index: &usize| self.all[*index].observed.key() == key;
        (0..self.all.len()).filter(is_wanted).map(move |index| (&self.all[index], root(index)))
    }

    /// Whether all that `by` sees wrong there surely follows from something else.
    pub fn is_consequence(&self, by: Role, observed: &Observed) -> bool {
        let key = observed.key();
        let mut own = self.of(&key).filter(|(one, _)| one.by == by).peekable();
        own.peek().is_some() && own.all(|(_, cause)| cause.is_some_and(|(_, sure)| sure))
    }

    /// What follows from the faults of a check, and whether that is sure.
    pub fn below(&self, key: &str) -> impl Iterator<Item = (&Sighting<'f>, bool)> {
        let follows = move |one: usize| {
            let mut at = one;
            while let Some((cause, _)) = self.causes[at] {
                at = cause;
            }
            (self.all[at].observed.key() == key).then_some((&self.all[one], self.follows(one, at)?))
        };
        (0..self.all.len()).filter_map(follows)
    }
}

impl Root<'_, '_> {
    /// How bad, with all that follows from it.
    pub fn verdict(&self) -> Verdict {
        self.follows.iter().fold(self.fault.verdict, |worst, (one, _)| worst.or(one.fault.verdict))
    }

    /// What to do, and on which server.
    pub fn hint(&self) -> Option<String> {
        self.fault.hint.as_deref().map(|hint| self.at.observed.placed(self.at.by, hint))
    }
}

/// The command by which Debian gets what is missing.
const INSTALL: &str = "apt install ";

/// Several faults of one kind: `apt install a`, `apt install b` ─► `apt install a b`.
fn together(parts: &[&Fault], key: &str) -> Fault {
    let whole = Fault { of: parts.iter().flat_map(|part| part.of.clone()).collect(), ..parts[0].clone() };
    let mut what: Vec<&str> = parts.iter().take(SUMMED).map(|part| part.what.as_str()).collect();
    let more = format!("and {} more ({})", parts.len().saturating_sub(SUMMED), listed_by(key));
    what.extend((parts.len() > SUMMED).then_some(more.as_str()));
    let what = what.join("; ");
    let mut hints: Vec<&str> = Vec::new();
    for hint in parts.iter().filter_map(|part| part.hint.as_deref()).filter(|hint| !hint.is_empty()) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    let command = hints.first().and_then(|first| Some(first.split_at(first.find(INSTALL)? + INSTALL.len()).0));
    let names = |command: &str| hints.iter().map(|hint| hint.strip_prefix(command)).collect::<Option<Vec<_>>>();
    let hint = match command.and_then(|command| Some((command, names(command)?))) {
        Some((command, names)) => format!("{command}{}", names.join(" ")),
        None => hints.into_iter().take(SUMMED).collect::<Vec<_>>().join("; "),
    };
    Fault { what, hint: (!hint.is_empty()).then_some(hint), ..whole }
}

#[cfg(test)]
mod tests;

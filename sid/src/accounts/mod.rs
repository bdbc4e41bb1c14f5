//! Accounts: PRI's and this server's `/etc/passwd`, `/etc/group`, `/etc/shadow` and `/etc/gshadow`, merged.
//!
//! People must have the same numbers everywhere, because client data is owned by number. The accounts of packages must keep the numbers
//! that this server gave them, because its packages' files are owned by these. So a synchronised file of accounts is not copied but merged:
//!
//! | the account is | of people (1000-59999, 65536 and more) | of the system (all others) |
//! |---|---|---|
//! | on PRI and here | as it is on PRI | keeps its line; password and shell (a group: password and members) as on PRI |
//! | on PRI alone | added | added with PRI's number where that is free here; otherwise one of 100-999 gets one that is free on both, any other is a problem |
//! | here alone | removed | kept |
//!
//! Two names of one number on PRI are one account with two names: one that is added gets the number that the other has here.
//!
//! Lines for a directory service (`+@staff::::::`) stand at the end, as PRI has them.
//!
//! `shadow` and `gshadow` follow: a name has PRI's line where PRI has the account, its own otherwise. Primary groups are matched by name.
//!
//! Invariants: merging what was merged changes nothing; no name stands twice; nobody gets the number 0 but root, and whom PRI made another name of root; a file that is malformed
//! (an empty one is: it has no root) merges with nothing.

mod table;

#[cfg(test)]
mod tests;

pub use table::{BadAccounts, Which};

use crate::{layout::SidError, snapshot::Snapshot};
use atlas_host::tree::Dir;
use atlas_model::{
    Owners,
    manifest::{FileSet, Kind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use table::{Line, Table};

/// The contents of a server's files of accounts, as far as they are there (or, of PRI's, synchronised).
pub type Files = BTreeMap<Which, Vec<u8>>;

/// What came of merging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The files to install: those that PRI's side has.
    pub files: Files,
    /// What somebody may want to know.
    pub warnings: Vec<String>,
    /// What could not be done, and needs somebody.
    pub problems: Vec<String>,
}

/// Merges PRI's accounts into this server's.
///
/// # Errors
/// A file that is malformed on either side: then nothing may be installed.
pub fn merge(pri: &Files, here: &Files) -> Result<Merged, BadAccounts> {
    let pri = Side::read("PRI's", pri)?;
    let here = Side::read("this server's", here)?;
    let mut merge = Merge { pri: &pri, here: &here, merged: Merged::default(), kept: BTreeSet::new() };
    let groups = merge.groups();
    let users = merge.users(&groups);
    merge.secrets(Which::Shadow, &users, None);
    merge.secrets(Which::Gshadow, &groups, pri.table(Which::Group).is_some().then_some(&groups));
    for (which, table) in [(Which::Group, groups), (Which::Passwd, users)] {
        if pri.table(which).is_some() {
            merge.merged.files.insert(which, table.with_compat_of(pri.table(which)).to_file());
        }
    }
    Ok(merge.merged)
}

/// Whether a secondary's files say what PRI's do, by the rules of [`merge`]: merging would change nothing.
pub fn agree(pri: &Files, secondary: &Files) -> bool {
    let here = |which: &Which| secondary.get(which);
    merge(pri, secondary).is_ok_and(|merged| merged.files.iter().all(|(which, content)| here(which) == Some(content)))
}

/// The names of a server's accounts, by number; the first where a number has several. Lines that cannot be read are passed over.
pub fn owners(passwd: &[u8], group: &[u8]) -> Owners {
    let names = |content: &[u8]| {
        let mut names = BTreeMap::new();
        for line in content.split(|b| *b == b'\n') {
            let mut fields = line.split(|b| *b == b':').map(std::str::from_utf8);
            if let (Some(Ok(name)), Some(_), Some(Ok(number))) = (fields.next(), fields.next(), fields.next())
                && let Ok(number) = number.parse()
                && table::is_name(name)
            {
                names.entry(number).or_insert_with(|| name.to_owned());
            }
        }
        names
    };
    Owners { users: names(passwd), groups: names(group) }
}

/// [`owners`] of the server whose tree is `root`.
pub fn owners_of(root: &Dir) -> Result<Owners, SidError> {
    let files = read(root)?;
    let content = |which| files.get(&which).map_or(&[][..], Vec::as_slice);
    Ok(owners(content(Which::Passwd), content(Which::Group)))
}

/// The files of accounts of the server whose tree is `root`, as far as they are there.
pub fn read(root: &Dir) -> Result<Files, SidError> {
    let mut files = Files::new();
    for which in Which::ALL {
        if let Some(content) = root.read_if_there(&which.path()[1..], Which::MAX_SIZE)? {
            files.insert(which, content);
        }
    }
    Ok(files)
}

/// The files of accounts that a Snapshot synchronises.
pub fn in_snapshot(snapshot: &Snapshot) -> Result<Files, SidError> {
    let Some(copies) = snapshot.files(FileSet::Sync)? else { return Ok(Files::new()) };
    let listed = |which: &Which| {
        let mut entries = snapshot.manifest.of_set(FileSet::Sync);
        entries.any(|entry| entry.path.as_path() == Path::new(which.path()) && matches!(entry.kind, Kind::File { .. }))
    };
    let read = |which: Which| Ok((which, copies.read(&which.path()[1..], Which::MAX_SIZE)?));
    Which::ALL.into_iter().filter(listed).map(read).collect()
}

/// The numbers that packages give their accounts, as they come.
const OF_PACKAGES: std::ops::RangeInclusive<u32> = 100..=999;

/// Looks through this server's own file systems, and not through those of PRI's disks.
const FIND: &str = "find / /home /var /srv /opt -xdev";

/// Whether a number is one that people get.
fn is_person(number: u32) -> bool {
    (1000..=59_999).contains(&number) || number >= 65_536
}

fn with_number(line: &Line, number: u32) -> Line {
    let mut line = line.clone();
    line.set(2, number.to_string().as_bytes());
    line
}

/// The files of one server.
struct Side {
    tables: BTreeMap<Which, Table>,
}

impl Side {
    fn read(whose: &'static str, files: &Files) -> Result<Side, BadAccounts> {
        let read = |(which, content): (&Which, &Vec<u8>)| Ok((*which, Table::parse(whose, *which, content)?));
        Ok(Side { tables: files.iter().map(read).collect::<Result<_, _>>()? })
    }

    fn table(&self, which: Which) -> Option<&Table> {
        self.tables.get(&which)
    }

    fn lines(&self, which: Which) -> &[Line] {
        self.table(which).map_or(&[], Table::lines)
    }

    fn find(&self, which: Which, name: &str) -> Option<&Line> {
        self.table(which)?.find(name)
    }
}

struct Merge<'a> {
    pri: &'a Side,
    here: &'a Side,
    merged: Merged,
    /// Names of both sides that are not the same account; those here are left alone.
    kept: BTreeSet<(Which, String)>,
}

impl Merge<'_> {
    fn groups(&mut self) -> Table {
        let which = Which::Group;
        if self.pri.table(which).is_none() {
            return Table::of(self.here.lines(which).to_vec());
        }
        let (pri, here) = (self.pri, self.here);
        let is_here_alone = |name: &str| {
            here.find(Which::Passwd, name).is_some_and(|line| !is_person(line.number()))
                && pri.find(Which::Passwd, name).is_none()
        };
        let is_gone = |name: &str| {
            pri.table(Which::Passwd).is_some()
                && here.find(Which::Passwd, name).is_some_and(|line| is_person(line.number()))
                && pri.find(Which::Passwd, name).is_none()
        };
        let take = |own: &mut Line, of_pri: Option<&Line>| {
            let mut members = own.members();
            match of_pri {
                None => members.retain(|name| !is_gone(name)),
                Some(of_pri) => {
                    own.set(1, of_pri.field(1));
                    members.retain(|name| is_here_alone(name) && !of_pri.members().contains(name));
                    members.splice(0..0, of_pri.members());
                }
            }
            own.set_members(&members);
        };
        self.numbered(which, take, |line| Ok(line.clone()))
    }

    fn users(&mut self, groups: &Table) -> Table {
        let which = Which::Passwd;
        if self.pri.table(which).is_none() {
            return Table::of(self.here.lines(which).to_vec());
        }
        let theirs: BTreeMap<u32, &str> =
            self.pri.lines(Which::Group).iter().rev().map(|g| (g.number(), g.name())).collect();
        let take = |own: &mut Line, of_pri: Option<&Line>| {
            if let Some(of_pri) = of_pri {
                own.set(1, of_pri.field(1));
                own.set(6, of_pri.field(6));
            }
        };
        let adapt = |line: &Line| match theirs.get(&line.group()) {
            None => Ok(line.clone()),
            Some(name) => match groups.find(name) {
                None => Err(format!("its group {name} could not be added")),
                Some(group) => {
                    let mut line = line.clone();
                    line.set(3, group.number().to_string().as_bytes());
                    Ok(line)
                }
            },
        };
        self.numbered(which, take, adapt)
    }

    /// The rules of the table above, for a file with numbers. `take` gives a line here what PRI says of it, `adapt` fits a line of PRI in.
    fn numbered(
        &mut self,
        which: Which,
        take: impl Fn(&mut Line, Option<&Line>),
        adapt: impl Fn(&Line) -> Result<Line, String>,
    ) -> Table {
        let mut lines: Vec<Line> = Vec::new();
        let (pri, here) = (self.pri, self.here);
        for own in here.lines(which).iter().filter(|line| !is_person(line.number())) {
            let of_pri = pri.find(which, own.name());
            let mut line = own.clone();
            if of_pri.is_some_and(|of_pri| is_person(of_pri.number())) {
                self.same_name_other_account(which, own);
            } else {
                take(&mut line, of_pri);
                self.tell_other_number(which, own, of_pri);
            }
            lines.push(line);
        }
        let own_system: BTreeSet<String> = lines.iter().map(|line| line.name().to_owned()).collect();
        let mut taken: BTreeSet<u32> = lines.iter().map(Line::number).collect();
        let (people, system): (Vec<&Line>, Vec<&Line>) = pri
            .lines(which)
            .iter()
            .filter(|line| !own_system.contains(line.name()))
            .partition(|l| is_person(l.number()));
        for line in system.into_iter().chain(people) {
            let number = line.number();
            let fitted = if let Some(twin) = self.twin(which, line, &lines).filter(|_| !is_person(number)) {
                adapt(&with_number(line, twin))
            } else if is_person(number) || taken.insert(number) {
                adapt(line)
            } else {
                self.renumbered(which, line, &mut taken).and_then(|line| adapt(&line))
            };
            match fitted {
                Ok(line) => {
                    self.tell_other_number(which, &line, pri.find(which, line.name()));
                    lines.push(line);
                }
                Err(why) => self.merged.problems.push(format!("{} {} was not added: {why}", which.noun(), line.name())),
            }
        }
        self.tell_new_numbers(which, &lines);
        for own in
            here.lines(which).iter().filter(|line| is_person(line.number()) && pri.find(which, line.name()).is_none())
        {
            self.merged.warnings.push(format!("{} {} was removed: PRI does not have it", which.noun(), own.name()));
        }
        Table::of(lines)
    }

    /// A package's account on PRI whose number is another's here, with a number that neither server uses, as a package here would give it.
    fn renumbered(&self, which: Which, line: &Line, taken: &mut BTreeSet<u32>) -> Result<Line, String> {
        let number = line.number();
        let pris: BTreeSet<u32> = self.pri.lines(which).iter().map(Line::number).collect();
        let mut free = OF_PACKAGES.rev().filter(|number| !pris.contains(number) && !taken.contains(number));
        let free = free.next().filter(|_| OF_PACKAGES.contains(&number));
        let free = free.ok_or_else(|| format!("its number {number} is another's here"))?;
        taken.insert(free);
        Ok(with_number(line, free))
    }

    /// The number here of another name that PRI gives the same number, on purpose: also root's, as of toor.
    fn twin(&self, which: Which, line: &Line, placed: &[Line]) -> Option<u32> {
        let is_twin = |own: &&Line| {
            let of_pri = self.pri.find(which, own.name());
            of_pri.is_some_and(|of_pri| of_pri.number() == line.number() && of_pri.name() != line.name())
                && !self.kept.contains(&(which, own.name().to_owned()))
        };
        placed.iter().find(is_twin).map(Line::number)
    }

    fn same_name_other_account(&mut self, which: Which, own: &Line) {
        self.kept.insert((which, own.name().to_owned()));
        let (noun, name, number) = (which.noun(), own.name(), own.number());
        self.merged.problems.push(format!(
            "{noun} {name} is one of people on PRI and one of the system here (number {number}); it was left as it is here: give one of them another name"
        ));
    }

    fn tell_other_number(&mut self, which: Which, own: &Line, of_pri: Option<&Line>) {
        if let Some(of_pri) = of_pri.filter(|of_pri| of_pri.number() != own.number()) {
            self.merged.warnings.push(format!(
                "{} {} has the number {} on PRI and {} here: what it owns on the Unbound disks, this server takes for another's",
                which.noun(),
                own.name(),
                of_pri.number(),
                own.number()
            ));
        }
    }

    /// Who had another number here: what lies on this server's own disks keeps that, and is another's, or nobody's, from now on. Of several, all
    /// files are found before any is given away: one that was given, and is met again by a second name of it, would be taken for another's.
    fn tell_new_numbers(&mut self, which: Which, lines: &[Line]) {
        let was =
            |line: &Line| self.here.find(which, line.name()).map(Line::number).filter(|was| *was != line.number());
        let changed: Vec<(&str, u32, u32)> =
            lines.iter().filter_map(|line| Some((line.name(), was(line)?, line.number()))).collect();
        let (by, change) = if which == Which::Passwd { ("-uid", "chown -h") } else { ("-gid", "chgrp -h") };
        let told = changed.iter().map(|(name, was, is)| {
            format!("{} {name} had the number {was} here and has PRI's now, {is}", which.noun())
        });
        self.merged.warnings.extend(told);
        let commands = match &changed[..] {
            [] => return,
            [(name, was, _)] => format!("{FIND} {by} {was} -exec {change} {name} {{}} +"),
            all => {
                let find = all.iter().map(|(_, was, _)| format!("{FIND} {by} {was} -print0 > /root/of-{was}"));
                let give = all.iter().map(|(name, was, _)| format!("xargs -0r {change} {name} < /root/of-{was}"));
                find.chain(give).collect::<Vec<_>>().join("; ")
            }
        };
        self.merged.warnings.push(format!(
            "what those {}s had on this server's own disks is nobody's now, or another's; to be run once, in this order: {commands}",
            which.noun()
        ));
    }

    /// `shadow` or `gshadow`, for the names of `accounts`. `members`: the groups whose members the lines repeat.
    fn secrets(&mut self, which: Which, accounts: &Table, members: Option<&Table>) {
        if self.pri.table(which).is_none() {
            return;
        }
        let of = which.accounts();
        let is_pris = |name: &str| {
            self.pri.table(of).is_none_or(|table| table.find(name).is_some())
                && !self.kept.contains(&(of, name.to_owned()))
        };
        let mut lines = Vec::new();
        for account in accounts.lines() {
            let name = account.name();
            let of_pri = self.pri.find(which, name).filter(|_| is_pris(name));
            let Some(line) = of_pri.or_else(|| self.here.find(which, name)) else { continue };
            let mut line = line.clone();
            if let Some(group) = members.and_then(|groups| groups.find(name)) {
                line.set_members(&group.members());
            }
            lines.push(line);
        }
        self.merged.files.insert(which, Table::of(lines).with_compat_of(self.pri.table(which)).to_file());
    }
}

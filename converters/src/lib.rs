//! Converters: Snapshots from one EnvVersion to the next and back [190-201, 336-358].
//!
//! ```text
//!  /usr/lib/atlas/converters/Env2/ntp.toml …     the parts that ATLAS brings: what differs between Env1 and Env2, one file a service
//!  /opt/atlas/converters/Env2/…                  the site's own; one of the same name takes the place of ATLAS's, an empty one takes it away
//!
//!      PRI/Env2 ── parts, backwards ──► PRI/Env1          what no part touches is copied
//!               └─ what Env1 cannot express ─► PRI/Env1/Residue/Sync/Env2
//! ```
//!
//! Invariants:
//! - **new → old → new gives the same bytes.** Every conversion proves it for the tree at hand before it ends: it converts back, puts the residue
//!   back, and fails if anything differs ([`convert_tree`]). So it holds for every part, those of a site included.
//! - **Parts change a copy.** Rules and transforms are functions on a tree in memory; programs run confined ([`confine`]) under a deadline.
//! - **Whole or not at all.** A part that fails makes the conversion fail; its caller throws away what was begun.
//! - **The same Snapshot gives the same bytes and times**, so that nothing travels to a partner only because it was converted again.

pub mod args;
mod check;
mod command;
pub mod confine;
mod load;
pub mod part;
pub mod patch;
pub mod program;
pub mod residue;
mod rule;
pub mod snapshot;
mod syntax;
mod trace;
pub mod transform;
pub mod tree;

use atlas_host::{FileError, process::ProcessError, tree::Dir};
use atlas_model::{EnvVersion, TreePath};
use part::{BadPart, Part};
use program::Programs;
use residue::Residue;
use std::path::PathBuf;
use tree::Tree;

pub use command::{Args, as_confined, command, run, sync_converter};
pub use load::load;

/// Which way a Snapshot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the newer of the two versions.
    Newer,
    /// To the older.
    Older,
}

impl Direction {
    /// As it is written on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Newer => "newer",
            Direction::Older => "older",
        }
    }

    /// The other way.
    pub fn back(self) -> Direction {
        match self {
            Direction::Newer => Direction::Older,
            Direction::Older => Direction::Newer,
        }
    }

    /// What it comes from, and what it goes to.
    pub fn order<T>(self, older: T, newer: T) -> (T, T) {
        match self {
            Direction::Newer => (older, newer),
            Direction::Older => (newer, older),
        }
    }
}

/// Why a Snapshot could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system said no.
    #[error(transparent)]
    File(#[from] FileError),
    /// A part could not do its work.
    #[error("the part '{part}' cannot convert to the {direction} version")]
    Part {
        /// Its name.
        part: String,
        /// `older` or `newer`.
        direction: &'static str,
        /// The reason.
        #[source]
        source: Box<Error>,
    },
    /// A part file breaks a rule.
    #[error("{} is no part of a converter", path.display())]
    BadPart {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: BadPart,
    },
    /// The program of a part failed, or did not end.
    #[error(transparent)]
    Program(#[from] ProcessError),
    /// A part would have to look into too large a file.
    #[error("{path} is larger than the {} bytes that a part may look into", tree::MAX_TEXT)]
    TooLarge {
        /// The file.
        path: TreePath,
    },
    /// Something is not what it has to be.
    #[error("{0}")]
    Damaged(String),
    /// The way back would not give what was converted. Nothing that a part can do leads here; it is checked all the same.
    #[error("converted back, {} would not be as before", what.join(", "))]
    NotReversible {
        /// What would differ.
        what: Vec<String>,
    },
}

/// The converter between two neighbouring versions.
#[derive(Debug)]
pub struct Converter {
    /// The newer of the two.
    pub newer: EnvVersion,
    /// Its parts, by name.
    pub parts: Vec<Part>,
}

/// What a conversion did besides making the Snapshot.
#[derive(Debug, Default)]
pub struct Converted {
    /// What the version that was made cannot express; it is in the residue.
    pub lost: Vec<String>,
    /// Residue that no longer fits, because the older version's file was changed there.
    pub left_out: Vec<String>,
}

/// Converts one tree, with all parts and without any residue.
fn plain(parts: &[Part], tree: &Tree, direction: Direction, programs: &Programs) -> Result<Tree, Error> {
    let mut tree = tree.clone();
    let mut apply = |part: &Part| rule::apply(part, &mut tree, direction, programs);
    match direction {
        Direction::Newer => parts.iter().try_for_each(&mut apply)?,
        Direction::Older => parts.iter().rev().try_for_each(&mut apply)?,
    }
    Ok(tree)
}

/// Converts one tree: puts back what `kept` has of it, and gives the residue for the way back and what of `kept` no longer fits.
pub fn convert_tree(
    parts: &[Part],
    tree: &Tree,
    kept: &Residue,
    direction: Direction,
    programs: &Programs,
) -> Result<(Tree, Residue, Vec<String>), Error> {
    let mut converted = plain(parts, tree, direction, programs)?;
    let left_out = kept.apply(&mut converted)?;
    let back = plain(parts, &converted, direction.back(), programs)?;
    let residue = Residue::between(&back, tree)?;
    let mut again = back;
    residue.apply(&mut again)?;
    if again != *tree {
        return Err(Error::NotReversible { what: Residue::between(&again, tree)?.what() });
    }
    Ok((converted, residue, left_out))
}

impl Converter {
    /// Converts the Snapshot in `from` into the empty directory `to`. The residue of the other way, if there is some, is used up.
    pub fn convert(&self, from: &Dir, to: &Dir, direction: Direction, programs: &Programs) -> Result<Converted, Error> {
        let older = self.newer.older().ok_or_else(|| Error::Damaged("nothing is older than Env1".into()))?;
        let (is, becomes) = direction.order(older, self.newer);
        let manifest = snapshot::manifest(from)?;
        if manifest.env_version != is {
            let found = manifest.env_version;
            return Err(Error::Damaged(format!("{} is of {found}, not of {is}", from.shown().display())));
        }
        let mut done = Converted::default();
        for (set, name) in snapshot::SETS {
            let tree = snapshot::read(from, &manifest, set)?;
            let kept = snapshot::residue(from, name, becomes)?;
            let (converted, residue, left_out) = convert_tree(&self.parts, &tree, &kept, direction, programs)?;
            snapshot::write(&converted, to, set)?;
            snapshot::carry_residues(from, to, name, [is, becomes])?;
            snapshot::write_residue(&residue, to, name, is)?;
            done.lost.extend(residue.what());
            done.left_out.extend(left_out);
        }
        snapshot::still(to)?;
        Ok(done)
    }
}

//! The decision which disks are this server's Unbound set, from facts alone.
//!
//! md by itself is not careful enough: it starts two halves that were written apart as one array if their event counts agree, and
//! with two sets of one name the order of probing decides. So every member's superblock is looked at here, before anything is
//! started, and what is not beyond doubt is refused.
//!
//! ```text
//!   devices ──► ATLAS members by array UUID, and bare file systems   (what they are: by array name or file system label)
//!                 │  one device for each disk?       UnsupportedSet (multipath)
//!                 │  a bare file system: whole?      LostMirror
//!                 │  exactly one set?                NoUnboundSet, UnsupportedSet (by its name), TwoSets, MixedSets
//!                 │  each member once?               DuplicateMember
//!                 │  a plain mirror with ext4?       UnsupportedSet
//!                 │  one history?                    WrittenApart
//!                 │  every member it last had?       MissingMember
//!                 ▼
//!             SetChoice: the members to start from, those left out, degraded or not
//! ```
//!
//! Words: members are *fresh* when they have the end of the set's history, and *left behind* when the fresh ones went on without them.
//! `history.rs` says how that is told. Every refusal ends with all that is attached beside what it is about.

mod advice;
#[cfg(test)]
mod arrangements;
mod decision;
mod facts;
mod history;
mod inventory;
mod mirror;
mod single;
#[cfg(test)]
mod tests;
mod words;

pub use facts::{Controller, Device, Mapper, Mapping, Member, SetChoice, SetKind, Single, Survey, Trace};
pub use words::WHAT_A_SET_MAY_BE;

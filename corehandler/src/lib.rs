//! ssCoreHandler: from core file to signature, and what is done with it [401-406].
//!
//! The rule to hold: **one fault has one signature, on every server; two faults have two.** The steps, each a module:
//!
//! ```text
//! find       where the cores are
//! core_file  registers, mappings, memory          unpack  those that others packed, or put into a report
//! image      the ELF files that code came from
//! space      which file was mapped where, and whether the file on this disk is that one
//! unwind     the return addresses, and how each was found
//! traceback  their functions, and those that left by a jump            inline  those that were copied into others
//! clean      what is the same on every server, by the rules of rules.toml      names  demangling
//! signature  the SHA-256 of that
//! store      what is known of all faults   entry  of one of them   record  a traceback as it is kept
//! exchange   known signatures as text             report  a tar for a stranger
//! kernel     the kernel's own crashes
//! ```
//!
//! There is no debugger, no daemon and no need to be root. A server that has debug information names the functions that a compiler copied
//! into others; one that has none cannot. So a crash has a signature of all that is known and, where they differ, a plain one of what is known
//! everywhere; the store brings the two together.

pub mod clean;
pub mod command;
pub mod core_file;
pub mod entry;
pub mod exchange;
pub mod find;
pub mod image;
pub mod inline;
pub mod kernel;
pub mod names;
pub mod record;
pub mod report;
pub mod signature;
pub mod space;
pub mod store;
pub mod traceback;
pub mod unpack;
pub mod unwind;

pub use command::command;

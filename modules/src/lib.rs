//! `atlas-module`: versions of the programs side by side, switched by links, rolled back in a second [386-394].
//!
//! A module is programs and data files; the version is the end of every file's name. Any number of versions lie side by side. Links
//! choose which of them runs. Installing never changes what is there, so going back is only ever a change of links.
//!
//! ```text
//! /opt/atlas/
//!   bin/                                what runs
//!     ssSync     -> ./update/ssSync.v2
//!     ssSync.cfg -> ./update/ssSync.cfg.v2
//!     update     -> ../modules/update
//!     beta       -> ../modules/beta
//!     .history                          what was set, when, by whom (`history`)
//!   modules/
//!     update/  ssSync.v1  ssSync.v2  ssSync.cfg.v1  ssSync.cfg.v2
//!     beta/    ssSync.v3  ssSync.cfg.v3
//!     records/ ssSync.update.v1.toml …  what is installed: the module.toml of each package (`record`)
//!     trials/  ssSync.json              the starts of a version on trial (`trial`)
//!     staging/                          only while something is installed or removed (`install`)
//!     lock
//!   .bin-next/                          only while something is set (`links`)
//! ```
//!
//! Three renames make everything whole or nothing:
//!
//! | done | at the instant of | cut before it | cut after it |
//! |---|---|---|---|
//! | `set` | exchange of `bin` and `.bin-next` | the old version is set | the new one is set |
//! | `install` | rename of the record from `staging` to `records` | its files are taken back | it is installed |
//! | `remove` | rename of the record from `records` to `staging` | it is installed | its remaining files go |
//!
//! What a cut leaves beside these names is cleared by whatever changes something next, under the lock. Reading needs neither the lock
//! nor a writable disk.
//!
//! A program of a module finds its data files by its own version, not through the links: `/proc/self/exe` is `…/update/ssSync.v2`, so
//! its configuration is `ssSync.cfg.v2` beside it (`atlas_cli::version::own_file`). A switch under a running program is then none of its
//! concern.

pub mod alert;
pub mod args;
pub mod complete;
pub mod error;
pub mod formats;
pub mod history;
pub mod install;
pub mod links;
pub mod name;
pub mod pack;
pub mod package;
pub mod record;
pub mod run;
pub mod running;
pub mod signature;
pub mod store;
pub mod switch;
pub mod trial;
pub mod verify;
pub mod view;

pub use error::Error;

/// The command line, from which help, man page and completions are made.
pub fn command() -> clap::Command {
    <args::Args as clap::CommandFactory>::command()
}

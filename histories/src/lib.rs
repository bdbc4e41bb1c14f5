//! Every history of two servers and three disks, a few events long, with the product's own decisions.
//!
//! A scenario shows that one thing does not go wrong. Here a program makes up the scenarios: pull, push, boot, write, power cut, copy,
//! replace, init, join, accept, backup, in every order, and after each event the rules of `rules.rs` must hold.
//!
//! ```text
//!   world      disks with md's and ext4's superblocks, servers, and what only the model knows
//!   md         how md writes superblocks                    real_md holds it against a kernel
//!   event      what may happen, and what it does
//!   look       the disks of a server as a boot sees them    decide::find, decide::confirm
//!   boot       from there to a Role or a refusal            Worn::foreign_to, refuse::foreign_cluster
//!   rules      what must hold after each event
//!   beginning  what histories begin with
//!   explore    goes through all of them, and counts
//! ```
#![cfg(test)]

mod beginning;
mod boot;
mod event;
mod explore;
mod happen;
mod look;
mod md;
mod real_md;
mod rules;
mod world;

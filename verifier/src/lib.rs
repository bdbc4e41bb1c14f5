//! The Verifier: every service on every server is exercised all the time, so that "can I fail over now?" has an answer [413-466].
//!
//! ```text
//!  PRI, before each Snapshot                       every server, all the time
//!  ─────────────────────────                       ──────────────────────────
//!  VerifierControl setup                           VerifierControl
//!    VerifyServiceN setup ─► Found                   one thread per instance: VerifyServiceN verify ─► Profile
//!    test data placed, SyncFilePathsSvcN             results: since when, flapping, history ─► /run/atlas/verifier.json ─► atlas status
//!    /etc/atlas/verifier/Services.json               partners' findings, fetched and given ─► alerts
//!             └── synchronised with the rest ──────────────►
//! ```
//!
//! Invariants: a service that never answers holds up nobody but itself (each check is a process with a deadline); two checks of one instance
//! never run at once (one thread, one instance); what is not known is said to be unknown; nothing in client data is touched.

pub mod alerts;
pub mod board;
pub mod catalogue;
pub mod check;
pub mod cold_boot;
pub mod contract;
pub mod control;
mod drift;
pub mod exchange;
mod here;
mod installed;
pub mod keeper;
mod kept;
pub mod metrics;
pub mod orphaned;
mod pattern;
pub mod plugin;
pub mod results;
mod seen;
pub mod service;
pub mod services;
mod settable;
pub mod settings;
pub mod setup;
pub mod show;
pub mod store;
pub mod talk;

//! What changes on a secondary between two cycles, looked at by hand. All the time, a thread of VerifierControl watches: [`crate::drift`].

use crate::{drift, service::Service};
use atlas_model::verify::Found;

pub(super) const SERVICE: Service = Service {
    name: drift::NAME,
    about: "on a secondary: what the last cycle left is as it left it",
    interval: drift::INTERVAL,
    deadline: drift::INTERVAL,
    // No instance is run as a program: the thread tells.
    find: |_| Ok(Found { format: 1, ..Found::default() }),
    verify: |target| drift::look(&target.root),
};

//! The scenarios, in one table. A scenario tells a story with servers and disks, and asserts what is so inside the guests.

mod parts;

use crate::runner::{Scenario, Tier};

/// All there are, in the order in which they are run: the longest first, so that two at a time end together.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "content-moves-with-the-disk", tier: Tier::Fast, act: parts::content_moves_with_the_disk }];

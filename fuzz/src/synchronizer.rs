//! What must hold for everything that a partner may say, as `properties.rs` has it for the others; `synchronizer/tests/fuzz_seeds.rs` includes this
//! file. Whoever has a partner's key says what he likes.

use atlas_synchronizer::testing::hear_all;

/// A parser's properties as a function of the input; `true` where it parsed.
pub type Property = fn(&[u8]) -> bool;

/// Every target by its name, which is that of its folder below `seeds-synchronizer`, too.
pub const TARGETS: [(&str, Property); 1] = [("protocol", protocol)];

/// A conversation: what is heard can be said again, and why it ended can be shown.
pub fn protocol(data: &[u8]) -> bool {
    let (count, why) = hear_all(data);
    assert!(why.len() <= 4 * 2000 + 200, "a reason of {} bytes", why.len());
    assert!(!why.chars().any(char::is_control), "{why:?} moves the cursor");
    count > 0
}

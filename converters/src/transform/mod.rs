//! Changes that are too much for rules about lines, each a pair of pure functions on a tree.

mod accounts;
mod dovecot;
mod interfaces;
mod network;
mod nginx;

use crate::{Direction, Error, part::Transform, tree::Tree};

pub use interfaces::{parse as parse_interfaces, stanzas};
pub use network::parse as parse_network;

/// Applies one.
pub(crate) fn apply(transform: Transform, tree: &mut Tree, direction: Direction) -> Result<(), Error> {
    match (transform, direction) {
        (Transform::IfupdownNetworkd, Direction::Newer) => network::to_newer(tree),
        (Transform::IfupdownNetworkd, Direction::Older) => network::to_older(tree),
        (Transform::Accounts, Direction::Newer) => accounts::to_newer(tree),
        (Transform::Accounts, Direction::Older) => accounts::to_older(tree),
        // 'listen … http2' is read by the newer version, too.
        (Transform::Nginx, Direction::Newer) => nginx::to_newer(tree),
        (Transform::Nginx, Direction::Older) => nginx::to_older(tree),
        (Transform::Dovecot, Direction::Newer) => dovecot::to_newer(tree),
        (Transform::Dovecot, Direction::Older) => dovecot::to_older(tree),
    }
}

/// One file of nginx as versions before 1.25.1 read it, and as later ones do.
pub fn nginx(text: &str) -> (String, String) {
    (nginx::older(text), nginx::newer(text))
}

/// `dovecot.conf` and `dovecot-sql.conf.ext` as version 2.3 reads them, and as 2.4 does; `None` where their blocks do not close.
pub fn dovecot(main: &str, sql: &str) -> Option<[[String; 2]; 2]> {
    dovecot::both(main, sql)
}

//! The network interfaces of this machine, below everything that configures them.
//!
//! | module | gives |
//! |---|---|
//! | [`addresses`] | the addresses that the configuration of the network will take |
//! | [`probe`] | questions for addresses before they are taken, and who has them afterwards |
//! | [`packet`], [`arp`], [`ndp`] | the frames of these |
//! | [`cards`] | network cards, brought up without an address |
//! | [`gate`] | a lock on all interfaces: no frame leaves while it is closed |
//! | [`replica`] | a network of a program's own that looks like another server's |
//! | [`rtnetlink`] | the kernel's list of interfaces, and their queueing disciplines |

pub mod addresses;
pub mod arp;
pub mod cards;
pub mod gate;
pub mod ndp;
pub mod packet;
pub mod probe;
pub mod replica;
pub mod rtnetlink;

use crate::{FileError, process::ProcessError};
use std::io;

/// Something about the network that failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused a request, or gave no answer to it.
    #[error("the kernel does not {action}")]
    Kernel {
        /// `list the interfaces`, `hold eth0`, …
        action: String,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// There is no such interface.
    #[error("there is no network interface '{0}'")]
    NoInterface(String),
    /// A file that belongs to the gate.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program that was to help failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

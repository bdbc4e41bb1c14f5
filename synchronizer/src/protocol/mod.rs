//! What PRI and a secondary say to each other, over one ssh session in which PRI asks and the secondary answers [206-209, 320-324].
//!
//! ```text
//!   PRI (ssSync cycle)                                    SECn (ssSync serve, the forced command of PRI's key)
//!   Hello  who I am, who I take you for, our bond,  ──►   checks it
//!          digests of the identity that I wear
//!                                                   ◄──   Hello, or Refused
//!   checks it; Refused, or:
//!   Offer  generation, fingerprint                  ──►
//!                                                   ◄──   Have, or Want
//!   Snapshot + its description, for each version    ──►
//!                                                   ◄──   Need + digests
//!   the content, in that order                      ──►   verified, built beside, published at one instant
//!                                                   ◄──   Stored
//!   SyncUp                                          ──►   newer, install, create, older
//!                                                   ◄──   Working …, SyncedUp + report
//!   and now the same as above the other way round: the secondary offers its own Snapshots, PRI takes them
//!   Tie    the knot of this cycle                   ──►   remembers it
//!                                                   ◄──   Tied
//! ```
//!
//! Invariants: nothing is written on either side before both have checked the other's Hello. The secondary never asks for
//! anything: what it can read is what PRI offers. Either side may say Failed at any point, with a reason, and the conversation is over;
//! what was not published by then leaves no trace.

mod check;
#[cfg(feature = "testing")]
pub mod testing;
mod transfer;
mod wears;
mod wire;

pub(crate) use check::{check_partner, check_pri, introduce};
pub(crate) use transfer::{receive, send};
pub(crate) use wears::{Wears, in_common};
pub(crate) use wire::{Fault, Wire, due};

use atlas_model::cycle::SecondaryReport;
use atlas_model::{EnvVersion, Partner, Role};
use atlas_sid::{
    bond::{Bond, Knot},
    outgoing::Offer,
};
use serde::{Deserialize, Serialize};

/// The version of this protocol. A partner that speaks another one is refused by name.
pub(crate) const PROTOCOL: u32 = 1;

/// Who one is, and what one believes of the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// The program and its version.
    pub(crate) program: String,
    /// The cluster of the Unbound set.
    pub(crate) cluster: String,
    /// The speaker's Role.
    pub(crate) role: Role,
    /// Its partners, as its MasterConfig lists them.
    pub(crate) partners: Vec<Partner>,
    /// Whom it takes the other for.
    pub(crate) to: Role,
    /// Its Environment.
    pub(crate) env_version: EnvVersion,
    /// What it remembers of the other's disks.
    pub(crate) bond: Bond,
    /// Its clock, in seconds since 1970.
    pub(crate) clock: u64,
    /// The identity in place; a program of before says nothing of it, and is told nothing that it must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wears: Option<Wears>,
}

/// Everything that is said. Bytes follow where it says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(crate) enum Message {
    /// The first word of each side.
    Hello(Box<Hello>),
    /// The other is not who it should be. Nothing was written.
    Refused {
        /// The reason, for a person.
        why: String,
    },
    /// Something went wrong; the conversation is over.
    Failed {
        /// The reason, for a person.
        why: String,
    },
    /// What one has.
    Offer {
        /// See [`Offer`].
        offer: Offer,
    },
    /// The other has the same.
    Have,
    /// The other wants it.
    Want,
    /// One Snapshot; the bytes of these files follow, one after the other.
    Snapshot {
        /// Its version.
        env_version: EnvVersion,
        /// Names and sizes.
        files: Vec<(String, u64)>,
    },
    /// How much content is missing; that many digests of 32 bytes follow, and the content comes in that order.
    Need {
        /// The number of digests.
        count: u64,
    },
    /// It was received, checked and published.
    Stored,
    /// That was all: keep what was sent, and do nothing with it yet.
    Bye,
    /// Take over what was sent [208].
    SyncUp,
    /// It goes on.
    Working {
        /// With what.
        step: String,
    },
    /// It was taken over, as far as the report says.
    SyncedUp {
        /// What was done.
        report: Box<SecondaryReport>,
    },
    /// Remember this cycle as completed.
    Tie {
        /// Which.
        knot: Knot,
    },
    /// It is remembered.
    Tied,
}

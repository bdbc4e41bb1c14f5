//! Sites of all addresses, where some addresses have sites of their own: who comes by one of those meets none of the others.
//!
//! Partners know a server by one address, and that may be the one. They exercise such a site where they come by another; the server itself always
//! meets it, on an address of loopback that no site has.

use super::Site;
use crate::{
    service::{LOOPBACK, Target},
    services::found::is_loopback,
};
use atlas_model::verify::{At, Instance, Profile};
use std::{collections::BTreeMap, net::IpAddr};

/// The option that names the addresses at which other sites answer.
pub(super) const NOT_BY: &str = "not-by";
/// How many addresses of loopback are tried for one that no site has.
const MAX_LOOPBACK: u8 = 100;

/// Where a site of all addresses is not met.
#[derive(Debug)]
pub(super) struct Apart {
    pub(super) addresses: Vec<String>,
    /// Where the server itself meets it.
    loopback: String,
}

impl Apart {
    /// `None` where every partner meets the site, or none does.
    pub(super) fn of(site: &Site, apart: &[(String, u16)]) -> Option<Apart> {
        if !site.address.is_empty() || site.is_of_six {
            return None;
        }
        let mut all: Vec<String> = apart
            .iter()
            .filter(|(address, port)| *port == site.port && !address.is_empty())
            .map(|(address, _)| address.trim_matches(['[', ']']).to_owned())
            .collect();
        all.sort();
        all.dedup();
        let loopback = (1..MAX_LOOPBACK).map(|last| format!("127.0.0.{last}")).find(|one| !all.contains(one))?;
        let addresses: Vec<String> = all.into_iter().filter(|address| !is_loopback(address)).collect();
        (!addresses.is_empty()).then_some(Apart { addresses, loopback })
    }

    /// The same site, as the server itself meets it.
    pub(super) fn by_itself(&self, name: &str, options: &BTreeMap<String, String>) -> Instance {
        let mut options = options.clone();
        if self.loopback != "127.0.0.1" {
            options.insert(LOOPBACK.into(), self.loopback.clone());
        }
        Instance { name: format!("{name} on loopback"), options, at: At::Here }
    }
}

/// Why a site is not met by the address at which this server comes to it; `None` where it is.
pub(super) fn elsewhere(target: &Target) -> anyhow::Result<Option<Profile>> {
    let Some(others) = target.option(NOT_BY) else { return Ok(None) };
    let own = target.address()?;
    let is_there = others.split_whitespace().any(|other| other.parse::<IpAddr>() == Ok(own));
    Ok(is_there.then(|| {
        let what =
            format!("not exercised from here: at {own} another site answers; that server exercises this one itself");
        Profile::ok(what)
    }))
}

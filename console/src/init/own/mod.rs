//! An identity of this server's own, in the place of one that other disks have, too.
//!
//! A machine that was PRI keeps PRI's name, addresses and host keys on its own disk when the disks with the role are taken out. As another role, before
//! its first Snapshot, it would come up with them.
//!
//! ```text
//!   network files   the new one first, then those of before go to /opt/atlas/identity-before     cut off: the record still names the other role,
//!   name            /etc/hostname, the loopback lines of /etc/hosts                              and the same command does all of it again
//!   keys            /etc/ssh/ssh_host_*; /etc/machine-id where it was part of the identity
//!   flush ─ record  "own"
//! ```

pub mod addresses;
pub mod network;
pub mod write;

use super::ask::Person;
use crate::CalledWrongly;
use network::Address;
use std::{net::IpAddr, str::FromStr};

/// What the operator says of the identity in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is this server's own: no other server has it, or will.
    Keep,
    /// It gives way to this one.
    New(NewIdentity),
}

/// A name and addresses; host keys are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIdentity {
    /// The name.
    pub hostname: Hostname,
    /// The addresses.
    pub network: NewNetwork,
}

/// Where the addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewNetwork {
    /// They are written for the program that configures the network.
    Write {
        /// The addresses.
        addresses: Vec<Address>,
        /// The way to other networks, at most one of each family.
        gateways: Vec<IpAddr>,
    },
    /// The operator has configured them, or they come from a server that gives them out.
    Configured,
}

/// The name of one host: letters, digits and hyphens, at most 63, without a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = String;
    fn from_str(text: &str) -> Result<Hostname, String> {
        let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let shown = text.escape_debug();
        match text.split_once('.') {
            Some((name, domain)) if !name.is_empty() && !domain.is_empty() => {
                Err(format!("'{shown}' has a domain: give the name alone, as in {}", name.escape_debug()))
            }
            _ if text.eq_ignore_ascii_case("localhost") => Err("'localhost' is every server's name for itself".into()),
            _ if good && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-') => {
                Ok(Hostname(text.to_owned()))
            }
            _ => Err(format!("'{shown}' is not a host name (a-z, 0-9, '-', at most 63)")),
        }
    }
}

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OwnArgs {
    /// Give this server this name; and new ssh host keys, where it wears the identity of a role whose disks are elsewhere
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<Hostname>,
    /// … and this address, on this interface; @INTERFACE may be left out where there is only one
    #[arg(long = "address", value_name = "ADDRESS/LENGTH[@INTERFACE]", requires = "hostname")]
    pub addresses: Vec<Address>,
    /// … and this way to other networks
    #[arg(long = "gateway", value_name = "ADDRESS", requires = "addresses")]
    pub gateways: Vec<IpAddr>,
    /// … and leave the configuration of the network as it is: it has no address of another server any more
    #[arg(long, requires = "hostname", conflicts_with = "addresses")]
    pub addresses_are_own: bool,
    /// Keep name, addresses and host keys: no other server has them, or will
    #[arg(long, conflicts_with = "hostname")]
    pub keep_identity: bool,
}

impl OwnArgs {
    /// What they say.
    pub fn answer(&self) -> anyhow::Result<Option<Answer>> {
        let Some(hostname) = &self.hostname else { return Ok(self.keep_identity.then_some(Answer::Keep)) };
        let network = if self.addresses_are_own {
            NewNetwork::Configured
        } else if self.addresses.is_empty() {
            return Err(CalledWrongly("--hostname goes with --address, or with --addresses-are-own".into()).into());
        } else {
            NewNetwork::Write { addresses: self.addresses.clone(), gateways: self.gateways.clone() }
        };
        Ok(Some(Answer::New(NewIdentity { hostname: hostname.clone(), network })))
    }
}

/// Asks for a name and an address; `None` where nobody is there.
pub fn ask(person: &mut dyn Person, why: &str) -> anyhow::Result<Option<Answer>> {
    person.tell(&format!("{why}.\nIt needs a name and an address of its own; ssh host keys are made."));
    let Some(hostname) = super::ask::ask_for::<Hostname>(person, "Its name?", None)? else { return Ok(None) };
    let question = "Its address, as in 192.168.1.12/24 or 192.168.1.12/24@eth0?";
    let Some(address) = super::ask::ask_for::<Address>(person, question, None)? else { return Ok(None) };
    let gateway = loop {
        match person.ask("Its gateway (empty: none)?")? {
            None => return Ok(None),
            Some(text) if text.is_empty() => break None,
            Some(text) => match text.parse::<IpAddr>() {
                Ok(gateway) => break Some(gateway),
                Err(_) => person.tell(&format!("  '{}' is not an address", text.escape_debug())),
            },
        }
    };
    let network = NewNetwork::Write { addresses: vec![address], gateways: gateway.into_iter().collect() };
    Ok(Some(Answer::New(NewIdentity { hostname, network })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::ask::testing::Scripted;

    #[test]
    fn a_host_name_is_one_that_the_kernel_and_dns_take() {
        for good in ["sec1", "SEC-1", "1"] {
            assert_eq!(good.parse::<Hostname>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a..b",
            "sec1.bakery.example",
            "localhost",
            "LocalHost",
            "a b",
            "ä",
            &"a".repeat(65),
            "a_b",
            "a\nb",
        ] {
            assert!(bad.parse::<Hostname>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_is_asked_is_told_why_and_asked_again_for_what_is_none() {
        let answers = vec!["a b", "sec1", "192.168.1.12", "192.168.1.12/24", "none", "192.168.1.1"];
        let mut person = Scripted { answers, ..Scripted::default() };
        let Some(Answer::New(new)) = ask(&mut person, "it wears PRI's").unwrap() else { panic!("nothing") };
        assert_eq!(new.hostname.as_str(), "sec1");
        assert!(matches!(new.network, NewNetwork::Write { gateways, .. } if gateways.len() == 1));
        assert!(person.asked[0].contains("it wears PRI's"), "{:?}", person.asked);
    }
}

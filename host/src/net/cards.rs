//! The machine's network cards, and bringing them up so far that questions can be sent: without any address.

use super::{
    NetError,
    rtnetlink::{self, Rtnetlink},
};
use crate::FileError;
use atlas_model::address::{Link, Mac};
use std::path::PathBuf;

/// What the kernel makes of other interfaces, or of nothing: no wire of its own.
const NO_CARDS: [&str; 10] =
    ["bond", "bridge", "dummy", "ipvlan", "macvlan", "macvtap", "team", "tun", "vlan", "vxlan"];

/// A card as the rules about addresses know it; `None` where it is none that a frame can be sent on.
pub fn card(link: &rtnetlink::Link) -> Option<Link> {
    let made = link.kind.as_deref().is_some_and(|kind| NO_CARDS.contains(&kind));
    let mac = Mac(link.mac.filter(|_| !link.is_loopback && !made)?);
    mac.is_one_card().then(|| Link { name: link.name.clone(), index: link.index, mac })
}

/// A card that was brought up. It has no address, and takes none by itself before [`Raised::give_back`].
#[derive(Debug)]
pub struct Raised {
    setting: PathBuf,
    former: Option<Vec<u8>>,
}

/// Brings a card up. Unless it was up already, the kernel gives it no IPv6 address for now: what the kernel says to take one would be
/// lost while the gate is closed, and the address be taken unasked.
pub fn raise(kernel: &mut Rtnetlink, link: &rtnetlink::Link) -> Result<Option<Raised>, NetError> {
    if link.is_up {
        return Ok(None);
    }
    let setting = PathBuf::from(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", link.name));
    let mut raised = Raised { former: std::fs::read(&setting).ok().filter(|now| now.first() == Some(&b'0')), setting };
    if raised.former.is_some() && std::fs::write(&raised.setting, "1").is_err() {
        raised.former = None;
    }
    kernel.set_up(link.index, true).map_err(|source| {
        let _ = raised.give_back();
        NetError::Kernel { action: format!("bring {} up", link.name), source }
    })?;
    Ok(Some(raised))
}

impl Raised {
    /// Gives IPv6 back: the kernel begins with it as if the card had just come up.
    pub fn give_back(&self) -> Result<(), FileError> {
        match &self.former {
            Some(former) => std::fs::write(&self.setting, former).map_err(FileError::on("write", &self.setting)),
            None => Ok(()),
        }
    }
}

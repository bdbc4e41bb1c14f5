//! What must hold after each event.

use crate::{
    md::disks_of,
    world::{Fault, Power, Role, SERVERS, World},
};
use atlas_model::RefusalCode;

/// No two servers send from the addresses of one identity, nor as PRI of one cluster.
pub(crate) fn one_primary(world: &World) -> bool {
    let [Some(one), Some(two)] = world.servers.map(|server| server.running().copied().filter(|running| running.open))
    else {
        return true;
    };
    if one.address_accepted || two.address_accepted {
        return true;
    }
    let both_primary = one.role == Role::Pri && two.role == Role::Pri && one.cluster == two.cluster;
    !both_primary && world.servers[0].worn != world.servers[1].worn
}

/// A server that sends wears the identity of the set that it runs, or one that no other set has.
pub(crate) fn right_identity(world: &World) -> bool {
    (0..SERVERS).all(|server| {
        let this = &world.servers[server];
        let Some(running) = this.running().filter(|running| running.open) else { return true };
        let owner = world.known.owner[this.worn as usize];
        match world.mounted(server).map(|data| data.snapshot) {
            Some(Some(ident)) => this.worn == ident,
            _ => owner.is_none_or(|set| set == running.set),
        }
    })
}

/// Only a server that has its disks sends.
pub(crate) fn nobody_sends_without_disks(world: &World) -> bool {
    (0..SERVERS).all(|server| !world.servers[server].sends() || world.mounted(server).is_some())
}

pub(crate) fn no_write_is_lost(world: &World) -> bool {
    world.known.fault != Some(Fault::LostWrite)
}

pub(crate) fn nothing_is_mixed(world: &World) -> bool {
    world.known.fault != Some(Fault::Mixed)
}

pub(crate) fn slow_disks_change_nothing(world: &World) -> bool {
    world.known.fault != Some(Fault::Hasty)
}

/// After a refusal nothing runs that somebody could mount, but for a set that was decided on, where only the addresses are another's.
pub(crate) fn a_refusal_leaves_nothing_running(world: &World) -> bool {
    world.servers.iter().all(|server| match server.power {
        Power::Refused { code, started, .. } => started == 0 || code == RefusalCode::AddressInUse,
        _ => true,
    })
}

pub(crate) fn no_refusal_is_needless(world: &World) -> bool {
    world.known.fault != Some(Fault::Needless)
}

impl World {
    /// Whether a server has all that a set last consisted of, and at most disks that were left behind in the same line of writes: nothing is
    /// wrong with these disks.
    pub(crate) fn has_all_of_one_set(&self, server: usize) -> bool {
        let disks = self.in_bays(server);
        let all = || disks_of(disks).filter_map(|disk| self.disks[disk].data());
        let Some(branch) = all().map(|data| data.branch).max() else { return false };
        let holders = self.known.holders[branch as usize];
        let one_line = all().all(|data| data.branch == branch);
        let members = || disks_of(disks).filter_map(|disk| self.disks[disk].member());
        let is_copied = members().any(|one| members().filter(|two| two.uuid == one.uuid).count() > 1);
        let lists_others =
            |disk: usize| self.disks[disk].member().is_some_and(|member| member.listed() != holders.count_ones());
        one_line && !is_copied && holders != 0 && holders & !disks == 0 && !disks_of(holders).any(lists_others)
    }
}

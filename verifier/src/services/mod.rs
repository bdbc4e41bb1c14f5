//! The services that ATLAS itself knows how to exercise, one file each. Others are programs in `/etc/atlas/verify.d`, or Nagios plugins.

mod access;
mod as_pri;
mod atlas;
mod boot;
mod certificate;
mod connectivity;
mod curl;
mod daemon;
mod database;
pub(crate) mod disk;
mod dns;
mod drift;
mod found;
mod gate;
mod given;
mod identity;
mod included;
mod logs;
mod mail;
mod mariadb;
mod named;
mod nfs;
mod notices;
mod ntp;
mod packages;
mod postgresql;
mod raid;
mod running;
mod samba;
mod served;
mod smart;
mod ssh;
mod synchronizer;
mod system;
mod time;
mod trust;
mod units;
mod web;
mod wrapped;

pub use as_pri::Apart;
pub(crate) use as_pri::run as run_apart;
pub(crate) use running::SERVERS;

use crate::service::Service;

/// All of them, by name.
pub const SERVICES: &[Service] = &[
    as_pri::SERVICE,
    atlas::SERVICE,
    boot::SERVICE,
    connectivity::SERVICE,
    disk::SERVICE,
    dns::SERVICE,
    drift::SERVICE,
    gate::SERVICE,
    identity::SERVICE,
    logs::SERVICE,
    mail::SERVICE,
    mariadb::SERVICE,
    nfs::SERVICE,
    notices::SERVICE,
    ntp::SERVICE,
    packages::SERVICE,
    postgresql::SERVICE,
    raid::SERVICE,
    running::SERVICE,
    samba::SERVICE,
    ssh::SERVICE,
    synchronizer::SERVICE,
    system::SERVICE,
    time::SERVICE,
    units::SERVICE,
    web::SERVICE,
];

/// Those whose SetUp rests on files alone: its answer is the same while they are.
pub(crate) const BY_FILES: [&str; 9] = ["dns", "mail", "mariadb", "nfs", "ntp", "postgresql", "samba", "ssh", "web"];

/// The parsers of what servers and client programs answer, for whoever feeds them anything at all.
#[cfg(feature = "testing")]
pub mod testing {
    use super::{curl, dns, mariadb, ntp, postgresql, samba, smart};
    use crate::service::Target;
    use atlas_model::verify::Profile;

    /// Reads an answer as each client would; says whether any of them could.
    pub fn reads_answer(bytes: &[u8]) -> bool {
        let readers = [curl::reads, dns::reads, mariadb::reads, ntp::reads, postgresql::reads, samba::reads];
        readers.into_iter().filter(|reader| reader(bytes)).count() > 0
    }

    /// What an answer of smartctl means.
    ///
    /// # Errors
    /// Where it is none.
    pub fn smartctl(answer: &[u8], target: &Target) -> anyhow::Result<Profile> {
        smart::judged(answer, target)
    }
}

/// The one of this name.
pub fn by_name(name: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| service.name == name)
}

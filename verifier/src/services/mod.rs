//! The services that ATLAS itself knows how to exercise, one file each. Others are programs in `/etc/atlas/verify.d`, or Nagios plugins.

mod atlas;
mod connectivity;
mod curl;
mod disk;
mod dns;
mod found;
mod logs;
mod mail;
mod mariadb;
mod nfs;
mod ntp;
mod postgresql;
mod raid;
mod running;
mod samba;
mod smart;
mod ssh;
mod synchronizer;
mod system;
mod time;
mod web;

use crate::service::Service;

/// All of them, by name.
pub const SERVICES: &[Service] = &[
    atlas::SERVICE,
    connectivity::SERVICE,
    disk::SERVICE,
    dns::SERVICE,
    logs::SERVICE,
    mail::SERVICE,
    mariadb::SERVICE,
    nfs::SERVICE,
    ntp::SERVICE,
    postgresql::SERVICE,
    raid::SERVICE,
    running::SERVICE,
    samba::SERVICE,
    ssh::SERVICE,
    synchronizer::SERVICE,
    system::SERVICE,
    time::SERVICE,
    web::SERVICE,
];

/// The one of this name.
pub fn by_name(name: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| service.name == name)
}

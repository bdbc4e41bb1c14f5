//! The test file of a directory that is given to clients. One may be given by NFS and by Samba alike, and has one such file, of whichever
//! comes first.

/// Its name.
pub(super) const FILE: &str = ".atlas-verify";
const SERVICES: [&str; 2] = ["nfs", "samba"];

/// What a service puts into it.
pub(super) fn content(service: &str, path: &str) -> String {
    format!("atlas-verify {service} {path}\n")
}

/// Whether what was read has the test file of this directory in it.
pub(super) fn is_in(read: &str, path: &str) -> bool {
    SERVICES.iter().any(|service| read.contains(&content(service, path)))
}

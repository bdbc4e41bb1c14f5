//! Keys of the partners, and who may read what is secret.

use crate::here::{self, Faults, Member};
use atlas_model::Role;
use atlas_sid::keys::{AUTHORIZED_KEYS, KEYS, KNOWN_HOSTS, MAX_SIZE, OWN, OWN_PUBLIC, role_of, trusted};
use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

/// sshd is told by this file to look at the keys on the Unbound disks.
const SSHD: &str = "etc/ssh/sshd_config.d/60-atlas.conf";
/// By this key partners know this server.
const HOST_KEY: &str = "etc/ssh/ssh_host_ed25519_key";
/// How the line of PRI's key begins.
const RESTRICTED: &str = "restrict,command=\"";

/// Whether this server and its partners still know each other.
pub(super) fn keys(member: &Member, faults: &mut Faults) {
    let role = member.config.role();
    let known = match trusted(&member.sid, role) {
        Ok(known) => known,
        Err(error) => {
            let why = atlas_cli::in_one_line(&error.into());
            return faults.unacceptable(
                format!("the keys of the partners cannot be read: {why}"),
                "ls -l /unbound/SID_DATA/keys",
            );
        }
    };
    for partner in member.config.partners().iter().filter(|partner| !known.contains(&partner.role)) {
        let (partner, command) = (partner.role, "ssSync keys");
        let what = if role == Role::Pri {
            format!("the key of {partner} is not known: it cannot be called")
        } else {
            format!("the key of {partner} is not known: it cannot call this server")
        };
        faults.unacceptable(
            what,
            format!("on {partner}: {command}; with the line that it prints, here: ssSync trust {partner} LINE"),
        );
    }
    if !member.tree.show(HOST_KEY).exists() {
        let what = format!("this server's own ssh key is not there (/{HOST_KEY}): partners would not know it");
        faults.unacceptable(what, "put it back, or: ssh-keygen -A; then ssSync keys here, and ssSync trust on PRI");
    }
    let keys = member.sid.dir().dir(KEYS);
    let read = |name: &str| keys.as_ref().ok().and_then(|keys| keys.read_if_there(name, MAX_SIZE).ok().flatten());
    if role == Role::Pri {
        if read(OWN).is_none() || read(OWN_PUBLIC).is_none() {
            let hint = "put it back (atlas-history), or: ssSync keys, and trust the new one on every secondary";
            faults.unacceptable("PRI's own key is not there: it can call nobody", hint);
        }
        return;
    }
    let lines = String::from_utf8_lossy(&read(AUTHORIZED_KEYS).unwrap_or_default()).into_owned();
    if lines.lines().any(|line| role_of(AUTHORIZED_KEYS, line) == Some(Role::Pri) && !line.starts_with(RESTRICTED)) {
        faults.slow("PRI's key may do anything on this server", "ssSync keys on PRI; here: ssSync trust PRI LINE");
    }
    if !member.tree.show(SSHD).exists() {
        let what = format!("sshd is not told where PRI's key lies: /{SSHD} is not there");
        faults.unacceptable(what, "apt-get install --reinstall atlas; systemctl reload ssh");
    }
}

/// Whether only those can read what is secret who have to, and whose it is.
pub(super) fn modes(root: &Path, faults: &mut Faults) {
    let owner = std::fs::metadata(root).map_or(0, |meta| meta.uid());
    let sid = format!("unbound/{}", atlas_sid::layout::SID_DATA);
    let mut secret: Vec<(String, u32)> = vec![
        (sid.clone(), 0o077),
        (format!("{sid}/{KEYS}"), 0o077),
        (format!("{sid}/{KEYS}/{OWN}"), 0o077),
        (format!("{sid}/{KEYS}/{AUTHORIZED_KEYS}"), 0o022),
        (format!("{sid}/{KEYS}/{KNOWN_HOSTS}"), 0o022),
        ("etc/atlas/verifier/secret".into(), 0o077),
        ("etc/shadow".into(), 0o027),
        ("etc/gshadow".into(), 0o027),
    ];
    let host_keys =
        here::names(root, "etc/ssh").into_iter().filter(|name| name.starts_with("ssh_host_") && name.ends_with("_key"));
    secret.extend(host_keys.map(|name| (format!("etc/ssh/{name}"), 0o077)));
    for (path, forbidden) in secret {
        // What is not there is told by whoever needs it.
        let Ok(meta) = std::fs::symlink_metadata(root.join(&path)) else { continue };
        let mode = meta.permissions().mode() & 0o777;
        if mode & forbidden != 0 {
            let what =
                format!("/{path} has mode {mode:04o}: others could read or change what is secret, and ssh refuses it");
            faults.unacceptable(what, format!("chmod {:04o} /{path}", mode & !forbidden));
        }
        if meta.uid() != owner {
            let what = format!("/{path} belongs to account number {} instead of root", meta.uid());
            faults.unacceptable(what, format!("chown root /{path}"));
        }
    }
}

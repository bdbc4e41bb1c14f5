//! `ssSync keys` and `ssSync trust`: the keys by which partners know each other. Where they lie: [`atlas_sid::keys`].

use crate::server::Server;
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, print, print_json};
use atlas_host::{durable, process::Command, tree::Dir};
use atlas_model::Role;
use atlas_sid::keys::{AUTHORIZED_KEYS, KEYS, KNOWN_HOSTS, MAX_SIZE, OWN, OWN_PUBLIC, role_of, trusted};
use serde::Serialize;
use std::{ffi::OsStr, path::PathBuf};

/// What PRI's key may do on a secondary: talk with `ssSync serve`, which is run as every program is. What the caller asked sshd to run is in no
/// part of it. Its log is bounded more tightly than others': how often it is called is for another machine to say.
const FORCED: &str = "restrict,command=\"/opt/atlas/bin/ssRun --session --roll 20M --keep-size 200M --handler-deadline 2 \
                      -- /opt/atlas/bin/ssSync serve\"";
/// The secondary's own name towards PRI.
const HOST_KEY: &str = "etc/ssh/ssh_host_ed25519_key.pub";

#[derive(Serialize)]
struct Answer {
    format: u32,
    role: Role,
    key: String,
    trusted: Vec<Role>,
}

/// Prints what the partner has to trust; PRI's key is made where there is none.
pub(crate) fn show(common: &Common) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    let key = if server.role() == Role::Pri { own_key(&server)? } else { host_key(&server)? };
    let role = server.role();
    if common.json {
        print_json(&Answer { format: 1, role, key: key.to_string(), trusted: trusted(&server.sid, server.role())? })?;
    } else {
        print(format!("{key}"))?;
    }
    Ok(Exit::Done)
}

/// Takes the key of a partner as its own.
pub(crate) fn trust(common: &Common, partner: Role, line: &str) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    if !server.config.partners().iter().any(|known| known.role == partner) {
        return Err(anyhow::anyhow!("{partner} is no partner of {} in MasterConfig", server.role()))
            .hint("name a partner that MasterConfig lists");
    }
    let key = PublicKey::parse(line)
        .context("read the key")
        .hint("give the line that 'ssSync keys' prints on the partner")?;
    let keys = directory(&server)?;
    let (name, line) = if server.role() == Role::Pri {
        (KNOWN_HOSTS, format!("{partner} {} {}", key.kind, key.blob))
    } else {
        (AUTHORIZED_KEYS, format!("{FORCED} {} {} {partner}", key.kind, key.blob))
    };
    let before = keys.read_if_there(name, MAX_SIZE)?.map(|text| String::from_utf8_lossy(&text).into_owned());
    let of_others = before.iter().flat_map(|text| text.lines()).filter(|line| role_of(name, line) != Some(partner));
    let text: String = of_others.chain([line.as_str()]).map(|line| format!("{line}\n")).collect();
    let changed = before.as_deref() != Some(text.as_str());
    durable::write(&keys, OsStr::new(name), text.as_bytes(), 0o600).context("remember the key")?;
    if common.json {
        print_json(&Answer {
            format: 1,
            role: server.role(),
            key: key.to_string(),
            trusted: trusted(&server.sid, server.role())?,
        })?;
    } else {
        print(format!("{partner} is {} by this key\n", if changed { "known from now on" } else { "known already" }))?;
    }
    Ok(Exit::Done)
}

/// Where the key and the known hosts lie, for ssh.
pub(crate) fn paths(server: &Server) -> (PathBuf, PathBuf) {
    let keys = server.sid.dir().show(KEYS);
    (keys.join(OWN), keys.join(KNOWN_HOSTS))
}

fn directory(server: &Server) -> anyhow::Result<Dir> {
    server.sid.dir().make_dir(KEYS, 0o700)?;
    Ok(server.sid.dir().dir(KEYS)?)
}

/// PRI's public key; the pair is made beside and takes its name last, so that a cut leaves none or both.
fn own_key(server: &Server) -> anyhow::Result<PublicKey> {
    let keys = directory(server)?;
    if keys.read_if_there(OWN_PUBLIC, 4096)?.is_none() {
        let temp = durable::temp_name();
        let comment = format!("ATLAS-{}-{}", server.config.cluster(), server.role());
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", &comment, "-f"])
            .arg(keys.show(&temp))
            .run()
            .context("make this server's key")
            .hint("install openssh-client")?;
        let mut public = temp.clone();
        public.push(".pub");
        keys.sync_file_system()?;
        keys.rename(&temp, &keys, OsStr::new(OWN), atlas_host::tree::Rename::Replace)?;
        keys.rename(&public, &keys, OsStr::new(OWN_PUBLIC), atlas_host::tree::Rename::Replace)?;
        keys.sync()?;
    }
    let text = String::from_utf8(keys.read(OWN_PUBLIC, 4096)?).context("read this server's key")?;
    PublicKey::parse(&text)
}

fn host_key(server: &Server) -> anyhow::Result<PublicKey> {
    let text =
        server.root.read(HOST_KEY, 4096).context("read this server's host key").hint("install openssh-server")?;
    PublicKey::parse(&String::from_utf8_lossy(&text))
}

/// A public key in the one form that is accepted: its kind and its base64 text. What an options field could say is not taken over.
struct PublicKey {
    kind: String,
    blob: String,
}

impl PublicKey {
    fn parse(line: &str) -> anyhow::Result<PublicKey> {
        let mut words = line.split_whitespace();
        let (Some(kind), Some(blob)) = (words.next(), words.next()) else {
            anyhow::bail!("it has fewer than two words")
        };
        let is_kind = matches!(kind, "ssh-ed25519" | "ssh-rsa") || kind.starts_with("ecdsa-sha2-nistp");
        let is_blob = (32..=4096).contains(&blob.len())
            && blob.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
        anyhow::ensure!(is_kind && is_blob && line.trim().lines().count() == 1, "it is no public key of ssh");
        Ok(PublicKey { kind: kind.into(), blob: blob.into() })
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_and_options_before_it_are_not() {
        let blob = "A".repeat(68);
        assert_eq!(
            PublicKey::parse(&format!("ssh-ed25519 {blob} me@here\n")).unwrap().to_string(),
            format!("ssh-ed25519 {blob}")
        );
        for bad in [
            String::new(),
            "ssh-ed25519".into(),
            format!("command=\"sh\" ssh-ed25519 {blob}"),
            format!("ssh-ed25519 {blob}\"; x"),
            format!("ssh-ed25519 {blob}\nssh-ed25519 {blob}"),
            "ssh-ed25519 AAAA".into(),
        ] {
            assert!(PublicKey::parse(&bad).is_err(), "{bad}");
        }
    }
}

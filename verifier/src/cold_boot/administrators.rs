//! Who may log in to repair a server: root and the members of the groups that sudo trusts, by password and by key. No secret is told, a digest is.

use super::Facts;
use crate::here::{below, text};
use atlas_model::Digest;
use std::{collections::BTreeSet, path::Path};

/// Debian's sudo trusts the first; others are common.
const GROUPS: [&str; 3] = ["sudo", "wheel", "admin"];
/// Where sshd looks for the keys of an account, below its home.
const KEYS: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];
/// As many digits tell two lists of keys apart.
const DIGITS: usize = 8;

/// The facts; `None` where accounts cannot be read.
pub(super) fn facts(root: &Path) -> Option<Facts> {
    let passwd = text(root, "/etc/passwd")?;
    let shadow = text(root, "/etc/shadow")?;
    let mut facts = Facts::new();
    for name in names(root) {
        let line = |text: &str| -> Option<Vec<String>> {
            let line = text.lines().find(|line| line.split(':').next() == Some(&name))?;
            Some(line.split(':').map(str::to_owned).collect())
        };
        let (Some(account), Some(secret)) = (line(&passwd), line(&shadow)) else { continue };
        let field = secret.get(1).map_or("", String::as_str);
        let password = match field {
            "" => "empty",
            _ if field.starts_with(['!', '*']) => "locked",
            _ => "usable",
        };
        facts.insert(format!("{name}'s password"), password.into());
        if let Some(home) = account.get(5) {
            facts.extend(keys(root, home).map(|keys| (format!("{name}'s keys"), keys)));
        }
    }
    (!facts.is_empty()).then_some(facts)
}

/// Their names, root first.
fn names(root: &Path) -> BTreeSet<String> {
    let groups = text(root, "/etc/group").unwrap_or_default();
    let members = groups.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        GROUPS.contains(fields.first()?).then(|| fields.get(3).copied())?
    });
    let members = members.flat_map(|names| names.split(',').filter(|name| !name.is_empty()));
    members.map(str::to_owned).chain(["root".to_owned()]).collect()
}

/// How many keys, and a digest of them whatever their order and comments; `None` where there is no such file.
fn keys(root: &Path, home: &str) -> Option<String> {
    let files: Vec<String> =
        KEYS.iter().filter_map(|file| text(root, &below(Path::new(home), file).to_string_lossy())).collect();
    let is_key = |word: &&str| word.starts_with("AAAA");
    let all: BTreeSet<&str> =
        files.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_whitespace().find(is_key)).collect();
    let digest = Digest::of(all.iter().copied().collect::<Vec<_>>().join("\n").as_bytes()).to_string();
    (!all.is_empty()).then(|| format!("{} ({})", all.len(), &digest[..DIGITS]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn administrators_are_compared_by_password_and_keys_and_no_secret_is_told() {
        let server = Server::with(&[
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\nbob:x:1001:1001::/home/bob:/bin/sh\n",
            ),
            ("etc/shadow", "root:$y$secret:19000:0:99999:7:::\nann:!$y$x:19000::::::\nbob:*:19000::::::\n"),
            ("etc/group", "sudo:x:27:ann\nusers:x:100:bob\n"),
            ("root/.ssh/authorized_keys", "# PRI's\nssh-ed25519 AAAAb b\nrestrict ssh-ed25519 AAAAa a\n"),
        ]);
        let before = facts(server.root()).unwrap();
        let told: Vec<String> = before.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(told[0], "ann's password: locked");
        assert!(told[1].starts_with("root's keys: 2 ("), "{told:?}");
        assert_eq!(told[2], "root's password: usable");
        server.write("root/.ssh/authorized_keys", "ssh-ed25519 AAAAa other comment\nssh-ed25519 AAAAb\n");
        assert_eq!(facts(server.root()).unwrap(), before, "the same keys");
        server.write("root/.ssh/authorized_keys", "ssh-ed25519 AAAAb\n");
        assert_ne!(facts(server.root()).unwrap(), before);
    }
}

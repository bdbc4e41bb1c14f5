//! Whether an account may go where its unit works: systemd ends a start where it may not.

use crate::here::text;
use std::{
    collections::BTreeSet,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// An access list may let in, or keep out, whoever the mode does not.
const ACCESS_LIST: &str = "system.posix_acl_access";

/// The first directory on the way to `path` that does not let the account in, and why; `None` where it gets there, or nobody can tell.
pub(super) fn closed(root: &Path, user: &str, groups: &[String], path: &str) -> Option<(String, String)> {
    let account = Account::find(root, user, groups)?;
    let mut way = PathBuf::new();
    for name in Path::new(path.trim_start_matches('-')).iter().skip(1) {
        way.push(name);
        let place = root.join(&way);
        let meta = std::fs::metadata(&place).ok().filter(std::fs::Metadata::is_dir)?;
        let has_list = xattr::get(&place, ACCESS_LIST).is_ok_and(|list| list.is_some());
        if !account.may_enter(&meta) && !has_list {
            let (owner, mode) = (Account::name_of(root, meta.uid()), meta.permissions().mode() & 0o7777);
            return Some((format!("/{}", way.display()), format!("which belongs to {owner} and has mode {mode:04o}")));
        }
    }
    None
}

/// Why an account may not run a program; `None` where it may, or nobody can tell.
pub(super) fn not_run(root: &Path, user: &str, groups: &[String], path: &str) -> Option<String> {
    let account = Account::find(root, user, groups)?;
    let place = root.join(path.trim_start_matches('/'));
    let meta = std::fs::metadata(&place).ok().filter(std::fs::Metadata::is_file)?;
    let has_list = xattr::get(&place, ACCESS_LIST).is_ok_and(|list| list.is_some());
    let (owner, mode) = (Account::name_of(root, meta.uid()), meta.permissions().mode() & 0o7777);
    (!account.may_enter(&meta) && !has_list).then(|| format!("it belongs to {owner} and has mode {mode:04o}"))
}

struct Account {
    number: u32,
    groups: BTreeSet<u32>,
}

impl Account {
    /// `None` for root, who goes everywhere, and for one that is not there.
    fn find(root: &Path, user: &str, more: &[String]) -> Option<Account> {
        let passwd = text(root, "etc/passwd")?;
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == user)?;
        let number = fields.get(2)?.parse().ok().filter(|number| *number != 0)?;
        let mut groups = BTreeSet::from([fields.get(3)?.parse().ok()?]);
        for line in text(root, "etc/group").unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let is_of = fields.get(3).is_some_and(|members| members.split(',').any(|member| member == user));
            if is_of || more.iter().any(|name| name == fields[0]) {
                groups.extend(fields.get(2).and_then(|number| number.parse::<u32>().ok()));
            }
        }
        Some(Account { number, groups })
    }

    fn may_enter(&self, meta: &std::fs::Metadata) -> bool {
        let mode = meta.permissions().mode();
        match () {
            () if meta.uid() == self.number => mode & 0o100 != 0,
            () if self.groups.contains(&meta.gid()) => mode & 0o010 != 0,
            () => mode & 0o001 != 0,
        }
    }

    fn name_of(root: &Path, number: u32) -> String {
        let passwd = text(root, "etc/passwd").unwrap_or_default();
        let of = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2)?.parse() == Ok(number)).then(|| fields[0].to_owned())
        };
        passwd.lines().find_map(of).unwrap_or_else(|| format!("account number {number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn an_account_gets_where_owner_group_or_everybody_may_and_no_further() {
        let me = (nix::unistd::Uid::effective().as_raw(), nix::unistd::Gid::effective().as_raw());
        let server = Server::with(&[
            (
                "etc/passwd",
                &format!(
                    "owner:x:{}:9999::/:/bin/sh\nother:x:4711:4711::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n",
                    me.0.max(1)
                ),
            ),
            ("etc/group", &format!("team:x:{}:other\n", me.1)),
            ("srv/app/x", ""),
        ]);
        let closed = |user: &str| closed(server.root(), user, &[], "/srv/app");
        server.mode("srv", 0o755);
        server.mode("srv/app", 0o755);
        assert_eq!(closed("other"), None);
        server.mode("srv/app", 0o700);
        let told = closed("other").unwrap();
        assert!(told.0 == "/srv/app" && told.1.ends_with(" and has mode 0700"), "{told:?}");
        server.mode("srv/app", 0o710);
        assert_eq!(closed("other"), None, "by its group");
        server.mode("srv", 0o700);
        assert_eq!(closed("other").unwrap().0, "/srv");
        server.mode("srv", 0o755);
        server.write("etc/group", &format!("team:x:{}:\n", me.1));
        assert!(closed("other").is_some());
        assert_eq!(
            super::closed(server.root(), "other", &["team".to_owned()], "/srv/app"),
            None,
            "by a group of its unit"
        );
        assert_eq!(closed("nobody"), None, "that it is not there is another fault");
        assert_eq!(closed("root"), None);
    }
}

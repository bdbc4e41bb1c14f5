//! Who changed a file by hand, where this server's own logs know it: sudo's, and the kernel's audit where somebody set a watch.
//!
//! ```text
//! journal, _COMM=sudo        ann : TTY=pts/0 ; PWD=/etc/nginx ; USER=root ; COMMAND=/usr/bin/vi nginx.conf
//! /var/log/audit/audit.log   type=SYSCALL … auid=1000 … and type=PATH … name="/etc/nginx/nginx.conf", of one serial number
//! ```
//!
//! It is what the logs say, and may be incomplete: an editor in a root shell leaves nothing but who opened the shell.

use atlas_host::{process::Command, tree::Dir};
use atlas_model::{TreePath, tree_path::is_hidden};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

/// The journal is read for at most so long.
const DEADLINE: Duration = Duration::from_secs(5);
/// As much of the end of the audit log is read, in bytes.
const MAX_AUDIT: u64 = 8 << 20;
/// As much of a command is told, in characters.
const MAX_COMMAND: usize = 80;
/// Commands that open a shell, in which anything may have been done.
const SHELLS: [&str; 5] = ["bash", "sh", "zsh", "su", "dash"];

/// For each of these paths that a log names, since this time (in seconds since 1970): who, and by what.
pub(crate) fn changed(root: &Dir, since: u64, paths: &[&TreePath]) -> BTreeMap<TreePath, String> {
    let sudo = journal(root.shown(), since);
    let audit = audit_log(root.shown()).unwrap_or_default();
    let passwd = root.read_if_there("etc/passwd", 1 << 20).ok().flatten().unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let named = paths.iter().filter_map(|path| {
        let who = by_audit(&audit, since, path, &passwd).or_else(|| by_sudo(&sudo, path))?;
        Some(((*path).clone(), who))
    });
    named.collect()
}

/// Asked of this server's own program: a tree in a directory has none.
fn journal(root: &Path, since: u64) -> String {
    let program = root.join("usr/bin/journalctl");
    if !program.is_file() {
        return String::new();
    }
    let args = ["--quiet", "--no-pager", "--output=cat", "_COMM=sudo", &format!("--since=@{since}")];
    let output = Command::new(program).args(args).env("LC_ALL", "C.UTF-8").deadline(DEADLINE).output();
    output.map(|output| output.text()).unwrap_or_default()
}

fn audit_log(root: &Path) -> std::io::Result<String> {
    let mut file = File::open(root.join("var/log/audit/audit.log"))?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_AUDIT)))?;
    let mut content = Vec::new();
    file.take(MAX_AUDIT).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// The last command of sudo's log that names the path, or a directory that holds it; else who last opened a shell.
fn by_sudo(log: &str, path: &TreePath) -> Option<String> {
    let commands: Vec<(&str, &str, &str)> = log.lines().filter_map(command).collect();
    let named = commands.iter().rev().find(|(_, dir, command)| names(dir, command, path.as_path()));
    let is_shell = |command: &str| {
        let program = command.split_whitespace().next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        SHELLS.contains(&program)
    };
    match named {
        Some((who, _, command)) => Some(format!("by {}: sudo {}", plain(who), plain(command))),
        None => {
            let (who, ..) = commands.iter().rev().find(|(.., command)| is_shell(command))?;
            Some(format!("perhaps by {}, who had a shell of root's by sudo", plain(who)))
        }
    }
}

/// `ann : TTY=pts/0 ; PWD=/etc ; USER=root ; COMMAND=/usr/bin/vi app.conf`: who, where, what.
fn command(line: &str) -> Option<(&str, &str, &str)> {
    let (who, rest) = line.trim().split_once(" : ")?;
    let (before, command) = rest.split_once("COMMAND=")?;
    let dir = before.split(" ; ").find_map(|part| part.trim().strip_prefix("PWD=")).unwrap_or("/");
    (!who.contains(' ')).then_some((who, dir, command.trim()))
}

fn names(dir: &str, command: &str, path: &Path) -> bool {
    let words = command.split_whitespace().skip(1).map(|word| word.rsplit('=').next().unwrap_or(word));
    let mut places = words.filter(|word| !word.starts_with('-')).map(|word| joined(dir, word));
    places.any(|place| place == path || place.components().count() > 2 && path.parent() == Some(&place))
}

/// A path as a shell in `dir` means it.
fn joined(dir: &str, word: &str) -> PathBuf {
    let mut place = PathBuf::new();
    for part in Path::new(dir).join(word.trim_matches(['\'', '"'])).components() {
        match part {
            std::path::Component::ParentDir => drop(place.pop()),
            std::path::Component::CurDir => {}
            part => place.push(part),
        }
    }
    place
}

/// The last event of the audit log that names the path: its login account.
fn by_audit(log: &str, since: u64, path: &TreePath, passwd: &str) -> Option<String> {
    let name = format!("name=\"{path}\"");
    let serial = |line: &str| -> Option<(String, u64)> {
        let id = line.split_once("msg=audit(")?.1.split_once(')')?.0;
        let seconds = id.split(['.', ':']).next()?.parse().ok()?;
        Some((id.to_owned(), seconds))
    };
    let is_of_path = |line: &&str| line.starts_with("type=PATH") && line.contains(&name);
    let last = log.lines().rev().filter(is_of_path).find_map(serial).filter(|(_, seconds)| *seconds >= since)?;
    let call = log.lines().find(|line| line.starts_with("type=SYSCALL") && line.contains(&last.0))?;
    let field =
        |key: &str| call.split(' ').find_map(|word| word.strip_prefix(key)).map(|value| value.trim_matches('"'));
    let number = field("auid=").filter(|number| *number != "4294967295")?;
    let account = passwd.lines().find(|line| line.split(':').nth(2) == Some(number));
    let who = account.and_then(|line| line.split(':').next()).unwrap_or(number);
    Some(format!("by {}: {}", plain(who), plain(field("exe=").unwrap_or("?"))))
}

/// What stands in a log is shown on terminals.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !is_hidden(*c)).take(MAX_COMMAND).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text).unwrap()
    }

    #[test]
    fn sudo_names_who_edited_a_file() {
        let log = "pam_unix(sudo:session): session opened for user root(uid=0) by ann(uid=1000)\n\
                       ann : TTY=pts/0 ; PWD=/etc/nginx ; USER=root ; COMMAND=/usr/bin/vi nginx.conf\n\
                       bob : TTY=pts/1 ; PWD=/home/bob ; USER=root ; COMMAND=/usr/bin/cp site.conf /etc/nginx/conf.d/\n";
        assert_eq!(
            by_sudo(log, &path("/etc/nginx/nginx.conf")).as_deref(),
            Some("by ann: sudo /usr/bin/vi nginx.conf")
        );
        let copied = by_sudo(log, &path("/etc/nginx/conf.d/site.conf"));
        assert_eq!(copied.as_deref(), Some("by bob: sudo /usr/bin/cp site.conf /etc/nginx/conf.d/"));
        assert_eq!(by_sudo(log, &path("/etc/hosts")), None);
        let shell = "ann : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/bash\n";
        let told = by_sudo(shell, &path("/etc/hosts"));
        assert_eq!(told.as_deref(), Some("perhaps by ann, who had a shell of root's by sudo"));
        let up = "ann : TTY=pts/0 ; PWD=/etc/nginx ; USER=root ; COMMAND=/usr/bin/tee -a ../hosts\n";
        assert_eq!(by_sudo(up, &path("/etc/hosts")).as_deref(), Some("by ann: sudo /usr/bin/tee -a ../hosts"));
    }

    #[test]
    fn the_audit_log_names_the_account_that_logged_in() {
        let log = "type=SYSCALL msg=audit(1700000000.123:45): arch=c000003e syscall=257 success=yes auid=1000 uid=0 exe=\"/usr/bin/vim\" key=\"etc\"\n\
                   type=PATH msg=audit(1700000000.123:45): item=1 name=\"/etc/app.conf\" nametype=NORMAL\n";
        let passwd = "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\n";
        let who = |since| by_audit(log, since, &path("/etc/app.conf"), passwd);
        assert_eq!(who(0).as_deref(), Some("by ann: /usr/bin/vim"));
        assert_eq!(who(1_700_000_001), None, "that was before");
        assert_eq!(by_audit(log, 0, &path("/etc/other"), passwd), None);
        assert_eq!(by_audit(&log.replace("auid=1000", "auid=4294967295"), 0, &path("/etc/app.conf"), passwd), None);
    }
}

//! samba: the server negotiates, and a test file is fetched from each share that guests, or the account that is set, may open.
//!
//! Options: `credentials` (a file as smbclient's `--authentication-file` reads it: `username = …`, `password = …`).

use super::{found::Finding, included};
use crate::{
    service::{Service, Target, Tree},
    talk::Talk,
};
use anyhow::Context;
use atlas_host::process::Command;
use atlas_model::verify::{Found, Instance, Profile, TestData};
use std::{collections::BTreeMap, time::Instant};

pub(super) const SERVICE: Service = Service {
    name: "samba",
    about: "smbd negotiates, and a test file in each share is fetched",
    interval: 60,
    deadline: 20,
    find,
    verify,
};

/// The test file in each share.
const FILE: &str = ".atlas-verify";
/// Shares that are no directories of files, or another for everybody.
const OTHERS: [&str; 5] = ["global", "homes", "printers", "print$", "ipc$"];

/// What is in the test file of a share.
fn content(path: &str) -> String {
    format!("atlas-verify samba {path}\n")
}

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let dir = tree.installed("samba", "/etc/samba");
    let main = format!("{dir}/smb.conf");
    if !tree.exists(&main) {
        return Ok(finding.done());
    }
    finding.path(tree, dir);
    let lines = read(tree, &main)?;
    let port = BTreeMap::from([("port".to_owned(), port(&lines).to_string())]);
    let shares = shares(&lines);
    if shares.is_empty() {
        finding.instance(Instance { name: "smbd".into(), options: port.clone(), ..Instance::default() });
    }
    for share in shares {
        if !tree.exists(&share.path) {
            finding.problem(format!("the directory {} of the share {} is not there", share.path, share.name));
        }
        let path = format!("{}/{FILE}", share.path);
        finding.place(TestData { path, content: content(&share.path), mode: 0o644, owner: None });
        let mut options = port.clone();
        options.extend([("share".into(), share.name.clone()), ("path".into(), share.path)]);
        if share.is_for_guests {
            options.insert("guest".into(), "yes".into());
        }
        finding.instance(Instance { name: share.name, options, ..Instance::default() });
    }
    Ok(finding.done())
}

/// Lines as Samba reads them: `\` at the end goes on, `include` is another file.
fn read(tree: &Tree, path: &str) -> anyhow::Result<Vec<String>> {
    let lines = included::lines(tree, path, &|line| match setting(line) {
        // Another file for each client says nothing of the server as a whole.
        Some((key, file)) if key == "include" && !file.contains('%') => Some(vec![file.to_owned()]),
        _ => None,
    })?;
    let text = lines.join("\n").replace("\\\n", " ");
    Ok(text.lines().filter(|line| !line.starts_with(['#', ';'])).map(str::to_owned).collect())
}

/// `Guest OK = yes` → `guestok`, `yes`: neither case nor blanks count in a name.
fn setting(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.split_once('=')?;
    Some((key.to_ascii_lowercase().replace([' ', '\t'], ""), value.trim()))
}

/// The first port that it listens on: 445, unless `smb ports` says otherwise.
fn port(lines: &[String]) -> u16 {
    let ports = lines.iter().filter_map(|line| setting(line)).rfind(|(key, _)| key == "smbports");
    ports.and_then(|(_, ports)| ports.split([' ', ',']).next()?.parse().ok()).unwrap_or(445)
}

#[derive(Debug, Default, PartialEq)]
struct Share {
    name: String,
    path: String,
    is_for_guests: bool,
}

fn shares(lines: &[String]) -> Vec<Share> {
    let (mut shares, mut hidden) = (Vec::<Share>::new(), vec![]);
    for line in lines {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            shares.push(Share { name: name.trim().into(), ..Share::default() });
            continue;
        }
        let (Some((key, value)), Some(share)) = (setting(line), shares.last_mut()) else { continue };
        let is_yes = matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "1");
        match key.as_str() {
            "path" | "directory" => share.path = value.trim_matches('"').trim_end_matches('/').into(),
            "guestok" | "public" => share.is_for_guests = is_yes,
            "available" if !is_yes => hidden.push(share.name.clone()),
            _ => (),
        }
    }
    shares.retain(|share| {
        let is_plain =
            share.path.starts_with('/') && !share.path.contains('%') && !share.path.split('/').any(|name| name == "..");
        is_plain && !OTHERS.contains(&share.name.to_ascii_lowercase().as_str()) && !hidden.contains(&share.name)
            // It stands in a command for smbclient.
            && !share.name.contains(['/', '\\', '"', ';'])
    });
    shares
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let port = target.port(445)?;
    let hint = format!(
        "on that server: systemctl status smbd; testparm -s; smbstatus; ss -ltnp 'sport = :{port}'; nft list ruleset"
    );
    let start = Instant::now();
    let said = match Talk::open(target, port)? {
        Ok(mut talk) => negotiate(&mut talk),
        Err(why) => return Ok(Profile::unacceptable(format!("nobody answers on port {port}: {why}")).hint(hint)),
    };
    if let Err(why) = said {
        return Ok(Profile::unacceptable(format!("port {port}: {why}")).hint(hint));
    }
    let answer = target.time("answer", start, 500.0, None)?;
    let may_open = target.option("guest") == Some("yes") || target.option("credentials").is_some();
    let Some(share) = target.option("share").filter(|_| may_open) else {
        return Ok(Profile::ok("it negotiates; no share is opened without an account").measure(answer));
    };
    let path = target.required("path")?;
    let start = Instant::now();
    Ok(match fetch(target, port, share, path)? {
        Ok(()) => Profile::ok(format!("the test file in {share} is fetched"))
            .measure(answer)
            .measure(target.time("read", start, 2000.0, None)?),
        Err(why) => Profile::unacceptable(format!("{share}: {why}")).hint(hint),
    })
}

/// The first message of SMB 2: which of its dialects?
fn negotiate(talk: &mut Talk) -> Result<(), String> {
    let mut message = b"\xfeSMB\x40\0".to_vec();
    message.resize(64, 0);
    // 36 bytes, 4 dialects, signing enabled; then capabilities, our id and a time, all nothing.
    message.extend([36, 0, 4, 0, 1, 0]);
    message.resize(64 + 36, 0);
    for dialect in [0x0202_u16, 0x0210, 0x0300, 0x0302] {
        message.extend(dialect.to_le_bytes());
    }
    let length = [0, 0, 0, message.len() as u8];
    talk.say(&[&length[..], &message].concat())?;
    let head = talk.exactly(4)?;
    let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
    if head[0] != 0 || !(64..=65_536).contains(&length) {
        return Err("what answers does not speak SMB".into());
    }
    negotiated(&talk.exactly(length)?)
}

/// What came of it: SMB's mark, and a status after eight bytes.
fn negotiated(answer: &[u8]) -> Result<(), String> {
    match (answer.strip_prefix(b"\xfeSMB"), answer.get(8..12)) {
        (Some(_), Some([0, 0, 0, 0])) => Ok(()),
        (Some(_), Some(status)) => {
            let status = status.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>();
            Err(format!("it refuses to negotiate (status 0x{status})"))
        }
        _ => Err("what answers does not speak SMB 2".into()),
    }
}

#[cfg(feature = "testing")]
pub(super) fn reads(bytes: &[u8]) -> bool {
    negotiated(bytes).is_ok()
}

/// With smbclient; inside, what is wrong.
fn fetch(target: &Target, port: u16, share: &str, path: &str) -> anyhow::Result<Result<(), String>> {
    let mut command = Command::new("smbclient").arg("--port").arg(port.to_string());
    command = match target.option("credentials") {
        Some(file) => command.arg("--authentication-file").arg(file),
        None => command.arg("--no-pass"),
    };
    let command = command
        .args(["--command", &format!("get {FILE} /dev/stdout")])
        .arg("--")
        .arg(format!("//{}/{share}", target.address()?));
    let output = match target.client(command).context("ask with smbclient (Debian package smbclient)")? {
        Ok(output) => output,
        Err(why) => return Ok(Err(why)),
    };
    let text = output.text();
    if text.contains(&content(path)) {
        return Ok(Ok(()));
    }
    let status = [&output.stdout[..], &output.stderr].concat();
    let status = String::from_utf8_lossy(&status);
    let status = status
        .split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')
        .find(|word| word.starts_with("NT_STATUS_"));
    Ok(Err(match status {
        Some("NT_STATUS_BAD_NETWORK_NAME") => "there is no such share, or its directory is missing".into(),
        Some("NT_STATUS_OBJECT_NAME_NOT_FOUND") => {
            format!("the test file {FILE} is not there: the share shows another directory, or it was not synchronised")
        }
        Some("NT_STATUS_LOGON_FAILURE") => "the account is not let in (NT_STATUS_LOGON_FAILURE)".into(),
        Some("NT_STATUS_ACCESS_DENIED") => {
            "the account, or a guest, may not read there (NT_STATUS_ACCESS_DENIED)".into()
        }
        Some(status) => status.to_owned(),
        None if output.status.success() => format!("the test file {FILE} is not what was placed"),
        None => output.complaint(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_found_with_whom_they_are_for() {
        let text = "[global]\nsmb ports = 4450 139\n[homes]\npath = /home/%S\n[printers]\npath = /var/spool/samba\n[data]\n  Path = /srv/data/\n  Guest OK = Yes\n\
            [team]\ndirectory = \"/srv/the team\"\n[off]\npath = /srv/off\navailable = no\n[user]\npath = /srv/%U\n";
        let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        let shown: Vec<(String, String, bool)> =
            shares(&lines).into_iter().map(|share| (share.name, share.path, share.is_for_guests)).collect();
        let expected = [("data", "/srv/data", true), ("team", "/srv/the team", false)];
        assert_eq!(shown, expected.map(|(name, path, guests)| (name.to_owned(), path.to_owned(), guests)));
        assert_eq!(port(&lines), 4450);
        assert_eq!(port(&["[global]".to_owned()]), 445);
    }

    #[test]
    fn a_file_that_includes_itself_is_told_and_one_for_each_client_is_not_read() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("etc/samba")).unwrap();
        let write = |text: &str| std::fs::write(tmp.path().join("etc/samba/smb.conf"), text).unwrap();
        write("[global]\ninclude = /etc/samba/smb.conf\n");
        let tree = Tree::open(tmp.path()).unwrap();
        assert!(find(&tree).unwrap_err().to_string().contains("8 deep"));
        write("[global]\ninclude = /etc/samba/%m.conf\n");
        assert_eq!(find(&tree).unwrap().instances[0].name, "smbd");
    }
}

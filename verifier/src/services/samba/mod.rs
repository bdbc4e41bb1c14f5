//! samba: the server negotiates, and a test file is fetched from each share that guests, or the account that is set, may open.
//!
//! A share that is not read-only, and whose directory everybody may write to, is written, too: a file of its own name, by the server's own copying of the
//! test file, read and removed again. smbclient locks nothing over SMB 2 and 3.
//!
//! Options: `access=rw` where only the account may write; `credentials` (a file as smbclient's `--authentication-file` reads it: `username = …`, `password = …`).

mod client;
mod config;

use super::{
    daemon::{self, Daemon, started},
    found::{Finding, Six, reached},
    given::{self, FILE},
    served::Served,
};
use crate::{
    service::{Service, Target, Tree},
    talk::Talk,
};
use atlas_model::verify::{At, Found, Instance, Profile, TestData};
#[cfg(feature = "testing")]
pub(super) use client::reads;
use client::{Client, Refused, negotiate};
use config::{Server, read, setting, shares};
use std::{collections::BTreeMap, time::Instant};

pub(super) const SERVICE: Service = Service {
    name: "samba",
    about: "smbd negotiates, and a test file in each share is fetched, and written where all may write",
    interval: 60,
    deadline: 20,
    find,
    verify,
};

const DAEMON: Daemon = Daemon { name: "samba", programs: &["smbd"], units: &["smbd.service", "samba.service"] };
/// The same program as a domain's controller; its unit is there on every server, and starts nothing on one that is none.
const CONTROLLER: Daemon =
    Daemon { name: "samba", programs: &["samba", "smbd"], units: &["samba-ad-dc.service", "samba.service"] };

/// Whether a configuration makes it the controller of an Active Directory.
fn is_controller(text: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    let settings = text.lines().filter_map(|line| line.split_once('='));
    let mut roles = settings.filter(|(name, _)| words(name) == "server role").map(|(_, role)| words(role));
    let names = ["active directory domain controller", "domain controller", "dc"];
    roles.next_back().is_some_and(|role| names.contains(&role.as_str()))
}

/// Whether it speaks to old clients alone.
fn is_old_alone(lines: &[String]) -> bool {
    let mut most = lines.iter().filter_map(|line| setting(line)).filter(|(key, _)| OF_MOST.contains(&key.as_str()));
    most.next_back().is_some_and(|(_, value)| OLD.iter().any(|old| value.eq_ignore_ascii_case(old)))
}

/// The newest protocol that is spoken, and those of before SMB 2.
const OF_MOST: [&str; 3] = ["servermaxprotocol", "maxprotocol", "protocol"];
const OLD: [&str; 4] = ["NT1", "LANMAN2", "LANMAN1", "CORE"];

/// Where Debian has the shares that people make themselves.
const USERSHARES: &str = "/var/lib/samba/usershares";

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let dir = tree.installed("samba", "/etc/samba");
    let given = started::words(tree, &mut finding, &DAEMON, "samba", "SMBDOPTIONS");
    let other = started::option(&given, "-s").filter(|file| file.starts_with('/'));
    let main = other.map_or_else(|| format!("{dir}/smb.conf"), str::to_owned);
    let Some(text) = tree.read(&main)? else { return Ok(finding.done()) };
    let daemon = if is_controller(&text) { CONTROLLER } else { DAEMON };
    if !daemon.is_there(tree) {
        return Ok(finding.done());
    }
    finding.path(tree, dir);
    finding.path(tree, &main);
    let own = read(tree, &mut finding, &main)?;
    let mut settings = text.lines().filter_map(|line| setting(line.trim()));
    if settings.any(|(key, value)| value == "registry" && OF_REGISTRY.contains(&key.as_str())) {
        finding.problem(
            "samba: what is configured in its registry does not travel: write it into smb.conf ('net conf list' shows it)"
                .into(),
        );
    }
    finding.files_of(tree, own.iter().map(String::as_str));
    // Without -v it leaves out what [global] says for all shares, such as that everything has to be encrypted.
    let told =
        (dir == "/etc/samba").then(|| daemon::says(tree, &mut finding, "testparm", &["-s", "-v", &main])).flatten();
    let lines = told.map_or(own, |told| told.lines().map(|line| line.trim().to_owned()).collect());
    accounts(tree, &mut finding, &lines);
    let server = Server::read(&lines);
    let mut port = BTreeMap::from([("port".to_owned(), server.port.to_string())]);
    if server.is_limited {
        port.insert("limited".into(), "yes".into());
    }
    let (at, where_to) = reached(server.addresses.iter().map(String::as_str), Six::Alone);
    port.extend(where_to);
    for other in &server.others {
        finding.note(format!("port {other} is not exercised: the same smbd answers there as on port {}", server.port));
    }
    let at = if server.is_local { At::Here } else { at };
    let of_users = tree.names(server.usershares.as_deref().unwrap_or(USERSHARES)).len();
    if of_users > 0 {
        finding.note(format!(
            "{of_users} shares that people made themselves are not exercised, and do not move: net usershare list"
        ));
    }
    if is_old_alone(&lines) {
        finding.note(format!("samba speaks SMB 1 alone at port {}, which is not exercised", server.port));
        return Ok(finding.done());
    }
    let shares = shares(&lines);
    if shares.is_empty() {
        finding.instance(Instance { name: "smbd".into(), options: port.clone(), at });
    }
    for share in shares {
        if !tree.exists(&share.path) {
            finding.problem(format!("the directory {} of the share {} is not there", share.path, share.name));
        }
        let mut options = port.clone();
        let served = Served::of(tree, &share.path, FILE);
        match &served {
            _ if share.hides_small_letters() => finding.note(format!(
                "no file of the share {} is fetched: its clients see names in one case alone",
                share.name
            )),
            Ok(served) => {
                served.links.iter().for_each(|link| finding.link(link));
                let path = format!("{}/{FILE}", served.real.trim_end_matches('/'));
                let content = given::content("samba", &share.path);
                finding.place(TestData { path, content, mode: 0o644, owner: None });
            }
            Err(why) => finding.note(format!("no file of the share {} is fetched: {}: {why}", share.name, share.path)),
        }
        // One that is not there is missed by its clients, too.
        if !share.hides_small_letters() && (served.is_ok() || !tree.exists(&share.path)) {
            options.extend([("share".into(), share.name.clone()), ("path".into(), share.path.clone())]);
        }
        if share.runs && share.is_for_guests {
            finding.note(format!(
                "the share {} is not opened: a program runs each time that somebody does (preexec)",
                share.name
            ));
        }
        if share.is_for_guests && !share.is_limited && !share.runs {
            options.insert("guest".into(), "yes".into());
        }
        if served.is_ok() && !share.is_read_only && tree.may_all_write(&share.path) {
            if share.keeps_all {
                finding.note(format!("nothing is written to the share {}: what is removed there is kept", share.name));
            } else {
                options.insert("access".into(), "rw".into());
            }
        }
        finding.instance(Instance { name: share.name, options, at });
    }
    Ok(finding.done())
}

/// Settings that have Samba read its registry.
const OF_REGISTRY: [&str; 2] = ["configbackend", "include"];
/// Where Debian's Samba has the accounts and passwords of its clients.
const ACCOUNTS: &str = "/var/lib/samba/private/passdb.tdb";

/// The accounts of clients travel. That this server is a member of a domain does not: it is part of its identity.
fn accounts(tree: &Tree, finding: &mut Finding, lines: &[String]) {
    let value = |name: &str| {
        let mut all = lines.iter().filter_map(|line| setting(line)).filter(|(key, _)| key == name);
        all.next_back().map(|(_, value)| value).unwrap_or_default()
    };
    match value("passdbbackend").split_once(':') {
        None if tree.exists(ACCOUNTS) => finding.path(tree, ACCOUNTS),
        Some(("tdbsam", file)) if file.starts_with('/') => finding.path(tree, file),
        _ => {}
    }
    if ["ads", "domain"].contains(&value("security").to_ascii_lowercase().as_str()) {
        finding.note(
            "samba: that this server is a member of a domain (/var/lib/samba/private/secrets.tdb) is part of its identity: \
             list that file in IdentFilePaths"
                .into(),
        );
    }
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let port = target.port(445)?;
    let hint = format!(
        "on that server: systemctl status smbd; testparm -s; smbstatus; ss -ltnp 'sport = :{port}'; nft list ruleset"
    );
    let start = Instant::now();
    let is_limited = target.option("limited") == Some("yes");
    let said = match Talk::open(target, port)? {
        Ok(mut talk) => match negotiate(&mut talk) {
            // The end of the connection, or little more, as whoever is not let in sees it.
            Err(Refused::Silent(why) | Refused::Away(why)) if is_limited => {
                let what =
                    format!("port {port} accepts; only some addresses are let in, and this server is none ({why})");
                return Ok(Profile::ok(what));
            }
            said => said.map_err(Refused::why),
        },
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
    let share = Client { target, port, share, path: target.required("path")? };
    let complaint = |why| Ok(Profile::unacceptable(format!("{}: {why}", share.share)).hint(hint));
    let start = Instant::now();
    if let Err(why) = share.fetch()? {
        return complaint(why);
    }
    let read = target.time("read", start, 2000.0, None)?;
    if target.option("access") != Some("rw") {
        let profile = Profile::ok(format!("the test file in {} is fetched", share.share));
        return Ok(profile.measure(answer).measure(read));
    }
    let start = Instant::now();
    if let Err(why) = share.write()? {
        return complaint(why);
    }
    let profile = Profile::ok(format!("the test file in {} is fetched, and one is written", share.share));
    Ok(profile.measure(answer).measure(read).measure(target.time("write", start, 2000.0, None)?))
}

#[cfg(test)]
mod tests;

//! samba: the server negotiates, and a test file is fetched from each share that guests, or the account that is set, may open.
//!
//! A share that is not read-only, and whose directory everybody may write to, is written, too: a file of its own name, by the server's own copying of the
//! test file, read and removed again. smbclient locks nothing over SMB 2 and 3.
//!
//! Options: `access=rw` where only the account may write; `credentials` (a file as smbclient's `--authentication-file` reads it: `username = …`, `password = …`).

use super::{
    daemon::{self, Daemon, started},
    found::{Finding, bound, is_loopback},
    given::{self, FILE},
    included,
    served::Served,
};
use crate::{
    pattern::fits,
    service::{Service, Target, Tree},
    talk::Talk,
};
use anyhow::Context;
use atlas_host::process::{Command, Output};
use atlas_model::verify::{At, Found, Instance, Profile, TestData};
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
/// Shares that are no directories of files, or another for everybody.
const OTHERS: [&str; 5] = ["global", "homes", "printers", "print$", "ipc$"];

/// What a server says where a file is there already.
const LEFT_THERE: &str = "NT_STATUS_OBJECT_NAME_COLLISION";

/// Whether a configuration makes it the controller of an Active Directory.
fn is_controller(text: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    let settings = text.lines().filter_map(|line| line.split_once('='));
    let mut roles = settings.filter(|(name, _)| words(name) == "server role").map(|(_, role)| words(role));
    let names = ["active directory domain controller", "domain controller", "dc"];
    roles.next_back().is_some_and(|role| names.contains(&role.as_str()))
}

/// Where Debian has the shares that people make themselves.
const USERSHARES: &str = "/var/lib/samba/usershares";

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let dir = tree.installed("samba", "/etc/samba");
    let given = started::options(tree, &mut finding, "samba", "SMBDOPTIONS");
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
    port.extend(bound(server.addresses.iter().map(String::as_str)));
    for other in &server.others {
        finding.note(format!("port {other} is not exercised: the same smbd answers there as on port {}", server.port));
    }
    let at = if server.is_local { At::Here } else { At::Partners };
    let of_users = tree.names(server.usershares.as_deref().unwrap_or(USERSHARES)).len();
    if of_users > 0 {
        finding.note(format!(
            "{of_users} shares that people made themselves are not exercised, and do not move: net usershare list"
        ));
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
        if share.is_for_guests && !share.is_limited {
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
        let all = lines.iter().filter_map(|line| setting(line)).filter(|(key, _)| key == name);
        all.last().map(|(_, value)| value).unwrap_or_default()
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

/// Lines as Samba reads them: `\` at the end goes on, `include` is another file.
fn read(tree: &Tree, finding: &mut Finding, path: &str) -> anyhow::Result<Vec<String>> {
    let lines = included::lines(tree, finding, path, &|line| match setting(line) {
        // Another file for each client says nothing of the server as a whole.
        Some((key, file)) if key == "include" && !file.contains('%') => Some(vec![file.to_owned()]),
        _ => None,
    })?;
    let text = joined(&lines.join("\n"));
    Ok(text.lines().filter(|line| !line.starts_with(['#', ';'])).map(str::to_owned).collect())
}

/// A line goes on inside a word, too; where blanks begin the next one, they are one.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches([' ', '\t']);
        if rest.len() < part.len() && !joined.ends_with([' ', '\t']) {
            joined.push(' ');
        }
        joined.push_str(rest);
    }
    joined
}

/// `Guest OK = yes` → `guestok`, `yes`: neither case nor blanks count in a name.
fn setting(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.split_once('=')?;
    Some((key.to_ascii_lowercase().replace([' ', '\t'], ""), value.trim()))
}

/// What holds for the server as a whole.
#[derive(Debug, PartialEq)]
struct Server {
    /// The first port that it listens on: 445, unless `smb ports` says otherwise.
    port: u16,
    /// The others.
    others: Vec<u16>,
    /// Whether it answers this server alone.
    is_local: bool,
    /// Whether it answers some addresses alone.
    is_limited: bool,
    /// Where it listens, if not everywhere.
    addresses: Vec<String>,
    /// Where people's own shares lie, if it says so.
    usershares: Option<String>,
}

impl Server {
    fn read(lines: &[String]) -> Server {
        // What comes before any section is global, and the section may come again.
        let mut is_in = true;
        let in_global = |line: &&String| {
            is_in = section(line).map_or(is_in, |name| name.eq_ignore_ascii_case("global"));
            is_in
        };
        let global: Vec<(String, &str)> = lines.iter().filter(in_global).filter_map(|line| setting(line)).collect();
        let value = |name: &str| global.iter().rfind(|(key, _)| key == name).map(|(_, value)| *value);
        let ports = value("smbports").unwrap_or("445 139").split([' ', ',']).filter_map(|port| port.parse().ok());
        let mut ports: Vec<u16> = ports.collect();
        let port = if ports.is_empty() { 445 } else { ports.remove(0) };
        let interfaces = value("interfaces").unwrap_or_default();
        let own: Vec<String> = interfaces.split([' ', ',']).filter(|at| !at.is_empty()).map(interface).collect();
        let has_own = !own.is_empty() && value("bindinterfacesonly").is_some_and(is_yes);
        Server {
            port,
            others: ports,
            is_local: has_own && own.iter().all(|at| is_loopback(at)),
            is_limited: HOSTS.iter().any(|name| value(name).is_some_and(|hosts| !hosts.is_empty())),
            addresses: if has_own { own } else { vec![] },
            usershares: value("usersharepath").map(|path| path.trim_matches('"').to_owned()),
        }
    }
}

/// `lo`, `eth*`, `192.0.2.1/24`: an address without the length of its network. That of a network itself stands for those of this server in it.
fn interface(text: &str) -> String {
    let text = text.trim_matches('"').split(';').next().unwrap_or_default();
    match text.split_once('/') {
        Some((address, _)) if !address.ends_with(".0") && !address.ends_with("::") => address.to_owned(),
        Some((address, _)) if is_loopback(address) => address.to_owned(),
        _ => text.to_owned(),
    }
}

/// Settings that let some addresses in, or keep them out; both have two names.
const HOSTS: [&str; 4] = ["hostsallow", "allowhosts", "hostsdeny", "denyhosts"];

fn is_yes(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on")
}

/// The name of a section, of the line that begins it. What comes behind the name is passed over, as Samba does.
fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[').and_then(|line| line.split_once(']')).map(|(name, _)| name.trim())
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Share {
    name: String,
    path: String,
    is_for_guests: bool,
    is_read_only: bool,
    /// Whether not all may open it: by address, by account, or because what is sent has to be encrypted, which a guest cannot.
    is_limited: bool,
    /// Whether what is removed there is kept.
    keeps_all: bool,
    /// Whether names are told apart by their case.
    is_exact: bool,
    /// Whether all files are shown by names of one case.
    has_one_case: bool,
    /// Whether that is the upper one.
    is_upper: bool,
}

impl Share {
    /// Whether a file that lies there under a name of small letters has no name for clients.
    fn hides_small_letters(&self) -> bool {
        self.is_exact && self.has_one_case && self.is_upper
    }
}

/// Modules that keep what clients remove, or let nothing be removed.
const KEEP: [&str; 2] = ["recycle", "worm"];

fn shares(lines: &[String]) -> Vec<Share> {
    let usual = Share { is_read_only: true, ..Share::default() };
    let (mut shares, mut hidden) = (Vec::<Share>::new(), vec![]);
    for line in lines {
        if let Some(name) = section(line) {
            // What stands in [global] holds for shares that say nothing else.
            let global = shares.iter().rfind(|share| share.name.eq_ignore_ascii_case("global")).unwrap_or(&usual);
            shares.push(Share { name: name.into(), path: String::new(), ..global.clone() });
            continue;
        }
        let (Some((key, value)), Some(share)) = (setting(line), shares.last_mut()) else { continue };
        let is_yes = is_yes(value);
        let mut copied = None;
        match key.as_str() {
            "path" | "directory" => share.path = value.trim_matches('"').trim_end_matches('/').into(),
            "guestok" | "public" => share.is_for_guests = is_yes,
            "readonly" => share.is_read_only = is_yes,
            "writable" | "writeable" | "writeok" => share.is_read_only = !is_yes,
            "vfsobjects" | "vfsobject" => {
                let mut modules =
                    value.split([' ', '\t', ',']).map(|module| module.split(':').next().unwrap_or_default());
                share.keeps_all = modules.any(|module| KEEP.contains(&module));
            }
            "casesensitive" | "casesignames" => share.is_exact = is_yes,
            "defaultcase" => share.is_upper = value.eq_ignore_ascii_case("upper"),
            "preservecase" => share.has_one_case = !is_yes,
            "validusers" | "invalidusers" | "onlyuser" => share.is_limited |= !value.is_empty(),
            "serversmbencrypt" | "smbencrypt" => share.is_limited |= matches!(value, "required" | "mandatory"),
            key if HOSTS.contains(&key) => share.is_limited |= !value.is_empty(),
            "copy" => copied = Some(value),
            // Files that nobody sees, the test file among them.
            "vetofiles" => share.is_limited |= value.split('/').any(|hidden| !hidden.is_empty() && fits(hidden, FILE)),
            "available" if !is_yes => hidden.push(share.name.clone()),
            _ => (),
        }
        let from = copied.and_then(|from| shares.iter().find(|share| share.name.eq_ignore_ascii_case(from)).cloned());
        if let (Some(from), Some(share)) = (from, shares.last_mut()) {
            *share = Share { name: share.name.clone(), ..from };
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

/// What a server did not agree on.
enum Refused {
    /// It said nothing.
    Silent(String),
    /// It sends away whoever comes from here.
    Away(String),
    /// It said no, or something else.
    Said(String),
}

impl Refused {
    fn why(self) -> String {
        match self {
            Refused::Silent(why) | Refused::Away(why) | Refused::Said(why) => why,
        }
    }
}

/// The first message of SMB: which of its dialects?
fn negotiate(talk: &mut Talk) -> Result<(), Refused> {
    talk.say(&hello()).map_err(Refused::Silent)?;
    let head = talk.exactly(4).map_err(Refused::Silent)?;
    let length = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
    // An older protocol's word, with which whoever is not let in is sent away.
    if head[0] == 0x83 {
        return Err(Refused::Away("it sends this server away".into()));
    }
    if head[0] != 0 || !(64..=65_536).contains(&length) {
        return Err(Refused::Said("what answers does not speak SMB".into()));
    }
    negotiated(&talk.exactly(length).map_err(Refused::Silent)?).map_err(Refused::Said)
}

/// Dialects from 2.0.2 to 3.1.1. The last one wants to know how it is kept from being changed on the way, and encrypted.
fn hello() -> Vec<u8> {
    let dialects = [0x0202_u16, 0x0210, 0x0300, 0x0302, 0x0311];
    let mut message = b"\xfeSMB\x40\0".to_vec();
    message.resize(64, 0);
    // 36 bytes, this many dialects, signing enabled; then capabilities, our id, and where the contexts begin: two of them.
    message.extend([36, 0, dialects.len() as u8, 0, 1, 0, 0, 0]);
    message.extend([0x40, 0, 0, 0]);
    message.extend(*b"ATLAS VerifyServ");
    let contexts = (64 + 36 + 2 * dialects.len()).next_multiple_of(8);
    message.extend([contexts as u8, 0, 0, 0, 2, 0, 0, 0]);
    dialects.iter().for_each(|dialect| message.extend(dialect.to_le_bytes()));
    message.resize(contexts, 0);
    // One algorithm, SHA-512, with 32 bytes of salt: of one message, which is no secret.
    let integrity = [&[1, 0, 32, 0, 1, 0][..], &[0x41; 32]].concat();
    // Two ciphers: AES-128 with GCM, and with CCM.
    let encryption = [2, 0, 2, 0, 1, 0];
    for (kind, data) in [(1_u8, &integrity[..]), (2, &encryption)] {
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend([kind, 0, data.len() as u8, 0, 0, 0, 0, 0]);
        message.extend(data);
    }
    [&[0, 0, 0, message.len() as u8][..], &message].concat()
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

/// smbclient, let into a share.
struct Client<'t> {
    target: &'t Target,
    port: u16,
    share: &'t str,
    /// The directory that it is.
    path: &'t str,
}

impl Client<'_> {
    /// Fetches the test file; inside, what is wrong.
    fn fetch(&self) -> anyhow::Result<Result<(), String>> {
        Ok(self.run(&format!("get {FILE} /dev/stdout"))?.and_then(|output| self.judge(&output, FILE)))
    }

    /// Has the test file copied to one of our own, fetches and removes that; inside, what is wrong. Two servers that do so at once do not meet.
    fn write(&self) -> anyhow::Result<Result<(), String>> {
        let own = format!("{FILE}-{}", own_name(self.target));
        let commands = format!("scopy {FILE} {own}; get {own} /dev/stdout; del {own}");
        let mut output = self.run(&commands)?;
        // A check that was cut off has left its own file there, which is removed now.
        let is_left = |output: &Output| {
            [&output.stdout, &output.stderr].iter().any(|said| String::from_utf8_lossy(said).contains(LEFT_THERE))
        };
        if output.as_ref().is_ok_and(is_left) {
            output = self.run(&commands)?;
        }
        Ok(output.and_then(|output| self.judge(&output, &own)).map_err(|why| format!("writing: {why}")))
    }

    fn run(&self, commands: &str) -> anyhow::Result<Result<Output, String>> {
        let command = Command::new("smbclient").arg("--port").arg(self.port.to_string());
        let command = match self.target.option("credentials") {
            Some(file) => command.arg("--authentication-file").arg(file),
            None => command.arg("--no-pass"),
        };
        let command =
            command.args(["--command", commands]).arg("--").arg(format!("//{}/{}", self.target.address()?, self.share));
        self.target.client(command).context("ask with smbclient (Debian package smbclient)")
    }

    /// Whether the file came as it was placed and nothing was refused.
    fn judge(&self, output: &Output, file: &str) -> Result<(), String> {
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let status = said
            .split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_')
            .find(|word| word.starts_with("NT_STATUS_"));
        Err(match status {
            None if given::is_in(&said, self.path) => return Ok(()),
            Some("NT_STATUS_BAD_NETWORK_NAME") => "there is no such share, or its directory is missing".into(),
            Some("NT_STATUS_OBJECT_NAME_NOT_FOUND") => {
                format!(
                    "the test file {file} is not there: the share shows another directory, or it was not synchronised"
                )
            }
            Some("NT_STATUS_LOGON_FAILURE") => "the account is not let in (NT_STATUS_LOGON_FAILURE)".into(),
            Some("NT_STATUS_ACCESS_DENIED") => {
                "the account, or a guest, may not do that there (NT_STATUS_ACCESS_DENIED)".into()
            }
            Some("NT_STATUS_DISK_FULL") => "its file system is full (NT_STATUS_DISK_FULL)".into(),
            Some(status) => status.to_owned(),
            None if output.status.success() => format!("the test file {file} is not what was placed"),
            None => output.complaint(),
        })
    }
}

/// By what this server's own file is told from another's: its name, of characters that smbclient takes as they are.
fn own_name(target: &Target) -> String {
    let name = std::fs::read_to_string(target.root.join("proc/sys/kernel/hostname")).unwrap_or_default();
    name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_found_with_whom_they_are_for() {
        let text = "[global]\nsmb ports = 4450 139\n[homes]\npath = /home/%S\n[printers]\npath = /var/spool/samba\n[data]\n  Path = /srv/data/\n  Guest OK = Yes\n\
            [team]\ndirectory = \"/srv/the team\"\nwriteable = yes\n[off]\npath = /srv/off\navailable = no\n[user]\npath = /srv/%U\n";
        let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        let shown: Vec<(String, String, bool, bool)> = shares(&lines)
            .into_iter()
            .map(|share| (share.name, share.path, share.is_for_guests, share.is_read_only))
            .collect();
        let expected = [("data", "/srv/data", true, true), ("team", "/srv/the team", false, false)];
        let expected = expected.map(|(name, path, guests, ro)| (name.to_owned(), path.to_owned(), guests, ro));
        assert_eq!(shown, expected);
        let global = ["[global]", "writable = yes", "[a]", "path = /a", "[b]", "path = /b", "read only = yes"];
        let global: Vec<bool> = shares(&global.map(str::to_owned)).iter().map(|share| share.is_read_only).collect();
        assert_eq!(global, [false, true]);
        let expected = Server {
            port: 4450,
            others: vec![139],
            is_local: false,
            is_limited: false,
            addresses: vec![],
            usershares: None,
        };
        assert_eq!(Server::read(&lines), expected);
        assert_eq!(Server::read(&["[global]".to_owned()]).port, 445);
    }

    #[test]
    fn nothing_is_written_where_it_would_be_kept_nor_asked_for_where_it_is_not_seen() {
        let server = crate::here::testing::Server::with(&[
            (
                "etc/samba/smb.conf",
                "[global]\ninclude = registry\nsecurity = ADS\n\
                 [bin]\npath = /srv/bin\nguest ok = yes\nwritable = yes\nvfs objects = acl_xattr, recycle\n\
                 [upper]\npath = /srv/upper\ncase sensitive = yes\ndefault case = upper\npreserve case = no\n\
                 [open]\npath = /srv/open\nwritable = yes\nvfs objects = full_audit\npreserve case = no\n",
            ),
            ("var/lib/samba/private/passdb.tdb", ""),
            ("srv/bin/x", ""),
            ("srv/upper/x", ""),
            ("srv/open/x", ""),
        ]);
        for dir in ["bin", "open"] {
            let dir = server.root().join("srv").join(dir);
            std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }
        let found = find(&server.tree()).unwrap();
        let option = |name: &str, key: &str| {
            let one = found.instances.iter().find(|one| one.name == name).unwrap();
            one.options.get(key).cloned().unwrap_or_default()
        };
        assert_eq!((option("bin", "access"), option("open", "access")), (String::new(), "rw".into()));
        assert_eq!((option("upper", "share"), option("open", "share")), (String::new(), "open".into()));
        assert_eq!(found.place.len(), 2, "{:?}", found.place);
        let notes = found.notes.join("\n");
        for told in ["nothing is written to the share bin", "no file of the share upper", "member of a domain"] {
            assert!(notes.contains(told), "{told}: {notes}");
        }
        assert!(found.problems[0].contains("in its registry does not travel"), "{:?}", found.problems);
        assert!(found.paths.contains(&ACCOUNTS.to_owned()), "{:?}", found.paths);
    }

    #[test]
    fn the_test_file_lies_where_a_share_leads_to_and_nowhere_where_nothing_is_synchronised() {
        use std::os::unix::fs::PermissionsExt;
        let text = "[linked]\npath = /srv/link\nguest ok = yes\n[tmp]\npath = /tmp/x\nguest ok = yes\n\
            [drop]\npath = /srv/drop\nguest ok = yes\nread only = no\n[gone]\npath = /srv/gone\nguest ok = yes\n";
        let server = crate::here::testing::Server::with(&[
            ("etc/samba/smb.conf", text),
            ("srv/p/x", ""),
            ("tmp/x/y", ""),
            ("srv/drop/x", ""),
            ("var/lib/samba/usershares/mine", ""),
        ]);
        server.link("p", "srv/link");
        std::fs::set_permissions(server.root().join("srv/drop"), PermissionsExt::from_mode(0o733)).unwrap();
        let found = find(&server.tree()).unwrap();
        let placed: Vec<&str> = found.place.iter().map(|data| data.path.as_str()).collect();
        assert_eq!(placed, ["/srv/p/.atlas-verify", "/srv/drop/.atlas-verify"]);
        let with = |key: &str| {
            let with = found.instances.iter().filter(|one| one.options.contains_key(key));
            with.map(|one| one.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((with("share"), with("access")), (vec!["linked", "drop", "gone"], vec![]));
        assert!(found.paths.contains(&"/srv/link".to_owned()) && found.problems.len() == 1, "{found:?}");
        assert!(found.notes.iter().any(|note| note.contains("1 shares that people made")), "{:?}", found.notes);
    }

    #[test]
    fn lines_go_on_as_testparm_shows_them() {
        let text = "netbios name = BREAD\\\nBOX\nworkgroup = WORK\\\n   GROUP\n[sh\\\nare]\npath = /srv/the \\\n\tshop";
        let expected = "netbios name = BREADBOX\nworkgroup = WORK GROUP\n[share]\npath = /srv/the shop";
        assert_eq!(joined(text), expected);
    }

    #[test]
    fn one_whose_unit_is_masked_is_none_though_that_of_a_controller_is_not() {
        let server = crate::here::testing::Server::with(&[
            ("var/lib/dpkg/status", ""),
            ("lib/systemd/system/smbd.service", "[Unit]\n"),
            ("lib/systemd/system/samba-ad-dc.service", "[Unit]\n"),
            ("etc/samba/smb.conf", "[global]\n[data]\npath = /srv\n"),
        ]);
        server.program("usr/sbin/smbd", "");
        let found = || find(&server.tree()).unwrap().instances.len();
        assert_eq!(found(), 1);
        server.link("/dev/null", "etc/systemd/system/smbd.service");
        assert_eq!(found(), 0);
        server.write(
            "etc/samba/smb.conf",
            "[global]\nServer  Role = Active Directory Domain Controller\n[data]\npath = /srv\n",
        );
        assert_eq!(found(), 1);
    }

    #[test]
    fn a_heading_may_have_a_comment_and_a_share_may_be_for_some_alone() {
        let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let text = lines(
            "[global]\ninterfaces = lo 127.0.0.1/8\nbind interfaces only = yes\nhosts allow = 127.\n\
            [data] # a comment\npath = /srv/data\nguest ok = on\nvalid users = anne\n[team]\npath = /srv/team\nguest ok = yes\nhosts allow = 10.\n",
        );
        assert_eq!((Server::read(&text).is_local, Server::read(&text).is_limited), (true, true));
        assert!(shares(&text).iter().all(|share| share.is_for_guests && share.is_limited));
        assert_eq!(shares(&text)[0].name, "data");
        // Of one share, that says nothing of the server.
        assert!(!Server::read(&lines("[global]\n[a]\nhosts allow = 10.\n")).is_limited);
        let at = |interfaces: &str| {
            let text = format!("[global]\nbind interfaces only = yes\ninterfaces = {interfaces}\n");
            bound(Server::read(&lines(&text)).addresses.iter().map(String::as_str)).map(|(_, addresses)| addresses)
        };
        assert_eq!(at("lo 192.0.2.10/24").as_deref(), Some("192.0.2.10"));
        assert_eq!(at("lo lan0 192.0.2.10/24").as_deref(), Some("lan0 192.0.2.10"), "SetUp knows which one lan0 is");
        assert_eq!((at("192.0.2.0/24"), at("eth*")), (None, None), "which addresses those are is each server's");
    }

    #[test]
    fn testparm_s_word_comes_before_the_file_and_a_client_alone_is_no_server() {
        let server = crate::here::testing::Server::with(&[("etc/samba/smb.conf", "[a]\npath = /srv/a\n")]);
        server.program("usr/bin/testparm", "printf '[global]\\n\\tsmb ports = 4445\\n[b]\\n\\tpath = /srv/b\\n'");
        let found = || find(&server.tree().running()).unwrap().instances;
        assert!(found().is_empty());
        server.program("usr/sbin/smbd", "");
        assert_eq!((found()[0].name.as_str(), found()[0].options["port"].as_str()), ("b", "4445"));
    }

    #[test]
    fn debian_s_own_setting_names_another_configuration() {
        let server = crate::here::testing::Server::with(&[
            ("etc/samba/smb.conf", "[old]\npath = /srv/old\n"),
            ("srv/alt.conf", "[global]\nsmb ports = 1445\n[new]\npath = /srv/new\n"),
            ("etc/default/samba", "SMBDOPTIONS=\"-s /srv/alt.conf\"\n"),
        ]);
        let found = find(&server.tree()).unwrap();
        assert_eq!((found.instances[0].name.as_str(), found.instances[0].options["port"].as_str()), ("new", "1445"));
        assert!(found.paths.contains(&"/srv/alt.conf".to_owned()), "{:?}", found.paths);
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

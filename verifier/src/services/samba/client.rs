//! How a server is met: the first message of SMB, and smbclient in a share.

use super::super::given::{self, FILE};
use crate::{service::Target, talk::Talk};
use anyhow::Context;
use atlas_host::process::{Command, Output};

/// What a server says where a file is there already.
const LEFT_THERE: &str = "NT_STATUS_OBJECT_NAME_COLLISION";

/// What a server did not agree on.
pub(super) enum Refused {
    /// It said nothing.
    Silent(String),
    /// It sends away whoever comes from here.
    Away(String),
    /// It said no, or something else.
    Said(String),
}

impl Refused {
    pub(super) fn why(self) -> String {
        match self {
            Refused::Silent(why) | Refused::Away(why) | Refused::Said(why) => why,
        }
    }
}

/// The first message of SMB: which of its dialects?
pub(super) fn negotiate(talk: &mut Talk) -> Result<(), Refused> {
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
pub(in crate::services) fn reads(bytes: &[u8]) -> bool {
    negotiated(bytes).is_ok()
}

/// smbclient, let into a share.
pub(super) struct Client<'t> {
    pub(super) target: &'t Target,
    pub(super) port: u16,
    pub(super) share: &'t str,
    /// The directory that it is.
    pub(super) path: &'t str,
}

impl Client<'_> {
    /// Fetches the test file; inside, what is wrong.
    pub(super) fn fetch(&self) -> anyhow::Result<Result<(), String>> {
        Ok(self.run(&format!("get {FILE} /dev/stdout"))?.and_then(|output| self.judge(&output, FILE)))
    }

    /// Has the test file copied to one of our own, fetches and removes that; inside, what is wrong. Two servers that do so at once do not meet.
    pub(super) fn write(&self) -> anyhow::Result<Result<(), String>> {
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

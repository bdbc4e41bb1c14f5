//! postgresql: a cluster answers, and, with an account, a table is made, written and read.
//!
//! Without `user` the start of the protocol is all that is exercised: it tells a server that is starting, full or in trouble from one that
//! merely lets nobody unknown in. Options: `user`, `database` (as the user is called), `credentials` (a file as `PGPASSFILE` names it).

use super::{database, found::Finding};
use crate::{
    service::{Service, Target, Tree},
    talk::Talk,
};
use anyhow::Context;
use atlas_host::process::Command;
use atlas_model::verify::{At, Found, Instance, Profile};
use std::{collections::BTreeMap, time::Instant};

pub(super) const SERVICE: Service = Service {
    name: "postgresql",
    about: "PostgreSQL clusters accept connections, and, with an account, write and read",
    interval: 60,
    deadline: 20,
    find,
    verify,
};

/// The longest answer to the first message that is read, in bytes.
const LONGEST: usize = 8192;
/// A table that nobody else sees and that is gone with the connection, written and read.
const EXERCISE: [&str; 3] = [
    "CREATE TEMPORARY TABLE atlas_verify (number integer)",
    "INSERT INTO atlas_verify SELECT generate_series(1, 100)",
    "SELECT sum(number) FROM atlas_verify",
];
const RESULT: &str = "5050";

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let dir = tree.installed("postgresql", "/etc/postgresql");
    for path in tree.matching(&format!("{dir}/*/*/postgresql.conf")) {
        let cluster = path.trim_end_matches("/postgresql.conf");
        let mut text = tree.read(&path)?.unwrap_or_default();
        for file in tree.matching(&format!("{cluster}/conf.d/*.conf")) {
            text.push_str(&format!("\n{}", tree.read(&file)?.unwrap_or_default()));
        }
        finding.path(tree, dir);
        let start = tree.read(&format!("{cluster}/start.conf"))?.unwrap_or_default();
        let starts = start.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let (port, addresses) = listens(&text);
        // Who starts it by hand or listens on no network has no clients that we could be.
        if addresses.is_empty() || starts.is_some_and(|starts| starts != "auto") {
            continue;
        }
        let is_local = addresses.iter().all(|at| at == "localhost" || at.starts_with("127.") || at == "::1");
        finding.instance(Instance {
            name: cluster.trim_start_matches(dir).trim_start_matches('/').into(),
            options: BTreeMap::from([("port".into(), port.to_string())]),
            at: if is_local { At::Here } else { At::Partners },
        });
    }
    Ok(finding.done())
}

/// The port and the addresses of a configuration, in which the last word counts.
fn listens(text: &str) -> (u16, Vec<String>) {
    let value = |name: &str| {
        let mut values = text.lines().filter_map(|line| {
            let line = line.trim().strip_prefix(name)?;
            let value = line.trim_start().strip_prefix('=').or_else(|| line.strip_prefix([' ', '\t']))?.trim();
            Some(match value.strip_prefix('\'') {
                Some(quoted) => quoted.split('\'').next().unwrap_or_default(),
                None => value.split(['#', ' ', '\t']).next().unwrap_or_default(),
            })
        });
        values.next_back().map(str::to_owned)
    };
    let port = value("port").and_then(|port| port.parse().ok()).unwrap_or(5432);
    let addresses = value("listen_addresses").unwrap_or_else(|| "localhost".into());
    (port, addresses.split([',', ' ']).filter(|at| !at.is_empty()).map(str::to_owned).collect())
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let port = target.port(5432)?;
    let hint = format!(
        "on that server: pg_lsclusters; systemctl status 'postgresql@*'; tail /var/log/postgresql/*.log; ss -ltnp 'sport = :{port}'"
    );
    let user = target.option("user").unwrap_or("atlas_verify");
    let start = Instant::now();
    let said = match Talk::open(target, port)? {
        Ok(mut talk) => first(&mut talk, user, target.option("database").unwrap_or(user)),
        Err(why) => return Ok(Profile::unacceptable(format!("nobody answers on port {port}: {why}")).hint(hint)),
    };
    let answer = target.time("answer", start, 500.0, None)?;
    let what = match said.and_then(|said| said.judge(target.option("user").is_some())) {
        Ok(what) => what,
        Err(why) => return Ok(Profile::unacceptable(format!("port {port}: {why}")).hint(hint)),
    };
    if target.option("user").is_none() {
        return Ok(Profile::ok(what).measure(answer));
    }
    let start = Instant::now();
    Ok(match exercise(target, port, user)? {
        Ok(()) => Profile::ok("a table was made, written and read")
            .measure(answer)
            .measure(target.time("query", start, 2000.0, None)?),
        Err(why) => Profile::unacceptable(format!("as {user}: {why}")).hint(hint),
    })
}

/// What a server says first.
#[derive(Debug, PartialEq)]
enum Said {
    /// It wants to know who is there, or lets in.
    Authentication,
    /// It refuses, with the code of SQL's standard and a sentence.
    Refusal(String, String),
}

impl Said {
    fn judge(self, has_account: bool) -> Result<String, String> {
        match self {
            Said::Authentication => Ok("it answers and asks who is there".into()),
            // An unknown account, or one that may not come from here: it works all the same.
            Said::Refusal(code, _) if !has_account && (code.starts_with("28") || code == "3D000") => {
                Ok("it answers, and lets nobody unknown in".into())
            }
            Said::Refusal(code, text) => Err(match code.as_str() {
                "57P03" => format!("it does not accept connections yet: {text}"),
                "53300" => format!("it has no connection left: {text}"),
                "28000" => format!("it does not let this account in from here (pg_hba.conf): {text}"),
                _ => format!("{text} ({code})"),
            }),
        }
    }
}

/// Starts as a client does; hears the first answer.
fn first(talk: &mut Talk, user: &str, database: &str) -> Result<Said, String> {
    let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
    for word in ["user", user, "database", database, ""] {
        body.extend(word.as_bytes());
        body.push(0);
    }
    let length = u32::try_from(body.len() + 4).map_err(|_| "the account's name is too long")?;
    talk.say(&[&length.to_be_bytes()[..], &body].concat())?;
    let head = talk.exactly(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if !(4..=LONGEST).contains(&length) || !matches!(head[0], b'R' | b'E') {
        return Err("what answers is no PostgreSQL".into());
    }
    let body = talk.exactly(length - 4)?;
    Ok(if head[0] == b'R' { Said::Authentication } else { refusal(&body) })
}

/// Fields: a letter and a text each, with a zero at its end.
fn refusal(body: &[u8]) -> Said {
    let field = |letter: u8| {
        let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&letter));
        String::from_utf8_lossy(field.and_then(|field| field.get(1..)).unwrap_or_default()).into_owned()
    };
    Said::Refusal(field(b'C'), field(b'M').escape_debug().to_string())
}

/// With psql; inside, what it complains of.
fn exercise(target: &Target, port: u16, user: &str) -> anyhow::Result<Result<(), String>> {
    let mut command = Command::new("psql")
        .args(["--no-psqlrc", "--no-password", "--no-align", "--tuples-only", "--quiet", "--set", "ON_ERROR_STOP=1"])
        .args(EXERCISE.iter().flat_map(|statement| ["--command", statement]))
        .own_env()
        .env("PGHOST", &target.host)
        .env("PGHOSTADDR", target.address()?.to_string())
        .env("PGPORT", port.to_string())
        .env("PGUSER", user)
        .env("PGDATABASE", target.option("database").unwrap_or(user))
        .env("PGCONNECT_TIMEOUT", target.left().as_secs().max(2).to_string());
    if let Some(file) = target.option("credentials") {
        command = command.env("PGPASSFILE", file);
    }
    let output = target.client(command).context("ask with psql (Debian package postgresql-client)")?;
    Ok(database::is_read(output, RESULT))
}

#[cfg(feature = "testing")]
pub(super) fn reads(bytes: &[u8]) -> bool {
    refusal(bytes).judge(false).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_cluster_listens_is_what_its_configuration_says_last() {
        let local = vec!["localhost".to_owned()];
        assert_eq!(listens("# port = 1\n"), (5432, local.clone()));
        assert_eq!(
            listens("port = 5433\t\t# (change requires restart)\nlisten_addresses = '*' # all\nport 5434\n"),
            (5434, vec!["*".to_owned()])
        );
        assert_eq!(listens("listen_addresses = 'localhost, 192.0.2.1'\nlisten_addresses=''\n"), (5432, vec![]));
        assert_eq!(listens("portal = 7\nlisten_addresses = 'localhost'\n"), (5432, local));
    }

    #[test]
    fn a_refusal_is_told_by_its_code() {
        let said = refusal(b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert_eq!(said, Said::Refusal("57P03".into(), "the database system is starting up".into()));
        assert!(said.judge(false).unwrap_err().contains("does not accept connections yet"));
        let full = || Said::Refusal("53300".into(), "too many".into());
        assert!(full().judge(false).unwrap_err().contains("no connection left") && full().judge(true).is_err());
        let hba = || Said::Refusal("28000".into(), "no pg_hba.conf entry".into());
        assert!(hba().judge(true).unwrap_err().contains("pg_hba.conf") && hba().judge(false).is_ok());
    }
}

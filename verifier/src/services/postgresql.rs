//! postgresql: a cluster answers, and, with an account, a table is made, written and read.
//!
//! Without `user` the start of the protocol is all that is exercised: it tells a server that is starting, full or in trouble from one that
//! merely lets nobody unknown in. Options: `user`, `database` (as the user is called), `credentials` (a file as `PGPASSFILE` names it).

use super::{
    daemon::{self, Daemon, Rights},
    database,
    found::{self, Finding, Six, reached},
};
use crate::{
    service::{Service, Target, Tree},
    talk::Talk,
};
use anyhow::Context;
use atlas_host::process::Command;
use atlas_model::verify::{Found, Instance, Profile};
use std::{collections::BTreeMap, time::Instant};

pub(super) const SERVICE: Service = Service {
    name: "postgresql",
    about: "PostgreSQL clusters accept connections, and, with an account, write and read",
    interval: 60,
    deadline: 20,
    find,
    verify,
};

const DAEMON: Daemon = Daemon {
    name: "postgresql",
    programs: &["/usr/lib/postgresql/*/bin/postgres", "postgres"],
    // The clusters' own are started by this one.
    units: &["postgresql.service"],
};
/// Where Debian has each version.
const PROGRAMS: &str = "/usr/lib/postgresql";
/// How deep files may include each other, as for the server.
const MAX_DEPTH: usize = 10;
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
    if !DAEMON.is_there(tree) {
        return Ok(finding.done());
    }
    for path in tree.matching(&format!("{dir}/*/*/postgresql.conf")) {
        let cluster = path.trim_end_matches("/postgresql.conf");
        let name = cluster.trim_start_matches(dir).trim_start_matches('/');
        // The clusters of a version that is not installed any more are data, and no servers.
        let program = format!("{PROGRAMS}/{}/bin/postgres", name.split('/').next().unwrap_or_default());
        if DAEMON.is_whole(tree) && !tree.exists(&program) {
            continue;
        }
        finding.path(tree, dir);
        let start = tree.read(&format!("{cluster}/start.conf"))?.unwrap_or_default();
        let starts =
            start.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).find(|line| !line.is_empty());
        let mut files = vec![];
        let settings = Settings::read(tree, &path, &mut files)?;
        files.iter().for_each(|file| finding.path(tree, file));
        settings.0.iter().for_each(|(name, value)| finding.files_in(tree, name, value));
        let (port, addresses) = match told(tree, &mut finding, &program, &path, settings.value("data_directory")) {
            Some((port, addresses)) => listens(Some(&port), Some(&addresses)),
            None => listens(settings.value("port"), settings.value("listen_addresses")),
        };
        let port = started_with(&tree.read(&format!("{cluster}/pg_ctl.conf"))?.unwrap_or_default()).unwrap_or(port);
        match starts.unwrap_or("auto") {
            "auto" => {}
            how @ ("manual" | "disabled") => {
                finding.note(format!("{name} at port {port} is not exercised: its start.conf says '{how}'"));
            }
            // Debian's own programs do not start one of which they do not understand this, either.
            how => finding.problem(format!(
                "{name}: '{how}' in {cluster}/start.conf is none of auto, manual and disabled: it starts at no boot"
            )),
        }
        let unit = format!("postgresql@{}.service", name.replace('/', "-"));
        let is_masked = daemon::unit_of(tree, &unit) == Some(false);
        if is_masked {
            finding.note(format!("{name} is not exercised: {unit} is masked"));
        }
        // Who starts it by hand has no clients that we could be.
        if is_masked || starts.is_some_and(|starts| starts != "auto") {
            continue;
        }
        if addresses.is_empty() {
            finding.instance(found::on_a_socket(name));
            continue;
        }
        let is_standby =
            settings.value("data_directory").is_some_and(|data| tree.exists(&format!("{data}/standby.signal")));
        let is_cold = settings.value("hot_standby").is_some_and(|hot| ["off", "false", "no", "0"].contains(&hot));
        if is_standby && is_cold {
            finding.note(format!(
                "{name} at port {port} is not exercised: it stands by, and lets nobody in (hot_standby = off)"
            ));
            continue;
        }
        let (at, where_to) = reached(addresses.iter().map(String::as_str), Six::Alone);
        finding.instance(Instance {
            name: name.into(),
            options: [("port".to_owned(), port.to_string())].into_iter().chain(where_to).collect(),
            at,
        });
    }
    Ok(finding.done())
}

/// The port and the addresses, as `postgres -C` says them, which does not run as root. It is started as Debian starts it.
fn told(
    tree: &Tree,
    finding: &mut Finding,
    program: &str,
    config: &str,
    data: Option<&str>,
) -> Option<(String, String)> {
    if !config.starts_with("/etc/postgresql/") {
        return None;
    }
    let file = format!("config_file={config}");
    let mut ask = |name: &str| {
        let data = data.map_or_else(Vec::new, |data| vec!["-D", data]);
        let args = [&["-C", name, "-c", &file], &data[..]].concat();
        daemon::says_with(tree, finding, Rights::Of("postgres"), program, &args).map(|said| said.trim().to_owned())
    };
    let port = ask("port")?;
    Some((port, ask("listen_addresses")?))
}

/// What is set, by names in lower case; the last word counts.
#[derive(Debug, Default)]
struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads a cluster's file with all that it includes, and what ALTER SYSTEM wrote, which comes last. `files` become those that were
    /// included.
    fn read(tree: &Tree, path: &str, files: &mut Vec<String>) -> anyhow::Result<Settings> {
        let mut settings = Settings::default();
        settings.file(tree, path, files, 0)?;
        if let Some(data) = settings.value("data_directory").map(|data| format!("{data}/postgresql.auto.conf")) {
            settings.file(tree, &data, &mut vec![], 0)?;
        }
        Ok(settings)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn file(&mut self, tree: &Tree, path: &str, files: &mut Vec<String>, depth: usize) -> anyhow::Result<()> {
        anyhow::ensure!(
            depth <= MAX_DEPTH && files.len() < 1000,
            "{path}: files include each other more than {MAX_DEPTH} deep"
        );
        for (name, value) in tree.read(path)?.unwrap_or_default().lines().filter_map(setting) {
            let at = |value: &str| match path.rsplit_once('/') {
                Some((dir, _)) if !value.starts_with('/') => format!("{dir}/{value}"),
                _ => value.to_owned(),
            };
            let included = match name.as_str() {
                "include" | "include_if_exists" => vec![at(&value)],
                "include_dir" => tree.matching(&format!("{}/*.conf", at(&value))),
                _ => {
                    self.0.insert(name, value);
                    continue;
                }
            };
            for file in included {
                files.push(file.clone());
                self.file(tree, &file, files, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// `Port = 5433 # why`, `listen_addresses '*'`; a quote within quotes is written twice, or with a backslash.
fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))?;
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        None => rest.split(['#', ' ', '\t']).next().unwrap_or_default().to_owned(),
        Some(quoted) => {
            let (mut value, mut chars) = (String::new(), quoted.chars().peekable());
            while let Some(c) = chars.next() {
                match c {
                    '\'' if chars.peek() == Some(&'\'') => value.extend(chars.next()),
                    '\'' => break,
                    '\\' => value.extend(chars.next()),
                    c => value.push(c),
                }
            }
            value
        }
    };
    (!name.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

/// The port that Debian's `pg_ctl.conf` starts it with: `pg_ctl_options = '-o "-p 5499"'`.
fn started_with(text: &str) -> Option<u16> {
    let options = text.lines().filter_map(|line| line.trim().strip_prefix("pg_ctl_options")).next_back()?;
    let mut words = options.split([' ', '\t', '"', '\'', '=']).filter(|word| !word.is_empty());
    let port = words.find_map(|word| word.strip_prefix("-p").map(str::to_owned))?;
    if port.is_empty() { words.next()?.parse().ok() } else { port.parse().ok() }
}

/// The port and the addresses; what is not set is the usual.
fn listens(port: Option<&str>, addresses: Option<&str>) -> (u16, Vec<String>) {
    let port = port.and_then(|port| port.parse().ok()).unwrap_or(5432);
    let addresses = addresses.unwrap_or("localhost").split([',', ' ']).filter(|at| !at.is_empty());
    (port, addresses.map(str::to_owned).collect())
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    if let Some(told) = found::is_on_a_socket(target) {
        return Ok(told);
    }
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
    fn a_port_that_it_is_started_with_counts() {
        for (text, port) in [
            ("pg_ctl_options = '-o -p5499'\n", Some(5499)),
            ("# pg_ctl_options = '-o -p1'\npg_ctl_options = '-o \"-B 5 -p 5498\"'\n", Some(5498)),
            ("pg_ctl_options = ''\n", None),
            ("", None),
        ] {
            assert_eq!(started_with(text), port, "{text}");
        }
    }
    use crate::here::testing::Server;
    use atlas_model::verify::At;

    fn read(files: &[(&str, &str)]) -> (u16, Vec<String>) {
        let server = Server::with(files);
        let settings = Settings::read(&server.tree(), "/etc/postgresql/15/main/postgresql.conf", &mut vec![]).unwrap();
        listens(settings.value("port"), settings.value("listen_addresses"))
    }

    fn one(text: &str) -> (u16, Vec<String>) {
        read(&[("etc/postgresql/15/main/postgresql.conf", text)])
    }

    #[test]
    fn where_a_cluster_listens_is_what_its_configuration_says_last() {
        let local = vec!["localhost".to_owned()];
        assert_eq!(one("# port = 1\n"), (5432, local.clone()));
        assert_eq!(
            one("port = 5433\t\t# (change requires restart)\nlisten_addresses = '*' # all\nPORT 5434\n"),
            (5434, vec!["*".to_owned()])
        );
        assert_eq!(one("listen_addresses = 'localhost, 192.0.2.1'\nListen_Addresses=''\n"), (5432, vec![]));
        assert_eq!(one("portal = 7\nlisten_addresses = 'localhost'\n"), (5432, local));
        assert_eq!(setting("a.b = 'it''s \\'so\\'' # x"), Some(("a.b".into(), "it's 'so'".into())));
    }

    #[test]
    fn what_is_masked_is_no_server_and_one_on_a_socket_alone_is_looked_at_by_its_unit() {
        let server = Server::with(&[
            ("var/lib/dpkg/status", ""),
            ("lib/systemd/system/postgresql.service", "[Unit]\n"),
            ("lib/systemd/system/postgresql@.service", "[Unit]\n"),
            ("etc/postgresql/15/main/postgresql.conf", "listen_addresses = '*'\n"),
            ("etc/postgresql/15/quiet/postgresql.conf", "listen_addresses = ''\n"),
        ]);
        server.program("usr/lib/postgresql/15/bin/postgres", "");
        let found = |server: &Server| {
            let all = find(&server.tree()).unwrap().instances;
            all.into_iter().map(|one| (one.name, one.at)).collect::<Vec<_>>()
        };
        let (main, quiet) = (("15/main".to_owned(), At::Partners), ("15/quiet".to_owned(), At::Here));
        assert_eq!(found(&server), [main, quiet.clone()]);
        server.link("/dev/null", "etc/systemd/system/postgresql@15-main.service");
        assert_eq!(found(&server), [quiet]);
        server.link("/dev/null", "etc/systemd/system/postgresql.service");
        assert_eq!(found(&server), []);
    }

    #[test]
    fn how_a_cluster_starts_is_understood_or_told() {
        let of = |how: &str| {
            let (main, start) = ("etc/postgresql/15/main/postgresql.conf", "etc/postgresql/15/main/start.conf");
            let found = find(&Server::with(&[(main, ""), (start, how)]).tree()).unwrap();
            (found.instances.len(), [found.notes, found.problems].concat().join(" "))
        };
        assert_eq!(of("# how\nauto\n"), (1, String::new()));
        for how in ["manual", "disabled"] {
            assert_eq!(of(how), (0, format!("15/main at port 5432 is not exercised: its start.conf says '{how}'")));
        }
        let (number, told) = of("yes\n");
        assert!(number == 0 && told.contains("'yes' in /etc/postgresql/15/main/start.conf is none of auto"), "{told}");
    }

    #[test]
    fn what_is_included_and_what_alter_system_wrote_counts() {
        let main = "etc/postgresql/15/main/postgresql.conf";
        let included = [
            (
                main,
                "data_directory = '/var/lib/pg'\nport = 1\ninclude_if_exists = 'site.conf'\ninclude 'gone.conf'\ninclude_dir = 'conf.d'\n",
            ),
            ("etc/postgresql/15/main/site.conf", "Port = 2\n"),
            ("etc/postgresql/15/main/conf.d/a.conf", "port = 3\n"),
            ("etc/postgresql/15/main/conf.d/a.conf.off", "port = 4\n"),
        ];
        assert_eq!(read(&included).0, 3);
        let altered = ("var/lib/pg/postgresql.auto.conf", "listen_addresses = '*'\nport = '5433'\n");
        assert_eq!(read(&[&included[..], &[altered]].concat()), (5433, vec!["*".to_owned()]));
        let endless = Server::with(&[(main, "include 'postgresql.conf'\n")]);
        assert!(find(&endless.tree()).unwrap_err().to_string().contains("10 deep"));
    }

    #[test]
    fn one_that_stands_by_and_lets_nobody_in_is_not_exercised() {
        let main = "data_directory = '/var/lib/pg'\nlisten_addresses = '*'\nhot_standby = off\n";
        let server = Server::with(&[("etc/postgresql/15/main/postgresql.conf", main), ("var/lib/pg/x", "")]);
        assert_eq!(find(&server.tree()).unwrap().instances.len(), 1, "it is no standby");
        server.write("var/lib/pg/standby.signal", "");
        let found = find(&server.tree()).unwrap();
        assert!(found.instances.is_empty() && found.notes[0].contains("stands by"), "{found:?}");
        server.write("etc/postgresql/15/main/postgresql.conf", &main.replace("off", "on"));
        assert_eq!(find(&server.tree()).unwrap().instances.len(), 1);
    }

    #[test]
    fn the_server_s_own_word_comes_first_and_a_version_that_is_gone_is_no_server() {
        let server = Server::with(&[
            ("etc/postgresql/15/main/postgresql.conf", "port = 9\n"),
            ("etc/postgresql/13/main/postgresql.conf", ""),
        ]);
        let says = "[ \"$1\" = -C ] || exit 1; case $2 in port) echo 5444;; *) echo '*';; esac";
        server.program("usr/lib/postgresql/15/bin/postgres", says);
        let found = find(&server.tree().running()).unwrap().instances;
        let shown: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.options["port"].as_str(), one.at)).collect();
        assert_eq!(shown, [("15/main", "5444", At::Partners)]);
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

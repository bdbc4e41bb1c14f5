//! mariadb: MariaDB and MySQL greet, and, with an account, a table is made, written and read.
//!
//! Options: `credentials` (a file as the client's `--defaults-extra-file` reads it: `[client]`, `user=`, `password=`), `database` (the one in which the
//! temporary table is made).

use super::{
    daemon::{self, Daemon, started},
    database,
    found::{self, Finding, Six, reached},
    included,
};
use crate::{
    cold_boot,
    seen::Look,
    service::{Service, Target, Tree},
    talk::Talk,
};
use anyhow::Context;
use atlas_host::process::{Command, ProcessError};
use atlas_model::verify::{Found, Instance, Profile};
use std::time::Instant;

pub(super) const SERVICE: Service = Service {
    name: "mariadb",
    about: "MariaDB and MySQL greet, and, with an account, write and read",
    interval: 60,
    deadline: 20,
    find,
    verify,
};

const DAEMON: Daemon = Daemon {
    name: "mariadb",
    programs: &["mariadbd", "mysqld"],
    units: &["mariadb.service", "mysql.service", "mysqld.service"],
};
/// The longest greeting, in bytes.
const LONGEST: usize = 4096;
/// A table that nobody else sees and that is gone with the connection, written and read.
const EXERCISE: &str = "CREATE TEMPORARY TABLE atlas_verify (number integer); INSERT INTO atlas_verify VALUES (20), (22); \
    SELECT SUM(number) FROM atlas_verify";
const RESULT: &str = "42";

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let dir = tree.installed("mariadb", "/etc/mysql");
    if !DAEMON.is_there(tree) {
        return Ok(finding.done());
    }
    let lines = included::lines(tree, &mut finding, &format!("{dir}/my.cnf"), &|line| {
        let (word, path) = line.split_once(char::is_whitespace)?;
        match word {
            "!include" => Some(vec![path.trim().to_owned()]),
            "!includedir" => Some(tree.matching(&format!("{}/*.cnf", path.trim()))),
            _ => None,
        }
    })?;
    let told = ["mariadbd", "mysqld"].iter().filter(|_| dir == "/etc/mysql").find_map(|program| {
        let told = daemon::says(tree, &mut finding, program, &["--print-defaults"])?;
        Some(defaults(&told))
    });
    // What its unit gives it, such as MYSQLD_OPTS, has the last word.
    let given = started::of_unit(tree, &DAEMON).unwrap_or_default();
    let given = defaults(&given.join("\n"));
    let with = |lines: &[String]| if given.len() > 1 { [lines, &given].concat() } else { lines.to_vec() };
    let server = match &told {
        Some(told) => server(&with(told), None),
        None => server(&with(&lines), version(tree).as_deref()),
    };
    if let Some(server) = server {
        finding.path(tree, dir);
        finding.files_of(tree, of_server(told.as_ref().unwrap_or(&lines), version(tree).as_deref()));
        if !server.is_networked {
            finding.instance(found::on_a_socket("socket"));
            return Ok(finding.done());
        }
        let six = if server.addresses.iter().any(|at| at == "::") { six(version(tree).as_deref()) } else { Six::Alone };
        let (at, where_to) = reached(server.addresses.iter().map(String::as_str), six);
        finding.instance(Instance {
            name: server.port.to_string(),
            options: [("port".to_owned(), server.port.to_string())].into_iter().chain(where_to).collect(),
            at,
        });
    }
    Ok(finding.done())
}

/// What `--print-defaults` says, as lines of a file: `--port=3306 --bind-address=127.0.0.1`.
fn defaults(told: &str) -> Vec<String> {
    let options = told.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    ["[mysqld]"].into_iter().chain(options).map(str::to_owned).collect()
}

struct Server {
    /// Whether clients come over the network at all.
    is_networked: bool,
    port: u16,
    /// Where it listens.
    addresses: Vec<String>,
}

/// Whether a section is a server's: `mysqld`, `mariadb-10.11`; not a client's, such as `mariadb-dump`.
fn is_server(section: &str, version: Option<&str>) -> bool {
    let names = ["mysqld", "mariadbd", "mariadb", "server", "galera"];
    let of_version = |name: &str| {
        let of = section.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        // One of another version is not read.
        of.is_some_and(|of| version.is_none_or(|is| is == of) && of.starts_with(|c: char| c.is_ascii_digit()))
    };
    names.contains(&section) || names[..3].iter().any(|name| of_version(name))
}

/// `10.11`, as dpkg knows it.
fn version(tree: &Tree) -> Option<String> {
    tree.look(Look::File, "/var/lib/dpkg/status");
    let packages = cold_boot::packages(tree.path())?;
    let is_server = |name: &str| name.starts_with("mariadb-server") || name.starts_with("mysql-server");
    let version = packages.iter().find(|(name, _)| is_server(name)).map(|(_, version)| version)?;
    let numbers: Vec<&str> = version.split_once(':').map_or(version.as_str(), |(_, rest)| rest).split('.').collect();
    Some(numbers.get(..2)?.join("."))
}

/// What `::` means: before it could listen on several addresses, it took IPv4 as well there.
fn six(version: Option<&str>) -> Six {
    let number = |version: &str| -> Option<(u32, u32)> {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let is_old = version.and_then(number).is_some_and(|version| version < (10, 11));
    if is_old { Six::AndFour } else { Six::Alone }
}

/// The name of a section, of the line that begins it.
fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[').map(|line| line.split(']').next().unwrap_or_default().trim())
}

/// What is said to a server, without comments.
fn of_server<'l>(lines: &'l [String], version: Option<&str>) -> impl Iterator<Item = &'l str> {
    let mut is_in = false;
    lines.iter().filter(|line| !line.starts_with(['#', ';'])).filter_map(move |line| {
        let section = section(line);
        is_in = section.map_or(is_in, |name| is_server(name, version) || name == "client-server");
        line.split('#').next().filter(|_| is_in && section.is_none())
    })
}

/// The server that is configured; `None` where only clients are, or where it is on no network.
fn server(lines: &[String], version: Option<&str>) -> Option<Server> {
    let (mut is_networked, mut port, mut address) = (true, 3306, "*".to_owned());
    let is_there = lines.iter().filter_map(|line| section(line)).any(|name| is_server(name, version));
    for line in of_server(lines, version) {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let key = key.trim().replace('_', "-").to_ascii_lowercase();
        let value = value.trim().trim_matches(['"', '\'']);
        let key = key.trim_start_matches("loose-");
        // A name may be cut short, while it is that of one alone.
        let whole = |name: &'static str| name.starts_with(key) && key.len() > "skip-n".len();
        let key = ["bind-address", "skip-networking"].into_iter().find(|name| whole(name)).unwrap_or(key);
        match key {
            "port" => port = value.parse().unwrap_or(port),
            "bind-address" => value.clone_into(&mut address),
            "skip-networking" => is_networked = matches!(value.to_ascii_lowercase().as_str(), "0" | "off" | "false"),
            "skip-bind-address" => "*".clone_into(&mut address),
            _ => (),
        }
    }
    let addresses = address.split(',').map(|at| at.trim().to_owned()).collect();
    is_there.then_some(Server { is_networked: is_networked && port != 0, port, addresses })
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    if let Some(told) = found::is_on_a_socket(target) {
        return Ok(told);
    }
    let port = target.port(3306)?;
    let hint = format!(
        "on that server: systemctl status mariadb mysql; journalctl -u mariadb; ss -ltnp 'sport = :{port}'; nft list ruleset"
    );
    let start = Instant::now();
    let said = match Talk::open(target, port)? {
        Ok(mut talk) => {
            let said = greeting(&mut talk);
            if matches!(said, Ok(Greeting::Version(_))) {
                log_in(&mut talk);
            }
            said
        }
        Err(why) => return Ok(Profile::unacceptable(format!("nobody answers on port {port}: {why}")).hint(hint)),
    };
    let answer = target.time("answer", start, 500.0, None)?;
    let credentials = target.option("credentials");
    let what = match said {
        Ok(Greeting::Version(version)) => format!("{version} answers"),
        // This host has no account: that says nothing of others.
        Ok(Greeting::Refusal(1130, _)) if credentials.is_none() => "it answers, and lets nobody in from here".into(),
        Ok(Greeting::Refusal(code, text)) => {
            return Ok(Profile::unacceptable(format!("port {port}: it refuses: {text} ({code})")).hint(hint));
        }
        Err(why) => return Ok(Profile::unacceptable(format!("port {port}: {why}")).hint(hint)),
    };
    let Some(credentials) = credentials else { return Ok(Profile::ok(what).measure(answer)) };
    let start = Instant::now();
    Ok(match exercise(target, port, credentials)? {
        Ok(()) => Profile::ok(format!("{what}; a table was made, written and read"))
            .measure(answer)
            .measure(target.time("query", start, 2000.0, None)?),
        Err(why) => Profile::unacceptable(format!("{what}, but: {why}")).hint(hint),
    })
}

/// What a server says first.
#[derive(Debug, PartialEq)]
enum Greeting {
    Version(String),
    Refusal(u16, String),
}

fn greeting(talk: &mut Talk) -> Result<Greeting, String> {
    let head = talk.exactly(4)?;
    let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
    if head[3] != 0 || length == 0 || length > LONGEST {
        return Err("what answers is no MariaDB".into());
    }
    read_greeting(&talk.exactly(length)?).ok_or_else(|| "what answers is no MariaDB".into())
}

/// Logs in as somebody whom the server does not know. Whoever goes after the greeting is counted as broken, and after a hundred times
/// (`max_connect_errors`) nobody is let in from this server any more.
fn log_in(talk: &mut Talk) {
    // Protocol 4.1, with a password of the usual kind, which is empty.
    let flags: u32 = 0x1 | 0x200 | 0x8000;
    let mut answer = [&flags.to_le_bytes()[..], &(1_u32 << 24).to_le_bytes(), &[33], &[0; 23]].concat();
    answer.extend_from_slice(b"atlas_verify\0\0");
    for number in [1, 3] {
        let length = u32::try_from(answer.len()).unwrap_or_default().to_le_bytes();
        let head = [length[0], length[1], length[2], number];
        let Ok(head) = talk.say(&[&head[..], &answer].concat()).and_then(|()| talk.exactly(4)) else { return };
        let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        let Ok(said) = talk.exactly(length.min(LONGEST)) else { return };
        match said.first() {
            // It lets everybody in: take leave.
            Some(0) => drop(talk.say(&[1, 0, 0, 0, 1])),
            // It wants to have the password in another way.
            Some(0xfe) => {
                answer.clear();
                continue;
            }
            _ => {}
        }
        return;
    }
}

fn read_greeting(packet: &[u8]) -> Option<Greeting> {
    match packet.split_first()? {
        (10, rest) => {
            let version = rest.split(|byte| *byte == 0).next()?;
            Some(Greeting::Version(String::from_utf8_lossy(version).escape_debug().to_string()))
        }
        (255, rest) => {
            let code = u16::from_le_bytes([*rest.first()?, *rest.get(1)?]);
            Some(Greeting::Refusal(code, String::from_utf8_lossy(&rest[2..]).escape_debug().to_string()))
        }
        _ => None,
    }
}

/// With the client program; inside, what it complains of.
fn exercise(target: &Target, port: u16, credentials: &str) -> anyhow::Result<Result<(), String>> {
    let ask = |program: &str| -> anyhow::Result<_> {
        let command = Command::new(program)
            // Has to stand first.
            .arg(format!("--defaults-extra-file={credentials}"))
            .args(["--protocol=tcp", "--batch", "--skip-column-names"])
            .arg(format!("--host={}", target.address()?))
            .arg(format!("--port={port}"))
            .arg(format!("--database={}", target.option("database").unwrap_or("test")))
            .arg(format!("--execute={EXERCISE}"));
        Ok(target.client(command.own_env()))
    };
    let output = match ask("mariadb")? {
        // What it is called where MySQL is.
        Err(ProcessError::Start { .. }) => ask("mysql")?,
        output => output,
    };
    let output = output.context("ask with the client program (Debian package mariadb-client)")?;
    Ok(database::is_read(output, RESULT))
}

#[cfg(feature = "testing")]
pub(super) fn reads(bytes: &[u8]) -> bool {
    read_greeting(bytes).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::verify::At;

    #[test]
    fn a_server_is_there_where_its_section_is() {
        let server = |text: &str| {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            super::server(&lines, Some("10.11")).filter(|server| server.is_networked).map(|server| {
                (server.port, !server.addresses.contains(&"*".to_owned()) && server.addresses != ["0.0.0.0"])
            })
        };
        assert_eq!(server("[client]\nport = 3307\n[client-server]\nsocket = /x\n"), None);
        assert_eq!(server("[client]\nport = 1\n[mysqld]\nbind-address = 127.0.0.1 # us\n"), Some((3306, true)));
        assert_eq!(server("[mariadbd]\nport=3307\nbind_address=0.0.0.0\n[mysqldump]\nport=4\n"), Some((3307, false)));
        assert_eq!(server("[mysqld]\nskip-networking\n"), None);
        assert_eq!(server("[mysqld]\nskip-networking = 0\n"), Some((3306, false)));
        assert_eq!(server("[mariadb-client]\n[mariadb-dump]\nport=4\n[mariadb-upgrade]\n"), None);
        assert_eq!(server("[mariadb-10.11]\nport = 3310\n"), Some((3310, false)));
        assert_eq!(server("[mysqld] # ours\nSKIP_NETWORKING\n"), None);
        let lines =
            ["[client]", "a = 1", "[mysqld] # ours", "ssl_cert = /srv/a.pem # ours", "#b", "[mysqldump]", "c = 1"];
        let lines = lines.map(str::to_owned);
        let own: Vec<&str> = of_server(&lines, None).collect();
        assert_eq!(own, ["ssl_cert = /srv/a.pem "]);
    }

    #[test]
    fn one_on_a_socket_alone_is_looked_at_by_its_unit() {
        let server = Server::with(&[("etc/mysql/my.cnf", "[mysqld]\nskip-networking\n")]);
        let found = find(&server.tree()).unwrap();
        let instance = &found.instances[0];
        assert_eq!((instance.at, found.paths.contains(&"/etc/mysql".to_owned())), (At::Here, true), "{found:?}");
        let target = Target { options: instance.options.clone(), ..server.target() };
        assert!(verify(&target).unwrap().summary.contains("a socket alone"));
    }

    #[test]
    fn an_old_one_takes_ipv4_too_where_it_listens_on_all_of_ipv6() {
        let at = |version: &str| {
            let status = format!("Package: mariadb-server\nStatus: install ok installed\nVersion: {version}\n");
            let server = Server::with(&[
                ("etc/mysql/my.cnf", "[mysqld]\nbind-address = ::\n"),
                ("var/lib/dpkg/status", &status),
            ]);
            server.program("usr/sbin/mariadbd", "");
            find(&server.tree()).unwrap().instances.remove(0).at
        };
        assert_eq!(
            (at("1:10.5.29-0+deb11u1"), at("1:10.11.14-0+deb12u2"), at("1:11.8.3-1")),
            (At::Partners, At::Here, At::Here)
        );
    }

    #[test]
    fn what_the_server_would_start_with_comes_before_its_files() {
        let server = Server::with(&[("etc/mysql/my.cnf", "[mysqld]\nport = 1\n")]);
        let found = |server: &Server| find(&server.tree().running()).unwrap().instances;
        assert!(found(&server).is_empty(), "there is no server");
        server.program("usr/sbin/mariadbd", "echo 'mariadbd would have been started with the following arguments:'; echo '--port=3311 --bind-address=::1 '");
        assert_eq!((found(&server)[0].name.as_str(), found(&server)[0].at), ("3311", At::Here));
    }

    #[test]
    fn a_greeting_or_a_refusal_is_read() {
        assert_eq!(read_greeting(b"\x0a10.11.6-MariaDB\0more"), Some(Greeting::Version("10.11.6-MariaDB".into())));
        let full = Greeting::Refusal(1040, "#08004Too many connections".into());
        assert_eq!(read_greeting(b"\xff\x10\x04#08004Too many connections"), Some(full));
        assert_eq!(read_greeting(b"\xff\x10"), None);
        assert_eq!(read_greeting(b"SSH-2.0"), None);
    }
}

//! ssh: somebody listens where sshd is configured to, and speaks the protocol in good time.

use super::{
    access,
    daemon::{self, Daemon, started},
    found::{Finding, Six, reached},
    wrapped,
};
use crate::service::{Service, Target, Tree};
use atlas_model::verify::{Found, Instance, Profile};
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read},
    time::Instant,
};

pub(super) const SERVICE: Service = Service {
    name: "ssh",
    about: "sshd accepts connections on its ports and says who it is",
    interval: 30,
    deadline: 10,
    find,
    verify,
};

const CONFIG: &str = "/etc/ssh";
/// What sshd says instead of its greeting to who came too often.
const PENALTY: &str = "Not allowed at this time";
/// The longest greeting line that the protocol allows, in bytes.
const LONGEST: u64 = 255;

const DAEMON: Daemon =
    Daemon { name: "ssh", programs: &["sshd"], units: &["ssh.service", "ssh.socket", "sshd.service"] };
/// Where a socket of systemd that listens for sshd is described, the weightiest place last.
const SOCKETS: [&str; 4] =
    ["/usr/lib/systemd/system", "/run/systemd/generator", "/run/systemd/system", "/etc/systemd/system"];

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let mut finding = Finding::default();
    let dir = tree.installed("ssh", CONFIG);
    let mut main = format!("{dir}/sshd_config");
    if !tree.exists(&main) || !DAEMON.is_there(tree) {
        return Ok(finding.done());
    }
    let options = started::words(tree, &mut finding, &DAEMON, "ssh", "SSHD_OPTS");
    if let Some(file) = started::option(&options, "-f").filter(|file| tree.exists(file)) {
        main = file.to_owned();
    }
    let mut included = vec![];
    let mut own = Config::read(tree, dir, &main, &mut included)?;
    // Given at its start, a port stands for those of the file.
    if let Some(port) = started::option(&options, "-p").and_then(|port| port.parse().ok()) {
        own.ports = vec![port];
    }
    let places = [main, format!("{dir}/sshd_config.d")];
    places.iter().chain(&included).for_each(|path| finding.path(tree, path));
    for (setting, word) in own.words.iter().filter(|(_, word)| !word.starts_with("/home")) {
        // What else has a place for each account, as ChrootDirectory, is its data.
        match each(word).filter(|_| setting.starts_with("authorized")) {
            Some(directory) => finding.path(tree, &directory),
            None => finding.files_from(tree, dir, setting, word),
        }
    }
    for key in own.keys.iter().filter(|key| !key.starts_with(CONFIG)) {
        finding.note(format!(
            "the host key {key} is this server's own, and does not travel: sshd of a secondary starts with one of its own there \
             (ssh-keygen -t ed25519 -N '' -f {key}), which IdentFilePaths lists"
        ));
    }
    // What is about running it is no matter of its configuration.
    let about = options.iter().map(String::as_str).filter(|word| !["-D", "-d", "-e", "-q", "-i"].contains(word));
    let ask: Vec<&str> = ["-T"].into_iter().chain(about).collect();
    let told = (dir == CONFIG).then(|| daemon::says(tree, &mut finding, "sshd", &ask)).flatten();
    // Where systemd listens for it, its own words on ports count for nothing.
    let listens = socket(tree).unwrap_or_else(|| told.map_or_else(|| own.listens(), |told| listen_addresses(&told)));
    let clients = wrapped::option(tree, &mut finding, "sshd")?;
    let ports: BTreeSet<u16> = listens.iter().map(|(_, port)| *port).collect();
    for port in ports {
        let addresses = || listens.iter().filter(move |(_, at)| *at == port).map(|(address, _)| address.as_str());
        let (at, where_to) = reached(addresses(), Six::Alone);
        finding.instance(Instance {
            name: port.to_string(),
            options: [("port".to_owned(), port.to_string())]
                .into_iter()
                .chain(where_to)
                .chain(clients.clone())
                .collect(),
            at,
        });
    }
    Ok(finding.done())
}

/// An address, empty for all, and a port.
type Listen = (String, u16);

/// What of a configuration is about listening.
#[derive(Default)]
struct Config {
    ports: Vec<u16>,
    addresses: Vec<(String, Option<u16>)>,
    /// Each word that a setting has, for all or for some, with its name: some are files.
    words: Vec<(String, String)>,
    /// The files of its identity.
    keys: Vec<String>,
}

/// Settings whose files are of the identity.
const IDENTITY: [&str; 2] = ["hostkey", "hostcertificate"];

/// The directory of a file that is another for each account: `/etc/ssh/keys/%u`.
fn each(path: &str) -> Option<String> {
    let place = path.split_once('%')?.0.rsplit_once('/')?.0;
    let is_wide = ["", CONFIG].contains(&place) || place.matches('/').count() < 2;
    (place.starts_with('/') && !is_wide).then(|| place.to_owned())
}

impl Config {
    fn read(tree: &Tree, dir: &str, main: &str, included: &mut Vec<String>) -> anyhow::Result<Config> {
        let mut config = Config::default();
        config.file(tree, dir, main, included, 0)?;
        Ok(config)
    }

    /// Reads a file; what stands under a Match, which ends with the file, is not about the server as a whole.
    fn file(
        &mut self,
        tree: &Tree,
        dir: &str,
        path: &str,
        included: &mut Vec<String>,
        depth: usize,
    ) -> anyhow::Result<()> {
        // As deep as sshd goes.
        anyhow::ensure!(depth <= 16 && included.len() < 1000, "{path}: files include each other without end");
        let mut is_for_all = true;
        for line in tree.read(path)?.unwrap_or_default().lines() {
            let words = words(line);
            let Some((key, args)) = words.split_first() else { continue };
            let first = args.first().map(String::as_str).unwrap_or_default();
            let key = key.to_ascii_lowercase();
            match IDENTITY.contains(&key.as_str()) {
                true => self.keys.extend(args.iter().cloned()),
                false => self.words.extend(args.iter().map(|word| (key.clone(), word.clone()))),
            }
            match key.as_str() {
                "match" => is_for_all = first.eq_ignore_ascii_case("all"),
                _ if !is_for_all => {}
                "port" => self.ports.extend(first.parse::<u16>()),
                "listenaddress" => self.addresses.extend(address(first)),
                "include" => {
                    for pattern in args {
                        let pattern =
                            if pattern.starts_with('/') { pattern.clone() } else { format!("{dir}/{pattern}") };
                        for file in tree.matching(&pattern) {
                            included.push(file.clone());
                            self.file(tree, dir, &file, included, depth + 1)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn listens(&self) -> Vec<Listen> {
        let ports = if self.ports.is_empty() { &[22][..] } else { &self.ports };
        let all = [(String::new(), None)];
        let addresses = if self.addresses.is_empty() { &all[..] } else { &self.addresses };
        let of = |(address, port): &(String, Option<u16>)| -> Vec<Listen> {
            let ports = port.map_or(ports.to_vec(), |port| vec![port]);
            ports.into_iter().map(|port| (address.clone(), port)).collect()
        };
        addresses.iter().flat_map(of).collect()
    }
}

/// The words of a line; `=` may stand for a blank, quotes hold blanks, and a `#` between words ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut rest) = (vec![], line.trim_start());
    while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
        let (word, after) = match first {
            '"' => rest[1..].split_once('"').unwrap_or((&rest[1..], "")),
            _ => rest.split_at(rest.find([' ', '\t', '=']).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start_matches([' ', '\t', '=']);
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `192.0.2.1`, `host:2222`, `[::]:2222`, `::1`: an address and, perhaps, a port.
fn address(text: &str) -> Option<(String, Option<u16>)> {
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return Some((address.to_owned(), rest.strip_prefix(':').and_then(|port| port.parse().ok())));
    }
    match text.split_once(':') {
        _ if text.is_empty() => None,
        Some((address, port)) if !port.contains(':') => Some((address.to_owned(), port.parse().ok())),
        _ => Some((text.to_owned(), None)),
    }
}

/// What `sshd -T` says.
fn listen_addresses(told: &str) -> Vec<Listen> {
    let lines = told.lines().filter_map(|line| line.strip_prefix("listenaddress "));
    lines.filter_map(|at| address(at.split(' ').next()?)).map(|(at, port)| (at, port.unwrap_or(22))).collect()
}

/// Where systemd listens for sshd; `None` where it does not.
fn socket(tree: &Tree) -> Option<Vec<Listen>> {
    let enabled = ["sockets.target.wants/ssh.socket", "ssh.service.requires/ssh.socket"];
    if !enabled.iter().any(|link| tree.exists(&format!("/etc/systemd/system/{link}"))) {
        return None;
    }
    let files = SOCKETS.iter().map(|dir| format!("{dir}/ssh.socket")).rfind(|file| tree.exists(file));
    let drop_ins = SOCKETS.iter().flat_map(|dir| tree.matching(&format!("{dir}/ssh.socket.d/*.conf")));
    let mut listens: Vec<Listen> = vec![];
    for file in files.into_iter().chain(drop_ins) {
        for value in tree.read(&file).ok()??.lines().filter_map(|line| line.trim().strip_prefix("ListenStream=")) {
            match value.trim() {
                "" => listens.clear(),
                port if port.parse::<u16>().is_ok() => listens.extend(port.parse().map(|port| (String::new(), port))),
                at => listens.extend(address(at).and_then(|(at, port)| {
                    // For systemd, `::` is of both families.
                    Some((if at == "::" { String::new() } else { at }, port?))
                })),
            }
        }
    }
    Some(listens).filter(|listens| !listens.is_empty())
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let port = target.port(22)?;
    let start = Instant::now();
    let hint = format!(
        "on that server: systemctl status ssh; sshd -t; ss -ltnp 'sport = :{port}'; and its firewall: nft list ruleset"
    );
    let stream = match target.connect(port)? {
        Ok(stream) => stream,
        Err(error) => return Ok(Profile::unacceptable(format!("nobody answers on port {port}: {error}")).hint(hint)),
    };
    let mut greeting = String::new();
    let read = BufReader::new(stream.take(LONGEST)).read_line(&mut greeting);
    let greeting = greeting.trim_end();
    // Whom TCP wrappers keep out gets no word.
    if (read.is_err() || greeting.is_empty()) && access::is_let_in(target)? != Some(true) {
        return Ok(Profile::ok(format!(
            "not exercised: port {port} accepts, and /etc/hosts.deny of that server keeps this one out, or may"
        )));
    }
    Ok(match read {
        Err(error) => Profile::unacceptable(format!("port {port} accepts and then says nothing: {error}")).hint(hint),
        // `PerSourcePenalties`: who comes and goes too often is turned away for a while, and each check comes and goes.
        Ok(_) if greeting == PENALTY => Profile::ok(format!(
            "sshd answers on port {port}, and turns this server away for a while, as its PerSourcePenalties say"
        )),
        Ok(_) if !greeting.starts_with("SSH-2.0-") => {
            Profile::unacceptable(format!("what answers on port {port} is no ssh: '{}'", greeting.escape_debug()))
                .hint(hint)
        }
        Ok(_) => {
            Profile::ok(format!("{} answers on port {port}", greeting.trim_start_matches("SSH-2.0-").escape_debug()))
                .measure(target.time("answer", start, 1000.0, None)?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::verify::At;

    fn read(files: &[(&str, &str)]) -> Vec<Listen> {
        let server = Server::with(files);
        Config::read(&server.tree(), "/etc/ssh", "/etc/ssh/sshd_config", &mut vec![]).unwrap().listens()
    }

    fn main(text: &str) -> Vec<Listen> {
        read(&[("etc/ssh/sshd_config", text)])
    }

    fn all(ports: &[u16]) -> Vec<Listen> {
        ports.iter().map(|port| (String::new(), *port)).collect()
    }

    #[test]
    fn ports_are_those_of_the_configuration_and_22_where_it_names_none() {
        assert_eq!(main("# Port 99\nPermitRootLogin no\n"), all(&[22]));
        assert_eq!(main("Port 2222\nport=22 # both\nMatch User x\n  Port 5\n"), all(&[2222, 22]));
        assert_eq!(main("Match User x\nPort 5\nMatch all\nPort \"6\"\n"), all(&[6]));
        let server =
            Server::with(&[("etc/ssh/sshd_config", "Port 22\n"), ("etc/default/ssh", "SSHD_OPTS=\"-p 2222\"\n")]);
        let found = find(&server.tree()).unwrap();
        let ports: Vec<&str> = found.instances.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((ports, found.paths.contains(&"/etc/default/ssh".to_owned())), (vec!["2222"], true));
        server.program("usr/sbin/sshd", "echo \"listenaddress 0.0.0.0:$3\"");
        let found = find(&server.tree().running()).unwrap();
        assert_eq!(found.instances[0].name, "2222", "it is asked as it is started");
    }

    #[test]
    fn an_address_may_have_a_port_of_its_own() {
        let listens = main(
            "Port 22\nListenAddress 0.0.0.0:2222\nListenAddress [::1]:2223\nListenAddress ::\nListenAddress a.example:24\n",
        );
        let expected = [("0.0.0.0", 2222), ("::1", 2223), ("::", 22), ("a.example", 24)];
        assert_eq!(listens, expected.map(|(at, port)| (at.to_owned(), port)));
    }

    #[test]
    fn a_file_counts_where_it_is_included_and_its_match_ends_with_it() {
        let included = [
            (
                "etc/ssh/sshd_config",
                "Include sshd_config.d/*.conf\nPort 23\nMatch Group sftp\n  ForceCommand internal-sftp\n",
            ),
            ("etc/ssh/sshd_config.d/10-port.conf", "Port 2222\nMatch User x\nPort 4\n"),
        ];
        assert_eq!(read(&included), all(&[2222, 23]));
        assert_eq!(read(&[("etc/ssh/sshd_config", ""), included[1]]), all(&[22]));
        let server = Server::with(&[("etc/ssh/sshd_config", "Include sshd_config\n")]);
        assert!(find(&server.tree()).is_err());
    }

    #[test]
    fn what_decides_who_gets_in_travels() {
        let server = Server::with(&[
            (
                "etc/ssh/sshd_config",
                "TrustedUserCAKeys /etc/ssh/ca.pub\nRevokedKeys none\nAuthorizedKeysFile .ssh/authorized_keys /etc/ssh/keys/%u /home/%u/keys\n\
                Banner /etc/issue.net\nHostKey /etc/ssh/own\nMatch Group staff\n  AuthorizedPrincipalsFile /etc/ssh/%u\n  AuthorizedKeysCommand /usr/local/bin/keys %u\n",
            ),
            ("etc/ssh/ca.pub", ""),
            ("etc/ssh/keys/anne", ""),
            ("etc/ssh/own", ""),
            ("etc/issue.net", ""),
            ("usr/local/bin/keys", ""),
            ("home/anne/keys", ""),
        ]);
        let expected =
            ["/etc/ssh/sshd_config", "/etc/ssh/ca.pub", "/etc/ssh/keys", "/etc/issue.net", "/usr/local/bin/keys"];
        let found = find(&server.tree()).unwrap();
        assert_eq!((found.paths, found.notes.len()), (expected.map(str::to_owned).to_vec(), 0));
        let server = Server::with(&[("etc/ssh/sshd_config", "HostKey /srv/ssh/key\n"), ("srv/ssh/key", "")]);
        let found = find(&server.tree()).unwrap();
        assert_eq!(found.paths, ["/etc/ssh/sshd_config"]);
        assert!(found.notes[0].contains("ssh-keygen -t ed25519 -N '' -f /srv/ssh/key"), "{:?}", found.notes);
    }

    #[test]
    fn sshd_s_own_word_comes_before_its_files_and_systemd_s_before_both() {
        let server = Server::with(&[("etc/ssh/sshd_config", "Port 9\n")]);
        server.program("usr/sbin/sshd", "[ \"$1\" = -T ] && echo port 22 && echo listenaddress '[::]:2222' && echo listenaddress 0.0.0.0:2222 && echo 'listenaddress 127.0.0.1:24 rdomain x' && echo 'listenaddress [::]:26'");
        let found = |server: &Server| {
            let found = find(&server.tree().running()).unwrap().instances;
            found.into_iter().map(|one| (one.name, one.at)).collect::<Vec<_>>()
        };
        let expected = [("24", At::Here), ("26", At::Here), ("2222", At::Partners)];
        assert_eq!(found(&server), expected.map(|(port, at)| (port.to_owned(), at)));
        server.write("etc/systemd/system/sockets.target.wants/ssh.socket", "");
        server.write("usr/lib/systemd/system/ssh.socket", "[Socket]\nListenStream=22\nAccept=no\n");
        assert_eq!(found(&server), [("22".to_owned(), At::Partners)]);
        server.write("etc/systemd/system/ssh.socket.d/a.conf", "[Socket]\nListenStream=\nListenStream=[::]:2022\n");
        assert_eq!(found(&server), [("2022".to_owned(), At::Partners)]);
    }
}

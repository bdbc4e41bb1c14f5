//! What its unit hands a daemon besides its configuration: words of the unit and its drop-ins, variables in files of `/etc/default`.

use super::UNITS;
use crate::{
    cold_boot::unit_file::{self, UnitFile},
    seen::Look,
    service::Tree,
    services::found::Finding,
};
use std::collections::BTreeMap;

/// The words that the first of these units there hands the daemon, as systemd would; [`options`] where there is none, or where it starts another
/// program, which starts the daemon.
pub(in crate::services) fn words(
    tree: &Tree,
    finding: &mut Finding,
    daemon: &super::Daemon,
    name: &str,
    variable: &str,
) -> Vec<String> {
    let of_file = options(tree, finding, name, variable);
    of_unit(tree, daemon).unwrap_or(of_file)
}

/// The words that its unit hands a daemon; `None` where no unit starts it itself.
pub(in crate::services) fn of_unit(tree: &Tree, daemon: &super::Daemon) -> Option<Vec<String>> {
    let services = daemon.units.iter().filter(|unit| unit.ends_with(".service"));
    let file = services
        .inspect(|unit| {
            for dir in UNITS {
                [format!("{dir}/{unit}"), format!("{dir}/{unit}.d")].iter().for_each(|path| tree.look(Look::Way, path));
                tree.look(Look::File, &format!("{dir}/{unit}"));
                let drop_ins = tree.names(&format!("{dir}/{unit}.d"));
                drop_ins.iter().for_each(|name| tree.look(Look::File, &format!("{dir}/{unit}.d/{name}")));
            }
        })
        .find_map(|unit| UnitFile::read(tree.path(), unit))?;
    let line = file.commands("Service", "ExecStart").pop()?;
    let (program, given) = line.words.split_first()?;
    let program = program.rsplit('/').next()?;
    daemon.programs.iter().any(|known| known.rsplit('/').next() == Some(program)).then(|| {
        let variables = variables(tree, &file);
        given.iter().flat_map(|word| expanded(word, &variables)).collect()
    })
}

/// What its files of settings say has the last word.
fn variables(tree: &Tree, file: &UnitFile) -> BTreeMap<String, String> {
    let own = file.all("Service", "Environment").iter().flat_map(|value| unit_file::words(value));
    let own: Vec<(String, String)> = own.filter_map(|pair| pair.split_once('=').map(owned)).collect();
    let files = file.all("Service", "EnvironmentFile").iter().map(|path| path.trim_start_matches('-'));
    let texts = files.flat_map(|pattern| tree.matching(pattern)).filter_map(|path| tree.read(&path).ok().flatten());
    let of_files = texts.flat_map(|text| {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        lines.filter_map(|line| line.split_once('=').map(owned)).collect::<Vec<_>>()
    });
    own.into_iter().chain(of_files).collect()
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    let value = value.trim();
    let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    (name.trim().to_owned(), quoted.unwrap_or(value).to_owned())
}

/// `$NAME` alone stands for words, `${NAME}` for text; of one that is not known nothing is left.
fn expanded(word: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| variables.get(name).map_or("", String::as_str);
    if let Some(name) = word.strip_prefix('$').filter(|name| !name.starts_with(['{', '$'])) {
        return unit_file::words(value(name));
    }
    let (mut whole, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        whole = whole + before + value(name);
        rest = after;
    }
    vec![whole + rest]
}

/// The words that `variable` has in `/etc/default/NAME`, which travels: `SSHD_OPTS="-p 2222"`.
pub(in crate::services) fn options(tree: &Tree, finding: &mut Finding, name: &str, variable: &str) -> Vec<String> {
    let file = format!("/etc/default/{name}");
    finding.path(tree, &file);
    // systemd takes the last one, and quotes of both kinds.
    let text = tree.read(&file).ok().flatten().unwrap_or_default();
    let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(variable)?.strip_prefix('='));
    let value = values.next_back().unwrap_or_default().trim();
    let value = value.trim_matches(|c| c == '"' || c == '\'');
    value.split_whitespace().map(str::to_owned).collect()
}

/// The value of an option of one letter: `-p 2222` or `-p2222`; the last one counts.
pub(in crate::services) fn option<'w>(words: &'w [String], letter: &str) -> Option<&'w str> {
    let mut found = None;
    for (index, word) in words.iter().enumerate() {
        match word.strip_prefix(letter) {
            Some("") => found = words.get(index + 1).map(String::as_str),
            Some(value) => found = Some(value),
            None => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn a_daemon_is_started_as_its_unit_says() {
        const SSH: super::super::Daemon =
            super::super::Daemon { name: "ssh", programs: &["sshd"], units: &["ssh.socket", "ssh.service"] };
        let server = Server::with(&[("etc/default/ssh", "SSHD_OPTS=\"-p 2222\"\n")]);
        let given = |server: &Server| words(&server.tree(), &mut Finding::default(), &SSH, "ssh", "SSHD_OPTS");
        assert_eq!(given(&server), ["-p", "2222"], "without a unit");
        let unit = "[Service]\nEnvironment=MORE=-4 \"LEVEL=a b\"\nEnvironmentFile=-/etc/default/ssh\n\
            ExecStart=/usr/sbin/sshd -D $SSHD_OPTS -o${LEVEL}x $MORE $NONE\n";
        server.write("lib/systemd/system/ssh.service", unit);
        assert_eq!(given(&server), ["-D", "-p", "2222", "-oa bx", "-4"]);
        let drop_in = "[Service]\nExecStart=\nExecStart=/usr/sbin/sshd -D -p 2229\n";
        server.write("etc/systemd/system/ssh.service.d/port.conf", drop_in);
        assert_eq!(given(&server), ["-D", "-p", "2229"]);
        server
            .write("etc/systemd/system/ssh.service.d/port.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/wrapped\n");
        assert_eq!(given(&server), ["-p", "2222"], "what another program does with it is not known");
    }

    #[test]
    fn the_last_word_counts_and_the_file_travels() {
        let server =
            Server::with(&[("etc/default/ssh", "# SSHD_OPTS=-p 9\nSSHD_OPTS=\nSSHD_OPTS=\"-p 2222 -o X=y -p2223\"\n")]);
        let mut finding = Finding::default();
        let words = options(&server.tree(), &mut finding, "ssh", "SSHD_OPTS");
        assert_eq!(words, ["-p", "2222", "-o", "X=y", "-p2223"]);
        assert_eq!((option(&words, "-p"), option(&words, "-f")), (Some("2223"), None));
        assert_eq!(finding.done().paths, ["/etc/default/ssh"]);
        assert!(options(&server.tree(), &mut Finding::default(), "named", "OPTIONS").is_empty());
    }
}

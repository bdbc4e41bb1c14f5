//! What a daemon says of its configuration, and what our own readers make of the same files: same listeners, same names, same files.

use super::{case::Case, daemons, room::Room};
use atlas_model::verify::Found;
use std::path::Path;

/// What came of one configuration.
#[derive(Debug)]
pub enum Outcome {
    /// The daemon does not take it, and why.
    Refused(String),
    /// Both views are the same: so many instances.
    Same(Found),
    /// Each difference, in a line.
    Different(Vec<String>),
}

/// Lays out the configuration; what other daemons of the same service have goes.
pub fn layout(case: &Case) -> String {
    let others =
        daemons::ALL.iter().filter(|other| other.service == case.daemon.service && other.name != case.daemon.name);
    let others: String = others.map(|other| format!("rm -rf \"$W/m{0}\" \"$W/m{0}.d\"\n", other.dir)).collect();
    format!(
        "{others}cp -a --no-preserve=ownership \"$W/files/.\" \"$W/m/\"\n\
         cat >\"$W/m/prepare\" <<'END'\ncd /\n{}\n{}\nEND\n\
         in_root '. /prepare' || {{ echo 'it cannot be prepared'; exit 1; }}\n",
        case.daemon.prepare, case.setup
    )
}

/// Compares.
pub fn compare(root: &Path, programs: &Path, case: &Case) -> Outcome {
    let service = case.daemon.service;
    let script = format!(
        "{}in_root '{}' >\"$W/out/accepts\" 2>&1 || exit 3\n\
         in_root '/opt/atlas/programs/VerifyService {service} setup' >\"$W/out/asked\"\n\
         in_root '/opt/atlas/programs/VerifyService {service} setup --root /mirror' >\"$W/out/read\"\n\
         in_root '{}' >\"$W/out/names\" 2>/dev/null || true\n",
        layout(case),
        case.daemon.accepts.replace('\'', "'\\''"),
        case.daemon.names,
    );
    let mut room = Room::open(root, programs, case, &script);
    let is_good = room.ends();
    let found = |name: &str| serde_json::from_str::<Found>(&room.read(name));
    match (found("out/asked"), found("out/read")) {
        (Ok(asked), Ok(read)) if is_good => {
            let mut lines = differences(case, &asked, &read);
            lines.extend(misnamed(case, &asked, &room.read("out/names")));
            if lines.is_empty() { Outcome::Same(asked) } else { Outcome::Different(lines) }
        }
        _ => {
            let why = format!("{}{}", room.read("out/accepts"), room.read("out/log"));
            let lines: Vec<&str> = why.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines[lines.len().saturating_sub(3)..].join(" / ");
            // One that begins has been taken: then it is we who cannot read it.
            match room.at("out/asked").exists() {
                true => Outcome::Different(vec![format!("{}: it is not read: {last}", case.name)]),
                false => Outcome::Refused(last),
            }
        }
    }
}

/// What a daemon that SetUp cannot ask in full says of its names all the same: Apache its hosts by port, NFS its directories.
fn misnamed(case: &Case, found: &Found, said: &str) -> Vec<String> {
    let of = |line: &str| -> Option<(String, String)> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (case.daemon.name, &words[..]) {
            ("apache", ["port", port, "namevhost", name, ..]) => Some((name.to_ascii_lowercase(), (*port).to_owned())),
            ("apache", [at, name, file]) if file.starts_with('(') => {
                Some((name.to_ascii_lowercase(), at.rsplit_once(':')?.1.to_owned()))
            }
            ("nfs", [path, ..]) if path.starts_with('/') => Some((path.replace("\\040", " "), String::new())),
            _ => None,
        }
    };
    let names: Vec<(String, String)> = said.lines().filter_map(of).collect();
    let instances: Vec<(Option<&String>, &str)> = found
        .instances
        .iter()
        .map(|one| {
            (one.options.get("name").or(one.options.get("path")), one.options.get("port").map_or("", String::as_str))
        })
        .collect();
    let is_said = |port: &str| found.notes.iter().any(|note| note.contains(port) && note.contains("no name"));
    let missing = names.iter().filter(|(name, port)| {
        // A host without a name of its own is given that of the server.
        let is_it = |(known, at): &(Option<&String>, &str)| at == port && known.is_none_or(|known| known == name);
        !instances.iter().any(is_it) && (port.is_empty() || !is_said(port)) && port != "*"
    });
    let invented = instances.iter().filter_map(|(name, port)| Some(((*name)?, *port))).filter(|(name, port)| {
        !names.is_empty() && !names.iter().any(|(known, at)| known == *name && (at == port || at == "*"))
    });
    let missing =
        missing.map(|(name, port)| format!("{}: {} has {name} {port}, and SetUp has not", case.name, case.daemon.name));
    let invented = invented
        .map(|(name, port)| format!("{}: SetUp has {name} {port}, and {} has not", case.name, case.daemon.name));
    missing.chain(invented).collect()
}

/// What one view has and the other has not, in sentences.
fn differences(case: &Case, asked: &Found, read: &Found) -> Vec<String> {
    let instance = |one: &atlas_model::verify::Instance| format!("{} {:?} {:?}", one.name, one.at, one.options);
    let all = |found: &Found| -> Vec<(&str, String)> {
        let instances = found.instances.iter().map(|one| ("instance", instance(one)));
        let paths = found.paths.iter().map(|path| ("file", path.clone()));
        let placed = found.place.iter().map(|data| ("test data", data.path.clone()));
        instances.chain(paths).chain(placed).collect()
    };
    let (asked_all, read_all) = (all(asked), all(read));
    let only = |these: &[(&str, String)], others: &[(&str, String)], whose: &str| -> Vec<String> {
        let those = these.iter().filter(|one| !others.contains(one));
        those.map(|(kind, what)| format!("{}: {whose} says there is the {kind} {what}", case.name)).collect()
    };
    let mut lines = only(&asked_all, &read_all, &format!("{} alone", case.daemon.name));
    lines.extend(only(&read_all, &asked_all, "our own reader alone"));
    let (asked_problems, read_problems) = (&asked.problems, &read.problems);
    let more = [(asked_problems, read_problems, case.daemon.name), (read_problems, asked_problems, "our own reader")];
    for (these, others, whose) in more {
        let those = these.iter().filter(|one| !others.contains(one));
        lines.extend(those.map(|one| format!("{}: {whose} alone has the problem: {one}", case.name)));
    }
    let unasked = asked.notes.iter().filter(|note| note.contains("read instead"));
    lines.extend(unasked.map(|note| format!("{}: it was not asked: {note}", case.name)));
    lines
}

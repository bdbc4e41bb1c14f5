//! The one way past a refusal, for an operator who knows better: accept it on the console, once, for exactly the situation that was seen.
//!
//! ```text
//! /opt/atlas/accepted.json                written by `atlas-boot accept`; holds for the next boot, whose gate keeper removes what is left of it
//! /opt/atlas/accepted.d/<time>-CODE.json  what a boot used of it; …-not-used.json: what was for another situation
//! ```
//!
//! A boot that used one may be refused for another reason later. Whoever accepts that, too, accepts both: else each boot would need the one that the
//! boot before it has used up.

use crate::{Places, gate, refuse};
use atlas_host::{FileError, block, durable, tree::Dir};
use atlas_model::{Acceptance, BootReport, Refusal, RefusalCode};
use atlas_sid::{BoundData, bound::ESD_DATA};
use std::{
    ffi::OsStr,
    io::{self, IsTerminal, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

const FILE: &str = "accepted.json";

/// The file.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    /// The boot in which it was given.
    boot_id: String,
    accepted: Vec<Acceptance>,
}

/// What the operator answered on the command line; what is missing is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct AcceptArgs {
    /// The refusal to accept, as the refusal screen names it: missing-member, written-apart, foreign-cluster or address-in-use
    #[arg(value_parser = parse_code)]
    pub code: RefusalCode,
    /// The member to go on with, where there is a choice (written-apart): its device or its serial number
    #[arg(long, value_name = "DEVICE|SERIAL")]
    pub device: Option<String>,
    /// Why you know better; it is recorded
    #[arg(long, value_parser = parse_reason)]
    pub reason: Option<String>,
    /// Do not ask; for consoles on which nothing can be typed
    #[arg(long, requires = "reason")]
    pub i_accept_the_risk: bool,
}

fn parse_code(text: &str) -> Result<RefusalCode, String> {
    text.parse().map_err(|_| {
        let possible = RefusalCode::ALL.iter().filter(|code| code.risk_of_accepting().is_some());
        let names: Vec<String> = possible.map(ToString::to_string).collect();
        format!("no refusal is called so; those that can be accepted are {}", names.join(", "))
    })
}

fn parse_reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why you know better; it is recorded".into()),
        reason => Ok(reason.to_owned()),
    }
}

/// Records an acceptance for the next boot.
pub fn accept(places: &Places, args: &AcceptArgs) -> Result<String, String> {
    let report = read_report(places)?;
    let refusal = report.refusal.clone().filter(|refusal| refusal.code == args.code);
    let refusal =
        refusal.ok_or_else(|| format!("this server was not refused for '{}'; see /run/atlas/boot.json", args.code))?;
    let (Some(risk), Some(fingerprint)) = (args.code.risk_of_accepting(), refusal.fingerprint) else {
        return Err(format!("'{}' cannot be accepted, only repaired; see what the refusal says", args.code));
    };
    if args.code == RefusalCode::WrittenApart && args.device.is_none() {
        return Err("there is a choice to make: name the member to go on with, --device /dev/…".into());
    }
    let device = args.device.as_deref().map(member_called).transpose()?;
    let reason = match &args.reason {
        Some(reason) if args.i_accept_the_risk => reason.clone(),
        given => ask(&refusal.screen(), risk, args.code, given.as_deref())?,
    };
    let acceptance = Acceptance {
        format: 1,
        code: args.code,
        fingerprint,
        device,
        by: std::env::var("LOGNAME").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "root".into()),
        reason: reason.chars().take(500).collect(),
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        found: refusal.found,
    };
    let again = again(places, &report, args.code);
    let codes: Vec<String> = again.iter().map(|one| one.code.to_string()).collect();
    let all: Vec<Acceptance> = again.into_iter().chain([acceptance]).collect();
    let given = Given { boot_id: gate::boot_id(), accepted: all };
    let written = Dir::open_root(&places.root).and_then(|root| write_json(&root.make_dirs(ESD_DATA)?, FILE, &given));
    written.map_err(|error| format!("{error}: {}", error.source))?;
    let with =
        if codes.is_empty() { String::new() } else { format!(", and with it {} once more", codes.join(" and ")) };
    Ok(format!(
        "Recorded{with}. It holds for the next boot, and only for the situation as it is now: reboot to go on.\n"
    ))
}

/// What this boot needed beside that, for the set as this boot left it.
fn again(places: &Places, report: &BootReport, code: RefusalCode) -> Vec<Acceptance> {
    let foreign = || {
        let bound = BoundData::read(&Dir::open_root(&places.root).ok()?).ok()??;
        let ext4 = block::ext4_on(Path::new(&report.set.as_ref()?.device))?;
        refuse::foreign_cluster(report.cluster.as_ref()?, &bound.cluster.to_string(), &ext4).fingerprint
    };
    let now = |used: &Acceptance| match used.code {
        RefusalCode::ForeignCluster => {
            Acceptance { fingerprint: foreign().unwrap_or(used.fingerprint), ..used.clone() }
        }
        _ => used.clone(),
    };
    report.accepted.iter().filter(|used| used.code != code).map(now).collect()
}

/// The UUID that md gave the member: the kernel may name the devices otherwise at the next boot.
fn member_called(name: &str) -> Result<String, String> {
    let devices = block::devices().map_err(|error| format!("{error}: {}", error.source))?;
    let survey = block::survey(&devices);
    let member = survey.member_called(name);
    let uuid = member.map(|member| member.md.device_uuid.to_string());
    uuid.ok_or_else(|| format!("no member of the Unbound set is called '{name}'; the refusal lists them"))
}

pub(crate) fn read_report(places: &Places) -> Result<BootReport, String> {
    let read = || Dir::open_root(&places.run)?.read("atlas/boot.json", 4 << 20);
    let content =
        read().map_err(|error: FileError| format!("{error}: {}; was this server booted with ATLAS?", error.source))?;
    serde_json::from_slice(&content).map_err(|error| format!("/run/atlas/boot.json cannot be read: {error}"))
}

fn ask(screen: &str, risk: &str, code: RefusalCode, reason: Option<&str>) -> Result<String, String> {
    if !io::stdin().is_terminal() {
        return Err("nobody can be asked here; give --reason and --i-accept-the-risk".into());
    }
    let line = |question: &str| -> Result<String, String> {
        let mut answer = String::new();
        io::stdout()
            .write_all(question.as_bytes())
            .and_then(|()| io::stdout().flush())
            .map_err(|error| error.to_string())?;
        io::stdin().read_line(&mut answer).map_err(|error| error.to_string())?;
        Ok(answer.trim().to_owned())
    };
    let answer =
        line(&format!("{screen}\nIf you accept this: {risk}.\n\nType '{code}' to accept it for the next boot: "))?;
    if answer != code.to_string() {
        return Err("not accepted; nothing was recorded".into());
    }
    match reason {
        Some(reason) => Ok(reason.to_owned()),
        None => line("Why do you know better? It is recorded: ").and_then(|reason| {
            if reason.is_empty() { Err("without a reason nothing was recorded".into()) } else { Ok(reason) }
        }),
    }
}

fn write_json(dir: &Dir, name: &str, content: &impl serde::Serialize) -> Result<(), FileError> {
    let content = serde_json::to_vec_pretty(content).map_err(FileError::on("write", dir.show(name)))?;
    durable::write(dir, OsStr::new(name), &content, 0o600)
}

/// What was accepted for this boot. A file that cannot be read counts as none, and is told as a warning.
pub fn read(root: &Dir) -> Result<Vec<Acceptance>, String> {
    Ok(read_given(root)?.map(|given| given.accepted).unwrap_or_default())
}

/// What was accepted for this boot and does not count in it, where it ends with this refusal.
pub(crate) fn does_not_count(accepted: &[Acceptance], used: &[Acceptance], refusal: &Refusal) -> Option<String> {
    let unused: Vec<&Acceptance> = accepted.iter().filter(|one| !used.contains(one) && !one.is_for(refusal)).collect();
    if unused.is_empty() {
        return None;
    }
    let (same, others): (Vec<&Acceptance>, Vec<&Acceptance>) =
        unused.into_iter().partition(|one| one.code == refusal.code);
    let in_another = same.first().map(|one| format!("'{}' was accepted for this boot, in another situation", one.code));
    let codes: Vec<String> = others.iter().map(|one| format!("'{}'", one.code)).collect();
    let for_another = (!codes.is_empty())
        .then(|| format!("this boot did not come to what else was accepted for it ({})", codes.join(" and ")));
    let both: Vec<String> = in_another.into_iter().chain(for_another).collect();
    Some(format!("{}: that does not count any more, and is kept in /{ESD_DATA}/accepted.d", both.join("; ")))
}

fn read_given(root: &Dir) -> Result<Option<Given>, String> {
    let content = root
        .read_if_there(format!("{ESD_DATA}/{FILE}"), 64 << 10)
        .map_err(|error| format!("{error}: {}", error.source))?;
    let Some(content) = content else { return Ok(None) };
    match serde_json::from_slice::<Given>(&content) {
        Ok(given) => match given.accepted.iter().find(|one| one.format != 1) {
            None => Ok(Some(given)),
            Some(other) => Err(format!("the acceptance is of format {}, this program reads 1", other.format)),
        },
        Err(error) => Err(format!("the acceptance cannot be read: {error}")),
    }
}

/// Uses these up: they are kept as records and hold for no other boot. The root file system must be writable.
pub fn use_up(root: &Dir, used: &[Acceptance]) -> Result<(), FileError> {
    let dir = root.dir(ESD_DATA)?;
    keep(root, used, "")?;
    let mut left = read_given(root).ok().flatten();
    left.iter_mut().for_each(|given| given.accepted.retain(|one| !used.contains(one)));
    match left.filter(|given| !given.accepted.is_empty()) {
        Some(given) => write_json(&dir, FILE, &given),
        None => remove(&dir),
    }
}

/// Keeps acceptances as records.
fn keep(root: &Dir, all: &[Acceptance], end: &str) -> Result<(), FileError> {
    let records = root.make_dirs(format!("{ESD_DATA}/accepted.d"))?;
    all.iter().try_for_each(|one| write_json(&records, &format!("{}-{}{end}.json", one.at, one.code), one))
}

fn remove(dir: &Dir) -> Result<(), FileError> {
    dir.remove(OsStr::new(FILE))?;
    dir.sync()
}

/// Ends what was accepted for this boot, when that has decided. Gives a line about what it had no use for; what was given since stays.
pub fn end(root: &Dir, boot_id: &str) -> Option<String> {
    let (codes, unused) = match read_given(root) {
        Ok(None) => return None,
        Ok(Some(given)) if given.boot_id == boot_id => return None,
        Ok(Some(given)) => {
            let codes: Vec<String> = given.accepted.iter().map(|one| one.code.to_string()).collect();
            (codes.join(" and "), given.accepted)
        }
        Err(why) => (why, vec![]),
    };
    // It ends, whether or not there is room for the record.
    let kept = keep(root, &unused, "-not-used");
    let removed = root.dir(ESD_DATA).and_then(|dir| remove(&dir));
    Some(match (removed, kept) {
        (Ok(()), Ok(())) => format!("what was accepted for this boot, and not used up by it, holds no longer: {codes}"),
        (Ok(()), Err(error)) => {
            format!(
                "what was accepted for this boot holds no longer ({codes}), and cannot be kept: {error}: {}",
                error.source
            )
        }
        (Err(error), _) => format!("what was accepted for this boot cannot be removed: {error}: {}", error.source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Verb};
    use atlas_model::Digest;
    use clap::Parser;

    #[test]
    fn a_boot_uses_up_what_it_needed_and_nothing_else() {
        let tmp = tempfile::tempdir().unwrap();
        let root = Dir::open_root(tmp.path()).unwrap();
        assert_eq!(read(&root), Ok(vec![]));
        let one = |code| Acceptance {
            format: 1,
            code,
            fingerprint: Digest::of(b"as it is"),
            device: None,
            by: "root".into(),
            reason: "I know it".into(),
            at: 5,
            found: vec!["192.0.2.1 is used by somebody".into()],
        };
        let (foreign, address) = (one(RefusalCode::ForeignCluster), one(RefusalCode::AddressInUse));
        let given = Given { boot_id: "before".into(), accepted: vec![foreign.clone(), address.clone()] };
        write_json(&root.make_dirs(ESD_DATA).unwrap(), FILE, &given).unwrap();
        use_up(&root, std::slice::from_ref(&foreign)).unwrap();
        assert_eq!(read(&root), Ok(vec![address.clone()]));
        assert_eq!(end(&root, "before"), None, "it holds for the boot after that");
        assert_eq!(read(&root), Ok(vec![address.clone()]));
        use_up(&root, &[address]).unwrap();
        assert_eq!(read(&root), Ok(vec![]));
        assert!(!tmp.path().join("opt/atlas/accepted.json").exists());
        let records = tmp.path().join("opt/atlas/accepted.d");
        write_json(&root.dir(ESD_DATA).unwrap(), FILE, &given).unwrap();
        let said = end(&root, "the next").unwrap();
        assert!(said.contains("foreign-cluster and address-in-use"), "{said}");
        assert_eq!((read(&root), end(&root, "the next")), (Ok(vec![]), None));
        let kept = ["5-foreign-cluster.json", "5-address-in-use.json", "5-foreign-cluster-not-used.json"];
        assert!(kept.iter().all(|name| records.join(name).exists()));
        let record = std::fs::read_to_string(records.join("5-address-in-use-not-used.json")).unwrap();
        assert!(record.contains("I know it") && record.contains("is used by somebody"), "{record}");
        // Where no record can be made, it ends all the same.
        std::fs::remove_dir_all(&records).unwrap();
        std::fs::write(&records, "").unwrap();
        write_json(&root.dir(ESD_DATA).unwrap(), FILE, &given).unwrap();
        let said = end(&root, "the next").unwrap();
        assert!(said.contains("holds no longer") && said.contains("cannot be kept"), "{said}");
        assert_eq!(read(&root), Ok(vec![]));
    }

    #[test]
    fn a_refusal_says_which_acceptance_does_not_count() {
        let given = |code, seen: &[u8]| Acceptance {
            format: 1,
            code,
            fingerprint: Digest::of(seen),
            device: None,
            by: "root".into(),
            reason: "I know it".into(),
            at: 5,
            found: vec![],
        };
        let mut refusal = Refusal::new(RefusalCode::MissingMember, "a member is missing");
        refusal.fingerprint = Some(Digest::of(b"now"));
        let of = |accepted: &[Acceptance], used: &[Acceptance]| does_not_count(accepted, used, &refusal);
        let (address, before) = (given(RefusalCode::AddressInUse, b"now"), given(RefusalCode::MissingMember, b"then"));
        assert_eq!(of(&[], &[]), None);
        assert_eq!(of(std::slice::from_ref(&address), std::slice::from_ref(&address)), None, "it was used");
        assert_eq!(of(&[given(RefusalCode::MissingMember, b"now")], &[]), None);
        let end = ": that does not count any more, and is kept in /opt/atlas/accepted.d";
        let not_reached = "this boot did not come to what else was accepted for it ('address-in-use')";
        assert_eq!(of(std::slice::from_ref(&address), &[]), Some(format!("{not_reached}{end}")));
        let elsewhere = "'missing-member' was accepted for this boot, in another situation";
        assert_eq!(of(&[address, before], &[]), Some(format!("{elsewhere}; {not_reached}{end}")));
    }

    #[test]
    fn a_reason_says_something() {
        let parse = |reason: &str| {
            Args::try_parse_from(["atlas-boot", "accept", "missing-member", "--i-accept-the-risk", "--reason", reason])
        };
        for empty in ["", " ", "\t\n"] {
            assert!(parse(empty).unwrap_err().to_string().contains("say why you know better"), "{empty:?}");
        }
        let Verb::Accept(accept) = parse(" the disk burnt ").unwrap().command else { panic!("another verb") };
        assert_eq!(accept.reason.as_deref(), Some("the disk burnt"));
    }
    #[test]
    fn a_code_that_is_none_is_answered_with_those_that_can_be_accepted() {
        let said = Args::try_parse_from(["atlas-boot", "accept", "foo"]).unwrap_err().to_string();
        assert!(said.contains("address-in-use") && said.contains("missing-member"), "{said}");
        assert!(!said.contains("two-sets"), "{said}");
    }
}

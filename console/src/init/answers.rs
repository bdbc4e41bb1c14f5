//! What the operator wants: from the command line, from what is there already, or asked for.

use super::{
    ask::{Person, ask_for},
    own::{self, OwnArgs},
};
use crate::CalledWrongly;
use atlas_model::{ClusterId, EnvVersion, MasterConfig, Partner, Role, TreePath};
use atlas_sid::BoundData;
use std::{net::IpAddr, path::PathBuf};

/// Make this machine a server of a cluster
///
/// Makes a mirror of two empty disks (or takes an array, or a disk of a hardware RAID), writes onto it who this server is, writes
/// onto this server's own disk which environment it is, and sees to it that the initramfs can take the role at the next boot.
/// Everything is checked before anything is changed; running it again goes on where it was cut off, and changes nothing where
/// nothing is left to do. On a terminal it asks for what is not given.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  atlas init
      ask for everything
  atlas init --role PRI --cluster bakery --env-version 1 --partner SEC1=192.168.1.11 --disks /dev/vdb,/dev/vdc
      the primary, on a mirror of two empty disks
  atlas init --role SEC1 --cluster bakery --env-version 1 --partner PRI=192.168.1.10 --device /dev/sdb
      its secondary, on a disk of a hardware RAID
  atlas init … --disks /dev/vdb,/dev/vdc --erase --erase-confirm /dev/vdc
      the same, although there is something on /dev/vdc, which is lost
  atlas init --role SEC1 … --disks /dev/vdb,/dev/vdc --hostname sec1 --address 192.168.1.11/24
      a repaired server that was PRI, whose disks are in another one now: it gets a name, addresses and host keys of its own
  atlas init --check
      would this server boot into its role, and why not?

Exit codes: 0 done or as it should be, 1 failed, 2 called wrongly, 3 the server would not boot into its role.")]
pub struct InitArgs {
    /// Who this server is: PRI, or SEC1, SEC2, …
    #[arg(long)]
    pub role: Option<Role>,
    /// The cluster's name, the same on all its servers: a-z, 0-9 and '-'
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<ClusterId>,
    /// The version of this server's environment, from 1; the same on servers that are installed alike
    #[arg(long, value_name = "N")]
    pub env_version: Option<EnvVersion>,
    /// A partner and its host name or address; all secondaries for PRI, PRI for a secondary
    #[arg(long = "partner", value_name = "ROLE=HOST", value_parser = parse_partner)]
    pub partners: Vec<Partner>,
    /// Make a mirror of these two empty disks
    #[arg(long, value_name = "DISK,DISK", value_delimiter = ',', group = "storage")]
    pub disks: Vec<PathBuf>,
    /// Make the mirror of one disk now; the other is added later, with 'mdadm --add'
    #[arg(long, requires = "disks")]
    pub degraded: bool,
    /// Take this RAID-1 array; an ext4 file system on it keeps its data
    #[arg(long, value_name = "DEVICE", group = "storage")]
    pub array: Option<PathBuf>,
    /// Take this disk, which a hardware RAID shows; an ext4 file system on it keeps its data
    #[arg(long, value_name = "DEVICE", group = "storage")]
    pub device: Option<PathBuf>,
    /// A path of the identity besides the usual ones, for the first IdentFilePaths
    #[arg(long = "ident-path", value_name = "PATH", value_parser = TreePath::parse)]
    pub ident_paths: Vec<TreePath>,
    /// A path of other configuration, for the first SyncFilePathsSpecial
    #[arg(long = "sync-path", value_name = "PATH", value_parser = TreePath::parse)]
    pub sync_paths: Vec<TreePath>,
    /// Erase what is on the disks; each disk that holds something must be named again with --erase-confirm
    #[arg(long)]
    pub erase: bool,
    /// What is on this disk is to be lost
    #[arg(long, value_name = "DISK", requires = "erase")]
    pub erase_confirm: Vec<PathBuf>,
    /// Where the server wears the identity of disks that are elsewhere.
    #[command(flatten)]
    pub own: OwnArgs,
    /// Check everything and say what would be done, but do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Tell whether this server would boot into its role, and why not; changes nothing
    #[arg(long, conflicts_with_all = [
        "role", "cluster", "env_version", "partners", "storage", "degraded", "ident_paths", "sync_paths", "erase", "dry_run",
        "hostname", "keep_identity",
    ])]
    pub check: bool,
}

fn parse_partner(text: &str) -> Result<Partner, String> {
    let (role, host) = text.split_once('=').ok_or("write it as ROLE=HOST, as in SEC1=192.168.1.11")?;
    Ok(Partner { role: role.parse::<Role>().map_err(|error| error.to_string())?, host: host.to_owned() })
}

/// What is there already, and need not be said again.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What the Bound disk says.
    pub bound: Option<BoundData>,
    /// Why it cannot be read, where something is there.
    pub unreadable: Option<String>,
    /// What the mounted Unbound set says.
    pub config: Option<MasterConfig>,
    /// The devices of the Unbound set that is attached, if one is.
    pub attached: Vec<String>,
    /// The disks that a mirror could be made of, described.
    pub free_disks: Vec<String>,
}

/// What the Unbound set is to lie on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A mirror of these disks; of one, with its partner missing, where `degraded`.
    Disks {
        /// Two, or one.
        disks: Vec<PathBuf>,
        /// One is missing.
        degraded: bool,
    },
    /// This array.
    Array(PathBuf),
    /// This disk of a hardware RAID.
    Device(PathBuf),
    /// The set that is attached already.
    Attached,
}

/// Everything that has to be known.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Who the server is.
    pub config: MasterConfig,
    /// Which environment.
    pub env_version: EnvVersion,
    /// On what.
    pub storage: Storage,
    /// Further paths of the identity.
    pub ident_paths: Vec<TreePath>,
    /// Paths of other configuration.
    pub sync_paths: Vec<TreePath>,
    /// What is to become of the identity in place, where that is another's.
    pub own: Option<own::Answer>,
}

/// Collects the answers. What nobody can be asked for is named all at once.
pub fn gather(args: &InitArgs, known: &Known, person: &mut dyn Person) -> anyhow::Result<Answers> {
    let mut missing = Vec::new();
    let role = or_ask(args.role, known.config.as_ref().map(MasterConfig::role), || {
        ask_for(person, "Who is this server: PRI, or SEC1, SEC2, …?", None)
    })?;
    let known_cluster = known.bound.as_ref().map(|bound| bound.cluster.clone());
    let cluster = or_ask(args.cluster.clone(), known_cluster, || {
        ask_for(person, "The cluster's name, the same on all its servers (a-z, 0-9, '-')?", None)
    })?;
    let env_version = or_ask(args.env_version, known.bound.as_ref().map(|bound| bound.env_id), || {
        let question = "The version of this server's environment; servers that are installed alike have the same [1]?";
        ask_for(person, question, Some(&EnvVersion::OLDEST))
    })?;
    let partners = match role {
        Some(role) => partners(args, role, known, person)?,
        None => vec![],
    };
    let storage = storage(args, known, person)?;
    let needed = [
        (role.is_none(), "--role"),
        (cluster.is_none(), "--cluster"),
        (env_version.is_none(), "--env-version"),
        (role.is_some() && partners.is_empty(), "--partner"),
        (storage.is_none(), "--disks, --array or --device"),
    ];
    missing.extend(needed.iter().filter(|(is_missing, _)| *is_missing).map(|(_, flag)| *flag));
    let (Some(role), Some(cluster), Some(env_version), Some(storage), true) =
        (role, cluster, env_version, storage, missing.is_empty())
    else {
        let unreadable =
            known.unreadable.as_ref().map(|why| format!(". What this server's own disk says cannot be read: {why}"));
        let missing = missing.join("; ");
        let text =
            format!("nobody can be asked here, and this is not given: {missing}{}", unreadable.unwrap_or_default());
        return Err(CalledWrongly(text).into());
    };
    let config = MasterConfig::new(cluster, role, partners).map_err(|error| CalledWrongly(error.to_string()))?;
    let (ident_paths, sync_paths) = (args.ident_paths.clone(), args.sync_paths.clone());
    Ok(Answers { config, env_version, storage, ident_paths, sync_paths, own: args.own.answer()? })
}

/// What was given, else what is known, else what is answered.
fn or_ask<T>(
    given: Option<T>,
    known: Option<T>,
    ask: impl FnOnce() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    match given.or(known) {
        Some(value) => Ok(Some(value)),
        None => ask(),
    }
}

fn partners(args: &InitArgs, role: Role, known: &Known, person: &mut dyn Person) -> anyhow::Result<Vec<Partner>> {
    if !args.partners.is_empty() {
        return checked(args.partners.clone(), &args.own);
    }
    if let Some(config) = known.config.as_ref().filter(|config| config.role() == role) {
        return Ok(config.partners().to_vec());
    }
    let mut partners = Vec::new();
    if !role.is_primary() {
        let host = person.ask("Host name or address of PRI?")?;
        partners.extend(host.filter(|host| !host.is_empty()).map(|host| Partner { role: Role::Pri, host }));
        return checked(partners, &args.own);
    }
    for number in 1..=Role::MAX_SECONDARIES {
        let more = if number == 1 { "" } else { " (empty: there is none)" };
        match person.ask(&format!("Host name or address of SEC{number}{more}?"))? {
            Some(host) if !host.is_empty() => partners.push(Partner { role: Role::Sec(number), host }),
            _ => break,
        }
    }
    checked(partners, &args.own)
}

/// Partners are other machines, each another one.
fn checked(partners: Vec<Partner>, own: &OwnArgs) -> anyhow::Result<Vec<Partner>> {
    let is_own = |host: &str| {
        let is_name = own.hostname.as_ref().is_some_and(|name| host.eq_ignore_ascii_case(name.as_str()));
        is_name || host.parse().is_ok_and(|host: IpAddr| own.addresses.iter().any(|address| address.ip == host))
    };
    for (index, Partner { role, host }) in partners.iter().enumerate() {
        let twin = partners[..index].iter().find(|other| other.host.eq_ignore_ascii_case(host));
        let wrong = if is_loopback(host) {
            "that is every server's name for itself".to_owned()
        } else if is_own(host) {
            "that is what this server itself is to have".to_owned()
        } else if let Some(twin) = twin {
            format!("that is the host of {}, too", twin.role)
        } else {
            continue;
        };
        return Err(CalledWrongly(format!("--partner {role}={host}: {wrong}")).into());
    }
    Ok(partners)
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address.is_unspecified() || address.is_multicast(),
        Err(_) => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            ["localhost", "ip6-localhost", "ip6-loopback", "localhost.localdomain"].contains(&host.as_str())
                || host.ends_with(".localhost")
        }
    }
}

fn storage(args: &InitArgs, known: &Known, person: &mut dyn Person) -> anyhow::Result<Option<Storage>> {
    if args.degraded && args.disks.is_empty() {
        return Err(CalledWrongly(DEGRADED.into()).into());
    }
    if let Some(array) = &args.array {
        return Ok(Some(Storage::Array(array.clone())));
    }
    if let Some(device) = &args.device {
        return Ok(Some(Storage::Device(device.clone())));
    }
    if !args.disks.is_empty() {
        return disks(args.disks.clone(), args.degraded).map(Some);
    }
    if !known.attached.is_empty() {
        return Ok(Some(Storage::Attached));
    }
    let free = if known.free_disks.is_empty() { "  (none)".to_owned() } else { known.free_disks.join("\n") };
    person.tell(&format!("Disks that are in no use:\n{free}"));
    let Some(answer) = person.ask("Which two make the mirror (DISK,DISK)?")? else { return Ok(None) };
    disks(answer.split(',').map(|disk| PathBuf::from(disk.trim())).collect(), false).map(Some)
}

const DEGRADED: &str = "--degraded makes the mirror of one disk; name one with --disks";

fn disks(disks: Vec<PathBuf>, degraded: bool) -> anyhow::Result<Storage> {
    let wanted = if degraded { 1 } else { 2 };
    if disks.len() != wanted || disks.iter().any(|disk| disk.as_os_str().is_empty()) {
        let text = match (degraded, disks.len()) {
            (true, _) => DEGRADED,
            (false, 1) => "a mirror needs two disks; --degraded makes it of one now",
            (false, _) => "a mirror is made of two disks, as in --disks /dev/vdb,/dev/vdc",
        };
        return Err(CalledWrongly(text.into()).into());
    }
    Ok(Storage::Disks { disks, degraded })
}

#[cfg(test)]
mod tests {
    use super::{
        super::ask::{Nobody, testing::Scripted},
        *,
    };
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        init: InitArgs,
    }

    fn parse(line: &str) -> Result<InitArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("init").chain(line.split_whitespace())).map(|line| line.init)
    }

    const PRI: &str = "--role PRI --cluster bakery --env-version 2 --partner SEC1=10.0.0.2 --disks /dev/vdb,/dev/vdc";

    fn wrong(line: &str) -> String {
        let error = gather(&parse(line).unwrap(), &Known::default(), &mut Nobody).unwrap_err();
        assert!(error.is::<CalledWrongly>(), "{error:#}");
        error.to_string()
    }

    #[test]
    fn flags_alone_are_enough() {
        let answers = gather(&parse(PRI).unwrap(), &Known::default(), &mut Nobody).unwrap();
        assert_eq!((answers.config.role(), answers.env_version.number()), (Role::Pri, 2));
        assert_eq!(answers.config.partners(), [Partner { role: Role::Sec(1), host: "10.0.0.2".into() }]);
        let disks = vec!["/dev/vdb".into(), "/dev/vdc".into()];
        assert_eq!(answers.storage, Storage::Disks { disks, degraded: false });
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let text = wrong("--role PRI --disks /dev/vdb,/dev/vdc");
        assert!(text.contains("--cluster; --env-version; --partner"), "{text}");
        assert!(!text.contains("--role") && !text.contains("--disks"), "{text}");
    }

    #[test]
    fn why_the_bound_disk_says_nothing_is_given_with_what_is_missing() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("opt/atlas")).unwrap();
        for (file, content) in [("EnvID", "1\r\n"), ("Cluster", "bakery\n")] {
            std::fs::write(tmp.path().join("opt/atlas").join(file), content).unwrap();
        }
        let tree = atlas_host::tree::Dir::open_root(tmp.path()).unwrap();
        let known = Known { unreadable: super::super::facts::bound(&tree).why_broken(), ..Known::default() };
        let line = parse("--role PRI --partner SEC1=10.0.0.2 --disks /dev/vdb,/dev/vdc").unwrap();
        let text = gather(&line, &known, &mut Nobody).unwrap_err().to_string();
        for part in ["--cluster; --env-version.", "opt/atlas/EnvID", "Line 1 ends with a carriage return"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_is_known_need_not_be_said_again() {
        let config =
            MasterConfig::parse(b"format=1\ncluster='bakery'\nrole='SEC1'\n[[partner]]\nrole='PRI'\nhost='a'\n");
        let known = Known {
            bound: Some(BoundData { env_id: EnvVersion::OLDEST, cluster: "bakery".parse().unwrap() }),
            unreadable: None,
            config: Some(config.unwrap()),
            attached: vec!["/dev/vdb".into()],
            free_disks: vec![],
        };
        let answers = gather(&InitArgs::default(), &known, &mut Nobody).unwrap();
        assert_eq!(Some(answers.config), known.config);
        assert_eq!(answers.storage, Storage::Attached);
    }

    #[test]
    fn what_is_not_given_is_asked_for() {
        let answers = vec!["PRI", "Bakery", "bakery", "", "10.0.0.2", "10.0.0.3", "", "/dev/vdb, /dev/vdc"];
        let mut person = Scripted { answers, ..Scripted::default() };
        let answers = gather(&InitArgs::default(), &Known::default(), &mut person).unwrap();
        assert_eq!(answers.config.partners().len(), 2);
        assert_eq!(answers.env_version, EnvVersion::OLDEST);
        assert!(person.answers.is_empty());
    }

    #[test]
    fn arguments_that_contradict_each_other_are_a_wrong_call() {
        for line in [
            "--disks /dev/vdb,/dev/vdc --array /dev/md0",
            "--array /dev/md0 --device /dev/sdb",
            "--check --role PRI",
            "--erase-confirm /dev/vdb",
            "--degraded",
            "--role KING",
            "--cluster Bakery!",
            "--env-version 0",
            "--partner SEC1",
            "--disks ,/dev/vdc",
            "--address 10.0.0.1/24",
            "--hostname sec_1 --address 10.0.0.1/24",
            "--hostname sec1 --address 10.0.0.1",
            "--hostname sec1 --address 10.0.0.1/24 --addresses-are-own",
            "--hostname sec1 --keep-identity",
            "--check --keep-identity",
            "--hostname localhost --address 10.0.0.1/24",
            "--hostname sec1.bakery.example --address 10.0.0.1/24",
            "--hostname sec1 --address 10.0.0.0/24",
            "--ident-path etc/hosts",
            "--sync-path /etc/../shadow",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(wrong(&format!("{PRI} --hostname pri2")).contains("--address"));
        for host in ["localhost", "127.0.0.1", "::1", "LOCALHOST", "10.0.0.9", "pri"] {
            let line = PRI.replace("10.0.0.2", host) + " --hostname PRI --address 10.0.0.9/24";
            assert!(wrong(&line).contains(&format!("--partner SEC1={host}: that is ")), "{host}");
        }
        assert!(
            wrong(&format!("{PRI} --partner SEC2=10.0.0.2")).contains("SEC2=10.0.0.2: that is the host of SEC1, too")
        );
        assert!(wrong(&PRI.replace("SEC1=", "PRI=")).contains("PRI lists secondaries only"));
        assert!(wrong(&PRI.replace(",/dev/vdc", "")).contains("needs two disks"));
        assert!(wrong(&format!("{PRI} --degraded")).contains("name one"));
        let (without_disks, _) = PRI.split_once(" --disks").unwrap();
        assert!(wrong(&format!("{without_disks} --degraded --device /dev/vdb")).contains("name one"));
        assert!(wrong(&PRI.replace("/dev/vdc", "/dev/vdc,/dev/vdd")).contains("two disks"));
    }
}

//! What a service says in a network that has PRI's addresses.
//!
//! ```text
//!  check passes ──► the service starts in a room with this server's addresses ──yes──► it works here
//!      │                     └no─► it starts in one with PRI's ──yes──► it works as PRI (else: as its check said)
//!      └fails ────► it fails with this server's addresses alone, too, and passes with PRI's ──► it works as PRI
//! ```
//!
//! A check that misses what lies on PRI's Unbound disks says nothing of the rest: those files are whole when this server is PRI, and not before.
//!
//! What listens on an address of PRI's cannot do so here before the swap, and has to afterwards: its files are installed where they are whole there, and
//! it is not reloaded here, where it could only fail. That the same program does with this server's addresses what it does now shows that
//! addresses, interfaces and names are the only difference.

use atlas_cli::{Common, Exit};
use atlas_host::{net::replica::Replica, room, room::Room};
use atlas_model::manifest::FileSet;
use atlas_sid::{Snapshot, layout::UNBOUND_MOUNT};
use std::{
    net::{IpAddr, UdpSocket},
    path::Path,
    time::Duration,
};

/// How a path on the Unbound disks begins.
const UNBOUND: &str = "/unbound/";
/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(20);

/// The network of PRI, as far as the files of its identity say it.
pub(super) fn network_of(snapshot: &Snapshot) -> Replica {
    let files = snapshot.files(FileSet::Ident).ok().flatten();
    files.map(|files| Replica::of_identity(&files)).unwrap_or_default()
}

/// Whether what fails here, with this complaint, does so for want of what PRI's network has.
pub(super) fn passes(check: &[String], complaint: &str, pri: &Replica, run: impl Fn(&[String]) -> bool) -> bool {
    let here = Replica::of_this_server();
    let named = named(complaint).into_iter().filter(|address| is_elsewhere(*address));
    let pri = named.fold(pri.clone(), Replica::with).with_interfaces_of(&here);
    !run(&here.words(check)) && run(&pri.words(check))
}

/// Whether a complaint is about something on the Unbound disks that is not here: only PRI's have it.
pub(super) fn lacks_pris_disks(root: &Path, complaint: &str) -> bool {
    let words = complaint.split(|c: char| c.is_whitespace() || "\"'`,;:()[]{}<>=".contains(c));
    let below = words.filter_map(|word| word.trim_end_matches('.').strip_prefix(UNBOUND));
    below.map(|word| word.trim_matches('/')).any(|word| {
        let lies = root.join(UNBOUND_MOUNT).join(word);
        !word.is_empty() && !word.split('/').any(|part| part == "..") && lies.symlink_metadata().is_err()
    })
}

/// Whether a daemon, started by these words, starts where PRI's network is and not with what this server has. `root` is this process's alone.
pub(super) fn starts(start: &[String], root: &Path, pri: &Replica) -> bool {
    let here = Replica::of_this_server();
    let start_in = |network: &Replica, hosts: Option<&str>| {
        let Ok(own) = std::env::current_exe() else { return false };
        let mut words =
            vec![own.display().to_string(), "start-apart".into(), "--root".into(), root.display().to_string()];
        words.extend(hosts.map(|hosts| format!("--hosts={hosts}")));
        words.push("--".into());
        words.extend_from_slice(start);
        room::apart(network, &words).deadline(START + Duration::from_secs(5)).run().is_ok()
    };
    !start_in(&here, None) && start_in(&pri.clone().with_interfaces_of(&here), pri.hosts())
}

/// The addresses in a sentence, each perhaps with a port or a length behind it.
fn named(text: &str) -> Vec<IpAddr> {
    let words = text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
    let one = |word: &str| {
        let word = word.trim_end_matches(['.', ':']);
        let without_port = || word.rsplit_once(':').and_then(|(address, _)| address.parse().ok());
        word.parse().ok().or_else(without_port)
    };
    words.filter_map(one).collect()
}

/// Whether this server cannot listen there, as another can.
fn is_elsewhere(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && UdpSocket::bind((address, 0)).is_err()
}

/// The arguments of the process that starts a daemon in a room.
#[derive(Clone, Debug, clap::Args)]
pub struct StartApart {
    /// What /etc/hosts says there
    #[arg(long)]
    hosts: Option<String>,
    /// What starts it
    #[arg(last = true, required = true)]
    words: Vec<String>,
}

/// `ssSync start-apart`, run in namespaces of its own; what it starts ends with it.
pub(crate) fn run(common: &Common, args: &StartApart) -> anyhow::Result<Exit> {
    let room = Room::furnish(&common.root, args.hosts.as_deref())?;
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    room.command(&words).deadline(START).run()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn what_fails_here_is_looked_into_with_this_server_s_addresses_and_with_pri_s() {
        let complaint = "bind() to 192.0.2.1:80 failed (99: Cannot assign requested address)";
        let check = ["nginx", "-t"].map(str::to_owned);
        let pri = Replica::default().with("192.0.2.9".parse().unwrap());
        let look = |with_this: bool, with_pris: bool| {
            let seen = RefCell::new(vec![]);
            let run = |words: &[String]| {
                let is_pris = words[6].contains("192.0.2.9/32");
                assert_eq!(is_pris, words[6].contains("192.0.2.1/32"), "what the complaint names is there, too");
                assert!(words.ends_with(&check) && words[0] == "unshare", "{words:?}");
                seen.borrow_mut().push(is_pris);
                if is_pris { with_pris } else { with_this }
            };
            (passes(&check, complaint, &pri, run), seen.into_inner())
        };
        assert_eq!(look(false, true), (true, vec![false, true]));
        assert_eq!(look(false, false), (false, vec![false, true]));
        // A port that is taken here is free in every network of its own: that is no matter of addresses.
        assert_eq!(look(true, true), (false, vec![false]));
    }

    #[test]
    fn what_only_pri_s_disks_have_is_no_complaint_of_the_rest() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("unbound/here")).unwrap();
        let lacks = |complaint: &str| lacks_pris_disks(root.path(), complaint);
        assert!(lacks("cannot load certificate \"/unbound/tls/B.pem\": BIO_new_file() failed (SSL: error:80000002)"));
        assert!(lacks("AH00526: Could not open configuration file /unbound/web.conf: No such file or directory"));
        assert!(!lacks("unknown directive \"nonsense\" in /etc/nginx/nginx.conf:3"));
        assert!(!lacks("syntax error in /unbound/here"), "it is here: the complaint is about what is in it");
        assert!(!lacks("bad path /unbound/../etc/shadow, and /unbound/ itself"));
    }

    #[test]
    fn addresses_are_found_in_every_form() {
        let found: Vec<String> = named("at 192.0.2.1:80, [::1]:8080; fe80::1 and 10.0.0.1. Line 12:30 of a.b")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["192.0.2.1", "::1", "fe80::1", "10.0.0.1"]);
    }
}

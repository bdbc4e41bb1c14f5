//! nfs: every exported directory is mounted, and a test file in it read, written and locked, as its clients do [438].
//!
//! ```text
//!  /etc/exports ─► an instance each, and EXPORT/.atlas-verify
//!  verify         NULL call to port 2049 ─► mount ─► read ─► write the same again ─► lock, unlock
//! ```
//!
//! The mount is soft, in a mount namespace of this process: whatever happens, nobody else sees it and it is gone when the process ends. The
//! file is written with what is in it already and gets back its times, so that it stays the file that was synchronised.

mod call;
mod client;
mod exports;

use super::{
    access,
    daemon::{self, Daemon, started},
    found::{Finding, bound},
    given,
    given::FILE,
    served::Served,
};
use crate::{
    here,
    seen::Look,
    service::{Service, Target, Tree},
};
use atlas_model::verify::{Found, Instance, Profile, TestData, Worse};
use exports::{Export, Needs, Root};
use std::{collections::BTreeMap, os::unix::fs::MetadataExt, time::Instant};

pub(super) const SERVICE: Service = Service {
    name: "nfs",
    about: "every export is mounted, and a test file in it read, written and locked",
    interval: 60,
    deadline: 30,
    find,
    verify,
};

const DAEMON: Daemon =
    Daemon { name: "nfs", programs: &["rpc.nfsd"], units: &["nfs-server.service", "nfs-kernel-server.service"] };
/// The option that has an export's path as clients of NFS 4 see it; empty where they do not.
const PATH_4: &str = "path-4";
const PORT: u16 = 2049;

fn find(tree: &Tree) -> anyhow::Result<Found> {
    let dir = tree.installed("nfs", "/etc");
    let mut finding = Finding::default();
    if !DAEMON.is_there(tree) {
        return Ok(finding.done());
    }
    let mut files = vec![format!("{dir}/exports")];
    files.extend(tree.matching(&format!("{dir}/exports.d/*.exports")));
    let mut all = vec![];
    for file in files {
        all.extend(exports::exports(&tree.read(&file)?.unwrap_or_default()));
    }
    // What a link leads to is exported, and clients may name either.
    for export in &mut all {
        if let Ok(Served { real, links, .. }) = Served::led(tree, &export.path) {
            links.iter().for_each(|link| finding.link(link));
            export.path = real;
        }
    }
    if dir == "/etc" {
        as_exported(&mut all, tree, &mut finding);
    }
    as_clients_of_4_see_it(&mut all, tree, &mut finding);
    let pseudo = all.iter().find(|export| export.is_pseudo_root).map(|export| export.path.clone());
    let listens = if dir == "/etc" && !all.is_empty() { listens(tree, &mut finding) } else { BTreeMap::new() };
    all.iter().for_each(|export| take(&mut finding, tree, export, pseudo.as_deref(), &listens));
    let names = [
        "exports",
        "exports.d",
        "nfs.conf",
        "nfs.conf.d",
        "idmapd.conf",
        "default/nfs-kernel-server",
        "default/nfs-common",
    ];
    if !finding.is_empty() {
        names.iter().for_each(|name| finding.path(tree, &format!("{dir}/{name}")));
    }
    Ok(finding.done())
}

/// Where the server listens, where that is not the usual place: as `nfs.conf` says it, or `/etc/default`.
fn listens(tree: &Tree, finding: &mut Finding) -> BTreeMap<String, String> {
    let said = |name: &str| {
        let said = daemon::may_say(tree, "nfsconf", &["--get", "nfsd", name])?;
        Some(said.trim().to_owned()).filter(|said| !said.is_empty())
    };
    let given = started::options(tree, finding, "nfs-kernel-server", "RPCNFSDCOUNT");
    let behind = |name: &str| given.iter().skip_while(move |word| *word != name).nth(1).cloned();
    let port = behind("--port").or_else(|| behind("-p")).or_else(|| said("port"));
    let port = port.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != PORT);
    let hosts = behind("--host").or_else(|| behind("-H")).or_else(|| said("host")).unwrap_or_default();
    let bound = bound(hosts.split(',').map(str::trim).filter(|host| !host.is_empty()));
    port.map(|port| ("port".to_owned(), port.to_string())).into_iter().chain(bound).collect()
}

/// What lies below the pseudo root, and is no mount point, is shown to clients of NFS 4 as a part of that: read-only where it is.
fn as_clients_of_4_see_it(all: &mut [Export], tree: &Tree, finding: &mut Finding) {
    let Some(root) = all.iter().find(|export| export.is_pseudo_root && !export.is_writable).cloned() else { return };
    // Where a directory is mounted onto another, both are of one file system.
    tree.look(Look::File, "/etc/fstab");
    let mounts = here::text(tree.path(), "/proc/self/mounts").unwrap_or_default();
    let is_mounted = |path: &str| {
        let path = path.replace(' ', "\\040");
        mounts.lines().any(|line| line.split(' ').nth(1) == Some(path.as_str()))
    };
    let disk = |path: &str| std::fs::metadata(here::below(tree.path(), path)).map(|meta| meta.dev()).ok();
    for export in all.iter_mut().filter(|export| export.is_writable) {
        let is_part = below(&root.path, &export.path).is_some_and(|path| !path.is_empty() && path != "/")
            && disk(&export.path).is_some_and(|own| Some(own) == disk(&root.path))
            && !is_mounted(&export.path);
        if is_part {
            finding.note(format!(
                "{} is no mount point: clients of NFS 4 see it as a part of {}, and may not write",
                export.path, root.path
            ));
            export.is_writable = false;
        }
    }
}

/// Takes what is exported as `exportfs -s` says it: to whom, and how. What is exported by hand, or not at all for now, is said.
fn as_exported(all: &mut [Export], tree: &Tree, finding: &mut Finding) {
    // Where it stands until the next `exportfs -r`, or boot.
    tree.look(Look::File, "/var/lib/nfs/etab");
    let told = daemon::says(tree, finding, "exportfs", &["-s"]).map(|told| exports::exports(&told)).unwrap_or_default();
    for export in all.iter_mut().filter(|_| !told.is_empty()) {
        match told.iter().find(|told| told.path == export.path) {
            Some(told) => *export = told.clone(),
            None => finding.note(format!("{} is in /etc/exports and not exported: exportfs -r says why", export.path)),
        }
    }
    for export in told.iter().filter(|told| !all.iter().any(|known| known.path == told.path)) {
        finding.note(format!(
            "{} is exported, but not by /etc/exports, and gone after the next boot: it is not exercised",
            export.path
        ));
    }
}

/// Adds an export with its test file. `pseudo` is what clients of NFS 4 see as `/`.
fn take(finding: &mut Finding, tree: &Tree, export: &Export, pseudo: Option<&str>, listens: &BTreeMap<String, String>) {
    let path = export.path.clone();
    // Who root is there has no name where it is given by number.
    let (owner, mode) = match export.root {
        Root::Nobody if export.is_writable => (Some("nobody".into()), 0o644),
        Root::Another if export.is_writable => (None, 0o666),
        _ => (None, 0o644),
    };
    if !tree.exists(&path) {
        finding.problem(format!("the exported directory {path} is not there"));
    }
    let access = if export.is_writable { "rw" } else { "ro" };
    let mut options = BTreeMap::from([("path".into(), path.clone()), ("access".into(), access.into())]);
    options.extend(listens.clone());
    if let Some(pseudo) = pseudo {
        options.insert(PATH_4.into(), below(pseudo, &path).unwrap_or_default());
    }
    if let Some(clients) = export.limited_to() {
        options.insert(access::CLIENTS.into(), clients);
    }
    for option in &export.unknown {
        finding.problem(format!("{path}: the option '{option}' of its export is not understood"));
    }
    let is_unplaced = tree.exists(&path) && Served::of(tree, &path, FILE).is_err();
    let needs = match (export.is_elsewhere, export.needs) {
        (true, _) => Some(ELSEWHERE),
        (false, Needs::Nothing) if is_unplaced => Some(UNPLACED),
        (_, Needs::Ticket) => Some(TICKET),
        (_, Needs::Tls) => Some(TLS),
        (_, Needs::Nothing) => None,
    };
    match needs {
        None => {
            let placed = format!("{}/{FILE}", path.trim_end_matches('/'));
            finding.place(TestData { path: placed, content: given::content("nfs", &path), mode, owner });
        }
        Some(needs) => {
            finding.note(format!("{path} is {}; that the server answers is all that is exercised", words(needs)));
            // By this word older ones know that it is not for them.
            options
                .extend([("kerberos", "yes"), ("needs", needs)].map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
    }
    finding.instance(Instance { name: path, options, ..Instance::default() });
}

/// What the option `needs` may say.
const TICKET: &str = "ticket";
const TLS: &str = "tls";
const ELSEWHERE: &str = "other-server";
const UNPLACED: &str = "unplaced";

/// Whom such an export is for.
fn words(needs: &str) -> &'static str {
    match needs {
        TLS => "for who speaks TLS below NFS",
        UNPLACED => "where no test file can be put: nothing there is synchronised, or it is read-only",
        ELSEWHERE => "another server's, to which clients are sent",
        _ => "for who has a ticket of Kerberos",
    }
}

/// A path as clients of NFS 4 see it: `/srv/root/home` is `/home` below `/srv/root`. `None` where they do not see it.
fn below(pseudo: &str, path: &str) -> Option<String> {
    let rest = path.strip_prefix(pseudo.trim_end_matches('/'))?;
    match rest {
        "" => Some("/".into()),
        rest => rest.starts_with('/').then(|| rest.to_owned()),
    }
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    let path = target.required("path")?;
    let hint = "on that server: systemctl status nfs-server rpcbind rpc-statd; exportfs -v; rpcinfo -p; ss -ltnp 'sport = :2049'; nft list ruleset";
    let start = Instant::now();
    let versions = match call::null(target, target.port(PORT)?)? {
        Ok(versions) => versions,
        Err(why) => return Ok(Profile::unacceptable(format!("the NFS server does not answer: {why}")).hint(hint)),
    };
    let answer = target.time("answer", start, 500.0, None)?;
    if target.option("kerberos") == Some("yes") {
        return Ok(Profile::ok(format!(
            "the NFS server answers; {path} is {}",
            words(target.option("needs").unwrap_or(TICKET))
        ))
        .measure(answer));
    }
    let is_let_in = access::is_let_in(target)?;
    if is_let_in == Some(false) {
        return Ok(Profile::ok(format!("the NFS server answers; {path} is not for this server")).measure(answer));
    }
    let used = match client::exercise(target, path, &versions)? {
        Ok(used) => used,
        // Whom it is for are names or groups; perhaps this server is none of them.
        Err(why) if is_let_in.is_none() && is_denied(&why) => {
            let what = format!(
                "the NFS server answers; {path} is given to some alone, and this server is let in by none of their names"
            );
            return Ok(Profile::ok(what).measure(answer));
        }
        Err(why) => return Ok(Profile::unacceptable(format!("{path}: {why}")).hint(hint)),
    };
    let what = if used.times.iter().any(|(name, ..)| *name == "write") {
        "is mounted, read, written and locked"
    } else {
        "is mounted and read"
    };
    let mut profile = Profile::ok(format!("{path} {what} (NFS {})", used.version)).measure(answer);
    for (name, ms, slow) in used.times {
        profile = profile.measure(target.measure(name, ms, "ms", (Some(slow), None), Worse::Higher)?);
    }
    Ok(profile)
}

/// Whether a mount may have failed because it is not given to this server, which NFS 4 does not tell from one that is not there.
fn is_denied(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    why.starts_with("it cannot be mounted")
        && ["denied", "not permitted", "no such file"].iter().any(|words| why.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_elsewhere_is_asked_there() {
        let server = crate::here::testing::Server::with(&[("etc/exports", "/srv/a *(rw)\n"), ("srv/a/x", "")]);
        let says = "case \"$*\" in '--get nfsd port') echo 2050;; '--get nfsd host') echo 192.0.2.1;; *) exit 1;; esac";
        server.program("usr/sbin/nfsconf", says);
        let options = || find(&server.tree().running()).unwrap().instances[0].options.clone();
        server.program("usr/sbin/rpc.nfsd", "");
        assert_eq!((options()["port"].as_str(), options()["bound"].as_str()), ("2050", "192.0.2.1"));
        server.write("etc/default/nfs-kernel-server", "RPCNFSDCOUNT=\"8 --port 2051\"\n");
        assert_eq!(options()["port"], "2051");
        server.program("usr/sbin/nfsconf", "exit 1");
        server.remove("etc/default/nfs-kernel-server");
        assert!(!options().contains_key("port") && !options().contains_key("bound"));
    }

    #[test]
    fn the_test_file_belongs_to_whom_root_is_there() {
        let tmp = tempfile::tempdir().unwrap();
        for dir in ["etc/exports.d", "srv/a", "srv/b"] {
            std::fs::create_dir_all(tmp.path().join(dir)).unwrap();
        }
        std::fs::write(tmp.path().join("etc/exports"), "/srv/a *(rw)\n").unwrap();
        std::fs::write(tmp.path().join("etc/exports.d/more.exports"), "/srv/b *(ro)\n/srv/gone *(rw,anonuid=7)\n")
            .unwrap();
        let found = find(&Tree::open(tmp.path()).unwrap()).unwrap();
        let owners: Vec<_> =
            found.place.iter().map(|data| (data.path.as_str(), data.owner.as_deref(), data.mode)).collect();
        let expected = [
            ("/srv/a/.atlas-verify", Some("nobody"), 0o644),
            ("/srv/b/.atlas-verify", None, 0o644),
            ("/srv/gone/.atlas-verify", None, 0o666),
        ];
        assert_eq!(owners, expected);
        assert_eq!(found.paths, ["/etc/exports", "/etc/exports.d"]);
        assert_eq!(found.problems, ["the exported directory /srv/gone is not there"]);
    }

    #[test]
    fn a_link_is_exported_as_what_it_leads_to_and_where_no_test_file_can_lie_none_is_read() {
        let server = crate::here::testing::Server::with(&[
            ("etc/exports", "/srv/link *(ro)\n/tmp/x *(ro)\n"),
            ("srv/p/x", ""),
            ("tmp/x/y", ""),
        ]);
        server.link("p", "srv/link");
        let found = find(&server.tree()).unwrap();
        let names: Vec<&str> = found.instances.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["/srv/p", "/tmp/x"]);
        assert!(found.paths.contains(&"/srv/link".to_owned()), "{found:?}");
        let placed: Vec<&str> = found.place.iter().map(|data| data.path.as_str()).collect();
        assert_eq!((placed, found.instances[1].options["needs"].as_str()), (vec!["/srv/p/.atlas-verify"], UNPLACED));
    }

    #[test]
    fn what_exportfs_says_of_an_export_comes_before_the_file() {
        let server =
            crate::here::testing::Server::with(&[("etc/exports", "/srv/a *(rw)\n/srv/b *(rw)\n"), ("srv/a/x", "")]);
        server.program("usr/sbin/rpc.nfsd", "");
        server.program(
            "usr/sbin/exportfs",
            "[ $1 = -s ] && printf '/srv/a  192.0.2.1(sync,sec=sys,ro)\\n/srv/c *(ro)\\n'",
        );
        let shown = |tree: &Tree| {
            let found = find(tree).unwrap();
            let all: Vec<String> =
                found.instances.iter().map(|one| format!("{} {}", one.name, one.options["access"])).collect();
            (all, found.notes)
        };
        assert_eq!(shown(&server.tree()), (vec!["/srv/a rw".to_owned(), "/srv/b rw".to_owned()], vec![]));
        let (all, notes) = shown(&server.tree().running());
        assert_eq!(all, ["/srv/a ro", "/srv/b rw"]);
        assert!(
            notes.len() == 2
                && notes[0].starts_with("/srv/b is in /etc/exports")
                && notes[1].starts_with("/srv/c is exported"),
            "{notes:?}"
        );
        // Nothing is exported: its server does not run.
        server.program("usr/sbin/exportfs", "");
        assert_eq!(shown(&server.tree().running()).0, ["/srv/a rw", "/srv/b rw"]);
    }

    #[test]
    fn clients_of_nfs_4_mount_paths_below_the_pseudo_root() {
        let server = crate::here::testing::Server::with(&[(
            "etc/exports",
            "/srv/root *(ro,fsid=0)\n/srv/root/home 192.0.2.0/24(rw)\n/srv/rooted *(ro)\n/srv/k *(ro,sec=krb5)\n",
        )]);
        let found = find(&server.tree()).unwrap();
        let shown: Vec<(&str, Option<&str>)> = found
            .instances
            .iter()
            .map(|one| (one.options[PATH_4].as_str(), one.options.get(access::CLIENTS).map(String::as_str)))
            .collect();
        assert_eq!(shown, [("/", None), ("/home", Some("192.0.2.0/24")), ("", None), ("", None)]);
        assert!(found.instances[3].options.contains_key("kerberos") && found.place.len() == 3);
        assert_eq!(below("/", "/srv").as_deref(), Some("/srv"));
    }

    #[test]
    fn what_is_no_mount_point_below_a_pseudo_root_that_is_read_only_is_so_as_well() {
        let server = crate::here::testing::Server::with(&[
            ("etc/exports", "/srv *(ro,fsid=0)\n/srv/a *(rw)\n\"/srv/b c\" *(rw)\n/other *(rw)\n"),
            ("srv/a/x", ""),
            ("srv/b c/x", ""),
            ("other/x", ""),
            ("proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\n/dev/sda1 /srv/b\\040c ext4 rw 0 0\n"),
        ]);
        let found = find(&server.tree()).unwrap();
        let access =
            |name: &str| found.instances.iter().find(|one| one.name == name).unwrap().options["access"].as_str();
        assert_eq!(["/srv/a", "/srv/b c", "/other"].map(access), ["ro", "rw", "rw"]);
        assert!(found.notes.iter().any(|note| note.starts_with("/srv/a is no mount point")), "{found:?}");
    }
}

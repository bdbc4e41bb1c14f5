//! The first path lists of a Role [271].

use super::{initramfs::chain, network::is_enabled, objection::Objection};
use atlas_host::tree::{Dir, ObjectType};
use atlas_model::{
    PathList, TreePath,
    reserved::{self, Reserved},
};
use atlas_sid::on_root;

/// What makes a Debian server who it is on the network.
const IDENTITY: [&str; 15] = [
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/network/interfaces",
    "/etc/network/interfaces.d",
    "/etc/systemd/network",
    "/etc/NetworkManager/system-connections",
    "/etc/netplan",
    "/etc/dhcpcd.conf",
    "/etc/ssh/ssh_host_rsa_key",
    "/etc/ssh/ssh_host_rsa_key.pub",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ecdsa_key.pub",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssh/ssh_host_ed25519_key.pub",
];

/// The same, of programs that few servers have: of those that run here.
const WHERE_ENABLED: [(&str, &str); 2] = [("connman.service", "/var/lib/connman"), ("wicked.service", "/etc/wicked")];

const IDENTITY_HEADING: &str = "IdentFilePaths: what makes a server who it is on the network.
Each Snapshot takes these paths along; at boot they are installed before the network is configured.
One absolute path per line; a directory stands for all that it holds; no '..', and no links on the way.
A path that is not there is taken along as not there: at boot it is removed.";

const SYNC_HEADING: &str = "SyncFilePathsSpecial: other configuration that the secondaries are to have as PRI has it.
One absolute path per line, as in IdentFilePaths. Lists of single services go into files beside this one: SyncFilePathsNFS, ….";

/// The lists, and why a usual path is in none.
#[derive(Clone, Debug)]
pub struct FirstLists {
    /// For IdentFilePaths.
    pub ident: PathList,
    /// For SyncFilePathsSpecial.
    pub sync: PathList,
    /// What was left out, for the operator.
    pub notes: Vec<String>,
}

impl FirstLists {
    /// The usual paths as far as this server's tree allows, and those that were given, which must be possible.
    pub fn for_tree(tree: &Dir, ident: &[TreePath], sync: &[TreePath]) -> Result<FirstLists, Vec<Objection>> {
        let mut wrong: Vec<Objection> = ident
            .iter()
            .chain(sync)
            .filter_map(|path| Some(Objection::new(format!("{path} cannot be listed: {}", obstacle(tree, path)?))))
            .map(|objection| objection.hint("name the real path, without links on the way"))
            .collect();
        wrong.extend(reserved::check_identity(&ident.iter().cloned().collect()).err().as_ref().map(of_one_machine));
        let listed: PathList = ident.iter().cloned().collect();
        wrong.extend(reserved::check(&sync.iter().cloned().collect(), &listed).err().as_ref().map(of_one_machine));
        let enabled = WHERE_ENABLED.iter().filter(|(unit, _)| is_enabled(tree.shown(), unit)).map(|(_, path)| path);
        let mut usual: Vec<TreePath> =
            IDENTITY.iter().chain(enabled).filter_map(|path| TreePath::parse(path).ok()).collect();
        wrong.extend(elsewhere(tree, usual.iter().chain(ident)));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let mut notes = Vec::new();
        usual.retain(|path| match obstacle(tree, path) {
            Some(why) => {
                notes.push(format!("{path} was left out of IdentFilePaths: {why}"));
                false
            }
            None => true,
        });
        Ok(FirstLists {
            ident: usual.iter().chain(ident).cloned().collect(),
            sync: sync.iter().cloned().collect(),
            notes,
        })
    }

    /// The content of IdentFilePaths.
    pub fn ident_file(&self) -> String {
        self.ident.to_file(IDENTITY_HEADING)
    }

    /// The content of SyncFilePathsSpecial.
    pub fn sync_file(&self) -> String {
        self.sync.to_file(SYNC_HEADING)
    }
}

/// What a Snapshot would be refused for, too.
fn of_one_machine(refused: &Reserved) -> Objection {
    Objection::new(refused.to_string()).hint("leave that path out, and list only what is meant")
}

/// The paths of an identity that are not on the root file system, where a boot installs it before anything else is mounted.
fn elsewhere<'p>(tree: &Dir, ident: impl Iterator<Item = &'p TreePath>) -> Vec<Objection> {
    let points = match on_root::mount_points(tree) {
        Ok(points) => points,
        Err(error) => return vec![Objection::new(chain(&error))],
    };
    let objection = |path: &TreePath| {
        let what = format!("{path} is part of the identity and not on the root file system: {}", points.of(path)?);
        Some(
            Objection::new(what)
                .hint("move it to the root file system: a boot installs the identity before anything else is mounted"),
        )
    };
    ident.filter_map(objection).collect()
}

/// Why a path cannot be taken along. One that is not there can: as not there.
fn obstacle(tree: &Dir, path: &TreePath) -> Option<String> {
    let (parent, name) = match tree.parent_of(path) {
        Ok(found) => found,
        Err(error) if error.is_not_found() => return None,
        Err(error) => {
            let is_link = error.source.raw_os_error() == Some(nix::libc::ELOOP);
            let why =
                if is_link { "a link lies on the way to it".into() } else { format!("{error}: {}", error.source) };
            return Some(why);
        }
    };
    match parent.stat(name) {
        Ok(Some(stat)) if ObjectType::of(&stat) == ObjectType::Special => Some("it is a device, pipe or socket".into()),
        Ok(_) => None,
        Err(error) => Some(format!("{error}: {}", error.source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn shown(list: &PathList) -> Vec<String> {
        list.paths().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_usual_paths_are_listed_whether_they_are_there_or_not() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir(tmp.path().join("etc")).unwrap();
        symlink("/run/resolv.conf", tmp.path().join("etc/resolv.conf")).unwrap();
        let lists = FirstLists::for_tree(&Dir::open_root(tmp.path()).unwrap(), &[], &[]).unwrap();
        assert_eq!(lists.ident.paths().len(), IDENTITY.len());
        assert!(lists.notes.is_empty() && lists.sync.paths().is_empty());
        assert_eq!(PathList::parse(lists.ident_file().as_bytes()).unwrap(), lists.ident);
        assert_eq!(PathList::parse(lists.sync_file().as_bytes()).unwrap(), PathList::default());
    }

    #[test]
    fn a_path_behind_a_link_is_left_out_with_a_note() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("etc")).unwrap();
        symlink("/srv/ssh", tmp.path().join("etc/ssh")).unwrap();
        let lists = FirstLists::for_tree(&Dir::open_root(tmp.path()).unwrap(), &[], &[]).unwrap();
        assert!(!shown(&lists.ident).iter().any(|path| path.contains("ssh")), "{:?}", lists.ident);
        assert_eq!(lists.notes.len(), 6);
        assert!(lists.notes[0].contains("ssh_host_rsa_key was left out") && lists.notes[0].contains("a link"));
    }

    #[test]
    fn an_identity_below_a_mount_point_is_an_objection_whether_it_is_given_or_usual() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("etc/systemd/system/multi-user.target.wants")).unwrap();
        fs::write(tmp.path().join("etc/fstab"), "/dev/x /etc/ssh ext4\n/dev/y /var ext4 noauto\n").unwrap();
        let tree = Dir::open_root(tmp.path()).unwrap();
        let texts = |given: &[TreePath]| {
            let objections = FirstLists::for_tree(&tree, given, given).unwrap_err();
            objections.into_iter().map(|objection| objection.what).collect::<Vec<_>>()
        };
        assert_eq!(texts(&[]).len(), 6);
        assert!(texts(&[])[0].contains("/etc/fstab mounts another file system at /etc/ssh"), "{:?}", texts(&[]));
        let given = TreePath::parse("/var/lib/krb5").unwrap();
        assert!(texts(&[given]).iter().any(|text| text.contains("/var/lib/krb5 is part of the identity")));
        symlink("/lib/x", tmp.path().join("etc/systemd/system/multi-user.target.wants/connman.service")).unwrap();
        assert!(
            texts(&[]).iter().any(|text| text.contains("/var/lib/connman")),
            "what runs here keeps its addresses there"
        );
    }

    #[test]
    fn what_belongs_to_one_machine_is_an_objection_in_either_list() {
        let tmp = tempfile::tempdir().unwrap();
        let tree = Dir::open_root(tmp.path()).unwrap();
        let of = |ident: &[&str], sync: &[&str]| {
            let parse = |texts: &[&str]| texts.iter().map(|text| TreePath::parse(text).unwrap()).collect::<Vec<_>>();
            let objections = FirstLists::for_tree(&tree, &parse(ident), &parse(sync)).err().unwrap_or_default();
            objections.into_iter().map(|objection| objection.what).collect::<Vec<_>>()
        };
        for path in ["/opt/atlas", "/etc/fstab", "/etc", "/etc/shadow"] {
            assert!(of(&[path], &[])[0].contains("cannot be part of an identity"), "{path}");
        }
        assert!(of(&[], &["/etc/fstab"])[0].contains("cannot be the same on every server"));
        assert_eq!(of(&["/etc/ssh", "/etc/krb5.keytab"], &["/etc/nginx"]), Vec::<String>::new());
    }

    #[test]
    fn a_given_path_that_is_not_possible_is_an_objection() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("real")).unwrap();
        symlink("real", tmp.path().join("link")).unwrap();
        let [ident, sync, bad] = ["/real/x", "/real/y", "/link/x"].map(|path| TreePath::parse(path).unwrap());
        let tree = Dir::open_root(tmp.path()).unwrap();
        let lists = FirstLists::for_tree(&tree, std::slice::from_ref(&ident), std::slice::from_ref(&sync)).unwrap();
        assert!(lists.ident.covers(&ident) && lists.sync.covers(&sync));
        let objections = FirstLists::for_tree(&tree, &[], &[bad]).unwrap_err();
        assert!(objections[0].what.contains("/link/x cannot be listed: a link"), "{objections:?}");
    }
}

//! What is served, as a document root, a share, an export: which directory a configured path leads to, and whether test data can lie there.
//!
//! Deployments serve a link (`current -> releases/17`). Its way is followed once, here; test data is placed below what it leads to, where no link is
//! followed any more.

use crate::{here, seen::Look, service::Tree};
use atlas_model::{TreePath, reserved};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::{
    os::unix::fs::MetadataExt,
    path::{Component, Path},
};

/// A directory that can have test data.
#[derive(Debug)]
pub(super) struct Served {
    /// As it is configured, without `.` and double slashes.
    pub(super) path: String,
    /// The directory that it leads to, without any link.
    pub(super) real: String,
    /// The links on the way.
    pub(super) links: Vec<String>,
}

impl Served {
    /// Follows a path; an error says why nothing is served by it.
    pub(super) fn led(tree: &Tree, configured: &str) -> Result<Served, String> {
        let path = normal(configured);
        let mut links = tree.way(&path);
        let real = links.pop().unwrap_or_else(|| path.clone());
        tree.look(Look::There, &path);
        let lies = |path: &str| here::below(tree.path(), path).symlink_metadata().ok();
        let dir = lies(&real).filter(|meta| !meta.is_symlink()).ok_or("it is not there")?;
        if !dir.is_dir() {
            return Err("it is no directory".into());
        }
        // Whoever may make a link could otherwise have the page put into any directory, even one of configuration.
        let is_others = |link: &&String| lies(link).is_none_or(|link| link.uid() != 0 && link.uid() != dir.uid());
        if let Some(link) = links.iter().find(is_others) {
            return Err(format!(
                "the link {link} belongs neither to root nor to the owner of {real} (chown -h changes a link's owner)"
            ));
        }
        Ok(Served { path, real, links })
    }

    /// Follows a path to a directory that can have test data of this name; an error says why it cannot.
    pub(super) fn of(tree: &Tree, configured: &str, data: &str) -> Result<Served, String> {
        let served = Served::led(tree, configured)?;
        let real = &served.real;
        let placed = TreePath::parse(&format!("{}/{data}", real.trim_end_matches('/')));
        if let Some(why) = reserved::why(&placed.map_err(|error| error.to_string())?) {
            return Err(format!("nothing in {real} is synchronised: {why}"));
        }
        let dir = here::below(tree.path(), real);
        if is_read_only(&dir) && !dir.join(data).exists() {
            return Err(format!("the file system of {real} is read-only"));
        }
        Ok(served)
    }
}

/// Whether nothing can be written there, by anybody: a CD, a mirror that is mounted so.
fn is_read_only(dir: &Path) -> bool {
    statvfs(dir).is_ok_and(|of| of.flags().contains(FsFlags::ST_RDONLY))
}

/// A path without `.` and double slashes.
fn normal(path: &str) -> String {
    let names = Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    format!("/{}", names.collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_host::testing::own_network;
    use std::process::Command;

    fn of(server: &Server, path: &str) -> Result<(String, String, Vec<String>), String> {
        Served::of(&server.tree(), path, "atlas-verify.html").map(|root| (root.path, root.real, root.links))
    }

    #[test]
    fn nothing_is_placed_where_nobody_can_write() {
        if !own_network("services::served::tests::nothing_is_placed_where_nobody_can_write") {
            return;
        }
        let server = Server::with(&[("srv/cd/index.html", "")]);
        assert!(of(&server, "/srv/cd").is_ok());
        let cd = server.root().join("srv/cd");
        let mount = |file: &Path, options: &str| {
            let args = ["-t", "tmpfs", "-o", options, "none"];
            assert!(Command::new("mount").args(args).arg(file).status().unwrap().success());
        };
        mount(&cd, "ro");
        assert_eq!(of(&server, "/srv/cd").unwrap_err(), "the file system of /srv/cd is read-only");
        mount(&cd, "remount,rw");
        std::fs::write(cd.join("atlas-verify.html"), "").unwrap();
        mount(&cd, "remount,ro");
        assert!(of(&server, "/srv/cd").is_ok(), "it is there");
    }

    #[test]
    fn a_document_root_is_followed_to_the_directory_that_is_served() {
        let server = Server::with(&[("srv/app/releases/17/index.html", ""), ("srv/file", "")]);
        server.link("releases/17", "srv/app/current");
        server.link("/srv/app", "var/www");
        let real = "/srv/app/releases/17".to_owned();
        let way = |path: &str, links: &[&str]| {
            Ok((path.to_owned(), real.clone(), links.iter().map(|link| (*link).to_owned()).collect()))
        };
        assert_eq!(of(&server, "/srv/app/current/"), way("/srv/app/current", &["/srv/app/current"]));
        assert_eq!(of(&server, "/var//www/./current"), way("/var/www/current", &["/var/www", "/srv/app/current"]));
        assert_eq!(of(&server, "/srv/app/./releases//17/."), way("/srv/app/releases/17", &[]));
        server.link("round", "srv/round");
        server.link("releases/18", "srv/app/next");
        server.link("/proc", "srv/kernel");
        std::fs::create_dir(server.root().join("proc")).unwrap();
        for (path, why) in [
            ("/srv/gone", "not there"),
            ("/srv/app/next", "not there"),
            ("/srv/round", "not there"),
            ("/srv/file", "no directory"),
            ("/srv/kernel", "nothing in /proc is synchronised"),
        ] {
            assert!(of(&server, path).is_err_and(|said| said.contains(why)), "{path}: {:?}", of(&server, path));
        }
    }
}

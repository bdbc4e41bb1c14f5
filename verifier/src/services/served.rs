//! What is served, as a document root, a share, an export: which directory a configured path leads to, and whether test data can lie there.
//!
//! Deployments serve a link (`current -> releases/17`). Its way is followed once, here; test data is placed below what it leads to, where no link is
//! followed any more.

use crate::{here, seen::Look, service::Tree};
use atlas_model::{TreePath, reserved};
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
    /// Follows a path; an error says why no test data can lie there.
    pub(super) fn of(tree: &Tree, configured: &str, data: &str) -> Result<Served, String> {
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
        let data = TreePath::parse(&format!("{}/{data}", real.trim_end_matches('/')));
        match data.map(|data| reserved::why(&data)) {
            Ok(None) => Ok(Served { path, real, links }),
            Ok(Some(why)) => Err(format!("nothing in {real} is synchronised: {why}")),
            Err(error) => Err(error.to_string()),
        }
    }
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

    fn of(server: &Server, path: &str) -> Result<(String, String, Vec<String>), String> {
        Served::of(&server.tree(), path, "atlas-verify.html").map(|root| (root.path, root.real, root.links))
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

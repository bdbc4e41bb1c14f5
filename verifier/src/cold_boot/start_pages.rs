//! What clients of a site see first, where that is no client data: the page of its document root, by a digest.
//!
//! The test page shows that a site is served; that its own pages are there, and are PRI's, it does not.

use super::Facts;
use crate::{
    here::{self, text},
    service::Tree,
};
use atlas_model::{Digest, verify::Services};
use std::path::Path;

/// What SetUp found on PRI, on every server.
const SERVICES: &str = "etc/atlas/verifier/Services.json";
/// What web servers give for a directory, the first that is there.
const PAGES: [&str; 3] = ["index.html", "index.htm", "index.php"];
/// As many digits tell two pages apart.
const DIGITS: usize = 8;

/// The facts; `None` where no services were found.
pub(super) fn facts(root: &Path) -> Option<Facts> {
    let found: Services = serde_json::from_str(&text(root, SERVICES)?).ok()?;
    let sites = found.services.get("web")?.instances.iter();
    let tree = Tree::open(root).ok()?;
    Some(sites.filter_map(|site| Some((site.name.clone(), digest(&tree, site.options.get("root")?)?))).collect())
}

/// Client data changes all the time, and is where PRI's disks are.
fn digest(tree: &Tree, directory: &str) -> Option<String> {
    let (root, real) = (tree.path(), tree.links(directory).pop()?);
    let is_client_data = Path::new(&real).starts_with("/unbound");
    let page = PAGES.iter().map(|page| format!("{directory}/{page}")).find(|page| here::is_there(root, page));
    let content = text(root, &page.filter(|_| !is_client_data)?)?;
    Some(Digest::of(content.as_bytes()).to_string()[..DIGITS].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    #[test]
    fn the_first_page_of_each_site_is_told_unless_it_is_client_data() {
        let server = Server::with(&[
            (
                SERVICES,
                r#"{"format": 1, "services": {"web": {"instances": [
                    {"name": "*:80", "options": {"root": "/srv/shop"}}, {"name": "*:81", "options": {"root": "/unbound/www"}},
                    {"name": "*:82", "options": {"root": "/srv/linked"}},
                    {"name": "*:83", "options": {"root": "/srv/none"}}]}}}"#,
            ),
            ("srv/shop/index.html", "the shop"),
            ("unbound/www/index.html", "the bakery"),
        ]);
        server.link("/unbound/www", "srv/linked");
        let before = facts(server.root()).unwrap();
        assert_eq!(before.keys().collect::<Vec<_>>(), ["*:80"]);
        server.write("srv/shop/index.html", "closed");
        assert_ne!(facts(server.root()).unwrap(), before);
        assert!(facts(Server::new().root()).is_none());
    }
}

//! A daemon's own word on its configuration, and whether there is a daemon at all.
//!
//! ```text
//!  the program, its unit, its process ─► is_there: a configuration that a package left, or a client brought, is no service
//!  SSHD_OPTS, OPTIONS, …             ─► started: with what its unit starts it besides
//!  nginx -T, sshd -T, postconf, …     ─► says: what the daemon takes its configuration for; it is right where our own reading differs
//! ```

pub(super) mod started;
mod word;

pub(super) use word::{Rights, may_say, says, says_with};

use crate::{here, seen::Look, service::Tree};
use std::path::PathBuf;

/// Where programs lie, of packages and of who built them.
const PROGRAMS: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
/// Where units lie, the weightiest place first.
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A program that provides a service.
#[derive(Debug)]
pub(super) struct Daemon {
    /// As `InstalledServices` names it.
    pub(super) name: &'static str,
    /// Its programs; one of them suffices. With a `/` it is a pattern of paths.
    pub(super) programs: &'static [&'static str],
    /// Its units; one of them suffices.
    pub(super) units: &'static [&'static str],
}

impl Daemon {
    /// Whether it is there: installed, and not kept from running. In a tree that is no whole system, its configuration is all there is to
    /// go by.
    pub(super) fn is_there(&self, tree: &Tree) -> bool {
        !self.is_whole(tree) || (self.program(tree).is_some() && (self.may_start(tree) || self.runs(tree)))
    }

    /// Whether the tree is a whole system, in which its program would lie where programs lie.
    pub(super) fn is_whole(&self, tree: &Tree) -> bool {
        (tree.is_running() || tree.exists("/var/lib/dpkg/status")) && !tree.is_named(self.name)
    }

    /// Where its program lies, as a path of this process.
    fn program(&self, tree: &Tree) -> Option<PathBuf> {
        let lies = |program: &&str| -> Option<PathBuf> {
            let paths = match program.contains('/') {
                true => tree.matching(program),
                false => PROGRAMS.iter().map(|dir| format!("{dir}/{program}")).collect(),
            };
            let is_there = |path: &&String| tree.exists(path) && here::below(tree.path(), path).is_file();
            paths.iter().find(is_there).map(|path| here::below(tree.path(), path))
        };
        self.programs.iter().find_map(lies)
    }

    fn may_start(&self, tree: &Tree) -> bool {
        may_start(tree, self.units)
    }

    /// Whether a process of it runs.
    fn runs(&self, tree: &Tree) -> bool {
        tree.seen().rests_on_more();
        let names: Vec<&str> = self.programs.iter().filter_map(|program| program.rsplit('/').next()).collect();
        let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        let mut processes = tree.names("/proc").into_iter().filter(is_number);
        // The kernel keeps 15 bytes of a name.
        processes.any(|pid| {
            let name = here::text(tree.path(), &format!("/proc/{pid}/comm")).unwrap_or_default();
            names.iter().any(|known| !name.is_empty() && known.get(..15).unwrap_or(known) == name)
        })
    }
}

/// Whether one of these units is there and not masked, or a script of old; or there is nothing that starts anything.
pub(super) fn may_start(tree: &Tree, units: &[&str]) -> bool {
    let script = |unit: &&str| tree.exists(&format!("/etc/init.d/{}", unit.split('.').next().unwrap_or_default()));
    let states: Vec<bool> = units.iter().filter_map(|unit| unit_of(tree, unit)).collect();
    let has_units = UNITS.iter().any(|dir| !tree.names(dir).is_empty());
    states.contains(&true) || (states.is_empty() && (!has_units || units.iter().any(script)))
}

/// Whether a unit may run, by the weightiest place that has it; `None` where none has.
pub(super) fn unit_of(tree: &Tree, unit: &str) -> Option<bool> {
    UNITS.iter().find_map(|dir| unit_at(tree, &format!("{dir}/{unit}")))
}

/// Whether a unit is there and may run; `None` where it is not there. Masked, it is a link to `/dev/null`.
fn unit_at(tree: &Tree, path: &str) -> Option<bool> {
    tree.look(Look::Way, path);
    tree.look(Look::File, path);
    let at = here::below(tree.path(), path);
    let meta = at.symlink_metadata().ok()?;
    let is_masked = std::fs::read_link(&at).is_ok_and(|target| target == std::path::Path::new("/dev/null"));
    Some(!is_masked && (meta.is_symlink() || meta.len() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

    const NGINX: Daemon = Daemon { name: "nginx", programs: &["nginx"], units: &["nginx.service"] };

    #[test]
    fn a_configuration_without_its_server_is_no_service() {
        let server = Server::with(&[("etc/nginx/nginx.conf", "")]);
        assert!(NGINX.is_there(&server.tree()), "a tree that is no system");
        server.write("var/lib/dpkg/status", "Package: nginx\nStatus: deinstall ok config-files\n");
        assert!(!NGINX.is_there(&server.tree()), "only its configuration was left");
        server.program("usr/sbin/nginx", "");
        assert!(NGINX.is_there(&server.tree()), "nothing here starts anything");
        server.write("lib/systemd/system/ssh.service", "[Unit]\n");
        assert!(!NGINX.is_there(&server.tree()), "no unit starts it");
        server.write("etc/init.d/nginx", "");
        assert!(NGINX.is_there(&server.tree()));
        server.write("lib/systemd/system/nginx.service", "[Unit]\n");
        assert!(NGINX.is_there(&server.tree()));
        server.link("/dev/null", "etc/systemd/system/nginx.service");
        assert!(!NGINX.is_there(&server.tree()), "it is masked");
        server.write("proc/42/comm", "nginx\n");
        assert!(NGINX.is_there(&server.tree()), "it runs all the same");
        server.remove("proc");
        server.write("opt/nginx/nginx.conf", "");
        server.write("etc/atlas/InstalledServices", "nginx = \"/opt/nginx\"\n");
        assert!(NGINX.is_there(&server.tree()), "the operator says so");
    }
}

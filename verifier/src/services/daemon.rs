//! A daemon's own word on its configuration, and whether there is a daemon at all.
//!
//! ```text
//!  the program, its unit, its process ─► is_there: a configuration that a package left, or a client brought, is no service
//!  nginx -T, sshd -T, postconf, …     ─► says: what the daemon takes its configuration for; it is right where our own reading differs
//! ```
//!
//! A daemon is asked with a deadline, in the language C, with nothing of this process's environment, and by words that change nothing. It
//! cannot be asked about a tree that is not the running server's; then the files are read as well as we can.

use super::found::Finding;
use crate::{here, seen::Look, service::Tree};
use atlas_host::process::Command;
use std::{path::PathBuf, time::Duration};

/// How long a daemon may think about its configuration.
const DEADLINE: Duration = Duration::from_secs(8);
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

    /// Whether a unit is there that is not masked, or a script of old; or there is nothing that starts anything.
    fn may_start(&self, tree: &Tree) -> bool {
        let state = |unit: &str| UNITS.iter().find_map(|dir| unit_at(tree, &format!("{dir}/{unit}")));
        let script = |unit: &&&str| tree.exists(&format!("/etc/init.d/{}", unit.split('.').next().unwrap_or_default()));
        let states: Vec<bool> = self.units.iter().filter_map(|unit| state(unit)).collect();
        let has_units = UNITS.iter().any(|dir| !tree.names(dir).is_empty());
        states.contains(&true) || (states.is_empty() && (!has_units || self.units.iter().any(|unit| script(&unit))))
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

/// Whether a unit is there and may run; `None` where it is not there. Masked, it is a link to `/dev/null`.
fn unit_at(tree: &Tree, path: &str) -> Option<bool> {
    tree.look(Look::Way, path);
    tree.look(Look::File, path);
    let at = here::below(tree.path(), path);
    let meta = at.symlink_metadata().ok()?;
    let is_masked = std::fs::read_link(&at).is_ok_and(|target| target == std::path::Path::new("/dev/null"));
    Some(!is_masked && (meta.is_symlink() || meta.len() > 0))
}

/// What a daemon's program prints of its configuration; `None` where it cannot be asked, and the files have to be read. One that complains
/// is a note: what is wrong with its configuration is found by `services`.
pub(super) fn says(tree: &Tree, finding: &mut Finding, program: &str, args: &[&str]) -> Option<String> {
    match asked(tree, program, args)? {
        Ok(said) => Some(said),
        Err(why) => {
            finding.note(why);
            None
        }
    }
}

/// The same of what one of its releases may not know of: then it has nothing to say, which is no note.
pub(super) fn may_say(tree: &Tree, program: &str, args: &[&str]) -> Option<String> {
    asked(tree, program, args)?.ok()
}

fn asked(tree: &Tree, program: &str, args: &[&str]) -> Option<Result<String, String>> {
    if !tree.is_running() {
        return None;
    }
    let path = PROGRAMS.iter().map(|dir| format!("{dir}/{program}")).find(|path| tree.exists(path))?;
    tree.look(Look::File, &path);
    let path = here::below(tree.path(), &path);
    let output = Command::new(&path).args(args).own_env().env("LC_ALL", "C").deadline(DEADLINE).run();
    Some(match output {
        Ok(output) if output.stdout.len() < LONGEST => Ok(output.text()),
        Ok(_) => Err(format!("{program} {} says more than is kept of it; its files were read instead", args.join(" "))),
        Err(error) => {
            let why = atlas_cli::in_one_line(&error.into());
            Err(format!("{program} does not tell its configuration, its files were read instead: {why}"))
        }
    })
}

/// As much as is kept of what a program prints.
const LONGEST: usize = atlas_host::process::OUTPUT_LIMIT;

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
        server.write("etc/atlas/InstalledServices", "nginx = \"/opt/nginx\"\n");
        assert!(NGINX.is_there(&server.tree()), "the operator says so");
    }

    #[test]
    fn a_daemon_is_asked_on_the_running_server_alone_and_its_complaint_is_a_note() {
        let server = Server::new();
        server.program("usr/sbin/nginx", "[ -z \"$HOME\" ] && echo \"$LC_ALL $1\"");
        let mut finding = Finding::default();
        assert_eq!(says(&server.tree(), &mut finding, "nginx", &["-T"]), None);
        assert_eq!(says(&server.tree().running(), &mut finding, "nginx", &["-T"]).as_deref(), Some("C -T\n"));
        assert_eq!(says(&server.tree().running(), &mut finding, "named", &[]), None);
        server.program("usr/sbin/nginx", "echo 'bad directive' >&2; exit 1");
        assert_eq!(says(&server.tree().running(), &mut finding, "nginx", &["-T"]), None);
        let notes = finding.done().notes;
        assert!(notes.len() == 1 && notes[0].contains("bad directive"), "{notes:?}");
    }
}

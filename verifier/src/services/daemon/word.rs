//! What a daemon's program prints of its configuration, when it is asked.
//!
//! It is asked with a deadline, in the language C, with nothing of this process's environment, and by words that change nothing; and with the
//! rights that it needs for that alone: most may read every file, and nothing else of what root may. It cannot be asked about a tree that is
//! not the running server's; then the files are read as well as we can.

use super::PROGRAMS;
use crate::{here, seen::Look, service::Tree, services::found::Finding};
use atlas_host::process::Command;
use std::time::Duration;

/// How long a daemon may think about its configuration.
const DEADLINE: Duration = Duration::from_secs(8);
/// As much as is kept of what a program prints.
const LONGEST: usize = atlas_host::process::OUTPUT_LIMIT;
/// What takes rights away (Debian package util-linux, which every system has).
const SETPRIV: &str = "/usr/bin/setpriv";

/// What a program may do while it is asked.
#[derive(Clone, Copy, Debug)]
pub(in crate::services) enum Rights {
    /// Reads every file.
    Reads,
    /// The same, and what it does before it tells anything: capabilities, as setpriv calls them.
    ReadsAnd(&'static [&'static str]),
    /// What this account may do.
    Of(&'static str),
}

impl Rights {
    /// The words by which setpriv gives these and no more.
    fn words(self) -> Vec<String> {
        let more = match self {
            Rights::Of(account) => {
                let of = ["--reuid", "--regid"].map(|what| format!("{what}={account}"));
                return of.into_iter().chain(["--init-groups".into(), "--no-new-privs".into(), "--".into()]).collect();
            }
            Rights::Reads => &[][..],
            Rights::ReadsAnd(more) => more,
        };
        let all = more.iter().fold("-all,+dac_read_search".to_owned(), |all, one| format!("{all},+{one}"));
        vec!["--no-new-privs".into(), "--inh-caps=-all".into(), format!("--bounding-set={all}"), "--".into()]
    }
}

/// What a daemon's program prints of its configuration; `None` where it cannot be asked, and the files have to be read. One that complains
/// is a note: what is wrong with its configuration is found by `services`.
pub(in crate::services) fn says(tree: &Tree, finding: &mut Finding, program: &str, args: &[&str]) -> Option<String> {
    says_with(tree, finding, Rights::Reads, program, args)
}

/// The same of one that needs other rights.
pub(in crate::services) fn says_with(
    tree: &Tree,
    finding: &mut Finding,
    rights: Rights,
    program: &str,
    args: &[&str],
) -> Option<String> {
    match asked(tree, rights, program, args)? {
        Ok(said) => Some(said),
        Err(why) => {
            finding.note(why);
            None
        }
    }
}

/// The same of what one of its releases may not know of: then it has nothing to say, which is no note.
pub(in crate::services) fn may_say(tree: &Tree, program: &str, args: &[&str]) -> Option<String> {
    asked(tree, Rights::Reads, program, args)?.ok()
}

fn asked(tree: &Tree, rights: Rights, program: &str, args: &[&str]) -> Option<Result<String, String>> {
    if !tree.is_running() {
        return None;
    }
    let path = if program.contains('/') {
        Some(program.to_owned()).filter(|path| tree.exists(path))?
    } else {
        PROGRAMS.iter().map(|dir| format!("{dir}/{program}")).find(|path| tree.exists(path))?
    };
    tree.look(Look::File, &path);
    let path = here::below(tree.path(), &path);
    // Whoever is not root has no rights to give away.
    let command = match nix::unistd::geteuid().is_root() && tree.exists(SETPRIV) {
        true => Command::new(here::below(tree.path(), SETPRIV)).args(rights.words()).arg(&path),
        false => Command::new(&path),
    };
    // What the shell runs stands behind the words for it.
    let name = if program == "sh" { args.last().copied().unwrap_or(program) } else { program };
    let name = name.rsplit('/').next().unwrap_or(name);
    Some(match command.args(args).own_env().env("LC_ALL", "C").deadline(DEADLINE).run() {
        Ok(output) if output.stdout.len() < LONGEST => Ok(output.text()),
        Ok(_) => Err(format!("{name} says more than is kept of its configuration; its files were read instead")),
        Err(error) => {
            let why = atlas_cli::in_one_line(&error.into());
            Err(format!("{name} does not tell its configuration, its files were read instead: {why}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;

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

    #[test]
    fn who_is_asked_has_the_rights_that_this_needs_and_no_others() {
        assert_eq!(
            Rights::Reads.words().join(" "),
            "--no-new-privs --inh-caps=-all --bounding-set=-all,+dac_read_search --"
        );
        assert!(
            Rights::ReadsAnd(&["chown"]).words().contains(&"--bounding-set=-all,+dac_read_search,+chown".to_owned())
        );
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let server = Server::new();
        server.link(SETPRIV, &SETPRIV[1..]);
        server.program("usr/sbin/nginx", "grep -E '^(Cap(Eff|Bnd|Inh)|NoNewPrivs):' /proc/self/status; id -u");
        let asked = |rights| {
            let mut finding = Finding::default();
            let said = says_with(&server.tree().running(), &mut finding, rights, "nginx", &[]);
            let said = said.unwrap_or_else(|| panic!("{:?}", finding.done().notes));
            said.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        // CAP_DAC_READ_SEARCH is the second one.
        let reads = "CapInh: 0000000000000000 CapEff: 0000000000000004 CapBnd: 0000000000000004 NoNewPrivs: 1 0";
        assert_eq!(asked(Rights::Reads), reads);
        assert!(asked(Rights::ReadsAnd(&["chown"])).contains("CapEff: 0000000000000005"));
        std::fs::set_permissions(server.root(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert!(asked(Rights::Of("daemon")).contains("CapEff: 0000000000000000"));
    }
}

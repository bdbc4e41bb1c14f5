//! What the keeper of the gate does beside opening it: it asks for the addresses first, and afterwards watches that this server is the only one
//! that has them, and still has its disks.
//!
//! ```text
//! addresses   of the installed identity ─► asked for on their wires ─► address-in-use, or open
//! disks       every member is read each second ─► all lost: closed, links down, file system ended, disks-lost; only a cold boot opens it
//! LAN         a second machine with an address of this server or a partner ─► duplicates in gate.json, for the Verifier
//!             somebody asks for an address of this server ─► it is defended, also before anybody has configured it
//! ```
//!
//! From the moment that the gate is open it needs no disk: it is locked in memory, and writes to `/run` and devices only.

mod addresses;
mod disks;
mod watch;

pub(crate) use addresses::{Found, Question, give_back};
pub(crate) use watch::{Keeper, let_go, lost_already, stay_closed};

use atlas_model::{Refusal, RefusalCode, members::Standing};
use std::{fs::File, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

/// All members are gone: this server is nobody from now on. `of_boot` has them as the boot found them: what is gone is nowhere else.
fn disks_lost(standings: &[Standing], of_boot: &[String]) -> Refusal {
    let refusal =
        Refusal::new(RefusalCode::DisksLost, "All disks of the Unbound set are gone, or can no longer be read.");
    let is = |disk: &String, standing: &Standing| {
        disk.strip_prefix("/dev/")
            .and_then(|disk| disk.strip_prefix(standing.device.as_str()))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let refusal = standings.iter().fold(refusal, |refusal, standing| {
        let disk = of_boot.iter().find(|disk| is(disk, standing));
        refusal.found(disk.map_or_else(|| standing.to_string(), |disk| format!("{disk}: {}", standing.words)))
    });
    let earlier = of_boot.iter().filter(|disk| !standings.iter().any(|standing| is(disk, standing)));
    let refusal = earlier.fold(refusal, |refusal, disk| refusal.found(format!("{disk}: was lost before")));
    refusal
        .because("whoever has the disks may be this role in another server already, with the same addresses")
        .remedy("if the disks are to run here again: push them in until they lock, and switch this server off and on")
        .remedy("if they failed: look at 'dmesg' and at the controller and its cables before that")
        .remedy("if they run in another server now: leave this one as it is, or give it disks of its own")
}

/// Tells everybody who is logged in, on whatever terminal. Waits for none.
fn tell_terminals(dev: &Path, text: &str) {
    let text = format!("\r\n{}\r\n", text.replace('\n', "\r\n"));
    let open = |path: &Path| {
        File::options()
            .write(true)
            .custom_flags((nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY).bits())
            .open(path)
    };
    let terminals = std::fs::read_dir(dev.join("pts")).into_iter().flatten().flatten().map(|entry| entry.path());
    let number =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    for terminal in terminals.filter(|path| number(path)).take(1000) {
        let _ = open(&terminal).and_then(|mut file| file.write_all(text.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_that_are_gone_are_named_as_the_boot_found_them() {
        let standing = |device: &str, words| Standing { device: device.into(), there: false, words };
        let of_boot = ["/dev/vdb (serial PRI-0, bay 1)", "/dev/vdbb (serial PRI-1)"].map(String::from);
        let found = disks_lost(&[standing("vdbb", "gone"), standing("vdx", "no read is answered")], &of_boot).found;
        assert_eq!(
            found,
            [
                "/dev/vdbb (serial PRI-1): gone",
                "vdx: no read is answered",
                "/dev/vdb (serial PRI-0, bay 1): was lost before"
            ]
        );
    }
}

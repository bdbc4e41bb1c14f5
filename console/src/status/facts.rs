//! Reading what others left: reports, MasterConfig, the state of the mirror. Nothing here decides.

use super::Facts;
use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::tree::Dir;
use atlas_model::{
    BootReport,
    cycle::{CYCLE, CycleReport, SYNCED, SecondaryReport},
    verify::{FINDINGS, Findings},
};
use atlas_sid::{
    BoundData, SidData,
    layout::UNBOUND_MOUNT,
    left::{Suspended, report},
};
use std::{path::Path, time::SystemTime};

/// Gathers the facts of the server below `root`.
pub(super) fn gather(root: &Path) -> anyhow::Result<Facts> {
    let tree = Dir::open_root(root).context("open the server's tree")?;
    let unbound = tree.dir(UNBOUND_MOUNT).context("open the Unbound file system")?;
    let sid = SidData::open(&unbound);
    if sid.is_err() && BoundData::read(&tree)?.is_none() {
        let hint = "'atlas init' sets it up ('atlas init --help' shows how), and the next boot gives it its role";
        return Err(anyhow::anyhow!("this server was never set up")).hint(hint);
    }
    let sid = sid
        .context("read who this server is")
        .hint("see /run/atlas/boot.json for why the last boot did not mount the Unbound set (without that file it was no boot of ATLAS': reboot); 'atlas init --check' looks again")?;
    let config = sid.master_config().context("read who this server is")?;
    let cycle: Option<CycleReport> = report(&tree, CYCLE);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // A time in the future is no age: the clock was set back, and nobody knows how old the report is.
    let findings: Option<Findings> =
        report::<Findings>(&tree, FINDINGS).filter(|findings| findings.format == 1 && findings.role == config.role());
    let findings_age = findings.as_ref().and_then(|findings| now.checked_sub(findings.time));
    let cycle_age = cycle.as_ref().and_then(|cycle| now.checked_sub(cycle.time));
    let synced: Option<SecondaryReport> =
        report(&tree, SYNCED).filter(|synced: &SecondaryReport| synced.role == config.role());
    let synced_age = synced.as_ref().and_then(|synced| now.checked_sub(synced.time));
    let suspended = Suspended::read(&sid)?.map(|suspended| suspended.reason);
    Ok(Facts {
        role: config.role(),
        partners: config.partners().to_vec(),
        env_version: BoundData::read(&tree)?.map(|bound| bound.env_id),
        boot: report::<BootReport>(&tree, "boot.json"),
        members: members(&tree),
        cycle,
        cycle_age,
        synced,
        synced_age,
        suspended,
        findings,
        findings_age,
    })
}

/// What the boot of this server wrote down.
pub(super) fn boot(root: &Path) -> Option<BootReport> {
    report(&Dir::open_root(root).ok()?, "boot.json")
}

/// How many members the array under /unbound should have and has, from /proc.
fn members(tree: &Dir) -> Option<(u32, u32)> {
    let mounts = String::from_utf8(tree.dir("proc/self").ok()?.read("mounts", 1 << 20).ok()?).ok()?;
    let device = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let device = words.next()?;
        (words.next()? == "/unbound").then_some(device)
    })?;
    let name = Path::new(device).canonicalize().ok()?.file_name()?.to_string_lossy().into_owned();
    let stat = String::from_utf8(tree.dir("proc").ok()?.read("mdstat", 1 << 20).ok()?).ok()?;
    members_in(&stat, &name)
}

/// `[2/1]` in the paragraph of this array.
fn members_in(stat: &str, array: &str) -> Option<(u32, u32)> {
    let from = stat.lines().skip_while(|line| line.split(' ').next() != Some(array));
    let mut paragraph = from.take_while(|line| !line.trim().is_empty());
    paragraph.find_map(|line| {
        line.split(['[', ']']).find_map(|part| {
            let (wanted, there) = part.split_once('/')?;
            Some((wanted.parse().ok()?, there.parse().ok()?))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_from_what_the_kernel_says_of_this_array() {
        let stat = "Personalities : [raid1]\nmd126 : active raid1 vdd[0]\n      1000 blocks super 1.2 [2/1] [U_]\n\nmd127 : active raid1 vdb[0] vdc[1]\n      65472 blocks super 1.2 [2/2] [UU]\n      bitmap: 0/1 pages [0KB], 65536KB chunk\n\nunused devices: <none>\n";
        assert_eq!(members_in(stat, "md127"), Some((2, 2)));
        assert_eq!(members_in(stat, "md126"), Some((2, 1)));
        assert_eq!(members_in(stat, "md1"), None);
    }

    #[test]
    fn a_server_whose_set_is_not_there_says_where_to_look() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("unbound")).unwrap();
        assert!(gather(tmp.path()).is_err());
    }

    #[test]
    fn what_others_left_is_read_and_what_is_broken_says_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = tmp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        write(
            "unbound/SID_DATA/MasterConfig",
            "format = 1\ncluster = \"bakery\"\nrole = \"PRI\"\n[[partner]]\nrole = \"SEC1\"\nhost = \"sec1\"\n",
        );
        write("unbound/SID_DATA/Suspended", r#"{"format":1,"since":1,"reason":"mail"}"#);
        write("run/atlas/cycle.json", "{ broken");
        let facts = gather(tmp.path()).unwrap();
        assert_eq!((facts.suspended.as_deref(), facts.partners.len()), (Some("mail"), 1));
        assert!(facts.cycle.is_none() && facts.cycle_age.is_none());
    }
}

//! Doing the tasks. Each leaves a state from which running everything again goes on.
//!
//! ```text
//!   disks      erase ─ mirror ─ file system ─ mount       cut off: the next run finds an Unbound set without, or with a file system
//!   Unbound    MasterConfig ─ path lists ─ flush          the set is complete before this server claims to belong to it
//!   Bound      identity ─ EnvID, Cluster ─ initialised ─ initramfs   from here on the next boot decides about the network
//! ```

use super::{
    answers::Answers,
    early,
    facts::{self, MARKER, Site},
    initramfs,
    machine::{self, By},
    own,
    paths::FirstLists,
    plan::{Item, Task},
    tool,
};
use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::{
    durable, mount,
    process::{Command, ProcessError},
    tree::Dir,
};
use atlas_model::{UNBOUND_ARRAY_NAME, UNBOUND_LABEL};
use atlas_sid::{
    BoundData, SidData,
    bound::ESD_DATA,
    layout::{SID_DATA, UNBOUND_MOUNT},
    set_record,
    transaction::Transaction,
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the array appears, until atlas-boot starts it under the same name.
const ARRAY: &str = "/dev/md/atlas-unbound";
/// Room for times to the nanosecond and beyond 2038, which mkfs.ext4 leaves out of small file systems on Debian 11.
const INODE_SIZE: &str = "256";
/// What the e2fsck and the kernels of all supported Debians know, and nothing else: the disks may be in an older server tomorrow. What mkfs.ext4
/// takes by itself on Debian 13, Debian 11 refuses to check and so to boot with.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                        huge_file,dir_nlink,extra_isize,metadata_csum";
/// Discarding and writing the tables of a large file system takes its time.
const MAKE_DEADLINE: Duration = Duration::from_secs(3600);

const MARKER_TEXT: &str = "ATLAS decides about the network of this server: its network services start only after atlas-boot has taken a
role from the Unbound disks. Written by 'atlas init'. To make this an ordinary machine again, remove the package 'atlas' and this file.
";

/// The work in progress.
#[derive(Debug)]
pub struct Work<'a> {
    site: &'a Site,
    answers: &'a Answers,
    lists: &'a FirstLists,
    /// The device of the file system, once it is there.
    device: Option<PathBuf>,
    assembled: bool,
    mounted: bool,
}

impl<'a> Work<'a> {
    /// Nothing is done yet; `device` is where the file system lies, if that is there.
    pub fn new(site: &'a Site, answers: &'a Answers, lists: &'a FirstLists, device: Option<PathBuf>) -> Work<'a> {
        Work { site, answers, lists, device, assembled: false, mounted: false }
    }

    /// Does what is left to do of an item.
    pub fn perform(&mut self, item: &Item) -> anyhow::Result<()> {
        let Some(task) = &item.task else { return Ok(()) };
        self.perform_task(task)
            .with_context(|| format!("this was to be {}: {}", task.done(), item.what))
            .hint("when the cause is mended, run the same command again: it goes on here")
    }

    fn perform_task(&mut self, task: &Task) -> anyhow::Result<()> {
        match task {
            Task::Erase(device) => Ok(tool("wipefs").args(["--all", "--quiet"]).arg(device).run().map(drop)?),
            Task::CreateMirror { disks, degraded } => self.create_mirror(disks, *degraded),
            Task::Assemble { uuid, devices } => self.assemble(&uuid.to_string(), devices),
            Task::MakeFileSystem { over_anything } => self.make_file_system(*over_anything),
            Task::Label => Ok(tool("e2label").arg(self.device()?).arg(UNBOUND_LABEL).run().map(drop)?),
            Task::Mount => self.mount(),
            Task::MasterConfig => self.write_master_config(),
            Task::SetRecord => self.write_set_record(),
            Task::PathLists => self.write_path_lists(),
            Task::KeepIdentity => own::write::keep(&self.site.tree),
            Task::NewIdentity { new_keys } => self.write_new_identity(*new_keys),
            Task::BoundData => self.write_bound_data(),
            Task::Marker => self.write_marker(),
            Task::MdadmConf => early::comment_out(&self.site.root, &facts::attached_sets()),
            Task::Initramfs => initramfs::update(&self.site.root),
        }
    }

    fn device(&self) -> anyhow::Result<&Path> {
        self.device.as_deref().context("the device of the file system is not known")
    }

    fn create_mirror(&mut self, disks: &[PathBuf], degraded: bool) -> anyhow::Result<()> {
        let command = tool("mdadm")
            .args(["--create", ARRAY, "--run", "--level=1", "--raid-devices=2", "--metadata=1.2", "--homehost=any"])
            .args(["--bitmap=internal", &format!("--name={UNBOUND_ARRAY_NAME}")])
            .args(disks)
            .args(degraded.then_some("missing"));
        self.start(command, disks)
    }

    fn assemble(&mut self, uuid: &str, devices: &[PathBuf]) -> anyhow::Result<()> {
        let command = tool("mdadm").args(["--assemble", ARRAY, "--config=none", "--run", "--uuid", uuid]).args(devices);
        self.start(command, devices)?;
        self.assembled = true;
        Ok(())
    }

    /// Runs mdadm, and asks the kernel which array it built from the first of the disks: links in /dev may come later, or not at all.
    fn start(&mut self, command: Command, disks: &[PathBuf]) -> anyhow::Result<()> {
        command.deadline(MAKE_DEADLINE).run()?;
        settle();
        let first = disks.first().context("a mirror without a disk")?;
        let member = self.site.machine.look(first)?;
        let array = member.uses.iter().find_map(|used| match &used.by {
            By::Holder(name) if name.starts_with("md") => Some(self.site.machine.dev.join(name)),
            _ => None,
        });
        self.device = Some(array.with_context(|| format!("mdadm built no array from {}", first.display()))?);
        Ok(())
    }

    fn make_file_system(&self, over_anything: bool) -> anyhow::Result<()> {
        let device = self.device()?;
        let known = machine::holds(device)?.filter(|holds| holds.kind.is_some() && !over_anything);
        if let Some(holds) = known {
            return Err(anyhow::anyhow!("the array {} holds {holds}", device.display()))
                .hint("run 'atlas init' again, now that the array runs; it says how to lose what is there");
        }
        let args = ["-q", "-F", "-L", UNBOUND_LABEL, "-I", INODE_SIZE, "-O", FEATURES];
        tool("mkfs.ext4").args(args).arg(device).deadline(MAKE_DEADLINE).run()?;
        settle();
        Ok(())
    }

    fn mount(&mut self) -> anyhow::Result<()> {
        self.site.tree.make_dir(UNBOUND_MOUNT, 0o755)?;
        mount::ext4(self.device()?, &self.site.unbound(), mount::Access::ReadWrite)
            .hint("see 'dmesg' for the reason; 'e2fsck' mends a damaged file system")?;
        self.mounted = true;
        Ok(())
    }

    /// Lets go of what was started only to look into it. Best effort, on the way to an error.
    pub fn let_go(&self) {
        if self.mounted {
            let _ = mount::unmount(&self.site.unbound());
        }
        if let (true, Some(device)) = (self.assembled, &self.device) {
            let _ = tool("mdadm").arg("--stop").arg(device).run();
        }
    }

    fn sid(&self) -> anyhow::Result<SidData> {
        let unbound = Dir::open_root(self.site.unbound())?;
        unbound.make_dir(SID_DATA, 0o700)?;
        Ok(SidData::open(&unbound)?)
    }

    fn write_master_config(&self) -> anyhow::Result<()> {
        let content = self.answers.config.to_file();
        Ok(durable::write(self.sid()?.dir(), OsStr::new("MasterConfig"), content.as_bytes(), 0o600)?)
    }

    fn write_set_record(&self) -> anyhow::Result<()> {
        let record = facts::set_record(&facts::survey()?)?;
        set_record::write(self.sid()?.dir(), &record)?;
        set_record::write(&self.site.tree.make_dirs(ESD_DATA)?, &record)?;
        Ok(())
    }

    fn write_path_lists(&self) -> anyhow::Result<()> {
        let sid = self.sid()?;
        let transaction = Transaction::begin(&sid, self.answers.config.role())?;
        let name = self.answers.env_version.dir_name();
        transaction.dir().make_dir(&name, 0o700)?;
        let dir = transaction.dir().dir(&name)?;
        durable::write(&dir, OsStr::new("IdentFilePaths"), self.lists.ident_file().as_bytes(), 0o600)?;
        durable::write(&dir, OsStr::new("SyncFilePathsSpecial"), self.lists.sync_file().as_bytes(), 0o600)?;
        Ok(transaction.publish_from_scratch()?)
    }

    fn write_new_identity(&self, new_keys: bool) -> anyhow::Result<()> {
        match &self.answers.own {
            Some(own::Answer::New(new)) => own::write::apply(self.site, new, new_keys),
            _ => Err(anyhow::anyhow!("no new identity was given")),
        }
    }

    fn write_bound_data(&self) -> anyhow::Result<()> {
        let bound = BoundData { env_id: self.answers.env_version, cluster: self.answers.config.cluster().clone() };
        // The set first: a server that says it belongs to a cluster boots with its set only.
        Dir::open_root(self.site.unbound())?.sync_file_system()?;
        Ok(bound.write(&self.site.tree).map(drop)?)
    }

    fn write_marker(&self) -> anyhow::Result<()> {
        self.keep_this_boots_network()?;
        let dir = self.site.tree.make_dirs("etc/atlas")?;
        let name = Path::new(MARKER).file_name().unwrap_or_default();
        Ok(durable::write(&dir, name, MARKER_TEXT.as_bytes(), 0o644)?)
    }

    /// This boot had no atlas-boot, and its network is up: a service of it that is restarted before the next boot must come back.
    /// The file is gone with the boot. After a boot that had atlas-boot, that one has decided.
    fn keep_this_boots_network(&self) -> anyhow::Result<()> {
        let Ok(run) = self.site.tree.dir("run") else { return Ok(()) };
        let dir = run.make_dirs("atlas")?;
        if dir.stat(OsStr::new("boot.json"))?.is_none() {
            durable::write_if_changed(&dir, OsStr::new("network-allowed"), b"", 0o644)?;
        }
        Ok(())
    }

    /// Makes everything durable, on both file systems.
    pub fn flush(&self) -> anyhow::Result<()> {
        Dir::open_root(self.site.unbound())?.sync_file_system()?;
        Ok(self.site.tree.sync_file_system()?)
    }
}

/// Lets udev see what has changed. It not being there, or being slow, is no reason to stop.
fn settle() {
    let _: Result<_, ProcessError> =
        tool("udevadm").args(["settle", "--timeout=10"]).deadline(Duration::from_secs(12)).run();
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            answers::Storage,
            machine::Machine,
            plan::{Bound, DataFacts, IdentityFacts, SetSeen, SidFacts, plan_data},
        },
        *,
    };
    use atlas_model::{EnvVersion, MasterConfig, worn::Worn};
    use atlas_sid::{Found, snapshot, worn};
    use std::{fs, os::unix::fs::PermissionsExt};

    fn site(root: &Path) -> Site {
        for dir in ["etc", "run", "unbound"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        Site { root: root.into(), tree: Dir::open_root(root).unwrap(), machine: Machine::default() }
    }

    fn answers() -> Answers {
        let config = "format=1\ncluster='bakery'\nrole='PRI'\n[[partner]]\nrole='SEC1'\nhost='a'\n";
        Answers {
            config: MasterConfig::parse(config.as_bytes()).unwrap(),
            env_version: EnvVersion::try_from(2).unwrap(),
            storage: Storage::Attached,
            ident_paths: vec![],
            sync_paths: vec![],
            own: None,
        }
    }

    fn data_facts(site: &Site, sid: SidFacts) -> DataFacts {
        let marker = site.root.join(MARKER).exists();
        let (worn, _) = worn::read_or_unknown(&site.tree).unwrap();
        let is_recorded = worn != Worn::UNKNOWN;
        let worn = if is_recorded { worn } else { Worn::OWN };
        let set = SetSeen::Mounted { file_system: None, has_snapshot: false };
        let identity = IdentityFacts {
            worn,
            is_recorded,
            set,
            network: Default::default(),
            addresses: Default::default(),
            same_name: false,
            is_as_asked: false,
        };
        DataFacts {
            bound: facts::bound(&site.tree),
            identity,
            marker,
            sid,
            has_record: true,
            mdadm_starts_it: false,
            kernels_without: vec![],
            kernels: 1,
        }
    }

    fn write_everything(site: &Site, answers: &Answers) -> Vec<Item> {
        let lists = FirstLists::for_tree(&site.tree, &[], &[]).unwrap();
        let sid = facts::sid(&site.unbound(), answers.config.role()).unwrap();
        let items = plan_data(answers, &data_facts(site, sid)).unwrap();
        let mut work = Work::new(site, answers, &lists, None);
        items.iter().for_each(|item| work.perform(item).unwrap());
        work.flush().unwrap();
        items
    }

    #[test]
    fn a_new_set_is_one_that_a_boot_takes_as_from_scratch() {
        let tmp = tempfile::tempdir().unwrap();
        let (site, answers) = (site(tmp.path()), answers());
        let items = write_everything(&site, &answers);
        assert_eq!(items.iter().filter(|item| item.task.is_some()).count(), 5, "{items:?}");

        let sid = SidData::open(&Dir::open_root(site.unbound()).unwrap()).unwrap();
        assert_eq!(sid.master_config().unwrap(), answers.config);
        let role_dir = sid.role_dir(answers.config.role()).unwrap().unwrap();
        let found = snapshot::find(&role_dir, answers.config.role(), answers.env_version).unwrap();
        assert!(matches!(found, Found::FromScratch));
        let bound = BoundData { env_id: answers.env_version, cluster: answers.config.cluster().clone() };
        assert_eq!(facts::bound(&site.tree), Bound::Is(bound));
        let mode = |path: &str| fs::metadata(tmp.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("unbound/SID_DATA"), mode("unbound/SID_DATA/MasterConfig")), (0o700, 0o600));
        assert_eq!((mode("opt/atlas/EnvID"), mode("etc/atlas/initialised")), (0o644, 0o644));
    }

    #[test]
    fn writing_again_finds_everything_as_it_should_be() {
        let tmp = tempfile::tempdir().unwrap();
        let (site, answers) = (site(tmp.path()), answers());
        write_everything(&site, &answers);
        assert!(write_everything(&site, &answers).iter().all(|item| item.task.is_none()));
    }

    #[test]
    fn cut_off_after_any_task_the_next_run_goes_on() {
        for done in 0..5 {
            let tmp = tempfile::tempdir().unwrap();
            let (site, answers) = (site(tmp.path()), answers());
            let lists = FirstLists::for_tree(&site.tree, &[], &[]).unwrap();
            let items = plan_data(&answers, &data_facts(&site, SidFacts::default())).unwrap();
            let mut work = Work::new(&site, &answers, &lists, None);
            items.iter().filter(|item| item.task.is_some()).take(done).for_each(|item| work.perform(item).unwrap());
            let again = write_everything(&site, &answers);
            assert_eq!(
                again.iter().filter(|item| item.task.is_none()).count(),
                done + 3,
                "the record, mdadm.conf and the initramfs were so, too"
            );
            assert!(write_everything(&site, &answers).iter().all(|item| item.task.is_none()));
        }
    }

    #[test]
    fn lost_bound_data_is_written_again_and_the_set_stays() {
        let tmp = tempfile::tempdir().unwrap();
        let (site, answers) = (site(tmp.path()), answers());
        write_everything(&site, &answers);
        fs::remove_file(tmp.path().join("opt/atlas/EnvID")).unwrap();
        assert!(matches!(facts::bound(&site.tree), Bound::Broken(_)));
        let items = write_everything(&site, &answers);
        let todo: Vec<&Task> = items.iter().filter_map(|item| item.task.as_ref()).collect();
        assert_eq!(todo, [&Task::BoundData]);
        assert!(matches!(facts::bound(&site.tree), Bound::Is(_)));
    }

    #[test]
    fn the_network_of_this_boot_goes_on_unless_atlas_boot_has_decided() {
        for decided in [false, true] {
            let tmp = tempfile::tempdir().unwrap();
            let site = site(tmp.path());
            if decided {
                fs::create_dir_all(tmp.path().join("run/atlas")).unwrap();
                fs::write(tmp.path().join("run/atlas/boot.json"), "{}").unwrap();
            }
            write_everything(&site, &answers());
            assert_eq!(tmp.path().join("run/atlas/network-allowed").exists(), !decided);
        }
    }
}

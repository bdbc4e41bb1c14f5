//! Looking at the machine, for the plan. Nothing here changes anything.

use super::{
    answers::{Answers, Known, Storage},
    early,
    initramfs::{Kernel, chain},
    machine::{BlockDevice, Machine},
    objection::Objection,
    own::{self, addresses::Addresses, network::Network, write},
    plan::{Bound, DataFacts, IdentityFacts, SetFacts, SetSeen, SidFacts},
};
use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::{block, tree::Dir};
use atlas_model::{
    BootReport, Outcome, Role, UNBOUND_LABEL,
    md::MdUuid,
    set_record::{MadeOf, SetRecord},
    survey::Survey,
    worn::{Whose, Worn},
};
use atlas_sid::{BoundData, SidData, SidError, layout::UNBOUND_MOUNT, snapshot, worn};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// The file that says that ATLAS decides about this server's network; atlas-boot and the units of the network know it.
pub const MARKER: &str = "etc/atlas/initialised";

/// The server: its root directory and its devices.
#[derive(Debug)]
pub struct Site {
    /// `/`, or what `--root` names.
    pub root: PathBuf,
    /// The same, held open.
    pub tree: Dir,
    /// The devices.
    pub machine: Machine,
}

impl Site {
    /// Opens the server's tree.
    pub fn open(root: &Path) -> anyhow::Result<Site> {
        let open = || -> anyhow::Result<Site> {
            let root = std::fs::canonicalize(root).with_context(|| format!("look at {}", root.display()))?;
            Ok(Site { tree: Dir::open_root(&root)?, root, machine: Machine::default() })
        };
        open().hint("name an existing directory with --root")
    }

    /// Where the Unbound file system is mounted.
    pub fn unbound(&self) -> PathBuf {
        self.root.join(UNBOUND_MOUNT)
    }

    /// What is mounted there.
    pub fn mounted(&self) -> Option<PathBuf> {
        self.machine.mounted_at(&self.unbound())
    }
}

/// Reads all superblocks.
pub fn survey() -> anyhow::Result<Survey> {
    Ok(block::survey(&block::devices().context("list the disks")?))
}

/// The arrays that are Unbound sets; none where the disks cannot be read.
pub fn attached_sets() -> Vec<MdUuid> {
    let survey = survey().unwrap_or_default();
    let ours = survey.atlas_devices();
    let members = survey.members.iter().filter(|member| ours.contains(&member.device));
    members.map(|member| member.md.set_uuid).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What need not be said again.
pub fn known(site: &Site, survey: &Survey, bound: &Bound) -> Known {
    let attached: Vec<String> = survey.atlas_devices().into_iter().collect();
    let config = site.mounted().and_then(|_| open_sid(&site.unbound()).ok().flatten()?.master_config().ok());
    Known {
        bound: match bound {
            Bound::Is(bound) => Some(bound.clone()),
            _ => None,
        },
        unreadable: bound.why_broken(),
        config,
        free_disks: if attached.is_empty() { site.machine.free_disks() } else { vec![] },
        attached,
    }
}

/// The Bound Data of this server.
pub fn bound(tree: &Dir) -> Bound {
    match BoundData::read(tree) {
        Ok(Some(bound)) => Bound::Is(bound),
        Ok(None) => Bound::Nothing,
        Err(error) => Bound::Broken(chain(&error)),
    }
}

/// The devices that the set is to lie on.
pub fn set(site: &Site, storage: &Storage, survey: Survey) -> Result<SetFacts, Vec<Objection>> {
    let look_at = |paths: &[PathBuf]| -> Result<Vec<BlockDevice>, Vec<Objection>> {
        let (looked, failed): (Vec<_>, Vec<_>) =
            paths.iter().map(|path| site.machine.look(path)).partition(Result::is_ok);
        let objections: Vec<Objection> = failed.into_iter().filter_map(Result::err).collect();
        if objections.is_empty() { Ok(looked.into_iter().flatten().collect()) } else { Err(objections) }
    };
    let attached: Vec<PathBuf> = survey.atlas_devices().into_iter().map(PathBuf::from).collect();
    let mut top = None;
    let parts = match storage {
        Storage::Disks { disks, .. } => look_at(disks)?,
        Storage::Attached => look_at(&attached)?,
        Storage::Device(device) => look_at(std::slice::from_ref(device))?,
        Storage::Array(array) => {
            let array = site.machine.look(array)?;
            let parts = look_at(&array.parts)?;
            top = Some(array);
            parts
        }
    };
    let is_attached = parts.iter().any(|part| attached.contains(&part.path));
    if top.is_none() && is_attached {
        top = running_array(site, &parts)?;
    }
    let is_single = parts.iter().any(|part| survey.singles.iter().any(|single| Path::new(&single.device) == part.path));
    if top.is_none() && (matches!(storage, Storage::Device(_)) || (is_attached && is_single)) {
        top = parts.first().cloned();
    }
    let mounted = site.mounted();
    let hidden_files = match (&mounted, Dir::open_root(site.unbound())) {
        (None, Ok(dir)) => dir.names(100_000).map_or(1, |names| names.len()),
        _ => 0,
    };
    Ok(SetFacts { survey, parts, top, mounted, hidden_files })
}

/// The array that the kernel runs from these members, if it does.
fn running_array(site: &Site, parts: &[BlockDevice]) -> Result<Option<BlockDevice>, Objection> {
    let array = parts.iter().flat_map(BlockDevice::holders).find(|holder| holder.starts_with("md"));
    array.map(|array| site.machine.look(&site.machine.dev.join(array))).transpose()
}

/// The files of both file systems.
pub fn data(site: &Site, answers: &Answers, kernels: &[Kernel]) -> Result<DataFacts, Objection> {
    let role = answers.config.role();
    if kernels.is_empty() {
        return Err(Objection::new(format!("no kernel is installed in {}", site.root.join("boot").display()))
            .hint("install one, as with 'apt install linux-image-amd64'"));
    }
    let has_record = site.mounted().is_some() && has_record(site);
    let sid = if site.mounted().is_some() { sid(&site.unbound(), role)? } else { SidFacts::default() };
    let bound = bound(&site.tree);
    let marker = site.root.join(MARKER).exists();
    // An initramfs has a copy of the mark: those that were made before it are made anew.
    let lack = |kernel: &Kernel| kernel.lack.clone().or_else(|| (!marker).then(|| kernel.version.clone()));
    Ok(DataFacts {
        identity: identity(site, answers, &bound)?,
        bound,
        marker,
        sid,
        has_record,
        mdadm_starts_it: !early::lines_that_start_a_set(&site.root, &attached_sets()).is_empty(),
        kernels: kernels.len(),
        kernels_without: kernels.iter().filter_map(lack).collect(),
    })
}

/// What is written down of how the attached set is made.
pub fn set_record(survey: &Survey) -> anyhow::Result<SetRecord> {
    let look = |survey: &Survey| survey.choose(None).map(|choice| survey.record_of(&choice));
    // Whoever names one device says that it is whole; only what cannot be so speaks against that.
    let claimed = survey.singles.iter().find(|single| single.ext4.label == UNBOUND_LABEL);
    let claimed = claimed.map(|single| SetRecord::new(MadeOf::Single, single.ext4.uuid_text(), vec![]));
    let found = look(survey).or_else(|refusal| match claimed {
        Some(claimed) => look(&Survey { bound_record: Some(claimed), ..survey.clone() }),
        None => Err(refusal),
    });
    found.context("look at how the Unbound set is made")
}

/// Whether both file systems say how the attached set is made, and say so rightly.
fn has_record(site: &Site) -> bool {
    let wanted = survey().and_then(|survey| set_record(&survey));
    let in_set =
        open_sid(&site.unbound()).ok().flatten().and_then(|sid| atlas_sid::set_record::read(sid.dir()).ok()?);
    let bound = atlas_sid::set_record::read_bound(&site.tree).ok().flatten();
    wanted.is_ok_and(|wanted| in_set.as_ref() == Some(&wanted) && bound.as_ref() == Some(&wanted))
}

/// The identity in place.
fn identity(site: &Site, answers: &Answers, bound: &Bound) -> Result<IdentityFacts, Objection> {
    let broken = |error: SidError| Objection::new(chain(&error)).hint("install the newer ATLAS on this server again");
    let (recorded, _) = worn::read_or_unknown(&site.tree).map_err(broken)?;
    // What wrote no record never gave this machine an identity, either.
    let is_new = *bound == Bound::Nothing && !site.root.join(MARKER).exists() && !had_role(site);
    let is_recorded = recorded != Worn::UNKNOWN;
    let worn =
        if recorded.whose == Whose::Unknown && is_new { Worn { whose: Whose::Own, ..recorded } } else { recorded };
    let set = match site.mounted() {
        None => SetSeen::NotMounted,
        Some(device) => SetSeen::Mounted {
            file_system: block::ext4_uuid(&device),
            has_snapshot: has_snapshot(site, answers.config.role())?,
        },
    };
    let sid = site.mounted().and_then(|_| open_sid(&site.unbound()).ok().flatten());
    let addresses = Addresses::look(site, &worn, &answers.config, sid.as_ref());
    let (same_name, is_as_asked) = match &answers.own {
        Some(own::Answer::New(new)) => (write::has_its_name(site, new), write::is_as_asked(site, new)),
        _ => (false, false),
    };
    let network = Network::of(&site.root, &site.machine.sys);
    Ok(IdentityFacts { worn, is_recorded, set, network, addresses, same_name, is_as_asked })
}

/// Whether the last boot gave this machine a Role, or tried to.
fn had_role(site: &Site) -> bool {
    let read = || {
        let content = site.tree.read_if_there(BootReport::PATH.trim_start_matches('/'), 4 << 20).ok()??;
        serde_json::from_slice::<BootReport>(&content).ok()
    };
    read().is_some_and(|report: BootReport| report.outcome != Outcome::NotInitialised)
}

fn has_snapshot(site: &Site, role: Role) -> Result<bool, Objection> {
    let newest = || -> Result<bool, SidError> {
        let Some(sid) = open_sid(&site.unbound())? else { return Ok(false) };
        let Some(dir) = sid.role_dir(role)? else { return Ok(false) };
        Ok(snapshot::newest(&dir)?.is_some())
    };
    newest()
        .map_err(|error| Objection::new(chain(&error)).hint("repair the file, or check that these are the right disks"))
}

/// What the mounted Unbound file system has.
pub fn sid(unbound: &Path, role: Role) -> Result<SidFacts, Objection> {
    let broken = |error: SidError| {
        Objection::new(chain(&error)).hint("repair the file; 'atlas init' never overwrites what says who a server is")
    };
    let Some(sid) = open_sid(unbound).map_err(broken)? else { return Ok(SidFacts::default()) };
    let config = match sid.master_config() {
        Ok(config) => Some(config),
        Err(SidError::NoMasterConfig(_)) => None,
        Err(error) => return Err(broken(error)),
    };
    Ok(SidFacts { config, has_role: sid.role_dir(role).map_err(broken)?.is_some() })
}

/// The Sync and Identity Data of an Unbound file system that is mounted; `None` where it has none yet.
pub fn open_sid(unbound: &Path) -> Result<Option<SidData>, SidError> {
    match SidData::open(&Dir::open_root(unbound)?) {
        Ok(sid) => Ok(Some(sid)),
        Err(SidError::File(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The programs that the tasks run, and that are not there.
pub fn missing_programs(names: &[&str]) -> Vec<Objection> {
    let dirs: Vec<PathBuf> = std::env::split_paths(&super::tool_path()).collect();
    let missing = names.iter().filter(|name| !dirs.iter().any(|dir| dir.join(name).exists()));
    missing
        .map(|name| Objection::new(format!("the program '{name}' is not installed")).hint(package_of(name)))
        .collect()
}

fn package_of(program: &str) -> &'static str {
    match program {
        "mdadm" => "apt install mdadm",
        "mkfs.ext4" | "e2label" => "apt install e2fsprogs",
        "wipefs" => "apt install util-linux",
        _ => "apt install initramfs-tools",
    }
}

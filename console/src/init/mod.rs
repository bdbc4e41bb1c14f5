//! `atlas init`: from an ordinary machine to a server of a cluster [270-273].
//!
//! ```text
//!   answers   command line, what is there already, questions       what the operator wants
//!   facts     disks, mounts, both file systems, kernels            what is there
//!   plan      items: "was so already", or a task                   pure; every objection at once, before anything changes
//!   erase     told twice, disk by disk
//!   act       one task after the other, each durable               cut off anywhere, the next run goes on
//!   check     would this server boot into its role?                atlas-boot's own decision, and what is around it
//! ```

pub mod act;
pub mod answers;
pub mod ask;
pub mod check;
pub mod drivers;
mod early;
pub mod erase;
pub mod facts;
pub mod initramfs;
pub mod layout;
mod listed;
pub mod machine;
mod network;
pub mod objection;
pub mod own;
pub mod paths;
mod peek;
pub mod plan;
mod report;

pub use answers::InitArgs;

use act::Work;
use answers::{Answers, Storage};
use anyhow::Context;
use ask::Person;
use atlas_cli::{Common, Exit, Hint};
use atlas_host::{lock::Lock, process::Command};
use atlas_model::survey::Survey;
use facts::Site;
use initramfs::Kernel;
use objection::{Objection, none_of};
use paths::FirstLists;
use plan::{Item, SetSeen};
use report::Report;
use std::{
    ffi::{OsStr, OsString},
    io::IsTerminal,
    path::PathBuf,
    time::Duration,
};

/// The programs that are run; a part of them only for some answers, but a server needs them all.
const PROGRAMS: [&str; 6] = ["mdadm", "mkfs.ext4", "e2label", "wipefs", "update-initramfs", "lsinitramfs"];

/// Where programs are looked for: root's PATH may lack the directories of the system's own.
pub(crate) fn tool_path() -> OsString {
    let mut path = std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_default();
    path.push(if path.is_empty() { "" } else { ":" });
    path.push("/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// A program of the system, in the language that this program understands.
pub(crate) fn tool(program: impl AsRef<OsStr>) -> Command {
    Command::new(program).env("PATH", tool_path()).env("LC_ALL", "C.UTF-8")
}

/// Runs `atlas init`.
pub fn run(args: &InitArgs, common: &Common) -> anyhow::Result<Exit> {
    let site = Site::open(&common.root)?;
    if args.check {
        return check::run(&site, common.json);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(anyhow::anyhow!("only root can look into disks and set a server up")).hint("sudo atlas init …");
    }
    let _lock = lock(&site)?;
    let mut person = ask::person(common.json);
    let (report, exit) = init(args, common, &site, person.as_mut())?;
    report.print(common.json)?;
    Ok(exit)
}

fn lock(site: &Site) -> anyhow::Result<Lock> {
    let dir = site.tree.make_dirs("run")?;
    Lock::take(&dir, OsStr::new("atlas-init.lock"), Duration::ZERO).hint("wait until the other 'atlas init' has ended")
}

fn init(args: &InitArgs, common: &Common, site: &Site, person: &mut dyn Person) -> anyhow::Result<(Report, Exit)> {
    let mut person = Conversation { person, asked: false };
    let survey = facts::survey()?;
    let known = facts::known(site, &survey, &facts::bound(&site.tree));
    let mut answers = answers::gather(args, &known, &mut person)?;
    // Listing an initramfs is slow; it is done once.
    let kernels = initramfs::kernels(&site.root);
    ask_for_identity(site, &mut answers, &kernels, &survey, &mut person)?;
    let plan = plan_everything(args, site, &answers, &kernels, survey, &mut person)?;
    let mut report = Report::new(&answers, args.dry_run, &plan.lists);
    if args.erase && !plan.set.iter().any(|item| matches!(item.task, Some(plan::Task::Erase(_)))) {
        let why = "--erase had nothing to erase. An existing set always keeps its data; to get rid of one, erase it by hand: mdadm --stop, then \
                   wipefs -a on each of its disks";
        report.not_done.push(why.to_owned());
    }
    let preview: Vec<Item> = plan.set.iter().chain(&plan.data).cloned().collect();
    if args.dry_run {
        report.items = preview;
        return Ok((report, Exit::Done));
    }
    if person.asked && !confirmed(&preview, &mut person)? {
        return Err(anyhow::anyhow!("you did not say yes")).hint("nothing was changed");
    }
    carry_out(site, &answers, &kernels, plan, &mut report, &Progress::new(common.json))?;
    let verdict = check::examine(site, || initramfs::as_updated(kernels, &report.items));
    let exit = if verdict.boots() { Exit::Done } else { Exit::No };
    report.check = Some(verdict);
    Ok((report, exit))
}

/// Everything that was decided before anything is changed.
struct Plan {
    set: Vec<Item>,
    /// The files, as far as they can be known before the set is mounted.
    data: Vec<Item>,
    /// The device of the file system, where it is there already.
    device: Option<PathBuf>,
    lists: FirstLists,
}

/// Looks at everything and plans it; whatever is in the way is told before anything is changed.
fn plan_everything(
    args: &InitArgs,
    site: &Site,
    answers: &Answers,
    kernels: &[Kernel],
    survey: Survey,
    person: &mut dyn Person,
) -> anyhow::Result<Plan> {
    let mut objections = layout::objections(&site.tree);
    objections.extend(facts::missing_programs(&PROGRAMS));
    if !site.root.join(initramfs::ATLAS_BOOT).exists() {
        objections.push(
            Objection::new(format!("/{} is not installed", initramfs::ATLAS_BOOT)).hint("install the package 'atlas'"),
        );
    }
    let lists = keep(FirstLists::for_tree(&site.tree, &answers.ident_paths, &answers.sync_paths), &mut objections);
    let mut data_facts = keep(data_facts(site, answers, kernels, Some(&survey)), &mut objections);
    let set_facts = keep(facts::set(site, &answers.storage, survey), &mut objections);
    let set = set_facts.as_ref().and_then(|facts| keep(plan::plan_set(&answers.storage, facts), &mut objections));
    if let (Some(data), Some(set), Some(facts)) = (&mut data_facts, &set, &set_facts)
        && data.identity.set == SetSeen::NotMounted
    {
        let makes = |item: &Item| matches!(item.task, Some(plan::Task::MakeFileSystem { .. }));
        if set.items.iter().any(makes) {
            data.identity.set = SetSeen::ToBeMade;
        } else if args.dry_run {
            keep(peek::complete(site, facts, answers.config.role(), data), &mut objections);
        }
    }
    let data = data_facts.and_then(|facts| keep(plan::plan_data(answers, &facts), &mut objections));
    if let Some(set) = set.as_ref().filter(|_| objections.is_empty()) {
        objections.extend(erase::told_twice(&set.to_erase, args, person)?);
    }
    none_of(objections)?;
    match (set_facts, set, data, lists) {
        (Some(facts), Some(set), Some(data), Some(lists)) => {
            Ok(Plan { set: set.items, data, device: facts.top.map(|top| top.path), lists })
        }
        _ => Err(anyhow::anyhow!("a part of the plan is missing although nothing is in its way")),
    }
}

/// The files as they are. `before`: the disks as they were found, while a set that is new is still to be made.
fn data_facts(
    site: &Site,
    answers: &Answers,
    kernels: &[Kernel],
    before: Option<&Survey>,
) -> Result<plan::DataFacts, Objection> {
    let mut facts = facts::data(site, answers, kernels)?;
    let is_new = |survey: &Survey| match &answers.storage {
        Storage::Disks { disks, .. } => {
            let attached = survey.atlas_devices();
            !disks.iter().any(|disk| disk.to_str().is_some_and(|disk| attached.contains(disk)))
        }
        _ => false,
    };
    if facts.identity.set == SetSeen::NotMounted && before.is_some_and(is_new) {
        facts.identity.set = SetSeen::ToBeMade;
    }
    Ok(facts)
}

/// Asks for a name and addresses where those in place are another's, and the flags give none.
fn ask_for_identity(
    site: &Site,
    answers: &mut Answers,
    kernels: &[Kernel],
    survey: &Survey,
    person: &mut dyn Person,
) -> anyhow::Result<()> {
    // Whatever cannot be looked at is an objection a moment later.
    let Ok(facts) = data_facts(site, answers, kernels, Some(survey)) else { return Ok(()) };
    if let (None, Some(foreign)) = (&answers.own, plan::foreign(answers, &facts.identity)) {
        answers.own = own::ask(person, &plan::in_words(&foreign))?;
    }
    Ok(())
}

/// The value, or its objections put with the others.
fn keep<T, E: Into<Vec<Objection>>>(result: Result<T, E>, objections: &mut Vec<Objection>) -> Option<T> {
    result.map_err(|error| objections.extend(error.into())).ok()
}

/// What is left to write, as the file systems are now.
fn plan_data(site: &Site, answers: &Answers, kernels: &[Kernel]) -> anyhow::Result<Vec<Item>> {
    let mut objections = Vec::new();
    let facts = keep(data_facts(site, answers, kernels, None), &mut objections);
    let items = facts.and_then(|facts| keep(plan::plan_data(answers, &facts), &mut objections));
    none_of(objections)?;
    items.context("nothing was planned")
}

fn carry_out(
    site: &Site,
    answers: &Answers,
    kernels: &[Kernel],
    plan: Plan,
    report: &mut Report,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut work = Work::new(site, answers, &plan.lists, plan.device);
    let mut perform = |work: &mut Work, items: Vec<Item>| -> anyhow::Result<()> {
        for item in items {
            progress.show(&item);
            work.perform(&item)?;
            report.items.push(item);
        }
        Ok(())
    };
    perform(&mut work, plan.set)?;
    // Only now, with the set mounted, is it known what it says; nothing was written into it yet.
    let data = plan_data(site, answers, kernels).inspect_err(|_| work.let_go())?;
    perform(&mut work, data)?;
    work.flush()
}

fn confirmed(items: &[Item], person: &mut dyn Person) -> anyhow::Result<bool> {
    person.tell("\nThis is what will be done:");
    for item in items.iter().filter(|item| item.task.is_some() || item.is_open) {
        person.tell(&format!("  {}", report::line(item, true)));
    }
    Ok(person.ask("Go on? Type 'yes':")?.as_deref() == Some("yes"))
}

/// Remembers whether anything was asked: who was asked also confirms, and a script is never stopped.
struct Conversation<'a> {
    person: &'a mut dyn Person,
    asked: bool,
}

impl Person for Conversation<'_> {
    fn ask(&mut self, question: &str) -> anyhow::Result<Option<String>> {
        let answer = self.person.ask(question)?;
        self.asked |= answer.is_some();
        Ok(answer)
    }

    fn tell(&mut self, text: &str) {
        self.person.tell(text);
    }
}

/// Says on a terminal what is being done; the slow tasks take minutes.
struct Progress {
    shown: bool,
}

impl Progress {
    fn new(json: bool) -> Progress {
        Progress { shown: !json && std::io::stderr().is_terminal() }
    }

    fn show(&self, item: &Item) {
        if self.shown && item.task.is_some() {
            eprintln!("… {}", item.what);
        }
    }
}

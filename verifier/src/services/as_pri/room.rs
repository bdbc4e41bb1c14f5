//! The process in the room: starts daemons, exercises what they serve, and ends; everything that it started ends with it.

use super::addresses;
use crate::{
    service::{BESIDE, BOUND, Target},
    services,
};
use anyhow::Context;
use atlas_cli::{Exit, in_one_line, print_json};
use atlas_host::{
    net::replica::Replica,
    process::ProcessError,
    room::{Room, apart},
};
use atlas_model::{
    Role,
    verify::{Instance, Profile},
};
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

/// How long a daemon may take to start.
const START: Duration = Duration::from_secs(20);
/// How often it is asked whether it answers by now.
const PAUSE: Duration = Duration::from_millis(100);
/// With this option, what answers is apart from all that it passes requests on to.
pub(crate) const APART: &str = "apart";
/// What a daemon says that lacks what a room cannot have: other hosts, and programs that run outside.
const OF_THE_ROOM: [&str; 9] = [
    "host not found",
    "Name or service not known",
    "name resolution",
    "not resolve",
    "could not be resolved",
    "Network is unreachable",
    "Operation not permitted",
    "Read-only file system",
    "missing required capability",
];

/// What provides one service, and what is asked of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// As SetUp names it.
    pub(super) service: String,
    /// Packages, and the shell's words that start each in the background.
    pub(super) start: Vec<(String, String)>,
    /// What waits for PRI's addresses.
    pub(super) instances: Vec<Instance>,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Exercised {
    /// Of each instance, `web/*:443`.
    pub(super) found: Vec<(String, Profile)>,
    /// Daemons that do not start.
    pub(super) faults: Vec<String>,
    /// What is not exercised, with why.
    pub(super) not: Vec<String>,
}

impl Exercised {
    pub(super) fn add(&mut self, other: Exercised) {
        self.found.extend(other.found);
        self.faults.extend(other.faults);
        self.not.extend(other.not);
    }
}

/// The arguments of the process in the room.
#[derive(Clone, Debug, clap::Args)]
pub struct Apart {
    /// What to start and exercise, as JSON
    #[arg(long)]
    tasks: String,
    /// What /etc/hosts says there
    #[arg(long)]
    hosts: Option<String>,
    /// How long it may take, in seconds
    #[arg(long)]
    seconds: u64,
    /// Work on the tree below DIR as if it were the server's root directory
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Has it done in a room with this network; that there can be no such room is a reason, and no fault.
pub(super) fn exercise(target: &Target, network: &Replica, tasks: &[Task]) -> anyhow::Result<Exercised> {
    let own = std::env::current_exe().context("find this program")?.display().to_string();
    let left = target.left().saturating_sub(Duration::from_secs(2)).max(Duration::from_secs(1));
    let (tasks_text, root) = (serde_json::to_string(tasks)?, target.root.display().to_string());
    let seconds = left.as_secs().to_string();
    let mut words: Vec<String> =
        [&own, super::SERVICE.name, "apart", "--tasks", &tasks_text, "--seconds", &seconds, "--root", &root]
            .map(str::to_owned)
            .into();
    words.extend(network.hosts().map(|hosts| format!("--hosts={hosts}")));
    match apart(network, &words).deadline(target.left().max(Duration::from_secs(1))).run() {
        Ok(output) => serde_json::from_slice(&output.stdout).context("read what was found with PRI's addresses"),
        Err(ProcessError::Deadline { deadline, .. }) => {
            anyhow::bail!("what waits for PRI's addresses could not be exercised within {} s", deadline.as_secs())
        }
        Err(ProcessError::Failed { complaint, .. }) => {
            let names: Vec<&str> = tasks.iter().map(|task| task.service.as_str()).collect();
            let why = format!("{} is not exercised as PRI, because no room can be made: {complaint}", names.join(", "));
            Ok(Exercised { not: vec![why], ..Exercised::default() })
        }
        Err(error) => Err(error.into()),
    }
}

/// `VerifyService as-pri apart`, run in namespaces of its own.
pub(crate) fn run(args: &Apart) -> anyhow::Result<Exit> {
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let tasks: Vec<Task> = serde_json::from_str(&args.tasks).context("read what to exercise")?;
    let room = Room::furnish(&args.root, args.hosts.as_deref()).context("make a room")?;
    let mut exercised = Exercised::default();
    for task in tasks {
        let mut is_up = true;
        for (package, script) in &task.start {
            let left = until.saturating_duration_since(Instant::now()).min(START);
            if let Err(error) = room.command(&["sh", "-c", script]).deadline(left).run() {
                is_up = false;
                let why = in_one_line(&error.into());
                match OF_THE_ROOM.iter().any(|words| why.contains(words)) {
                    true => exercised.not.push(format!(
                        "{package} is not exercised as PRI, because it needs what is not in a room of its own: {why}"
                    )),
                    false => exercised.faults.push(format!("{package} does not start with PRI's addresses: {why}")),
                }
            }
        }
        if is_up {
            task.instances.into_iter().for_each(|instance| exercised.found.push(ask(&task.service, instance, until)));
        }
    }
    print_json(&exercised)?;
    Ok(Exit::Done)
}

/// Exercises one instance as PRI's clients come to it; again while it is starting.
fn ask(service: &str, mut instance: Instance, until: Instant) -> (String, Profile) {
    let what = format!("{service}/{}", instance.name);
    let host = match instance.options.contains_key(BOUND) {
        true => addresses(&instance).first().map_or("127.0.0.1".to_owned(), ToString::to_string),
        // It listens everywhere; its program does not start without the addresses beside it.
        false => "127.0.0.1".to_owned(),
    };
    instance.options.remove(BESIDE);
    // What an application answers is not asked of a room in which it is not.
    instance.options.remove("dynamic");
    instance.options.insert(APART.into(), "yes".into());
    let Some(known) = services::by_name(service) else {
        return (what, Profile::unknown(format!("there is no service '{service}'")));
    };
    let patience = Instant::now() + START;
    loop {
        let target = Target {
            host: host.clone(),
            role: Some(Role::Pri),
            instance: instance.name.clone(),
            options: instance.options.clone(),
            until: until.min(Instant::now() + Duration::from_secs(known.deadline)),
            root: "/".into(),
        };
        let profile = (known.verify)(&target).unwrap_or_else(|error| Profile::unknown(in_one_line(&error)));
        let is_over = Instant::now() + PAUSE >= until.min(patience);
        if profile.verdict.exit_code() < 2 || is_over {
            return (what, profile);
        }
        std::thread::sleep(PAUSE);
    }
}

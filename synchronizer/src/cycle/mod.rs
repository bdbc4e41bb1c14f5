//! A SyncCycle, driven by PRI [206-214].
//!
//! ```text
//!   call every partner ┐
//!   create, older ─────┴─► for every partner at once, each in a thread of its own: one conversation, then compare ──► report
//! ```
//!
//! A partner that is slow, dead or wrong costs the others nothing but the wait for the report: each conversation has its deadlines.
//! Nothing is repaired in the middle: what failed leaves what was there before, and the next cycle begins afresh [290].

pub(crate) mod partner;

use crate::{
    create,
    report::{self, now, timed},
    server::Server,
};
use anyhow::Context;
use atlas_cli::{Common, Exit, Hint, Style, Table, print, print_json};
use atlas_host::{
    lock::Lock,
    process::{Command, Conversation, ProcessError},
};
use atlas_model::{
    Partner, Role,
    cycle::{CYCLE, CycleReport, Outcome, PartnerReport, Problem},
};
use atlas_sid::{SidData, left::Suspended, snapshot};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a partner may be silent. That it is still alive, ssh itself finds out every few seconds.
pub(crate) const SILENCE: Duration = Duration::from_secs(300);
/// How long one conversation may take in all.
pub(crate) const WHOLE: Duration = Duration::from_secs(1800);
/// So many changes that were undone are shown of each partner; the report has all.
const SHOWN: usize = 10;

/// What a cycle can be told.
#[derive(Clone, Debug, clap::Args)]
pub struct CycleArgs {
    /// Only with this partner; may be given more than once
    #[arg(long = "partner", value_name = "ROLE")]
    pub partners: Vec<Role>,
    /// Call 'COMMAND ROLE HOST' instead of ssh, to reach a partner's 'ssSync serve'
    #[arg(long, value_name = "COMMAND")]
    pub rsh: Option<String>,
}

/// How far a conversation goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upto {
    /// Snapshot Send alone.
    Send,
    /// The whole cycle.
    Compare,
}

/// Runs one cycle.
pub(crate) fn run(common: &Common, args: &CycleArgs) -> anyhow::Result<Exit> {
    go(common, args, Upto::Compare)
}

/// Runs a Snapshot Send alone [195].
pub(crate) fn run_send(common: &Common, args: &CycleArgs) -> anyhow::Result<Exit> {
    go(common, args, Upto::Send)
}

fn go(common: &Common, args: &CycleArgs, upto: Upto) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    if server.role() != Role::Pri {
        return Err(anyhow::anyhow!("this server is {}; the cycle is driven by PRI", server.role()))
            .hint("run it on PRI; this server does its part when PRI calls");
    }
    let _alone = lock(&server.sid, "another cycle is under way")?;
    let chosen: Vec<&Partner> = server
        .config
        .partners()
        .iter()
        .filter(|partner| args.partners.is_empty() || args.partners.contains(&partner.role))
        .collect();
    let calls = Calls::begin(&server, &chosen, args)?;
    let converse = |partner: &Partner| partner::converse(&server, partner, calls.take(partner), upto);
    let report = cycle(&server, &chosen, upto, converse)?;
    if upto == Upto::Compare && args.partners.is_empty() {
        report::publish(&server.root, CYCLE, &report).context("write the report of the cycle")?;
    }
    if common.json {
        print_json(&report)?;
    } else {
        print(tell(&report))?;
    }
    Ok(if report.is_good() { Exit::Done } else { Exit::No })
}

/// Conversations that begin while the Snapshot is taken: to reach a partner takes ssh longer than that, mostly.
struct Calls<'a> {
    server: &'a Server,
    args: &'a CycleArgs,
    at: Instant,
    begun: Mutex<BTreeMap<Role, Begun>>,
}

type Begun = Result<Conversation, ProcessError>;

impl<'a> Calls<'a> {
    fn begin(server: &'a Server, chosen: &[&Partner], args: &'a CycleArgs) -> anyhow::Result<Calls<'a>> {
        let calls = Calls { server, args, at: Instant::now(), begun: Mutex::default() };
        if Suspended::read(&server.sid)?.is_none() {
            let begun = chosen.iter().map(|partner| (partner.role, calls.anew(partner))).collect();
            return Ok(Calls { begun: Mutex::new(begun), ..calls });
        }
        Ok(calls)
    }

    fn anew(&self, partner: &Partner) -> Begun {
        call(self.server, partner, self.args).talk(SILENCE)
    }

    /// The conversation with a partner. One that has waited so long for a first word that the partner may give it up is begun anew.
    fn take(&self, partner: &Partner) -> Begun {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&partner.role);
        begun.filter(|_| self.at.elapsed() < SILENCE / 2).unwrap_or_else(|| self.anew(partner))
    }
}

/// One cycle at a time, on either side.
pub(crate) fn lock(sid: &SidData, held: &'static str) -> anyhow::Result<Lock> {
    Lock::take(sid.dir(), OsStr::new(".cycle"), Duration::ZERO).context(held).hint("wait until it has ended")
}

/// The cycle itself; `converse` has the conversation with one partner.
pub(crate) fn cycle(
    server: &Server,
    chosen: &[&Partner],
    upto: Upto,
    converse: impl Fn(&Partner) -> PartnerReport + Sync,
) -> anyhow::Result<CycleReport> {
    // An alert at every cycle that does not run, so that nobody forgets it [306].
    if let Some(suspended) = Suspended::read(&server.sid)? {
        return Err(anyhow::anyhow!("the Synchronizer is suspended: {}", suspended.reason))
            .hint("when the change is complete: ssSyncCtrl resume");
    }
    let time = now();
    let mut steps = Vec::new();
    let created = match upto {
        Upto::Send => None,
        Upto::Compare => Some(timed(&mut steps, "create", || create::snapshot(server, false))?),
    };
    let generation = server.sid.role_dir(Role::Pri)?.map_or(Ok(0), |dir| snapshot::generation(&dir))?;
    let partners: Vec<PartnerReport> = std::thread::scope(|scope| {
        let running: Vec<_> = chosen.iter().map(|partner| scope.spawn(|| converse(partner))).collect();
        let ended = running.into_iter().zip(chosen);
        ended.map(|(thread, partner)| thread.join().unwrap_or_else(|_| partner::lost(partner))).collect()
    });
    let notes = created.iter().flat_map(|taken| &taken.created.notes);
    let lists = created.iter().flat_map(|taken| &taken.lists);
    let own = notes.map(|note| report::of_conversion(Role::Pri, note));
    let own = own.chain(lists.map(|note| report::of_list(Role::Pri, note)));
    let problems = own.chain(partners.iter().flat_map(problems)).collect();
    Ok(CycleReport {
        format: 1,
        program: format!("ssSync v{}", env!("CARGO_PKG_VERSION")),
        time,
        env_version: server.env_version(),
        generation,
        changed: created.is_some_and(|taken| taken.created.changed),
        partners,
        steps,
        problems,
    })
}

/// The command that gives a conversation with a partner's `ssSync serve`.
///
/// ssh looks after itself here: no question, no unknown host, no agent or configuration of whoever happens to run this; a partner that is gone
/// is found within seconds.
fn call(server: &Server, partner: &Partner, args: &CycleArgs) -> Command {
    if let Some(rsh) = &args.rsh {
        let mut words = rsh.split_whitespace();
        let program = words.next().unwrap_or_default();
        return Command::new(program).args(words).arg(partner.role.to_string()).arg(&partner.host).deadline(WHOLE);
    }
    let (key, known_hosts) = crate::keys::paths(server);
    let options = [
        "BatchMode=yes".to_owned(),
        "StrictHostKeyChecking=yes".into(),
        format!("UserKnownHostsFile={}", known_hosts.display()),
        "GlobalKnownHostsFile=none".into(),
        format!("HostKeyAlias={}", partner.role),
        "IdentitiesOnly=yes".into(),
        "IdentityAgent=none".into(),
        "ConnectTimeout=10".into(),
        "ServerAliveInterval=5".into(),
        "ServerAliveCountMax=3".into(),
    ];
    let options = options.iter().flat_map(|option| ["-o", option.as_str()]);
    let ssh = Command::new("ssh").args(["-F", "none", "-T", "-a", "-x"]).args(options).arg("-i").arg(key);
    ssh.arg(format!("root@{}", partner.host)).arg("ssSync serve").deadline(WHOLE)
}

/// What somebody should look at.
fn problems(partner: &PartnerReport) -> Vec<Problem> {
    let mut problems = partner.secondary.as_ref().map(|done| done.problems.clone()).unwrap_or_default();
    if let Some(error) = &partner.history_error {
        let what = format!("the history does not have what {} sent: {error}", partner.role);
        problems.push(Problem {
            server: Role::Pri,
            what,
            hint: "see the space on the Unbound file system; 'atlas history' on PRI".into(),
        });
    }
    let why = partner.why.clone().unwrap_or_default();
    let (what, hint) = match partner.outcome {
        Outcome::Synced => return problems,
        Outcome::Differs => (why, "'ssSync compare' lists what differs; 'atlas history' shows who changed what"),
        Outcome::Refused => (
            format!("role verification: {why}"),
            "nothing was changed; do not swap disks before it is clear which of the two is right",
        ),
        Outcome::Unreachable => (
            format!("it cannot be reached: {why}"),
            "see whether it runs and is on the network, and that both know each other's keys ('ssSync keys', 'ssSync trust')",
        ),
        Outcome::Failed => (why, "what it had before is whole; the next cycle begins afresh"),
    };
    problems.push(Problem { server: partner.role, what, hint: hint.into() });
    problems
}

fn tell(report: &CycleReport) -> String {
    let style = Style::stdout();
    let mut text = format!(
        "PRI {}: generation {}{}\n\n",
        report.env_version,
        report.generation,
        if report.changed { ", changed" } else { ", nothing changed" }
    );
    let mut table = Table::new(["partner", "host", "", "env", "sent", "installed"]);
    for partner in &report.partners {
        let outcome = match partner.outcome {
            Outcome::Synced => style.green("synced"),
            Outcome::Differs => style.yellow("differs"),
            Outcome::Refused => style.red("refused"),
            Outcome::Unreachable => style.red("unreachable"),
            Outcome::Failed => style.red("failed"),
        };
        let sent = partner.sent.map_or(String::from("-"), |sent| match sent.changed {
            true => format!("{} files, {} bytes", sent.files, sent.bytes),
            false => "nothing new".into(),
        });
        let installed = partner.secondary.as_ref().and_then(|done| done.installed);
        table.row([
            partner.role.to_string(),
            partner.host.clone(),
            outcome,
            partner.env_version.map_or("-".into(), |version| version.to_string()),
            sent,
            installed.map_or("-".into(), |generation| format!("generation {generation}")),
        ]);
    }
    text.push_str(&table.to_string());
    for partner in &report.partners {
        if let Some(commit) = partner.secondary.as_ref().and_then(|done| done.local_commit.as_ref()) {
            text.push_str(&format!(
                "{} had been changed locally; undone, its history has it as {commit:.12}\n",
                partner.role
            ));
            let undone = partner.secondary.iter().flat_map(|done| done.undone.iter().take(SHOWN));
            undone.for_each(|what| text.push_str(&format!("  {what}\n")));
        }
    }
    for partner in report.partners.iter().filter(|partner| !partner.in_common.is_empty()) {
        text.push_str(&format!("note: {} and PRI have the same {}\n", partner.role, partner.in_common.join(" and ")));
    }
    for problem in &report.problems {
        text.push_str(&format!(
            "\n{}: {}\n  try: {}\n",
            style.red(&problem.server.to_string()),
            problem.what,
            problem.hint
        ));
    }
    text
}

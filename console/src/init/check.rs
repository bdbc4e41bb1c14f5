//! `atlas init --check`: would this server boot into its role, and why not?
//!
//! atlas-boot itself decides, as it would at boot (`atlas-boot check`). What lies around it is looked at here: whether a boot would
//! start it at all, and whether anything would configure the network before or without it.

use super::{
    early,
    facts::{self, Site},
    initramfs::{self, ALLOW_UPDATES, ATLAS_BOOT, Kernel},
    layout, listed, network, tool,
};
use atlas_cli::{Exit, Style, Table, print, print_json};
use atlas_model::{BootReport, Outcome};
use serde_json::json;
use std::{path::Path, time::Duration};

/// What deserves a look, and stands in nobody's way.
pub(super) const WARNING: &str = "warning";

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about, in a word or two.
    pub about: String,
    /// Whether it stands in the way of a boot into the role.
    pub is_problem: bool,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Vec<String>,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
    /// What atlas-boot says; missing where it could not be asked.
    pub boot: Option<BootReport>,
}

impl Finding {
    pub(super) fn well(about: &str, found: impl Into<String>) -> Finding {
        Finding { about: about.into(), is_problem: false, found: found.into(), remedy: vec![] }
    }

    pub(super) fn problem(about: &str, found: impl Into<String>) -> Finding {
        Finding { is_problem: true, ..Finding::well(about, found) }
    }

    pub(super) fn remedy(mut self, what_to_do: impl Into<String>) -> Finding {
        self.remedy.push(what_to_do.into());
        self
    }
}

/// Runs `atlas init --check`.
pub fn run(site: &Site, json: bool) -> anyhow::Result<Exit> {
    let verdict = examine(site, || initramfs::kernels(&site.root));
    if json {
        print_json(&verdict.to_json())?;
    } else {
        print(verdict.text())?;
    }
    Ok(if verdict.boots() { Exit::Done } else { Exit::No })
}

/// Looks at everything; what cannot be looked at is a finding, too.
pub fn examine(site: &Site, kernels: impl FnOnce() -> Vec<Kernel>) -> Verdict {
    let (boot, mut findings) = ask_atlas_boot(&site.root);
    // After atlas-boot: the disks that it sees count, also those that appear at this moment.
    findings.extend(in_initramfs(kernels(), initramfs::is_kept_from_updates(&site.root)));
    findings.extend(network::findings(&site.root));
    findings.extend(early::findings(&site.root, &facts::attached_sets()));
    findings.extend(listed::findings(site, boot.as_ref()));
    let layout = layout::objections(&site.tree);
    if layout.is_empty() {
        findings.push(Finding::well("file systems", "what early boot needs is on the root file system"));
    }
    findings.extend(
        layout
            .into_iter()
            .map(|objection| Finding { remedy: objection.hints, ..Finding::problem("file systems", objection.what) }),
    );
    Verdict { findings, boot }
}

fn ask_atlas_boot(root: &Path) -> (Option<BootReport>, Vec<Finding>) {
    let about = "role";
    let program = root.join(ATLAS_BOOT);
    if !program.exists() {
        let finding = Finding::problem(about, format!("{} is not installed", program.display()));
        return (None, vec![finding.remedy("install the package 'atlas'")]);
    }
    let output =
        tool(&program).args(["check", "--json", "--root"]).arg(root).deadline(Duration::from_secs(300)).output();
    let told = output.map_err(|error| initramfs::chain(&error)).and_then(|output| {
        serde_json::from_slice::<BootReport>(&output.stdout)
            .map_err(|error| format!("its answer cannot be read ({error}): {}", output.complaint()))
    });
    match told {
        Ok(report) => {
            let findings = judge(&report);
            (Some(report), findings)
        }
        Err(why) => {
            let finding = Finding::problem(about, format!("atlas-boot could not be asked: {why}"));
            (None, vec![finding.remedy("reinstall the package 'atlas'")])
        }
    }
}

fn judge(report: &BootReport) -> Vec<Finding> {
    let role = report.role.map_or_else(|| "no role".to_owned(), |role| role.to_string());
    let env = report.env_version.map(|env| format!(" on {env}")).unwrap_or_default();
    let mut findings = vec![match (&report.refusal, report.outcome) {
        (Some(refusal), _) => Finding {
            remedy: refusal.remedy.clone(),
            ..Finding::problem("role", format!("refused ({}): {}", refusal.code, refusal.what))
        },
        (None, Outcome::IdentityInstalled) => {
            Finding::well("role", format!("{role}{env}, with the identity of its Snapshot"))
        }
        (None, Outcome::FromScratch) => {
            Finding::well("role", format!("{role}{env}, from scratch: no Snapshot was made yet"))
        }
        (None, Outcome::NotInitialised) => {
            Finding::problem("role", "this server was never set up").remedy("run 'atlas init'")
        }
        (None, Outcome::Refused) => Finding::problem("role", "refused, and atlas-boot does not say why"),
    }];
    if let Some(set) = &report.set {
        let state = if set.degraded { "runs with fewer disks than it should" } else { "whole" };
        findings.push(Finding::well("Unbound set", format!("{}: {state}", set.members.join(", "))));
    }
    findings.extend(report.warnings.iter().map(|warning| Finding::well(WARNING, warning)));
    findings
}

fn in_initramfs(kernels: Vec<Kernel>, is_kept: bool) -> Vec<Finding> {
    if kernels.is_empty() {
        return vec![Finding::problem("initramfs", "no kernel is installed in /boot")];
    }
    let finding = |kernel: Kernel| match kernel.lack {
        None => Finding::well("initramfs", format!("kernel {} starts atlas-boot", kernel.version)),
        Some(lack) => {
            Finding::problem("initramfs", format!("kernel {}: {lack}", kernel.version)).remedy(match is_kept {
                true => ALLOW_UPDATES.to_owned(),
                false => format!("update-initramfs -u -k {0}, or -c where it has none", kernel.version),
            })
        }
    };
    kernels.into_iter().map(finding).collect()
}

impl Verdict {
    /// Whether the server would boot into its role.
    pub fn boots(&self) -> bool {
        !self.findings.iter().any(|finding| finding.is_problem)
    }

    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        let finding = |finding: &Finding| {
            json!({
                "about": finding.about, "ok": !finding.is_problem, "found": finding.found, "remedy": finding.remedy,
            })
        };
        json!({
            "format": 1,
            "boots_into_role": self.boots(),
            "role": self.boot.as_ref().and_then(|boot| boot.role),
            "verdict": self.line(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "boot": self.boot,
        })
    }

    fn line(&self) -> String {
        let problems = self.findings.iter().filter(|finding| finding.is_problem).count();
        let role = self.boot.as_ref().and_then(|boot| boot.role);
        match (problems, role) {
            (0, Some(role)) => format!("this server would boot as {role}"),
            (0, None) => "this server would boot into its role".to_owned(),
            (1, _) => "this server would not boot into its role: 1 problem".to_owned(),
            (count, _) => format!("this server would not boot into its role: {count} problems"),
        }
    }

    fn remedies(&self) -> String {
        let problems = self.findings.iter().filter(|finding| finding.is_problem);
        problems
            .map(|problem| {
                let remedies = problem.remedy.iter().map(|remedy| format!("    try: {remedy}\n")).collect::<String>();
                format!("  {}\n{remedies}", problem.found)
            })
            .collect()
    }

    fn text(&self) -> String {
        let style = Style::stdout();
        let mut table = Table::new(["STATE", "WHAT", "FOUND"]);
        for finding in &self.findings {
            let state = match (finding.is_problem, finding.about.as_str()) {
                (true, _) => style.red("problem"),
                (false, WARNING) => style.yellow("look"),
                (false, _) => style.green("ok"),
            };
            table.row([state, finding.about.clone(), finding.found.clone()]);
        }
        let line = self.line();
        let line = if self.boots() { style.green(&line) } else { style.red(&line) };
        format!("{table}\n{}{line}\n", self.remedies())
    }

    /// What will happen at the next boot, for the end of `atlas init`.
    pub fn next_boot(&self) -> String {
        let boot = self.boot.as_ref().filter(|_| self.boots());
        let Some((boot, role)) = boot.and_then(|boot| Some((boot, boot.role?))) else {
            return format!("At the next boot {}:\n{}", self.line().replace("would", "will"), self.remedies());
        };
        match boot.outcome {
            Outcome::FromScratch => format!(
                "At the next boot this server will be {role}. It keeps the identity of its OS until the first Snapshot: ssSync create\n"
            ),
            _ => format!("At the next boot this server will be {role}, with the identity of its Snapshot.\n"),
        }
    }
}

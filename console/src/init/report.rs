//! What `atlas init` found and did, for people and for programs.

use super::{answers::Answers, check::Verdict, paths::FirstLists, plan::Item};
use atlas_cli::{Table, print, print_json};
use serde_json::json;

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Report {
    role: String,
    cluster: String,
    env_version: u32,
    dry_run: bool,
    /// In order; done, or was so already.
    pub(crate) items: Vec<Item>,
    notes: Vec<String>,
    /// What was asked for and not done, and why.
    pub(crate) not_done: Vec<String>,
    /// Whether the server would boot into its role now; not asked in a dry run.
    pub(crate) check: Option<Verdict>,
}

/// The word of an item: what was done, or would be.
fn word(item: &Item, ahead: bool) -> &'static str {
    match &item.task {
        None if item.is_open => "not known",
        None => "was so",
        Some(_) if ahead => "to do",
        Some(task) => task.done(),
    }
}

/// One item on one line.
pub(crate) fn line(item: &Item, ahead: bool) -> String {
    format!("{}: {}", item.task.as_ref().filter(|_| ahead).map_or(word(item, ahead), |task| task.done()), item.what)
}

impl Report {
    pub(crate) fn new(answers: &Answers, dry_run: bool, lists: &FirstLists) -> Report {
        Report {
            role: answers.config.role().to_string(),
            cluster: answers.config.cluster().to_string(),
            env_version: answers.env_version.number(),
            dry_run,
            items: vec![],
            notes: lists.notes.clone(),
            not_done: vec![],
            check: None,
        }
    }

    fn changed(&self) -> bool {
        !self.dry_run && self.items.iter().any(|item| item.task.is_some())
    }

    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json { print_json(&self.to_json()) } else { print(self.text()) }
    }

    fn to_json(&self) -> serde_json::Value {
        let step = |item: &Item| json!({"result": word(item, self.dry_run).replace(' ', "-"), "what": item.what});
        json!({
            "format": 1,
            "role": self.role,
            "cluster": self.cluster,
            "env_version": self.env_version,
            "dry_run": self.dry_run,
            "changed": self.changed(),
            "steps": self.items.iter().map(step).collect::<Vec<_>>(),
            "notes": self.not_done.iter().chain(&self.notes).collect::<Vec<_>>(),
            "check": self.check.as_ref().map(Verdict::to_json),
        })
    }

    fn text(&self) -> String {
        let mut table = Table::new(["RESULT", "WHAT"]);
        for item in &self.items {
            table.row([word(item, self.dry_run), item.what.as_str()]);
        }
        let mut text = table.to_string();
        let lists_are_new = self.items.iter().any(|item| item.task == Some(super::plan::Task::PathLists));
        for note in self.not_done.iter().chain(self.notes.iter().filter(|_| lists_are_new)) {
            text.push_str(&format!("note: {note}\n"));
        }
        text.push('\n');
        match &self.check {
            None => {
                text.push_str("Nothing was changed: this was a dry run.\n");
                if self.items.iter().any(|item| item.is_open) {
                    text.push_str("What is not known, the set says, which is not mounted: the real run compares it, and may refuse.\n");
                }
            }
            Some(_) if !self.changed() => text.push_str("Nothing was changed: everything was so already.\n"),
            Some(_) => {}
        }
        if let Some(check) = &self.check {
            text.push_str(&check.next_boot());
        }
        text
    }
}

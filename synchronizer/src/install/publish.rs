//! From the decision to the last service: keep, stage, publish, tell, put back.

use super::{
    NAMED, Outcome, Rehearsed, Run, made_by, parents,
    record::Pending,
    services::{self, Service, Told, Works},
    source::Brought,
};
use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::lock::AccountsLock;
use atlas_model::manifest::Entry;
use atlas_sid::{
    install::{Plan, Protected, Trust, Wanted},
    keep::Kept,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

/// How long another program may hold the files of accounts.
const ACCOUNTS_DEADLINE: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Installs what is not held, and has the services work with it.
    pub(super) fn publish(&mut self) -> anyhow::Result<()> {
        let lock = AccountsLock::take(self.root, ACCOUNTS_DEADLINE)
            .context("wait for another program that changes accounts")
            .hint(
                "see with 'fuser /etc/.pwd.lock' which one it is, or with 'findmnt -T /etc' whether /etc is read-only",
            )?;
        let brought = self.source.bring(self.root, None)?;
        let plan = brought.plan(self.source, self.root, &self.held_paths(), self.trust)?;
        self.note(&brought, &plan);
        let mut to_tell: BTreeSet<String> = self.touched(&plan).iter().map(|service| service.name.clone()).collect();
        if plan.changes().is_empty() && self.pending.services.is_empty() {
            return Ok(());
        }
        let mut kept = self.records.kept(self.own, self.env_version)?;
        if !plan.changes().is_empty() {
            self.put_in_place(&plan, &to_tell, &mut kept)?;
        }
        drop(lock);
        let left = std::mem::take(&mut self.pending.services);
        to_tell.extend(left.iter().cloned());
        self.tell(&to_tell, &left, &kept, &brought)
    }

    /// Makes the changes: all of them, or none.
    fn put_in_place(&mut self, plan: &Plan<'_>, to_tell: &BTreeSet<String>, kept: &mut Kept) -> anyhow::Result<()> {
        let was_pending = !self.pending.services.is_empty() || !self.pending.touched.is_empty();
        let mut touched = parents(plan.changes());
        touched.extend(std::mem::take(&mut self.pending.touched));
        let services = to_tell.union(&self.pending.services).cloned().collect();
        self.records.begin(&Pending { format: 1, services, touched })?;
        let made_ready = kept
            .add(self.root, plan.changes())
            .context("keep what will be replaced")
            .and_then(|()| plan.stage(self.root).context("make ready what PRI has changed"));
        // What an earlier run left to do is still to be done, after a failure as well.
        if made_ready.is_err() && !was_pending {
            self.records.clear()?;
        }
        let changes = with_hint(made_ready, "nothing was changed, and the next run tries again")?
            .commit()
            .context("install what PRI has changed");
        let changes = with_hint(changes, "the changes were taken back; the next run cleans up and tries again")?;
        self.report.change_count = changes.len();
        self.report.changes = changes.iter().take(NAMED).map(ToString::to_string).collect();
        Ok(())
    }

    /// Tells the services, watches them, and gives the files of before to those that do not come up.
    fn tell(
        &mut self,
        names: &BTreeSet<String>,
        left: &BTreeSet<String>,
        kept: &Kept,
        brought: &Brought,
    ) -> anyhow::Result<()> {
        let (root, pri) = (self.root.shown(), self.source.network());
        let not_rehearsed = matches!(self.report.rehearsal, Rehearsed::NotPossible(_));
        let mut watched: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut fallen: BTreeMap<&str, String> = BTreeMap::new();
        for service in self.services.iter().filter(|service| names.contains(&service.name)) {
            let ran = service.active(root);
            // What a run that was cut off has left to tell was not rehearsed in this one.
            let is_known = !not_rehearsed && !left.contains(&service.name);
            let checked = match is_known {
                false => service.check(root, &pri),
                true if self.as_pri.contains(&service.name) => Ok(Works::AsPri),
                true => Ok(Works::Here),
            };
            let told = checked.and_then(|works| match works {
                Works::Here => service.tell(root).map(Some),
                Works::AsPri => Ok(None),
            });
            match told {
                Ok(None) => drop(self.outcomes.insert(service.name.clone(), Outcome::OnlyAsPri)),
                Ok(Some(told)) => {
                    self.outcomes.insert(service.name.clone(), told.into());
                    watched.insert(&service.name, ran);
                }
                Err(why) => drop(fallen.insert(&service.name, why)),
            }
        }
        let all: Vec<String> = watched.values().flatten().cloned().collect();
        if services::first_to_fall(root, &all).is_some() {
            for (name, units) in &watched {
                if let Some(unit) = services::first_to_fall_now(root, units) {
                    fallen.insert(name, format!("{unit} does not run any more"));
                }
            }
        }
        let services = self.services;
        for service in services.iter().filter(|service| fallen.contains_key(service.name.as_str())) {
            let why = fallen[service.name.as_str()].clone();
            let why = made_by::with_rules(root, self.source, self.env_version, why);
            self.put_back(service, why, kept, brought)?;
        }
        Ok(())
    }

    /// Gives a service the files that it had, and starts it with them.
    fn put_back(&mut self, service: &Service, mut why: String, kept: &Kept, brought: &Brought) -> anyhow::Result<()> {
        let entries: Vec<Entry> = kept.entries().iter().filter(|entry| service.reads(&entry.path)).cloned().collect();
        let wanted = Wanted {
            entries: &entries,
            files: Some(kept.files()?),
            ways: BTreeMap::new(),
            made: BTreeMap::new(),
            protected: Protected { reserved: true, ..Protected::default() },
            trust: Trust::Bytes,
            differing: None,
            removes_strangers: false,
        };
        Plan::of(self.root, wanted)?
            .stage(self.root)
            .and_then(|staged| staged.commit())
            .with_context(|| {
                format!("put back the files of {}, which does not come up with PRI's ({why})", service.name)
            })
            .hint("the next run tries again")?;
        if let Err(error) = service.restart(self.root.shown()) {
            why = format!("{why}; with the files of before it does not come up either: {error}");
        }
        self.hold(&service.name, why.clone(), true, brought)?;
        self.outcomes.insert(service.name.clone(), Outcome::PutBack(why));
        Ok(())
    }
}

/// With what became of it, and with what to do where that is known.
fn with_hint<T>(result: anyhow::Result<T>, became: &str) -> anyhow::Result<T> {
    let kinds = result.as_ref().err().into_iter().flat_map(|error| error.chain());
    let kind = kinds.filter_map(|cause| cause.downcast_ref()).map(io::Error::kind).next();
    let what_to_do = match kind {
        Some(io::ErrorKind::StorageFull) => "free some space on the file system that is named; ",
        Some(io::ErrorKind::PermissionDenied) => {
            "'lsattr' shows whether the file or its directory was made immutable, and 'chattr -i' ends that; "
        }
        _ => "",
    };
    result.hint(format!("{what_to_do}{became}"))
}

impl From<Told> for Outcome {
    fn from(told: Told) -> Outcome {
        match told {
            Told::NobodyToTell => Outcome::NobodyToTell,
            Told::NotRunning => Outcome::NotRunning,
            Told::Reloaded => Outcome::Reloaded,
            Told::Restarted => Outcome::Restarted,
        }
    }
}

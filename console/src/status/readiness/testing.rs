//! Facts of a server where all is well.

use super::*;
use atlas_model::verify::{Heard, Observed, Profile};

pub(in crate::status) fn observed(about: Role, service: &str, profile: Profile) -> Observed {
    Observed {
        about: Some(about),
        service: service.into(),
        instance: String::new(),
        profile,
        checked: 1000,
        interval: 60,
        since: 900,
        flapping: false,
        acknowledged: None,
        maintenance_until: None,
    }
}

pub(in crate::status) fn found(role: Role, observed: Vec<Observed>) -> Findings {
    Findings {
        format: 1,
        role,
        env_version: EnvVersion::OLDEST,
        time: 1000,
        started: 0,
        observed,
        heard: vec![],
        boots_with: None,
        partners: vec![],
        broken_channels: vec![],
    }
}

pub(in crate::status) fn facts() -> Facts {
    let env_version = EnvVersion::OLDEST;
    let role = Role::Sec(1);
    let secondary = SecondaryReport {
        format: 1,
        role,
        env_version,
        time: 0,
        installed: Some(7),
        install: serde_json::Value::Null,
        changed_locally: false,
        undone: vec![],
        local_commit: None,
        converted: vec![],
        steps: vec![],
        would_boot: Some(true),
        problems: vec![],
    };
    let partner = PartnerReport {
        in_common: vec![],
        role,
        host: "sec1".into(),
        outcome: Outcome::Synced,
        why: None,
        env_version: Some(env_version),
        clock_ahead: Some(0),
        sent: None,
        received: None,
        secondary: Some(secondary),
        differences: vec![],
        history_error: None,
        steps: vec![],
    };
    let cycle = CycleReport {
        format: 1,
        program: "ssSync".into(),
        time: 0,
        env_version,
        generation: 7,
        changed: false,
        partners: vec![partner],
        steps: vec![],
        problems: vec![],
    };
    Facts {
        role: Role::Pri,
        partners: vec![Partner { role, host: "sec1".into() }],
        env_version: Some(env_version),
        boot: None,
        cycle: Some(cycle),
        cycle_age: Some(10),
        synced: None,
        synced_age: None,
        suspended: None,
        findings: Some(findings()),
        findings_age: Some(1),
        members: Some((2, 2)),
    }
}

pub(in crate::status) fn findings() -> Findings {
    let sec = Role::Sec(1);
    let mut findings = found(Role::Pri, vec![observed(sec, "web", Profile::ok("fine"))]);
    let theirs = found(
        sec,
        vec![observed(sec, "raid", Profile::ok("both disks")), observed(Role::Pri, "web", Profile::ok("fine"))],
    );
    findings.heard.push(Heard { role: sec, time: Some(1000), silent: None, findings: Some(Box::new(theirs)) });
    findings
}

/// SEC1, as it knows itself and PRI.
pub(in crate::status) fn secondary() -> Facts {
    let sec = Role::Sec(1);
    let well = [
        observed(sec, "raid", Profile::ok("both disks")),
        observed(Role::Pri, "web", Profile::ok("fine")),
        observed(Role::Pri, "serving", Profile::ok("PRI answers")),
    ];
    let mut findings = found(sec, well.to_vec());
    let said = found(Role::Pri, vec![observed(sec, "web", Profile::ok("fine"))]);
    findings.heard.push(Heard { role: Role::Pri, time: Some(999), silent: None, findings: Some(Box::new(said)) });
    let pri = facts();
    let synced = pri.cycle.as_ref().and_then(|cycle| cycle.partners[0].secondary.clone());
    let partners = vec![Partner { role: Role::Pri, host: "pri".into() }];
    let findings = Some(findings);
    Facts { role: sec, partners, cycle: None, cycle_age: None, synced, synced_age: Some(40), findings, ..pri }
}

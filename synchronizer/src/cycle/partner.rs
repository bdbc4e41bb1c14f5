//! PRI's side of the conversation with one partner.

use super::Upto;
use crate::{
    compare,
    protocol::{Fault, Message, Wire, check_partner, due, in_common, introduce, receive, send},
    report::{now, timed},
    server::Server,
};
use atlas_cli::in_one_line;
use atlas_host::process::{Conversation, ProcessError};
use atlas_model::{
    Partner, Role,
    cycle::{Outcome, PartnerReport, SecondaryReport},
};
use atlas_sid::{
    bond::{Bond, Knot},
    history::{self, Cause},
};
use std::{
    io::{Read, Write},
    time::Duration,
};

/// A report of which nothing is known yet.
pub(crate) fn blank(partner: &Partner) -> PartnerReport {
    PartnerReport {
        role: partner.role,
        host: partner.host.clone(),
        outcome: Outcome::Failed,
        why: None,
        env_version: None,
        clock_ahead: None,
        sent: None,
        received: None,
        secondary: None,
        in_common: vec![],
        differences: vec![],
        history_error: None,
        steps: vec![],
    }
}

/// The report of a conversation whose thread is gone.
pub(crate) fn lost(partner: &Partner) -> PartnerReport {
    PartnerReport { why: Some("the program failed; its crash is in the log".into()), ..blank(partner) }
}

/// Goes through the whole conversation that was begun with the partner.
pub(crate) fn converse(
    server: &Server,
    partner: &Partner,
    begun: Result<Conversation, ProcessError>,
    upto: Upto,
) -> PartnerReport {
    let mut report = blank(partner);
    let mut conversation = match begun {
        Ok(conversation) => conversation,
        Err(error) => {
            (report.outcome, report.why) = (Outcome::Unreachable, Some(in_one_line(&error.into())));
            return report;
        }
    };
    let talked = match conversation.streams() {
        Ok((heard, said)) => talk(server, partner.role, &mut Wire::new(heard, said), &mut report, upto),
        Err(error) => Err(error.into()),
    };
    if let Err(fault) = talked {
        (report.outcome, report.why) = blame(fault, &report, conversation);
    }
    report
}

/// What a fault says of the partner. Where it never said a word, what its ssh complained of is the reason.
fn blame(fault: Fault, report: &PartnerReport, conversation: Conversation) -> (Outcome, Option<String>) {
    let text = |fault: Fault| in_one_line(&fault.into());
    match fault {
        Fault::Refused(why) => (Outcome::Refused, Some(why)),
        Fault::Connection(error) => {
            let complaint = conversation.end().map(|ended| ended.complaint()).unwrap_or_default();
            let never_heard = report.env_version.is_none();
            let why = if complaint.is_empty() { text(Fault::Connection(error)) } else { complaint };
            (if never_heard { Outcome::Unreachable } else { Outcome::Failed }, Some(why))
        }
        other => (Outcome::Failed, Some(text(other))),
    }
}

/// From the first word to the last.
pub(crate) fn talk<R: Read, W: Write>(
    server: &Server,
    role: Role,
    wire: &mut Wire<R, W>,
    report: &mut PartnerReport,
    upto: Upto,
) -> Result<(), Fault> {
    let own = introduce(server, role)?;
    wire.say(&Message::Hello(Box::new(own.clone())))?;
    let partner = due!(wire, Message::Hello(hello) => hello, "Hello");
    report.env_version = Some(partner.env_version);
    report.clock_ahead = Some(i64::try_from(partner.clock).unwrap_or(i64::MAX).saturating_sub_unsigned(now()));
    if let Err(why) = check_partner(&own, &partner) {
        // It may have found out by itself and be gone.
        let _ = wire.say(&Message::Refused { why: why.clone() });
        return Err(Fault::Refused(why));
    }
    if let (Some(own), Some(partner)) = (&own.wears, &partner.wears) {
        report.in_common = in_common(own, partner).into_iter().map(str::to_owned).collect();
    }
    let talked = exchange(server, role, wire, report, own.bond.last, upto);
    if let Err(fault) = &talked {
        // The partner learns why, where it still listens; what it has not published it forgets.
        let _ = match fault {
            Fault::Connection(_) | Fault::Partner(_) | Fault::Refused(_) => Ok(()),
            other => wire.say(&Message::Failed { why: other.to_string() }),
        };
    }
    talked
}

/// Records what a secondary has now in PRI's history, too, and what had been changed there meanwhile. A history that cannot be written keeps no
/// cycle from going on.
fn record(server: &Server, role: Role, done: Option<&SecondaryReport>) -> anyhow::Result<()> {
    let _lock = server.sid.lock(role, Duration::from_secs(60))?;
    history::record(&server.sid, role, &Cause::Received)?;
    if let Some(done) = done {
        history::undone(&server.sid, role, &done.undone, done.local_commit.as_deref())?;
    }
    Ok(())
}

fn exchange<R: Read, W: Write>(
    server: &Server,
    role: Role,
    wire: &mut Wire<R, W>,
    report: &mut PartnerReport,
    last: Option<Knot>,
    upto: Upto,
) -> Result<(), Fault> {
    let steps = &mut report.steps;
    report.sent = Some(timed(steps, "send", || send(wire, &server.sid, Role::Pri))?);
    if upto == Upto::Send {
        report.outcome = Outcome::Synced;
        return wire.say(&Message::Bye);
    }
    wire.say(&Message::SyncUp)?;
    let done = timed(steps, "sync up", || {
        loop {
            match wire.hear() {
                Ok(Message::Working { .. }) => {}
                Ok(Message::SyncedUp { report }) => return Ok(report),
                Ok(_) => return Err(Fault::Protocol("SyncedUp was due".into())),
                Err(fault) => return Err(fault),
            }
        }
    })?;
    if done.role != role {
        return Err(Fault::Protocol(format!("a report of {} came", done.role)));
    }
    report.secondary = Some(*done);
    report.received = Some(timed(steps, "receive", || receive(wire, &server.sid, role))?);
    report.history_error = timed(steps, "record", || record(server, role, report.secondary.as_ref()))
        .err()
        .map(|error| in_one_line(&error));

    let knot = Knot::after(last.as_ref())?;
    Bond { last, next: Some(knot.clone()) }.write(&server.sid, role)?;
    wire.say(&Message::Tie { knot: knot.clone() })?;
    due!(wire, Message::Tied => (), "Tied");
    Bond { last: Some(knot), next: None }.write(&server.sid, role)?;

    let compared = timed(steps, "compare", || compare::with(&server.sid, server.env_version(), role));
    let compared = compared.map_err(|error| Fault::Partner(in_one_line(&error)))?;
    (report.outcome, report.why) = match compare::summary(&compared) {
        Some(why) => (Outcome::Differs, Some(why)),
        None => (Outcome::Synced, None),
    };
    report.differences = compared.differences;
    Ok(())
}

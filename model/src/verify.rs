//! What is known of services: the answers of a VerifyService, and what a Verifier has made of them [443].
//!
//! ```text
//!  VerifyServiceN setup   ─► Found      what is there, what has to be synchronised, what test data to place
//!  VerifyServiceN verify  ─► Profile    go or no-go on top, measures below
//!  VerifierControl        ─► Findings   /run/atlas/verifier.json: each Profile with since when, by whom, how old; and the partners' Findings
//! ```
//!
//! The formats are documented for whoever writes a VerifyService, in docs/verify-services.md.

pub mod causes;
mod fault;

use crate::{EnvVersion, Partner, Role, TreePath};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

pub use fault::{ADDRESS_IN_USE, Fault, SUMMED, listed_by, names, summed};

/// Where a Verifier leaves what it knows, in [`crate::cycle::REPORTS`].
pub const FINDINGS: &str = "verifier.json";
/// The largest answer of a VerifyService, in bytes.
pub const MAX_PROFILE: usize = 64 << 10;
/// The largest [`Findings`], in bytes.
pub const MAX_FINDINGS: usize = 8 << 20;
/// The most measures in a Profile, and instances or files in what one service was found to have.
pub const MAX_ITEMS: usize = 1000;

/// How well a service does, best first. The order is that of Nagios' exit codes, 0 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and something about it deserves a look before it gets worse.
    Slow,
    /// It does not do what its clients need.
    Unacceptable,
    /// Nobody can say.
    Unknown,
}

impl Verdict {
    /// What a VerifyService, and every Nagios plugin, exits with.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Slow => 1,
            Verdict::Unacceptable => 2,
            Verdict::Unknown => 3,
        }
    }

    /// The verdict of an exit code; what no plugin should exit with is unknown.
    pub fn from_exit_code(code: Option<i32>) -> Verdict {
        match code {
            Some(0) => Verdict::Ok,
            Some(1) => Verdict::Slow,
            Some(2) => Verdict::Unacceptable,
            _ => Verdict::Unknown,
        }
    }

    /// How much it weighs: an unknown is worse than slow, and less than a service that is known not to work.
    pub fn weight(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Slow => 1,
            Verdict::Unknown => 2,
            Verdict::Unacceptable => 3,
        }
    }

    /// The weightier of two.
    pub fn or(self, other: Verdict) -> Verdict {
        if other.weight() > self.weight() { other } else { self }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Slow => "slow",
            Verdict::Unacceptable => "unacceptable",
            Verdict::Unknown => "unknown",
        })
    }
}

/// On which side of a limit a measure is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Worse {
    /// More than the limit is worse: times, loads, ages.
    #[default]
    Higher,
    /// Less than the limit is worse: free space, days until something expires.
    Lower,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What is measured: letters, digits, `-`, `_`, `.`, `/`.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit: `ms`, `s`, `%`, `B`, `B/s`, `days`, or nothing for a count.
    #[serde(default)]
    pub unit: String,
    /// Beyond this the service is slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<f64>,
    /// Beyond this it is unacceptable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unacceptable: Option<f64>,
    /// Which side is beyond.
    #[serde(default)]
    pub worse: Worse,
}

impl Measure {
    /// What the number means by its limits; a number that is none is unknown.
    pub fn verdict(&self) -> Verdict {
        let beyond = |limit: Option<f64>| {
            limit.is_some_and(|limit| match self.worse {
                Worse::Higher => self.value > limit,
                Worse::Lower => self.value < limit,
            })
        };
        match () {
            () if !self.value.is_finite() => Verdict::Unknown,
            () if beyond(self.unacceptable) => Verdict::Unacceptable,
            () if beyond(self.slow) => Verdict::Slow,
            () => Verdict::Ok,
        }
    }
}

/// How well one service does on one server: what `verify --json` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The format: 1.
    pub format: u32,
    /// Go or no-go.
    pub verdict: Verdict,
    /// One sentence for people: what works, or what does not and, where it can be told, why.
    pub summary: String,
    /// What to do, where something is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The numbers behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// The services for which no program is installed on the server: why they do not answer needs no other word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// Each thing that is wrong, where the check can tell several apart: the summary tells the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

impl Profile {
    /// A verdict and its sentence.
    pub fn new(verdict: Verdict, summary: impl Into<String>) -> Profile {
        Profile {
            format: 1,
            verdict,
            summary: summary.into(),
            hint: None,
            measures: vec![],
            lacks: vec![],
            faults: vec![],
        }
    }

    /// The service does what it should.
    pub fn ok(summary: impl Into<String>) -> Profile {
        Profile::new(Verdict::Ok, summary)
    }

    /// The service does not do what its clients need.
    pub fn unacceptable(summary: impl Into<String>) -> Profile {
        Profile::new(Verdict::Unacceptable, summary)
    }

    /// Nobody can say.
    pub fn unknown(summary: impl Into<String>) -> Profile {
        Profile::new(Verdict::Unknown, summary)
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Profile {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a number; beyond its limits, it makes the verdict worse and is named in the summary.
    #[must_use]
    pub fn measure(mut self, measure: Measure) -> Profile {
        let verdict = measure.verdict();
        if verdict != Verdict::Ok {
            let limit = if verdict == Verdict::Slow { measure.slow } else { measure.unacceptable };
            let than = if measure.worse == Worse::Higher { "more" } else { "less" };
            let limit = limit.map(|limit| format!(", {than} than {}", number(limit))).unwrap_or_default();
            let unit = if measure.unit.is_empty() { String::new() } else { format!(" {}", measure.unit) };
            self.summary.push_str(&format!("; {} is {}{unit}{limit}", measure.name, number(measure.value)));
        }
        self.verdict = self.verdict.or(verdict);
        self.measures.push(measure);
        self
    }
}

/// At most three places, and none that says nothing.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// From where a service is exercised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// On each partner, over the business network.
    #[default]
    Partners,
    /// By each server on itself.
    Here,
}

/// One service that was found: what `verify` is run for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What tells it from others of the same service: `*:80`, `/srv/export`. Empty where there can be only one.
    #[serde(default)]
    pub name: String,
    /// What `verify` needs to know of it, given as `--set KEY=VALUE`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// From where it is exercised.
    #[serde(default)]
    pub at: At,
}

/// Something small that is placed so that a service can be exercised with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestData {
    /// Where: absolute, and its last or last but one name begins with `.atlas-verify` or `atlas-verify`.
    pub path: String,
    /// What is in it: at most 64 KiB.
    pub content: String,
    /// Its mode.
    pub mode: u32,
    /// The account that owns it, by name; root where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Whether a path is named as test data must be: the last or last but one name begins with `.atlas-verify` or `atlas-verify`.
pub fn is_test_data(path: &TreePath) -> bool {
    let names = path.relative().iter().rev().take(2);
    names
        .map(|name| name.as_encoded_bytes())
        .any(|name| name.strip_prefix(b".").unwrap_or(name).starts_with(b"atlas-verify"))
}

/// What `setup` answers on PRI [430].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The format: 1.
    pub format: u32,
    /// What is there.
    pub instances: Vec<Instance>,
    /// Configuration that secondaries need, to be synchronised: absolute paths.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Test data to place and synchronise.
    #[serde(default)]
    pub place: Vec<TestData>,
    /// What could not be made out of the configuration; the next verify of the service reports it.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What is not exercised and why, and what was not asked of the daemon itself: no fault, and said where SetUp is run by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the answer rests on, and how that was: while all of it is the same, the answer is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, String>,
}

/// All that SetUp found, synchronised with the configuration: `/etc/atlas/verifier/Services.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The format: 1.
    pub format: u32,
    /// By the name of the service.
    pub services: BTreeMap<String, FoundService>,
}

/// What SetUp found of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundService {
    /// What is there.
    pub instances: Vec<Instance>,
    /// What could not be made out or placed.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What is not exercised, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A Profile, and what the Verifier that asked for it knows besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// On which server; `None` for an outsider.
    pub about: Option<Role>,
    /// The service.
    pub service: String,
    /// Which instance of it; empty where there is only one.
    pub instance: String,
    /// The last answer.
    pub profile: Profile,
    /// When that was asked for, in seconds since 1970; 0 where it is of before the boot, and was not asked for since.
    pub checked: u64,
    /// Within which it is told what is wrong, in seconds: it is asked more often than that.
    pub interval: u64,
    /// Since when it has this verdict, in seconds since 1970.
    pub since: u64,
    /// Whether it keeps changing.
    #[serde(default)]
    pub flapping: bool,
    /// What somebody said who knows about it and takes care.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<String>,
    /// Until when changes are planned there, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_until: Option<u64>,
}

impl Observed {
    /// Whether this was found out so long ago that it says nothing of `now`, both in seconds since 1970: it should have been asked twice since.
    pub fn is_stale(&self, now: u64) -> bool {
        // A time in the future is no age: a clock was set back, and nobody knows how old this is.
        now.checked_sub(self.checked).is_none_or(|age| age > 2 * self.interval + 30)
    }

    /// How long ago it was asked for, in seconds; `None` where it was not since the boot.
    pub fn age(&self, now: u64) -> Option<u64> {
        (self.checked > 0).then(|| now.saturating_sub(self.checked))
    }

    /// What it is called by where something is to be said about it: `SEC1/web/*:80`, `outside/connectivity/router`.
    pub fn key(&self) -> String {
        key(self.about, &self.service, &self.instance)
    }

    /// `web *:80`, for people.
    pub fn title(&self) -> String {
        if self.instance.is_empty() { self.service.clone() } else { format!("{} {}", self.service, self.instance) }
    }
}

/// See [`Observed::key`].
pub fn key(about: Option<Role>, service: &str, instance: &str) -> String {
    let about = about.map_or_else(|| "outside".to_owned(), |role| role.to_string());
    if instance.is_empty() { format!("{about}/{service}") } else { format!("{about}/{service}/{instance}") }
}

/// What another server's Verifier says, or why nothing came from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// Which server.
    pub role: Role,
    /// When it last answered, in seconds since 1970 by the hearer's clock.
    pub time: Option<u64>,
    /// Since when it does not, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silent>,
    /// What it said; times are by the hearer's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Box<Findings>>,
}

/// A Verifier that cannot be heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silent {
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Why.
    pub why: String,
}

/// What one server's Verifier knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// The format: 1.
    pub format: u32,
    /// Whose Verifier.
    pub role: Role,
    /// Its Environment.
    pub env_version: EnvVersion,
    /// When this was written, in seconds since 1970: at least every few seconds while it runs.
    pub time: u64,
    /// Since when it runs, in seconds since 1970.
    pub started: u64,
    /// What it found itself.
    pub observed: Vec<Observed>,
    /// What its partners' Verifiers say; not passed on to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<Heard>,
    /// What this server would boot with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots_with: Option<ColdBoot>,
    /// PRI's partners, so that secondaries know of each other when PRI is silent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partners: Vec<Partner>,
    /// Channels of alerts that do not work, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_channels: Vec<String>,
}

/// A Verifier that has not written for this long is dead or stuck, in seconds.
pub const HEARTBEAT: u64 = 10;

/// What a cold boot depends on besides files: sorted facts by subject, so that two servers' can be compared line by line.
///
/// ```text
/// packages:  nginx → 1.22.1-9        units: nginx.service → enabled
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColdBoot {
    /// Subject → fact → value.
    pub subjects: BTreeMap<String, BTreeMap<String, String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(value: f64, worse: Worse) -> Measure {
        Measure { name: "x".into(), value, unit: "ms".into(), slow: Some(10.0), unacceptable: Some(20.0), worse }
    }

    #[test]
    fn a_measure_is_judged_by_its_limits_on_the_side_that_is_worse() {
        assert_eq!(measure(10.0, Worse::Higher).verdict(), Verdict::Ok);
        assert_eq!(measure(10.1, Worse::Higher).verdict(), Verdict::Slow);
        assert_eq!(measure(20.1, Worse::Higher).verdict(), Verdict::Unacceptable);
        assert_eq!(measure(9.0, Worse::Lower).verdict(), Verdict::Unacceptable.or(Verdict::Slow));
        assert_eq!(measure(f64::NAN, Worse::Higher).verdict(), Verdict::Unknown);
    }

    #[test]
    fn what_is_beyond_a_limit_makes_the_verdict_worse_and_is_told() {
        let profile =
            Profile::ok("answered").measure(measure(12.0, Worse::Higher)).measure(measure(1.0, Worse::Higher));
        assert_eq!(profile.verdict, Verdict::Slow);
        assert_eq!(profile.summary, "answered; x is 12 ms, more than 10");
    }

    #[test]
    fn verdicts_are_nagios_exit_codes_and_back() {
        for verdict in [Verdict::Ok, Verdict::Slow, Verdict::Unacceptable, Verdict::Unknown] {
            assert_eq!(Verdict::from_exit_code(Some(verdict.exit_code().into())), verdict);
        }
        assert_eq!(Verdict::from_exit_code(Some(127)), Verdict::Unknown);
        assert_eq!(Verdict::from_exit_code(None), Verdict::Unknown);
        assert_eq!(Verdict::Unknown.or(Verdict::Unacceptable), Verdict::Unacceptable);
        assert_eq!(Verdict::Unknown.or(Verdict::Slow), Verdict::Unknown);
    }

    #[test]
    fn what_was_asked_long_ago_or_in_the_future_says_nothing_of_now() {
        let observed = Observed {
            about: None,
            service: "web".into(),
            instance: String::new(),
            profile: Profile::ok("fine"),
            checked: 1000,
            interval: 60,
            since: 0,
            flapping: false,
            acknowledged: None,
            maintenance_until: None,
        };
        assert!(!observed.is_stale(1150));
        assert!(observed.is_stale(1151));
        assert!(observed.is_stale(999));
    }
}

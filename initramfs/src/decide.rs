//! From disks that come when they like to one decision.
//!
//! One look decides nothing: the second set, or the other half, may be a moment late. So the disks are looked at until two looks, some time
//! apart, show the same; how far apart depends on how much harm a disk that is not there yet could do to the answer:
//!
//! ```text
//! whole, in order          taken at once, and looked at again before anything is written     [`confirm`], after QUIET
//! degraded, or accepted    when nothing has changed for QUIET_DEGRADED
//! missing, or no set       when `atlas.wait=` is over
//! any other refusal        when nothing has changed for QUIET: no further disk makes two sets one
//! ```
//!
//! Signs of more to come ([`atlas_host::arrivals`]) are waited out first, at most for PENDING. The whole wait is bounded.
//!
//! A question about a machine that runs, as `atlas-boot check` asks, is answered by [`at_once`]: what a boot would decide if no disk came or
//! went. It needs no [`Disks::clear`], [`Disks::pause`] or [`Disks::say`]; all that acts on the machine stands in that trait.

use atlas_host::arrivals::Arrivals;
use atlas_model::{
    Acceptance, Refusal, RefusalCode,
    survey::{SetChoice, Survey, Trace},
};
use std::time::Duration;

/// How long nothing may have changed before a whole set is written to, or a contradiction is final.
const QUIET: Duration = Duration::from_millis(150);
/// How long nothing may have changed before a set is taken that runs with less than it could.
const QUIET_DEGRADED: Duration = Duration::from_secs(3);
/// How long signs of more disks are waited out: an adapter without a disk gives such for ever.
const PENDING: Duration = Duration::from_secs(3);
/// How long, beyond `atlas.wait=`, disks may come and go.
const RESTLESS: Duration = Duration::from_secs(20);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// Waits are worth a word from here on.
const WORTH_A_WORD: Duration = Duration::from_secs(1);

/// The disks of a machine, and its time.
pub trait Disks {
    /// Which there are, and what is still coming.
    fn arrivals(&mut self) -> Arrivals;
    /// Reads all superblocks.
    fn survey(&mut self) -> Result<Survey, Refusal>;
    /// Stops the arrays that somebody else built of members of Unbound sets; gives a line for each.
    fn clear(&mut self, survey: &Survey) -> Vec<String>;
    /// The time since it began.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn pause(&mut self, time: Duration);
    /// Shows a person what is waited for.
    fn say(&mut self, what: &str);
}

/// The set that was decided on.
#[derive(Clone, Debug)]
pub struct Found {
    /// The set.
    pub choice: SetChoice,
    /// The disks that it was found on.
    pub survey: Survey,
    /// Whether it needed the acceptance.
    pub accepted: bool,
    /// What somebody should know of the way here.
    pub warnings: Vec<String>,
    look: Look,
    /// When the disks were first as they are.
    since: Duration,
}

/// What one look showed; equal looks show the same disks in the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look(String);

impl Look {
    fn of(arrivals: &Arrivals, survey: &Survey) -> Look {
        let ours = survey.atlas_devices();
        // Other arrays may be in use, and change.
        let members: Vec<_> = survey.members.iter().filter(|member| ours.contains(&member.device)).collect();
        let singles: Vec<_> = survey.singles.iter().filter(|single| ours.contains(&single.device)).collect();
        // Nor does it matter what else lies on a disk, or is built of it.
        let devices = survey.devices.iter().map(|device| {
            let is_unread = device.traces.iter().any(|trace| matches!(trace, Trace::Unreadable(_)));
            (&device.path, &device.serial, device.size_bytes, device.read_only, is_unread)
        });
        Look(format!("{:?} {members:?} {singles:?} {:?}", arrivals.present, devices.collect::<Vec<_>>()))
    }
}

/// What the disks of one look say.
enum Answer {
    Whole(SetChoice),
    Degraded(SetChoice, bool),
    /// More disks could change it.
    Wanting(Refusal),
    Final(Refusal),
}

fn answer(survey: &Survey, acceptance: Option<&Acceptance>) -> Answer {
    let refusal = match survey.choose(None) {
        Ok(choice) if choice.degraded || !choice.left_out.is_empty() => return Answer::Degraded(choice, false),
        Ok(choice) => return Answer::Whole(choice),
        Err(refusal) => refusal,
    };
    if let Ok(choice) = survey.choose(acceptance) {
        return Answer::Degraded(choice, true);
    }
    match refusal.code {
        RefusalCode::NoUnboundSet | RefusalCode::MissingMember | RefusalCode::UnsupportedSet => {
            Answer::Wanting(refusal)
        }
        _ => Answer::Final(refusal),
    }
}

/// What a boot would decide if the disks were as they are now, from one look.
pub fn at_once(disks: &mut impl Disks, acceptance: Option<&Acceptance>) -> Result<Found, Refusal> {
    let (arrivals, survey) = (disks.arrivals(), disks.survey()?);
    let (choice, accepted) = match answer(&survey, acceptance) {
        Answer::Whole(choice) => (choice, false),
        Answer::Degraded(choice, accepted) => (choice, accepted),
        Answer::Wanting(refusal) | Answer::Final(refusal) => return Err(refusal),
    };
    let look = Look::of(&arrivals, &survey);
    Ok(Found { choice, survey, accepted, warnings: vec![], look, since: disks.now() })
}

/// Looks at the disks until they give one answer; `wait` is for those that are missing.
pub fn find(disks: &mut impl Disks, acceptance: Option<&Acceptance>, wait: Duration) -> Result<Found, Refusal> {
    let (mut last, mut since, mut warnings, mut said) = (None, disks.now(), Vec::new(), String::new());
    loop {
        // The list of devices before their content: what comes in between makes the next look another.
        let arrivals = disks.arrivals();
        let survey = disks.survey()?;
        warnings.extend(disks.clear(&survey));
        let (look, now) = (Look::of(&arrivals, &survey), disks.now());
        if last.as_ref() != Some(&look) {
            since = now;
        }
        let is_settled = arrivals.pending.is_empty() || now >= PENDING;
        let quiet = now.saturating_sub(since);
        let found = |choice, accepted, warnings| Found {
            choice,
            survey: survey.clone(),
            accepted,
            warnings,
            look: look.clone(),
            since,
        };
        let waiting_for = match answer(&survey, acceptance) {
            Answer::Whole(choice) if is_settled => return Ok(found(choice, false, warnings)),
            Answer::Degraded(choice, accepted) if is_settled && quiet >= QUIET_DEGRADED => {
                return Ok(found(choice, accepted, warnings));
            }
            Answer::Wanting(refusal) if now >= wait => return Err(refusal),
            Answer::Final(refusal) if is_settled && quiet >= QUIET => return Err(refusal),
            Answer::Wanting(refusal) => wanted(refusal.code),
            Answer::Degraded(..) => "more disks of the Unbound set",
            Answer::Whole(_) | Answer::Final(_) => "more disks",
        };
        if now >= wait.max(PENDING) + RESTLESS {
            return Err(restless());
        }
        let signs =
            if arrivals.pending.is_empty() { String::new() } else { format!(": {}", arrivals.pending.join(", ")) };
        let text = format!("waiting for {waiting_for}{signs}");
        if now >= WORTH_A_WORD && text != said {
            disks.say(&text);
            said = text;
        }
        last = Some(look);
        disks.pause(PAUSE);
    }
}

fn wanted(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::NoUnboundSet => "disks with Unbound Data",
        _ => "the missing member of the Unbound set",
    }
}

/// Whether the disks are as they were when the set was found, long enough after that. Until then nothing may be written to them.
pub fn confirm(disks: &mut impl Disks, found: &Found) -> Result<bool, Refusal> {
    let rest = (found.since + QUIET).saturating_sub(disks.now());
    if !rest.is_zero() {
        disks.pause(rest);
    }
    let arrivals = disks.arrivals();
    Ok(Look::of(&arrivals, &disks.survey()?) == found.look)
}

/// Disks came and went for longer than anybody waits.
pub(crate) fn restless() -> Refusal {
    Refusal::new(RefusalCode::Internal, "The disks do not come to rest.")
        .found("at each look, another disk had come, gone, or changed")
        .because("a set that is chosen now could be another one a moment later")
        .remedy("look for a disk or cable that comes and goes in 'dmesg', and reboot")
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::{
        UNBOUND_LABEL, ext4,
        md::{self, MdUuid, Slot},
        survey::{Member, SetKind},
    };

    const WAIT: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);

    fn member(device: &str, number: u32, change: impl FnOnce(&mut md::MdSuperblock)) -> Member {
        let mut md = md::testing::half(number);
        change(&mut md);
        Member { device: device.into(), serial: None, md, ext4: Some(ext4::testing::superblock(UNBOUND_LABEL, 5)) }
    }

    fn half(device: &str, number: u32) -> Member {
        member(device, number, |_| ())
    }

    fn other_half(device: &str, number: u32) -> Member {
        let mut member = member(device, number, |md| {
            (md.set_uuid, md.device_uuid) = (MdUuid([8; 16]), MdUuid([80 + number as u8; 16]));
        });
        member.ext4.as_mut().unwrap().uuid = [99; 16];
        member
    }

    /// Half of a set that ran without the other.
    fn survivor(device: &str) -> Member {
        member(device, 0, |md| (md.events, md.roles) = (60, vec![Slot::Active(0), Slot::Other]))
    }

    /// Members, each from a time on; signs of more, each from one time to another.
    #[derive(Default)]
    struct Bench {
        now: Duration,
        members: Vec<(Duration, Member)>,
        signs: Vec<(Duration, Duration, &'static str)>,
        said: Vec<String>,
        /// A device that is another at every look.
        flickers: bool,
    }

    impl Bench {
        fn with(members: impl IntoIterator<Item = (u64, Member)>) -> Bench {
            let members = members.into_iter().map(|(at, member)| (Duration::from_millis(at), member)).collect();
            Bench { members, ..Bench::default() }
        }

        fn present(&self) -> impl Iterator<Item = &Member> {
            self.members.iter().filter(|(at, _)| *at <= self.now).map(|(_, member)| member)
        }

        fn find(&mut self) -> Result<Found, RefusalCode> {
            find(self, None, WAIT).map_err(|refusal| refusal.code)
        }
    }

    impl Disks for Bench {
        fn arrivals(&mut self) -> Arrivals {
            let signs = self.signs.iter().filter(|(from, to, _)| (*from..*to).contains(&self.now));
            let flicker = self.flickers.then(|| format!("vdz{}", self.now.as_millis()));
            Arrivals {
                present: self.present().map(|member| member.device.clone()).chain(flicker).collect(),
                pending: signs.map(|(.., sign)| (*sign).to_owned()).collect(),
            }
        }
        fn survey(&mut self) -> Result<Survey, Refusal> {
            self.now += Duration::from_millis(2);
            Ok(Survey { members: self.present().cloned().collect(), ..Survey::default() })
        }
        fn clear(&mut self, _: &Survey) -> Vec<String> {
            vec![]
        }
        fn now(&self) -> Duration {
            self.now
        }
        fn pause(&mut self, time: Duration) {
            self.now += time;
        }
        fn say(&mut self, what: &str) {
            self.said.push(what.to_owned());
        }
    }

    #[test]
    fn a_whole_set_is_taken_at_once_and_written_to_a_moment_later() {
        let mut bench = Bench::with([(0, half("/dev/vdb", 0)), (0, half("/dev/vdc", 1))]);
        let found = bench.find().unwrap();
        assert!(bench.now < PAUSE && !found.accepted, "{:?}", bench.now);
        assert!(confirm(&mut bench, &found).unwrap());
        assert!(bench.now >= QUIET && bench.now < QUIET * 2, "{:?}", bench.now);
        assert_eq!(bench.said, Vec::<String>::new());
    }

    #[test]
    fn work_that_takes_longer_than_the_quiet_costs_no_wait() {
        let mut bench = Bench::with([(0, half("/dev/vdb", 0)), (0, half("/dev/vdc", 1))]);
        let found = bench.find().unwrap();
        bench.pause(SECOND);
        let before = bench.now;
        assert!(confirm(&mut bench, &found).unwrap());
        assert!(bench.now - before < PAUSE);
    }

    #[test]
    fn a_second_set_that_comes_before_anything_is_written_is_not_overlooked() {
        let disks = [half("/dev/vdb", 0), half("/dev/vdc", 1)].map(|member| (0, member));
        let more = [other_half("/dev/vdd", 0), other_half("/dev/vde", 1)].map(|member| (100, member));
        let mut bench = Bench::with(disks.into_iter().chain(more));
        let found = bench.find().unwrap();
        assert!(!confirm(&mut bench, &found).unwrap());
        assert_eq!(bench.find().unwrap_err(), RefusalCode::TwoSets);
    }

    #[test]
    fn a_second_set_on_an_adapter_that_is_still_starting_is_waited_for() {
        let disks = [half("/dev/vdb", 0), half("/dev/vdc", 1)].map(|member| (0, member));
        let more = [other_half("/dev/sda", 0), other_half("/dev/sdb", 1)].map(|member| (2500, member));
        let mut bench = Bench::with(disks.into_iter().chain(more));
        bench.signs.push((Duration::ZERO, SECOND * 3, "SCSI host7"));
        assert_eq!(bench.find().unwrap_err(), RefusalCode::TwoSets);
        assert!(bench.said[0].contains("more disks: SCSI host7"), "{:?}", bench.said);
    }

    #[test]
    fn an_adapter_that_never_shows_a_disk_costs_a_bounded_time() {
        let mut bench = Bench::with([(0, half("/dev/vdb", 0)), (0, half("/dev/vdc", 1))]);
        bench.signs.push((Duration::ZERO, SECOND * 999, "SCSI host7"));
        assert!(bench.find().is_ok());
        assert!(bench.now >= PENDING && bench.now < PENDING + SECOND, "{:?}", bench.now);
    }

    #[test]
    fn the_other_half_may_be_seconds_late() {
        for late in [150, 2500, 9900] {
            let mut bench = Bench::with([(0, half("/dev/vdb", 0)), (late, half("/dev/vdc", 1))]);
            let found = bench.find().unwrap();
            assert!(!found.choice.degraded, "{late} ms");
            assert_eq!(bench.said.len(), usize::from(late > 1000), "{:?}", bench.said);
        }
        let mut bench = Bench::with([(0, half("/dev/vdb", 0))]);
        assert_eq!(bench.find().unwrap_err(), RefusalCode::MissingMember);
        assert!(bench.now >= WAIT && bench.now < WAIT + SECOND, "{:?}", bench.now);
        assert_eq!(bench.said, ["waiting for the missing member of the Unbound set"]);
    }

    /// What came apart shows only when the other half is there: the first alone looks like a set that lost a disk long ago.
    #[test]
    fn a_half_that_was_written_apart_is_waited_for_before_the_other_is_taken() {
        let apart = member("/dev/vdc", 1, |md| (md.events, md.roles) = (60, vec![Slot::Other, Slot::Active(1)]));
        let mut bench = Bench::with([(0, survivor("/dev/vdb")), (2500, apart)]);
        assert_eq!(bench.find().unwrap_err(), RefusalCode::WrittenApart);
    }

    #[test]
    fn a_degraded_set_is_taken_when_nothing_else_comes() {
        let mut bench = Bench::with([(0, survivor("/dev/vdb"))]);
        let found = bench.find().unwrap();
        assert!(matches!(&found.choice.kind, SetKind::Mirror { devices, .. } if devices == &["/dev/vdb"]));
        assert!(bench.now >= QUIET_DEGRADED && bench.now < QUIET_DEGRADED + SECOND, "{:?}", bench.now);
        assert!(confirm(&mut bench, &found).unwrap());
    }

    #[test]
    fn an_acceptance_is_not_used_where_the_missing_disk_comes_after_all() {
        let half_alone = Bench::with([(0, half("/dev/vdb", 0))]).find_refusal();
        let acceptance = Acceptance {
            format: 1,
            code: RefusalCode::MissingMember,
            fingerprint: half_alone.fingerprint.unwrap(),
            device: None,
            by: "root".into(),
            reason: "it burnt".into(),
            at: 0,
            found: vec![],
        };
        let mut late = Bench::with([(0, half("/dev/vdb", 0)), (2500, half("/dev/vdc", 1))]);
        let found = find(&mut late, Some(&acceptance), WAIT).unwrap();
        assert!(!found.accepted && !found.choice.degraded);
        let mut never = Bench::with([(0, half("/dev/vdb", 0))]);
        let found = find(&mut never, Some(&acceptance), WAIT).unwrap();
        assert!(found.accepted && never.now >= QUIET_DEGRADED);
    }

    impl Bench {
        fn find_refusal(mut self) -> Refusal {
            find(&mut self, None, WAIT).unwrap_err()
        }
    }

    #[test]
    fn disks_that_come_and_go_for_ever_end_in_a_refusal() {
        let mut bench = Bench::with([(0, survivor("/dev/vdb"))]);
        bench.flickers = true;
        assert_eq!(bench.find().unwrap_err(), RefusalCode::Internal);
        assert!(bench.now < WAIT + RESTLESS + SECOND, "{:?}", bench.now);
    }
}

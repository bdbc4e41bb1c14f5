//! An md mirror: which of its members to start from.

use super::{
    advice,
    facts::{Member, SetChoice, SetKind, Survey, Trace},
    history,
};
use crate::{
    Acceptance, Digest, Refusal, RefusalCode, UNBOUND_ARRAY,
    ext4::Ext4Superblock,
    md::{MdUuid, Slot},
};
use std::collections::BTreeSet;

/// The members of one array, and what an operator accepted.
struct Mirror<'s> {
    survey: &'s Survey,
    members: &'s [&'s Member],
    accepted: Option<&'s Acceptance>,
    fingerprint: Digest,
}

/// Chooses the members to start from.
pub(super) fn choose(
    survey: &Survey,
    members: &[&Member],
    accepted: Option<&Acceptance>,
) -> Result<SetChoice, Refusal> {
    let mut lines: Vec<String> = members.iter().map(|m| m.md.fingerprint().to_string()).collect();
    lines.sort_unstable();
    Mirror { survey, members, accepted, fingerprint: Digest::of(lines.concat().as_bytes()) }.choose()
}

impl<'s> Mirror<'s> {
    fn refuse(&self, code: RefusalCode, what: &str) -> Refusal {
        let mut refusal = Refusal::new(code, what);
        refusal.found = self.members.iter().map(|member| self.survey.describe(member)).collect();
        refusal.fingerprint = Some(self.fingerprint);
        refusal
    }

    fn accepted(&self, code: RefusalCode) -> Option<&Acceptance> {
        self.accepted.filter(|a| a.code == code && a.fingerprint == self.fingerprint)
    }

    fn choose(&self) -> Result<SetChoice, Refusal> {
        self.is_plain()?;
        let Some((fresh, _)) = history::tell_apart(self.members) else {
            let device = self.accepted(RefusalCode::WrittenApart).and_then(|a| a.device.as_deref());
            return device.and_then(|device| self.start_from(device)).ok_or_else(|| self.written_apart());
        };
        let sources: Vec<&Member> = fresh.iter().copied().filter(|m| !m.md.rebuilding).collect();
        let Some(source) = sources.first() else {
            return Err(self
                .refuse(RefusalCode::UnsupportedSet, "No member of the Unbound set holds all of the data.")
                .because("the members that are there are spares, or were still being filled from one that is missing")
                .remedy("shut down, attach the other disks of the set, and boot again"));
        };
        self.is_all_there(&fresh)?;
        let ext4 = self.file_system(source)?;
        let is_writable = |member: &&Member| !self.is_write_protected(member);
        if !sources.iter().any(is_writable) {
            let lines = self.members.iter().map(|member| self.survey.describe(member)).collect();
            return Err(self.survey.write_protected(lines));
        }
        let started: Vec<&Member> = fresh.iter().copied().filter(is_writable).collect();
        let spares = self.members.iter().copied().filter(|m| m.active().is_none() && is_writable(m)).collect();
        Ok(self.choice(&started, spares, ext4, "behind the others"))
    }

    /// The set that is started from these, with these spares; the others are left out for the reason `others`.
    fn choice(&self, started: &[&Member], spares: Vec<&Member>, ext4: Ext4Superblock, others: &str) -> SetChoice {
        let slots = started.first().map_or(0, |member| member.md.raid_disks as usize);
        let sources = started.iter().filter(|member| !member.md.rebuilding).count();
        let all: Vec<&Member> = started.iter().copied().chain(spares).collect();
        let left: Vec<&&Member> = self.members.iter().filter(|m| !all.iter().any(|a| a.device == m.device)).collect();
        let used = started.first().map_or(0, |member| member.md.data_offset_bytes.saturating_add(member.md.used_bytes));
        let is_short = started.len() < slots;
        // Blocks that none of these can give may stand on a member that is left out alone.
        let has_gaps = started.iter().filter(|member| !member.md.rebuilding).all(|member| member.md.bad_blocks);
        let left_out: Vec<String> = left
            .iter()
            .map(|member| match has_gaps {
                true => format!(
                    "{}: left out, {others}; keep it as it is: it may be the only one with the blocks that {} cannot give",
                    self.survey.describe(member),
                    self.names(started).join(", ")
                ),
                false => self.left_out(member, is_short, used, others),
            })
            .collect();
        let mut warnings: Vec<String> = all
            .iter()
            .filter(|member| member.md.rebuilding)
            .map(|m| {
                format!(
                    "{} is not a full copy yet; md goes on filling it",
                    self.survey.name_of(&m.device, m.serial.as_deref())
                )
            })
            .collect();
        if has_gaps {
            warnings.push(format!(
                "no member is a full copy: {} have blocks that they cannot give, and what none of them can give is lost (mdadm --examine-badblocks \
                 {}); read everything once ('tar -cf - /unbound | cat > /dev/null' names the files), and take those from a backup, or from a disk that was \
                 left out, before you replace anything",
                self.names(started).join(" and "),
                started.iter().map(|member| member.device.as_str()).collect::<Vec<_>>().join(" ")
            ));
        } else {
            warnings.extend(started.iter().filter(|member| member.md.bad_blocks).map(|member| self.with_gaps(member)));
        }
        if slots == 1 {
            warnings.push(format!(
                "the Unbound set was made one of a single disk: nothing has a copy; give it another: \
                 mdadm --grow {UNBOUND_ARRAY} --raid-devices=2 --force --add DISK"
            ));
        }
        if started.len() < slots {
            warnings.push(format!(
                "the Unbound set runs on {} of {slots} disks, {}; replace what is missing: {}",
                started.len(),
                self.names(started).join(", "),
                advice::replace()
            ));
        }
        warnings.extend(left_out.iter().cloned());
        SetChoice {
            kind: SetKind::Mirror {
                uuid: self.members[0].md.set_uuid,
                devices: all.iter().map(|member| member.device.clone()).collect(),
            },
            disks: self.names(&all),
            beside: vec![],
            left_out,
            degraded: sources < slots,
            ext4,
            written: started.iter().map(|member| member.md.utime).max().unwrap_or(0),
            warnings,
        }
    }

    /// What to do about a member that lacks blocks that another has.
    fn with_gaps(&self, member: &Member) -> String {
        format!(
            "{} has blocks that it cannot give: it is dying, and no full copy; what is there: mdadm --examine-badblocks {}; put another disk in its \
             place while the others have them: {}",
            self.survey.name_of(&member.device, member.serial.as_deref()),
            member.device,
            advice::replace()
        )
    }

    /// Why a member is not started from, and what to do about it where the set is short of disks and uses so many bytes of each.
    fn left_out(&self, member: &Member, is_short: bool, used: u64, others: &str) -> String {
        let described = self.survey.describe(member);
        if self.is_write_protected(member) {
            return format!("{described}: left out, write-protected");
        }
        let size = self.survey.device(&member.device).map_or(0, |device| device.size_bytes);
        match is_short {
            false => format!("{described}: left out, {others}"),
            true if 0 < size && size < used => format!(
                "{described}: left out, {others}; it is {} bytes too small for the set: put a larger one in its place",
                used - size
            ),
            true => {
                format!("{described}: left out, {others}; to fill it anew: {}", advice::add_anew(&[&member.device]))
            }
        }
    }

    fn names(&self, members: &[&Member]) -> Vec<String> {
        members.iter().map(|m| self.survey.name_of(&m.device, m.serial.as_deref())).collect()
    }

    fn is_write_protected(&self, member: &Member) -> bool {
        self.survey.device(&member.device).is_some_and(|device| device.read_only)
    }

    /// Refuses what is no mirror, or has a member twice.
    fn is_plain(&self) -> Result<(), Refusal> {
        if let Some(member) = self.members.iter().find(|m| m.md.level != 1 || m.md.exotic) {
            let level = member.md.level;
            return Err(self
                .refuse(RefusalCode::UnsupportedSet, "The Unbound set is no plain RAID-1 mirror.")
                .found(if level == 1 {
                    "it is being reshaped, or has a write journal".into()
                } else {
                    format!("it is of RAID level {level}")
                })
                .because("only of a plain mirror does every member hold all of the data")
                .remedy("finish or undo a reshape on the server where it was begun")
                .remedy(super::words::WHAT_A_SET_MAY_BE));
        }
        let uuids: BTreeSet<MdUuid> = self.members.iter().map(|m| m.md.device_uuid).collect();
        if uuids.len() == self.members.len() {
            return Ok(());
        }
        let refusal = self
            .refuse(RefusalCode::DuplicateMember, "Two disks say that they are the same member of the Unbound set.")
            .because("one is a copy of the other, made at an unknown time; starting from the wrong one loses data");
        let Some((disk, part)) = self.survey.one_within_another(self.members) else {
            return Err(refusal.remedy("shut down, remove the copy, and boot again"));
        };
        Err(refusal
            .remedy(format!("{part} is a partition of {disk}: look which of the two is in use: mdadm --examine {disk} {part}"))
            .remedy(format!("take the remains off: mdadm --zero-superblock {disk} where {part} is in use, and the other way round; reboot")))
    }

    /// Refuses where a member is missing that the others count on.
    fn is_all_there(&self, fresh: &[&Member]) -> Result<(), Refusal> {
        let present: BTreeSet<u16> = fresh.iter().filter_map(|m| m.active()).collect();
        let expected: BTreeSet<u16> = fresh.iter().flat_map(|m| m.md.filled_slots()).collect();
        let lacking: Vec<u16> = expected.difference(&present).copied().collect();
        let missing: Vec<String> = lacking.iter().map(u16::to_string).collect();
        if missing.is_empty() || self.accepted(RefusalCode::MissingMember).is_some() {
            return Ok(());
        }
        let filled_it = |member: &&&Member| member.active().is_some_and(|slot| lacking.contains(&slot));
        let behind: Vec<String> = self
            .members
            .iter()
            .filter(filled_it)
            .map(|member| {
                let name = self.survey.name_of(&member.device, member.serial.as_deref());
                format!("{name} filled it once, and is behind the others: the set ran on without it")
            })
            .collect();
        let nothing = if behind.is_empty() { "nothing" } else { "nothing that is up to date" };
        let refusal = self.refuse(
            RefusalCode::MissingMember,
            "A member of the Unbound set is missing that it had when it was last used.",
        );
        let refusal = refusal.found(format!("{nothing} fills slot {}", missing.join(", ")));
        let refusal = behind
            .into_iter()
            .fold(refusal, Refusal::found)
            .because(
                "the missing member may be booting in another server at this moment, which would then take the same role",
            )
            .remedy("shut down, attach all disks of the set, and boot again");
        let refusal = self.survey.may_be_missing().into_iter().fold(refusal, Refusal::remedy);
        let refusal = refusal
            .remedy("if a disk has died, make sure that it is in no other server, then accept to run without it")
            .remedy(format!("if the missing disk turns up after that, fill it anew: {}", advice::add_anew(&["DISK"])));
        Err(self.survey.may_be_late(refusal))
    }

    /// The file system on a member that holds all of the data.
    fn file_system(&self, source: &Member) -> Result<Ext4Superblock, Refusal> {
        if let Some(ext4) = &source.ext4 {
            return Ok(ext4.clone());
        }
        let traces = self.survey.device(&source.device).map_or([].as_slice(), |device| device.traces.as_slice());
        let inside = traces.iter().find_map(|trace| match trace {
            Trace::Inside(content) => Some(content),
            _ => None,
        });
        let refusal = match inside {
            Some(content) => self
                .refuse(
                    RefusalCode::UnsupportedSet,
                    &format!("The Unbound set holds {content} where its ext4 file system should be."),
                )
                .because("early boot can neither read the role from it nor check and repair it")
                .remedy(super::words::WHAT_A_SET_MAY_BE)
                .remedy("to keep the data: mount the set here by hand, copy the data, and make the set anew with 'atlas init'"),
            None => self
                .refuse(RefusalCode::FilesystemBroken, "The Unbound set holds no ext4 file system.")
                .because("there is nothing to read the role from")
                .remedy("if the set is new, run 'atlas init' on the server that it is for")
                .remedy("if it held data, do not write to it; look at a backup superblock with 'e2fsck -n -b 32768'"),
        };
        Err(refusal)
    }

    fn written_apart(&self) -> Refusal {
        let histories = self.histories();
        let halves = || histories.iter().flatten().copied();
        let running: Vec<&Member> = halves().filter(|half| self.runs(half)).collect();
        let resting: Vec<&str> = halves().filter(|half| !self.runs(half)).map(|half| half.device.as_str()).collect();
        let one_of_each = histories.iter().filter_map(|members| members.first()).filter(|half| !self.runs(half));
        let one_of_each: Vec<&str> = one_of_each.map(|half| half.device.as_str()).collect();
        let refusal = self
            .refuse(RefusalCode::WrittenApart, "The members of the Unbound set were each written without the other.")
            .because(
                "each may hold changes that the others lack, and md does not say which; it would start them as one and mix two versions of the \
                 data",
            )
            .remedy(format!("decide which member has the data to keep: {}", advice::BY_TIMES))
            .remedy(advice::look_into(&one_of_each));
        let refusal = match running.as_slice() {
            [] => histories.iter().fold(refusal, |refusal, members| refusal.remedy(self.go_on_with(members))),
            running => refusal.remedy(format!(
                "the set runs on {}; to keep that, give up the others and copy them anew: {}",
                self.names(running).join(", "),
                advice::add_anew(&resting)
            )),
        };
        histories.iter().fold(refusal, |refusal, members| refusal.remedy(self.alone(members)))
    }

    /// The members that hold all of the data, those of one history together.
    fn histories(&self) -> Vec<Vec<&'s Member>> {
        let mut histories: Vec<Vec<&Member>> = vec![];
        for half in self.members.iter().copied().filter(|m| m.active().is_some() && !m.md.rebuilding) {
            match histories.iter_mut().find(|members| history::are_one(members[0], half)) {
                Some(members) => members.push(half),
                None => histories.push(vec![half]),
            }
        }
        histories
    }

    /// Whether the kernel has built an array of it.
    fn runs(&self, member: &Member) -> bool {
        let device = self.survey.device(&member.device);
        device.is_some_and(|device| device.holders.iter().any(|holder| holder.starts_with("md")))
    }

    fn go_on_with(&self, members: &[&Member]) -> String {
        let is_other = |device: &&str| members.iter().all(|member| member.device != *device);
        let others: Vec<&str> = self.members.iter().map(|m| m.device.as_str()).filter(is_other).collect();
        format!(
            "to go on with {}: atlas-boot accept written-apart --device {}, reboot; then give up {} and copy {} anew: {}",
            self.names(members).join(" and "),
            members.first().map_or("", |member| &member.device),
            others.join(" and "),
            if others.len() > 1 { "each" } else { "it" },
            advice::add_anew(&others)
        )
    }

    /// What a boot makes of the members of one history when the others are taken out.
    fn alone(&self, members: &[&Member]) -> String {
        let names = self.names(members).join(" with ");
        let alone = Mirror { survey: self.survey, members, accepted: None, fingerprint: self.fingerprint };
        match alone.choose() {
            Ok(_) => format!("{names} alone in the server boots without a question"),
            Err(refusal) if refusal.code.risk_of_accepting().is_some() => {
                format!("{names} alone in the server is refused ({}) until that is accepted", refusal.code)
            }
            Err(refusal) => format!("{names} alone in the server is refused ({})", refusal.code),
        }
    }

    /// After an acceptance: the set as the chosen member has it, with those that are one with it.
    ///
    /// An acceptance names the member by the UUID that md gave it: the kernel may name devices otherwise at the next boot.
    fn start_from(&self, device: &str) -> Option<SetChoice> {
        let is_chosen = |m: &&&Member| m.md.device_uuid.to_string() == device || m.device == device;
        let chosen = self.members.iter().find(is_chosen)?;
        if chosen.md.slot() == Slot::Other || chosen.md.rebuilding || self.is_write_protected(chosen) {
            return None;
        }
        let mut histories = self.histories().into_iter();
        let one = histories.find(|members| members.iter().any(|member| member.device == chosen.device))?;
        let started: Vec<&Member> = one.into_iter().filter(|member| !self.is_write_protected(member)).collect();
        let tells_the_same = |m: &&Member| (m.md.events, &m.md.roles) == (chosen.md.events, &chosen.md.roles);
        let is_spare = |m: &&Member| m.active().is_none() && !self.is_write_protected(m) && tells_the_same(m);
        let spares = self.members.iter().copied().filter(is_spare).collect();
        Some(self.choice(&started, spares, chosen.ext4.clone()?, "given up for the chosen one"))
    }
}

//! From facts to a choice: pure, and refusing whatever is not beyond doubt.

use super::{
    facts::{Member, SetChoice, SetKind, Single, Survey},
    history,
    words::{more_than_one, written_apart},
};
use crate::{Acceptance, Digest, Refusal, RefusalCode, UNBOUND_LABEL, md::MdUuid};
use std::collections::BTreeSet;

impl Survey {
    /// Decides which set is this server's, or why none may be started.
    ///
    /// `accepted` is what an operator accepted beforehand; it counts only for the very situation that it names.
    pub fn choose(&self, accepted: Option<&Acceptance>) -> Result<SetChoice, Refusal> {
        let singles: Vec<&Single> = self.singles.iter().filter(|single| single.ext4.label == UNBOUND_LABEL).collect();
        let sets = self.sets();
        match (sets.len(), singles.as_slice()) {
            (0, []) => Err(self.no_set()),
            (1, []) => sets
                .into_values()
                .next()
                .map_or_else(|| Err(self.no_set()), |members| choose_mirror(&members, accepted)),
            (0, [single]) => Ok(SetChoice {
                kind: SetKind::Single { device: single.device.clone() },
                left_out: vec![],
                degraded: false,
                ext4: single.ext4.clone(),
            }),
            _ => Err(more_than_one(&sets, &singles)),
        }
    }
}

fn choose_mirror(members: &[&Member], accepted: Option<&Acceptance>) -> Result<SetChoice, Refusal> {
    let mut lines: Vec<String> = members.iter().map(|m| m.md.fingerprint().to_string()).collect();
    lines.sort_unstable();
    let fingerprint = Digest::of(lines.concat().as_bytes());
    let refuse = |code, what: &str| {
        let mut refusal = Refusal::new(code, what);
        refusal.found = members.iter().map(|member| member.describe()).collect();
        refusal.fingerprint = Some(fingerprint);
        refusal
    };
    let is_accepted = |code| accepted.filter(|a| a.code == code && a.fingerprint == fingerprint);

    if let Some(member) = members.iter().find(|m| m.md.level != 1 || m.md.exotic) {
        let level = member.md.level;
        return Err(refuse(RefusalCode::UnsupportedSet, "The Unbound set is no plain RAID-1 mirror.")
            .found(format!("level {level}, or a reshape or write journal"))
            .because("only of a plain mirror does every member hold all of the data")
            .remedy(
                "finish or undo the reshape on the server where it was begun, or make a mirror with 'atlas init'",
            ));
    }
    let uuids: BTreeSet<MdUuid> = members.iter().map(|m| m.md.device_uuid).collect();
    if uuids.len() != members.len() {
        return Err(refuse(
            RefusalCode::DuplicateMember,
            "Two disks say that they are the same member of the Unbound set.",
        )
        .because("one is a copy of the other, made at an unknown time; starting from the wrong one loses data")
        .remedy("shut down, remove the copy, and boot again"));
    }

    let Some((fresh, _)) = history::tell_apart(members) else {
        return match is_accepted(RefusalCode::WrittenApart).and_then(|a| a.device.as_deref()) {
            Some(device) => {
                start_from_one(members, device).ok_or_else(|| written_apart(refuse(RefusalCode::WrittenApart, "")))
            }
            None => Err(written_apart(refuse(RefusalCode::WrittenApart, ""))),
        };
    };

    let sources: Vec<&Member> = fresh.iter().copied().filter(|m| !m.md.rebuilding).collect();
    let present: BTreeSet<u16> = fresh.iter().filter_map(|m| m.active()).collect();
    let expected: BTreeSet<u16> = fresh.iter().flat_map(|m| m.md.filled_slots()).collect();
    let missing: Vec<u16> = expected.difference(&present).copied().collect();
    let Some(source) = sources.first() else {
        return Err(refuse(RefusalCode::UnsupportedSet, "No member of the Unbound set holds all of the data.")
            .because("the members that are there are spares, or were still being filled from one that is missing")
            .remedy("attach the member that the set was being rebuilt from, and boot again"));
    };
    if !missing.is_empty() && is_accepted(RefusalCode::MissingMember).is_none() {
        let slots = missing.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        return Err(refuse(
            RefusalCode::MissingMember,
            "A member of the Unbound set is missing that it had when it was last used.",
        )
        .found(format!("nothing fills slot {slots}"))
        .because(
            "the missing member may be booting in another server at this moment, which would then take the same role",
        )
        .remedy("shut down, attach all disks of the set, and boot again")
        .remedy("if a disk has died, make sure that it is in no other server, then accept to run without it"));
    }
    let Some(ext4) = source.ext4.clone() else {
        return Err(refuse(RefusalCode::FilesystemBroken, "The Unbound set holds no ext4 file system.")
            .because("there is nothing to read the role from")
            .remedy("if the set is new, run 'atlas init' on the server that it is for")
            .remedy("if it held data, do not write to it; look at a backup superblock with 'e2fsck -n -b 32768'"));
    };
    let left_out =
        members.iter().filter(|m| !fresh.iter().any(|f| f.device == m.device)).map(|m| m.describe()).collect();
    Ok(SetChoice {
        kind: SetKind::Mirror { uuid: source.md.set_uuid, devices: fresh.iter().map(|m| m.device.clone()).collect() },
        left_out,
        degraded: sources.len() < source.md.raid_disks as usize,
        ext4,
    })
}

/// After an acceptance: the set as the one chosen member has it.
fn start_from_one(members: &[&Member], device: &str) -> Option<SetChoice> {
    let chosen = members.iter().find(|m| m.device == device && m.active().is_some() && !m.md.rebuilding)?;
    Some(SetChoice {
        kind: SetKind::Mirror { uuid: chosen.md.set_uuid, devices: vec![chosen.device.clone()] },
        left_out: members.iter().filter(|m| m.device != device).map(|m| m.describe()).collect(),
        degraded: true,
        ext4: chosen.ext4.clone()?,
    })
}

//! The refusals of the decision, in words.

use super::{
    decision::Attached,
    facts::{Device, Mapper, Member, SetKind, Survey, Trace},
    mirror, single,
};
use crate::{
    Refusal, RefusalCode, UNBOUND_ARRAY, UNBOUND_ARRAY_NAME, UNBOUND_LABEL,
    md::{MdSuperblock, Slot},
    time::utc,
};
use std::{collections::BTreeSet, path::Path};

/// What an Unbound set may be. Everything else is refused by its name, by `atlas init` and at boot.
pub const WHAT_A_SET_MAY_BE: &str = "an Unbound set is an md RAID-1 (metadata 1.x) of whole disks or partitions, or one device of a hardware RAID, \
                                     with an ext4 file system directly on it: 'atlas init' makes one";

impl Survey {
    /// A device as a person finds it: with its serial number and where it is plugged in.
    pub(super) fn name_of(&self, path: &str, serial: Option<&str>) -> String {
        let place = self.device(path).and_then(|device| device.place.as_deref());
        let marks: Vec<String> =
            serial.map(|serial| format!("serial {serial}")).into_iter().chain(place.map(str::to_owned)).collect();
        if marks.is_empty() { path.to_owned() } else { format!("{path} ({})", marks.join(", ")) }
    }

    /// A member of an Unbound set.
    pub(super) fn describe(&self, member: &Member) -> String {
        let slot = match member.md.slot() {
            Slot::Active(number) => format!("slot {number} of {}", member.md.raid_disks),
            Slot::Other => format!("spare of {} slots", member.md.raid_disks),
        };
        let state = if member.md.clean { "at rest" } else { "in use" };
        let whole = if member.md.is_whole() { "with all members" } else { "without all members" };
        let device = self.device(&member.device);
        let protected = if device.is_some_and(|device| device.read_only) { ", write-protected" } else { "" };
        let filled = if member.md.rebuilding { ", not a full copy yet" } else { "" };
        let table =
            device.and_then(|device| self.old_table(device)).map(|table| format!(", {table}")).unwrap_or_default();
        format!(
            "{}: {slot} of set {}, event count {}, last written {} UTC, {state}, {whole}{filled}{protected}{table}",
            self.name_of(&member.device, member.serial.as_deref()),
            member.md.set_uuid,
            member.md.events,
            utc(member.md.utime)
        )
    }

    /// A refusal because nothing can be written.
    pub(super) fn write_protected(&self, found: Vec<String>) -> Refusal {
        let mut refusal = Refusal::new(RefusalCode::UnsupportedSet, "The Unbound set is write-protected.");
        refusal.found = found;
        refusal
            .because("a server has to write to its set: a role on a set that nothing can be written to would lose what clients save")
            .remedy("shut down, take off the write protection (a switch or jumper of the disk, its adapter or its bay), and boot again")
            .remedy("if the disk turned read-only by itself ('dmesg' says so), it is dying: replace it")
    }

    /// What to do about disks that may be a member and do not say so.
    pub(super) fn may_be_missing(&self) -> Vec<String> {
        let is_doubtful = |device: &&Device| {
            self.traces_of(device)
                .any(|trace| matches!(trace, Trace::Headless { .. } | Trace::Damaged(_) | Trace::Unreadable(_)))
        };
        let is_failing = |device: &Device| self.traces_of(device).any(|trace| matches!(trace, Trace::Unreadable(_)));
        let doubtful = self.devices.iter().filter(is_doubtful).map(|device| {
            let name = self.name_of(&device.path.display().to_string(), device.serial.as_deref());
            if is_failing(device) {
                return format!(
                    "{name} may be the missing member, and cannot be read everywhere: it is failing ('dmesg', 'smartctl -a {}'); accept to run \
                     without it, and put another disk in its place then: {}",
                    device.path.display(),
                    super::advice::replace()
                );
            }
            format!(
                "{name} may be the missing member: if so, accept to run without it, and fill it (or its replacement) anew then: \
                 mdadm --zero-superblock {0}; mdadm {UNBOUND_ARRAY} --add {0}",
                device.path.display()
            )
        });
        doubtful.collect()
    }

    /// What is said where disks may be there that this system does not see.
    pub(super) fn may_be_late(&self, mut refusal: Refusal) -> Refusal {
        for controller in &self.controllers {
            refusal.found.push(format!(
                "{} {} at {} has no driver here; disks behind it are not seen",
                controller.kind, controller.id, controller.address
            ));
            let driver = match controller.module {
                Some(module) => format!("add the driver: write {module} to /etc/initramfs-tools/modules"),
                None => format!(
                    "add the controller's driver: 'modprobe -R $(cat /sys/bus/pci/devices/{}/modalias)' names it; write its name to \
                     /etc/initramfs-tools/modules; where it finds none, this kernel has none: install Debian's full kernel, linux-image-amd64",
                    controller.address
                ),
            };
            let line = format!(
                "{driver}, or set MODULES=most in /etc/initramfs-tools/initramfs.conf; then update-initramfs -u -k all, and reboot"
            );
            if !refusal.remedy.contains(&line) {
                refusal.remedy.push(line);
            }
        }
        refusal.remedy(
            "if the disks are only slow to appear, wait longer for them: atlas.wait=SECONDS on the kernel command line",
        )
    }

    /// The refusal where no candidate is attached.
    pub(super) fn nothing_to_start(&self) -> Refusal {
        let unsupported = || self.devices.iter().find_map(|device| self.unsupported(device));
        if let Some(refusal) = self.renamed().or_else(unsupported) {
            return refusal;
        }
        let disks = self.devices.iter().filter(|device| device.disk.is_none() && device.mapping.is_none()).count();
        let what = match disks {
            0 => "no disk at all is attached, as far as this kernel sees".to_owned(),
            1 => "one disk is attached; it is no member of an Unbound set".to_owned(),
            count => format!("{count} disks are attached; none is a member of an Unbound set"),
        };
        let refusal = Refusal::new(RefusalCode::NoUnboundSet, "No disk with Unbound Data is attached.")
            .found(what)
            .because("without its Unbound disks this server does not know who it is, and its last identity may be in use elsewhere")
            .remedy("shut down, push the Unbound disks of this server in until they lock, and boot again")
            .remedy("if the disks are in, look for their controller and errors in 'dmesg'");
        self.may_be_late(refusal).remedy(
            "if this machine is no longer to be an ATLAS server: give it a name, addresses and ssh keys of its own first (it still \
             has those of its last role), and only then remove the package 'atlas'",
        )
    }

    /// The refusal where the members of this server's own set carry neither its name nor its label any more.
    fn renamed(&self) -> Option<Refusal> {
        let members = self.of_the_record();
        let first = members.first()?;
        let marks: Vec<String> = members
            .iter()
            .map(|member| {
                let label = member.ext4.as_ref().map_or("", |ext4| ext4.label.as_str());
                format!(
                    "{}: md calls the set '{}' instead of '{UNBOUND_ARRAY_NAME}', the file system's label is '{label}' instead of \
                     '{UNBOUND_LABEL}'; /opt/atlas/Set knows the file system as this server's",
                    self.name_of(&member.device, member.serial.as_deref()),
                    member.md.name
                )
            })
            .collect();
        let of_one: Vec<&Member> = members.iter().copied().filter(|m| m.md.set_uuid == first.md.set_uuid).collect();
        let choice = match mirror::choose(self, &of_one, None) {
            Err(mut refusal) => {
                refusal.found.extend(marks);
                return Some(refusal);
            }
            Ok(choice) => choice,
        };
        let SetKind::Mirror { devices, .. } = choice.kind else { return None };
        let refusal = Refusal::new(
            RefusalCode::UnsupportedSet,
            "The disks of this server's Unbound set are attached, but no longer carry its name and label.",
        );
        let refusal = marks.into_iter().fold(refusal, Refusal::found);
        let refusal = refusal.because(
            "somebody renamed the set, perhaps to use it for something else; a role is taken only from a set that says that it is one",
        );
        let give_back = format!(
            "if it is to be this server's set again, give it its label back: mdadm --assemble --config=none {UNBOUND_ARRAY} {} && \
             e2label {UNBOUND_ARRAY} {UNBOUND_LABEL} && mdadm --stop {UNBOUND_ARRAY}; reboot",
            devices.join(" ")
        );
        Some(refusal.remedy("find out who changed the name and the label, and why").remedy(give_back))
    }

    /// A disk that is a member, and a partition of it that is one as well: one of the two is what remains of another use.
    pub(super) fn one_within_another<'m>(&self, members: &[&'m Member]) -> Option<(&'m str, &'m str)> {
        members.iter().find_map(|partition| {
            let of = self.device(&partition.device)?.disk.as_ref()?;
            let disk = members.iter().find(|disk| of == Path::new(&disk.device))?;
            Some((disk.device.as_str(), partition.device.as_str()))
        })
    }

    /// An old partition table on a member, which shows parts of the member as something else.
    fn old_table(&self, device: &Device) -> Option<String> {
        let is_member = self.members.iter().any(|member| device.path == Path::new(&member.device));
        let inside = self.devices.iter().filter(|part| is_member && part.disk.as_ref() == Some(&device.path));
        let names: Vec<_> = inside.filter_map(|part| Some(part.path.file_name()?.to_string_lossy())).collect();
        let line = || format!("with an old partition table ({}), which counts for nothing", names.join(", "));
        (!names.is_empty()).then(line)
    }

    /// The refusal of a set that lies on something that ATLAS does not start.
    fn unsupported(&self, device: &Device) -> Option<Refusal> {
        let name = self.name_of(&device.path.display().to_string(), device.serial.as_deref());
        let what = device.traces.iter().find_map(|trace| match trace {
            Trace::Mapped { md, ext4 } => {
                let is_ours = md.as_ref().is_some_and(|md| md.name == UNBOUND_ARRAY_NAME)
                    || ext4.as_ref().is_some_and(|ext4| ext4.label == UNBOUND_LABEL);
                let by = device.mapping.as_ref().map_or(Mapper::Other, |mapping| mapping.by);
                is_ours.then(|| format!("inside {}", of_mapper(by)))
            }
            Trace::Content(content) if content.label.as_deref() == Some(UNBOUND_LABEL) => Some(format!("as {content}")),
            _ => None,
        })?;
        Some(
            unsupported(&format!("The Unbound set lies {what}.")).found(format!("{name}: {}", self.content_of(device))),
        )
    }
}

/// The beginning of a refusal by name.
fn unsupported(what: &str) -> Refusal {
    Refusal::new(RefusalCode::UnsupportedSet, what)
        .because("ATLAS starts only what it can look into, check and repair before anything is written")
        .remedy(WHAT_A_SET_MAY_BE)
        .remedy("to keep the data: mount it here by hand, copy it, and make the set anew with 'atlas init'")
}

pub(super) fn of_mapper(by: Mapper) -> &'static str {
    match by {
        Mapper::Luks => "LUKS (an encrypted container)",
        Mapper::Lvm => "an LVM logical volume",
        Mapper::Multipath => "a multipath device",
        Mapper::Other => "a device of the device mapper",
    }
}

/// What was found on a device, as a part of a sentence.
pub(super) fn of_trace(trace: &Trace) -> String {
    match trace {
        Trace::Content(content) => content.to_string(),
        Trace::Inside(content) => format!("its data are {content}"),
        Trace::OldMd(old) => format!(
            "the superblock of an md array in format 0.90, which ATLAS does not start (level {}, member {} of {}, last written {} UTC)",
            old.level,
            old.number,
            old.raid_disks,
            utc(old.utime)
        ),
        Trace::Headless { at_bytes, ext4 } => {
            format!(
                "the file system '{}' of a member {at_bytes} bytes in, without the member's superblock: that was wiped or overwritten, or \
             cannot be read",
                ext4.label
            )
        }
        Trace::Mapped { md: Some(md), .. } => of_array(md),
        Trace::Mapped { ext4: Some(ext4), .. } => of_ext4(&ext4.label),
        Trace::Mapped { .. } | Trace::Blank => "empty".into(),
        Trace::Damaged(why) => why.clone(),
        Trace::Unreadable(why) => format!("{why}; what lies there is unknown"),
    }
}

pub(super) fn of_array(md: &MdSuperblock) -> String {
    format!("a member of the md array '{}' (level {})", md.name, md.level)
}

pub(super) fn of_ext4(label: &str) -> String {
    if label.is_empty() { "ext4".into() } else { format!("ext4 '{label}'") }
}

impl Attached<'_> {
    /// The refusal where more than one set is attached, or parts of several.
    pub(super) fn more_than_one(&self) -> Refusal {
        let complete = self.sets.values().all(|members| is_complete(members))
            && self.singles.iter().all(|single| !single::is_half(self, single));
        let (code, what) = if complete {
            (RefusalCode::TwoSets, "More than one Unbound set is attached.")
        } else {
            (RefusalCode::MixedSets, "Members of different Unbound sets are attached.")
        };
        let mut refusal = Refusal::new(code, what);
        for member in self.sets.values().flatten() {
            refusal = refusal.found(self.survey.describe(member));
        }
        for single in &self.singles {
            let name = self.survey.name_of(&single.device, single.serial.as_deref());
            let half = if single::is_half(self, single) { "half of a set" } else { "a set of its own" };
            refusal = refusal.found(format!(
                "{name}: {half}, file system {}, last written {} UTC",
                single.ext4.uuid_text(),
                utc(single.ext4.written)
            ));
        }
        refusal =
            refusal.because("each set makes a different server of this machine, and nothing says which one is meant");
        let Some((disk, partition)) = self.survey.one_within_another(&self.members()) else {
            return refusal
                .remedy("shut down, leave in only the disks of the role that this server is to have, and boot again");
        };
        refusal
            .remedy(format!(
                "one of the two is left over from an earlier use: 'mdadm --examine {disk}' and 'mdadm --examine {partition}' \
                 show which set each belongs to and when it was last updated"
            ))
            .remedy(format!(
                "take the superblock of the old one alone away, on each of its disks: 'mdadm --zero-superblock {disk}' or \
                 'mdadm --zero-superblock {partition}'; then reboot"
            ))
    }

    /// The members of all sets.
    pub(super) fn members(&self) -> Vec<&Member> {
        self.sets.values().flatten().copied().collect()
    }

    /// The refusal where one disk is seen as two devices.
    pub(super) fn one_disk_by_two_paths(&self) -> Option<Refusal> {
        let (a, b) = self.two_paths()?;
        let mut refusal = unsupported("One disk of the Unbound set is seen by two paths (multipath).");
        for path in [a, b] {
            let device = self.survey.device(path)?;
            let wwid = device.wwid.as_ref().map(|wwid| format!(", world-wide name {wwid}")).unwrap_or_default();
            refusal = refusal.found(format!("{}{wwid}", self.survey.name_of(path, device.serial.as_deref())));
        }
        refusal.why = "two paths to one disk look like two copies; written by both, it would be destroyed".into();
        refusal.remedy =
            vec!["shut down, and connect each disk by one cable or path only".into(), WHAT_A_SET_MAY_BE.into()];
        Some(refusal)
    }

    /// The refusal where the device mapper holds a candidate.
    pub(super) fn held_by_a_mapping(&self) -> Option<Refusal> {
        self.devices().into_iter().find_map(|path| {
            let device = self.survey.device(path)?;
            let mapping = device.holders.iter().find_map(|holder| {
                let held_by = self.survey.devices.iter().find(|d| d.path.ends_with(holder));
                held_by.and_then(|held_by| held_by.mapping.as_ref())
            })?;
            let name = self.survey.name_of(path, device.serial.as_deref());
            let mut refusal = unsupported(&format!("A disk of the Unbound set is in use by {}.", of_mapper(mapping.by)))
                .found(format!("{name}: in use by /dev/mapper/{}", mapping.name));
            refusal.remedy = vec![
                format!("take it off: 'dmsetup remove {}', or for multipath blacklist the disk in /etc/multipath.conf; then reboot", mapping.name),
                WHAT_A_SET_MAY_BE.into(),
            ];
            Some(refusal)
        })
    }
}

/// Whether every slot that some member believes filled is filled by a member that is there.
fn is_complete(members: &[&Member]) -> bool {
    let present: BTreeSet<u16> = members.iter().filter_map(|m| m.active()).collect();
    members.iter().flat_map(|m| m.md.filled_slots()).all(|slot| present.contains(&slot))
}

//! All that is attached, for the screen: one line for each disk that was not named yet, with what lies on it and why it is no member.

use super::{
    facts::{Device, Survey, Trace},
    words::{of_array, of_ext4, of_mapper, of_trace},
};
use std::path::Path;

/// More disks than a screen has lines for.
const MOST_LINES: usize = 40;
const NOT_LOOKED_INTO: &str = "not looked into";

impl Survey {
    /// The disks that these lines do not name, described.
    pub fn beside(&self, named: &[String]) -> Vec<String> {
        let is_named = |device: &Device| named.iter().any(|line| names(line, &device.path));
        let others = self.devices.iter().filter(|device| device.disk.is_none() && !is_named(device));
        let mut lines: Vec<String> = others.map(|device| self.line(device, &is_named)).collect();
        if lines.len() > MOST_LINES {
            let more = lines.len() - MOST_LINES;
            lines.truncate(MOST_LINES);
            lines.push(format!("and {more} disks more"));
        }
        lines
    }

    /// What is known of the partitions of a disk: `vdc1: ext4 'books'`.
    pub fn on_partitions(&self, disk: &Path) -> Vec<String> {
        let partitions = self.devices.iter().filter(|part| part.disk.as_deref() == Some(disk));
        let known =
            partitions.map(|part| (part, self.content_of(part))).filter(|(_, content)| content != NOT_LOOKED_INTO);
        known.map(|(part, content)| format!("{}: {content}", file_name(&part.path))).collect()
    }

    fn line(&self, device: &Device, is_named: &dyn Fn(&Device) -> bool) -> String {
        let name = self.name_of(&device.path.display().to_string(), device.serial.as_deref());
        let mut parts = vec![format!("{}, {}", size(device.size_bytes), self.content_of(device))];
        let partitions = self.devices.iter().filter(|part| part.disk.as_ref() == Some(&device.path));
        for part in partitions {
            let content = if is_named(part) { "above".to_owned() } else { self.content_of(part) };
            parts.push(format!("{} {content}", file_name(&part.path)));
        }
        let protected = if device.read_only { ", write-protected" } else { "" };
        format!("also attached: {name}: {}{protected}", parts.join("; "))
    }

    /// What lies on a device, in words.
    pub(super) fn content_of(&self, device: &Device) -> String {
        let path = device.path.to_string_lossy();
        let member = self.members.iter().find(|member| member.device == path).map(|member| of_array(&member.md));
        let single = self.singles.iter().find(|single| single.device == path).map(|single| {
            let nothing = match () {
                () if self.is_inside_a_member(&single.device) => {
                    ", seen through an old partition table of a member, left alone"
                }
                () if self.is_without_data(single) => " without SID_DATA: no Unbound Data, left alone",
                () => "",
            };
            format!("{}{nothing}", of_ext4(&single.ext4.label))
        });
        let mapping = device.mapping.as_ref().map(|mapping| format!("{} '{}'", of_mapper(mapping.by), mapping.name));
        let traces = self.traces_of(device).filter(|trace| **trace != Trace::Blank).map(of_trace);
        let all: Vec<String> = mapping.into_iter().chain(member).chain(single).chain(traces).collect();
        match (all.is_empty(), device.traces.contains(&Trace::Blank)) {
            (true, true) => "empty".into(),
            (true, false) if !self.is_thorough => NOT_LOOKED_INTO.into(),
            (true, false) => "nothing that is recognised".into(),
            _ => all.join(", "),
        }
    }
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Whether the line names the device, and not one whose name only begins so.
fn names(line: &str, path: &Path) -> bool {
    let path = path.to_string_lossy();
    line.match_indices(path.as_ref()).any(|(at, _)| {
        let after = line[at + path.len()..].chars().next();
        after.is_none_or(|after| !after.is_alphanumeric())
    })
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        1_000_000_000..10_000_000_000_000 => format!("{} GB", bytes / 1_000_000_000),
        _ => format!("{} TB", bytes / 1_000_000_000_000),
    }
}

//! A unit file with its drop-ins, as far as its values are looked at.

use super::units::SEARCHED;
use crate::here::{names, text};
use std::{collections::BTreeMap, path::Path};

/// By section and key; an empty value takes back those before it, as for systemd.
#[derive(Debug, Default)]
pub(crate) struct UnitFile {
    values: BTreeMap<(String, String), Vec<String>>,
}

impl UnitFile {
    /// The file of a unit, or of its template, and its drop-ins in the order of their names; `None` where there is no file.
    pub(crate) fn read(root: &Path, unit: &str) -> Option<UnitFile> {
        let template =
            unit.split_once('@').and_then(|(name, rest)| Some(format!("{name}@.{}", rest.rsplit_once('.')?.1)));
        let called: Vec<String> = [Some(unit.to_owned()), template].into_iter().flatten().collect();
        let found =
            called.iter().find_map(|name| SEARCHED.iter().find_map(|dir| text(root, &format!("{dir}/{name}"))))?;
        let mut file = UnitFile::default();
        file.take(&found);
        // The directory that comes first has the word where two have the same name.
        let mut drop_ins: BTreeMap<String, String> = BTreeMap::new();
        for dir in SEARCHED.iter().flat_map(|dir| called.iter().map(move |name| format!("{dir}/{name}.d"))) {
            for name in names(root, &dir).into_iter().filter(|name| name.ends_with(".conf")) {
                let path = format!("{dir}/{name}");
                drop_ins.entry(name).or_insert(path);
            }
        }
        drop_ins.values().filter_map(|path| text(root, path)).for_each(|text| file.take(&text));
        Some(file)
    }

    fn take(&mut self, text: &str) {
        let mut section = String::new();
        let joined = text.replace("\\\n", " ");
        for line in joined.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = line.split_once('=') {
                let values = self.values.entry((section.clone(), key.trim().to_owned())).or_default();
                match value.trim() {
                    "" => values.clear(),
                    value => values.push(value.to_owned()),
                }
            }
        }
    }

    /// Every value of a key.
    pub(crate) fn all(&self, section: &str, key: &str) -> &[String] {
        self.values.get(&(section.to_owned(), key.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// The one that counts, where one does.
    pub(crate) fn last(&self, section: &str, key: &str) -> Option<&str> {
        self.all(section, key).last().map(String::as_str)
    }

    /// Whether its account and directories are systemd's own affair.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.last("Service", "DynamicUser").is_some_and(|value| ["yes", "true", "on", "1"].contains(&value))
    }

    /// The words of all values.
    pub(crate) fn words(&self, section: &str, key: &str) -> impl Iterator<Item = String> {
        let all = self.all(section, key).iter().flat_map(|value| value.split_whitespace());
        all.map(|word| word.trim_matches('"').to_owned()).collect::<Vec<_>>().into_iter()
    }
}

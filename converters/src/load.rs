//! Finding the parts of a converter.

use crate::{Converter, Error, part::Part};
use atlas_host::tree::Dir;
use atlas_model::EnvVersion;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where parts lie, below the root directory; what comes later takes the place of what comes before.
pub(crate) const PLACES: [&str; 2] = ["usr/lib/atlas/converters", "opt/atlas/converters"];
/// The most parts of one converter.
const MAX_PARTS: usize = 1000;

/// Reads the parts of the converter between `newer` and the version before it; none where there are none.
pub fn load(root: &Path, newer: EnvVersion) -> Result<Converter, Error> {
    let mut parts: BTreeMap<String, Option<Part>> = BTreeMap::new();
    for place in PLACES {
        let path: PathBuf = root.join(place).join(newer.dir_name());
        let dir = match Dir::open_root(&path) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        for name in dir.names(MAX_PARTS)?.iter().filter_map(|name| name.to_str()) {
            let Some(service) = name.strip_suffix(".toml").filter(|service| !service.starts_with('.')) else {
                continue;
            };
            let content = dir.read(name, Part::MAX_SIZE + 1)?;
            let part = if content.is_empty() {
                None
            } else {
                let part =
                    Part::parse(service, &content).map_err(|source| Error::BadPart { path: dir.show(name), source })?;
                Some(part.lying_in(&path))
            };
            parts.insert(service.to_owned(), part);
        }
    }
    Ok(Converter { newer, parts: parts.into_values().flatten().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_site_takes_the_place_of_the_one_that_came_and_an_empty_one_takes_it_away() {
        let tmp = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = tmp.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        for name in ["a", "b", "c"] {
            write(&format!("usr/lib/atlas/converters/Env2/{name}.toml"), "format = 1\nabout = \"ours\"\n");
        }
        write("opt/atlas/converters/Env2/b.toml", "format = 1\nabout = \"the site's\"\n");
        write("opt/atlas/converters/Env2/c.toml", "");
        write("opt/atlas/converters/Env2/.b.toml.swp", "x");
        let env2 = EnvVersion::try_from(2).unwrap();
        let told =
            |parts: &[Part]| parts.iter().map(|part| format!("{}: {}", part.name, part.about)).collect::<Vec<_>>();
        assert_eq!(told(&load(tmp.path(), env2).unwrap().parts), ["a: ours", "b: the site's"]);
        assert!(load(tmp.path(), EnvVersion::try_from(3).unwrap()).unwrap().parts.is_empty());
        write("opt/atlas/converters/Env2/d.toml", "format = 1");
        assert!(load(tmp.path(), env2).unwrap_err().to_string().ends_with("d.toml is no part of a converter"));
    }
}

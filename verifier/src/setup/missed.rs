//! Document roots that are gone. Many a configuration names one that never was there, and nobody misses that; one that had the test page is missed for as
//! long as the configuration names it.

use crate::service::MISSING;
use atlas_model::verify::{Found, Services};
use std::collections::BTreeMap;

/// The option that names a document root with a test page.
const ROOT: &str = "root";

/// Goes on asking for what was asked for at the last SetUp and is not there any more; the option in which it was found goes.
pub(super) fn keep(last: &Services, found: &mut BTreeMap<String, Found>) {
    for (service, found) in found {
        let before = last.services.get(service).map(|last| last.instances.as_slice()).unwrap_or_default();
        for instance in &mut found.instances {
            let Some(missing) = instance.options.remove(MISSING) else { continue };
            let had_it = |last: &atlas_model::verify::Instance| {
                last.name == instance.name && last.options.get(ROOT) == Some(&missing)
            };
            if before.iter().any(had_it) {
                let problem =
                    format!("the document root {missing} of {}, which had the test page, is gone", instance.name);
                if !found.problems.contains(&problem) {
                    found.problems.push(problem);
                }
                instance.options.insert(ROOT.to_owned(), missing);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::verify::{FoundService, Instance};

    #[test]
    fn what_was_there_is_missed_until_nobody_names_it() {
        let instance = |key: &str| Instance {
            name: "shop.example:80".into(),
            options: [(key.to_owned(), "/srv/shop".to_owned())].into(),
            ..Instance::default()
        };
        let last = |instance: Instance| Services {
            format: 1,
            services: [("web".into(), FoundService { instances: vec![instance], ..FoundService::default() })].into(),
        };
        let kept = |last: &Services| {
            let mut found = [("web".into(), Found { instances: vec![instance(MISSING)], ..Found::default() })].into();
            keep(last, &mut found);
            let web = found.remove("web").unwrap();
            (web.instances[0].options.get(ROOT).cloned(), web.instances[0].options.len(), web.problems)
        };
        let (root, _, problems) = kept(&last(instance(ROOT)));
        assert_eq!(root.as_deref(), Some("/srv/shop"));
        assert_eq!(problems, ["the document root /srv/shop of shop.example:80, which had the test page, is gone"]);
        assert_eq!(kept(&last(instance("answers"))), (None, 0, vec![]), "it never was there");
        assert_eq!(kept(&Services::default()), (None, 0, vec![]));
    }
}

//! Settings that mean nothing: a word of `/etc/atlas/verifier.toml` that nobody reads would be taken for one that counts.
//!
//! ```text
//!  line 12: [service.wbe]: there is no service of this name; did you mean 'web'?
//!  line 14: [service.web]: trust = "maybe" means nothing: it is to be yes or no
//! ```

mod known;

use crate::{
    catalogue::Plugin,
    pattern::fits,
    settings::{ChannelKind, SETTINGS, Settings},
};
use atlas_model::verify::Services;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use toml::de::{DeTable, DeValue};

use known::{Settable, settable};
pub(crate) use known::{is_measure, meaningless};

/// How alike two names are for the one to be meant by the other, 1 being the same.
const ALIKE: f64 = 0.6;

/// What is read of a service together with another option alone.
const NEEDS: [((&str, &str), &str); 1] = [(("web", "expect"), "dynamic")];

/// What settings are held against.
#[derive(Debug)]
pub(crate) struct Known<'k> {
    /// This server's tree.
    pub root: &'k Path,
    /// Where the programs lie that the settings name: `/`.
    pub programs: &'k Path,
    /// The VerifyServices.
    pub plugins: &'k [Plugin],
    /// What SetUp on PRI found.
    pub services: &'k Services,
    /// The instances that are here, by the name of the service.
    pub here: &'k BTreeMap<String, Vec<atlas_model::verify::Instance>>,
}

/// Every word of the settings that has no effect, in the order of the lines.
pub(crate) fn without_effect(settings: &Settings, known: &Known<'_>) -> Vec<String> {
    let Ok(document) = DeTable::parse(&settings.text) else { return vec![] };
    let mut found = Findings { text: &settings.text, all: vec![] };
    let names: Vec<&str> = known.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    if let Some(services) = document.get_ref().get("service").and_then(|services| services.get_ref().as_table()) {
        for (name, service) in services {
            let table = format!("[service.{}]", name.get_ref());
            let at = name.span().start;
            let is_nagios = settings.nagios.iter().any(|nagios| nagios.name == name.get_ref().as_ref());
            if is_nagios {
                found.add(at, &table, "a plugin of Nagios has its interval and deadline in its own [[nagios]]");
            } else if !names.contains(&name.get_ref().as_ref()) {
                found.add(at, &table, &format!("there is no service of this name{}", meant(name.get_ref(), &names)));
            } else if let Some(set) = service.get_ref().as_table().and_then(|table| table.get("set")) {
                keys(
                    &mut found,
                    &table,
                    name.get_ref(),
                    set.get_ref(),
                    Some(&instances(name.get_ref(), settings, known)),
                );
            }
        }
    }
    for outside in tables(document.get_ref(), "outside") {
        let word = |key: &str| outside.get(key).and_then(|value| Some((value.span().start, value.get_ref().as_str()?)));
        let Some((at, service)) = word("service") else { continue };
        let table = format!("[[outside]] {}", word("name").map(|(_, name)| name).unwrap_or_default());
        if !names.contains(&service) {
            found.add(at, &table, &format!("there is no service {service:?}{}", meant(service, &names)));
        } else if let Some(set) = outside.get("set") {
            keys(&mut found, &table, service, set.get_ref(), None);
        }
    }
    for (kind, all) in [("nagios", "[[nagios]]"), ("channel", "[[channel]]")] {
        for table in tables(document.get_ref(), kind) {
            let name = table.get("name").and_then(|name| name.get_ref().as_str()).unwrap_or_default();
            let command = table.get("command").and_then(|command| command.get_ref().as_array()?.first());
            if let Some(program) = command
                && let Some(path) = program.get_ref().as_str()
                && let Some(why) = not_a_program(known.programs, path)
            {
                found.add(program.span().start, &format!("{all} {name}"), &why);
            }
        }
    }
    for channel in &settings.channels {
        if let ChannelKind::Mail { password_file: Some(file), .. } = &channel.kind
            && !known.root.join(file.trim_start_matches('/')).is_file()
        {
            let at = settings.text.find(file.as_str()).unwrap_or_default();
            found.add(at, &format!("[[channel]] {}", channel.name), &format!("{file} is not there"));
        }
    }
    found.in_order()
}

/// What was found, with where.
struct Findings<'t> {
    text: &'t str,
    all: Vec<(usize, String)>,
}

impl Findings<'_> {
    fn add(&mut self, at: usize, table: &str, what: &str) {
        let line = self.text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        self.all.push((line, format!("/{SETTINGS}, line {line}: {table}: {what}")));
    }

    fn in_order(mut self) -> Vec<String> {
        self.all.sort();
        self.all.into_iter().map(|(_, text)| text).collect()
    }
}

/// The tables of an array of them.
fn tables<'d>(document: &'d DeTable<'_>, name: &str) -> impl Iterator<Item = &'d DeTable<'d>> {
    let all = document.get(name).and_then(|value| value.get_ref().as_array());
    all.into_iter().flatten().filter_map(|value| value.get_ref().as_table())
}

/// The names of what is exercised of a service, as far as that is known.
fn instances(service: &str, settings: &Settings, known: &Known<'_>) -> BTreeSet<String> {
    let found = known.services.services.get(service).map(|found| found.instances.as_slice()).unwrap_or_default();
    let here = known.here.get(service).map(Vec::as_slice).unwrap_or_default();
    let outside = settings.outside.iter().filter(|outside| outside.service == service).map(|outside| &outside.name);
    found.iter().chain(here).map(|instance| &instance.name).chain(outside).cloned().collect()
}

/// Looks at the keys of a `set`; `instances` where it is that of a whole service.
fn keys(found: &mut Findings<'_>, table: &str, service: &str, set: &DeValue<'_>, instances: Option<&BTreeSet<String>>) {
    let Some(set) = set.as_table() else { return };
    for (key, value) in set {
        let text: &str = key.get_ref();
        let (word, instance) = match (text.split_once('@'), instances) {
            (Some((word, instance)), Some(_)) => (word, Some(instance)),
            _ => (text, None),
        };
        // What a service of the operator's own understands, it alone knows.
        let all = settable(service).map(Settable::keys);
        if let Some(all) = all.filter(|all| !all.iter().any(|known| fits(known, word))) {
            let names: Vec<&str> = all.iter().map(String::as_str).collect();
            let what = format!("{service} has no limit or option {word:?}{}", meant(word, &names));
            found.add(key.span().start, table, &what);
        } else if let Some(why) = value.get_ref().as_str().and_then(|value| meaningless(service, word, value)) {
            found.add(value.span().start, table, &why);
        }
        if let Some((_, needed)) = NEEDS.iter().find(|(of, _)| *of == (service, word)) {
            let has = |key: &str| set.keys().any(|known| known.get_ref().as_ref() == key);
            if !has(needed) && !instance.is_some_and(|instance| has(&format!("{needed}@{instance}"))) {
                found.add(key.span().start, table, &format!("{word} is looked for on no page without {needed}"));
            }
        }
        if let (Some(instance), Some(known)) = (instance, instances)
            && !known.is_empty()
            && !known.contains(instance)
        {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let what = format!("nothing of {service} is called {instance:?}{}", meant(instance, &names));
            found.add(key.span().start, table, &what);
        }
    }
}

/// The name that was meant, where one is like this, as the end of a sentence.
fn meant(name: &str, names: &[&str]) -> String {
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
    let best = names.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    match best.filter(|known| likeness(known) >= ALIKE) {
        Some(known) => format!("; did you mean '{known}'?"),
        None if names.is_empty() => String::new(),
        None => format!("; there are: {}", names.join(", ")),
    }
}

/// Why this cannot be run.
fn not_a_program(root: &Path, program: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    const USUAL: [&str; 4] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"];
    let is_there = |path: &str| root.join(path.trim_start_matches('/')).metadata();
    let meta = match program.contains('/') {
        true => is_there(program).ok(),
        false => USUAL.iter().find_map(|dir| is_there(&format!("{dir}/{program}")).ok()),
    };
    match meta {
        None => Some(format!("the program {program} is not there")),
        Some(meta) if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 => {
            Some(format!("{program} is no program that can be run"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{known::SETTABLE, *};
    use crate::{catalogue::plugins, services::SERVICES};
    use atlas_model::verify::{At, FoundService, Instance};

    fn told(text: &str) -> Vec<String> {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("usr/bin")).unwrap();
        std::fs::write(tmp.path().join("usr/bin/text"), "").unwrap();
        std::os::unix::fs::symlink("/bin/sh", tmp.path().join("usr/bin/check_load")).unwrap();
        let (plugins, _) = plugins(Path::new("/nonexistent"), Path::new("/opt/atlas/bin/VerifyService"));
        let instance = Instance { name: "shop.example:443".into(), options: BTreeMap::new(), at: At::Partners };
        let found = FoundService { instances: vec![instance], problems: vec![], notes: vec![] };
        let services = Services { format: 1, services: BTreeMap::from([("web".into(), found)]) };
        let root = tmp.path();
        let known = Known { root, programs: root, plugins: &plugins, services: &services, here: &BTreeMap::new() };
        without_effect(&Settings::parse(text.as_bytes()).unwrap(), &known)
    }

    #[test]
    fn every_service_says_what_is_settable() {
        let named: Vec<&str> = SETTABLE.iter().map(|settable| settable.service).collect();
        let mut all: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
        all.sort_unstable();
        assert_eq!(named, all);
    }

    #[test]
    fn a_word_that_means_nothing_is_told_with_its_line_and_the_nearest_that_does() {
        for (text, what) in [
            (
                "[service.wbe]\noff = true\n",
                "line 1: [service.wbe]: there is no service of this name; did you mean 'web'?",
            ),
            (
                "# limits\n[service.web]\nset = { answr-slow = \"200\" }\n",
                "line 3: [service.web]: web has no limit or option \"answr-slow\"; did you mean 'answer-slow'?",
            ),
            (
                "[service.web]\nset = { \"trust@shop.example:443\" = \"maybe\" }\n",
                "line 2: [service.web]: trust = \"maybe\" means nothing: it is to be yes or no",
            ),
            (
                "[service.mail]\nset = { answer-slow = \"soon\" }\n",
                "line 2: [service.mail]: answer-slow = \"soon\" means nothing: it is to be a number, 0 or more",
            ),
            (
                "[service.web]\nset = { answer-slow = \"-5\" }\n",
                "line 2: [service.web]: answer-slow = \"-5\" means nothing: it is to be a number, 0 or more",
            ),
            (
                "[service.web]\nset = { \"dynamic@a:80\" = \"/\", expect = \"orders\" }\n",
                "line 2: [service.web]: expect is looked for on no page without dynamic",
            ),
            (
                "[service.web]\nset = { \"dynamic@shop.exmaple:443\" = \"/\" }\n",
                "line 2: [service.web]: nothing of web is called \"shop.exmaple:443\"; did you mean 'shop.example:443'?",
            ),
            (
                "[[outside]]\nname = \"router\"\nservice = \"conectivity\"\nhost = \"gw\"\n",
                "line 3: [[outside]] router: there is no service \"conectivity\"; did you mean 'connectivity'?",
            ),
            (
                "[[outside]]\nname = \"gw\"\nservice = \"ssh\"\nhost = \"gw\"\nset = { prot = \"22\" }\n",
                "line 5: [[outside]] gw: ssh has no limit or option \"prot\"; did you mean 'port'?",
            ),
            (
                "[[nagios]]\nname = \"users\"\ncommand = [\"/usr/lib/nagios/plugins/check_userz\"]\n",
                "line 3: [[nagios]] users: the program /usr/lib/nagios/plugins/check_userz is not there",
            ),
            (
                "[[nagios]]\nname = \"users\"\ncommand = [\"text\"]\n[service.users]\noff = true\n",
                "line 3: [[nagios]] users: text is no program that can be run",
            ),
            (
                "[[nagios]]\nname = \"a\"\ncommand = [\"check_load\"]\n[service.a]\ninterval = 3\n",
                "line 4: [service.a]: a plugin of Nagios has its interval and deadline in its own [[nagios]]",
            ),
            (
                "[[channel]]\nname='a'\nkind='mail'\nurl='smtps://x'\nfrom='x'\nto=['y']\npassword_file='/etc/none'\n",
                "line 7: [[channel]] a: /etc/none is not there",
            ),
        ] {
            let told = told(text);
            assert_eq!(
                told.first().map(|line| line.trim_start_matches("/etc/atlas/verifier.toml, ")),
                Some(what),
                "{told:?}"
            );
        }
    }

    #[test]
    fn what_means_something_is_not_told() {
        let good = "[service.web]
interval = 15
set = { answer-slow = \"200\", certificate-unacceptable = \"2\", \"dynamic@shop.example:443\" = \"/status\", trust = \"no\", \"expect@shop.example:443\" = \"orders: \" }
[service.mail]
set = { trust = \"no\", imap-tls = \"no\", credentials = \"/etc/atlas/verifier/mail\" }
[service.disk]
set = { space-slow = \"5\", \"space/unbound-slow\" = \"5\", \"sda/worn-slow\" = \"50\" }
[service.system]
set = { \"temperature/k10temp_Tctl-slow\" = \"90\", load-slow = \"9\" }
[service.services]
interval = 60
[[outside]]
name = \"router\"
service = \"connectivity\"
host = \"gw\"
set = { fragments = \"no\", lost-slow = \"5\" }
[[nagios]]
name = \"load\"
command = [\"check_load\", \"-w\", \"5\"]
";
        assert_eq!(told(good), Vec::<String>::new());
    }
}

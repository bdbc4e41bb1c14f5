//! The packages whose servers PRI runs, and a secondary has not: told once for each server, whatever it serves, with the one line that installs all.
//!
//! ```text
//! PRI: SetUp  ─► Services.json, of this service: packages = "web:nginx smtp:postfix"
//! SEC: verify ─► their programs are here, or one fault that names all; `lacks` says of which services nothing else needs to be told
//! ```

use super::{
    daemon::may_start,
    running::{SERVERS, Server},
};
use crate::{
    here,
    service::{Service, Target, Tree},
};
use anyhow::Context;
use atlas_model::{
    Role,
    verify::{At, Fault, Found, Instance, Profile, Services, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const SERVICE: Service = Service {
    name: "packages",
    about: "the packages whose servers PRI runs are installed here",
    interval: 60,
    deadline: 10,
    find: |tree| Ok(find(tree)),
    verify,
};

/// What SetUp found on PRI, on every server.
const SERVICES: &str = "etc/atlas/verifier/Services.json";
/// The option that has them: pairs of a service and a package.
const PACKAGES: &str = "packages";

fn find(tree: &Tree) -> Found {
    let is_there = |path: &str| tree.exists(&format!("/{path}"));
    // A unit that is masked is one that PRI does not run.
    let runs = |server: &&Server| is_there(server.program) && is_there(server.config) && may_start(tree, server.units);
    let here = SERVERS.iter().filter(runs);
    let pairs = here.flat_map(|server| server.services.iter().map(|service| format!("{service}:{}", server.package)));
    let pairs: Vec<String> = pairs.collect();
    let options = BTreeMap::from([(PACKAGES.to_owned(), pairs.join(" "))]);
    let instances = vec![Instance { at: At::Here, options, ..Instance::default() }];
    Found { format: 1, instances, problems: tree.misplaced().to_vec(), ..Found::default() }
}

/// The services that SetUp found on PRI, each with the packages whose servers are installed there.
fn on_pri(found: &Services) -> BTreeMap<&str, BTreeSet<&str>> {
    let own = found.services.get(SERVICE.name).and_then(|own| own.instances.first());
    let pairs = own.and_then(|own| own.options.get(PACKAGES)).map(String::as_str).unwrap_or_default();
    let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (service, package) in pairs.split(' ').filter_map(|pair| pair.split_once(':')) {
        if found.services.get(service).is_some_and(|found| !found.instances.is_empty()) {
            all.entry(service).or_default().insert(package);
        }
    }
    all
}

/// Whether PRI runs the server of this package; where nobody has said so yet, it may.
pub(super) fn may_run_on_pri(found: &Services, package: &str) -> bool {
    let on_pri = on_pri(found);
    !found.services.contains_key(SERVICE.name) || on_pri.values().any(|packages| packages.contains(package))
}

fn verify(target: &Target) -> anyhow::Result<Profile> {
    if target.role.is_none_or(|role| role == Role::Pri) {
        return Ok(Profile::ok("this server is PRI"));
    }
    let Some(text) = here::text(&target.root, SERVICES) else {
        return Ok(Profile::ok("no services have been found yet"));
    };
    let found: Services = serde_json::from_str(&text).context("read which services there are")?;
    Ok(judged(&on_pri(&found), |package| {
        SERVERS.iter().any(|server| server.package == package && here::is_there(&target.root, server.program))
    }))
}

fn judged(on_pri: &BTreeMap<&str, BTreeSet<&str>>, is_here: impl Fn(&str) -> bool) -> Profile {
    let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut lacks = vec![];
    for (service, packages) in on_pri {
        let missing: Vec<&str> = packages.iter().copied().filter(|package| !is_here(package)).collect();
        missing.iter().for_each(|package| lacking.entry(package).or_default().push(service));
        if missing.len() == packages.len() {
            lacks.push((*service).to_owned());
        }
    }
    if lacking.is_empty() {
        return Profile::ok("every server that PRI runs is installed here");
    }
    let told: Vec<String> =
        lacking.iter().map(|(package, services)| format!("{package} ({})", services.join(", "))).collect();
    let names: Vec<&str> = lacking.keys().copied().collect();
    let summary = format!("PRI runs what is not installed here: {}", told.join(", "));
    // Of the services, too, that another program here provides: what does not go by itself is said of whose it is.
    let of: Vec<&str> = lacks.iter().map(String::as_str).chain(names.iter().copied()).collect();
    let fault =
        Fault::new(Verdict::Unacceptable, summary, format!("apt install {}", names.join(" "))).is("package", &of);
    Profile { lacks, ..Profile::of_faults(vec![fault], "") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server as Machine;
    use atlas_model::verify::FoundService;

    fn services(names: &[&str], packages: &str) -> String {
        let found = |options: BTreeMap<String, String>| FoundService {
            instances: vec![Instance { options, ..Instance::default() }; 3],
            problems: vec![],
            notes: vec![],
        };
        let mut all: BTreeMap<String, FoundService> =
            names.iter().map(|name| ((*name).to_owned(), found(BTreeMap::new()))).collect();
        all.insert("packages".into(), found(BTreeMap::from([(PACKAGES.to_owned(), packages.to_owned())])));
        serde_json::to_string(&Services { format: 1, services: all }).unwrap()
    }

    #[test]
    fn a_unit_that_pri_masked_is_of_no_server_that_pri_runs() {
        let pri = Machine::with(&[
            ("etc/unbound/unbound.conf", ""),
            ("etc/bind/named.conf", ""),
            ("lib/systemd/system/named.service", "[Unit]\n"),
            ("lib/systemd/system/unbound.service", "[Unit]\n"),
        ]);
        pri.program("usr/sbin/unbound", "");
        pri.program("usr/sbin/named", "");
        let packages = || find(&pri.tree()).instances.remove(0).options.remove(PACKAGES).unwrap();
        assert_eq!(packages(), "dns:bind9 dns:unbound");
        pri.link("/dev/null", "etc/systemd/system/unbound.service");
        assert_eq!(packages(), "dns:bind9");
        let found: Services = serde_json::from_str(&services(&["dns"], &packages())).unwrap();
        assert!(may_run_on_pri(&found, "bind9") && !may_run_on_pri(&found, "unbound"));
        assert!(may_run_on_pri(&Services::default(), "unbound"), "nobody has said so");
    }

    fn verify_as(server: &Machine, role: Role) -> Profile {
        (SERVICE.verify)(&Target { role: Some(role), ..server.target() }).unwrap()
    }

    #[test]
    fn pri_says_which_servers_it_has() {
        let server = Machine::new();
        assert_eq!(find(&server.tree()).instances[0].options[PACKAGES], "");
        for config in ["etc/nginx/nginx.conf", "etc/apache2/apache2.conf"] {
            server.write(config, "");
        }
        server.program("usr/sbin/nginx", "");
        assert_eq!(
            find(&server.tree()).instances[0].options[PACKAGES],
            "web:nginx",
            "of the other only files are left"
        );
    }

    #[test]
    fn a_server_that_a_secondary_has_not_is_one_fault_with_one_line_that_installs_it() {
        let server = Machine::new();
        server.write(SERVICES, &services(&["web", "smtp"], "web:nginx smtp:postfix mail:postfix dns:bind9"));
        let lacking = verify_as(&server, Role::Sec(1));
        assert_eq!(lacking.verdict, Verdict::Unacceptable);
        assert_eq!(lacking.summary, "PRI runs what is not installed here: nginx (web), postfix (smtp)");
        assert_eq!(lacking.hint.as_deref(), Some("apt install nginx postfix"));
        assert_eq!(lacking.lacks, ["smtp", "web"]);
        assert_eq!(verify_as(&server, Role::Pri).verdict, Verdict::Ok);
        server.program("usr/sbin/nginx", "");
        server.program("usr/sbin/postfix", "");
        assert_eq!(verify_as(&server, Role::Sec(1)), Profile::ok("every server that PRI runs is installed here"));
    }

    #[test]
    fn one_of_two_servers_of_a_service_is_a_fault_and_the_service_is_exercised() {
        let server = Machine::new();
        server.write(SERVICES, &services(&["web"], "web:nginx web:apache2"));
        server.program("usr/sbin/nginx", "");
        let lacking = verify_as(&server, Role::Sec(1));
        assert_eq!(lacking.summary, "PRI runs what is not installed here: apache2 (web)");
        assert!(lacking.lacks.is_empty());
    }
}

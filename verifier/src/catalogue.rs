//! Which VerifyServices there are, and what is to be checked with them.
//!
//! ```text
//!  built in            VerifyService NAME
//!  /etc/atlas/verify.d any executable that keeps the contract: NAME setup, NAME verify
//!  settings            [[nagios]]: plugins as they are; [[outside]]: hosts that are no servers of the cluster
//!
//!  Services.json (from PRI) ─ instances at partners ─┐
//!  setup, here              ─ instances at here      ├─► plan ─► checks
//!  MasterConfig             ─ partners               │
//!  settings                 ─ intervals, limits ─────┘
//! ```

use crate::{
    check::{Check, Speaks, tidy},
    kept::Kept,
    plugin::SEEN,
    service::Tree,
    services,
    settings::{Nagios, Settings},
};
use atlas_cli::in_one_line;
use atlas_host::{process::Command, tree::Dir};
use atlas_model::{
    Partner, Role,
    tree_path::is_hidden,
    verify::{At, Found, Instance, MAX_ITEMS, Services},
};
use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Where an operator puts VerifyServices of their own.
pub const OWN: &str = "etc/atlas/verify.d";
/// How long SetUp of one service may take.
const SETUP_DEADLINE: Duration = Duration::from_secs(30);

/// One VerifyService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// What comes before `setup` or `verify`.
    pub first: Vec<String>,
    /// Within which what is wrong is told, in seconds.
    pub interval: u64,
    /// How long one check may take, in seconds.
    pub deadline: u64,
}

/// All VerifyServices of this server, and those of `/etc/atlas/verify.d` that are not run, with why.
pub fn plugins(root: &Path, built_in: &Path) -> (Vec<Plugin>, Vec<String>) {
    let mut all: Vec<Plugin> = services::SERVICES
        .iter()
        .map(|service| Plugin {
            name: service.name.into(),
            program: built_in.to_owned(),
            first: vec![service.name.into()],
            interval: service.interval,
            deadline: service.deadline,
        })
        .collect();
    let mut refused = Vec::new();
    let dir = Dir::open_root(root).and_then(|tree| tree.dir(OWN));
    for name in dir.and_then(|dir| dir.names(MAX_ITEMS)).unwrap_or_default() {
        let path = root.join(OWN).join(&name);
        let name = name.to_string_lossy().into_owned();
        match why_not(&path, &name) {
            None => all.push(Plugin { name, program: path, first: vec![], interval: 60, deadline: 10 }),
            Some(why) => refused.push(format!("{} is not run: {why}", path.display())),
        }
    }
    (all, refused)
}

/// Why a file is not run as a VerifyService: nothing runs as root that somebody else could have changed.
fn why_not(path: &Path, name: &str) -> Option<&'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let owner_is_good = |path: &Path| {
        path.symlink_metadata().is_ok_and(|meta| {
            let own = nix::unistd::geteuid().as_raw();
            (meta.uid() == 0 || meta.uid() == own) && meta.mode() & 0o022 == 0
        })
    };
    match () {
        () if name.is_empty() || !name.chars().all(good) => {
            Some("its name has other characters than letters, digits, - and _")
        }
        () if services::by_name(name).is_some() => Some("it is named as a service that ATLAS knows itself"),
        () if !path.symlink_metadata().is_ok_and(|meta| meta.is_file()) => Some("it is no file"),
        () if !owner_is_good(path) || !path.parent().is_some_and(owner_is_good) => {
            Some("others than root can change it, or its directory")
        }
        () if !path.metadata().is_ok_and(|meta| meta.mode() & 0o100 != 0) => Some("it is not executable"),
        () => None,
    }
}

impl Plugin {
    /// Runs SetUp: what is there, by the configuration.
    pub fn setup(&self, root: &Path) -> anyhow::Result<Found> {
        let mut command = Command::new(&self.program).args(&self.first).arg("setup").deadline(SETUP_DEADLINE);
        if root != Path::new("/") {
            command = command.arg("--root").arg(root);
        }
        if !self.first.is_empty() {
            command = command.env(SEEN, "yes");
        }
        read_found(&command.run()?.stdout)
    }

    fn check(&self, about: Option<Role>, host: &str, instance: &Instance, settings: &Settings) -> Option<Check> {
        let own = settings.service.get(&self.name).cloned().unwrap_or_default();
        if own.off {
            return None;
        }
        let interval = own.interval.unwrap_or(self.interval);
        // One that is not set keeps its share of the interval.
        let share = || (self.deadline * interval / self.interval).clamp(1, self.deadline);
        let deadline = own.deadline.unwrap_or_else(share);
        let mut options = instance.options.clone();
        options.extend(own.set);
        let verify = Check::verify_args(host, about, &instance.name, &options, deadline);
        Some(Check {
            about,
            service: self.name.clone(),
            instance: instance.name.clone(),
            interval,
            deadline,
            program: self.program.clone(),
            args: self.first.iter().cloned().chain(verify).collect(),
            speaks: Speaks::Json,
        })
    }
}

/// Reads what `setup` answered. An instance whose name or options have characters that nobody sees is left out, and told: they would be
/// arguments of programs, and stand on terminals.
///
/// # Errors
/// The rule that is broken.
pub fn read_found(answer: &[u8]) -> anyhow::Result<Found> {
    let mut found: Found = serde_json::from_slice(answer)?;
    anyhow::ensure!(found.format == 1, "what it found is of format {}; this program reads format 1", found.format);
    let most = found
        .instances
        .len()
        .max(found.paths.len())
        .max(found.place.len())
        .max(found.problems.len())
        .max(found.notes.len());
    anyhow::ensure!(most <= MAX_ITEMS, "it found {most} of something, more than {MAX_ITEMS}");
    let is_good = |instance: &Instance| {
        let options = instance.options.iter().flat_map(|(key, value)| [key, value]);
        options.chain([&instance.name]).all(|text| !text.contains(is_hidden))
    };
    let refused: Vec<Instance> = found.instances.extract_if(.., |instance| !is_good(instance)).collect();
    found.problems.extend(refused.iter().map(|one| format!("it is not exercised, for its characters: {}", one.name)));
    found.problems.iter_mut().chain(&mut found.notes).for_each(|text| *text = tidy(text));
    Ok(found)
}

/// What a plan is made of.
#[derive(Debug)]
pub struct Known<'k> {
    /// This server's Role.
    pub role: Role,
    /// Its partners.
    pub partners: &'k [Partner],
    /// The VerifyServices.
    pub plugins: &'k [Plugin],
    /// What SetUp on PRI found, which every server has.
    pub services: &'k Services,
    /// What is here, by the name of the service.
    pub here: &'k BTreeMap<String, Vec<Instance>>,
    /// What the operator set.
    pub settings: &'k Settings,
}

/// All checks that this server makes.
pub fn plan(known: &Known<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for plugin in known.plugins {
        let found =
            known.services.services.get(&plugin.name).map(|found| found.instances.as_slice()).unwrap_or_default();
        for instance in found.iter().filter(|instance| instance.at == At::Partners) {
            let one = |partner: &Partner| plugin.check(Some(partner.role), &partner.host, instance, known.settings);
            checks.extend(known.partners.iter().filter_map(one));
        }
        let here = known.here.get(&plugin.name).map(Vec::as_slice).unwrap_or_default();
        let one = |instance: &Instance| plugin.check(Some(known.role), "localhost", instance, known.settings);
        checks.extend(here.iter().filter(|instance| instance.at == At::Here).filter_map(one));
        for outside in known.settings.outside.iter().filter(|outside| outside.service == plugin.name) {
            let instance = Instance { name: outside.name.clone(), options: outside.set.clone(), at: At::Partners };
            checks.extend(plugin.check(None, &outside.host, &instance, known.settings));
        }
    }
    for (name, found) in
        known.services.services.iter().filter(|(name, _)| !known.plugins.iter().any(|one| one.name == **name))
    {
        checks.extend(missing(name, &found.instances, known));
    }
    for nagios in &known.settings.nagios {
        let partners = known.partners.iter().map(|partner| nagios_check(nagios, partner.role, &partner.host));
        match nagios.at {
            At::Partners => checks.extend(partners),
            At::Here => checks.push(nagios_check(nagios, known.role, "localhost")),
        }
    }
    checks
}

/// The checks of a VerifyService that PRI has and this server has not: each answers that it cannot be run, so that what it would find is unknown
/// instead of forgotten.
fn missing(name: &str, instances: &[Instance], known: &Known<'_>) -> Vec<Check> {
    let program = Path::new("/").join(OWN).join(name);
    let plugin = Plugin { name: name.into(), program, first: vec![], interval: 60, deadline: 10 };
    let check = |about, host: &str, instance: &Instance| plugin.check(Some(about), host, instance, known.settings);
    let of = |instance: &Instance| -> Vec<Check> {
        match instance.at {
            At::Here => check(known.role, "localhost", instance).into_iter().collect(),
            At::Partners => known.partners.iter().filter_map(|one| check(one.role, &one.host, instance)).collect(),
        }
    };
    instances.iter().flat_map(of).collect()
}

fn nagios_check(nagios: &Nagios, about: Role, host: &str) -> Check {
    let mut command = nagios.command.iter().map(|word| word.replace("$HOST$", host));
    Check {
        about: Some(about),
        service: nagios.name.clone(),
        instance: String::new(),
        interval: nagios.interval,
        deadline: nagios.deadline,
        program: command.next().unwrap_or_default().into(),
        args: command.collect(),
        speaks: Speaks::Nagios,
    }
}

/// So many are asked at once: most of the time each waits for a daemon's program to start.
const AT_ONCE: usize = 4;

/// What is on this server itself, by every VerifyService's SetUp; and where that failed, why. Who would answer as the last time is not asked.
pub fn find_here(root: &Path, plugins: &[Plugin]) -> (BTreeMap<String, Found>, BTreeMap<String, String>) {
    let built_in = plugins.iter().find(|plugin| !plugin.first.is_empty());
    let kept = built_in.map(|plugin| Kept::read(root, &plugin.program)).unwrap_or_default();
    let tree = Tree::open(root).ok();
    let next = AtomicUsize::new(0);
    let (found, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(BTreeMap::new()));
    let ask = || {
        while let Some(plugin) = plugins.get(next.fetch_add(1, Ordering::Relaxed)) {
            let known =
                tree.as_ref().filter(|_| !plugin.first.is_empty()).and_then(|tree| kept.find(&plugin.name, tree));
            match known.map_or_else(|| plugin.setup(root), Ok) {
                Ok(answer) => drop(lock(&found).insert(plugin.name.clone(), answer)),
                Err(error) => drop(lock(&failed).insert(plugin.name.clone(), in_one_line(&error))),
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(ask))));
    let found = std::mem::take(&mut *lock(&found));
    kept.write(root, &found);
    (found, std::mem::take(&mut *lock(&failed)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::verify::FoundService;
    use std::os::unix::fs::PermissionsExt;

    fn instance(name: &str, at: At) -> Instance {
        Instance { name: name.into(), options: BTreeMap::from([("port".into(), "80".into())]), at }
    }

    #[test]
    fn each_partner_is_verified_and_each_server_itself() {
        let settings: Settings = toml::from_str(
            "[service.ssh]\ninterval=7\nset={answer-slow=\"9\"}\n[[nagios]]\nname=\"users\"\ncommand=[\"check\",\"$HOST$\"]\nat=\"partners\"\n\
             [[outside]]\nname=\"router\"\nservice=\"ssh\"\nhost=\"gw\"\n",
        )
        .unwrap();
        let (plugins, _) = plugins(Path::new("/nonexistent"), Path::new("/opt/atlas/bin/VerifyService"));
        let found = FoundService {
            instances: vec![instance("22", At::Partners), instance("pri's own", At::Here)],
            problems: vec![],
            notes: vec![],
        };
        let services = Services { format: 1, services: BTreeMap::from([("ssh".into(), found)]) };
        let here = BTreeMap::from([("ssh".to_owned(), vec![instance("md0", At::Here), instance("22", At::Partners)])]);
        let partners = [1, 2].map(|n| Partner { role: Role::Sec(n), host: format!("sec{n}") });
        let known = Known {
            role: Role::Pri,
            partners: &partners,
            plugins: &plugins,
            services: &services,
            here: &here,
            settings: &settings,
        };
        let checks = plan(&known);
        let told: Vec<String> =
            checks.iter().map(|check| atlas_model::verify::key(check.about, &check.service, &check.instance)).collect();
        assert_eq!(
            told,
            ["SEC1/ssh/22", "SEC2/ssh/22", "PRI/ssh/md0", "outside/ssh/router", "SEC1/users", "SEC2/users"]
        );
        assert_eq!((checks[0].interval, checks[0].deadline), (7, 2), "10 of 30 is 2 of 7");
        assert!(
            checks[0].args.contains(&"--set=answer-slow=9".to_owned()) && checks[0].args.contains(&"sec1".to_owned())
        );
        assert_eq!(checks[5].args, ["sec2"]);
        let off: Settings = toml::from_str("[service.ssh]\noff=true\n").unwrap();
        assert!(plan(&Known { settings: &off, ..known }).is_empty());
    }

    #[test]
    fn a_service_that_pri_has_and_this_server_has_not_is_unknown_and_not_forgotten() {
        let found = FoundService {
            instances: vec![instance("a", At::Here), instance("b", At::Partners)],
            problems: vec![],
            notes: vec![],
        };
        let services = Services { format: 1, services: BTreeMap::from([("our-orders".into(), found)]) };
        let partners = [Partner { role: Role::Pri, host: "pri".into() }];
        let (plugins, _) = plugins(Path::new("/nonexistent"), Path::new("/opt/atlas/bin/VerifyService"));
        let (here, settings) = (BTreeMap::new(), Settings::default());
        let known = Known {
            role: Role::Sec(1),
            partners: &partners,
            plugins: &plugins,
            services: &services,
            here: &here,
            settings: &settings,
        };
        let checks = plan(&known);
        let told: Vec<_> = checks.iter().map(|check| (check.about, check.instance.as_str())).collect();
        assert_eq!(told, [(Some(Role::Sec(1)), "a"), (Some(Role::Pri), "b")]);
        let profile = checks[0].run();
        assert_eq!(profile.verdict, atlas_model::verify::Verdict::Unknown);
        assert!(
            profile.hint.is_some_and(|hint| hint.contains("/etc/atlas/verify.d/our-orders")),
            "{}",
            profile.summary
        );
        let off: Settings = toml::from_str("[service.our-orders]\noff=true\n").unwrap();
        assert!(plan(&Known { settings: &off, ..known }).is_empty());
    }

    #[test]
    fn an_instance_whose_name_clears_a_terminal_is_left_out_and_told() {
        let found = read_found(
            br#"{"format":1,"instances":[{"name":"a"},{"name":"b\u001b[2J"},{"name":"c","options":{"x":"\u0000"}}]}"#,
        );
        let found = found.unwrap();
        assert_eq!((found.instances.len(), found.problems.len()), (1, 2), "{found:?}");
        assert_eq!(found.problems[0], "it is not exercised, for its characters: b [2J");
        assert!(read_found(br#"{"format":2,"instances":[]}"#).is_err());
    }

    #[test]
    fn who_would_answer_as_the_last_time_is_not_asked() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path();
        let asked = || std::fs::read_to_string(root.join("asked")).unwrap_or_default().len();
        let script = format!(
            "echo >> {}; [ -n \"$ATLAS_SETUP_SEEN\" ] && echo '{{\"format\":1,\"instances\":[{{\"name\":\"a\"}}],\"seen\":{{\"there /etc/a\":\"gone\"}}}}'",
            root.join("asked").display()
        );
        let built_in = Plugin {
            name: "web".into(),
            program: "/bin/sh".into(),
            first: vec!["-c".into(), script],
            interval: 60,
            deadline: 10,
        };
        let find = |plugin: &Plugin| find_here(root, std::slice::from_ref(plugin));
        let first = find(&built_in);
        assert_eq!((first.0["web"].instances[0].name.as_str(), first.1.len(), asked()), ("a", 0, 1));
        assert_eq!((find(&built_in), asked()), (first.clone(), 1), "nothing has changed");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/a"), "").unwrap();
        assert_eq!((find(&built_in), asked()), (first.clone(), 2));
        std::fs::remove_file(root.join("etc/a")).unwrap();
        assert_eq!((find(&built_in), asked()), (first.clone(), 2), "it is as it was when the last answer was given");
        let kept = std::fs::read_to_string(root.join("run/atlas/setup.json")).unwrap();
        for other in
            [kept.replace("\"whose\":\"", "\"whose\":\"x"), kept.replace("\"given\":", "\"given\":1"), "{".into()]
        {
            let before = asked();
            std::fs::write(root.join("run/atlas/setup.json"), &other).unwrap();
            assert_eq!((find(&built_in).0, asked()), (first.0.clone(), before + 1), "{other}");
        }
    }

    #[test]
    fn what_others_could_have_changed_is_not_run() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join(OWN);
        std::fs::create_dir_all(&dir).unwrap();
        let put = |name: &str, mode: u32| {
            std::fs::write(dir.join(name), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put("good", 0o755);
        put("open", 0o777);
        put("text", 0o644);
        put("odd.name", 0o755);
        put("ssh", 0o755);
        let (all, refused) = plugins(tmp.path(), Path::new("/x"));
        assert_eq!(
            all.iter().filter(|plugin| plugin.first.is_empty()).map(|plugin| plugin.name.as_str()).collect::<Vec<_>>(),
            ["good"]
        );
        assert_eq!(refused.len(), 4, "{refused:?}");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(plugins(tmp.path(), Path::new("/x")).1.len(), 5);
    }
}

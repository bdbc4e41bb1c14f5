//! A PRI and a secondary as trees in a temporary folder, with a service that can be told things.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ssSync");

const WEB: &str = "[[service]]\nname = \"web\"\npaths = [\"/etc/web\"]\ncheck = [\"webcheck\"]\nunits = [\"web.service\"]\napply = \"reload\"\n";

/// It also leaves a trace, to see whether anybody but itself finds it.
const WEBCHECK: &str = "#!/bin/sh\necho trace > /etc/web/trace\nread first rest < /etc/web/web.conf\n\
    case $first in bad|worse) echo \"web.conf: $first is no directive\" >&2; exit 1;; esac\n";

/// What a unit is lies in /units; it falls over where its file begins with `crash`.
const SYSTEMCTL: &str = "#!/bin/sh\ncase $1 in\nis-active) read state < \"/units/$2\" && [ \"$state\" = up ] ;;\n\
    cat) [ -e \"/units/$2\" ] ;;\nreload|restart) echo \"$1 $2\" >> /told; read first rest < /etc/web/web.conf\n\
    if [ \"$first\" = crash ]; then echo down > \"/units/$2\"; else echo up > \"/units/$2\"; fi ;;\nesac\n";

pub struct World {
    pub tmp: tempfile::TempDir,
}

impl World {
    /// PRI has `/etc/web` with two files and a list with `listed`; the secondary has nothing of it yet.
    pub fn new(listed: &str) -> World {
        World::within(&std::env::temp_dir(), listed)
    }

    /// The same below a directory.
    pub fn within(dir: &Path, listed: &str) -> World {
        let world = World { tmp: tempfile::tempdir_in(dir).unwrap() };
        for (server, role) in [("pri", "PRI"), ("sec", "SEC1")] {
            let config = format!(
                "format = 1\ncluster = \"bakery\"\nrole = \"{role}\"\n[[partner]]\nrole = \"{}\"\nhost = \"10.0.0.2\"\n",
                if role == "PRI" { "SEC1" } else { "PRI" }
            );
            for (path, content) in [
                ("etc/hostname", role),
                ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
                ("etc/group", "root:x:0:\n"),
                ("opt/atlas/EnvID", "1\n"),
                ("opt/atlas/Cluster", "bakery\n"),
                ("unbound/SID_DATA/MasterConfig", &config),
                (&format!("unbound/SID_DATA/{role}/Env1/IdentFilePaths"), "/etc/hostname\n"),
            ] {
                world.write(&format!("{server}/{path}"), content);
            }
        }
        world.list(listed);
        world.write("pri/etc/web/web.conf", "good 1\n");
        world.write("pri/etc/web/sites/shop", "shop\n");
        world
    }

    /// The same with a service on the secondary that reads `/etc/web` and runs.
    pub fn with_service(listed: &str) -> World {
        let world = World::new(listed);
        world.write("sec/etc/atlas/services.d/web.toml", WEB);
        for (path, script) in [("sec/usr/sbin/webcheck", WEBCHECK), ("sec/usr/bin/systemctl", SYSTEMCTL)] {
            world.write(path, script);
            fs::set_permissions(world.path(path), PermissionsExt::from_mode(0o755)).unwrap();
        }
        world.write("sec/units/web.service", "up\n");
        let libraries = Command::new("ldd").arg("/bin/sh").output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths.chain(["/bin/sh"]) {
            let to = world.path("sec").join(&path[1..]);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
        world
    }

    pub fn list(&self, listed: &str) {
        self.write("pri/unbound/SID_DATA/PRI/Env1/SyncFilePathsSpecial", listed);
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.tmp.path().join(path)
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn there(&self, path: &str) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// What was told to units since the last time.
    pub fn told(&self) -> String {
        let told = fs::read_to_string(self.path("sec/told")).unwrap_or_default();
        let _ = fs::remove_file(self.path("sec/told"));
        told
    }

    /// PRI makes its Snapshot, and the secondary receives it.
    pub fn send(&self) {
        let output = ss_sync(&self.path("pri"), &["create"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let to = self.path("sec/unbound/SID_DATA/PRI");
        let _ = fs::remove_dir_all(&to);
        copy_tree(&self.path("pri/unbound/SID_DATA/PRI"), &to);
    }

    /// Runs `ssSync install` on the secondary.
    pub fn install(&self, args: &[&str]) -> Output {
        ss_sync(&self.path("sec"), &[&["install"], args].concat())
    }

    /// The report of an installation that must not fail.
    #[track_caller]
    pub fn report(&self, args: &[&str]) -> Value {
        let output = self.install(&[&["--json"], args].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 3)), "{told}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["problems"].as_array().unwrap().is_empty(), output.status.code() == Some(0), "{report}");
        report
    }

    /// Sends and installs.
    #[track_caller]
    pub fn cycle(&self) -> Value {
        self.send();
        self.report(&[])
    }

    /// What an installation that must fail says.
    #[track_caller]
    pub fn refusal(&self) -> String {
        let output = self.install(&[]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("\n  try: "), "{told}");
        told
    }
}

pub fn ss_sync(root: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("--root").arg(root).args(args).output().unwrap()
}

/// The outcome of a service in a report.
pub fn outcome(report: &Value, name: &str) -> String {
    let services = report["services"].as_array().unwrap();
    let service = services.iter().find(|service| service["name"] == name).unwrap_or_else(|| panic!("{report}"));
    match &service["outcome"] {
        Value::String(text) => text.clone(),
        other => other.as_object().unwrap().keys().next().unwrap().clone(),
    }
}

/// The lines of a list in a report.
pub fn lines(report: &Value, list: &str) -> Vec<String> {
    report[list].as_array().unwrap().iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
}

pub fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp {} {}", from.display(), to.display());
}

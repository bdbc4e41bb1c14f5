//! Hooks: arbitrary programs at named points of the Synchronizer's work, for each Role [312, 313].
//!
//! ```text
//! /etc/atlas/hooks.d/before-create/         run by every Role
//! /etc/atlas/hooks.d/before-create.PRI/     run by PRI alone; .SEC by every secondary, .SEC2 by that one
//!   10-verifier                             executables, in the order of their names, as run-parts does
//! ```
//!
//! Files of one name stand in for each other: the most particular directory wins, and an empty or non-executable one there switches a hook off.
//! A name is made of letters, digits, `-` and `_`; others (`x.dpkg-old`, `.swp`) are passed over.
//!
//! Invariant: nothing runs that another user than root could have changed: directory and file belong to root (or to whoever runs this) and
//! are writable by nobody else, and neither is a link that leads elsewhere.

use crate::server::Server;
use atlas_cli::{Common, Exit, Table, print, print_json};
use atlas_host::{
    FileError,
    process::{Command, ProcessError},
    tree::{Dir, ObjectType},
};
use atlas_model::{EnvVersion, Role};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Where the directories of hooks lie.
const HOOKS: &str = "etc/atlas/hooks.d";
/// How long one hook may take.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// How much of what a hook says is kept for the report, in bytes.
const KEPT: usize = 4096;
/// How many hooks one directory may have.
const MOST: usize = 1000;

/// Where in the Synchronizer's work hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// After the identity was installed at boot; run by a unit, once the system is up.
    AfterIdentity,
    /// Before a Snapshot is made.
    BeforeCreate,
    /// After one was made, also where nothing had changed.
    AfterCreate,
    /// Before PRI's Snapshot is installed.
    BeforeInstall,
    /// After it was.
    AfterInstall,
    /// At the end of a cycle.
    AfterCycle,
}

impl Point {
    /// Whether a failure ends the step, which has not begun yet.
    pub fn is_before(self) -> bool {
        matches!(self, Point::BeforeCreate | Point::BeforeInstall)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Point::AfterIdentity => "after-identity",
            Point::BeforeCreate => "before-create",
            Point::AfterCreate => "after-create",
            Point::BeforeInstall => "before-install",
            Point::AfterInstall => "after-install",
            Point::AfterCycle => "after-cycle",
        })
    }
}

/// What became of one hook.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HookReport {
    /// Where it ran.
    pub point: Point,
    /// The program.
    pub hook: PathBuf,
    /// How long it took.
    pub milliseconds: u64,
    /// The end of what it said on standard output and standard error.
    pub output: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Why the hooks of a point did not all run well.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// Hooks that others than root could have changed are not run.
    #[error("the hook {} is not run: {why}", path.display())]
    Unsafe {
        /// The hook, or its directory.
        path: PathBuf,
        /// What others could do.
        why: &'static str,
    },
    /// A directory or file cannot be looked at.
    #[error("the hooks of {point} cannot be found")]
    File {
        /// The point.
        point: Point,
        /// The reason.
        #[source]
        source: FileError,
    },
    /// A hook failed before the step.
    #[error("the hook {} failed", path.display())]
    Failed {
        /// The hook.
        path: PathBuf,
        /// How.
        #[source]
        source: ProcessError,
    },
}

/// Runs the hooks of a point, each with its deadline, below the server's root directory.
///
/// Before a step the first failure is the answer, and the step must not be begun. After a step every hook runs, and failures stand in the
/// reports.
pub fn run(root: &Path, point: Point, role: Role, env_version: EnvVersion) -> Result<Vec<HookReport>, HookError> {
    run_within(root, point, role, env_version, DEADLINE)
}

/// Runs them for a person, and says what became of each.
pub(crate) fn run_and_tell(common: &Common, point: Point) -> anyhow::Result<Exit> {
    let server = Server::open(&common.root)?;
    let hooks = run(&server.path, point, server.role(), server.env_version())?;
    let is_good = hooks.iter().all(|hook| hook.error.is_none());
    if common.json {
        print_json(&serde_json::json!({ "format": 1, "hooks": hooks }))?;
    } else {
        let mut table = Table::new(["HOOK", "TIME", "RESULT"]);
        for hook in &hooks {
            let time = format!("{:.1} s", f64::from(u32::try_from(hook.milliseconds).unwrap_or(u32::MAX)) / 1000.0);
            table.row([hook.hook.display().to_string(), time, hook.error.clone().unwrap_or_else(|| "done".into())]);
        }
        print(if hooks.is_empty() { format!("there are no hooks for {point}\n") } else { table.to_string() })?;
    }
    Ok(if is_good { Exit::Done } else { Exit::No })
}

fn run_within(
    root: &Path,
    point: Point,
    role: Role,
    env_version: EnvVersion,
    deadline: Duration,
) -> Result<Vec<HookReport>, HookError> {
    let mut reports = Vec::new();
    for (directory, name) in find(root, point, role)? {
        let inside = Path::new("/").join(HOOKS).join(directory).join(name);
        let began = Instant::now();
        let result = Command::new(&inside)
            .own_env()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("ATLAS_POINT", point.to_string())
            .env("ATLAS_ROLE", role.to_string())
            .env("ATLAS_ENV_VERSION", env_version.number().to_string())
            .in_root(root)
            .deadline(deadline)
            .output();
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = |output, error| HookReport { point, hook: inside.clone(), milliseconds, output, error };
        let failure = match result {
            Ok(output) if output.status.success() => {
                reports.push(report(end_of(&output), None));
                continue;
            }
            Ok(output) => {
                let (program, status) = (inside.display().to_string(), output.status.to_string());
                let failure = ProcessError::Failed { program, status, complaint: output.complaint() };
                reports.push(report(end_of(&output), Some(failure.to_string())));
                failure
            }
            Err(failure) => {
                reports.push(report(String::new(), Some(failure.to_string())));
                failure
            }
        };
        if point.is_before() {
            return Err(HookError::Failed { path: inside, source: failure });
        }
    }
    Ok(reports)
}

/// The hooks of a point, in the order of their names: each with its directory.
fn find(root: &Path, point: Point, role: Role) -> Result<Vec<(String, OsString)>, HookError> {
    let failed = |source| HookError::File { point, source };
    let all = match Dir::open_root(root).map_err(failed)?.dir(HOOKS) {
        Ok(dir) => dir,
        Err(error) if error.is_not_found() => return Ok(vec![]),
        Err(error) => return Err(failed(error)),
    };
    let mut directories = vec![point.to_string()];
    if let Role::Sec(_) = role {
        directories.push(format!("{point}.SEC"));
    }
    directories.push(format!("{point}.{role}"));
    let mut hooks = BTreeMap::new();
    for directory in directories {
        let dir = match all.dir(&directory) {
            Ok(dir) => dir,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(failed(error)),
        };
        check(&all, OsStr::new(&directory), false).map_err(|error| error.unwrap_or_else(failed))?;
        check(&dir, OsStr::new("."), false).map_err(|error| error.unwrap_or_else(failed))?;
        for name in dir.names(MOST).map_err(failed)? {
            let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if name.as_encoded_bytes().iter().all(is_name) {
                let runs = check(&dir, &name, true).map_err(|error| error.unwrap_or_else(failed))?;
                hooks.insert(name, runs.then(|| directory.clone()));
            }
        }
    }
    Ok(hooks.into_iter().filter_map(|(name, directory)| Some((directory?, name))).collect())
}

/// An error that is ours, or one of the file system that the caller names.
enum Checked {
    Ours(HookError),
    File(FileError),
}

impl Checked {
    fn unwrap_or_else(self, of_file: impl FnOnce(FileError) -> HookError) -> HookError {
        match self {
            Checked::Ours(error) => error,
            Checked::File(error) => of_file(error),
        }
    }
}

/// Refuses what somebody else could have changed; says whether it is a file that can be run.
fn check(dir: &Dir, name: &OsStr, is_file: bool) -> Result<bool, Checked> {
    let gone = || FileError::on("look at", dir.show(name))(io::Error::from(io::ErrorKind::NotFound));
    let stat = dir.stat(name).and_then(|stat| stat.ok_or_else(gone)).map_err(Checked::File)?;
    let refused = |why| Err(Checked::Ours(HookError::Unsafe { path: dir.show(name), why }));
    match (ObjectType::of(&stat), is_file) {
        (ObjectType::File, true) | (ObjectType::Dir, false) => {}
        (ObjectType::Link, _) => return refused("it is a link; put the program itself there"),
        _ => return refused("it is neither a program nor a directory of programs"),
    }
    if stat.st_uid != 0 && stat.st_uid != nix::unistd::geteuid().as_raw() {
        return refused("it does not belong to root");
    }
    if stat.st_mode & 0o022 != 0 {
        return refused("others than its owner may write to it");
    }
    Ok(is_file && stat.st_mode & 0o111 != 0 && stat.st_size > 0)
}

/// The end of what a program said, fit to be shown.
fn end_of(output: &atlas_host::process::Output) -> String {
    let text = [output.text(), String::from_utf8_lossy(&output.stderr).into_owned()].concat();
    let shown = atlas_cli::tame(&text);
    let start = shown.len().saturating_sub(KEPT);
    let start = (start..=shown.len()).find(|at| shown.is_char_boundary(*at)).unwrap_or(0);
    shown[start..].trim().to_owned()
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;

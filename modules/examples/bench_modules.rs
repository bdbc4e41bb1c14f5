//! `set` and `list` among a thousand versions, against `update-alternatives --set` and stow's restow (unstow and stow), on the same files.
//!
//! ```text
//!   bench_modules [--json] [--versions N] [--rounds N] [--dir DIR]        the atlas-module beside it is what is measured
//! ```
//!
//! All three switch the same module of four files between its two newest versions, in turn, in one run. atlas-module has made durable
//! what it did when it ends; update-alternatives flushes its record and not its links, stow flushes nothing. So on the disk each peer is
//! timed as it is, which is shown, and together with the `fsync` of the directory of its links, which is the least that makes it as durable;
//! that one counts. Apart from that, all are timed in a file system in memory, where flushing costs nothing.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const FILES: [&str; 4] = ["ssSync", "ssSync.cfg", "ssSync.rules", "ssSyncCtrl"];

fn main() -> anyhow::Result<()> {
    let options = Options::parse()?;
    let mut rows = Vec::new();
    let on_disk = Bench::prepare(&options.dir, options.versions)?;
    let with_flush = on_disk.measure(options.rounds)?;
    rows.extend(with_flush.rows("set, durable", true));
    let list = on_disk.measure_list(options.rounds)?;
    rows.push(Row::against_goal("list --json", list, 50.0));
    drop(on_disk);
    let in_memory = Bench::prepare(Path::new("/dev/shm"), options.versions)?;
    rows.extend(in_memory.measure(options.rounds)?.rows("set, no disk", false));
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        print_table(&rows, options.versions);
    }
    if rows.iter().all(|row| row.met) { Ok(()) } else { std::process::exit(1) }
}

struct Options {
    json: bool,
    versions: usize,
    rounds: usize,
    dir: PathBuf,
}

impl Options {
    fn parse() -> anyhow::Result<Options> {
        let mut options = Options { json: false, versions: 1000, rounds: 31, dir: "/var/tmp".into() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| anyhow::anyhow!("{arg} wants a value"));
            match arg.as_str() {
                "--json" => options.json = true,
                "--versions" => options.versions = value()?.parse()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--dir" => options.dir = value()?.into(),
                // What cargo gives to every benchmark.
                "--bench" => {}
                other => anyhow::bail!("unknown argument {other}; known: --json --versions N --rounds N --dir DIR"),
            }
        }
        Ok(options)
    }
}

/// One line of the result, in the form that all benches share.
#[derive(serde::Serialize)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    peer: String,
    peer_value: f64,
    ratio: f64,
    goal: f64,
    met: bool,
}

impl Row {
    fn against_peer(name: String, value: f64, peer: &str, peer_value: f64, counts: bool) -> Row {
        let ratio = value / peer_value;
        let goal = 1.0;
        Row { name, value, unit: "ms", peer: peer.into(), peer_value, ratio, goal, met: !counts || ratio <= goal }
    }

    fn against_goal(name: &str, value: f64, goal: f64) -> Row {
        let (peer, ratio) = ("goal".into(), value / goal);
        Row { name: name.into(), value, unit: "ms", peer, peer_value: goal, ratio, goal: 1.0, met: value < goal }
    }
}

/// The same versions three times: as modules, as alternatives, as stow packages.
struct Bench {
    tmp: tempfile::TempDir,
    program: PathBuf,
    versions: usize,
}

/// Times in milliseconds, one for each round.
#[derive(Default)]
struct Times {
    atlas: Vec<f64>,
    alternatives: Vec<f64>,
    alternatives_synced: Vec<f64>,
    stow: Vec<f64>,
    stow_synced: Vec<f64>,
}

impl Times {
    fn rows(mut self, name: &str, durable: bool) -> Vec<Row> {
        let atlas = median(&mut self.atlas);
        let row = |peer: &str, times: &mut Vec<f64>, counts: bool| {
            Row::against_peer(format!("{name} / {peer}"), atlas, peer, median(times), counts)
        };
        let mut rows = Vec::new();
        if durable {
            rows.push(row("update-alternatives --set and fsync", &mut self.alternatives_synced, true));
            rows.push(row("stow -D OLD -S NEW and fsync", &mut self.stow_synced, true));
        }
        let note = if durable { " (links not flushed)" } else { "" };
        rows.push(row(&format!("update-alternatives --set{note}"), &mut self.alternatives, !durable));
        rows.push(row(&format!("stow -D OLD -S NEW{note}"), &mut self.stow, !durable));
        rows
    }
}

impl Bench {
    fn prepare(dir: &Path, versions: usize) -> anyhow::Result<Bench> {
        let program = std::env::current_exe()?.ancestors().nth(2).map(|dir| dir.join("atlas-module"));
        let program = program
            .filter(|path| path.exists())
            .ok_or_else(|| anyhow::anyhow!("build atlas-module first, in the same profile"))?;
        let bench = Bench { tmp: tempfile::tempdir_in(dir)?, program, versions };
        bench.prepare_modules()?;
        bench.prepare_alternatives()?;
        bench.prepare_stow()?;
        run(Command::new("sync"))?;
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    fn version_file(&self, folder: &str, version: usize, file: &str) -> PathBuf {
        self.path(folder).join(format!("v{version}")).join(file)
    }

    fn prepare_modules(&self) -> anyhow::Result<()> {
        // Installed in memory, then copied: a thousand installations flush several thousand times.
        let memory = tempfile::tempdir_in("/dev/shm")?;
        let root = memory.path().join("root");
        fs::create_dir_all(&root)?;
        let mut packages = Vec::new();
        for version in 1..=self.versions {
            let folder = self.path("files").join(format!("v{version}"));
            fs::create_dir_all(&folder)?;
            for file in FILES {
                fs::write(folder.join(file), format!("{file} {version}\n").repeat(50))?;
                fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o755))?;
            }
            let request = atlas_module::pack::Request {
                name: Some("ssSync".parse()?),
                version: Some(format!("v{version}").parse()?),
                ..Default::default()
            };
            let package = self.path(&format!("p{version}.tar"));
            fs::write(&package, atlas_module::pack::pack(&folder, &request)?.1)?;
            packages.push(package);
        }
        for some in packages.chunks(100) {
            run(Command::new(&self.program).arg("--root").arg(&root).args(["install", "--allow-unsigned"]).args(some))?;
        }
        packages.iter().try_for_each(fs::remove_file)?;
        run(Command::new("cp").arg("-a").arg(&root).arg(self.path("root")))?;
        self.set(1)
    }

    /// Alternatives are paths: a master link and three that follow it.
    fn prepare_alternatives(&self) -> anyhow::Result<()> {
        for dir in ["alt/admin", "alt/links", "alt/bin"] {
            fs::create_dir_all(self.path(dir))?;
        }
        // What a thousand calls of --install would leave, written at once: each of them reads and writes the whole.
        let mut text = format!("manual\n{}\n", self.path("alt/bin/ssSync").display());
        for file in &FILES[1..] {
            text += &format!("{file}\n{}\n", self.path("alt/bin").join(file).display());
        }
        text += "\n";
        for version in 1..=self.versions {
            text += &format!("{}\n{version}\n", self.version_file("files", version, FILES[0]).display());
            for file in &FILES[1..] {
                text += &format!("{}\n", self.version_file("files", version, file).display());
            }
        }
        fs::write(self.path("alt/admin/ssSync"), text + "\n")?;
        for file in FILES {
            symlink(self.path("alt/links").join(file), self.path("alt/bin").join(file))?;
            symlink(self.version_file("files", 1, file), self.path("alt/links").join(file))?;
        }
        self.alternative(1)
    }

    fn prepare_stow(&self) -> anyhow::Result<()> {
        fs::create_dir_all(self.path("stow-target"))?;
        self.stow(&["--stow", "v1"])
    }

    fn set(&self, version: usize) -> anyhow::Result<()> {
        let version = format!("v{version}");
        run(Command::new(&self.program).arg("--root").arg(self.path("root")).args(["set", "ssSync", &version]))
    }

    fn alternative(&self, version: usize) -> anyhow::Result<()> {
        let mut command = Command::new("update-alternatives");
        command.arg("--admindir").arg(self.path("alt/admin")).arg("--altdir").arg(self.path("alt/links"));
        command.arg("--log").arg("/dev/null").arg("--quiet").arg("--set").arg("ssSync");
        run(command.arg(self.version_file("files", version, FILES[0])))
    }

    fn stow(&self, args: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("stow");
        run(command.arg("-d").arg(self.path("files")).arg("-t").arg(self.path("stow-target")).args(args))
    }

    /// Each in turn, so that what else the machine does meets all of them.
    fn measure(&self, rounds: usize) -> anyhow::Result<Times> {
        let mut times = Times::default();
        let (mut now, mut next) = (self.versions, self.versions - 1);
        self.set(next)?;
        self.alternative(next)?;
        self.stow(&["--delete", "v1", "--stow", &format!("v{next}")])?;
        for _ in 0..rounds {
            let (old, new) = (format!("v{next}"), format!("v{now}"));
            run(Command::new("sync").arg("-f").arg(self.tmp.path()))?;
            times.atlas.push(timed(|| self.set(now))?);
            let alone = timed(|| self.alternative(now))?;
            let flushed = timed(|| flush(&self.path("alt/links")))?;
            times.alternatives.push(alone);
            times.alternatives_synced.push(alone + flushed);
            let alone = timed(|| self.stow(&["--delete", &old, "--stow", &new]))?;
            let flushed = timed(|| flush(&self.path("stow-target")))?;
            times.stow.push(alone);
            times.stow_synced.push(alone + flushed);
            self.check(now)?;
            std::mem::swap(&mut now, &mut next);
        }
        Ok(times)
    }

    /// A time counts only where the work was done.
    fn check(&self, version: usize) -> anyhow::Result<()> {
        for file in FILES {
            let expected = fs::read(self.version_file("files", version, file))?;
            for place in ["root/opt/atlas/bin", "alt/bin", "stow-target"] {
                let found = fs::read(self.path(place).join(file))?;
                anyhow::ensure!(found == expected, "{place}/{file} is not of v{version}");
            }
        }
        Ok(())
    }

    fn measure_list(&self, rounds: usize) -> anyhow::Result<f64> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let mut command = Command::new(&self.program);
            times.push(timed(|| run(command.arg("--root").arg(self.path("root")).args(["list", "--json"])))?);
        }
        Ok(median(&mut times))
    }
}

fn run(command: impl std::borrow::BorrowMut<Command>) -> anyhow::Result<()> {
    let mut command = command;
    let command = command.borrow_mut();
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{command:?} failed: {told}");
    Ok(())
}

fn flush(dir: &Path) -> anyhow::Result<()> {
    Ok(fs::File::open(dir)?.sync_all()?)
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let start = Instant::now();
    work()?;
    let took: Duration = start.elapsed();
    Ok(took.as_secs_f64() * 1000.0)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_table(rows: &[Row], versions: usize) {
    let mut table = atlas_cli::Table::new(["NAME", "ATLAS", "PEER", "RATIO", "MET"]);
    for row in rows {
        let met = if row.met { "yes" } else { "NO" };
        let (value, peer) = (format!("{:.2} ms", row.value), format!("{:.2} ms", row.peer_value));
        table.row([row.name.clone(), value, peer, format!("{:.2}", row.ratio), met.to_owned()]);
    }
    println!("{versions} versions of four files; medians\n\n{table}");
}

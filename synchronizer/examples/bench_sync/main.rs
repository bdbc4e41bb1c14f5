//! Snapshots, their installation and whole cycles against rsync and git, on the same fresh trees of small files.
//!
//! ```text
//!   bench_sync [--json] [--sizes 1000,10000,100000] [--rounds N] [--dir DIR]      the ssSync and ssRun beside it are what is measured
//! ```
//!
//! | row | ssSync | peer |
//! |---|---|---|
//! | nothing changed | `ssSync create` | `rsync -a --delete` to a local copy |
//! | every byte read | `ssSync create --full` | `rsync -aHAX --checksum --delete` to a local copy |
//! | one change | `ssSync create`: Snapshot and commit, flushed | `git add -A && git commit` of the same files, flushed with `sync -f` |
//! | everything installed | `ssSync install` on a secondary that has none of it | `rsync -a --fsync` into an empty directory |
//! | a whole cycle, nothing changed | `ssSync cycle` over ssh, all its steps | `rsync -a --delete` over the same ssh |
//!
//! git flushes nothing of what it did, and would lose the commit at a power cut; so it is timed as it is, which is shown, and with the one flush
//! that makes it as durable; that one counts. A change is given 50 ms to settle: within the kernel's clock tick a create waits and looks twice.
//!
//! Nothing is removed before the end: for some minutes ext4 steps over each inode that was freed, and whoever makes files meanwhile would pay
//! for what was removed before. So it is in a bench that begins right after another.

mod secondary;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

fn main() -> anyhow::Result<()> {
    let options = Options::parse()?;
    let all = tempfile::tempdir_in(&options.dir)?;
    let mut rows = Vec::new();
    let mut growth: Vec<(usize, Times)> = Vec::new();
    for size in &options.sizes {
        let times = measure(&options, &all.path().join(size.to_string()), *size)?;
        rows.extend(times.rows(*size));
        growth.push((*size, times));
    }
    for pair in growth.windows(2) {
        let [(small, few), (large, many)] = pair else { continue };
        let times = f64::from(u32::try_from(large / small)?);
        for (name, few, many) in [
            ("nothing changed", &few.nothing.0, &many.nothing.0),
            ("every byte read", &few.full.0, &many.full.0),
            ("everything installed", &few.install.0, &many.install.0),
            ("a whole cycle", &few.cycle.0, &many.cycle.0),
        ] {
            // What a start of the program costs is in both.
            let (few, many) = (fastest(few), fastest(many));
            let name = format!("growth, {name}: {small} to {large} files");
            rows.push(Row::new(name, many, "ms", format!("{times:.0} times as much"), few * times, 1.25));
        }
    }
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
    } else {
        print_table(&rows);
    }
    all.close()?;
    if rows.iter().all(|row| row.met) { Ok(()) } else { std::process::exit(1) }
}

struct Options {
    json: bool,
    sizes: Vec<usize>,
    rounds: usize,
    dir: PathBuf,
}

impl Options {
    fn parse() -> anyhow::Result<Options> {
        let sizes = vec![1000, 10_000, 100_000];
        let mut options = Options { json: false, sizes, rounds: 9, dir: "/var/tmp".into() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| anyhow::anyhow!("{arg} wants a value"));
            match arg.as_str() {
                "--json" => options.json = true,
                "--sizes" => options.sizes = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--rounds" => options.rounds = value()?.parse()?,
                "--dir" => options.dir = value()?.into(),
                other => anyhow::bail!("unknown argument {other}; known: --json --sizes A,B --rounds N --dir DIR"),
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
    fn new(name: String, value: f64, unit: &'static str, peer: String, peer_value: f64, goal: f64) -> Row {
        let ratio = value / peer_value;
        Row { name, value, unit, peer, peer_value, ratio, goal, met: ratio <= goal }
    }
}

/// Milliseconds of ssSync and of its peer, one for each round; memory in KiB.
#[derive(Default)]
struct Times {
    nothing: (Vec<f64>, Vec<f64>),
    full: (Vec<f64>, Vec<f64>),
    change: (Vec<f64>, Vec<f64>),
    git_alone: Vec<f64>,
    install: (Vec<f64>, Vec<f64>),
    cycle: (Vec<f64>, Vec<f64>),
    memory: [f64; 3],
}

impl Times {
    fn rows(&self, size: usize) -> Vec<Row> {
        let row = |what: &str, times: &(Vec<f64>, Vec<f64>), peer: &str, goal: f64| {
            let (ours, theirs) = (fastest(&times.0), fastest(&times.1));
            Row::new(format!("{size} files, {what}"), ours, "ms", peer.to_owned(), theirs, goal)
        };
        let mut rows = vec![
            row("nothing changed", &self.nothing, "rsync -a --delete", 0.4),
            row("every byte read", &self.full, "rsync -aHAX --checksum --delete", 0.5),
            row("one change and its commit", &self.change, "git add -A && git commit, flushed", 1.5),
            row("everything installed", &self.install, "rsync -a --fsync", 0.25),
            row("a whole cycle, nothing changed", &self.cycle, "rsync -a --delete, the same ssh", 1.0),
        ];
        let alone = Row {
            met: true,
            ..row("the same", &(self.change.0.clone(), self.git_alone.clone()), "git, not flushed (shown)", 1.5)
        };
        rows.push(alone);
        let bound = (200.0 * size as f64 / 1024.0) + 20.0 * 1024.0;
        for (what, used) in ["first create", "nothing changed", "every byte read"].iter().zip(self.memory) {
            let name = format!("{size} files, memory of {what}");
            rows.push(Row::new(name, used, "KiB", "200 bytes a file + 20 MiB".into(), bound, 1.0));
        }
        rows
    }
}

fn measure(options: &Options, dir: &Path, size: usize) -> anyhow::Result<Times> {
    eprintln!("bench: {size} files");
    let bench = Bench::prepare(dir, size)?;
    let mut times = Times::default();
    times.memory[0] = bench.memory(&[])?;
    bench.settle()?;
    times.memory[1] = bench.memory(&[])?;
    times.memory[2] = bench.memory(&["--full"])?;
    // A large tree is measured fewer times: each of them is an average already.
    let rounds = match size {
        0..5000 => options.rounds * 3,
        5000..50_000 => options.rounds,
        _ => options.rounds.div_ceil(2),
    };
    for round in 0..rounds {
        times.nothing.0.push(timed(|| bench.create(&[], false))?);
        times.nothing.1.push(timed(|| bench.rsync(&["-a", "--delete"]))?);
        times.full.0.push(timed(|| bench.create(&["--full"], false))?);
        times.full.1.push(timed(|| bench.rsync(&["-aHAX", "--checksum", "--delete"]))?);
        // What rsync's reading left to be written, the times of access of all files, would be flushed by whoever comes next.
        run(&mut Command::new("sync"))?;
        bench.change(round)?;
        times.change.0.push(timed(|| bench.create(&[], true))?);
        let alone = timed(|| bench.git())?;
        let flush = timed(|| run(Command::new("sync").arg("-f").arg(&bench.dir)))?;
        times.git_alone.push(alone);
        times.change.1.push(alone + flush);
        bench.check(round)?;
        bench.rsync(&["-a", "--delete"])?;
    }
    let secondary = secondary::Secondary::prepare(&bench)?;
    for _ in 0..rounds.div_ceil(3).max(3) {
        times.cycle.0.push(timed(|| secondary.cycle())?);
        times.cycle.1.push(timed(|| secondary.rsync_over_ssh())?);
    }
    secondary.check_log()?;
    // rsync flushes each file by itself: a few rounds are as many flushes as all the rest. One alone would measure what else the disk did.
    for round in 0..if size < 50_000 { 4 } else { 3 } {
        let (ours, theirs) = secondary.install_everything(size, round)?;
        times.install.0.push(ours);
        times.install.1.push(theirs);
    }
    Ok(times)
}

/// A server's tree; the same files for rsync and git.
struct Bench {
    dir: PathBuf,
    program: PathBuf,
}

impl Bench {
    fn prepare(dir: &Path, size: usize) -> anyhow::Result<Bench> {
        let program = std::env::current_exe()?.ancestors().nth(2).map(|dir| dir.join("ssSync"));
        let program = program.filter(|path| path.exists());
        let program = program.ok_or_else(|| anyhow::anyhow!("build ssSync first, in the same profile"))?;
        let bench = Bench { dir: dir.to_owned(), program };
        let config =
            "format = 1\ncluster = \"bakery\"\nrole = \"PRI\"\n[[partner]]\nrole = \"SEC1\"\nhost = \"10.0.0.2\"\n";
        write_all(
            &bench.path("root"),
            &[
                ("etc/hostname", "bread\n"),
                ("etc/passwd", PASSWD),
                ("etc/group", GROUP),
                ("opt/atlas/EnvID", "1\n"),
                ("opt/atlas/Cluster", "bakery\n"),
                ("unbound/SID_DATA/MasterConfig", config),
                ("unbound/SID_DATA/PRI/Env1/IdentFilePaths", "/etc/hostname\n"),
                ("unbound/SID_DATA/PRI/Env1/SyncFilePathsSpecial", "/srv/data\n"),
            ],
        )?;
        for index in 0..size {
            let path = bench.file(index);
            if index % 50 == 0 {
                fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            }
            fs::write(path, text(index))?;
        }
        let git = bench.path("git");
        run(Command::new("git").args(["init", "--quiet", "--bare"]).arg(&git))?;
        bench.git()?;
        fs::create_dir(bench.path("copy"))?;
        bench.rsync(&["-aHAX", "--delete"])?;
        run(&mut Command::new("sync"))?;
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn file(&self, index: usize) -> PathBuf {
        let (top, below) = (index / 1000, index / 50 % 20);
        self.path("root/srv/data").join(format!("d{top}/e{below}/f{index}.conf"))
    }

    /// Two creates beyond the time within which a change could hide behind a clock tick.
    fn settle(&self) -> anyhow::Result<()> {
        std::thread::sleep(Duration::from_millis(2500));
        self.create(&[], false)
    }

    fn create(&self, args: &[&str], has_changed: bool) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        let output = command.args(["create", "--json", "--root"]).arg(self.path("root")).args(args).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        anyhow::ensure!(told["changed"] == has_changed, "not what was to be measured: {told}");
        anyhow::ensure!(!has_changed || told["recorded"]["files"] == 1, "not recorded: {told}");
        Ok(())
    }

    /// The most memory that a create had in use at a time.
    fn memory(&self, args: &[&str]) -> anyhow::Result<f64> {
        let mut command = Command::new("/usr/bin/time");
        command
            .args(["--quiet", "--format", "%M"])
            .arg(&self.program)
            .args(["create", "--root"])
            .arg(self.path("root"));
        let output = command.args(args).output()?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stderr)?.trim().parse()?)
    }

    fn rsync(&self, args: &[&str]) -> anyhow::Result<()> {
        let mut from = self.path("root/srv/data").into_os_string();
        from.push("/");
        run(Command::new("rsync").args(args).arg(from).arg(self.path("copy")))
    }

    fn git(&self) -> anyhow::Result<()> {
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.arg("--git-dir").arg(self.path("git")).arg("--work-tree").arg(self.path("root/srv/data"));
            command.args(["-c", "core.bare=false", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "gc.auto=0"]);
            run(command.args(args))
        };
        git(&["add", "-A"])?;
        git(&["commit", "--quiet", "--message", "change"])
    }

    fn change(&self, round: usize) -> anyhow::Result<()> {
        fs::write(self.file(501), format!("changed {round}\n{}", text(501)))?;
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    }

    /// A time counts only where the work was done.
    fn check(&self, round: usize) -> anyhow::Result<()> {
        let copy = self.path("root/unbound/SID_DATA/PRI/Env1/SyncFiles");
        let copy = copy.join(self.file(501).strip_prefix(self.path("root"))?);
        anyhow::ensure!(
            fs::read_to_string(copy)?.starts_with(&format!("changed {round}\n")),
            "it is not in the Snapshot"
        );
        Ok(())
    }
}

/// Whom the files belong to.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n";
const GROUP: &str = "root:x:0:\n";

fn write_all(root: &Path, files: &[(&str, &str)]) -> anyhow::Result<()> {
    files.iter().try_for_each(|(path, content)| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(path, content)?;
        Ok(())
    })
}

/// 1 to 4 KB of text that compresses as configuration does.
fn text(index: usize) -> String {
    let mut text = String::new();
    let lines = 25 + index * 7919 % 75;
    for line in 0..lines {
        let _ =
            writeln!(text, "option-{line} = value-{:08x}", index.wrapping_mul(2_654_435_761).wrapping_add(line * line));
    }
    text
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{command:?} failed: {told}");
    Ok(())
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

/// The time that says most of the work, and least of what else the machine did: of us and of the peer alike.
fn fastest(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn print_table(rows: &[Row]) {
    let mut table = atlas_cli::Table::new(["NAME", "ATLAS", "PEER", "", "RATIO", "GOAL", "MET"]);
    for row in rows {
        let met = if row.met { "yes" } else { "NO" };
        let shown = |value: f64| format!("{value:.1} {}", row.unit);
        let ratio = [format!("{:.2}", row.ratio), format!("{:.2}", row.goal), met.to_owned()];
        table.row(
            [row.name.clone(), shown(row.value), row.peer.clone(), shown(row.peer_value)].into_iter().chain(ratio),
        );
    }
    println!("the fastest of all rounds\n\n{table}");
}

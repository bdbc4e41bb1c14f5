//! The secondary's side: a durable installation of everything, and a whole cycle over ssh.
//!
//! ```text
//!   DIR/root   PRI: Snapshot and the files themselves          ──ssh on loopback──▶  DIR/sec    SEC1, all of it installed
//!                                                              ──ssh on loopback──▶  DIR/far    rsync's copy
//!   DIR/newN   a secondary that has received everything and installed nothing        DIR/emptyN rsync's copy, begun anew
//! ```

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Bench, run, timed};

/// A secondary for a PRI that has taken its Snapshot, and an sshd between them.
pub(crate) struct Secondary<'a> {
    bench: &'a Bench,
    daemon: Child,
    port: u16,
}

impl<'a> Secondary<'a> {
    /// Starts an sshd of its own and synchronizes once, so that everything is in step.
    pub(crate) fn prepare(bench: &'a Bench) -> anyhow::Result<Secondary<'a>> {
        server(&bench.path("sec"))?;
        // So that ssStartHandler has this machine to look at, with all its processes.
        std::os::unix::fs::symlink("/proc", bench.path("sec/proc"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let keys = bench.path("keys");
        fs::create_dir(&keys)?;
        for name in ["host", "user"] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(keys.join(name)))?;
        }
        fs::copy(keys.join("user.pub"), keys.join("authorized"))?;
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nPidFile none\n\
             StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n",
            keys.display()
        );
        fs::write(keys.join("config"), config)?;
        fs::create_dir_all("/run/sshd")?;
        let mut daemon = Command::new("/usr/sbin/sshd");
        let daemon = daemon.args(["-D", "-e", "-f"]).arg(keys.join("config")).stderr(Stdio::null()).spawn()?;
        let secondary = Secondary { bench, daemon, port };
        secondary.wait()?;
        let script = format!("#!/bin/sh\nexec {} '{}'\n", secondary.ssh(), secondary.serve());
        fs::write(bench.path("call"), script)?;
        run(Command::new("chmod").arg("755").arg(bench.path("call")))?;
        for _ in 0..2 {
            secondary.cycle()?;
        }
        secondary.rsync_over_ssh()?;
        Ok(secondary)
    }

    fn wait(&self) -> anyhow::Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        for _ in 0..100 {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("sshd does not listen: try '/usr/sbin/sshd -T'")
    }

    /// The same connection for both.
    fn ssh(&self) -> String {
        let keys = self.bench.path("keys");
        let options =
            "-F none -T -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
        format!("ssh {options} -o IdentitiesOnly=yes -i {}/user -p {} root@127.0.0.1", keys.display(), self.port)
    }

    /// What the key runs there, as `ssSync trust` has it: with the look at the server, and a log.
    fn serve(&self) -> String {
        let (program, root) = (self.bench.program.display(), self.bench.path("sec"));
        let run = self.bench.program.with_file_name("ssRun");
        let root = root.display();
        format!(
            "{} --root {root} --session --roll 20M --keep-size 200M -- {program} serve --root {root}",
            run.display()
        )
    }

    /// Every session was run with all that belongs to it. The last one may not have ended yet: its partner does not wait for that.
    pub(crate) fn check_log(&self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let log = fs::read_to_string(self.bench.path("sec/var/log/atlas/LOG.ssSync-remote"))?;
            let count = |what: &str| log.matches(what).count();
            let (begun, ended) = (count(" runs (pid "), count("ended with status 0"));
            let is_right = begun > 0 && ended == begun && !log.contains("no answer");
            if is_right {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < until, "not what was to be measured: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A whole cycle, all six steps.
    pub(crate) fn cycle(&self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.bench.program);
        command.args(["cycle", "--json", "--rsh"]).arg(self.bench.path("call"));
        let output = command.arg("--root").arg(self.bench.path("root")).output()?;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| anyhow::anyhow!("no report: {}", String::from_utf8_lossy(&output.stderr)))?;
        anyhow::ensure!(told["partners"][0]["outcome"] == "synced", "not in step: {told}");
        Ok(())
    }

    /// The same tree by rsync over the same ssh.
    pub(crate) fn rsync_over_ssh(&self) -> anyhow::Result<()> {
        let ssh = self.ssh();
        let (shell, host) = ssh.rsplit_once(' ').unwrap_or_default();
        let to = format!("{host}:{}/", self.bench.path("far").display());
        let from = format!("{}/", self.bench.path("root/srv/data").display());
        run(Command::new("rsync").args(["-a", "--delete", "-e", shell, &from, &to]))
    }

    /// Milliseconds of a durable installation of all files on a secondary that has none, and of rsync's.
    pub(crate) fn install_everything(&self, size: usize, round: usize) -> anyhow::Result<(f64, f64)> {
        let (new, empty) = (self.bench.path(&format!("new{round}")), self.bench.path(&format!("empty{round}")));
        server(&new)?;
        let received = new.join("unbound/SID_DATA/PRI");
        run(Command::new("cp").arg("-a").arg(self.bench.path("sec/unbound/SID_DATA/PRI")).arg(received))?;
        fs::create_dir(&empty)?;
        at_rest(size)?;
        let ours = timed(|| run(Command::new(&self.bench.program).args(["install", "--root"]).arg(&new)))?;
        at_rest(size)?;
        let from = format!("{}/", self.bench.path("root/srv/data").display());
        let theirs = timed(|| run(Command::new("rsync").args(["-a", "--fsync", &from]).arg(&empty)))?;
        for tree in [new.join("srv/data"), empty] {
            let count = files(&tree)?;
            anyhow::ensure!(count == size, "{} has {count} files, not {size}", tree.display());
        }
        Ok((ours, theirs))
    }
}

impl Drop for Secondary<'_> {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Nothing waits to be written, and there is free memory for a copy of so many files: a virtual machine gives back to its host what is free
/// for some seconds, and whoever needs much of it would be timed while the host finds it again.
fn at_rest(size: usize) -> anyhow::Result<()> {
    run(&mut Command::new("sync"))?;
    let mut memory = vec![0_u8; size * PER_FILE];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    drop(std::hint::black_box(memory));
    Ok(())
}

/// Memory that the kernel wants for a file that was read and written anew: two pages, two inodes and names.
const PER_FILE: usize = 4 * 4096;

/// A secondary's tree, with nothing on it yet.
fn server(root: &Path) -> anyhow::Result<()> {
    let config =
        "format = 1\ncluster = \"bakery\"\nrole = \"SEC1\"\n[[partner]]\nrole = \"PRI\"\nhost = \"10.0.0.1\"\n";
    super::write_all(
        root,
        &[
            ("etc/hostname", "butter\n"),
            ("etc/passwd", super::PASSWD),
            ("etc/group", super::GROUP),
            ("opt/atlas/EnvID", "1\n"),
            ("opt/atlas/Cluster", "bakery\n"),
            ("unbound/SID_DATA/MasterConfig", config),
            ("unbound/SID_DATA/SEC1/Env1/IdentFilePaths", "/etc/hostname\n"),
        ],
    )
}

fn files(tree: &PathBuf) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(tree)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

//! Which identity a server takes, and what becomes of its root disk when that cannot be written.

use anyhow::{Context as _, Result, ensure};
use atlas_image::{PlacedFile, place_files};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::bench::{install_probe, probe, workbench};
use super::cast::{Cast, LEFT, RIGHT};
use super::mirror::{FileSystem, edit_mirror};
use super::refused::{Root, assert_refuses, stranger};
use crate::{Context, Disk, Server};

/// The right server with `disks` and the probe as init.
fn probed(ctx: &Context, disks: Vec<Disk>) -> Result<Server> {
    let mut builder = Cast::get()?.bare(ctx, RIGHT, "init=/probe atlas.wait=1")?;
    for disk in disks {
        builder = builder.disk(disk);
    }
    let mut server = builder.build();
    install_probe(&mut server)?;
    Ok(server)
}

fn tune_root(server: &mut Server, program: &str, arguments: &[&str]) -> Result<()> {
    let root = server.disk("right-root")?.path().to_owned();
    let status = std::process::Command::new(program).args(arguments).arg(&root).output()?;
    ensure!(status.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&status.stderr));
    Ok(())
}

/// The server's own set as it is before the first Snapshot: MasterConfig and path lists, no IdentFiles. The OS keeps its own identity.
pub(crate) fn from_scratch(ctx: &Context) -> Result<()> {
    let commands = "start_set; cd /mnt/set/SID_DATA/SEC1
rm -r SnapshotEnvVersion Env1/Manifest Env1/IdentFiles Env1/SyncFiles Env1/SyncFilePaths; ls Env1; cd /; stop_set";
    let (disks, _) = workbench(ctx, "bench", Cast::get()?.members(ctx, RIGHT)?, commands)?;
    let seen = probe(&mut probed(ctx, disks)?)?;
    ensure!(seen.outcome() == "from-scratch" && seen.network_allowed, "{:#}", seen.report);
    ensure!(seen.text("/role") == "SEC1" && seen.unbound_mount.contains("rw"), "{:#}", seen.report);
    let own = Cast::get()?.identity(RIGHT)?;
    ensure!(seen.identity == own, "the OS lost its own identity:\n{}\n{own}", seen.identity);
    Ok(())
}

/// PRI's disks in a server on which fstab mounts something over a path of the identity, although not now: refused with the mount point, and
/// nothing is written below it. Where fstab mounts over other paths, the identity is installed.
pub(crate) fn below_a_mount_point(ctx: &Context) -> Result<()> {
    let mut server = probed(ctx, Cast::get()?.members(ctx, LEFT)?)?;
    let root = server.disk("right-root")?.path().to_owned();
    let fstab =
        |at: &str| place_files(&root, &[PlacedFile::new("/etc/fstab", format!("LABEL=x {at} ext4 noauto 0 0\n"))]);
    fstab("/etc/network")?;
    let seen = probe(&mut server)?;
    ensure!(seen.outcome() == "bad-path" && !seen.network_allowed, "{:#}", seen.report);
    let found = seen.report["refusal"]["found"].to_string();
    ensure!(found.contains("/etc/fstab mounts another file system at /etc/network"), "{:#}", seen.report);
    ensure!(seen.identity == Cast::get()?.identity(RIGHT)?, "the identity changed:\n{}", seen.identity);
    ensure!(seen.report["unbound_written"] == false, "{:#}", seen.report);
    fstab("/var")?;
    let seen = probe(&mut server)?;
    ensure!(
        seen.outcome() == "identity-installed" && seen.identity == Cast::get()?.identity(LEFT)?,
        "{:#}",
        seen.report
    );
    Ok(())
}

/// What an identity of before it was refused may hold, and no boot may install: the path, and another machine's content.
const OF_ONE_MACHINE: [(&str, &str); 3] = [
    ("/etc/fstab", "LABEL=of-another-machine / ext4 defaults 0 1\n"),
    ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("/opt/atlas/EnvID", "3\n"),
];

/// Puts these files into the Snapshot on the mirror, listed and in the Manifest, as if `ssSync create` had taken them.
fn put_into_snapshot(files: &FileSystem, added: &[(&str, &str)]) -> Result<()> {
    let env = "/SID_DATA/PRI/Env1";
    let text = |name: &str| Ok::<_, anyhow::Error>(String::from_utf8(files.read(&format!("{env}/{name}"))?)?);
    let mut list = text("IdentFilePaths")?;
    let manifest = text("Manifest")?;
    let (first, rest) = manifest.split_once('\n').context("a Manifest without a first line")?;
    let mut entries: Vec<Value> = rest.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for (path, content) in added {
        files.add(&format!("{env}/IdentFiles{path}"), content.as_bytes())?;
        list.push_str(&format!("{path}\n"));
        let sha256: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        let (size, mtime) = (content.len(), 1_700_000_000);
        entries.push(json!({
            "set": "ident", "path": path, "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "mtime": mtime, "mtime_ns": 0,
            "size": size, "sha256": sha256,
        }));
    }
    // Identity before everything else, and each by its paths.
    entries.sort_by_key(|entry| (entry["set"] != "ident", entry["path"].as_str().map(str::to_owned)));
    let mut header: Value = serde_json::from_str(first)?;
    header["entries"] = entries.len().into();
    let lines: Vec<String> = std::iter::once(&header).chain(&entries).map(ToString::to_string).collect();
    files.replace(&format!("{env}/IdentFilePaths"), list.as_bytes())?;
    files.replace(&format!("{env}/Manifest"), format!("{}\n", lines.join("\n")).as_bytes())
}

/// The Snapshot of another server names, and has, what belongs to that machine alone: the rest is installed, these stay, and it is said of each.
pub(crate) fn of_one_machine(ctx: &Context) -> Result<()> {
    let mut members = Cast::get()?.members(ctx, LEFT)?;
    edit_mirror(&mut members, |files| put_into_snapshot(files, &OF_ONE_MACHINE))?;
    let mut server = probed(ctx, members)?;
    let root = server.disk("right-root")?;
    let own = OF_ONE_MACHINE.map(|(path, _)| {
        let copy = root.take_file(path, &ctx.scratch().join("own"))?;
        Ok::<_, anyhow::Error>(std::fs::read_to_string(copy)?)
    });
    let own = own.into_iter().collect::<Result<String>>()?;
    let seen = probe(&mut server)?;
    ensure!(seen.outcome() == "identity-installed" && seen.text("/role") == "PRI", "{:#}", seen.report);
    ensure!(seen.report["installed"].to_string().contains("/etc/hostname"), "{:#}", seen.report);
    // The fault was there.
    let warnings = seen.report["warnings"].to_string();
    for (path, content) in OF_ONE_MACHINE {
        ensure!(warnings.contains(&format!("{path} of the Snapshot was not installed")), "{warnings}");
        ensure!(!seen.report["installed"].to_string().contains(path), "{:#}", seen.report);
        ensure!(!own.contains(content), "{path} is the same already, so nothing could be seen");
    }
    ensure!(seen.machine == own.trim(), "what belongs to this machine changed:\n{}\nwas\n{own}", seen.machine);
    Ok(())
}

/// A converter from Env1 to Env2 that moves the address into a file of another name; `exit_code` is how it ends.
fn converter(exit_code: u8) -> PlacedFile {
    let script = format!(
        "#!/bin/sh
# newer SRC DST
set -e
[ \"$1\" = newer ]
cp -a \"$2/IdentFiles\" \"$2/SyncFiles\" \"$2/SyncFilePaths\" \"$3/\" 2>/dev/null
sed 's#^/etc/systemd/network$#/etc/systemd/network#; s#^/etc/hosts$#/etc/hosts#' \"$2/IdentFilePaths\" > \"$3/IdentFilePaths\"
mv \"$3/IdentFiles/etc/systemd/network/10-lan.network\" \"$3/IdentFiles/etc/systemd/network/20-env2.network\"
echo 'the converter of Env2 ran' >&2
exit {exit_code}
"
    );
    PlacedFile { mode: 0o755, ..PlacedFile::new("/opt/atlas/bin/SyncConverter2", script) }
}

/// The right server becomes one of Env2, with a converter that ends with `exit_code`.
fn of_env2(server: &mut Server, exit_code: u8) -> Result<()> {
    let root = server.disk("right-root")?.path().to_owned();
    place_files(&root, &[PlacedFile::new("/opt/atlas/EnvID", "2\n"), converter(exit_code)])
}

/// PRI ran on Env1, the right server is of Env2: the Snapshot is converted on demand, installed, and published as a whole.
pub(crate) fn converted_on_demand(ctx: &Context) -> Result<()> {
    let mut server = probed(ctx, Cast::get()?.members(ctx, LEFT)?)?;
    of_env2(&mut server, 0)?;
    let seen = probe(&mut server)?;
    ensure!(seen.outcome() == "identity-installed" && seen.network_allowed, "{:#}", seen.report);
    ensure!(seen.report["converted_from"] == 1 && seen.report["env_version"] == 2, "{:#}", seen.report);
    ensure!(
        seen.identity.contains("20-env2.network") && !seen.identity.contains("10-lan.network"),
        "{}",
        seen.identity
    );
    ensure!(seen.leftovers.is_empty(), "{}", seen.leftovers);
    let again = probe(&mut server)?;
    ensure!(again.report["converted_from"].is_null(), "converted once more: {:#}", again.report);
    ensure!(again.report["installed"].as_array().is_some_and(Vec::is_empty), "{:#}", again.report);
    let members = LEFT.members().iter().map(|serial| server.remove(serial)).collect::<Result<_>>()?;
    let look = "start_set; cd /mnt/set/SID_DATA; ls -a . PRI; cat PRI/SnapshotEnvVersion; grep -c env2 PRI/Env2/Manifest; [ ! -e .next-PRI ]; cd /; stop_set";
    workbench(ctx, "bench", members, look).map(drop)
}

/// The converter fails: refused, and nothing changed on either disk.
pub(crate) fn converter_fails(ctx: &Context) -> Result<()> {
    let (lan, mut server) = stranger(ctx, Cast::get()?.members(ctx, LEFT)?)?;
    of_env2(&mut server, 3)?;
    let phrases = ["the converter of Env2 ran", "SyncConverterN"];
    assert_refuses(ctx, &lan, &mut server, Root::Sound, "conversion-failed", &phrases)?;
    server.power_cut()
}

/// Fills the root disk to the last block: an init that does only that.
const FILL: &str = "#!/bin/sh
mount -t proc proc /proc; mount -o remount,rw /
n=0
for size in 256M 32M 4M 512K 64K 4K; do while fallocate -l $size /fill.$n 2>/dev/null; do n=$((n + 1)); done; done
while echo x > /fill.$n && [ -s /fill.$n ]; do n=$((n + 1)); done 2>/dev/null
echo \"fill: available blocks $(stat -f -c %a /)\"
sync; mount -o remount,ro /; echo 'fill: done'; echo o > /proc/sysrq-trigger; while :; do :; done
";

/// The root disk is full to the last block: refused, the old identity whole.
pub(crate) fn root_disk_full(ctx: &Context) -> Result<()> {
    let (lan, mut server) = stranger(ctx, vec![])?;
    let root = server.disk("right-root")?.path().to_owned();
    place_files(&root, &[PlacedFile { mode: 0o755, ..PlacedFile::new("/fill", FILL) }])?;
    let as_ever = server.boot.clone();
    let crate::Boot::Kernel { append, .. } = &mut server.boot else { anyhow::bail!("booted otherwise") };
    append.push_str(" init=/fill");
    server.start()?;
    server.wait_console("^fill: available blocks 0$", crate::secs(120)).context("the disk is not full")?;
    server.wait_off(crate::secs(60))?;
    server.boot = as_ever;
    for member in Cast::get()?.members(ctx, LEFT)? {
        server.insert(member)?;
    }
    // What of Debian wants a place of its own in /tmp may fail, or not, by what the boot has taken away from there meanwhile.
    server.console().allow("Failed to start ")?;
    let phrases = ["No space left on device", "if the disk is full ('df /'), remove something"];
    assert_refuses(ctx, &lan, &mut server, Root::Full, "root-not-writable", &phrases)?;
    server.power_cut()
}

/// The root file system cannot be made writable: refused, the old identity whole.
pub(crate) fn root_disk_read_only(ctx: &Context) -> Result<()> {
    let (lan, mut server) = stranger(ctx, Cast::get()?.members(ctx, LEFT)?)?;
    tune_root(&mut server, "/sbin/tune2fs", &["-O", "read-only"])?;
    // Debian itself cannot make it writable either, and says so; systemd leaves out the middle of a line that it takes for too long.
    server.expect_console("Failed to start .*ount Root and Kernel File Systems")?;
    server.expect_console("Failed to start ")?;
    let phrases = ["Read-only file system", "the disk may be dying"];
    assert_refuses(ctx, &lan, &mut server, Root::ReadOnly, "root-not-writable", &phrases)?;
    server.power_cut()
}

/// PRI had lost a member and ran on: it boots elsewhere with the one that is left, and with the stale one beside it, and says so.
pub(crate) fn degraded_since_earlier(ctx: &Context) -> Result<()> {
    let lose = "start_set; mdadm /dev/md9 --fail /dev/vdc --remove /dev/vdc
echo written while degraded > /mnt/set/www/index.html; stop_set; mdadm --examine /dev/vdb | grep 'Array State : A[.]'";
    let (disks, _) = workbench(ctx, "bench", Cast::get()?.members(ctx, LEFT)?, lose)?;
    let mut server = probed(ctx, disks)?;
    let both = probe(&mut server)?;
    let left_out = &both.report["set"]["left_out"];
    ensure!(both.outcome() == "identity-installed" && both.report["set"]["degraded"] == true, "{:#}", both.report);
    ensure!(
        left_out.as_array().is_some_and(|list| list.len() == 1) && left_out[0].to_string().contains("PRI-1"),
        "{left_out}"
    );
    ensure!(both.report["warnings"].to_string().contains("runs on 1 of 2 disks"), "{:#}", both.report);
    server.remove("PRI-1")?;
    let alone = probe(&mut server)?;
    ensure!(alone.outcome() == "identity-installed" && alone.report["set"]["degraded"] == true, "{:#}", alone.report);
    let look = "start_set; grep 'written while degraded' /mnt/set/www/index.html; stop_set";
    workbench(ctx, "look", vec![server.remove("PRI-0")?], look).map(drop)
}

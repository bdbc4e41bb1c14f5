//! Does the harness keep its promises? With tiny guests, so that all of it takes less than a minute under TCG.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use atlas_vm_tests::{Context, Cut, Deadline, Disk, Options, Replay, Server, Tier, secs};

const UP: u64 = 30;

/// Surroundings whose logs lie in the folder that cargo gives to integration tests.
fn context(name: &str) -> Result<Context> {
    Context::new(name, &Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
}

fn started(mut server: Server) -> Result<Server> {
    server.start()?;
    server.wait_agent(secs(UP))?;
    Ok(server)
}

#[test]
fn a_disk_that_is_in_one_server_gets_into_no_other() -> Result<()> {
    let ctx = context("one-place")?;
    let disk = ctx.blank_disk("D1", 1)?;
    let image = disk.path().to_owned();
    let mut server = ctx.tiny("one")?.disk(disk).build();
    let held = Disk::open(&image, "D1").unwrap_err().to_string();
    assert!(held.contains("is held already"), "{held}");

    server.start()?;
    assert!(Disk::open(&image, "D1").is_err());
    for refused in [server.remove("D1").err(), server.disk("D1").err(), server.insert(ctx.blank_disk("D2", 1)?).err()] {
        let refused = refused.unwrap().to_string();
        assert!(refused.contains("one is on"), "{refused}");
    }
    server.power_cut()?;
    assert!(server.remove("D9").is_err());
    let disk = server.remove("D1")?;
    assert_eq!(disk.serial(), "D1");
    ctx.finish()
}

#[test]
fn what_was_flushed_survives_a_power_cut_and_moves_with_the_disk() -> Result<()> {
    let ctx = context("power-cut")?;
    let mut left = started(ctx.tiny("left")?.disk(ctx.blank_disk("D1", 8)?).build())?;
    let before = "before the cut";
    left.sh(&format!("printf '{before}' | dd of=/dev/vda bs=512 seek=3 conv=fsync 2>/dev/null"))?;
    left.power_cut()?;
    assert!(!left.is_on());

    let mut disk = left.remove("D1")?;
    assert_eq!(disk.read_at(3 * 512, before.len())?, before.as_bytes());
    disk.write_at(5 * 512, b"put there between")?;
    let digest = disk.sha256()?;

    let mut right = started(ctx.tiny("right")?.disk(ctx.blank_disk("D0", 1)?).disk(disk).build())?;
    assert_eq!(right.sh("cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial")?, "D0\nD1");
    assert_eq!(right.sh("dd if=/dev/vdb bs=512 skip=3 count=1 2>/dev/null | head -c 14")?, before);
    assert_eq!(right.sh("dd if=/dev/vdb bs=512 skip=5 count=1 2>/dev/null | head -c 17")?, "put there between");
    right.shutdown(secs(UP))?;
    assert_eq!(right.disk("D1")?.sha256()?, digest, "reading wrote nothing");
    assert!(right.console().text().contains("tiny: shutting down"), "the shutdown was orderly");
    ctx.finish()
}

#[test]
fn a_recorded_disk_can_be_had_as_it_was_at_any_moment() -> Result<()> {
    let ctx = context("record")?;
    let (image, log) = (ctx.blank_disk("D1", 8)?, ctx.scratch().join("D1.log"));
    let before = image.copy(&ctx.scratch().join("before.img"), "D1")?;
    let mut server = ctx.tiny("one")?.disk(image).build();
    server.disk("D1")?.record(&log)?;
    server = started(server)?;
    let length = || -> Result<u64> { Ok(std::fs::metadata(&log)?.len()) };
    let write = |word: &str, sector: u32, how: &str| {
        server.sh(&format!("printf %-512s {word} | dd of=/dev/vda bs=512 seek={sector} {how} 2>/dev/null"))
    };
    write("flushed", 3, "conv=fsync")?;
    let flushed = length()?;
    write("waiting", 3, "oflag=direct")?;
    write("also", 4, "oflag=direct")?;
    let written = length()?;
    assert!(flushed < written);
    server.power_cut()?;

    let mut replay = Replay::begin(&log, before)?;
    let words = |replay: &Replay, name: &str, is_kept: bool| -> Result<(String, Cut)> {
        let (disk, cut) = replay.cut(&ctx.scratch().join(name), || is_kept)?;
        let words = String::from_utf8(disk.read_at(3 * 512, 1024)?)?;
        Ok((words.replace('\0', " ").split_whitespace().collect::<Vec<_>>().join(" "), cut))
    };
    replay.advance(flushed)?;
    assert_eq!(words(&replay, "1", false)?, ("flushed".into(), Cut { kept: 0, lost: 0 }));
    replay.advance(written)?;
    assert_eq!(words(&replay, "2", false)?.0, "flushed");
    assert_eq!(words(&replay, "3", true)?, ("waiting also".into(), Cut { kept: 2, lost: 0 }));
    ctx.finish()
}

#[test]
fn programs_and_files_of_a_guest_are_reached_through_the_agent() -> Result<()> {
    let ctx = context("agent")?;
    let mut server = started(ctx.tiny("one")?.smp(2).mem_mib(256).build())?;
    let output = server.exec("echo out; echo err >&2; exit 3", secs(10))?;
    assert_eq!((output.code, output.text().as_str(), output.error_text().as_str()), (3, "out", "err"));
    let error = server.sh("echo why; false").unwrap_err().to_string();
    assert!(error.contains("`echo why; false` on one exits with 1: why"), "{error}");
    assert_eq!(server.sh("nproc")?, "2");

    let content: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8 ^ (n >> 8) as u8).collect();
    server.write_file("/tmp/file", &content)?;
    assert!(server.read_file("/tmp/file")? == content);
    assert!(server.read_file("/tmp/none").is_err());

    // A deadline is kept, and the agent is of use afterwards.
    let start = Instant::now();
    let error = format!("{:#}", server.exec("sleep 50", Deadline::exact(Duration::from_secs(1))).unwrap_err());
    assert!(error.contains("`sleep 50`") && start.elapsed() < Duration::from_secs(5), "{error}");
    assert_eq!(server.sh("echo still here")?, "still here");

    server.reset()?;
    server.wait_console("Linux version", secs(UP))?;
    server.wait_agent(secs(UP))?;
    assert!(server.read_file("/tmp/file").is_err(), "a reset guest starts anew");
    server.shutdown(secs(UP))?;
    assert!(server.exec("true", secs(5)).unwrap_err().to_string().contains("one is off"));
    ctx.finish()
}

#[test]
fn the_lan_carries_cuts_delays_and_tells_who_sent_what() -> Result<()> {
    let ctx = context("lan")?;
    let lan = ctx.lan("office")?;
    let mut mute = ctx.tiny("mute")?.nic(&lan)?.build();
    mute.start()?;
    let one = ctx.client("one", &lan, "10.0.0.1/24")?;
    let two = ctx.client("two", &lan, "10.0.0.2/24")?;
    let ping = |count: u32| one.exec(&format!("ping -c {count} -i 0.2 -W 1 10.0.0.2"), secs(20));

    assert_eq!(ping(3)?.code, 0);
    lan.cut("two")?;
    assert_eq!(ping(2)?.code, 1, "a cut server answers nobody");
    lan.heal("two")?;
    assert_eq!(ping(3)?.code, 0);

    lan.delay(Duration::from_millis(150));
    let delayed = ping(2)?.text();
    let shortest = delayed.split("min/avg/max = ").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    assert!(shortest.is_some_and(|shortest| shortest >= 300), "there and back takes twice the delay: {delayed}");
    lan.delay(Duration::ZERO);

    one.sh("httpd -h /etc && dd if=/dev/urandom of=/etc/big bs=1M count=4 2>/dev/null")?;
    assert_eq!(
        two.sh("timeout 20 wget -qO /big http://10.0.0.1/big && sha256sum < /big")?,
        one.sh("sha256sum < /etc/big")?
    );

    let sent = lan.sent("one")?;
    assert_eq!(sent.arp_claims, [[10, 0, 0, 1].into()].into());
    assert_eq!(sent.ipv4_sources, [[10, 0, 0, 1].into()].into());
    assert_eq!((sent.macs.len(), sent.ethertypes.contains_key(&0x0806)), (1, true));
    assert_ne!(sent.macs, lan.sent("two")?.macs);
    mute.wait_agent(secs(UP))?;
    assert_eq!(lan.sent("mute")?.frames, 0, "a server whose network stays down sends nothing");
    assert!(ctx.logs().join("office.pcap").metadata()?.len() > 4 << 20);
    ctx.finish()
}

#[test]
fn a_fatal_line_fails_unless_it_is_declared_and_a_console_can_be_typed_on() -> Result<()> {
    let ctx = context("console")?;
    let mut server = ctx.tiny("one")?.build();
    server.start()?;
    server.wait_console("tiny# ", secs(UP))?;
    server.type_line("echo six times seven is $((6 * 7))")?;
    server.wait_console("^six times seven is 42$", secs(10))?;
    let late =
        server.wait_console("never printed", Deadline::exact(Duration::from_millis(300))).unwrap_err().to_string();
    assert!(late.contains("not within 0.3 s") && late.contains("| six times seven is 42"), "{late}");
    ctx.finish()?;

    server.type_line("echo c > /proc/sysrq-trigger")?;
    let failed = server.wait_console("never printed", secs(UP)).unwrap_err().to_string();
    assert!(failed.contains("Kernel panic") || failed.contains("Oops"), "{failed}");
    assert!(ctx.finish().is_err());
    server.expect_console("Kernel panic|sysrq|Oops|BUG:")?;
    ctx.finish()?;
    let up = server.console().time_of("^tiny: up$")?;
    assert!(up.is_some_and(|up| up < Duration::from_secs(UP)), "{up:?}");

    server.expect_console("soft lockup")?;
    let unmet = ctx.finish().unwrap_err().to_string();
    assert!(unmet.contains("never said"), "{unmet}");
    Ok(())
}

#[test]
fn a_dropped_server_leaves_no_process_and_a_server_that_cannot_start_says_why() -> Result<()> {
    let ctx = context("no-process")?;
    let mut server = ctx.tiny("one")?.build();
    server.start()?;
    let process = format!("/proc/{}", server.qemu_pid().unwrap());
    let name = std::fs::read_to_string(format!("{process}/comm"))?;
    assert!(name.starts_with("qemu-system"), "{name}");
    drop(server);
    assert!(!Path::new(&process).exists());

    let mut impossible = ctx.tiny("big")?.smp(100_000).build();
    let error = format!("{:#}", impossible.start().unwrap_err());
    assert!(error.contains("ended at its start") && error.contains("100000"), "{error}");
    assert!(!impossible.is_on());
    ctx.finish()
}

/// Not a test by itself: the process that the next test kills.
#[test]
#[ignore = "run by another test, as a process to be killed"]
fn a_process_that_starts_a_server_and_waits() -> Result<()> {
    let ctx = context("killed-inner")?;
    let mut server = ctx.tiny("one")?.build();
    server.start()?;
    println!("\nscratch {}\nqemu {}", ctx.scratch().display(), server.qemu_pid().unwrap());
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

#[test]
fn a_qemu_ends_with_the_process_that_started_it_even_if_that_is_killed() -> Result<()> {
    let args = ["--exact", "a_process_that_starts_a_server_and_waits", "--ignored", "--nocapture"];
    let mut child = Command::new(std::env::current_exe()?).args(args).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said = |what| lines.find_map(|line| Some(line.strip_prefix(what)?.trim_start().to_owned()));
    let (scratch, pid) = (said("scratch "), said("qemu "));
    child.kill()?;
    child.wait()?;
    std::fs::remove_dir_all(scratch.expect("the process says where its sockets are"))?;
    let process = format!("/proc/{}/cmdline", pid.expect("the process says which QEMU it started"));
    // Once it has ended nobody may have collected it yet; its command line is empty then.
    secs(10).poll("the end of QEMU", || Ok(std::fs::read(&process).unwrap_or_default().is_empty().then_some(())))
}

#[test]
fn all_scenarios_with_tiny_guests_pass() -> Result<()> {
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fast");
    let options = Options { tier: Tier::Fast, logs, keep_logs: true, ..Options::default() };
    let summary = atlas_vm_tests::run(&options)?;
    assert!(summary.passed > 0);
    assert_eq!(summary.failed, 0, "{:?}", summary.scenarios);
    Ok(())
}

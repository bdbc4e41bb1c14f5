//! ssRun and ssStartHandler as they are called: from a shell, on a tree in a temporary folder.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_host::{mount, testing::own_mounts};
use common::{SS_RUN, Server, until, with_handlers};
use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const SS_START: &str = env!("CARGO_BIN_EXE_ssStartHandler");

#[test]
fn output_and_errors_are_in_a_file_of_the_run_with_how_it_ended() {
    let server = Server::new();
    let output = server.run(&[], "echo out; echo err >&2; exit 7");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(7), 0));
    let log = server.log();
    assert!(log.contains("\nout\nerr\n") && log.contains("ended with status 7 after 0."), "{log}");
    let name = server.logs()[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.len() == "LOG.p.y04m06d03.h03m23s15".len() && name.starts_with("LOG.p.y"), "{name}");
}

#[test]
fn output_goes_where_it_is_wanted() {
    let server = Server::new();
    let both = server.run(&["--to", "both"], "echo text");
    assert_eq!(both.stdout, b"text\n");
    assert!(server.log().contains("\ntext\n"));
    for (to, expected) in [("stdout", "text\n"), ("none", "")] {
        let server = Server::new();
        let output = server.run(&["--to", to], "echo text");
        assert_eq!((String::from_utf8_lossy(&output.stdout).as_ref(), server.logs().len()), (expected, 0), "{to}");
    }
}

#[test]
fn a_signal_s_end_is_logged_and_given_as_shells_do() {
    let server = Server::new();
    let output = server.run(&[], "ulimit -c 0; kill -KILL $$");
    assert_eq!(output.status.code(), Some(128 + 9));
    assert!(server.log().contains("ended with signal 9 (SIGKILL) after"), "{}", server.log());
}

#[test]
fn what_cannot_be_run_is_told_as_every_shell_tells_it() {
    let server = Server::new();
    let code = |program: &str| {
        let mut command = Command::new(SS_RUN);
        command.arg("--root").arg(server.path()).args(["--no-handlers", "--to", "none", program]);
        command.output().unwrap().status.code()
    };
    assert_eq!((code("/nonexistent"), code("/etc/passwd")), (Some(127), Some(126)));
    assert_eq!(Command::new(SS_RUN).output().unwrap().status.code(), Some(2));
}

#[test]
fn signals_are_passed_on_to_the_program() {
    let server = Server::new();
    // Not by its log, which begins with these very words.
    let script = "trap 'echo got it; exit 5' TERM; echo > ready; while :; do sleep 0.05; done";
    let mut child = server.ss_run(&["--no-handlers", "--to", "both"], script).stdout(Stdio::piped()).spawn().unwrap();
    until("the program runs", || server.path().join("ready").exists());
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert!(server.log().contains("got it"), "{}", server.log());
}

#[test]
fn a_program_begins_with_the_signals_of_its_caller() {
    let server = Server::new();
    let status = "grep Sig /proc/self/status | grep -v SigQ";
    let bare = Command::new("sh").args(["-c", status]).output().unwrap();
    let ours = server.run(&["--to", "stdout"], status);
    assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&bare.stdout));
}

#[test]
fn a_program_that_never_stops_writing_is_stopped_all_the_same() {
    let server = Server::new();
    let mut child = server.ss_run(&["--no-handlers", "--to", "none"], "echo > ready; exec yes").spawn().unwrap();
    until("the program runs", || server.path().join("ready").exists());
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let mut status = None;
    until("it has ended", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(128 + 15));
}

#[test]
fn no_output_is_lost_at_the_end_however_much_there_is() {
    let server = Server::new();
    let output = server.run(&["--to", "both"], "seq 1 200000");
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(output.stdout.len(), expected.len());
    assert!(server.log().contains(&expected));
}

#[test]
fn what_the_program_leaves_running_does_not_hold_the_run() {
    let server = Server::new();
    let started = Instant::now();
    assert!(server.run(&[], "sleep 60 & echo $! > pid; echo started").status.success());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let pid: i32 = fs::read_to_string(server.path().join("pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(server.log().contains("started"));
}

#[test]
fn each_line_has_its_time_where_that_is_wanted() {
    let server = Server::new();
    server.run(&["--stamp"], "echo one; echo two");
    let log = server.log();
    let line = log.lines().find(|line| line.ends_with(" two")).unwrap_or_else(|| panic!("{log}"));
    assert_eq!(line.len(), "2004-06-03 03:23:15.042 two".len(), "{line}");
}

#[test]
fn a_day_s_runs_share_a_file_and_a_grown_file_is_put_aside() {
    let server = Server::new();
    server.run(&["--roll", "day"], "echo one");
    server.run(&["--roll", "day"], "echo two");
    let log = server.log();
    assert!(log.contains("\none\n") && log.contains("\ntwo\n"), "{log}");
    let server = Server::new();
    server.run(&["--roll", "100k"], "head -c 250000 /dev/zero | tr '\\0' '\\351'");
    assert!(server.logs().len() >= 2, "{:?}", server.logs());
    let bytes: usize =
        server.logs().iter().map(|log| fs::read(log).unwrap().iter().filter(|byte| **byte == 0o351).count()).sum();
    assert_eq!(bytes, 250_000);
}

#[test]
fn on_a_full_disk_the_program_runs_on_and_it_is_told() {
    if !own_mounts("on_a_full_disk_the_program_runs_on_and_it_is_told") {
        return;
    }
    let server = Server::new();
    let logs = server.path().join("var/log/atlas");
    fs::create_dir_all(&logs).unwrap();
    mount::memory(&logs, 64 << 10).unwrap();
    let output = server.run(&["--to", "both"], "head -c 300000 /dev/zero | tr '\\0' x; echo end; exit 4");
    assert_eq!(output.status.code(), Some(4));
    assert!(output.stdout.ends_with(b"end\n") && output.stdout.len() == 300_004, "{}", output.stdout.len());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("the log cannot be written") && told.contains("runs on"), "{told}");
    let kept = fs::metadata(&server.logs()[0]).unwrap().len();
    assert!(kept > 40_000 && kept <= 65_536, "the disk was not full: {kept}");
}

/// Has a program count as fast as it can, and kills ssRun after so long; gives what its logs tell together, without ssRun's own lines.
fn killed_while_it_counts(server: &Server, roll: &str, delay: Duration) -> String {
    let mut child = server.ss_run(&["--no-handlers", "--roll", roll], "exec seq 1 1000000000").spawn().unwrap();
    // One that was found under a name may be put aside under another before it is looked at.
    let has_begun = |log: &std::path::PathBuf| fs::metadata(log).is_ok_and(|log| log.len() > 1000);
    until("the program has begun", || server.logs().iter().any(has_begun));
    std::thread::sleep(delay);
    child.kill().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9), "it was to be killed");
    let mut logs = server.logs();
    // In the order of their times and numbers; the one that has none is the last.
    logs.sort_by_key(|log| {
        let name = log.file_name().unwrap().to_string_lossy().into_owned();
        let mut words = name.split('.').skip(2).map(str::to_owned);
        let (day, time) = (words.next(), words.next());
        (day.is_none(), day, time, words.next().map_or(1, |number| number.parse::<usize>().unwrap()))
    });
    let all: String = logs.iter().map(|log| fs::read_to_string(log).unwrap()).collect();
    all.lines().filter(|line| !line.starts_with("ssRun: ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn an_ss_run_that_is_killed_at_any_time_leaves_a_log_that_is_whole_up_to_there() {
    for round in 0..12 {
        let server = Server::new();
        let roll = ["run", "day", "100k"][round % 3];
        let told = killed_while_it_counts(&server, roll, Duration::from_millis(3 * round as u64));
        let counted = told.lines().count();
        assert!(counted > 100, "{roll}: it was killed before anything was said");
        for (number, line) in (1..).zip(told.lines().take(counted - 1)) {
            assert_eq!(line, number.to_string(), "{roll}: a gap, of {counted} lines");
        }
        // The last line may be cut where it was being written.
        assert!(counted.to_string().starts_with(told.lines().last().unwrap()), "{roll}");
        assert!(server.run(&["--roll", roll], "echo the next one").status.success());
        let logs: String = server.logs().iter().map(|log| fs::read_to_string(log).unwrap()).collect();
        assert!(logs.contains("the next one\n") && logs.contains("ended with status 0"), "{roll}");
    }
}

#[test]
fn what_was_said_is_in_the_log_before_ss_run_is_asked_again() {
    let server = Server::new();
    let script = "seq 1 50000; echo said; exec sleep 60";
    let mut child = server.ss_run(&["--no-handlers"], script).spawn().unwrap();
    until("the program has said it", || {
        server.logs().first().is_some_and(|log| fs::read_to_string(log).unwrap().ends_with("said\n"))
    });
    let log = server.log();
    let pid = log.split("(pid ").nth(1).and_then(|rest| rest.split(')').next()).unwrap().parse().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(server.log().contains("\n49999\n50000\nsaid\n"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn run_with_handlers(server: &Server, handlers: &[(&str, &str)], options: &[&str]) -> Output {
    let program = with_handlers(server, handlers);
    let mut command = Command::new(program);
    command.arg("--root").arg(server.path()).args(options).args(["--name", "p", "--", "echo", "it ran"]);
    command.current_dir(server.path()).output().unwrap()
}

#[test]
fn what_the_handlers_say_is_in_the_log() {
    let server = Server::new();
    let handlers = [("ssStartHandler", "echo load is high; exit 3"), ("ssCoreHandler", "echo NEW crash; exit 3")];
    assert!(run_with_handlers(&server, &handlers, &[]).status.success());
    let log = server.log();
    assert!(log.contains("ssStartHandler: load is high") && log.contains("ssCoreHandler: NEW crash"), "{log}");
    assert!(log.find("NEW crash") < log.find("it ran"), "{log}");
}

#[test]
fn handlers_speak_one_language_and_the_program_its_own() {
    let server = Server::new();
    let handlers = [("ssStartHandler", "echo start $LC_ALL"), ("ssCoreHandler", "echo core $LC_ALL")];
    let mut command = Command::new(with_handlers(&server, &handlers));
    command.arg("--root").arg(server.path()).args(["--name", "p", "--", "sh", "-c", "echo program $LC_ALL"]);
    assert!(command.env("LC_ALL", "de_DE.UTF-8").output().unwrap().status.success());
    let log = server.log();
    for line in ["ssStartHandler: start C\n", "ssCoreHandler: core C\n", "program de_DE.UTF-8\n"] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
}

#[test]
fn a_broken_handler_never_stops_the_run() {
    for broken in ["exit 99", "kill -SEGV $$", "sleep 60", "head -c 100000000 /dev/zero"] {
        let server = Server::new();
        let handlers = [("ssStartHandler", broken), ("ssCoreHandler", broken)];
        let started = Instant::now();
        let output = run_with_handlers(&server, &handlers, &["--handler-deadline", "1"]);
        assert!(output.status.success() && started.elapsed() < Duration::from_secs(15), "{broken}: {output:?}");
        assert!(server.log().contains("\nit ran\n"), "{broken}");
    }
    let server = Server::new();
    let missing = run_with_handlers(&server, &[], &[]);
    assert!(missing.status.success() && server.log().contains("ssStartHandler: no answer"), "{}", server.log());
}

#[test]
fn an_exceeded_limit_stops_the_run_only_where_that_is_wanted() {
    let server = Server::new();
    let handlers = [("ssStartHandler", "echo too many copies; exit 3"), ("ssCoreHandler", "exit 0")];
    let output = run_with_handlers(&server, &handlers, &["--when-exceeded", "stop"]);
    assert_eq!(output.status.code(), Some(1));
    let log = server.log();
    assert!(!log.contains("it ran") && log.contains("too many copies"), "{log}");
}

#[test]
fn a_core_can_be_written_and_the_program_knows_its_log() {
    let server = Server::new();
    server.run(&[], "ulimit -c; echo \"log=$ATLAS_RUN_LOG\"");
    let log = server.log();
    let hard = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap().1;
    let expected = if hard == nix::sys::resource::RLIM_INFINITY {
        "\nunlimited\n".to_owned()
    } else {
        format!("\n{}\n", hard / 512)
    };
    assert!(log.contains(&expected), "{log}");
    assert!(log.contains(&format!("log={}", server.logs()[0].display())), "{log}");
}

#[test]
fn start_handler_tells_what_is_exceeded_by_exit_code_text_and_notice() {
    let server = Server::new();
    fs::create_dir_all(server.path().join("etc/atlas")).unwrap();
    fs::write(server.path().join("etc/atlas/profile.toml"), "disk_free_percent = 100.0\npaths = [\"/\"]\n").unwrap();
    let start =
        || Command::new(SS_START).arg("--root").arg(server.path()).args(["--program", "ssSync.v2"]).output().unwrap();
    let output = start();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("space free on /") && text.contains("limit is 100.0 %") && text.contains("likely:"),
        "{text}"
    );
    let notices: Vec<PathBuf> =
        fs::read_dir(server.path().join("var/lib/atlas/notices")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(notices.len(), 1);
    let mut notice = String::new();
    fs::File::open(&notices[0]).unwrap().read_to_string(&mut notice).unwrap();
    assert!(notice.contains("before a run of ssSync"), "{notice}");
    fs::write(
        server.path().join("etc/atlas/profile.toml"),
        "disk_free_percent = 0.0\ninodes_free_percent = 0.0\npaths = [\"/\"]\n",
    )
    .unwrap();
    assert_eq!(start().status.code(), Some(0));
    assert!(!notices[0].exists(), "all is well before this run: the notice of the one before is over");
    fs::write(server.path().join("etc/atlas/profile.toml"), "disc_free = 1\n").unwrap();
    assert_eq!(start().status.code(), Some(1));
}

#[test]
fn runs_that_do_not_end_are_copies_until_they_do() {
    let server = Server::new();
    let copies = || {
        let mut start = Command::new(SS_START);
        start.arg("--root").arg(server.path()).args(["--program", "sh", "--json"]);
        let told: serde_json::Value = serde_json::from_slice(&start.output().unwrap().stdout).unwrap();
        told["measured"]["copies"].as_array().unwrap().clone()
    };
    assert_eq!(copies(), [0; 0], "the shells of others on this machine were not started by ssRun");
    let script =
        "echo $$ > pid.new; mv pid.new pid; i=0; until [ -e end ] || [ $((i += 1)) = 900 ]; do sleep 0.1; done";
    let mut child = server.ss_run(&["--no-handlers"], script).spawn().unwrap();
    until("the program runs", || server.path().join("pid").exists());
    let pid: i32 = fs::read_to_string(server.path().join("pid")).unwrap().trim().parse().unwrap();
    until("its run is counted", || copies() == [pid]);
    fs::write(server.path().join("end"), "").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(copies(), [0; 0], "it has ended");
}

#[test]
fn two_hundred_runs_in_a_row_leave_two_hundred_whole_logs() {
    let server = Server::new();
    for number in 0..200 {
        let status = server.ss_run(&["--no-handlers"], &format!("echo run {number}")).status().unwrap();
        assert!(status.success());
    }
    let logs = server.logs();
    assert_eq!(logs.len(), 200);
    for log in logs {
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("\nrun ") && text.contains("ended with status 0"), "{}: {text}", log.display());
    }
}

#[test]
#[ignore = "takes up to a minute"]
fn ten_thousand_runs_in_a_minute_leave_ten_thousand_whole_logs() {
    const RUNS: usize = 10_000;
    const AT_ONCE: usize = 4;
    let server = Server::new();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for first in 0..AT_ONCE {
            let server = &server;
            scope.spawn(move || {
                for number in (first..RUNS).step_by(AT_ONCE) {
                    let script = format!("echo run {number}");
                    assert!(server.ss_run(&["--no-handlers"], &script).status().unwrap().success());
                }
            });
        }
    });
    let took = started.elapsed();
    let mut told = std::collections::BTreeSet::new();
    for log in server.logs() {
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.contains("ended with status 0"), "{}: {text}", log.display());
        let numbers = text.lines().filter_map(|line| line.strip_prefix("run ")?.parse::<usize>().ok());
        let numbers: Vec<usize> = numbers.collect();
        assert_eq!(numbers.len(), 1, "{}: {text}", log.display());
        told.extend(numbers);
    }
    assert_eq!(told.len(), RUNS, "each run has a log of its own");
    println!("{RUNS} runs in {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

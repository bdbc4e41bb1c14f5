//! ssRun of a program that talks with somebody on standard input and output, as an ssh key may run it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

mod common;

use atlas_host::{mount, testing::own_mounts};
use common::{SS_RUN, Server, until, with_handlers};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A session that is under way, without handlers where none are named.
fn begin(server: &Server, handlers: &[(&str, &str)], options: &[&str], script: &str) -> Child {
    let mut command = Command::new(if handlers.is_empty() { SS_RUN.into() } else { with_handlers(server, handlers) });
    command.args(if handlers.is_empty() { &["--no-handlers"][..] } else { &[] }).arg("--root").arg(server.path());
    command.arg("--session").args(options).args(["--name", "p", "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(server.path());
    command.spawn().unwrap()
}

/// All values, in all neighbourhoods of two, and more than any pipe holds.
fn every_byte() -> Vec<u8> {
    let pairs = (0..=u16::MAX).flat_map(u16::to_be_bytes);
    pairs.cycle().take(3 << 20).collect()
}

/// Says all of this while it listens; gives all that it heard.
fn talk(child: &mut Child, said: &[u8]) -> Vec<u8> {
    let mut input = child.stdin.take().unwrap();
    let mut heard = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(said).unwrap());
        child.stdout.take().unwrap().read_to_end(&mut heard).unwrap();
    });
    heard
}

fn complaints(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn line_of(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

#[test]
fn bytes_of_all_values_pass_in_both_directions_and_what_it_complains_of_is_logged() {
    let server = Server::new();
    // Noise at every place where some could get between: from the handlers, to all that they have open, and from the program.
    let noise = "echo noise; echo noise >&2; cat; for fd in /proc/$PPID/fd/[01]; do echo noise > $fd; done; exit 3";
    let handlers = [("ssStartHandler", noise), ("ssCoreHandler", noise)];
    let script = "echo 'a complaint' >&2; cat; echo 'another' >&2; exit 7";
    let mut child = begin(&server, &handlers, &["--stamp"], script);
    let said = every_byte();
    let heard = talk(&mut child, &said);
    assert!(heard == said, "{} bytes of {}", heard.len(), said.len());
    assert_eq!(child.wait().unwrap().code(), Some(7));
    let told = complaints(&mut child);
    assert!(told.contains(" a complaint\n") && told.contains(" another\n"), "{told}");
    let log = server.log();
    for line in
        [" a complaint\n", " another\n", "ssStartHandler: noise\n", "ssCoreHandler: noise\n", "with status 7 after"]
    {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(log.len() < 2000, "the conversation is in the log: {} bytes", log.len());
}

#[test]
fn only_the_program_has_the_streams() {
    let server = Server::new();
    // The program may be there before ssRun has let go of its end: it looks again, a thousand times at most.
    let script = "mine=$(readlink /proc/$$/fd/1) n=0
        while readlink /proc/$PPID/fd/* | grep -qxF \"$mine\" && [ $n -lt 1000 ]; do n=$((n + 1)); done
        readlink /proc/self/fd/0 /proc/self/fd/1; readlink /proc/$PPID/fd/*; ls /proc/$PPID/fd | wc -l";
    let mut child = begin(&server, &[], &[], script);
    let heard = String::from_utf8(talk(&mut child, b"")).unwrap();
    let lines: Vec<&str> = heard.lines().collect();
    let ([own @ .., open], true) = (&lines[..], lines.len() > 6) else { panic!("{heard}") };
    let (own, of_ss_run) = own.split_at(2);
    assert!(own.iter().all(|stream| stream.starts_with("pipe:")), "{heard}");
    assert_eq!((of_ss_run[0], of_ss_run[1]), ("/dev/null", "/dev/null"), "{heard}");
    assert!(open.trim().parse::<usize>().unwrap() >= 5, "{heard}");
    assert!(!of_ss_run.iter().any(|stream| own.contains(stream)), "ssRun holds a stream: {heard}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_program_that_a_signal_kills_has_said_what_it_said_and_its_end_is_logged() {
    let server = Server::new();
    let mut child = begin(&server, &[], &[], "ulimit -c 0; read word; echo \"$word\"; kill -SEGV $$");
    assert_eq!(talk(&mut child, b"word\n"), b"word\n");
    assert_eq!(child.wait().unwrap().code(), Some(128 + 11));
    assert!(server.log().contains("ended with signal 11 (SIGSEGV) after"), "{}", server.log());
}

#[test]
fn a_signal_reaches_the_program() {
    let server = Server::new();
    let script = "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = begin(&server, &[("ssStartHandler", "exit 0"), ("ssCoreHandler", "sleep 60")], &[], script);
    assert_eq!(line_of(&mut child), "ready\n");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(line_of(&mut child), "got it\n");
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn on_a_full_log_disk_the_conversation_goes_on() {
    if !own_mounts("on_a_full_log_disk_the_conversation_goes_on") {
        return;
    }
    let server = Server::new();
    let logs = server.path().join("var/log/atlas");
    fs::create_dir_all(&logs).unwrap();
    mount::memory(&logs, 64 << 10).unwrap();
    let mut child = begin(&server, &[], &[], "head -c 50000 /dev/zero >&2; head -c 20000 /dev/zero >&2; cat; exit 4");
    let said = every_byte();
    let (heard, told) = std::thread::scope(|scope| {
        let mut errors = child.stderr.take().unwrap();
        let told = scope.spawn(move || {
            let mut told = Vec::new();
            errors.read_to_end(&mut told).unwrap();
            told
        });
        (talk(&mut child, &said), told.join().unwrap())
    });
    assert!(heard == said, "{} bytes of {}", heard.len(), said.len());
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert_eq!(told.iter().filter(|byte| **byte == 0).count(), 70_000);
    assert!(String::from_utf8_lossy(&told).contains("the log cannot be written"), "the disk was not full");
}

#[test]
fn without_a_log_the_conversation_takes_place() {
    let server = Server::new();
    fs::create_dir_all(server.path().join("var/log")).unwrap();
    fs::write(server.path().join("var/log/atlas"), "a file where the folder is to be").unwrap();
    let mut child = begin(&server, &[], &[], "cat");
    assert_eq!(talk(&mut child, b"word\n"), b"word\n");
    assert!(child.wait().unwrap().success());
    assert!(complaints(&mut child).contains("runs without a log"));
}

#[test]
fn handlers_that_hang_hold_up_nobody() {
    let server = Server::new();
    let handlers = ["ssStartHandler", "ssCoreHandler"].map(|name| (name, "echo $$ >> hanging; exec sleep 60"));
    let script = "read word; echo \"$word\"; until [ $(wc -l < hanging) = 2 ]; do sleep 0.01; done; echo both hang";
    let begun = Instant::now();
    let mut child = begin(&server, &handlers, &["--handler-deadline", "5"], script);
    assert_eq!(talk(&mut child, b"word\n"), b"word\nboth hang\n");
    // The end of its words is the end of the program, not that of ssRun, which still has to end the handlers.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(child.try_wait().unwrap().is_none(), "nothing hung");
    until("ssRun ends", || child.try_wait().unwrap().is_some_and(|status| status.success()));
    let log = server.log();
    assert_eq!(log.matches("no answer: it did not end within 5s and was stopped").count(), 2, "{log}");
    assert!(log.contains("ended with status 0"), "{log}");
    for pid in fs::read_to_string(server.path().join("hanging")).unwrap().lines() {
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "{pid} is still there");
    }
}

#[test]
fn what_would_be_said_in_between_is_not_accepted() {
    for other in [["--to", "both"], ["--to", "stdout"], ["--when-exceeded", "stop"]] {
        let output = Command::new(SS_RUN).arg("--session").args(other).args(["--", "true"]).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{other:?}");
    }
}

#[test]
fn a_program_that_is_not_there_is_no_conversation() {
    let server = Server::new();
    let mut command = Command::new(SS_RUN);
    command.arg("--root").arg(server.path()).args(["--no-handlers", "--session", "--json", "/nonexistent"]);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(127), 0), "{output:?}");
}

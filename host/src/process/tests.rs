use super::*;
use std::io::Write;

fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

#[test]
fn output_and_failure_are_told() {
    assert_eq!(sh("echo a; echo b >&2").run().unwrap().text(), "a\n");
    let error = sh("echo out; echo 'no space' >&2; exit 3").run().unwrap_err().to_string();
    assert!(error.contains("exit status: 3") && error.ends_with("no space"), "{error}");
    assert!(matches!(Command::new("/nonexistent").run(), Err(ProcessError::Start { .. })));
}

#[test]
fn the_deadline_ends_children_too() {
    let tmp = tempfile::tempdir().unwrap();
    let script = format!("sleep 60 & echo $! > {}/pid; wait", tmp.path().display());
    let error = sh(&script).deadline(Duration::from_millis(300)).run().unwrap_err();
    assert!(matches!(error, ProcessError::Deadline { .. }), "{error}");
    let pid: i32 = std::fs::read_to_string(tmp.path().join("pid")).unwrap().trim().parse().unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    let gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    while !gone() && Instant::now() < until {
        std::thread::yield_now();
    }
    assert!(gone(), "the child of the stopped program still runs");
}

#[test]
fn endless_output_is_kept_to_the_bound() {
    let output = sh("head -c 3000000 /dev/zero").run().unwrap();
    assert_eq!(output.stdout.len(), OUTPUT_LIMIT);
}

#[test]
fn a_conversation_carries_more_than_a_pipe_holds_both_ways() {
    let sent = vec![b'x'; 3 << 20];
    let answer = Command::new("cat").converse(
        |mut input| input.write_all(&sent),
        |output| {
            let mut got = Vec::new();
            output.read_to_end(&mut got).map(|_| got)
        },
    );
    assert!(answer.unwrap().unwrap() == sent);
}

#[test]
fn a_conversation_with_a_program_that_fails_or_hangs_ends_with_its_fault() {
    let feed = |mut input: ChildStdin| input.write_all(&vec![b'x'; 1 << 20]);
    let error = sh("echo 'no room' >&2; exit 7").converse(feed, |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("status: 7") && error.ends_with("no room"), "{error}");
    let hangs = sh("sleep 60").deadline(Duration::from_millis(200)).converse(feed, |out| out.read_to_end(&mut vec![]));
    assert!(matches!(hangs, Err(ProcessError::Deadline { .. })), "{hangs:?}");
    let ours = Command::new("cat").converse(|_| Err(io::Error::other("our own")), |_| Ok(()));
    assert_eq!(ours.unwrap().unwrap_err().to_string(), "our own");
}

#[test]
fn an_environment_of_its_own_has_what_was_given_and_the_path() {
    let text = Command::new("env").own_env().env("ATLAS_ROLE", "PRI").run().unwrap().text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(names.contains(&"ATLAS_ROLE") && names.contains(&"PATH") && names.len() == 3, "{text}");
    assert!(text.contains("LC_ALL=C.UTF-8\n"), "{text}");
}

#[test]
fn a_program_speaks_the_language_that_is_read_here() {
    let said = sh("echo \"$LC_ALL,${LANGUAGE-none}\"");
    let inherited = Command { inherits_env: true, ..said.clone() };
    assert_eq!(inherited.run().unwrap().text(), "C.UTF-8,none\n");
    assert_eq!(said.env("LC_ALL", "C").run().unwrap().text(), "C,none\n", "unless it is to be another");
}

#[test]
fn a_program_never_waits_for_our_input() {
    assert_eq!(Command::new("cat").deadline(Duration::from_secs(5)).run().unwrap().text(), "");
}

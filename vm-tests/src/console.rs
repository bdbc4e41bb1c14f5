//! The serial console: everything the guest prints is written down with the time, looked at for signs of disaster, and can
//! be waited for and answered.
//!
//! The log file has one line per line of the console, each with the seconds since the power came on:
//!
//! ```text
//! --- power on, 1st time
//! [    1.312] Linux version 6.1.0 …
//! ```
//!
//! A line that matches one of [`FATAL`] fails the test, unless the test said before that it expects it. An expectation that is never
//! met fails the test as well: the fault that was to cause it did not happen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::{Regex, RegexBuilder, RegexSet};

use crate::deadline::Deadline;

/// What no healthy server prints.
pub const FATAL: &[&str] = &[
    r"Kernel panic",
    r"\bOops:",
    r"\bBUG:",
    r"general protection fault",
    r"soft lockup",
    r"hard LOCKUP",
    r"blocked for more than \d+ seconds",
    r"segfault at",
    r"Out of memory: Killed process",
    r"(dumped core|core dumped)",
    r"[Ee]mergency mode",
    r"emergency\.target",
    r"Entering rescue mode",
    r"\(initramfs\)",
    r"dracut:/#",
    r"Dropping to a shell",
    r"Failed to start ",
    r"Dependency failed for ",
    r"Freezing execution",
];

/// One server's console over all its power-ons. Clones are the same console.
#[derive(Debug, Clone)]
pub struct Console(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: String,
    log: PathBuf,
    fatal: RegexSet,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug)]
struct State {
    log: File,
    /// All that was printed, without escape sequences and carriage returns; only ever grows.
    text: String,
    lines: Vec<Line>,
    /// Where the line that is still being printed begins.
    tail: usize,
    /// Where the next wait begins to look.
    cursor: usize,
    escapes: Escapes,
    partial_utf8: Vec<u8>,
    power_on: Instant,
    boots: usize,
    /// Where the text of the present power-on begins.
    boot_start: usize,
    fatal: Vec<Fatal>,
    expected: Vec<Regex>,
    allowed: Vec<Regex>,
    input: Option<UnixStream>,
}

#[derive(Debug)]
struct Line {
    start: usize,
    end: usize,
    at: Duration,
}

/// A line (by where it begins) that matched [`FATAL`].
#[derive(Debug)]
struct Fatal {
    start: usize,
    at: Duration,
}

impl Console {
    /// A console without a machine, which will log to `log`.
    ///
    /// # Errors
    /// The log file cannot be made.
    pub(crate) fn new(name: &str, log: &Path) -> Result<Self> {
        let state = State {
            log: File::create(log).with_context(|| format!("making the console log {}", log.display()))?,
            text: String::new(),
            lines: Vec::new(),
            tail: 0,
            cursor: 0,
            escapes: Escapes::Text,
            partial_utf8: Vec::new(),
            power_on: Instant::now(),
            boots: 0,
            boot_start: 0,
            fatal: Vec::new(),
            expected: Vec::new(),
            allowed: Vec::new(),
            input: None,
        };
        Ok(Self(Arc::new(Shared {
            name: name.to_owned(),
            log: log.to_owned(),
            fatal: RegexSet::new(FATAL)?,
            state: Mutex::new(state),
            news: Condvar::new(),
        })))
    }

    /// Takes the stream of a machine whose power just came on and starts to listen. The listener ends with the machine.
    pub(crate) fn attach(&self, stream: UnixStream) -> Result<()> {
        let mut reader = stream.try_clone()?;
        crate::lock(&self.0.state).power_on(stream);
        let console = self.clone();
        thread::Builder::new().name(format!("console-{}", self.0.name)).spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut chunk) {
                console.hear(&chunk[..n]);
            }
            let mut state = crate::lock(&console.0.state);
            state.hang_up();
            drop(state);
            console.0.news.notify_all();
        })?;
        Ok(())
    }

    fn hear(&self, bytes: &[u8]) {
        crate::lock(&self.0.state).hear(bytes, &self.0.fatal);
        self.0.news.notify_all();
    }

    /// Waits until all that a machine whose power has gone had printed is heard. It ends by itself, as the other end is closed.
    pub(crate) fn wait_hang_up(&self) {
        let mut state = crate::lock(&self.0.state);
        while state.input.is_some() {
            state = crate::wait_timeout(&self.0.news, state, Duration::from_secs(1));
        }
    }

    /// Declares that a fatal line matching `pattern` will come, or has come, and is what the test wants.
    ///
    /// # Errors
    /// `pattern` is no regular expression.
    pub fn expect(&self, pattern: &str) -> Result<()> {
        crate::lock(&self.0.state).expected.push(Regex::new(pattern)?);
        Ok(())
    }

    /// Declares that a fatal line matching `pattern` may come, or not, and that the test is not about it.
    ///
    /// # Errors
    /// `pattern` is no regular expression.
    pub fn allow(&self, pattern: &str) -> Result<()> {
        crate::lock(&self.0.state).allowed.push(Regex::new(pattern)?);
        Ok(())
    }

    /// Waits for `pattern` (`^` and `$` match at lines) in what was printed after the last match, and returns what matched. Like
    /// `expect`, a wait consumes: the next one looks behind the match.
    ///
    /// # Errors
    /// `pattern` did not come before the deadline, or the machine ended first, or a fatal line came that was not expected.
    /// The message has the last lines of the console.
    pub fn wait(&self, pattern: &str, deadline: Deadline) -> Result<String> {
        let regex = RegexBuilder::new(pattern).multi_line(true).build()?;
        let mut state = crate::lock(&self.0.state);
        loop {
            if let Some(found) = regex.find_at(&state.text, state.cursor) {
                let (text, end) = (found.as_str().to_owned(), found.end());
                state.cursor = end;
                return Ok(text);
            }
            let why = match (state.first_unexpected(), deadline.left(), &state.input) {
                (Some(fatal), _, _) => format!("the console says {fatal:?}"),
                (None, None, _) => format!("not within {:.1} s", deadline.allowed().as_secs_f64()),
                (None, _, None) => "the machine is off".to_owned(),
                (None, Some(left), Some(_)) => {
                    state = crate::wait_timeout(&self.0.news, state, left);
                    continue;
                }
            };
            bail!("waiting for {pattern:?} on the console of {}: {why}\n{}", self.0.name, state.last_lines(15));
        }
    }

    /// Types `text` as it is; a line wants its `\n`.
    ///
    /// # Errors
    /// The machine is off.
    pub fn type_text(&self, text: &str) -> Result<()> {
        let state = crate::lock(&self.0.state);
        let typing = || format!("typing on the console of {}", self.0.name);
        let mut input = state.input.as_ref().context("the machine is off").with_context(typing)?;
        input.write_all(text.as_bytes()).with_context(typing)
    }

    /// All that was printed since the power last came on, without escape sequences.
    pub fn text(&self) -> String {
        let state = crate::lock(&self.0.state);
        state.text[state.boot_start..].to_owned()
    }

    /// When, after the power last came on, the first line matching `pattern` was complete.
    ///
    /// # Errors
    /// `pattern` is no regular expression.
    pub fn time_of(&self, pattern: &str) -> Result<Option<Duration>> {
        let regex = Regex::new(pattern)?;
        let state = crate::lock(&self.0.state);
        let this_boot = state.lines.iter().filter(|line| line.start >= state.boot_start);
        let first =
            this_boot.map(|line| (line, &state.text[line.start..line.end])).find(|(_, text)| regex.is_match(text));
        Ok(first.map(|(line, _)| line.at))
    }

    /// Passes if no fatal line came that was not expected, in all power-ons so far.
    ///
    /// # Errors
    /// The lines with their times.
    pub fn verify_no_fatal(&self) -> Result<()> {
        let state = crate::lock(&self.0.state);
        let bad: Vec<_> = state.unexpected().map(|(at, line)| format!("  [{:9.3}] {line}", at.as_secs_f64())).collect();
        if !bad.is_empty() {
            bail!(
                "the console of {} says, unexpectedly (log: {}):\n{}",
                self.0.name,
                self.0.log.display(),
                bad.join("\n")
            );
        }
        Ok(())
    }

    /// As [`Console::verify_no_fatal`], and each fatal line that was expected must have come.
    ///
    /// # Errors
    /// The lines with their times, or the expectation that was not met.
    pub fn verify(&self) -> Result<()> {
        self.verify_no_fatal()?;
        let state = crate::lock(&self.0.state);
        for pattern in &state.expected {
            if !state.fatal_lines().any(|(_, line)| pattern.is_match(line)) {
                bail!("the console of {} never said what the test declared: {:?}", self.0.name, pattern.as_str());
            }
        }
        Ok(())
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.0.log
    }
}

impl State {
    fn power_on(&mut self, stream: UnixStream) {
        self.boots += 1;
        self.power_on = Instant::now();
        self.boot_start = self.text.len();
        (self.tail, self.cursor) = (self.boot_start, self.boot_start);
        self.escapes = Escapes::Text;
        self.input = Some(stream);
        writeln!(self.log, "--- power on, time {}", self.boots).ok();
    }

    fn hang_up(&mut self) {
        if self.tail < self.text.len() {
            self.text.push('\n');
            self.finish_line();
        }
        self.input = None;
        writeln!(self.log, "--- off").ok();
    }

    fn hear(&mut self, bytes: &[u8], fatal: &RegexSet) {
        let mut clean = std::mem::take(&mut self.partial_utf8);
        clean.extend(bytes.iter().filter(|byte| self.escapes.keeps(**byte)));
        let mut chunks = clean.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            for c in chunk.valid().chars() {
                self.text.push(c);
                if c == '\n' {
                    self.judge(fatal);
                    self.finish_line();
                }
            }
            if chunks.peek().is_none() {
                self.partial_utf8 = chunk.invalid().to_vec();
            } else {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        // A prompt ends without a line end.
        self.judge(fatal);
    }

    /// Notes the last line if it is fatal and not noted yet.
    fn judge(&mut self, fatal: &RegexSet) {
        let noted = self.fatal.last().is_some_and(|last| last.start == self.tail);
        if !noted && fatal.is_match(&self.text[self.tail..]) {
            self.fatal.push(Fatal { start: self.tail, at: self.power_on.elapsed() });
        }
    }

    fn finish_line(&mut self) {
        let (start, end) = (self.tail, self.text.len() - 1);
        let at = self.power_on.elapsed();
        // The log is for people; a test does not fail because it cannot be written.
        writeln!(self.log, "[{:9.3}] {}", at.as_secs_f64(), &self.text[start..end]).ok();
        self.lines.push(Line { start, end, at });
        self.tail = self.text.len();
    }

    fn fatal_lines(&self) -> impl Iterator<Item = (Duration, &str)> {
        self.fatal.iter().map(|fatal| (fatal.at, self.text[fatal.start..].lines().next().unwrap_or_default()))
    }

    fn unexpected(&self) -> impl Iterator<Item = (Duration, &str)> {
        let is_declared = |line: &str| self.expected.iter().chain(&self.allowed).any(|pattern| pattern.is_match(line));
        self.fatal_lines().filter(move |(_, line)| !is_declared(line))
    }

    fn first_unexpected(&self) -> Option<String> {
        self.unexpected().next().map(|(_, line)| line.to_owned())
    }

    fn last_lines(&self, count: usize) -> String {
        let lines: Vec<_> = self.text[self.boot_start..].lines().collect();
        lines[lines.len().saturating_sub(count)..]
            .iter()
            .map(|line| format!("  | {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// Where in a terminal escape sequence we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Text,
    Escape,
    /// `ESC [ … letter`
    Control,
    /// `ESC ( letter` and the like
    OneMore,
    /// `ESC ] … BEL`
    Title,
}

impl Escapes {
    /// Whether `byte` is text that stays; moves on.
    fn keeps(&mut self, byte: u8) -> bool {
        let (next, keep) = match (*self, byte) {
            (Self::Title, 0x07) => (Self::Text, false),
            (_, 0x1b) => (Self::Escape, false),
            (Self::Text, b'\n' | b'\t' | 0x20..=0x7e | 0x80..) => (Self::Text, true),
            (Self::Text, _) => (Self::Text, false),
            (Self::Escape, b'[') => (Self::Control, false),
            (Self::Escape, b']') => (Self::Title, false),
            (Self::Escape, b'(' | b')' | b'#') => (Self::OneMore, false),
            (Self::Escape | Self::OneMore, _) | (Self::Control, 0x40..=0x7e) => (Self::Text, false),
            (unfinished, _) => (unfinished, false),
        };
        *self = next;
        keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::secs;

    fn console(folder: &tempfile::TempDir) -> (Console, UnixStream) {
        let console = Console::new("box", &folder.path().join("box.log")).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        console.attach(ours).unwrap();
        (console, theirs)
    }

    #[test]
    fn waits_consume_and_colours_are_taken_off() {
        let folder = tempfile::tempdir().unwrap();
        let (console, mut guest) = console(&folder);
        guest.write_all(b"\x1b[0;32m  OK  \x1b[0m Reached a\r\n\x1b]0;title\x07a b").unwrap();
        assert_eq!(console.wait(r"^.*OK.*$", secs(5)).unwrap(), "  OK   Reached a");
        assert_eq!(console.wait("^a", secs(5)).unwrap(), "a");
        assert_eq!(console.wait("b", secs(5)).unwrap(), "b");
        let again = console.wait("b", Deadline::exact(Duration::from_millis(50))).unwrap_err().to_string();
        assert!(again.contains("not within"), "{again}");
    }

    #[test]
    fn a_fatal_prompt_is_noticed_before_its_line_ends_and_ends_a_wait() {
        let folder = tempfile::tempdir().unwrap();
        let (console, mut guest) = console(&folder);
        guest.write_all(b"fine\n(initramfs) ").unwrap();
        let error = console.wait("login:", secs(5)).unwrap_err().to_string();
        assert!(error.contains("(initramfs)"), "{error}");
        assert!(console.verify().unwrap_err().to_string().contains("(initramfs)"));
        console.expect("initramfs").unwrap();
        console.verify().unwrap();
    }

    #[test]
    fn an_expectation_that_is_not_met_fails() {
        let folder = tempfile::tempdir().unwrap();
        let (console, _guest) = console(&folder);
        console.expect("Kernel panic").unwrap();
        assert!(console.verify().unwrap_err().to_string().contains("never said"));
    }

    #[test]
    fn a_letter_split_between_two_reads_is_one_letter() {
        let folder = tempfile::tempdir().unwrap();
        let (console, _guest) = console(&folder);
        console.hear(&"é…".as_bytes()[..3]);
        console.hear(&"é…".as_bytes()[3..]);
        console.hear(b"\xff\xffbad\n");
        assert_eq!(console.wait("^.*bad$", secs(5)).unwrap(), "é…\u{fffd}\u{fffd}bad");
    }

    #[test]
    fn the_log_has_each_line_with_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let (console, mut guest) = console(&folder);
        guest.write_all(b"first\nlast").unwrap();
        drop(guest);
        let off = console.wait("never", secs(5)).unwrap_err().to_string();
        assert!(off.contains("the machine is off") && off.contains("| last"), "{off}");
        let log = std::fs::read_to_string(console.log()).unwrap();
        assert!(Regex::new(r"(?m)^\[ +0\.\d{3}\] first$").unwrap().is_match(&log), "{log}");
        assert!(Regex::new(r"(?m)^\[ +0\.\d{3}\] last$").unwrap().is_match(&log), "{log}");
        assert!(console.time_of("first").unwrap().is_some());
        assert!(console.time_of("second").unwrap().is_none());
    }
}

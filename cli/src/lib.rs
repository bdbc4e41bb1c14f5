//! The frame of every ATLAS program: how it is called, how it answers, how it fails.
//!
//! `main` of a program is three steps: parse, run, and [`finish`], which maps the result to an exit code and, where it failed,
//! tells the person what was being done, to what, why it failed, and what to try.
//!
//! ```no_run
//! #[derive(clap::Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     common: atlas_cli::Common,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     let args: Args = atlas_cli::parse();
//!     atlas_cli::finish("demo", args.common.json, run(&args))
//! }
//! # fn run(_: &Args) -> anyhow::Result<atlas_cli::Exit> { Ok(atlas_cli::Exit::Done) }
//! ```

pub mod log;
pub mod notice;
pub mod table;
pub mod version;

use std::{
    fmt,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

pub use table::Table;

/// For the programs that are built for musl: they begin in less time than its allocator takes for its many small mappings.
#[cfg(target_env = "musl")]
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Every exit code that an ATLAS program ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or nothing had to be done.
    Done,
    /// 1: it failed; standard error says why.
    Failed,
    /// 2: it was called wrongly; nothing was tried.
    Usage,
    /// 3: it did its work, and the answer is no (a check that found something, a server that would not boot into its role).
    No,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::No => 3,
        })
    }
}

/// The options that every program has.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Work on the tree below DIR as if it were the server's root directory
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    pub root: PathBuf,
    /// Answer with JSON (it carries a "format" number) instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// Parses the command line; help and usage errors end the program here, with 0 and 2.
pub fn parse<A: clap::Parser>() -> A {
    A::parse()
}

/// An error with a hint: what the person can try. Add one with [`Hint::hint`].
#[derive(Debug)]
struct Hinted {
    source: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The error itself, not its cause: it may carry a hint of its own. Telling skips a text that repeats.
        self.source.chain().next()
    }
}

/// Adds hints to results.
pub trait Hint<T> {
    /// Says what to try when this failed. It is shown below the causes.
    fn hint(self, what_to_try: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Hint<T> for Result<T, E> {
    fn hint(self, what_to_try: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| anyhow::Error::new(Hinted { source: error.into(), hint: what_to_try.into() }))
    }
}

/// An error as people (and, with `--json`, programs) are told it.
#[derive(serde::Serialize)]
struct Told {
    format: u32,
    error: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Told {
    fn of(error: &anyhow::Error) -> Told {
        let mut texts: Vec<String> = Vec::new();
        let mut hints = Vec::new();
        for cause in error.chain() {
            if let Some(hinted) = cause.downcast_ref::<Hinted>() {
                hints.push(hinted.hint.clone());
            }
            let text = tame(&cause.to_string());
            if texts.last() != Some(&text) {
                texts.push(text);
            }
        }
        let mut texts = texts.into_iter();
        Told { format: 1, error: texts.next().unwrap_or_default(), causes: texts.collect(), hints }
    }

    fn print(&self, program: &str, json: bool) {
        let mut err = std::io::stderr().lock();
        // A closed standard error leaves nobody to tell; the exit code still says it.
        let _ = if json {
            serde_json::to_writer(&mut err, self).map_err(std::io::Error::from).and_then(|()| writeln!(err))
        } else {
            let red = Style::for_stream(&err).red("error:");
            writeln!(err, "{program}: {red} {}", self.error)
                .and_then(|()| self.causes.iter().try_for_each(|cause| writeln!(err, "  because: {cause}")))
                .and_then(|()| self.hints.iter().try_for_each(|hint| writeln!(err, "  try: {hint}")))
        };
    }
}

/// What a program, a disk or a partner said may be in a text: it is told, and moves no cursor.
pub fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// An error and its causes in one line, each said once: for a report or a log.
pub fn in_one_line(error: &anyhow::Error) -> String {
    let told = Told::of(error);
    std::iter::once(told.error).chain(told.causes).collect::<Vec<_>>().join(": ")
}

/// Ends a program: prints the error, if there is one, and gives the exit code.
pub fn finish(program: &str, json: bool, result: anyhow::Result<Exit>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        // The reader of a pipe that has seen enough is no failure.
        Err(error) if is_closed_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            Told::of(&error).print(program, json);
            Exit::Failed.into()
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind =
        |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    error.chain().any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

/// Prints a value as JSON on one line, as `--json` promises.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    Ok(writeln!(out)?)
}

/// Prints text for people on standard output.
pub fn print(text: impl fmt::Display) -> anyhow::Result<()> {
    let text = text.to_string();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    Ok(write!(std::io::stdout().lock(), "{text}{end}")?)
}

/// Colours, where there is somebody to see them.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// Colour on a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    pub fn for_stream(stream: &impl IsTerminal) -> Style {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Style { colour: wanted && able && stream.is_terminal() }
    }

    /// For standard output.
    pub fn stdout() -> Style {
        Style::for_stream(&std::io::stdout())
    }

    /// Whether there is somebody to see colours.
    pub fn has_colour(self) -> bool {
        self.colour
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What is wrong.
    pub fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// What is well.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What deserves a look.
    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// What should stand out.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_tells_what_why_and_what_to_try_each_once() {
        let io = std::io::Error::other("disk is full");
        let error =
            Err::<(), _>(io).context("write /etc/hostname").hint("free some space").context("install the identity");
        let told = Told::of(&error.unwrap_err());
        assert_eq!(told.error, "install the identity");
        assert_eq!(told.causes, ["write /etc/hostname", "disk is full"]);
        assert_eq!(told.hints, ["free some space"]);
    }

    #[test]
    fn an_error_moves_no_cursor() {
        let told = Told::of(&anyhow::anyhow!("nginx: \u{1b}[2J\rgood\n\tline 2"));
        assert_eq!(told.error, "nginx: \u{fffd}[2J\u{fffd}good\n\tline 2");
    }

    #[test]
    fn a_hint_on_a_hint_keeps_both() {
        let error = Err::<(), _>(anyhow::anyhow!("no")).hint("first this").hint("then that").unwrap_err();
        let told = Told::of(&error);
        assert_eq!((told.error.as_str(), told.causes.len()), ("no", 0));
        assert_eq!(told.hints, ["then that", "first this"]);
    }

    #[test]
    fn a_closed_pipe_is_not_a_failure() {
        let error = anyhow::Error::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("print the list");
        assert!(is_closed_pipe(&error));
        assert!(!is_closed_pipe(&anyhow::anyhow!("something else")));
    }

    #[test]
    fn nothing_is_coloured_where_no_terminal_is() {
        let no_terminal = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Style::for_stream(&no_terminal).red("x"), "x");
    }
}

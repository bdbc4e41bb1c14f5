//! Man pages, completions and the CLI reference, from the programs' own definitions.
//!
//! ```text
//! docs/man/NAME.1, NAME-SUBCOMMAND.1     for man
//! docs/completions/bash/NAME             for bash
//! docs/cli.md                            for reading here
//! docs/operating.md                      the table of refusals, between its markers
//! ```
//!
//! Apart from xtask, because it links every program and with them libraries that `cargo xtask setup` has to install.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use atlas_model::refusal::renew_manual;
use clap::{Command, Parser};
use clap_complete::Shell;

/// The directories and files that hold nothing but what is generated.
const GENERATED: [&str; 3] = ["docs/man", "docs/completions", "docs/cli.md"];
/// Written by hand but for its table of refusals.
const MANUAL: &str = "docs/operating.md";

/// The definitions of all programs, in the order of the reference.
fn programs() -> Vec<Command> {
    vec![
        atlas_console::command(),
        atlas_boot::args::command(),
        atlas_synchronizer::command(),
        atlas_synchronizer::ctrl::command(),
        atlas_synchronizer::looped::command(),
        atlas_synchronizer::history::command(),
        atlas_converters::command(),
        atlas_verifier::control::command(),
        atlas_verifier::show::command(),
        atlas_verifier::plugin::command(),
        atlas_module::command(),
        atlas_runner::run::command(),
        atlas_runner::start::command(),
        atlas_corehandler::command(),
    ]
}

/// Write man pages, completions and the CLI reference.
#[derive(Parser)]
struct Arguments {
    /// Write nothing; fail and name what is stale.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("/"));
    match generate(repository, &programs(), arguments.check) {
        Ok(stale) if arguments.check && !stale.is_empty() => {
            let list: Vec<_> = stale.iter().map(|path| path.display().to_string()).collect();
            eprintln!("error: stale, `cargo xtask generate` renews them:\n  {}", list.join("\n  "));
            ExitCode::from(1)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}

/// Returns what was stale: differed, was missing, or belongs to no program any more. Without `check` it no longer is.
fn generate(repository: &Path, programs: &[Command], check: bool) -> Result<Vec<PathBuf>> {
    let mut files = rendered(programs)?;
    files.extend(manual(repository)?);
    let mut there = Vec::new();
    GENERATED.iter().try_for_each(|path| list(&repository.join(path), &mut there))?;
    let mut stale = Vec::new();
    for path in there {
        let path = path.strip_prefix(repository)?.to_path_buf();
        if !files.contains_key(&path) {
            stale.push(path);
        }
    }
    if !check {
        stale.iter().try_for_each(|path| fs::remove_file(repository.join(path)))?;
    }
    for (path, content) in &files {
        let place = repository.join(path);
        if fs::read(&place).is_ok_and(|there| there == *content) {
            continue;
        }
        stale.push(path.clone());
        if !check {
            fs::create_dir_all(place.parent().context("a file without a directory")?)?;
            fs::write(&place, content).with_context(|| format!("cannot write {}", place.display()))?;
        }
    }
    Ok(stale)
}

/// The manual, with the table of refusals renewed; nothing where there is no manual.
fn manual(repository: &Path) -> Result<Option<(PathBuf, Vec<u8>)>> {
    let place = repository.join(MANUAL);
    if !place.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&place).with_context(|| format!("cannot read {}", place.display()))?;
    let renewed =
        renew_manual(&text).with_context(|| format!("{MANUAL} has lost the markers of its table of refusals"))?;
    Ok(Some((MANUAL.into(), renewed.into_bytes())))
}

/// Every file below a directory, or the file itself; nothing where there is nothing.
fn list(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        found.push(path.to_path_buf());
    } else if path.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
            list(&entry?.path(), found)?;
        }
    }
    Ok(())
}

fn rendered(programs: &[Command]) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    if programs.is_empty() {
        return Ok(files);
    }
    let mut reference =
        String::from("# The programs and their options\n\nWritten by `cargo xtask generate`; do not edit.\n");
    for program in programs {
        let mut completed = shown(program).disable_help_subcommand(true);
        let mut program = program.clone().disable_help_subcommand(true).term_width(100);
        program.build();
        let name = program.get_name().to_owned();
        pages(&program, &name, &mut files, &mut reference)?;
        let mut completion = Vec::new();
        clap_complete::generate(Shell::Bash, &mut completed, &name, &mut completion);
        files.insert(PathBuf::from(format!("docs/completions/bash/{name}")), completion);
    }
    files.insert(PathBuf::from("docs/cli.md"), reference.into_bytes());
    Ok(files)
}

/// A program as its completion offers it: without what it keeps to itself, which is only called by other programs of ATLAS.
fn shown(program: &Command) -> Command {
    // Names that live as long as this program: clap takes no others.
    let bare = Command::new(&*program.get_name().to_owned().leak());
    let bare = if program.get_version().is_some() { bare.version("any") } else { bare };
    let arguments = program.get_arguments().filter(|argument| !argument.is_hide_set());
    let below = program.get_subcommands().filter(|below| !below.is_hide_set());
    bare.args(arguments.cloned()).subcommands(below.map(shown))
}

/// The man page and the section in the reference of a program or subcommand called `name`, and of those below it.
fn pages(program: &Command, name: &str, files: &mut BTreeMap<PathBuf, Vec<u8>>, reference: &mut String) -> Result<()> {
    let page = name.replace(' ', "-");
    let mut man = Vec::new();
    clap_mangen::Man::new(program.clone()).render(&mut man)?;
    files.insert(PathBuf::from(format!("docs/man/{page}.1")), man);

    let help = program.clone().bin_name(name).render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    *reference += &format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    let shown = program.get_subcommands().filter(|below| !below.is_hide_set());
    shown.into_iter().try_for_each(|below| pages(below, &format!("{name} {}", below.get_name()), files, reference))
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn sample() -> Command {
        let check = Arg::new("check").long("check").help("Only look").action(clap::ArgAction::SetTrue);
        Command::new("sample").about("Does things").subcommand(Command::new("init").about("Starts").arg(check))
    }

    #[test]
    fn every_program_and_subcommand_gets_its_page_and_its_section() {
        let files = rendered(&[sample()]).unwrap();
        let names: Vec<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
        let expected = ["docs/cli.md", "docs/completions/bash/sample", "docs/man/sample-init.1", "docs/man/sample.1"];
        assert_eq!(names, expected);
        let reference = String::from_utf8(files[Path::new("docs/cli.md")].clone()).unwrap();
        assert!(reference.contains("## sample init\n") && reference.contains("--check"), "{reference}");
        assert!(reference.contains("Usage: sample init"), "{reference}");
    }

    #[test]
    fn what_is_hidden_is_not_offered() {
        let hidden = Arg::new("worker").long("worker").hide(true).action(clap::ArgAction::SetTrue);
        let program = sample().arg(hidden).subcommand(Command::new("inside").hide(true));
        let files = rendered(&[program]).unwrap();
        let completion = String::from_utf8(files[Path::new("docs/completions/bash/sample")].clone()).unwrap();
        assert!(completion.contains("init") && completion.contains("--check"), "{completion}");
        assert!(!completion.contains("inside") && !completion.contains("--worker"), "{completion}");
    }

    #[test]
    fn what_changed_is_stale_until_it_is_generated_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(generate(folder.path(), &[sample()], false).unwrap().len(), 4);
        assert!(generate(folder.path(), &[sample()], true).unwrap().is_empty());
        let changed = sample().about("Does other things");
        let stale = generate(folder.path(), std::slice::from_ref(&changed), true).unwrap();
        assert!(stale.contains(&PathBuf::from("docs/man/sample.1")), "{stale:?}");
        assert!(!generate(folder.path(), std::slice::from_ref(&changed), false).unwrap().is_empty());
        assert!(generate(folder.path(), &[changed], true).unwrap().is_empty());
    }

    #[test]
    fn the_table_of_refusals_is_renewed_and_the_text_around_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(MANUAL);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "before\n<!-- refusals: generated -->\nold\n<!-- end of refusals -->\nafter\n").unwrap();
        assert!(generate(folder.path(), &[sample()], true).unwrap().contains(&PathBuf::from(MANUAL)));
        generate(folder.path(), &[sample()], false).unwrap();
        let text = fs::read_to_string(&place).unwrap();
        assert!(
            text.starts_with("before\n") && text.ends_with("after\n") && text.contains("| `lost-mirror` |"),
            "{text}"
        );
        assert!(generate(folder.path(), &[sample()], true).unwrap().is_empty());
        fs::write(&place, "no markers").unwrap();
        assert!(generate(folder.path(), &[sample()], false).is_err());
    }

    #[test]
    fn the_page_of_a_program_that_is_gone_is_stale_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path(), &[sample(), Command::new("gone").about("Was")], false).unwrap();
        let page = folder.path().join("docs/man/gone.1");
        assert!(page.exists());
        assert!(generate(folder.path(), &[sample()], true).unwrap().contains(&PathBuf::from("docs/man/gone.1")));
        generate(folder.path(), &[sample()], false).unwrap();
        assert!(!page.exists());
    }
}

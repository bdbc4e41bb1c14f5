//! `signature`: of one core, with the reasons.

use crate::{
    clean::{Fate, Rules},
    core_file::Core,
    signature::Signature,
    space::Search,
    traceback::{Detail, Traceback},
};
use anyhow::Result;
use atlas_cli::{Common, Exit, Hint, Table, print, print_json};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct Signing {
    /// The core file; it may be packed by zstd, lz4, xz or gzip, or lie in a report by apport
    core: PathBuf,
    /// The program that it is of, where it lies elsewhere now
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Look for separate debug files here, too (DIR/.build-id/xx/….debug)
    #[arg(long, value_name = "DIR")]
    debug_dir: Vec<PathBuf>,
    /// Do not tell functions that the compiler copied into others
    #[arg(long)]
    no_inlines: bool,
    /// Show the raw and the cleaned traceback, and the rule that changed or dropped each frame
    #[arg(long)]
    explain: bool,
}

pub(super) fn sign(common: &Common, signing: &Signing) -> Result<Exit> {
    let core = Core::open(&signing.core).hint("is it a core file of an x86-64 program? `file` tells")?;
    let missing = core.missing_bytes;
    let search =
        Search { root: common.root.clone(), program: signing.program.clone(), debug_dirs: signing.debug_dir.clone() };
    let detail = match (signing.no_inlines, signing.explain || common.json) {
        (true, _) => Detail::Functions,
        (false, true) => Detail::Lines,
        (false, false) => Detail::Inlines,
    };
    let traceback = Traceback::of(core, &search, detail);
    let signature = Signature::of(&traceback, &Rules::built_in()?);
    if common.json {
        return print_json(&serde_json::json!({
            "format": 1, "signature": signature.id, "also": signature.plain_id, "strength": signature.strength,
            "rules": signature.rules, "program": traceback.program, "build_id": traceback.program_build_id,
            "signal": traceback.signal.number, "depth": traceback.depth, "cleaned": signature.cleaned.frames,
            "weaknesses": signature.cleaned.weaknesses, "missing_bytes": missing, "log": traceback.log,
            "raw": frames_json(&traceback, &signature),
        }))
        .map(|()| Exit::Done);
    }
    if signing.explain {
        explain(&traceback, &signature)?;
    }
    print(format!("{} {}", signature.id, signature.strength.name()))?;
    if let Some(plain) = &signature.plain_id {
        print(format!("  {plain} where no debug information is installed"))?;
    }
    for weakness in &signature.cleaned.weaknesses {
        print(format!("  weak: {weakness}"))?;
    }
    if missing > 0 {
        print(format!("  the core was cut off: {missing} bytes are missing"))?;
    }
    Ok(Exit::Done)
}

/// The raw frames for programs, the middle of a deep traceback left out.
fn frames_json(traceback: &Traceback, signature: &Signature) -> Vec<serde_json::Value> {
    let total = signature.cleaned.explained.len();
    let explained = signature.cleaned.explained.iter().enumerate();
    let shown = explained.filter(|(at, _)| *at < SHOWN || *at + SHOWN >= total);
    shown
        .filter_map(|(at, line)| {
            let frame = traceback.frames.get(line.raw)?;
            Some(serde_json::json!({
                "frame": at, "trust": frame.trust, "function": frame.place.shown(), "symbol": frame.place.symbol,
                "module": frame.place.module, "offset": frame.place.offset, "source": frame.place.source,
                "fate": fate(&line.fate), "rules": line.rules.iter().map(|rule| rule.to_string()).collect::<Vec<_>>(),
            }))
        })
        .collect()
}

/// How many frames are shown from each end of a deep traceback.
const SHOWN: usize = 40;

fn fate(fate: &Fate) -> String {
    match fate {
        Fate::Kept(name) => name.to_string(),
        Fate::Joined(name) => format!("= {name}"),
        Fate::Dropped => "-".into(),
        Fate::Repeated => "… again".into(),
    }
}

fn explain(traceback: &Traceback, signature: &Signature) -> Result<()> {
    let mut table = Table::new(["#", "FOUND BY", "RAW", "CLEANED", "RULES"]);
    let total = signature.cleaned.explained.len();
    for (at, line) in signature.cleaned.explained.iter().enumerate() {
        if at >= SHOWN && at + SHOWN < total {
            if at == SHOWN {
                table.row(["…".to_owned(), String::new(), format!("{} more", total - 2 * SHOWN)]);
            }
            continue;
        }
        let Some(frame) = traceback.frames.get(line.raw) else { continue };
        let rules: Vec<&str> = line.rules.iter().map(|rule| &**rule).collect();
        let raw: String = frame.place.shown().chars().take(70).collect();
        table.row([at.to_string(), frame.trust.name().to_owned(), raw, fate(&line.fate), rules.join(" ")]);
    }
    print(&table)?;
    if let Some(message) = &traceback.abort_message {
        print(format!("The C library said: {message}"))?;
    }
    print(format!("\nThe signature is the SHA-256 of (rules {}):\n{}", signature.rules, signature.text))
}

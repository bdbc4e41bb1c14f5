//! The contract of a VerifyService, as a program to begin with and as a test of one that is there.

use crate::{
    catalogue::Plugin,
    check::{Check, read_json},
};
use atlas_cli::{Exit, Style, in_one_line, print, print_json};
use atlas_host::process::Command;
use atlas_model::verify::{Instance, is_test_data};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// A VerifyService to begin with.
pub const TEMPLATE: &str = include_str!("template.sh");

/// One rule, and how the program keeps it.
#[derive(Debug, serde::Serialize)]
struct Rule {
    rule: &'static str,
    /// Why not; `None` where it does.
    broken: Option<String>,
}

/// Tries a program by the rules, and tells.
pub(crate) fn check(program: &Path, host: &str, json: bool) -> anyhow::Result<Exit> {
    let rules = try_all(program, host);
    if json {
        print_json(&serde_json::json!({ "format": 1, "rules": rules }))?;
    } else {
        let style = Style::stdout();
        for rule in &rules {
            match &rule.broken {
                None => print(format!("{}  {}", style.green("kept  "), rule.rule))?,
                Some(why) => print(format!("{}  {}\n        {why}", style.red("broken"), rule.rule))?,
            }
        }
    }
    Ok(if rules.iter().all(|rule| rule.broken.is_none()) { Exit::Done } else { Exit::No })
}

fn try_all(program: &Path, host: &str) -> Vec<Rule> {
    let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let plugin = Plugin { name: "plugin".into(), program: program.clone(), first: vec![], interval: 60, deadline: 10 };
    let found = plugin.setup(Path::new("/"));
    let rule = |rule, broken: Option<String>| Rule { rule, broken };
    let mut rules = vec![rule(
        "'setup' answers with JSON of what it found, and exits with 0",
        found.as_ref().err().map(in_one_line),
    )];
    let found = found.unwrap_or_default();
    let bad =
        found.place.iter().find(|data| !atlas_model::TreePath::parse(&data.path).is_ok_and(|path| is_test_data(&path)));
    rules.push(rule(
        "test data is named .atlas-verify…, or lies in a directory of such a name",
        bad.map(|data| data.path.clone()),
    ));
    let again = plugin.setup(Path::new("/")).unwrap_or_default();
    rules.push(rule(
        "'setup' finds the same twice",
        (again != found).then(|| "the second time it found something else".into()),
    ));
    let instances = if found.instances.is_empty() { vec![Instance::default()] } else { found.instances };
    for instance in instances.iter().take(5) {
        rules.extend(try_verify(&program, host, instance));
    }
    rules
}

/// The rules of `verify`, for one instance, at a host that is there and at one that is not.
fn try_verify(program: &Path, host: &str, instance: &Instance) -> Vec<Rule> {
    let run = |host: &str, json: bool, deadline: u64| {
        let args = Check::verify_args(host, None, &instance.name, &instance.options, deadline);
        let args: Vec<String> = args.into_iter().filter(|arg| json || arg != "--json").collect();
        let start = Instant::now();
        let output = Command::new(program).args(args).deadline(Duration::from_secs(deadline + 5)).output();
        (output.map_err(|error| in_one_line(&error.into())), start.elapsed())
    };
    let answer = |host: &str| {
        let (output, took) = run(host, true, 3);
        let broken = output.and_then(|output| read_json(&output).map(drop)).err();
        broken.or((took > Duration::from_secs(3)).then(|| format!("it took {:.1} s of 3", took.as_secs_f64())))
    };
    let (line, _) = run(host, false, 3);
    let line = line.map(|output| (output.text(), output.status.code()));
    let nagios = match line {
        Err(why) => Some(why),
        Ok((text, _)) if text.trim().is_empty() => Some("it says nothing".into()),
        Ok((_, Some(0..=3))) => None,
        Ok((_, code)) => Some(format!("its exit code is {code:?}, not 0 to 3")),
    };
    vec![
        Rule {
            rule: "'verify --json' answers with a Profile, and its exit code is the verdict's",
            broken: answer(host),
        },
        // An address that is set aside for documentation: nobody answers there.
        Rule { rule: "where nobody answers, it answers within --deadline all the same", broken: answer("192.0.2.1") },
        Rule { rule: "without --json it is a Nagios plugin: a line, and an exit code from 0 to 3", broken: nagios },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(script: &str) -> Vec<Rule> {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("plugin");
        atlas_host::testing::write_program(&path, script);
        try_all(&path, "127.0.0.1")
    }

    #[test]
    fn the_template_keeps_the_contract() {
        let broken: Vec<_> = tried(TEMPLATE).into_iter().filter(|rule| rule.broken.is_some()).collect();
        assert!(broken.is_empty(), "{broken:?}");
    }

    #[test]
    fn one_that_hangs_or_lies_is_found_out() {
        let hangs = TEMPLATE.replace("verify)", "verify) sleep 20;;\nnever)");
        assert_ne!(hangs, TEMPLATE);
        assert!(tried(&hangs).iter().filter(|rule| rule.broken.is_some()).count() >= 2);
        let lies = "#!/bin/sh\n[ $1 = setup ] && echo '{\"format\":1,\"instances\":[]}' && exit 0\necho '{\"format\":1,\"verdict\":\"ok\",\"summary\":\"x\"}'; exit 2\n";
        assert!(tried(lies).iter().any(|rule| rule.broken.as_ref().is_some_and(|why| why.contains("exit code"))));
    }
}

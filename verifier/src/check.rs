//! One check: a VerifyService run to its end, or ended at its deadline, and what its answer means.

use atlas_host::process::{Command, Output, ProcessError};
use atlas_model::{
    Role,
    tree_path::is_hidden,
    verify::{Fault, MAX_ITEMS, MAX_PROFILE, Measure, Profile, Verdict, Worse},
};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// What is run, about whom, and how often. Two that are equal are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// On which server; `None` for an outsider.
    pub about: Option<Role>,
    /// The service.
    pub service: String,
    /// Which instance of it.
    pub instance: String,
    /// Within which what is wrong is told, in seconds.
    pub interval: u64,
    /// How long it may take, in seconds.
    pub deadline: u64,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// How its answer is read.
    pub speaks: Speaks,
}

/// How a program answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// A Profile as JSON.
    Json,
    /// A line and an exit code.
    Nagios,
}

impl Check {
    /// The arguments of `verify`, as every VerifyService takes them.
    pub fn verify_args(
        host: &str,
        role: Option<Role>,
        instance: &str,
        options: &BTreeMap<String, String>,
        deadline: u64,
    ) -> Vec<String> {
        let mut args = vec!["verify".to_owned(), "--json".into(), "--host".into(), host.into()];
        if let Some(role) = role {
            args.extend(["--role".into(), role.to_string()]);
        }
        if !instance.is_empty() {
            args.push(format!("--instance={instance}"));
        }
        args.extend(options.iter().map(|(key, value)| format!("--set={key}={value}")));
        args.push(format!("--deadline={deadline}"));
        args
    }

    /// How long after one the next begins: what breaks just after a check has begun, and then does not answer at all, is told when the next
    /// has waited for as long as it may; both together are the interval. A check that may take longer than half of that begins twice in it.
    pub fn period(&self) -> Duration {
        Duration::from_secs(self.interval)
            - Duration::from_secs(self.deadline).min(Duration::from_secs(self.interval) / 2)
    }

    /// Runs it. Whatever happens, there is an answer, soon after the deadline at the latest.
    pub fn run(&self) -> Profile {
        let command = Command::new(&self.program).args(&self.args).deadline(Duration::from_secs(self.deadline));
        // Numbers and words of this server's language are read by nobody here.
        match command.env("LC_ALL", "C.UTF-8").env("LANGUAGE", "").output() {
            Ok(output) => self.speaks.read(&output),
            Err(error @ ProcessError::Deadline { .. }) => {
                Profile::unacceptable(format!("it could not be verified within {} s", self.deadline))
                    .hint(format!("by hand: {error}"))
            }
            Err(error) => {
                Profile::unknown(format!("the VerifyService cannot be run: {}", atlas_cli::in_one_line(&error.into())))
                    .hint(format!("is {} there, and executable?", self.program.display()))
            }
        }
    }
}

impl Speaks {
    /// What an answer means; whatever it is, terminals can show the Profile.
    pub fn read(self, output: &Output) -> Profile {
        match self {
            Speaks::Json => from_json(output),
            Speaks::Nagios => from_nagios(output),
        }
    }
}

/// A Profile that keeps the contract, or one that says what breaks it.
fn from_json(output: &Output) -> Profile {
    match read_json(output) {
        Ok(profile) => profile,
        Err(why) => Profile::unknown(tidy(&format!(
            "the VerifyService breaks its contract: {why} ({}: {})",
            output.status,
            output.complaint()
        )))
        .hint("VerifierControl check PROGRAM shows what it has to do"),
    }
}

/// Reads the Profile of a VerifyService.
///
/// # Errors
/// The rule that is broken.
pub fn read_json(output: &Output) -> Result<Profile, String> {
    if output.stdout.len() > MAX_PROFILE {
        return Err(format!("its answer has more than {MAX_PROFILE} bytes"));
    }
    let profile: Profile =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("its answer is no Profile, {error}"))?;
    if profile.format != 1 {
        return Err(format!("its Profile is of format {}; this program reads format 1", profile.format));
    }
    if profile.measures.len() > MAX_ITEMS {
        return Err(format!("it has more than {MAX_ITEMS} measures"));
    }
    let worst = profile.measures.iter().fold(Verdict::Ok, |worst, measure| worst.or(measure.verdict()));
    if profile.verdict == Verdict::Ok && worst != Verdict::Ok {
        return Err("its verdict is ok though a measure is beyond its limit".into());
    }
    if output.status.code() != Some(profile.verdict.exit_code().into()) {
        return Err(format!("its verdict is {} and its exit code is {}", profile.verdict, output.status));
    }
    if tidy(&profile.summary).is_empty() {
        return Err("its summary is empty".into());
    }
    let measures = profile.measures.into_iter().map(tidy_measure).collect();
    let lacks = profile.lacks.iter().take(MAX_ITEMS).map(|service| tidy(service)).collect();
    let faults = profile.faults.iter().take(MAX_ITEMS).map(tidy_fault).collect();
    let (summary, hint) = (tidy(&profile.summary), profile.hint.as_deref().map(tidy));
    Ok(Profile { summary, hint, measures, lacks, faults, ..profile })
}

/// What is shown on terminals shows all its characters, and has an end.
pub(crate) fn tidy(text: &str) -> String {
    let shown: String = text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).take(2000).collect();
    shown.trim().to_owned()
}

fn tidy_fault(fault: &Fault) -> Fault {
    let of = fault.of.iter().take(MAX_ITEMS).map(|name| tidy(name)).collect();
    let (what, hint) = (tidy(&fault.what), fault.hint.as_deref().map(tidy));
    Fault { verdict: fault.verdict, what, hint, kind: tidy(&fault.kind), of }
}

fn tidy_measure(mut measure: Measure) -> Measure {
    let short = |text: &str, longest| text.chars().filter(|c| !is_hidden(*c)).take(longest).collect();
    (measure.name, measure.unit) = (short(&measure.name, 100), short(&measure.unit, 10));
    measure
}

/// What a Nagios plugin says: the first line's text, and performance data after `|`, there and at the end.
fn from_nagios(output: &Output) -> Profile {
    let text = output.text();
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (summary, numbers) = first.split_once('|').unwrap_or((first, ""));
    // Longer text may follow, and behind another `|` more numbers, in as many lines as there are.
    let more = rest.split_once('|').map_or("", |(_, more)| more);
    let mut verdict = Verdict::from_exit_code(output.status.code());
    let mut summary = tidy(summary);
    if summary.is_empty() {
        (verdict, summary) =
            (Verdict::Unknown, format!("the plugin says nothing ({}): {}", output.status, tidy(&output.complaint())));
    }
    let words = [words(numbers), words(more)].concat();
    let measures = words.iter().take(MAX_ITEMS).filter_map(|word| performance(word)).collect();
    Profile { measures, ..Profile::new(verdict, summary) }
}

/// Splits performance data at blanks that are not in quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in text.chars().take(MAX_PROFILE) {
        match c {
            '\'' => quoted = !quoted,
            ' ' | '\n' if !quoted => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `label=value[unit];[warn];[crit];[min];[max]`. The plugin judged already: a limit is kept only where it is a plain one.
fn performance(word: &str) -> Option<Measure> {
    let (name, rest) = word.rsplit_once('=')?;
    let mut fields = rest.split(';');
    let value = fields.next()?;
    let end = number_end(value);
    // JSON, in which this is kept and told, has no number that is infinite or none.
    let number = |text: &str| text.replace(',', ".").parse().ok().filter(|number: &f64| number.is_finite());
    // A number that goes on after what is understood of it is another one.
    if value[end..].starts_with(|c: char| c.is_ascii_digit() || ",.+-".contains(c)) {
        return None;
    }
    let mut limits = fields.map(number);
    Some(tidy_measure(Measure {
        name: name.into(),
        value: number(&value[..end])?,
        unit: value[end..].into(),
        slow: limits.next().flatten(),
        unacceptable: limits.next().flatten(),
        worse: Worse::Higher,
    }))
}

/// Where the number at the beginning ends: `-12.5`, `1e-05`, and `0,25`, as plugins print it that mind the locale. An `e` without digits
/// behind it belongs to the unit.
fn number_end(text: &str) -> usize {
    let digits = |from: usize| text[from..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |end| from + end);
    let mut end = digits(usize::from(text.starts_with(['+', '-'])));
    if text[end..].starts_with(['.', ',']) {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn check(script: &str, speaks: Speaks, deadline: u64) -> Check {
        Check {
            about: None,
            service: "x".into(),
            instance: String::new(),
            interval: 60,
            deadline,
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            speaks,
        }
    }

    fn sh(script: &str, speaks: Speaks, deadline: u64) -> Profile {
        check(script, speaks, deadline).run()
    }

    #[test]
    fn a_profile_that_keeps_the_contract_is_taken_as_it_is() {
        let profile = sh(r#"echo '{"format":1,"verdict":"slow","summary":"so\u001bso"}'; exit 1"#, Speaks::Json, 5);
        assert_eq!((profile.verdict, profile.summary.as_str()), (Verdict::Slow, "so so"));
    }

    #[test]
    fn what_breaks_the_contract_is_unknown_and_says_why() {
        for (script, what) in [
            (r#"echo '{"format":1,"verdict":"ok","summary":"fine"}'; exit 2"#, "exit code"),
            (r#"echo '{"format":2,"verdict":"ok","summary":"fine"}'"#, "format 2"),
            (r#"echo '{"format":1,"verdict":"ok","summary":" "}'"#, "empty"),
            ("echo hello", "no Profile"),
            ("echo broken >&2; exit 1", "broken"),
            ("head -c 100000 /dev/zero", "more than"),
            (
                r#"echo '{"format":1,"verdict":"ok","summary":"x","measures":[{"name":"a","value":3,"slow":2}]}'"#,
                "beyond",
            ),
        ] {
            let profile = sh(script, Speaks::Json, 5);
            assert_eq!(profile.verdict, Verdict::Unknown, "{script}");
            assert!(profile.summary.contains(what), "{}", profile.summary);
        }
    }

    #[test]
    fn what_breaks_after_a_check_and_never_answers_is_told_within_the_interval() {
        let with = |interval, deadline| Check { interval, deadline, ..check("true", Speaks::Json, 1) };
        let period = |interval, deadline| with(interval, deadline).period().as_secs_f64();
        assert_eq!((period(60, 20), period(30, 10), period(120, 60)), (40.0, 20.0, 60.0));
        // One that looks at all initramfs takes long on its own: it begins twice in the interval.
        assert_eq!((period(60, 240), period(1, 1)), (30.0, 0.5));
    }

    #[test]
    fn one_that_never_answers_is_ended_at_its_deadline() {
        let start = Instant::now();
        let profile = sh("trap '' TERM; sleep 60 & sleep 60", Speaks::Json, 1);
        assert_eq!(profile.verdict, Verdict::Unacceptable);
        assert!(start.elapsed() < Duration::from_secs(3) && profile.summary.contains("within 1 s"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_program_prints_there_is_an_answer_that_a_terminal_can_show(
            stdout in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            text in "[ -~]{0,40}[|][ -~]{0,80}",
            code in 0..256_i32,
        ) {
            use std::os::unix::process::ExitStatusExt;
            for stdout in [stdout, text.into_bytes()] {
                let output = Output { status: std::process::ExitStatus::from_raw(code << 8), stdout, stderr: vec![] };
                for profile in [from_json(&output), from_nagios(&output)] {
                    assert!(!profile.summary.is_empty() && profile.summary.chars().all(|c| !c.is_control()));
                    assert!(profile.measures.len() <= MAX_ITEMS);
                    let _ = crate::plugin::nagios_line("x", &profile);
                }
            }
        }
    }

    #[test]
    fn numbers_of_the_longer_form_of_plugins_are_read() {
        let script = r#"echo "DISK OK | '/ is'=2643MB;5948"; echo '/boot 68 MB'; echo '/home 69357 MB | /boot=68MB;88'; echo '/home=69357MB;253404 /var=1MB'"#;
        let profile = sh(script, Speaks::Nagios, 5);
        let names: Vec<&str> = profile.measures.iter().map(|measure| measure.name.as_str()).collect();
        assert_eq!((profile.summary.as_str(), &names[..]), ("DISK OK", &["/ is", "/boot", "/home", "/var"][..]));
    }

    #[test]
    fn numbers_and_units_are_read_in_every_form_that_plugins_print() {
        let cases = [
            ("time=0,25s;1,0;2,0;0", Some((0.25, "s", Some(1.0), Some(2.0)))),
            ("'CPU load'=12,5%;80;90", Some((12.5, "%", Some(80.0), Some(90.0)))),
            ("a=3.4KB;~:10;@5:20;0", Some((3.4, "KB", None, None))),
            ("a=12c;;;;", Some((12.0, "c", None, None))),
            ("a=1.5e-05s", Some((1.5e-5, "s", None, None))),
            ("a=2EB", Some((2.0, "EB", None, None))),
            ("a=-3", Some((-3.0, "", None, None))),
            ("a=U", None),
            ("a=1,234,567B", None),
            ("a=1.2.3", None),
            ("a=", None),
        ];
        for (word, expected) in cases {
            let read = performance(word).map(|one| (one.value, one.unit, one.slow, one.unacceptable));
            let expected = expected.map(|(value, unit, slow, bad)| (value, unit.to_owned(), slow, bad));
            assert_eq!(read, expected, "{word}");
        }
        assert_eq!(sh("echo \"$LC_ALL\"", Speaks::Nagios, 5).summary, "C.UTF-8");
    }

    #[test]
    fn a_nagios_plugin_is_understood() {
        let profile =
            sh("echo \"USERS WARNING - 6 users | 'users in'=6;5;10;0 load=0.5s;;\"; exit 1", Speaks::Nagios, 5);
        assert_eq!((profile.verdict, profile.summary.as_str()), (Verdict::Slow, "USERS WARNING - 6 users"));
        assert_eq!((profile.measures[0].name.as_str(), profile.measures[0].unacceptable), ("users in", Some(10.0)));
        assert_eq!((profile.measures[1].value, profile.measures[1].unit.as_str()), (0.5, "s"));
        let odd = sh("printf 'fine | a=1e999 b=nan;inf c=2\\033[2Jx;nan;inf d\\033=3\\n'", Speaks::Nagios, 5);
        let told: Vec<(&str, f64, &str)> =
            odd.measures.iter().map(|one| (one.name.as_str(), one.value, one.unit.as_str())).collect();
        assert_eq!(told, [("c", 2.0, "[2Jx"), ("d", 3.0, "")]);
        assert_eq!((odd.measures[0].slow, odd.measures[0].unacceptable), (None, None));
        assert_eq!(sh("exit 0", Speaks::Nagios, 5).verdict, Verdict::Unknown);
        assert_eq!(sh("echo no such plugin; exit 127", Speaks::Nagios, 5).verdict, Verdict::Unknown);
    }
}

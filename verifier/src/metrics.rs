//! What is known, in the text format of Prometheus.

use atlas_model::{
    Role,
    verify::{Findings, Observed},
};

/// All of it.
pub fn text(findings: &Findings) -> String {
    let own = findings.observed.iter().map(|observed| (findings.role, observed));
    let heard = findings.heard.iter().filter_map(|heard| heard.findings.as_deref());
    let all: Vec<(Role, &Observed)> =
        own.chain(heard.flat_map(|said| said.observed.iter().map(|observed| (said.role, observed)))).collect();
    let mut text = String::new();
    let mut family = |name: &str, help: &str, lines: Vec<String>| {
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        lines.iter().for_each(|line| text.push_str(&format!("{name}{line}\n")));
    };
    let each = |value: fn(&Observed) -> u64| -> Vec<String> {
        all.iter().map(|(by, observed)| format!("{{{}}} {}", labels(*by, observed), value(observed))).collect()
    };
    family(
        "atlas_verdict",
        "0 ok, 1 slow, 2 unacceptable, 3 unknown.",
        each(|observed| observed.profile.verdict.exit_code().into()),
    );
    family("atlas_checked_seconds", "When it was verified last, since 1970.", each(|observed| observed.checked));
    family("atlas_since_seconds", "Since when it has this verdict, since 1970.", each(|observed| observed.since));
    let measures = all.iter().flat_map(|(by, observed)| {
        observed.profile.measures.iter().filter(|measure| measure.value.is_finite()).map(move |measure| {
            let (name, unit) = (escape(&measure.name), escape(&measure.unit));
            format!("{{{},measure=\"{name}\",unit=\"{unit}\"}} {}", labels(*by, observed), measure.value)
        })
    });
    family("atlas_measure", "A measure of a service.", measures.collect());
    let heard = findings
        .heard
        .iter()
        .map(|heard| format!("{{server=\"{}\"}} {}", heard.role, u8::from(heard.silent.is_none())));
    family("atlas_verifier_heard", "Whether a partner's Verifier answers.", heard.collect());
    text
}

fn labels(by: Role, observed: &Observed) -> String {
    let about = observed.about.map_or_else(|| "outside".to_owned(), |role| role.to_string());
    let (service, instance) = (escape(&observed.service), escape(&observed.instance));
    format!("by=\"{by}\",server=\"{about}\",service=\"{service}\",instance=\"{instance}\"")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::{
        EnvVersion,
        verify::{Measure, Profile, Worse},
    };

    #[test]
    fn every_number_is_there_with_who_found_it() {
        let measure = Measure {
            name: "a\"b".into(),
            value: 2.5,
            unit: "ms".into(),
            slow: None,
            unacceptable: None,
            worse: Worse::Higher,
        };
        let observed = Observed {
            about: Some(Role::Sec(1)),
            service: "web".into(),
            instance: "*:80".into(),
            profile: Profile::unacceptable("gone").measure(measure),
            checked: 7,
            interval: 60,
            since: 5,
            flapping: false,
            acknowledged: None,
            maintenance_until: None,
        };
        let findings = Findings {
            format: 1,
            role: Role::Pri,
            env_version: EnvVersion::OLDEST,
            time: 9,
            started: 1,
            observed: vec![observed],
            heard: vec![],
            boots_with: None,
            partners: vec![],
            broken_channels: vec![],
        };
        let text = text(&findings);
        assert!(
            text.contains("atlas_verdict{by=\"PRI\",server=\"SEC1\",service=\"web\",instance=\"*:80\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("measure=\"a\\\"b\",unit=\"ms\"} 2.5\n"), "{text}");
        assert!(
            text.lines().all(|line| line.starts_with("# ") || line.rsplit(' ').next().unwrap().parse::<f64>().is_ok())
        );
    }
}

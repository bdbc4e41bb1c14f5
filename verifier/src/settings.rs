//! What an operator may set: `/etc/atlas/verifier.toml`, the same on every server. All of it may be left out. `listen` and `metrics_from` count
//! when VerifierControl starts, the rest soon after the file has changed.
//!
//! ```toml
//! listen = ["0.0.0.0:7311", "[::]:7311"]     # where partners' Verifiers and Prometheus ask
//! metrics_from = ["192.168.1.5"]             # who may read /metrics besides this server itself
//!
//! [service.web]                              # one kind of service
//! interval = 15                              # what is wrong is told within so many seconds
//! deadline = 5                               # one check may take as long; the next begins early enough for that
//! set = { answer-slow = "200" }              # limits and options
//!
//! [[nagios]]                                 # any Nagios plugin
//! name = "users"
//! command = ["/usr/lib/nagios/plugins/check_users", "-w", "5", "-c", "10"]
//! at = "here"                                # or "partners", where $HOST$ stands for each partner's host
//!
//! [[outside]]                                # what is no server of the cluster
//! name = "router"
//! service = "connectivity"
//! host = "192.168.1.1"
//!
//! [alert]
//! repeat_minutes = 60
//! escalate_minutes = 30
//! word_days = 7                              # it is said how it stands, also where all is well
//!
//! [[channel]]
//! name = "admin"
//! kind = "mail"
//! url = "smtps://mail.example.org:465"
//! from = "atlas@example.org"
//! to = ["admin@example.org"]
//! user = "atlas"
//! password_file = "/etc/atlas/verifier/mail-password"
//!
//! [[channel]]
//! name = "pager"
//! kind = "command"
//! command = ["/usr/local/bin/page"]          # the text on its standard input
//! only_escalated = true
//! ```

use anyhow::Context;
use atlas_cli::Hint;
use atlas_host::tree::Dir;
use atlas_model::verify::At;
use serde::Deserialize;
use std::{collections::BTreeMap, net::IpAddr, net::SocketAddr, path::Path};

/// Where they lie.
pub const SETTINGS: &str = "etc/atlas/verifier.toml";
const MAX_SIZE: usize = 256 << 10;

/// All settings.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where this server's Verifier can be asked; counts when it starts.
    pub listen: Vec<SocketAddr>,
    /// Who may read the metrics besides this server itself; counts when the Verifier starts.
    pub metrics_from: Vec<IpAddr>,
    /// By kind of service.
    pub service: BTreeMap<String, ServiceSettings>,
    /// Plugins of Nagios.
    pub nagios: Vec<Nagios>,
    /// What is watched besides the cluster's servers.
    pub outside: Vec<Outside>,
    /// When alerts are sent.
    pub alert: AlertSettings,
    /// To whom.
    #[serde(rename = "channel")]
    pub channels: Vec<Channel>,
    /// The file, as it was written.
    #[serde(skip)]
    pub text: String,
}

impl Default for Settings {
    fn default() -> Settings {
        let any = |address: &str| SocketAddr::new(address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])), 7311);
        Settings {
            listen: vec![any("0.0.0.0"), any("::")],
            metrics_from: vec![],
            service: BTreeMap::new(),
            nagios: vec![],
            outside: vec![],
            alert: AlertSettings::default(),
            channels: vec![],
            text: String::new(),
        }
    }
}

/// Of one kind of service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceSettings {
    /// Within which what is wrong is told, in seconds.
    pub interval: Option<u64>,
    /// How long one check may take, in seconds.
    pub deadline: Option<u64>,
    /// Not at all.
    pub off: bool,
    /// Limits and options.
    pub set: BTreeMap<String, String>,
}

/// A plugin of Nagios.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Nagios {
    /// What it is called here.
    pub name: String,
    /// The plugin and its arguments; `$HOST$` stands for a partner's host.
    pub command: Vec<String>,
    /// Whether it is run for each partner, or once about this server.
    #[serde(default)]
    pub at: At,
    /// Within which what is wrong is told, in seconds.
    #[serde(default = "minute")]
    pub interval: u64,
    /// How long it may take, in seconds.
    #[serde(default = "ten")]
    pub deadline: u64,
}

/// Something that is no server of the cluster.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// What it is called here.
    pub name: String,
    /// Which service of it.
    pub service: String,
    /// Its name or address.
    pub host: String,
    /// Options of the service.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// When alerts are sent.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct AlertSettings {
    /// After how many minutes a problem is told again; 0 for never.
    pub repeat_minutes: u64,
    /// After how many minutes an unacceptable problem that nobody acknowledged goes to the channels for escalated ones; 0 for never.
    pub escalate_minutes: u64,
    /// Whether a service that is merely slow is worth an alert.
    pub slow: bool,
    /// After how many days it is said how it stands, also where all is well; 0 for never.
    pub word_days: u64,
}

impl Default for AlertSettings {
    fn default() -> AlertSettings {
        AlertSettings { repeat_minutes: 60, escalate_minutes: 30, slow: true, word_days: 7 }
    }
}

/// To whom alerts are sent.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Channel {
    /// What it is called here.
    pub name: String,
    /// Only what nobody has acknowledged in time.
    #[serde(default)]
    pub only_escalated: bool,
    /// How.
    #[serde(flatten)]
    pub kind: ChannelKind,
}

/// How an alert is sent.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum ChannelKind {
    /// By SMTP, with TLS: `smtps://HOST:465`, or `smtp://HOST:587` with STARTTLS.
    Mail {
        /// The server.
        url: String,
        /// The sender.
        from: String,
        /// The receivers.
        to: Vec<String>,
        /// Whose account.
        #[serde(default)]
        user: Option<String>,
        /// A file, readable by root alone, that holds its password.
        #[serde(default)]
        password_file: Option<String>,
        /// Mail without TLS, which others on the network can read.
        #[serde(default)]
        plain: bool,
    },
    /// By an HTTP POST of JSON.
    Webhook {
        /// Where to.
        url: String,
    },
    /// By any program: pager, SMS, siren. The text is on its standard input, the facts in its environment.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// On the server's own screen.
    Console {},
}

fn minute() -> u64 {
    60
}

fn ten() -> u64 {
    10
}

impl Settings {
    /// Reads them; where there is no file, the usual ones.
    pub fn read(root: &Path) -> anyhow::Result<Settings> {
        let tree = Dir::open_root(root).context("open the server's tree")?;
        let Some(content) = tree.read_if_there(SETTINGS, MAX_SIZE)? else { return Ok(Settings::default()) };
        Settings::parse(&content)
            .with_context(|| format!("read {}", tree.show(SETTINGS).display()))
            .hint("mend the line; VerifierControl goes on with what it read before")
    }

    /// What is in their file.
    ///
    /// # Errors
    /// Where a line is not understood, or says what cannot be.
    pub fn parse(content: &[u8]) -> anyhow::Result<Settings> {
        let text = std::str::from_utf8(content)?;
        let settings: Settings = toml::from_str(text)?;
        settings.check()?;
        Ok(Settings { text: text.to_owned(), ..settings })
    }

    fn check(&self) -> anyhow::Result<()> {
        for (name, service) in &self.service {
            let good = |seconds: Option<u64>| seconds.is_none_or(|seconds| (1..=86_400).contains(&seconds));
            anyhow::ensure!(
                good(service.interval) && good(service.deadline),
                "[service.{name}]: interval and deadline are 1 to 86400 seconds"
            );
        }
        for nagios in &self.nagios {
            anyhow::ensure!(!nagios.command.is_empty(), "[[nagios]] {}: it has no command", nagios.name);
            anyhow::ensure!(
                (1..=86_400).contains(&nagios.interval) && (1..=86_400).contains(&nagios.deadline),
                "[[nagios]] {}: interval and deadline are 1 to 86400 seconds",
                nagios.name
            );
        }
        for channel in &self.channels {
            if let ChannelKind::Command { command } = &channel.kind {
                anyhow::ensure!(!command.is_empty(), "[[channel]] {}: it has no command", channel.name);
            }
            if let ChannelKind::Mail { to, .. } = &channel.kind {
                anyhow::ensure!(!to.is_empty(), "[[channel]] {}: it has no receiver", channel.name);
            }
        }
        let mut names: Vec<&str> = self.channels.iter().map(|channel| channel.name.as_str()).collect();
        names.sort_unstable();
        anyhow::ensure!(names.windows(2).all(|pair| pair[0] != pair[1]), "two channels have one name");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example at the top of this file.
    fn example() -> String {
        let lines = include_str!("settings.rs").lines().skip_while(|line| *line != "//! ```toml").skip(1);
        lines
            .take_while(|line| *line != "//! ```")
            .map(|line| format!("{}\n", line.trim_start_matches("//!")))
            .collect()
    }

    fn read(text: &str) -> anyhow::Result<Settings> {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("etc/atlas")).unwrap();
        std::fs::write(tmp.path().join(SETTINGS), text).unwrap();
        Settings::read(tmp.path())
    }

    #[test]
    fn the_documented_example_is_understood() {
        let settings = read(&example()).unwrap();
        assert_eq!((settings.channels.len(), settings.nagios.len(), settings.outside.len()), (2, 1, 1));
        assert_eq!(settings.service["web"].set["answer-slow"], "200");
        assert!(Settings::read(Path::new("/nonexistent-root")).is_err());
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_name() {
        for (text, what) in [
            ("[service.web]\ninterval = 0\n", "[service.web]"),
            ("[[nagios]]\nname = \"x\"\ncommand = []\n", "no command"),
            ("intervall = 3\n", "intervall"),
            ("[[channel]]\nname='a'\nkind='console'\n[[channel]]\nname='a'\nkind='console'\n", "one name"),
            ("[[channel]]\nname='a'\nkind='console'\nonly_escalatd=true\n", "only_escalatd"),
            ("[[channel]]\nname='a'\nkind='mail'\nurl='x'\nfrom='x'\nto=[]\n", "no receiver"),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(what), "{error}");
        }
    }
}

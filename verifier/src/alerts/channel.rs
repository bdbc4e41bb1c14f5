//! Handing alerts over. Each channel has a queue and a thread: one whose other side is dead holds up nobody.

use super::Alert;
use crate::settings::{Channel, ChannelKind};
use anyhow::Context;
use atlas_cli::in_one_line;
use atlas_host::{durable, process::Command, tree::Dir};
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

/// The most alerts that wait for one channel; beyond, an alert is left out there, and that is told.
const WAITING: usize = 200;
/// How long one delivery may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long is waited before a delivery is tried once more.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// What does not work, by the name of the channel.
pub type Broken = Arc<Mutex<BTreeMap<String, String>>>;

/// All channels, running.
#[derive(Debug, Default)]
pub struct Channels {
    queues: Vec<(Channel, SyncSender<Alert>)>,
    broken: Broken,
}

impl Channels {
    /// Starts a thread for each.
    pub fn start(channels: &[Channel], root: &Path) -> Channels {
        let broken = Broken::default();
        let start = |channel: &Channel| {
            let (queue, waiting) = sync_channel(WAITING);
            let (own, broken, root) = (channel.clone(), Arc::clone(&broken), root.to_owned());
            std::thread::spawn(move || deliver_all(&own, &waiting, &broken, &root));
            (channel.clone(), queue)
        };
        Channels { queues: channels.iter().map(start).collect(), broken }
    }

    /// Hands it to every channel that it is for; waits for none.
    pub fn send(&self, alert: &Alert) {
        let escalated = matches!(alert.kind, super::Kind::Escalated | super::Kind::Recovered);
        // A console is for what somebody in the room has to do.
        let is_for = |channel: &Channel| {
            (escalated || !channel.only_escalated)
                && (alert.kind != super::Kind::Word || !matches!(channel.kind, ChannelKind::Console {}))
        };
        for (channel, queue) in self.queues.iter().filter(|(channel, _)| is_for(channel)) {
            if let Err(TrySendError::Full(_)) = queue.try_send(alert.clone()) {
                note(&self.broken, &channel.name, Some(format!("{WAITING} alerts wait for it; this one is left out")));
            }
        }
    }

    /// What does not work, a line each.
    pub fn broken(&self) -> Vec<String> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.iter().map(|(name, why)| format!("{name}: {why}")).collect()
    }
}

fn note(broken: &Broken, name: &str, why: Option<String>) {
    let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
    match why {
        Some(why) => broken.insert(name.to_owned(), why),
        None => broken.remove(name),
    };
}

fn deliver_all(channel: &Channel, waiting: &Receiver<Alert>, broken: &Broken, root: &Path) {
    // Ends when the channel's settings do: then nobody holds the other end.
    for alert in waiting {
        let mut pauses = AGAIN.iter();
        loop {
            match deliver(channel, &alert, root) {
                Ok(()) => {
                    note(broken, &channel.name, None);
                    break;
                }
                Err(error) => {
                    let why = in_one_line(&error);
                    tracing::error!("channel {}: {why}", channel.name);
                    note(broken, &channel.name, Some(why));
                }
            }
            let Some(pause) = pauses.next() else { break };
            std::thread::sleep(*pause);
        }
    }
}

/// Hands one alert over.
///
/// # Errors
/// What the other side, or the program that talks to it, says.
pub fn deliver(channel: &Channel, alert: &Alert, root: &Path) -> anyhow::Result<()> {
    match &channel.kind {
        ChannelKind::Mail { url, from, to, user, password_file, plain } => {
            let mut config = format!("url = {}\nmail-from = {}\n", quoted(url), quoted(from));
            to.iter().for_each(|to| config.push_str(&format!("mail-rcpt = {}\n", quoted(to))));
            config.push_str(if *plain { "" } else { "ssl-reqd\n" });
            if let Some(user) = user {
                let file = password_file.as_deref().map(|path| root.join(path.trim_start_matches('/')));
                let password = file.map(|path| read_password(&path)).transpose()?.unwrap_or_default();
                config.push_str(&format!("user = {}\n", quoted(&format!("{user}:{password}"))));
            }
            let dir = Dir::open_root(root)?.make_dirs("run/atlas/verifier")?;
            let name = durable::temp_name();
            durable::put(&dir, &name, mail(alert, from, to).as_bytes(), 0o600)?;
            config.push_str(&format!("upload-file = {}\n", quoted(&dir.show(&name).display().to_string())));
            let sent = curl(&config);
            dir.remove(&name)?;
            sent.with_context(|| format!("mail to {}", to.join(", ")))
        }
        ChannelKind::Webhook { url } => {
            let body = serde_json::to_string(alert)?;
            let config = format!(
                "url = {}\nheader = \"Content-Type: application/json\"\ndata = {}\n",
                quoted(url),
                quoted(&body)
            );
            curl(&config).with_context(|| format!("post to {url}"))
        }
        ChannelKind::Command { command } => {
            let (program, args) = command.split_first().context("the command is empty")?;
            let run = Command::new(program)
                .args(args)
                .env("ATLAS_KIND", serde_json::to_value(alert.kind)?.as_str().unwrap_or_default())
                .env("ATLAS_KEY", &alert.key)
                .env("ATLAS_VERDICT", alert.verdict.to_string())
                .env("ATLAS_TITLE", alert.title())
                .deadline(DEADLINE);
            fed(&run, alert.text().into_bytes()).with_context(|| format!("run {program}"))
        }
        ChannelKind::Console {} => {
            let path = root.join("dev/console");
            let mut console = std::fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .with_context(|| format!("open {}", path.display()))?;
            console
                .write_all(format!("\r\n{}\r\n", alert.text().trim_end().replace('\n', "\r\n")).as_bytes())
                .context("write to the console")
        }
    }
}

fn read_password(path: &PathBuf) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.permissions().mode();
    anyhow::ensure!(mode & 0o077 == 0, "{} can be read by others than root: chmod 600", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

/// Runs curl with its options on standard input: what is secret is on no command line.
fn curl(config: &str) -> anyhow::Result<()> {
    let command =
        Command::new("curl").args(["--silent", "--show-error", "--fail", "--max-time", "55", "--config", "-"]);
    fed(&command.deadline(DEADLINE), config.as_bytes().to_vec())
}

fn fed(command: &Command, text: Vec<u8>) -> anyhow::Result<()> {
    let take = |stdout: &mut std::process::ChildStdout| std::io::copy(stdout, &mut std::io::sink());
    match command.converse(move |mut stdin| stdin.write_all(&text), take)? {
        // It ended well without reading: a siren needs no text.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// A value in curl's own configuration.
fn quoted(text: &str) -> String {
    let escaped =
        text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    format!("\"{escaped}\"")
}

/// The mail as it travels. What comes from outside can begin no header.
fn mail(alert: &Alert, from: &str, to: &[String]) -> String {
    let line = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let title: String = line(&alert.title()).chars().take(200).collect();
    let subject: String = title.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    let body = alert.text().replace('\r', "").replace('\n', "\r\n");
    format!(
        "From: {}\r\nTo: {}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nAuto-Submitted: auto-generated\r\n\r\n{body}",
        line(from),
        line(&to.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::Kind;
    use atlas_model::verify::Verdict;
    use std::time::Instant;

    fn alert() -> Alert {
        Alert {
            format: 1,
            kind: Kind::Problem,
            key: "SEC1/web".into(),
            verdict: Verdict::Unacceptable,
            summary: "nobody answers".into(),
            hint: Some("look".into()),
            follows: vec![],
            from: "PRI of bakery".into(),
            time: 1,
            since: 1,
        }
    }

    fn command(name: &str, script: &str) -> Channel {
        let kind = ChannelKind::Command { command: vec!["/bin/sh".into(), "-c".into(), script.into()] };
        Channel { name: name.into(), only_escalated: false, kind }
    }

    #[test]
    fn a_dead_channel_holds_up_no_other_and_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let told = tmp.path().join("told");
        let script =
            format!("cat >{0}.new; echo \"$ATLAS_KEY $ATLAS_VERDICT\" >>{0}.new; mv {0}.new {0}", told.display());
        let channels = Channels::start(
            &[command("dead", "sleep 50"), command("none", "exit 3"), command("good", &script)],
            tmp.path(),
        );
        let start = Instant::now();
        channels.send(&alert());
        while !told.exists() || channels.broken().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = std::fs::read_to_string(&told).unwrap();
        assert!(text.contains("nobody answers") && text.contains("SEC1/web unacceptable"), "{text}");
        assert!(channels.broken()[0].starts_with("none: "), "{:?}", channels.broken());
    }

    #[test]
    fn what_a_service_says_begins_no_header_and_no_option() {
        let evil = Alert { key: "x\r\nBcc: all@example.org".into(), ..alert() };
        let text = mail(&evil, "a@b", &["c@d".into()]);
        let headers = text.split("\r\n\r\n").next().unwrap();
        assert!(headers.lines().all(|line| !line.starts_with("Bcc")), "{headers}");
        assert_eq!(quoted("a\"\nurl = \"x"), r#""a\"\nurl = \"x""#);
    }

    #[test]
    fn a_password_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("password");
        std::fs::write(&path, "secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_password(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_password(&path).unwrap(), "secret");
    }
}

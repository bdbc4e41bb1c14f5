//! The guest agent (`qemu-ga`): how a test runs programs in a guest without a network.
//!
//! The agent may not be up yet, may be restarted, or the guest may be reset in the middle of an answer. So each call first
//! synchronizes: it sends a number and throws away what comes until that number comes back. Requests sent while nobody
//! listens wait in the channel; their late answers are thrown away likewise.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::deadline::Deadline;
use crate::wire::{Wire, request};

/// Marks the end of whatever was said before.
const SENTINEL: u8 = 0xff;
/// How long to wait for one synchronization before trying the next.
const ONE_TRY: Duration = Duration::from_millis(500);
/// What `guest-file-read` is asked for at a time.
const CHUNK: u64 = 1 << 20;

/// What a program in the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; 128 + n if signal n ended it.
    pub code: i64,
    /// Its standard output, at most 16 MiB.
    pub stdout: Vec<u8>,
    /// Its standard error, at most 16 MiB.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The standard output as text, without the line ends at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    /// The standard error as text, without the line ends at its end.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end_matches('\n').to_owned()
    }
}

#[derive(Debug)]
pub(crate) struct Agent {
    wire: Wire,
    last_sync: u32,
}

impl Agent {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, last_sync: 0 }
    }

    /// Waits until the agent answers.
    pub(crate) fn synchronize(&mut self, deadline: Deadline) -> Result<()> {
        while deadline.left().is_some() {
            self.last_sync += 1;
            let mut message = vec![SENTINEL];
            message.extend(request("guest-sync-delimited", &json!({ "id": self.last_sync })).bytes());
            self.wire.send(&message, deadline).context("calling the guest agent")?;
            let this_try = Deadline::exact(ONE_TRY.min(deadline.left().unwrap_or_default()));
            while let Some(line) = self.wire.line(this_try).context("calling the guest agent")? {
                if is_sync_answer(&line, self.last_sync) {
                    return Ok(());
                }
            }
        }
        bail!("the guest agent does not answer, waited for {:.1} s", deadline.allowed().as_secs_f64())
    }

    pub(crate) fn call(&mut self, command: &str, arguments: &Value, deadline: Deadline) -> Result<Value> {
        self.synchronize(deadline)?;
        self.wire.call(command, arguments, deadline)
    }

    /// Asks for a shutdown, which is not answered when it is granted.
    pub(crate) fn ask_to_shut_down(&mut self, deadline: Deadline) -> Result<()> {
        self.synchronize(deadline)?;
        self.wire.send(request("guest-shutdown", &json!({ "mode": "powerdown" })).as_bytes(), deadline)
    }

    pub(crate) fn exec(&mut self, command: &str, deadline: Deadline) -> Result<Output> {
        let arguments = json!({
            "path": "/bin/sh",
            "arg": ["-c", command],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"],
            "capture-output": true,
        });
        let pid = self.call("guest-exec", &arguments, deadline)?["pid"].clone();
        let ended = deadline.poll("its end", || {
            // No synchronization: it would double the traffic, and nothing has gone astray since the last one.
            let status = self.wire.call("guest-exec-status", &json!({ "pid": pid }), deadline)?;
            Ok((status["exited"] == true).then_some(status))
        })?;
        Ok(Output {
            code: ended["exitcode"].as_i64().or(ended["signal"].as_i64().map(|n| 128 + n)).context("no exit code")?,
            stdout: decoded(&ended["out-data"])?,
            stderr: decoded(&ended["err-data"])?,
        })
    }

    pub(crate) fn read_file(&mut self, path: &str, deadline: Deadline) -> Result<Vec<u8>> {
        let handle = self.call("guest-file-open", &json!({ "path": path, "mode": "r" }), deadline)?;
        let mut content = Vec::new();
        loop {
            let part = self.wire.call("guest-file-read", &json!({ "handle": handle, "count": CHUNK }), deadline)?;
            content.extend(decoded(&part["buf-b64"])?);
            if part["eof"] == true {
                break;
            }
        }
        self.wire.call("guest-file-close", &json!({ "handle": handle }), deadline)?;
        Ok(content)
    }

    pub(crate) fn write_file(&mut self, path: &str, content: &[u8], deadline: Deadline) -> Result<()> {
        let handle = self.call("guest-file-open", &json!({ "path": path, "mode": "w" }), deadline)?;
        for part in content.chunks(CHUNK as usize) {
            let arguments = json!({ "handle": handle, "buf-b64": BASE64.encode(part) });
            let written = self.wire.call("guest-file-write", &arguments, deadline)?;
            ensure!(written["count"] == part.len(), "only {} of {} bytes written", written["count"], part.len());
        }
        self.wire.call("guest-file-close", &json!({ "handle": handle }), deadline)?;
        Ok(())
    }
}

/// The answer stands behind a sentinel, and perhaps behind what is left of an answer cut off before.
fn is_sync_answer(line: &[u8], id: u32) -> bool {
    let answer = line.rsplit(|byte| *byte == SENTINEL).next().unwrap_or_default();
    line.contains(&SENTINEL) && serde_json::from_slice::<Value>(answer).is_ok_and(|value| value["return"] == id)
}

fn decoded(data: &Value) -> Result<Vec<u8>> {
    BASE64.decode(data.as_str().unwrap_or_default()).context("the guest agent sent malformed base64")
}

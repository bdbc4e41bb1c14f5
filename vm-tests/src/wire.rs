//! JSON values, one to a line, over a unix socket: what QEMU's monitor (QMP) and the guest agent both speak.
//!
//! ```text
//! -> {"execute": "stop"}              <- {"return": {}}   or  {"error": {"class": "…", "desc": "…"}}
//!                                     <- {"event": "STOP", …}   at any time, from the monitor
//! ```

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::deadline::Deadline;

/// No answer is larger: the agent returns at most 16 MiB of each output of a program, in base64.
const ANSWER_MAX: usize = 64 << 20;

/// One end of such a conversation.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8], deadline: Deadline) -> Result<()> {
        self.stream.set_write_timeout(Some(deadline.left().context("no time left to send")?))?;
        self.stream.write_all(bytes).context("sending")
    }

    /// The next line, without its end; nothing if the deadline passes first.
    pub(crate) fn line(&mut self, deadline: Deadline) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.received.split_off(searched + at + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                return Ok(Some(line));
            }
            searched = self.received.len();
            if searched > ANSWER_MAX {
                bail!("the answer is larger than {} MiB", ANSWER_MAX >> 20);
            }
            let Some(left) = deadline.left() else { return Ok(None) };
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("the other end is gone"),
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
    }

    /// Executes a command and returns its result; passes over events.
    pub(crate) fn call(&mut self, command: &str, arguments: &Value, deadline: Deadline) -> Result<Value> {
        let doing = || format!("calling {command}");
        self.send(request(command, arguments).as_bytes(), deadline).with_context(doing)?;
        loop {
            let line = self.line(deadline).with_context(doing)?;
            let line =
                line.with_context(|| format!("{command}: no answer in {:.1} s", deadline.allowed().as_secs_f64()))?;
            if let Some(result) = answer(&line).with_context(doing)? {
                return Ok(result);
            }
        }
    }
}

pub(crate) fn request(command: &str, arguments: &Value) -> String {
    let mut request = json!({ "execute": command });
    if !arguments.is_null() {
        request["arguments"] = arguments.clone();
    }
    format!("{request}\n")
}

/// The result in an answer; nothing for an event or a greeting.
fn answer(line: &[u8]) -> Result<Option<Value>> {
    let mut value: Value =
        serde_json::from_slice(line).with_context(|| format!("reading {:?}", String::from_utf8_lossy(line)))?;
    if let Some(error) = value.get("error") {
        bail!("{}", error["desc"].as_str().unwrap_or("refused without a reason"));
    }
    Ok(value.get_mut("return").map(Value::take))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::deadline::secs;

    #[test]
    fn events_are_passed_over_and_errors_are_told() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut wire = Wire::new(ours);
        theirs
            .write_all(b"{\"event\": \"STOP\"}\n{\"return\": {\"a\": 1}}\n{\"error\": {\"desc\": \"no disk\"}}\n")
            .unwrap();
        assert_eq!(wire.call("x", &Value::Null, secs(5)).unwrap(), json!({"a": 1}));
        let error = format!("{:#}", wire.call("x", &json!({"b": 2}), secs(5)).unwrap_err());
        assert!(error.contains("calling x: no disk"), "{error}");
        let mut asked = [0; 256];
        let n = theirs.read(&mut asked).unwrap();
        assert_eq!(&asked[..n], b"{\"execute\":\"x\"}\n{\"arguments\":{\"b\":2},\"execute\":\"x\"}\n");
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let error = Wire::new(ours).call("x", &Value::Null, Deadline::exact(Duration::from_millis(50))).unwrap_err();
        assert!(format!("{error:#}").contains("no answer"), "{error:#}");
    }
}

//! What the clients of all databases answer.

use atlas_host::process::Output;

/// Whether a client program wrote and then read this; `output` and the error are what it complains of.
pub(super) fn is_read(output: Result<Output, String>, expected: &str) -> Result<(), String> {
    let output = output?;
    if !output.status.success() {
        return Err(output.complaint());
    }
    match output.text().trim() {
        text if text == expected => Ok(()),
        text => Err(format!("what was written is read as '{}'", text.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn another_text_than_what_was_written_is_told() {
        let said = |code: i32, text: &str| {
            let status = std::process::ExitStatus::from_raw(code << 8);
            is_read(Ok(Output { status, stdout: text.into(), stderr: b"ERROR: full".to_vec() }), "42")
        };
        assert_eq!(said(0, " 42\n"), Ok(()));
        assert_eq!(said(0, "41\x1b\n"), Err("what was written is read as '41\\u{1b}'".into()));
        assert!(said(1, "42").unwrap_err().contains("full"));
        assert_eq!(is_read(Err("no answer".into()), "42"), Err("no answer".into()));
    }
}

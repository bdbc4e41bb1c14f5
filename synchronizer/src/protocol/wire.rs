//! Messages on a stream: four bytes of length, big endian, then JSON; bulk content goes raw between them, its length agreed before.

use super::Message;
use std::io::{self, BufReader, BufWriter, Read, Write};

/// The longest message, in bytes. Reports are the largest; they shorten their lists to fit.
const MAX_MESSAGE: usize = 1 << 20;

/// Why a conversation cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Nothing more can be heard or said.
    #[error("the connection broke off")]
    Connection(#[from] io::Error),
    /// Something was said that is no message, or not one that belongs here.
    #[error("the partner does not keep to the protocol: {0}")]
    Protocol(String),
    /// The partner is not who it should be, or says that we are not.
    #[error("{0}")]
    Refused(String),
    /// The partner says that something went wrong there.
    #[error("the partner failed: {0}")]
    Partner(String),
    /// Something went wrong here.
    #[error(transparent)]
    Here(#[from] atlas_sid::SidError),
}

/// One end of a conversation.
#[derive(Debug)]
pub(crate) struct Wire<R: Read, W: Write> {
    input: BufReader<R>,
    output: BufWriter<W>,
    /// Bytes of content that went either way, for the report.
    pub(crate) moved: u64,
}

impl<R: Read, W: Write> Wire<R, W> {
    pub(crate) fn new(input: R, output: W) -> Wire<R, W> {
        Wire {
            input: BufReader::with_capacity(64 << 10, input),
            output: BufWriter::with_capacity(64 << 10, output),
            moved: 0,
        }
    }

    /// Says something, at once.
    pub(crate) fn say(&mut self, message: &Message) -> Result<(), Fault> {
        let text = serde_json::to_vec(message).map_err(io::Error::from)?;
        let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= MAX_MESSAGE);
        let length = length.ok_or_else(|| io::Error::other("a message of ours became too long"))?;
        self.output.write_all(&length.to_be_bytes())?;
        self.output.write_all(&text)?;
        Ok(self.output.flush()?)
    }

    /// Hears the next message. That of a partner which gives up is an error with its reason.
    pub(crate) fn hear(&mut self) -> Result<Message, Fault> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(Fault::Protocol(format!("a message of {length} bytes; {MAX_MESSAGE} are allowed")));
        }
        let mut text = vec![0; length];
        self.input.read_exact(&mut text)?;
        match serde_json::from_slice(&text) {
            Ok(Message::Refused { why }) => Err(Fault::Refused(tame(&why))),
            Ok(Message::Failed { why }) => Err(Fault::Partner(tame(&why))),
            Ok(message) => Ok(message),
            Err(error) => Err(Fault::Protocol(tame(&format!("a message that cannot be read: {error}")))),
        }
    }

    /// Puts raw bytes after a message that announced them.
    pub(crate) fn put(&mut self, content: &[u8]) -> Result<(), Fault> {
        self.moved += content.len() as u64;
        Ok(self.output.write_all(content)?)
    }

    /// Puts exactly `size` bytes of `content`.
    pub(crate) fn put_from(&mut self, content: &mut impl Read, size: u64) -> Result<(), Fault> {
        let copied = io::copy(&mut content.take(size), &mut self.output)?;
        self.moved += copied;
        if copied == size { Ok(()) } else { Err(io::Error::other("a file of a Snapshot became shorter").into()) }
    }

    /// Gets `size` raw bytes; the caller has bounded them.
    pub(crate) fn get(&mut self, size: usize) -> Result<Vec<u8>, Fault> {
        let mut content = Vec::with_capacity(size.min(1 << 20));
        (&mut self.input).take(size as u64).read_to_end(&mut content)?;
        self.moved += size as u64;
        if content.len() == size { Ok(content) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
    }

    /// The raw bytes themselves.
    pub(crate) fn raw(&mut self) -> &mut impl Read {
        &mut self.input
    }

    /// Lets what was put go out.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        Ok(self.output.flush()?)
    }
}

/// A text of the partner's, fit to be shown and logged: short, on one line, without control characters.
pub(crate) fn tame(text: &str) -> String {
    text.chars().take(2000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The message that was due here, or an error that says what came instead.
macro_rules! due {
    ($wire:expr, $pattern:pat => $value:expr, $due:literal) => {
        match $wire.hear()? {
            $pattern => $value,
            other => {
                let came = format!("{other:?}");
                let came = came.split([' ', '(']).next().unwrap_or_default();
                return Err($crate::protocol::Fault::Protocol(format!("{} was due, {came} came", $due)).into());
            }
        }
    };
}
pub(crate) use due;

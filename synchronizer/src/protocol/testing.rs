//! For fuzzing: what a partner says, heard without a partner.

use super::{Fault, Message, Wire};
use std::io;

/// Hears messages until there are no more, or something that is none; gives their number and why it ended.
///
/// # Panics
/// Where a message cannot be said again as it was heard.
pub fn hear_all(bytes: &[u8]) -> (usize, String) {
    let mut wire = Wire::new(bytes, io::sink());
    for count in 0.. {
        match wire.hear() {
            Ok(message) => assert_said_again(&message),
            Err(fault) => return (count, shown(&fault)),
        }
    }
    unreachable!("the bytes do not end")
}

fn assert_said_again(message: &Message) {
    // What others wrote into a report is kept as it is; numbers in it need not be the same to the last digit.
    if matches!(message, Message::SyncedUp { .. }) {
        return;
    }
    let mut said = Vec::new();
    let mut wire = Wire::new(io::empty(), &mut said);
    // One that was written more shortly than we write it may be too long for us.
    if wire.say(message).is_err() {
        return;
    }
    drop(wire);
    let again = Wire::new(said.as_slice(), io::sink()).hear();
    assert!(again.as_ref().is_ok_and(|again| again == message), "{message:?} was said, {again:?} heard");
}

fn shown(fault: &Fault) -> String {
    atlas_cli::in_one_line(&anyhow::anyhow!(fault.to_string()))
}

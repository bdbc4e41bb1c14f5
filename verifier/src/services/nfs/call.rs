//! The NULL call of RPC (RFC 5531): does the program answer, and in which versions?

use crate::{service::Target, talk::Talk};

/// The number of the NFS program.
const NFS: u32 = 100_003;
/// The largest answer to a call without arguments, in bytes.
const LARGEST: usize = 1024;

/// The versions of NFS that answer, best first; inside, why none does.
pub(super) fn null(target: &Target, port: u16) -> anyhow::Result<Result<Vec<u32>, String>> {
    let mut versions = vec![];
    for version in [4, 3] {
        let mut talk = match Talk::open(target, port)? {
            Ok(talk) => talk,
            Err(why) => return Ok(Err(format!("port {port}: {why}"))),
        };
        let answer = talk.say(&call(version)).and_then(|()| {
            let length = talk.exactly(4)?;
            let length = usize::from(length[2]) << 8 | usize::from(length[3]);
            talk.exactly(length.min(LARGEST))
        });
        match answer {
            Ok(answer) if is_accepted(&answer) => versions.push(version),
            // Another version, perhaps.
            Ok(_) => (),
            Err(why) => return Ok(Err(format!("port {port}: {why}"))),
        }
    }
    Ok(if versions.is_empty() {
        Err(format!("what answers on port {port} speaks neither NFS 4 nor 3"))
    } else {
        Ok(versions)
    })
}

/// One record: transaction, call, RPC 2, program, version, procedure 0, no credentials, no verifier.
fn call(version: u32) -> Vec<u8> {
    let words = [0x8000_0000 | 40, TRANSACTION, 0, 2, NFS, version, 0, 0, 0, 0, 0];
    words.iter().flat_map(|word: &u32| word.to_be_bytes()).collect()
}

const TRANSACTION: u32 = 0x4154_4c53;

/// Whether an answer says: our transaction, a reply, accepted, no verifier, success.
fn is_accepted(answer: &[u8]) -> bool {
    let words: Vec<u32> = answer.as_chunks().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
    words == [TRANSACTION, 1, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_success() {
        let answer = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        assert!(is_accepted(&answer(&[TRANSACTION, 1, 0, 0, 0, 0])));
        // The program is there in versions 3 to 3 only.
        assert!(!is_accepted(&answer(&[TRANSACTION, 1, 0, 0, 0, 2, 3, 3])));
        assert!(!is_accepted(b"HTTP/1.1 400 Bad Request"));
        assert_eq!(call(4).len(), 44);
    }
}

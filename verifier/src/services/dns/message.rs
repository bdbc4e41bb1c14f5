//! A question and its answer, as they go over the wire (RFC 1035).

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// An address.
    A,
    /// The start of a zone.
    Soa,
    /// An IPv6 address.
    Aaaa,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Soa => 6,
            Kind::Aaaa => 28,
        }
    }
}

/// What a server answered.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// 0: no error, 2: server failure, 3: there is no such name, 5: refused.
    pub(super) code: u8,
    /// Whether it answers out of its own zone.
    pub(super) is_authoritative: bool,
    /// Whether it says to ask over TCP.
    pub(super) is_cut: bool,
    /// Records of the kind that was asked for.
    pub(super) records: Vec<Record>,
    /// When each signature of these begins, and when it ends, in seconds since 1970.
    pub(super) signed: Vec<(u32, u32)>,
}

/// One record.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// An address, as text.
    Address(String),
    /// The serial number of a zone.
    Serial(u32),
}

impl Answer {
    /// Whether the server is there and does not answer this of us.
    pub(super) fn is_refused(&self) -> bool {
        self.code == 5
    }

    /// The code in words.
    pub(super) fn said(&self) -> String {
        match self.code {
            0 => "no error".into(),
            2 => "SERVFAIL: the zone is not loaded, or its own servers do not answer it".into(),
            3 => "NXDOMAIN: there is no such name".into(),
            5 => "REFUSED: it does not answer us, or does not know the zone".into(),
            code => format!("error {code}"),
        }
    }
}

/// A question; `None` for what is no name.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let name = name.trim_end_matches('.');
    // Recursion desired, one question; of a zone, with its signatures.
    let wants_signatures = kind == Kind::Soa;
    let mut message = [id.to_be_bytes().as_slice(), &[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(wants_signatures)]].concat();
    for label in name.split('.').filter(|_| !name.is_empty()) {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend([kind.number().to_be_bytes(), [0, 1]].concat());
    if wants_signatures {
        message.extend(SIGNED);
    }
    (name.len() < 254).then_some(message)
}

/// That signatures are wanted, and how long an answer may be (RFC 6891): 1232 bytes.
const SIGNED: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0];
/// The kind of a signature.
const SIGNATURE: u16 = 46;

/// Reads the answer to a question; `None` for what is none.
pub(super) fn answer(message: &[u8], question: &[u8], kind: Kind) -> Option<Answer> {
    let flags = *message.get(2)?;
    let question = if kind == Kind::Soa { question.strip_suffix(&SIGNED)? } else { question };
    // The same id, a response, the same question.
    if message.get(..2)? != question.get(..2)? || flags & 0x80 == 0 {
        return None;
    }
    if !message.get(12..question.len())?.eq_ignore_ascii_case(&question[12..]) {
        return None;
    }
    let count = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let mut rest = &message[question.len()..];
    let (mut records, mut signed) = (vec![], vec![]);
    for _ in 0..count {
        rest = after_name(rest)?;
        let (head, after) = rest.split_at_checked(10)?;
        let (data, after) = after.split_at_checked(usize::from(u16::from_be_bytes([head[8], head[9]])))?;
        rest = after;
        if head[..2] == kind.number().to_be_bytes() {
            records.push(record(kind, data)?);
        }
        if head[..2] == SIGNATURE.to_be_bytes() && data.get(..2)? == kind.number().to_be_bytes() {
            let time = |at: usize| Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?));
            let (until, from) = (time(8)?, time(12)?);
            signed.push((from, until));
        }
    }
    let (code, is_authoritative, is_cut) = (message.get(3)? & 15, flags & 4 != 0, flags & 2 != 0);
    Some(Answer { code, is_authoritative, is_cut, records, signed })
}

fn record(kind: Kind, data: &[u8]) -> Option<Record> {
    Some(match kind {
        Kind::A => Record::Address(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string()),
        Kind::Aaaa => Record::Address(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string()),
        // Behind the names of the server and of who cares for it.
        Kind::Soa => {
            let numbers = after_name(after_name(data)?)?;
            Record::Serial(u32::from_be_bytes(numbers.get(..4)?.try_into().ok()?))
        }
    })
}

/// What stands behind a name, which ends with an empty label or a pointer to the rest of it.
fn after_name(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        match *bytes.first()? {
            0 => return bytes.get(1..),
            length if length >= 0xc0 => return bytes.get(2..),
            length => bytes = bytes.get(1 + usize::from(length)..)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_and_its_answer_read() {
        let asked = question(0x1234, "shop.example.", Kind::A).unwrap();
        assert_eq!(asked[12..], *b"\x04shop\x07example\x00\x00\x01\x00\x01");
        let mut message = asked.clone();
        message[2] = 0x85;
        message[7] = 2;
        // An alias, then the address.
        message.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x11");
        message.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07");
        let records = vec![Record::Address("192.0.2.7".into())];
        let expected = Answer { code: 0, is_authoritative: true, is_cut: false, records, signed: vec![] };
        assert_eq!(answer(&message, &asked, Kind::A), Some(expected));
        // As who is asked too often answers.
        let cut = [&asked[..2], &[0x87], &asked[3..]].concat();
        assert!(answer(&cut, &asked, Kind::A).unwrap().is_cut);
        assert_eq!(answer(&message, &question(0x1235, "shop.example", Kind::A).unwrap(), Kind::A), None);
        assert_eq!(answer(&message, &question(0x1234, "shop.examplf", Kind::A).unwrap(), Kind::A), None);
        for length in 0..message.len() {
            assert!(answer(&message[..length], &asked, Kind::A).is_none(), "{length}");
        }
    }

    #[test]
    fn the_end_of_a_zone_s_signatures_is_read() {
        let asked = question(7, "shop.example", Kind::Soa).unwrap();
        assert_eq!((asked[11], &asked[30..]), (1, &SIGNED[..]));
        let mut message = asked[..30].to_vec();
        (message[2], message[7]) = (0x84, 2);
        let soa = [&b"\x00\x00"[..], &9u32.to_be_bytes(), &[0; 16]].concat();
        message.extend([&b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x3c\x00"[..], &[soa.len() as u8], &soa].concat());
        let signature = [
            &b"\x00\x06\x0d\x02\x00\x00\x0e\x10"[..],
            &1_600_000_000u32.to_be_bytes(),
            &1_500_000_000u32.to_be_bytes(),
            &[0; 4],
        ]
        .concat();
        message.extend(
            [&b"\xc0\x0c\x00\x2e\x00\x01\x00\x00\x00\x3c\x00"[..], &[signature.len() as u8], &signature].concat(),
        );
        let read = answer(&message, &asked, Kind::Soa).unwrap();
        assert_eq!(
            (&read.signed[..], &read.records[..]),
            (&[(1_500_000_000, 1_600_000_000)][..], &[Record::Serial(9)][..])
        );
        for length in 0..message.len() {
            assert!(answer(&message[..length], &asked, Kind::Soa).is_none(), "{length}");
        }
    }

    #[test]
    fn what_is_no_name_is_no_question() {
        assert!(question(1, "a..b", Kind::A).is_none() && question(1, &"a".repeat(64), Kind::A).is_none());
        assert!(question(1, &"a.".repeat(200), Kind::A).is_none());
        assert_eq!(question(1, ".", Kind::Soa).unwrap()[12..17], *b"\x00\x00\x06\x00\x01");
    }
}

//! Conversations over TCP and questions over UDP that end when the check has to, however slowly the other side talks.

use crate::service::Target;
use anyhow::Context;
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

/// The longest line that is read, in bytes.
const LONGEST_LINE: usize = 8192;

/// A connection to a service. What goes wrong is a sentence for people.
#[derive(Debug)]
pub struct Talk {
    stream: TcpStream,
    until: Instant,
}

impl Talk {
    /// Connects to a port of the target; inside, why nobody answered.
    pub fn open(target: &Target, port: u16) -> anyhow::Result<Result<Talk, String>> {
        let until = target.until;
        Ok(match target.connect(port)? {
            Ok(stream) => Ok(Talk { stream, until }),
            Err(error) => Err(why(&error)),
        })
    }

    /// Says something.
    pub fn say(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| why(&error))
    }

    /// Hears a line, without its end.
    pub fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            if line.len() >= LONGEST_LINE {
                return Err(format!("it says a line of more than {LONGEST_LINE} bytes"));
            }
            line.push(self.exactly(1)?[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Hears this many bytes, no fewer.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let (mut bytes, mut heard) = (vec![0; count], 0);
        while heard < count {
            let left = self.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut bytes[heard..]));
            heard += match read {
                Ok(0) => return Err(why(&ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(why(&error)),
            };
            if Instant::now() > self.until {
                return Err(why(&ErrorKind::TimedOut.into()));
            }
        }
        Ok(bytes)
    }
}

/// How often a question over UDP is asked: a packet may be lost.
const TRIES: u32 = 3;

/// Asks over UDP until `read` makes something of an answer to the question that `ask` made; inside, why nothing came.
pub fn ask<T>(
    target: &Target,
    port: u16,
    ask: impl Fn() -> Vec<u8>,
    read: impl Fn(&[u8], &[u8]) -> Option<T>,
) -> anyhow::Result<Result<T, String>> {
    let address = target.address()?;
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).context("open a socket")?;
    if let Err(error) = socket.connect(SocketAddr::new(address, port)) {
        return Ok(Err(why(&error)));
    }
    let wait = target.left() / (TRIES + 1);
    let mut failed = io::Error::from(ErrorKind::TimedOut);
    for _ in 0..TRIES {
        match once(&socket, &ask(), &read, wait) {
            Ok(answer) => return Ok(Ok(answer)),
            // That nobody listens is certain, once it is said; the kernel says it once a second at most, and is silent in between.
            Err(_) if failed.kind() == ErrorKind::ConnectionRefused => (),
            Err(error) => failed = error,
        }
    }
    Ok(Err(why(&failed)))
}

fn once<T>(
    socket: &UdpSocket,
    question: &[u8],
    read: impl Fn(&[u8], &[u8]) -> Option<T>,
    wait: Duration,
) -> io::Result<T> {
    let until = Instant::now() + wait;
    let mut buffer = [0; 2048];
    socket.send(question)?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let count = socket.recv(&mut buffer)?;
        if let Some(answer) = read(&buffer[..count], question) {
            return Ok(answer);
        }
    }
}

/// What an error on a connection means.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nothing listens there, or only on another address (connection refused)".into(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".into(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "it closes the connection".into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::RefCell, net::TcpListener};

    /// This machine, for a moment.
    fn nearby() -> Target {
        Target {
            host: "127.0.0.1".into(),
            role: None,
            instance: String::new(),
            options: Default::default(),
            until: Instant::now() + Duration::from_millis(400),
            root: "/".into(),
        }
    }

    #[test]
    fn that_nobody_listens_is_remembered_when_the_kernel_says_it_no_more() {
        let target = nearby();
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // The second question, and the third, meet somebody who is silent.
        let silent = RefCell::new(vec![]);
        let question = || {
            let mut asked = silent.borrow_mut();
            let socket = if asked.is_empty() { None } else { UdpSocket::bind(free).ok() };
            asked.push(socket);
            vec![1]
        };
        let answer = ask(&target, free.port(), question, |_, _| Some(())).unwrap();
        assert!(silent.borrow()[1].is_some(), "nobody was silent");
        assert!(answer.unwrap_err().contains("refused"));
    }

    /// Talks with somebody who behaves like this.
    fn talk(behave: impl FnOnce(TcpStream) + Send + 'static) -> Talk {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || behave(listener.accept().unwrap().0));
        let target = nearby();
        Talk::open(&target, port).unwrap().unwrap()
    }

    #[test]
    fn who_says_one_byte_at_a_time_or_too_many_holds_up_nobody() {
        let mut slow = talk(|mut stream| {
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let start = Instant::now();
        assert_eq!(slow.line().unwrap_err(), "no answer in time");
        assert!(start.elapsed() < Duration::from_secs(2));
        let mut long = talk(|mut stream| while stream.write_all(&[b'x'; 1000]).is_ok() {});
        assert!(long.line().unwrap_err().contains("8192"));
        assert_eq!(talk(drop).line().unwrap_err(), "it closes the connection");
        let mut good = talk(|mut stream| stream.write_all(b"220 ready\r\nmore").unwrap());
        assert_eq!(good.line().unwrap(), "220 ready");
        assert_eq!(good.exactly(4).unwrap(), b"more");
    }
}

use super::*;
use atlas_model::{EnvVersion, Role};

struct Fixed(Secret);

impl Answers for Fixed {
    fn secret(&self) -> Option<Secret> {
        Some(self.0.clone())
    }
    fn findings(&self) -> Vec<u8> {
        serde_json::to_vec(&Findings {
            format: 1,
            role: Role::Sec(1),
            env_version: EnvVersion::OLDEST,
            time: 1000,
            started: 900,
            observed: vec![],
            heard: vec![],
            boots_with: None,
            partners: vec![],
            broken_channels: vec![],
        })
        .unwrap()
    }
    fn telling(&self) -> Vec<u8> {
        br#"{"format":1,"role":"SEC1","pri_asks":false,"tells":true}"#.to_vec()
    }
    fn metrics(&self) -> String {
        "up 1\n".into()
    }
    fn may_read_metrics(&self, from: IpAddr) -> bool {
        from.is_loopback()
    }
}

fn secret(letter: &str) -> Secret {
    Secret(letter.repeat(64).into_bytes())
}

/// A Verifier on loopback.
fn served() -> SocketAddr {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    serve(&[address], &Arc::new(Fixed(secret("a")))).unwrap();
    address
}

fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, TIME).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn a_partner_that_knows_the_secret_is_answered_and_no_other() {
    let address = served();
    let mut findings = ask(address, &secret("a")).unwrap();
    by_our_clock(&mut findings, 5000);
    assert_eq!((findings.role, findings.time, findings.started), (Role::Sec(1), 5000, 4900));
    assert!(ask(address, &secret("b")).unwrap_err().to_string().contains("differ"));
    assert!(raw(address, "GET /findings HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 403"));
    assert!(raw(address, "GET /metrics HTTP/1.1\r\n\r\n").ends_with("up 1\n"));
    assert!(raw(address, "GET /etc/passwd HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404"));
}

#[test]
fn what_is_no_request_or_too_long_or_too_slow_is_dropped() {
    let address = served();
    assert_eq!(raw(address, "\0\0\0\0"), "");
    assert_eq!(raw(address, "POST /findings HTTP/1.0\r\n\r\n"), "");
    assert_eq!(raw(address, &format!("GET /{} ", "x".repeat(20_000))), "");
    let idle: Vec<TcpStream> = (0..AT_ONCE).map(|_| TcpStream::connect_timeout(&address, TIME).unwrap()).collect();
    let start = Instant::now();
    while ask(address, &secret("a")).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "silent connections hold it up for good");
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(idle);
}

#[test]
fn a_partner_that_is_stuck_is_told_apart_from_one_that_is_gone() {
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = stuck.local_addr().unwrap();
    let error = ask(address, &secret("a")).unwrap_err();
    assert!(format!("{error:#}").contains("is stuck, or its server is: nothing came within 2 s"), "{error:#}");
    drop(stuck);
    assert!(format!("{:#}", ask(address, &secret("a")).unwrap_err()).contains("refused"));
}

#[test]
fn an_answer_that_a_stranger_made_up_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut some = [0; 1024];
        let _ = stream.read(&mut some);
        let body = Fixed(secret("a")).findings();
        let head =
            format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\nAtlas-Proof: {}\r\n\r\n", body.len(), "00".repeat(32));
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).unwrap();
    });
    assert!(ask(address, &secret("a")).unwrap_err().to_string().contains("not proven"));
}

#[test]
fn only_a_partner_makes_a_secret_of_bytes() {
    assert_eq!(unhex("0aff"), Some(vec![10, 255]));
    assert!(unhex("0af").is_none() && unhex("zz").is_none());
    assert_eq!(Secret::make().unwrap().len(), 65);
}

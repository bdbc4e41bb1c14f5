//! How Verifiers hear of each other: each asks its partners every few seconds for their findings, over the business network.
//!
//! ```text
//!  asker                                                      asked, TCP 7311
//!  GET /findings HTTP/1.0
//!  Atlas-Nonce: 32 random bytes, hex
//!  Atlas-Proof: HMAC-SHA256(secret, "ask" nonce)   ─────────►  knows that a partner asks
//!                                                  ◄─────────  Atlas-Proof: HMAC-SHA256(secret, "tell" nonce body), and the findings
//! ```
//!
//! `/telling` is asked and proven likewise, by one secondary of another while PRI is silent: whether it tells people.
//!
//! The secret lies in `/etc/atlas/verifier/secret`, is made by SetUp on PRI, and is synchronised as every other file is. It proves who speaks; it
//! hides nothing: findings are no secret. `/metrics` is for Prometheus, from this server itself and from where the settings allow.
//!
//! Invariants: a connection has two seconds, a request 4 KiB, an answer [`MAX_FINDINGS`]; eight connections are served at a time.

use anyhow::Context;
use atlas_host::tree::Dir;
use atlas_model::verify::{Findings, MAX_FINDINGS};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Where a Verifier is asked, unless the settings say otherwise.
pub const PORT: u16 = 7311;
/// The directory of what SetUp makes.
pub const DIRECTORY: &str = "etc/atlas/verifier";
/// The file of the secret in it.
pub const SECRET: &str = "secret";
const MAX_REQUEST: usize = 4096;
const TIME: Duration = Duration::from_secs(2);
const AT_ONCE: usize = 8;

/// What all Verifiers of a cluster know and nobody else.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads it; `None` before the first SetUp, or before the first cycle has brought it here.
    pub fn read(root: &Path) -> anyhow::Result<Option<Secret>> {
        let tree = Dir::open_root(root)?;
        let content = tree.read_if_there(format!("{DIRECTORY}/{SECRET}"), 1024)?;
        content.as_deref().map(Secret::parse).transpose()
    }

    /// What is in its file.
    ///
    /// # Errors
    /// Where it is too short to keep anybody out.
    pub fn parse(content: &[u8]) -> anyhow::Result<Secret> {
        let secret = content.trim_ascii().to_vec();
        anyhow::ensure!(
            secret.len() >= 32,
            "/{DIRECTORY}/{SECRET} is too short to be a secret: remove it on PRI, and SetUp makes a new one"
        );
        Ok(Secret(secret))
    }

    /// A new one, as it lies in its file.
    pub fn make() -> anyhow::Result<String> {
        Ok(format!("{}\n", hex(&random()?)))
    }

    fn proof(&self, parts: &[&[u8]]) -> anyhow::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).context("use the secret")?;
        parts.iter().for_each(|part| mac.update(part));
        Ok(mac)
    }

    fn prove(&self, parts: &[&[u8]]) -> anyhow::Result<String> {
        Ok(hex(&self.proof(parts)?.finalize().into_bytes()))
    }

    /// What an answer to the question with this nonce is proven by.
    pub fn prove_answer(&self, nonce: &str, body: &[u8]) -> anyhow::Result<String> {
        self.prove(&[b"tell", nonce.as_bytes(), body])
    }

    /// In a time that does not depend on where the two differ.
    fn is_proven(&self, parts: &[&[u8]], proof: &str) -> bool {
        unhex(proof).is_some_and(|proof| self.proof(parts).is_ok_and(|mac| mac.verify_slice(&proof).is_ok()))
    }
}

fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// What a Verifier answers with.
pub trait Answers: Send + Sync + 'static {
    /// The cluster's secret, where there is one.
    fn secret(&self) -> Option<Secret>;
    /// The findings as JSON; a partner has asked for them.
    fn findings(&self) -> Vec<u8>;
    /// Whether this server tells people, as JSON; another secondary has asked.
    fn telling(&self) -> Vec<u8>;
    /// The metrics, in Prometheus' text format.
    fn metrics(&self) -> String;
    /// Whether this address may read the metrics.
    fn may_read_metrics(&self, from: IpAddr) -> bool;
}

/// Answers at these addresses until the program ends.
///
/// # Errors
/// Where none of them can be listened on.
pub fn serve(addresses: &[SocketAddr], answers: &Arc<impl Answers>) -> anyhow::Result<()> {
    let (mut listening, mut failed) = (0, None);
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listening += 1;
                let answers = Arc::clone(answers);
                std::thread::spawn(move || accept(&listener, &answers));
            }
            // [::] takes 0.0.0.0 with it where the kernel says so.
            Err(error) => failed = Some(anyhow::Error::new(error).context(format!("listen on {address}"))),
        }
    }
    match failed {
        Some(error) if listening == 0 => Err(error),
        _ => Ok(()),
    }
}

fn accept(listener: &TcpListener, answers: &Arc<impl Answers>) {
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors: a moment later some are free again.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if busy.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            busy.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (answers, busy) = (Arc::clone(answers), Arc::clone(&busy));
        std::thread::spawn(move || {
            // Whoever asks wrongly, or goes away, learns nothing and disturbs nobody.
            let _ = answer(stream, answers.as_ref());
            busy.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// A request as it was understood.
#[derive(Debug)]
pub struct Request {
    path: String,
    nonce: String,
    proof: String,
}

impl Request {
    /// Reads what has come of a request; `None` while it has not ended.
    ///
    /// # Errors
    /// Where it is none, or too long.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Option<Request>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        if request.parse(bytes)?.is_partial() {
            anyhow::ensure!(bytes.len() < MAX_REQUEST, "the request is too long");
            return Ok(None);
        }
        anyhow::ensure!(request.method == Some("GET"), "it is no GET");
        let path = request.path.unwrap_or_default().to_owned();
        let header = |name| header(&headers, name);
        Ok(Some(Request { path, nonce: header("Atlas-Nonce"), proof: header("Atlas-Proof") }))
    }
}

fn answer(mut stream: TcpStream, answers: &impl Answers) -> anyhow::Result<()> {
    let until = Instant::now() + TIME;
    let request = hear(&mut stream, until)?;
    let from = stream.peer_addr()?.ip();
    let (status, proof, body) = respond(&request, from, answers)?;
    let header = format!(
        "HTTP/1.0 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n{proof}\r\n",
        if request.path == "/metrics" { "text/plain; version=0.0.4" } else { "application/json" },
        body.len()
    );
    stream.set_write_timeout(Some(TIME))?;
    stream.write_all(header.as_bytes())?;
    Ok(stream.write_all(&body)?)
}

fn respond(request: &Request, from: IpAddr, answers: &impl Answers) -> anyhow::Result<(&'static str, String, Vec<u8>)> {
    let refused = |status| Ok((status, String::new(), Vec::new()));
    match request.path.as_str() {
        "/findings" | "/telling" => {
            let Some(secret) = answers.secret() else { return refused("503 No Secret Yet") };
            if request.nonce.len() != 64 || !secret.is_proven(&[b"ask", request.nonce.as_bytes()], &request.proof) {
                return refused("403 Forbidden");
            }
            let body = if request.path == "/telling" { answers.telling() } else { answers.findings() };
            let proof = secret.prove_answer(&request.nonce, &body)?;
            Ok(("200 OK", format!("Atlas-Proof: {proof}\r\n"), body))
        }
        "/metrics" if answers.may_read_metrics(from) => Ok(("200 OK", String::new(), answers.metrics().into_bytes())),
        "/metrics" => refused("403 Forbidden"),
        _ => refused("404 Not Found"),
    }
}

fn hear(stream: &mut TcpStream, until: Instant) -> anyhow::Result<Request> {
    let mut buffer = Vec::new();
    loop {
        if let Some(request) = Request::parse(&buffer)? {
            return Ok(request);
        }
        read_some(stream, &mut buffer, until)?;
    }
}

fn header(headers: &[httparse::Header<'_>], name: &str) -> String {
    let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| String::from_utf8_lossy(header.value).into_owned()).unwrap_or_default()
}

/// Reads what there is, at least a byte; an error at the end of the stream, or of the time.
fn read_some(stream: &mut TcpStream, buffer: &mut Vec<u8>, until: Instant) -> anyhow::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    anyhow::ensure!(!left.is_zero(), "it took too long");
    stream.set_read_timeout(Some(left))?;
    let mut some = [0; 16 << 10];
    let count = match stream.read(&mut some) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            anyhow::bail!("nothing came within {} s", TIME.as_secs());
        }
        other => other?,
    };
    anyhow::ensure!(count > 0, "the connection was closed");
    buffer.extend_from_slice(&some[..count]);
    Ok(())
}

/// Asks a partner's Verifier.
///
/// # Errors
/// Why nothing came: nobody listens, it took too long, or what came is not proven to be from a partner.
pub fn ask(address: SocketAddr, secret: &Secret) -> anyhow::Result<Findings> {
    ask_for("/findings", address, secret, read_findings)
}

/// Asks another server's Verifier for what is at this path.
///
/// # Errors
/// As [`ask`].
pub fn ask_for<T>(
    path: &str,
    address: SocketAddr,
    secret: &Secret,
    read: impl Fn(&[u8]) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let until = Instant::now() + TIME;
    let mut stream = TcpStream::connect_timeout(&address, TIME)
        .with_context(|| format!("connect to its port {}", address.port()))?;
    stream.set_write_timeout(Some(TIME))?;
    let nonce = hex(&random()?);
    let proof = secret.prove(&[b"ask", nonce.as_bytes()])?;
    let request = format!("GET {path} HTTP/1.0\r\nAtlas-Nonce: {nonce}\r\nAtlas-Proof: {proof}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("ask")?;
    let mut buffer = Vec::new();
    loop {
        read_some(&mut stream, &mut buffer, until)
            .context("it takes questions and answers none: it is stuck, or its server is")?;
        if let Some(body) = proven_body(&buffer, &nonce, secret)? {
            return read(body);
        }
    }
}

/// Reads what has come of an answer to the question with this nonce; `None` while it has not ended.
///
/// # Errors
/// Where it is a refusal, too long, or not proven to be from a partner.
pub fn parse_answer(bytes: &[u8], nonce: &str, secret: &Secret) -> anyhow::Result<Option<Findings>> {
    proven_body(bytes, nonce, secret)?.map(read_findings).transpose()
}

fn proven_body<'b>(bytes: &'b [u8], nonce: &str, secret: &Secret) -> anyhow::Result<Option<&'b [u8]>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(bytes).context("read its answer")? else {
        anyhow::ensure!(bytes.len() < MAX_REQUEST + (16 << 10), "the head of its answer is too long");
        return Ok(None);
    };
    let (code, reason) = (response.code.unwrap_or_default(), response.reason.unwrap_or_default());
    anyhow::ensure!(code != 403, "it refuses to answer: the two servers' /{DIRECTORY}/{SECRET} differ");
    anyhow::ensure!(code == 200, "it answers {code} {reason}");
    let length: usize = header(&headers, "Content-Length").parse().context("read the length of its answer")?;
    anyhow::ensure!(length <= MAX_FINDINGS, "its answer has {length} bytes, more than {MAX_FINDINGS}");
    let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
    anyhow::ensure!(
        secret.is_proven(&[b"tell", nonce.as_bytes(), body], &header(&headers, "Atlas-Proof")),
        "its answer is not proven to be from a partner"
    );
    Ok(Some(body))
}

fn read_findings(body: &[u8]) -> anyhow::Result<Findings> {
    let findings: Findings = serde_json::from_slice(body).context("read its findings")?;
    anyhow::ensure!(
        findings.format == 1,
        "its findings are of format {}; this program reads format 1",
        findings.format
    );
    Ok(findings)
}

/// Moves all times to this server's clock, which reads `now`.
pub fn by_our_clock(findings: &mut Findings, now: u64) {
    let theirs = findings.time;
    let shift = |time: &mut u64| *time = now.saturating_sub(theirs.saturating_sub(*time));
    for observed in &mut findings.observed {
        if observed.checked > 0 {
            shift(&mut observed.checked);
        }
        shift(&mut observed.since);
        if let Some(until) = &mut observed.maintenance_until {
            *until = now.saturating_add(until.saturating_sub(theirs));
        }
    }
    shift(&mut findings.started);
    findings.time = now;
}

#[cfg(test)]
mod tests;

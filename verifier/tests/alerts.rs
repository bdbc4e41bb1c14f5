//! Alerts as they travel: mail over TLS, and a webhook, each to a server of the test's own on loopback.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

/// A server that is a directory, with these channels.
fn server(channels: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("opt/atlas/EnvID", "1\n");
    write("opt/atlas/Cluster", "bakery\n");
    let config = "format = 1\ncluster = \"bakery\"\nrole = \"PRI\"\n[[partner]]\nrole = \"SEC1\"\nhost = \"sec1\"\n";
    write("unbound/SID_DATA/MasterConfig", config);
    write("etc/atlas/password", "s3\"cret\n");
    write("etc/atlas/verifier.toml", channels);
    root
}

fn alert_test(root: &Path, trusted: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_VerifierResults"));
    command.args(["alert-test", "--root"]).arg(root).env("CURL_CA_BUNDLE", trusted).env("no_proxy", "*");
    command.output().unwrap()
}

/// A server of SMTP within TLS, as far as a client sees of one: openssl does the TLS.
struct Smtp {
    openssl: Child,
    port: u16,
}

impl Drop for Smtp {
    fn drop(&mut self) {
        let _ = self.openssl.kill();
        self.openssl.wait().unwrap();
    }
}

impl Smtp {
    fn start(dir: &Path) -> Smtp {
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key", "-out", "cert"])
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let openssl = Command::new("openssl")
            .args([
                "s_server",
                "-quiet",
                "-naccept",
                "1",
                "-cert",
                "cert",
                "-key",
                "key",
                "-accept",
                &format!("127.0.0.1:{port}"),
            ])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output().unwrap().stdout.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Smtp { openssl, port }
    }

    /// Takes one mail; everything that the client said.
    fn take(&mut self) -> String {
        let mut hear: BufReader<ChildStdout> = BufReader::new(self.openssl.stdout.take().unwrap());
        let mut say = self.openssl.stdin.take().unwrap();
        let (mut heard, mut in_mail) = (String::new(), false);
        say.write_all(b"220 test\r\n").unwrap();
        let mut line = String::new();
        while hear.read_line(&mut line).is_ok_and(|count| count > 0) {
            heard.push_str(&line);
            let word = line.split([' ', '\r']).next().unwrap_or_default().to_owned();
            let answer = match word.as_str() {
                "." => "250 taken",
                _ if in_mail => "",
                "EHLO" => "250-test\r\n250 AUTH PLAIN",
                "AUTH" => "334 ",
                "AGF0bGFzAHMzImNyZXQ=" => "235 welcome",
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 fine",
            };
            in_mail = word == "DATA" || in_mail && word != ".";
            if !answer.is_empty()
                && say.write_all(format!("{answer}\r\n").as_bytes()).and_then(|()| say.flush()).is_err()
            {
                break;
            }
            line.clear();
        }
        heard
    }
}

fn mail_channel(port: u16) -> String {
    format!(
        "[[channel]]\nname = \"admin\"\nkind = \"mail\"\nurl = \"smtps://127.0.0.1:{port}\"\nfrom = \"atlas@example.org\"\n\
         to = [\"ann@example.org\", \"bob@example.org\"]\nuser = \"atlas\"\npassword_file = \"/etc/atlas/password\"\n"
    )
}

#[test]
fn a_mail_travels_within_tls_to_everybody_with_the_account_of_the_settings() {
    let dir = tempfile::tempdir().unwrap();
    let mut smtp = Smtp::start(dir.path());
    let root = server(&mail_channel(smtp.port));
    let (path, trusted) = (root.path().to_owned(), dir.path().join("cert"));
    let tested = std::thread::spawn(move || alert_test(&path, &trusted));
    let heard = smtp.take();
    let output = tested.join().unwrap();
    assert!(
        output.status.success(),
        "{} {}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for part in [
        // NUL atlas NUL s3"cret
        "AGF0bGFzAHMzImNyZXQ=",
        "MAIL FROM:<atlas@example.org>",
        "RCPT TO:<ann@example.org>",
        "RCPT TO:<bob@example.org>",
        "Subject: ATLAS PRI of bakery: test test",
        "There is nothing to do.",
    ] {
        assert!(heard.contains(part), "{part} is not in\n{heard}");
    }
}

#[test]
fn a_mail_server_that_cannot_prove_who_it_is_gets_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let mut smtp = Smtp::start(dir.path());
    let root = server(&mail_channel(smtp.port));
    // Another certificate is trusted than the server's.
    let path = root.path().to_owned();
    let tested = std::thread::spawn(move || alert_test(&path, Path::new("/etc/ssl/certs/ca-certificates.crt")));
    let output = tested.join().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(3) && text.contains("certificate"), "{text}");
    let _ = smtp.openssl.kill();
    let mut heard = String::new();
    smtp.openssl.stdout.take().unwrap().read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "");
}

#[test]
fn a_webhook_gets_the_alert_as_json() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let root =
        server(&format!("[[channel]]\nname = \"chat\"\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/hook\"\n"));
    let path = root.path().to_owned();
    let tested = std::thread::spawn(move || alert_test(&path, Path::new("/nowhere")));
    let (mut stream, _) = listener.accept().unwrap();
    let mut hear = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    while hear.read_line(&mut line).unwrap() > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    hear.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    let alert: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((alert["kind"].as_str(), alert["from"].as_str()), (Some("test"), Some("PRI of bakery")));
    assert!(tested.join().unwrap().status.success());
}

//! Every part that is shipped, on generated trees: there and back gives the same bytes, whatever the files say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it must be")]

use atlas_converters::{
    Direction, convert_tree,
    part::{Made, Part, Rule, Syntax},
    program::Programs,
    residue::Residue,
    tree::{Object, Tree, plain_meta},
};
use atlas_model::{
    TreePath,
    manifest::{Kind, Meta},
};
use proptest::prelude::*;
use std::{fs, path::Path};

/// The parts of both converters, each with the converter's number.
fn shipped() -> Vec<(u32, Part)> {
    let mut parts = Vec::new();
    for number in [2, 3] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("parts/Env{number}"));
        let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let part = Part::parse(name, &fs::read(&file).unwrap());
            parts.push((number, part.unwrap_or_else(|error| panic!("{}: {error}", file.display()))));
        }
    }
    parts
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// What files may hold besides what the rules name.
const LINES: [&str; 66] = [
    "",
    "# a comment",
    "some text, löslich",
    "  indented   text ",
    "no newline at all\r",
    "[global]",
    "[www]",
    "Match User x",
    "ssh:x:101:",
    "_ssh:x:101:",
    "ntp:x:110:115::/nonexistent:/usr/sbin/nologin",
    "ntpsec:*:19000:0:99999:7:::",
    "clock:x:33:a,ntp,b",
    "server time.example nts iburst",
    "nts enable",
    "driftfile /var/lib/ntp/ntp.drift",
    "server {",
    "  listen 443 ssl;",
    "  listen 80 default_server; http2 on;",
    "  http2 on;",
    "  ssl on;",
    "  listen 443 quic;",
    "}",
    "compatibility_level = 3.6",
    "password_encryption = on  # x",
    "access.format = \"%R %{milli}d\"",
    "extension=json.so",
    "; built in: extension = json",
    "ssh:x:1001:ann",
    "HostKeyAlgorithms +ssh-dss",
    "HostKeyAlgorithms +ssh-dss,ssh-dss-cert-v01@openssh.com",
    "HostbasedAcceptedAlgorithms \"ssh-dss,ssh-rsa\"",
    "PubkeyAcceptedAlgorithms ssh-ed25519,ssh-dss,ssh-rsa",
    "KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256",
    "KexAlgorithms +mlkem768x25519-sha256,sntrup761x25519-sha512",
    "KexAlgorithms +sntrup4591761x25519-sha512@tinyssh.org,curve25519-sha256",
    "Ciphers aes256-ctr,rijndael-cbc@lysator.liu.se",
    "hostssl all all 0.0.0.0/0 cert clientcert=1",
    "host all all ::/0 md5 clientcert=0",
    "smtpd_tls_protocols = >=TLSv1.2",
    "  -o smtpd_tls_protocols=>=TLSv1.2",
    "auto lo",
    "iface lo inet loopback",
    "auto eth0\niface eth0 inet static\n    address 192.168.1.10/24\n    gateway 192.168.1.1",
    "[Match]\nName=eth0\n[Network]\nAddress=192.168.1.10/24",
    "mail_location = mbox:~/mail:INBOX=/var/mail/%u",
    "mail_driver = maildir\nmail_path = ~/Maildir",
    "dovecot_config_version = 2.4.0",
    "disable_plaintext_auth = no",
    "ssl_cert = <a.pem",
    "mail_plugins = $mail_plugins zlib",
    "mail_plugins {\n  quota = yes\n}",
    "passdb {\n  driver = sql\n  args = /etc/dovecot/x.ext\n}",
    "passdb sql {\n  !include_try /etc/dovecot/x.ext\n}",
    "userdb {\n  driver = static\n  args = uid=vmail home=/x/%Lu\n}",
    "userdb static {\n  fields {\n    home = /x/%{user | lower}\n  }\n}",
    "plugin {\n  # y\n  quota = maildir:User quota\n  quota_rule2 = Trash:storage=+10M\n  sieve_before = /b\n  other = 1\n}",
    "quota \"User quota\" {\n  storage_size = 1G\n}",
    "namespace {\n  inbox = yes\n  location = \n}",
    "namespace inbox {\n  mailbox Trash {\n    quota_ignore = yes\n  }\n}",
    "service x {\n  service_count = 0\n  inet_listener {\n    address = ::1\n  }\n}",
    "service director {\n}",
    "connect = host=a user=b",
    "sql_driver = mysql\nmysql a {\n  user = b\n}",
    "password_query = SELECT '%u' \\",
    "mail_home = /x/%Z",
];

/// The files that a part is about, in one version, and lines that its rules look for.
fn about(part: &Part, direction: Direction) -> (Vec<TreePath>, Vec<String>) {
    let mut files = Vec::new();
    let mut lines: Vec<String> = LINES.iter().map(|line| (*line).to_owned()).collect();
    let mut add = |patterns: &[atlas_converters::part::Pattern]| {
        files.extend(patterns.iter().map(|pattern| path(&pattern.to_string().replace('*', "x"))));
    };
    let (mut moves, mut made) = (Vec::new(), Vec::new());
    for rule in &part.rules {
        match rule {
            Rule::Move(older, newer) => moves.push((older.clone(), newer.clone())),
            Rule::File(file) => {
                made.push(file.path.clone());
                // As it is made, it would be in lines.
                if let Made::File(content) = &file.is {
                    lines.push(content.trim_end().to_owned());
                }
            }
            Rule::Text(text) => {
                add(&text.files);
                lines.extend([format!("a {} b", text.older), format!("x={}", text.newer)]);
            }
            Rule::Key(key) => {
                add(&key.files);
                for name in key.names.iter().flat_map(|(older, newer)| [older, newer]).flatten() {
                    lines.push(match key.syntax {
                        Syntax::Words => format!("{name} on"),
                        Syntax::Ini => format!("{name} = 1 \\"),
                        Syntax::Postgresql => format!("{name} = 'x' # y"),
                    });
                }
            }
            Rule::Line(line) => add(&line.files),
            Rule::Program(program) => add(&program.newer),
            Rule::Transform(_) => {}
        }
    }
    files.extend(
        ["/etc/nginx/sites-enabled/x", "/etc/network/interfaces", "/etc/systemd/network/10-lan.network"].map(path),
    );
    files.push(path("/etc/systemd/network/50-ifupdown-eth0.network"));
    files.extend(["dovecot.conf", "conf.d/10-mail.conf", "x.ext"].map(|name| path(&format!("/etc/dovecot/{name}"))));
    files.extend(["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"].map(path));
    files.extend(made);
    for (older, newer) in moves {
        let (is_older, place) = (direction == Direction::Newer, [&newer, &older]);
        let place = place[usize::from(is_older)].clone();
        let below = |one: &TreePath| one.is_within(&newer);
        if is_older {
            for file in files.iter_mut().filter(|file| below(file)) {
                let rest = file.relative().strip_prefix(newer.relative()).unwrap().to_owned();
                *file = rest.iter().fold(older.clone(), |at, name| at.join(name).unwrap());
            }
        }
        if !files.iter().any(|file| file.is_within(&place)) {
            files.push(place);
        }
    }
    files.sort();
    files.dedup();
    (files, lines)
}

/// A tree with some of these files, listed as themselves or by their directory.
fn tree(files: Vec<TreePath>, lines: Vec<String>) -> impl Strategy<Value = Tree> {
    let line = proptest::sample::select(lines);
    let content = proptest::collection::vec(line, 0..12);
    let file = (content, any::<bool>(), 0..4_u8, any::<bool>());
    proptest::collection::vec(file, files.len()).prop_map(move |contents| {
        let mut tree = Tree::default();
        let mut list = String::from("# what is listed\n");
        for (path, (lines, newline, kind, by_dir)) in files.iter().zip(contents) {
            let meta = Meta { mode: 0o640, mtime: 1_700_000_000 + i64::from(kind), ..plain_meta() };
            let end = if newline { "\n" } else { "" };
            let object = match kind {
                0 => continue,
                1 if !newline => Object::plain(Kind::Absent),
                _ => Object::file((lines.join("\n") + end).into_bytes(), meta.clone()),
            };
            tree.objects.insert(path.clone(), object);
            match path.parent().filter(|_| by_dir) {
                Some(parent) => {
                    list.push_str(&format!("{parent}\n"));
                    tree.objects.insert(parent, Object::plain(Kind::Dir { meta: Meta { mode: 0o755, ..meta } }));
                }
                None => list.push_str(&format!("{path}\n")),
            }
        }
        let target = files.first().map(ToString::to_string).unwrap_or_default();
        let link = Kind::Link { target, meta: Meta { mode: 0, ..plain_meta() } };
        tree.objects.insert(TreePath::parse("/etc/link").unwrap(), Object::plain(link));
        tree.lists.insert("SyncFilePaths".into(), list.into_bytes());
        tree
    })
}

/// Converts, or gives nothing where a part refuses what cannot be expressed.
fn convert(parts: &[Part], tree: &Tree, kept: &Residue, direction: Direction) -> Option<(Tree, Residue)> {
    match convert_tree(parts, tree, kept, direction, &Programs::none()) {
        Ok((tree, residue, left_out)) => {
            assert!(left_out.is_empty(), "left out: {left_out:?}");
            Some((tree, residue))
        }
        Err(atlas_converters::Error::Part { part, source, .. }) => {
            assert_eq!(part, "network", "{source}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The two ways of one part, or of a whole converter, on a tree.
fn there_and_back(parts: &[Part], tree: &Tree, direction: Direction) -> bool {
    let Some((other, residue)) = convert(parts, tree, &Residue::default(), direction) else { return false };
    let (again, _) = convert(parts, &other, &residue, direction.back()).expect("what was made can be converted back");
    assert_eq!(&again, tree);
    // Once more, from what came back, makes the same.
    let (other_again, _) = convert(parts, &again, &Residue::default(), direction).unwrap();
    assert_eq!(other_again, other);
    true
}

#[test]
fn every_part_gives_the_same_bytes_there_and_back() {
    let converted = std::cell::Cell::new(0);
    for (number, part) in shipped() {
        for direction in [Direction::Older, Direction::Newer] {
            let (files, lines) = about(&part, direction);
            let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
            let parts = [part.clone()];
            let result = runner.run(&tree(files, lines), |tree| {
                converted.set(converted.get() + usize::from(there_and_back(&parts, &tree, direction)));
                Ok(())
            });
            result.unwrap_or_else(|error| panic!("Env{number} {} {}: {error}", part.name, direction.name()));
        }
    }
    let converted = converted.get();
    assert!(converted > 1000, "only {converted} trees were not refused");
}

#[test]
fn all_parts_of_a_converter_together_give_the_same_bytes_there_and_back() {
    for number in [2, 3] {
        let parts: Vec<Part> = shipped().into_iter().filter(|(of, _)| *of == number).map(|(_, part)| part).collect();
        for direction in [Direction::Older, Direction::Newer] {
            let (mut files, mut lines) = (vec![], vec![]);
            for part in &parts {
                let (more, further) = about(part, direction);
                files.extend(more);
                lines.extend(further);
            }
            files.sort();
            files.dedup();
            let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
            let result = runner.run(&tree(files, lines), |tree| {
                there_and_back(&parts, &tree, direction);
                Ok(())
            });
            result.unwrap_or_else(|error| panic!("Env{number} {}: {error}", direction.name()));
        }
    }
}

#[test]
fn what_is_changed_on_the_older_server_meanwhile_is_kept_and_so_is_what_only_the_newer_one_knows() {
    let parts: Vec<Part> = shipped().into_iter().filter(|(of, _)| *of == 2).map(|(_, part)| part).collect();
    let sshd = path("/etc/ssh/sshd_config");
    let mut new = Tree::default();
    new.put(&sshd, b"Port 22\nRequiredRSASize 3072\nKbdInteractiveAuthentication no\nUsePAM yes\n".to_vec(), None);
    let (mut old, residue) = convert(&parts, &new, &Residue::default(), Direction::Older).unwrap();
    assert_eq!(old.text(&sshd).unwrap().unwrap(), b"Port 22\nChallengeResponseAuthentication no\nUsePAM yes\n");

    old.put(&sshd, b"Port 2222\nX11Forwarding no\nChallengeResponseAuthentication yes\nUsePAM yes\n".to_vec(), None);
    let (merged, _, left_out) = convert_tree(&parts, &old, &residue, Direction::Newer, &Programs::none()).unwrap();
    // The lines around the kept one are others now: it is told, and nothing that was changed is undone.
    assert_eq!(left_out, ["/etc/ssh/sshd_config"]);
    let text = String::from_utf8(merged.text(&sshd).unwrap().unwrap()).unwrap();
    assert_eq!(text, "Port 2222\nX11Forwarding no\nKbdInteractiveAuthentication yes\nUsePAM yes\n");

    old.put(&sshd, b"Port 22\nChallengeResponseAuthentication no\nUsePAM no\nX11Forwarding no\n".to_vec(), None);
    let (merged, _, left_out) = convert_tree(&parts, &old, &residue, Direction::Newer, &Programs::none()).unwrap();
    assert!(left_out.is_empty());
    let text = String::from_utf8(merged.text(&sshd).unwrap().unwrap()).unwrap();
    assert_eq!(text, "Port 22\nRequiredRSASize 3072\nKbdInteractiveAuthentication no\nUsePAM no\nX11Forwarding no\n");
}

/// It would be sought as a file by a PHP that has it built in; without it, one that has not could not read JSON.
#[test]
fn phps_json_is_loaded_where_it_is_no_part_of_php() {
    let parts: Vec<Part> =
        shipped().into_iter().filter(|(of, part)| *of == 2 && part.name == "php").map(|(_, part)| part).collect();
    let (older, newer) = (path("/etc/php/7.4/mods-available/json.ini"), path("/etc/php/8.2/mods-available/json.ini"));
    let to = |tree: &Tree, direction| convert(&parts, tree, &Residue::default(), direction).unwrap().0;

    let mut changed = Tree::default();
    changed.put(&older, b"; priority=10\nextension=json.so\n".to_vec(), None);
    let new = to(&changed, Direction::Newer);
    assert_eq!(new.text(&newer).unwrap().unwrap(), b"; priority=10\n; built in: extension=json.so\n");
    let again = to(&new, Direction::Older);
    assert_eq!(again.text(&older).unwrap().unwrap(), b"; priority=10\nextension=json.so\n");

    // As the packages of Debian 12 leave it: two kinds of PHP are installed, and one is configured in part.
    let mut native = Tree { lists: [("SyncFilePaths".into(), b"/etc/php\n".to_vec())].into(), ..Tree::default() };
    for dir in
        ["", "/8.2", "/8.2/mods-available", "/8.2/fpm", "/8.2/fpm/conf.d", "/8.2/cli", "/8.2/cli/conf.d", "/8.2/cgi"]
    {
        let meta = Meta { mode: 0o755, ..plain_meta() };
        native.objects.insert(path(&format!("/etc/php{dir}")), Object::plain(Kind::Dir { meta }));
    }
    let old = to(&native, Direction::Older);
    assert_eq!(
        old.text(&older).unwrap().unwrap(),
        b"; configuration for php json module\n; priority=20\nextension=json.so\n"
    );
    for (kind, is_there) in [("fpm", true), ("cli", true), ("cgi", false), ("apache2", false)] {
        let link = old.objects.get(&path(&format!("/etc/php/7.4/{kind}/conf.d/20-json.ini"))).map(|link| &link.kind);
        let target = link.map(|kind| match kind {
            Kind::Link { target, .. } => target.as_str(),
            _ => "no link",
        });
        assert_eq!(target, is_there.then_some("/etc/php/7.4/mods-available/json.ini"), "{kind}");
    }
    assert_eq!(to(&old, Direction::Newer), native, "PHP 8.2 has it without them");
}

/// What the daemon of the newer release refuses to start with.
#[test]
fn what_a_newer_release_does_not_understand_any_more_is_said_as_it_does() {
    const HBA: &str = "/etc/postgresql/15/main/pg_hba.conf";
    const SSHD: &str = "/etc/ssh/sshd_config";
    for (file, older, newer) in [
        ("/etc/apache2/sites-available/a.conf", "<IfModule mod_php7.c>", "<IfModule mod_php.c>"),
        (
            "/etc/cron.d/shop",
            "5 * * * * www-data /usr/bin/php7.4 /srv/a.php",
            "5 * * * * www-data /usr/bin/php8.2 /srv/a.php",
        ),
        (
            "/etc/cron.d/backup",
            "5 1 * * * postgres pg_dump --cluster 13/main shop; pg_ctlcluster 13 main reload; ls /var/lib/postgresql/13/main",
            "5 1 * * * postgres pg_dump --cluster 15/main shop; pg_ctlcluster 15 main reload; ls /var/lib/postgresql/15/main",
        ),
        (HBA, "hostssl all all 0.0.0.0/0 cert clientcert=1", "hostssl all all 0.0.0.0/0 cert clientcert=verify-full"),
        (HBA, "hostssl all all ::/0 md5 clientcert=1 # x", "hostssl all all ::/0 md5 clientcert=verify-ca # x"),
        (HBA, "hostssl all all ::/0 md5 clientcert=0", "hostssl all all ::/0 md5"),
        (HBA, "hostssl all all ::/0 md5 clientcert=verify-ca", "hostssl all all ::/0 md5 clientcert=verify-ca"),
        (
            SSHD,
            "KexAlgorithms curve25519-sha256,sntrup4591761x25519-sha512@tinyssh.org",
            "KexAlgorithms curve25519-sha256",
        ),
        (SSHD, "Ciphers +rijndael-cbc@lysator.liu.se,aes256-ctr", "Ciphers +aes256-ctr"),
        (SSHD, "Ciphers rijndael-cbc@lysator.liu.se", ""),
    ] {
        let parts: Vec<Part> = shipped().into_iter().filter(|(of, _)| *of == 2).map(|(_, part)| part).collect();
        let mut tree = Tree::default();
        tree.put(&path(&file.replace("/15/", "/13/")), format!("# a\n{older}\n").into_bytes(), None);
        let (converted, residue) = convert(&parts, &tree, &Residue::default(), Direction::Newer).unwrap();
        let text = String::from_utf8(converted.text(&path(file)).unwrap().unwrap()).unwrap();
        let wanted = if newer.is_empty() { "# a\n".to_owned() } else { format!("# a\n{newer}\n") };
        assert_eq!(text, wanted, "{older}");
        assert_eq!(convert(&parts, &converted, &residue, Direction::Older).unwrap().0, tree, "{older}");
    }
}

/// What the daemon of the older release refuses, or takes for something else, is said in its own words.
#[test]
fn what_only_a_newer_release_understands_is_said_as_the_older_one_does() {
    const HBA: &str = "/etc/postgresql/17/main/pg_hba.conf";
    for (number, file, newer, older) in [
        (
            2,
            "/etc/ssh/sshd_config",
            "KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256",
            "KexAlgorithms curve25519-sha256",
        ),
        (
            2,
            "/etc/ssh/ssh_config",
            "KexAlgorithms ^curve25519-sha256,sntrup761x25519-sha512@openssh.com",
            "KexAlgorithms ^curve25519-sha256",
        ),
        (2, "/etc/ssh/sshd_config", "KexAlgorithms +sntrup761x25519-sha512@openssh.com # new", ""),
        (
            3,
            "/etc/ssh/sshd_config",
            "KexAlgorithms mlkem768x25519-sha256,sntrup761x25519-sha512,sntrup761x25519-sha512@openssh.com",
            "KexAlgorithms sntrup761x25519-sha512@openssh.com",
        ),
        (
            3,
            "/etc/ssh/sshd_config",
            "KexAlgorithms curve25519-sha256,sntrup761x25519-sha512,mlkem768x25519-sha256",
            "KexAlgorithms curve25519-sha256",
        ),
        (
            2,
            "/etc/postfix/main.cf",
            "smtpd_tls_protocols = >=TLSv1.2",
            "smtpd_tls_protocols = !SSLv2, !SSLv3, !TLSv1, !TLSv1.1",
        ),
        (
            2,
            "/etc/postfix/main.cf",
            "smtp_tls_mandatory_protocols=>=TLSv1",
            "smtp_tls_mandatory_protocols=!SSLv2, !SSLv3",
        ),
        (
            2,
            "/etc/postfix/main.cf",
            "my_min = >=TLSv1.2, <=TLSv1.3",
            "my_min = !SSLv2, !SSLv3, !TLSv1, !TLSv1.1, !SSLv2",
        ),
        (2, "/etc/postfix/main.cf", "  >=TLSv1.1, <=0303", "  !SSLv2, !SSLv3, !TLSv1, !TLSv1.3"),
        (2, "/etc/postfix/main.cf", "# lmtp_tls_protocols = >=TLSv1.2", "# lmtp_tls_protocols = >=TLSv1.2"),
        (3, HBA, r#"host all "/^admin" 0.0.0.0/0 reject"#, r#"unconverted_host all "/^admin" 0.0.0.0/0 reject"#),
        (3, HBA, "local ann,/^shop all peer", "unconverted_local ann,/^shop all peer"),
        (3, HBA, "host all all 10.0.0.0/8 scram-sha-256", "host all all 10.0.0.0/8 scram-sha-256"),
        (2, "/etc/ssh/common.conf", "PubkeyAcceptedAlgorithms x", "PubkeyAcceptedKeyTypes x"),
        (
            2,
            "/etc/postfix/master.cf",
            "  -o { smtpd_tls_protocols = >=TLSv1.2, <=TLSv1.2 }",
            "  -o { smtpd_tls_protocols = !SSLv2,!SSLv3,!TLSv1,!TLSv1.1, !TLSv1.3 }",
        ),
        (
            2,
            "/etc/postfix/master.cf",
            "  -o smtpd_tls_protocols=>=TLSv1.3 -o a=b",
            "  -o smtpd_tls_protocols=!SSLv2,!SSLv3,!TLSv1,!TLSv1.1,!TLSv1.2 -o a=b",
        ),
        (
            2,
            "/etc/postfix/master.cf",
            "  -o { smtpd_tls_mandatory_protocols = >=TLSv1.2 }",
            "  -o { smtpd_tls_mandatory_protocols = !SSLv2,!SSLv3,!TLSv1,!TLSv1.1 }",
        ),
    ] {
        let parts: Vec<Part> = shipped().into_iter().filter(|(of, _)| *of == number).map(|(_, part)| part).collect();
        let mut tree = Tree::default();
        tree.put(&path(file), format!("# a\n{newer}\n").into_bytes(), None);
        let (converted, residue) = convert(&parts, &tree, &Residue::default(), Direction::Older).unwrap();
        let there = file.replace("/postgresql/17/", "/postgresql/15/");
        let text = String::from_utf8(converted.text(&path(&there)).unwrap().unwrap()).unwrap();
        let wanted = if older.is_empty() { "# a\n".to_owned() } else { format!("# a\n{older}\n") };
        assert_eq!(text, wanted, "{newer}");
        assert_eq!(convert(&parts, &converted, &residue, Direction::Newer).unwrap().0, tree, "{newer}");
    }
}

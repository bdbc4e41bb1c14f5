//! Mail, exercised on the real servers: postfix takes it, dovecot shows it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::{Found, Verdict};
use common::{Daemon, expect, run, setup, tree, unpacked, value, verify, verify_found, write};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// The account that the mailbox belongs to: any that is not root's.
const OWNER: &str = "www-data";

fn main_cf(tree: &str, id: &str) -> String {
    format!(
        "compatibility_level = 3.6\nqueue_directory = {tree}/queue\ndata_directory = {tree}/data\nmyhostname = mail.shop.example\n\
        inet_interfaces = all\ninet_protocols = ipv4\nmydestination =\nmynetworks =\nalias_maps =\nmaillog_file = /dev/stdout\nmaximal_backoff_time = 2s\n\
        virtual_mailbox_domains = shop.example\nvirtual_mailbox_base = {tree}/mail\nvirtual_mailbox_maps = static:inbox/\n\
        virtual_uid_maps = static:{id}\nvirtual_gid_maps = static:{id}\nvirtual_minimum_uid = 1\n\
        smtpd_relay_restrictions = reject_unauth_destination\n\
        smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {tree}/cert.pem\nsmtpd_tls_key_file = {tree}/key.pem\n"
    )
}

fn dovecot_conf(tree: &str, id: &str) -> String {
    format!(
        "protocols = imap\nbase_dir = /run/dovecot\nlog_path = /dev/stderr\nssl = yes\nssl_cert = <{tree}/cert.pem\nssl_key = <{tree}/key.pem\n\
        mail_location = maildir:{tree}/mail/inbox\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
        passdb {{\n  driver = static\n  args = password=secret\n}}\nuserdb {{\n  driver = static\n  args = uid={id} gid={id} home={tree}/mail\n}}\n"
    )
}

fn directory(path: &Path, owner: &str) {
    fs::create_dir_all(path).unwrap();
    run("chown", &[owner, path.to_str().unwrap()]);
}

fn postfix(tree: &Path) -> Daemon {
    Daemon::start("postfix", &["-c", tree.join("etc/postfix").to_str().unwrap(), "start-fg"], 25)
}

fn dovecot(tree: &Path) -> Daemon {
    Daemon::start("dovecot", &["-F", "-c", tree.join("etc/dovecot/dovecot.conf").to_str().unwrap()], 143)
}

/// What postfix needs, with these services besides; gives the number of the mailbox's owner.
fn post_office(tree: &Path, services: &str) -> String {
    let dir = tree.to_str().unwrap();
    fs::set_permissions(tree, PermissionsExt::from_mode(0o755)).unwrap();
    let id = run("id", &["-u", OWNER]).trim().to_owned();
    let subject = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mail.shop.example", "-days", "90"];
    let files = [format!("{dir}/key.pem"), format!("{dir}/cert.pem")];
    run("openssl", &[&subject[..], &["-keyout", &files[0], "-out", &files[1]]].concat());
    let master = fs::read_to_string("/usr/share/postfix/master.cf.dist").unwrap();
    // No service in a root directory of its own, which would want this machine's files copied there.
    let master: Vec<String> = master.lines().map(|line| line.replacen(" y       ", " n       ", 3)).collect();
    write(tree, "etc/postfix/master.cf", &format!("{}\n{services}", master.join("\n")));
    write(tree, "etc/postfix/main.cf", &main_cf(dir, &id));
    directory(&tree.join("data"), "postfix");
    directory(&tree.join("queue"), "root");
    directory(&tree.join("mail"), OWNER);
    id
}

#[test]
fn how_postfix_is_to_meet_its_clients_is_no_fault() {
    if !own_network("how_postfix_is_to_meet_its_clients_is_no_fault") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    let turns_away = "-o smtpd_delay_reject=no -o smtpd_client_restrictions=permit_mynetworks,reject";
    let services = format!(
        "587 inet n - n - - smtpd\n  {turns_away}\n465 inet n - n - - smtpd\n  -o smtpd_tls_wrappermode=yes {turns_away}\n\
         2465 inet n - n - - smtpd\n  -o smtpd_tls_wrappermode=yes -o smtpd_tls_req_ccert=yes\n\
         2587 inet n - n - - smtpd\n  -o smtpd_tls_security_level=encrypt -o smtpd_tls_req_ccert=yes\n\
         2525 inet n - n - - smtpd\n  -o smtpd_discard_ehlo_keywords=starttls\n\
         2526 inet n - n - - smtpd\n  -o smtpd_relay_restrictions=check_recipient_access,hash:/nowhere,reject_unauth_destination\n"
    );
    post_office(tree, &services);
    let found = setup("mail", tree);
    // Each connection starts a process of postfix: how soon, on a busy machine, is not what is tested.
    let patient = [("answer-slow", "1000000"), ("tls-slow", "1000000"), ("--deadline", "120")];
    let check = |name: &str| verify_found("mail", &found, name, &patient);
    let expected = [
        ("smtp:587", "turns this server away, as it is configured to do with some: '554 5.7.1"),
        ("smtp:465", "turns this server away"),
        ("smtp:2465", "wants a certificate of its clients"),
        ("smtp:2587", "wants a certificate of its clients"),
        ("smtp:2525", "smtp answers on port 2525"),
        ("smtp:25", "smtp answers on port 25"),
    ];
    let post = postfix(tree);
    for port in [465, 587, 2465, 2525, 2526, 2587] {
        common::wait_until("it listens everywhere", || common::accepts(port));
    }
    for (name, words) in expected {
        expect(&check(name), Verdict::Ok, &[words]);
    }
    // A table that is gone shows when an address is looked up.
    let of_virtual = [&patient[..], &[("recipient", "anne@shop.example")]].concat();
    let asked = verify_found("mail", &found, "smtp:2526", &of_virtual);
    expect(&asked, Verdict::Unacceptable, &["port 2526: it takes no mail: '451 4.3."]);
    run("postfix", &["-c", tree.join("etc/postfix").to_str().unwrap(), "stop"]);
    drop(post);
    common::wait_until("what it started has ended, too", || !common::accepts(25));
    for (name, _) in expected {
        expect(&check(name), Verdict::Unacceptable, &["refused"]);
    }
    // Without its key nobody comes as far as a certificate of theirs.
    fs::remove_file(tree.join("key.pem")).unwrap();
    let _post = postfix(tree);
    for (name, port) in [("smtp:2465", 2465), ("smtp:2587", 2587)] {
        common::wait_until("it listens there", || common::accepts(port));
        expect(&check(name), Verdict::Unacceptable, &["fails"]);
    }
}

#[test]
fn a_mail_is_sent_and_fetched_and_where_it_was_lost_is_told() {
    if !own_network("a_mail_is_sent_and_fetched_and_where_it_was_lost_is_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    let dir = tree.to_str().unwrap();
    let id = post_office(tree, "");
    write(tree, "etc/dovecot/dovecot.conf", &dovecot_conf(dir, &id));
    write(tree, "credentials", "default login anne password secret\n");

    let found = setup("mail", tree);
    let names: Vec<&str> = found.instances.iter().map(|instance| instance.name.as_str()).collect();
    assert_eq!((names, found.problems.len()), (vec!["smtp:25", "imap:143", "imap:993"], 0), "{found:?}");
    let check = |name: &str, more: &[(&str, &str)]| verify_found("mail", &found, name, more);
    expect(&check("smtp:25", &[]), Verdict::Unacceptable, &["connection refused", "systemctl status postfix"]);
    let (post, imap) = (postfix(tree), dovecot(tree));

    for name in ["smtp:25", "imap:143", "imap:993"] {
        let profile = check(name, &[]);
        expect(&profile, Verdict::Ok, &["answers on port"]);
        assert!((89.0..=90.0).contains(&value(&profile, "certificate")), "{profile:?}");
    }
    let credentials = tree.join("credentials");
    let delivery = |to: &str| {
        let more = [("mail-to", to), ("credentials", credentials.to_str().unwrap())];
        check("smtp:25", &more)
    };
    let profile = delivery("anne@shop.example");
    expect(&profile, Verdict::Ok, &[]);
    assert!(value(&profile, "delivered") > 0.0);
    let left: usize =
        ["new", "cur"].map(|part| fs::read_dir(tree.join("mail/inbox").join(part)).unwrap().count()).iter().sum();
    assert_eq!(left, 0, "the mail is deleted again");
    expect(&delivery("anne@other.example"), Verdict::Unacceptable, &["is not accepted", "Relay access denied"]);

    drop(imap);
    expect(
        &delivery("anne@shop.example"),
        Verdict::Unacceptable,
        &["was accepted, and is not in its mailbox", "refused", "mailq"],
    );
    expect(&check("imap:993", &[]), Verdict::Unacceptable, &["TLS with port 993 fails", "refused", "dovecot"]);
    // Its master left the script that started it.
    run("postfix", &["-c", tree.join("etc/postfix").to_str().unwrap(), "stop"]);
    drop(post);
    common::wait_until("what it started has ended, too", || !common::accepts(25));
    // Without its key it goes on, offers TLS, and has none.
    fs::remove_file(tree.join("key.pem")).unwrap();
    let _post = postfix(tree);
    expect(&check("smtp:25", &[]), Verdict::Unacceptable, &["TLS with port 25 fails: STARTTLS denied"]);
}

/// A certificate and its key in `/srv/tls`, of itself or of who `more` says.
fn certificate(file: &str, name: &str, more: &[&str]) {
    let (key, file, subject) =
        (format!("/srv/tls/{file}-key.pem"), format!("/srv/tls/{file}.pem"), format!("/CN={name}"));
    let names = format!("subjectAltName=DNS:{name}");
    let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-addext", &names, "-days", "90"];
    run("openssl", &[&args[..], &["-keyout", &key, "-out", &file], more].concat());
}

#[test]
fn a_certificate_is_to_be_as_good_as_the_one_of_pri() {
    if !own_network("a_certificate_is_to_be_as_good_as_the_one_of_pri") {
        return;
    }
    let tree = tree();
    let tree = tree.path();
    fs::create_dir_all("/srv/tls").unwrap();
    fs::create_dir_all("/srv/known").unwrap();
    // The only issuer that this server knows.
    certificate("ours", "An issuer of ours", &[]);
    for name in ["ours.pem", "ca-certificates.crt"] {
        fs::copy("/srv/tls/ours.pem", Path::new("/srv/known").join(name)).unwrap();
    }
    run("openssl", &["rehash", "/srv/known"]);
    run("mount", &["--bind", "/srv/known", "/etc/ssl/certs"]);
    let of_ours = ["-CA", "/srv/tls/ours.pem", "-CAkey", "/srv/tls/ours-key.pem"];
    let conf = dovecot_conf("/srv/tls", "33");
    write(tree, "etc/dovecot/dovecot.conf", &conf.replace("/srv/tls/key.pem", "/srv/tls/cert-key.pem"));
    let check = |found: &Found, name: &str, more: &[(&str, &str)]| verify_found("mail", found, name, more);

    certificate("cert", "mail.shop.example", &of_ours);
    let good = setup("mail", tree);
    assert_eq!(good.paths, ["/etc/dovecot", "/srv/tls/cert.pem", "/srv/tls/cert-key.pem"]);
    let server = dovecot(tree);
    for name in ["imap:143", "imap:993"] {
        let profile = check(&good, name, &[]);
        expect(&profile, Verdict::Ok, &["its certificate is for mail.shop.example, of an issuer that is known"]);
        assert!((89.0..=90.0).contains(&value(&profile, "certificate")), "{profile:?}");
    }
    drop(server);
    certificate("cert", "other.example", &of_ours);
    let server = dovecot(tree);
    let words = ["clients refuse the certificate", "another name: ", "mail.shop.example", "reload the mail server"];
    expect(&check(&good, "imap:143", &[]), Verdict::Unacceptable, &words);
    drop(server);

    // A server that was never given PRI's certificate shows its own.
    certificate("cert", "mail.shop.example", &[]);
    let server = dovecot(tree);
    let words = ["of no issuer that this server knows: self", "[service.mail]"];
    expect(&check(&good, "imap:993", &[]), Verdict::Slow, &words);
    let ca = ("ca", "/srv/tls/ours.pem");
    expect(&check(&good, "imap:993", &[ca]), Verdict::Unacceptable, &["not of the issuers in /srv/tls/ours.pem"]);
    expect(&check(&good, "imap:993", &[("trust", "no")]), Verdict::Ok, &[]);

    // Where PRI's vouches for itself, too, that is no fault, whatever name it is for.
    let own = setup("mail", tree);
    expect(&check(&own, "imap:993", &[]), Verdict::Ok, &["PRI's is of no issuer that is known"]);
    expect(&check(&own, "imap:993", &[ca]), Verdict::Unacceptable, &["not of the issuers in /srv/tls/ours.pem"]);
    drop(server);
    certificate("cert", "other.example", &[]);
    let server = dovecot(tree);
    expect(&check(&own, "imap:143", &[]), Verdict::Ok, &["PRI's is of no issuer that is known"]);
    drop(server);

    // A name of its own has one of its own, which may end before the other one does.
    certificate("named", "shop.example", &["-days", "2"]);
    let named = "local_name shop.example {\n  ssl_cert = </srv/tls/named.pem\n  ssl_key = </srv/tls/named-key.pem\n}\n";
    write(
        tree,
        "etc/dovecot/dovecot.conf",
        &format!("{}{named}", conf.replace("/srv/tls/key.pem", "/srv/tls/cert-key.pem")),
    );
    let of_names = setup("mail", tree);
    assert!(of_names.paths.contains(&"/srv/tls/named.pem".to_owned()), "{of_names:?}");
    let server = dovecot(tree);
    for port in ["143", "993"] {
        expect(&check(&of_names, &format!("imap:{port}"), &[]), Verdict::Ok, &[]);
        let words = ["the certificate expires on"];
        expect(&check(&of_names, &format!("imap:{port}:shop.example"), &[]), Verdict::Unacceptable, &words);
    }
    drop(server);
    write(tree, "etc/dovecot/dovecot.conf", &conf.replace("/srv/tls/key.pem", "/srv/tls/cert-key.pem"));

    // The package ssl-cert puts a server's own among the issuers, where no other server has it; this one has no others besides.
    fs::copy("/srv/tls/cert.pem", "/etc/ssl/certs/ssl-cert-snakeoil.pem").unwrap();
    run("openssl", &["rehash", "/etc/ssl/certs"]);
    fs::remove_file("/etc/ssl/certs/ca-certificates.crt").unwrap();
    let snakeoil = setup("mail", tree);
    let _server = dovecot(tree);
    expect(&check(&snakeoil, "imap:143", &[]), Verdict::Ok, &["PRI's is of no issuer that is known"]);
    expect(
        &check(&good, "imap:143", &[]),
        Verdict::Unknown,
        &["cannot be told here", "install the package ca-certificates"],
    );
}

const EXIM: &str = "exim_user = mail\nexim_group = mail\npid_file_path = /run/exim.pid\nprimary_hostname = mail.shop.example\nkeep_environment =\n\
    acl_smtp_rcpt = rcpt\nbegin acl\nrcpt:\n  accept domains = shop.example\n  deny message = relay not permitted\n\
    begin routers\nbox:\n  driver = accept\n  transport = box\nbegin transports\nbox:\n  driver = appendfile\n  maildir_format\n  user = mail\n";

#[test]
fn exim_takes_a_mail_and_what_it_does_not_is_told() {
    if !own_network("exim_takes_a_mail_and_what_it_does_not_is_told") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path();
    let dir = tree.to_str().unwrap();
    fs::set_permissions(tree, PermissionsExt::from_mode(0o755)).unwrap();
    // It looks for its account before it reads which one it is to take.
    for (file, line) in [("passwd", "Debian-exim:x:8:8::/nonexistent:/bin/false\n"), ("group", "Debian-exim:x:8:\n")] {
        let known = fs::read_to_string(format!("/etc/{file}")).unwrap();
        write(tree, file, &format!("{known}{line}"));
        run("mount", &["--bind", tree.join(file).to_str().unwrap(), &format!("/etc/{file}")]);
    }
    for name in ["spool", "mail"] {
        directory(&tree.join(name), "mail");
    }
    write(tree, "etc/exim4/update-exim4.conf.conf", "dc_eximconfig_configtype='internet'\ndc_local_interfaces=''\n");
    let program = unpacked("exim4-daemon-light", "usr/sbin/exim4");
    let paths = format!("exim_path = {program}\nspool_directory = {dir}/spool\nlog_file_path = {dir}/spool/%slog\n");
    let boxes = format!("  driver = appendfile\n  directory = {dir}/mail\n");
    let config = |more: &str| format!("{paths}{more}{}", EXIM.replace("  driver = appendfile\n", &boxes));
    for file in ["exim.conf", "etc/exim4/exim4.conf"] {
        write(tree, file, &config("tls_advertise_hosts =\n"));
    }
    let found = setup("mail", tree);
    assert_eq!((found.problems.len(), &found.paths[..1]), (0, &["/etc/exim4".to_owned()][..]), "{found:?}");
    let check = |more: &[(&str, &str)]| verify_found("mail", &found, "smtp:25", more);
    expect(&check(&[]), Verdict::Unacceptable, &["connection refused", "exim4"]);
    let file = tree.join("exim.conf");
    let server = Daemon::start(&program, &["-bdf", "-q1s", "-C", file.to_str().unwrap()], 25);
    expect(&check(&[]), Verdict::Ok, &["smtp answers on port 25"]);
    expect(&check(&[("starttls", "yes")]), Verdict::Unacceptable, &["offers no STARTTLS"]);
    let sent = check(&[("mail-to", "anne@shop.example")]);
    expect(&sent, Verdict::Ok, &[]);
    assert!(value(&sent, "accepted") > 0.0);
    let arrived = || fs::read_dir(tree.join("mail/new")).is_ok_and(|names| names.count() == 1);
    common::wait_until("it is in the box", arrived);
    let other = check(&[("mail-to", "anne@other.example")]);
    expect(&other, Verdict::Unacceptable, &["is not accepted", "550 relay not permitted"]);
    server.freeze();
    expect(&check(&[("--deadline", "3")]), Verdict::Unacceptable, &["port 25"]);
    server.thaw();
    drop(server);
    common::wait_until("it has ended", || !common::accepts(25));

    // It lets all wait, and some go.
    for (acl, verdict, words) in [
        ("  accept delay = 3s\n", Verdict::Ok, "smtp answers on port 25"),
        (
            "  drop message = go away\n",
            Verdict::Ok,
            "turns this server away, as it is configured to do with some: '550 go away'",
        ),
        ("  defer condition = ${lookup{x}lsearch{/nowhere}}\n", Verdict::Unacceptable, "451 Temporary local problem"),
    ] {
        let more = "tls_advertise_hosts =\nacl_smtp_connect = meet\n";
        for file in ["exim.conf", "etc/exim4/exim4.conf"] {
            write(tree, file, &config(more).replace("begin acl\n", &format!("begin acl\nmeet:\n{acl}")));
        }
        let found = setup("mail", tree);
        let server = Daemon::start(&program, &["-bdf", "-q1s", "-C", file.to_str().unwrap()], 25);
        let profile = verify_found("mail", &found, "smtp:25", &[("answer-slow", "1000000")]);
        expect(&profile, verdict, &[words]);
        if acl.contains("delay") {
            assert!(value(&profile, "answer") > 2000.0, "it did not let anybody wait: {profile:?}");
        }
        drop(server);
        common::wait_until("it has ended", || !common::accepts(25));
    }
}

#[test]
fn what_is_no_mail_server_is_told() {
    if !own_network("what_is_no_mail_server_is_told") {
        return;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:25").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    expect(&verify("mail", &[]), Verdict::Unacceptable, &["it says 'HTTP/1.1 400 Bad Request'"]);
    expect(&verify("mail", &[("protocol", "pop3")]), Verdict::Unknown, &["it is to be smtp or imap"]);
}

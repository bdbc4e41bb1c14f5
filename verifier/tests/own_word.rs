//! What the daemons say of their configurations, and what our own readers make of the same files: the two have to agree. Where they do not, the
//! daemon is right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers as well")]

mod common;

use atlas_host::testing::own_network;
use atlas_model::verify::Found;
use common::{run, setup, write};
use std::{os::unix::fs::PermissionsExt, path::Path};

/// A configuration: of which service, the directory that it stands in, and its files.
type Case<'c> = (&'c str, &'c str, &'c [(&'c str, &'c str)]);

const CASES: &[Case<'_>] = &[
    // nginx
    (
        "web",
        "/etc/nginx",
        &[(
            "nginx.conf",
            "events {}\nhttp { server { listen 80 default_server; return 444; } server { listen 80; server_name a.example; root /srv/a; } }\n",
        )],
    ),
    (
        "web",
        "/etc/nginx",
        &[
            (
                "nginx.conf",
                "user www-data;\nevents { worker_connections 10; }\nhttp {\n  log_format x '$host{}';\n  include sites/*.conf;\n  include /etc/nginx/one;\n}\n",
            ),
            (
                "sites/10.conf",
                "server { listen 8080; server_name b.example; access_log /tmp/${host}.log; root \"/srv/b b\"; }\n",
            ),
            ("sites/20.conf.off", "server { listen 8081; }\n"),
            ("one", "# server { listen 1; }\nserver { listen 127.0.0.1:8082; location ~ \\.php$ { return 403; } }\n"),
        ],
    ),
    (
        "web",
        "/etc/nginx",
        &[(
            "nginx.conf",
            "events {}\nhttp { map $uri $x { default a; \"~^/{1,2}$\" b; } server { listen 8083; listen [::]:8084; server_name _ *.c.example; } }\n",
        )],
    ),
    // sshd
    ("ssh", "/etc/ssh", &[("sshd_config", "HostKey /srv/key\n")]),
    (
        "ssh",
        "/etc/ssh",
        &[(
            "sshd_config",
            "HostKey /srv/key\nPort 2222\nport=2223 # more\nMatch User x\n  PasswordAuthentication no\n",
        )],
    ),
    (
        "ssh",
        "/etc/ssh",
        &[
            (
                "sshd_config",
                "Include /etc/ssh/sshd_config.d/*.conf\nHostKey /srv/key\nMatch Group sftp\n  ForceCommand internal-sftp\n",
            ),
            ("sshd_config.d/10-port.conf", "Port 2222\n"),
            ("sshd_config.d/20.conf.old", "Port 3\n"),
        ],
    ),
    (
        "ssh",
        "/etc/ssh",
        &[(
            "sshd_config",
            "HostKey /srv/key\nListenAddress 0.0.0.0:2222\nListenAddress [::]:2223\nListenAddress 127.0.0.1\nPort 24\n",
        )],
    ),
    ("ssh", "/etc/ssh", &[("sshd_config", "HostKey \"/srv/key\"\nPort \"2224\"\nMatch all\nLogLevel DEBUG\n")]),
    // bind9
    (
        "dns",
        "/etc/bind",
        &[(
            "named.conf",
            "options { directory \"/var/cache/bind\"; listen-on port 5353 { any; }; }; // here\nzone \"a.example\" { type primary; file \"/x\"; };\n",
        )],
    ),
    (
        "dns",
        "/etc/bind",
        &[
            (
                "named.conf",
                "include \"/etc/bind/options\";\n/* zone \"no.example\" { type master; }; */\ninclude \"/etc/bind/zones\";\n",
            ),
            (
                "options",
                "options {\n  directory \"/var/cache/bind\"; # there\n  port 54; allow-query { 10.0.0.0/8; };\n};\n",
            ),
            (
                "zones",
                "zone \"B.example\" IN { type master; file \"/x\"; allow-query { any; }; };\nzone \"c.example\" { type slave; masters { 192.0.2.1; }; file \"/y\"; };\nzone \".\" { type hint; file \"/usr/share/dns/root.hints\"; };\n",
            ),
        ],
    ),
    (
        "dns",
        "/etc/bind",
        &[(
            "named.conf",
            "options { directory \"/var/cache/bind\"; listen-on { 127.0.0.1; }; };\nview \"in\" { match-clients { 10.0.0.0/8; }; zone \"a\" { type master; file \"/x\"; }; };\nview \"out\" { match-clients { any; }; zone \"b\" { type master; file \"/y\"; }; };\n",
        )],
    ),
    // unbound
    ("dns", "/etc/unbound", &[("unbound.conf", "server:\n")]),
    (
        "dns",
        "/etc/unbound",
        &[
            (
                "unbound.conf",
                "# a comment\nserver:\n  interface: 0.0.0.0\n  port: 5335 # ours\n  access-control: 0.0.0.0/0 allow\ninclude: \"/etc/unbound/more/*.conf\"\n",
            ),
            ("more/a.conf", "server:\n  interface: 127.0.0.1@54\n"),
        ],
    ),
    // postfix
    (
        "mail",
        "/etc/postfix",
        &[
            (
                "main.cf",
                "compatibility_level = 3.6\ninet_interfaces =\n    127.0.0.1,\n# between\n    localhost\nsmtpd_tls_security_level = may\n",
            ),
            ("master.cf", "smtp      inet  n       -       y       -       -       smtpd\n"),
        ],
    ),
    (
        "mail",
        "/etc/postfix",
        &[
            (
                "main.cf",
                "compatibility_level = 3.6\nmyhostname = mail.example\nhere = all\ninet_interfaces = ${here}\nsmtpd_tls_cert_file = /srv/c.pem\nsmtpd_tls_security_level = encrypt\n",
            ),
            (
                "master.cf",
                "smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd\nsubmission inet n - y - - smtpd\n  -o syslog_name=postfix/submission\n  -o smtpd_tls_security_level=encrypt\n465 inet n - y - - smtpd\n  -o smtpd_tls_wrappermode=yes\n127.0.0.1:10025 inet n - n - - smtpd\n  -o smtpd_tls_security_level=none\npickup unix n - y 60 1 pickup\n",
            ),
        ],
    ),
    // dovecot
    ("mail", "/etc/dovecot", &[("dovecot.conf", "protocols = imap\nssl = no\nlisten = 127.0.0.1\n")]),
    (
        "mail",
        "/etc/dovecot",
        &[
            (
                "dovecot.conf",
                "!include_try /usr/share/dovecot/nothing.d/*.protocol\nprotocols = pop3\nprotocols = $protocols imap\n!include conf.d/*.conf\n",
            ),
            (
                "conf.d/10-master.conf",
                "service imap-login {\n  inet_listener imap {\n    port = 1143 # ours\n  }\n  inet_listener imaps {\n    port = 1993\n    ssl = yes\n  }\n}\n",
            ),
            ("conf.d/10-ssl.conf", "ssl = yes\nssl_cert = </srv/c.pem\nssl_key = </srv/k.pem\n"),
        ],
    ),
    // Samba
    (
        "samba",
        "/etc/samba",
        &[(
            "smb.conf",
            "[global]\n  smb ports = 4450\n  Map To Guest = Bad User\n[data] # a comment\n  path = /srv/data\n  guest ok = yes\n  ; read only = no\n[off]\n  path = /srv/off\n  available = no\n",
        )],
    ),
    (
        "samba",
        "/etc/samba",
        &[
            (
                "smb.conf",
                "[global]\n  include = /etc/samba/more.conf\n  server min protocol = SMB3\n[homes]\n  read only = no\n[team]\n  path = \\\n/srv/team\n  writeable = yes\n  valid users = @team\n  guest ok = yes\n",
            ),
            ("more.conf", "  bind interfaces only = yes\n  interfaces = lo\n"),
        ],
    ),
    // PostgreSQL
    (
        "postgresql",
        "/etc/postgresql",
        &[("15/main/postgresql.conf", "data_directory = '/srv/pg'\nlisten_addresses = '*'\t# all\nPort = 5433\n")],
    ),
    (
        "postgresql",
        "/etc/postgresql",
        &[
            (
                "15/main/postgresql.conf",
                "data_directory = '/srv/pg'\ninclude_if_exists 'site.conf'\ninclude_dir = 'conf.d'\n",
            ),
            ("15/main/site.conf", "port = 5434\nlisten_addresses = 'localhost, 127.0.0.1'\n"),
            ("15/main/conf.d/1.conf", "port = 5435\n"),
            ("15/main/conf.d/.2.conf", "port = 5436\n"),
        ],
    ),
    // MariaDB
    ("mariadb", "/etc/mysql", &[("my.cnf", "[mysqld]\n")]),
    (
        "mariadb",
        "/etc/mysql",
        &[
            ("my.cnf", "[client-server]\nsocket = /run/x\n!includedir /etc/mysql/conf.d\n"),
            ("conf.d/a.cnf", "[mysqldump]\nport = 1\n[mariadbd]\nport = 3307\nbind_address = 127.0.0.1 # ours\n"),
            ("conf.d/b.cnf.off", "[mysqld]\nport = 3308\n"),
        ],
    ),
    // chrony
    (
        "ntp",
        "/etc/chrony",
        &[
            ("chrony.conf", "pool pool.example iburst\nconfdir /etc/chrony/conf.d\n# allow 10.0.0.0/8\n"),
            ("conf.d/a.conf", "allow 192.0.2.0/24\nport 1123\n"),
        ],
    ),
    ("ntp", "/etc/chrony", &[("chrony.conf", "pool pool.example\nallow\n")]),
];

/// What is found of a service with this configuration in the place of the system's: by asking the daemon, and in a tree, where it cannot be.
fn both((service, dir, files): &Case<'_>) -> (Found, Found) {
    let tree = tempfile::tempdir().unwrap();
    let own = tree.path().join(&dir[1..]);
    files.iter().for_each(|(path, content)| write(&own, path, content));
    let at = own.to_str().unwrap();
    run("mount", &["--bind", at, dir]);
    let (asked, read) = (setup(service, Path::new("/")), setup(service, tree.path()));
    run("umount", &[dir]);
    (asked, read)
}

/// What of it belongs to this configuration: the system has other daemons of the same service.
fn shown(found: &Found, others: &[String]) -> Vec<String> {
    let instances = found.instances.iter().map(|one| format!("{} {:?} {:?}", one.name, one.at, one.options));
    let mut all: Vec<String> = instances.filter(|one| !others.contains(one)).collect();
    all.sort();
    all
}

#[test]
fn each_daemon_and_our_own_reader_say_the_same() {
    if !own_network("each_daemon_and_our_own_reader_say_the_same") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    run("mount", &["--bind", place.path().to_str().unwrap(), "/srv"]);
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "/srv/key"]);
    // A daemon counts where something would start it; not every machine that runs this has all the units.
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    write(Path::new("/run/systemd/system"), "mariadb.service", "[Service]\n");
    std::fs::create_dir_all("/run/sshd").unwrap();
    std::fs::create_dir_all("/srv/pg").unwrap();
    std::fs::set_permissions("/srv", PermissionsExt::from_mode(0o755)).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let mut wrong = vec![];
    for case in CASES {
        let (service, dir, files) = case;
        // What the system's own other daemons have, with this one's directory empty.
        run("mount", &["--bind", empty.path().to_str().unwrap(), dir]);
        let has_others = ["web", "dns", "mail", "ntp"].contains(service);
        let others = if has_others { shown(&setup(service, Path::new("/")), &[]) } else { vec![] };
        run("umount", &[dir]);
        let (asked, read) = both(case);
        let (asked_shown, read_shown) = (shown(&asked, &others), shown(&read, &[]));
        if asked_shown != read_shown {
            wrong.push(format!("{service}: {files:?}\n  asked {asked_shown:?}\n  read  {read_shown:?}"));
        }
        let unasked: Vec<&String> = asked.notes.iter().filter(|note| note.contains("read instead")).collect();
        if !unasked.is_empty() {
            wrong.push(format!("{service} was not asked: {unasked:?} {files:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}

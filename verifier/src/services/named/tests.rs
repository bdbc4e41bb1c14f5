//! Files that travel because a configuration names them: one case for each kind.

use super::*;
use crate::here::testing::Server;

/// The service; its files; what has to travel besides its usual folder.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "web",
        &[
            ("etc/nginx/nginx.conf", "http { include /srv/sites/*.conf; }"),
            (
                "srv/sites/a.conf",
                "server { listen 80; ssl_trusted_certificate /srv/ca.pem; auth_basic x; auth_basic_user_file /srv/web.users; }",
            ),
            ("srv/ca.pem", ""),
            ("srv/web.users", ""),
        ],
        &["/srv/sites/a.conf", "/srv/ca.pem", "/srv/web.users"],
    ),
    (
        "web",
        &[
            ("etc/apache2/apache2.conf", "Listen 80\nInclude /srv/sites\nSSLCACertificatePath /srv/cas\n"),
            (
                "srv/sites/a.conf",
                "<Location /x>\nAuthUserFile /srv/users\nAuthDBMUserFile /srv/users.db\n</Location>\n",
            ),
            ("srv/cas/a.pem", ""),
            ("srv/users", ""),
            ("srv/users.db", ""),
        ],
        &["/srv/sites", "/srv/users", "/srv/users.db", "/srv/cas"],
    ),
    (
        "web",
        &[
            (
                "etc/apache2/apache2.conf",
                "Listen 80\nRewriteMap a txt:/srv/a.txt\nRewriteMap b dbm:/srv/b\nWSGIScriptAlias / /srv/app.wsgi\n",
            ),
            ("srv/a.txt", ""),
            ("srv/b.dir", ""),
            ("srv/b.pag", ""),
            ("srv/app.wsgi", ""),
        ],
        &["/srv/a.txt", "/srv/b.dir", "/srv/b.pag", "/srv/app.wsgi"],
    ),
    (
        "web",
        &[
            (
                "etc/apache2/apache2.conf",
                "Listen 80\nRewriteMap c prg:/srv/c.pl\nRewriteMap d rnd:d.txt\nSSLPassPhraseDialog \"exec:/srv/pass arg\"\n\
                 CustomLog \"|/srv/split 86400\" combined\nCustomLog /srv/log combined\nSSLOpenSSLConfCmd DHParameters /srv/dh.pem\n\
                 LoadModule x_module /srv/mod_x.so\nAuthUserFile users\nAuthUserFile /srv/%{HOST}\nDocumentRoot /srv/www\nNewModuleSays /srv/new\n",
            ),
            ("etc/apache2/users", ""),
            ("srv/c.pl", ""),
            ("srv/pass", ""),
            ("srv/split", ""),
            ("srv/dh.pem", ""),
            ("srv/mod_x.so", ""),
            ("srv/new", ""),
        ],
        &["/srv/c.pl", "/srv/pass", "/srv/split", "/srv/dh.pem", "/srv/mod_x.so", "/srv/new"],
    ),
    (
        "web",
        &[
            (
                "etc/nginx/nginx.conf",
                "stream { server { ssl_certificate /srv/tls/stream.pem; } }\n\
                 http { ssl_password_file /srv/tls/pass; access_log /srv/log; js_path /srv/js; js_import x from /srv/x.js; auth_new_thing /srv/new;\n\
                 server { listen 443 ssl; ssl_certificate /srv/hosts/$ssl_server_name.pem; ssl_certificate_key /srv/keys/${n}.key;\n\
                 location / { alias /srv/files/$1; ssl_crl /srv/crl; } } }",
            ),
            ("srv/tls/stream.pem", ""),
            ("srv/tls/pass", ""),
            ("srv/js/a.js", ""),
            ("srv/x.js", ""),
            ("srv/new", ""),
            ("srv/crl", ""),
            ("srv/hosts/a.example.pem", ""),
            ("srv/keys/a.key", ""),
            ("srv/keys/a.pem", ""),
        ],
        &[
            "/srv/tls/stream.pem",
            "/srv/tls/pass",
            "/srv/js",
            "/srv/x.js",
            "/srv/new",
            "/srv/crl",
            "/srv/hosts/a.example.pem",
            "/srv/keys/a.key",
        ],
    ),
    (
        "ssh",
        &[
            (
                "etc/ssh/sshd_config",
                "HostKey /srv/old\nTrustedUserCAKeys /srv/ca.pub\nAuthorizedKeysFile /srv/keys/%u .ssh/authorized_keys\n\
                 Match User upload\n ForceCommand /srv/upload --only\n ChrootDirectory /srv/sftp/%u\nSubsystem audit /srv/audit -v\n\
                 Match User anna\n AuthorizedKeysFile /home/anna/keys\n",
            ),
            ("srv/ca.pub", ""),
            ("srv/keys/anna", ""),
            ("srv/sftp/anna/data", ""),
            ("home/anna/keys", ""),
            ("srv/upload", ""),
            ("srv/audit", ""),
        ],
        &["/srv/ca.pub", "/srv/keys", "/srv/upload", "/srv/audit"],
    ),
    (
        "mail",
        &[
            ("etc/dovecot/dovecot.conf", "protocols = imap\n!include /srv/dovecot/*.conf\n"),
            (
                "srv/dovecot/a.conf",
                "passdb {\n  driver = passwd-file\n  args = scheme=CRYPT /srv/mail.users\n}\nssl_ca = </srv/ca.pem\n",
            ),
            ("srv/mail.users", ""),
            ("srv/ca.pem", ""),
        ],
        &["/srv/dovecot/a.conf", "/srv/mail.users", "/srv/ca.pem"],
    ),
    (
        "samba",
        &[
            ("etc/samba/smb.conf", "[global]\n username map = /srv/names\n include = /srv/more.conf\n"),
            ("srv/names", ""),
            ("srv/more.conf", "passdb backend = smbpasswd:/srv/smbpasswd\n"),
            ("srv/smbpasswd", ""),
        ],
        &["/srv/names", "/srv/more.conf", "/srv/smbpasswd"],
    ),
    (
        "dns",
        &[
            (
                "etc/unbound/unbound.conf",
                "server:\n interface: 0.0.0.0\n tls-service-key: \"/srv/tls.key\"\n root-hints: /srv/hints\n",
            ),
            ("srv/tls.key", ""),
            ("srv/hints", ""),
        ],
        &["/srv/tls.key", "/srv/hints"],
    ),
    (
        "dns",
        &[("etc/dnsmasq.conf", "addn-hosts=/srv/hosts\nconf-file=/srv/more\n"), ("srv/hosts", ""), ("srv/more", "")],
        &["/srv/hosts", "/srv/more"],
    ),
    (
        "ntp",
        &[("etc/chrony/chrony.conf", "allow\nkeyfile /srv/chrony.keys\n"), ("srv/chrony.keys", "")],
        &["/srv/chrony.keys"],
    ),
    (
        "dns",
        &[
            ("etc/dnsmasq.conf", "resolv-file=/srv/resolv # ours\ndhcp-leasefile=/srv/leases\n# hostsdir=/srv/old\n"),
            ("srv/resolv", ""),
        ],
        &["/srv/resolv"],
    ),
    (
        "dns",
        &[
            (
                "etc/unbound/unbound.conf",
                "server:\n interface: 0.0.0.0\n auto-trust-anchor-file: \"/srv/root.key\"\n trust-anchor-file: /srv/ours.key\n\
                 auth-zone:\n name: a.example\n zonefile: /srv/a.zone\nauth-zone:\n name: b.example\n primary: 192.0.2.1\n zonefile: /srv/b.zone\n",
            ),
            ("srv/ours.key", ""),
            ("srv/a.zone", ""),
        ],
        &["/srv/ours.key", "/srv/a.zone"],
    ),
    (
        "dns",
        &[
            ("etc/bind/named.conf", "zone \"a.example\" { type primary; file \"/srv/a.zone\"; };\n"),
            ("srv/a.zone", "@ SOA a b 1 1 1 1 1\n$INCLUDE /srv/common.zone\n $include \"/srv/no.zone\"\n"),
            ("srv/common.zone", "$include /srv/more.zone other.example. ; why\n"),
            ("srv/more.zone", ""),
        ],
        &["/srv/a.zone", "/srv/common.zone", "/srv/more.zone"],
    ),
    (
        "samba",
        &[
            ("etc/samba/smb.conf", "[a]\n path = /srv/dir\n root preexec = /srv/mount %u\n log file = /srv/log\n"),
            ("srv/mount", ""),
            ("srv/dir/x", ""),
        ],
        &["/srv/mount"],
    ),
    (
        "mail",
        &[
            (
                "etc/exim4/exim4.conf",
                ".include /srv/exim.more\nbegin routers\na:\n data = ${lookup{$local_part}lsearch{/srv/aliases}}\n",
            ),
            ("srv/exim.more", "tls_certificate = /srv/cert.pem\n"),
            ("srv/cert.pem", ""),
            ("srv/aliases", "a: :include:/srv/list\n"),
            ("srv/list", ""),
        ],
        &["/srv/exim.more", "/srv/cert.pem", "/srv/aliases", "/srv/list"],
    ),
    (
        "mail",
        &[
            (
                "etc/postfix/main.cf",
                "virtual_alias_maps = proxy:ldap:/etc/postfix/ldap.cf, sqlite:/srv/sqlite.cf\ntls_server_sni_maps = hash:/etc/postfix/sni\n\
                 alias_maps = hash:/etc/aliases\nsmtp_tls_policy_maps = inline:{a=may} hash:/srv/policy\n",
            ),
            ("etc/postfix/master.cf", "smtp inet n - y - - smtpd\n"),
            (
                "etc/postfix/ldap.cf",
                "server_host = ldap://a\ntls_ca_cert_file = /srv/ca.pem\n#tls_cert = /srv/old.pem\n",
            ),
            ("etc/postfix/sni", "shop.example /srv/shop.key /srv/shop.pem\n"),
            (
                "etc/aliases",
                "list: :include:/srv/list,b\nticket: \"|/srv/ticket -c /srv/ticket.conf\"\nbox: /srv/box\n",
            ),
            ("srv/list", "c, :include:/srv/more\n"),
            ("srv/more", ":include:/srv/list\n"),
            ("srv/sqlite.cf", "dbpath = /srv/sqlite.db\nquery = select 1\n"),
            ("srv/policy", "b.example secure tafile=/srv/ta.pem\n"),
            ("srv/ca.pem", ""),
            ("srv/shop.key", ""),
            ("srv/shop.pem", ""),
            ("srv/ticket", ""),
            ("srv/ticket.conf", ""),
            ("srv/ta.pem", ""),
        ],
        &[
            "/srv/sqlite.cf",
            "/srv/ca.pem",
            "/srv/shop.key",
            "/srv/shop.pem",
            "/srv/list",
            "/srv/more",
            "/srv/ticket",
            "/srv/ticket.conf",
            "/srv/policy",
            "/srv/ta.pem",
        ],
    ),
    (
        "mail",
        &[
            ("etc/dovecot/dovecot.conf", "protocols = imap\npassdb {\n  args = /etc/dovecot/ldap.conf.ext\n}\n"),
            ("etc/dovecot/ldap.conf.ext", "tls_ca_cert_file = /srv/ca.pem\n"),
            ("srv/ca.pem", ""),
        ],
        &["/srv/ca.pem"],
    ),
    (
        "postgresql",
        &[
            (
                "etc/postgresql/15/main/postgresql.conf",
                "hba_file = '/srv/hba.conf'\narchive_command = '/srv/archive %p'\nlog_directory = '/srv/log'\n",
            ),
            (
                "srv/hba.conf",
                "# @/srv/old\nhost all @/srv/admins all scram-sha-256\ninclude_if_exists /srv/more.conf\n",
            ),
            ("srv/more.conf", "host all \"@/srv/others\" all md5\n"),
            ("srv/archive", ""),
            ("srv/admins", ""),
            ("srv/others", ""),
        ],
        &["/srv/hba.conf", "/srv/admins", "/srv/more.conf", "/srv/others", "/srv/archive"],
    ),
    (
        "mariadb",
        &[
            (
                "etc/mysql/my.cnf",
                "[mysqld]\nssl_cert = /srv/a.pem # /srv/old\nSSL-KEY=\"/srv/a.key\"\nfile_key_management_filename = /srv/keys\nlog_error = /srv/log\n[client]\nssl-ca = /srv/client.pem\n",
            ),
            ("srv/keys", ""),
            ("srv/a.pem", ""),
            ("srv/a.key", ""),
        ],
        &["/srv/keys", "/srv/a.pem", "/srv/a.key"],
    ),
];

/// What none of these may take: it is written by the daemon, another's, or gone.
const LEFT: [&str; 14] = [
    "/srv/sftp",
    "/home/anna/keys",
    "/srv/old",
    "/srv/old.pem",
    "/srv/leases",
    "/srv/root.key",
    "/srv/b.zone",
    "/srv/box",
    "/srv/sqlite.db",
    "/srv/log",
    "/srv/dir",
    "/srv/no.zone",
    "/srv/home",
    "/srv/client.pem",
];

#[test]
fn what_a_configuration_names_travels_whatever_the_kind() {
    let mut missing = vec![];
    for (service, files, expected) in CASES {
        let server = Server::with(files);
        LEFT.iter()
            .filter(|path| !server.root().join(&path[1..]).exists())
            .for_each(|path| server.write(&path[1..], ""));
        let found = (crate::services::by_name(service).unwrap().find)(&server.tree()).unwrap();
        let taken = LEFT.iter().filter(|path| found.paths.iter().any(|known| known == *path));
        missing.extend(taken.map(|path| format!("{path} of {service} is none of its configuration")));
        let is_missing = |path: &&&str| !found.paths.iter().any(|known| known == **path);
        missing
            .extend(expected.iter().filter(is_missing).map(|path| format!("{path} of {service}: {:?}", found.paths)));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn links_of_certificates_travel_with_what_they_lead_to_in_every_service() {
    for (service, path, text) in [
        ("web", "etc/nginx/nginx.conf", "http { server { listen 443 ssl; ssl_certificate CERT; } }"),
        ("mail", "etc/dovecot/dovecot.conf", "protocols = imap\nssl_cert = <CERT\n"),
        ("mail", "etc/postfix/main.cf", "smtpd_tls_cert_file = CERT\n"),
    ] {
        let find = |certificate: &str| {
            let server = Server::with(&[
                (path, text.replace("CERT", certificate).as_str()),
                ("etc/postfix/master.cf", "smtp inet n - y - - smtpd\n"),
                ("etc/letsencrypt/archive/a/cert2.pem", ""),
                ("srv/tls/a-2.pem", ""),
            ]);
            server.link("../../archive/a/cert2.pem", "etc/letsencrypt/live/a/cert.pem");
            server.link("a-2.pem", "srv/tls/a.pem");
            (crate::services::by_name(service).unwrap().find)(&server.tree()).unwrap().paths
        };
        let store = find("/etc/letsencrypt/live/a/cert.pem");
        assert!(store.contains(&"/etc/letsencrypt".to_owned()), "{service}: {store:?}");
        let linked = find("/srv/tls/a.pem");
        for path in ["/srv/tls/a.pem", "/srv/tls/a-2.pem"] {
            assert!(linked.contains(&path.to_owned()), "{path} of {service}: {linked:?}");
        }
    }
}

fn found(setting: &str, value: &str) -> Vec<String> {
    let root = Server::with(&[("srv/a", ""), ("srv/b", ""), ("srv/b.db", ""), ("srv/dir/c", ""), ("run/x", "")]);
    let mut finding = Finding::default();
    finding.files_in(&root.tree(), setting, value);
    finding.done().paths
}

#[test]
fn a_file_is_found_in_whatever_value_it_stands() {
    for value in [
        "/srv/a",
        "</srv/a",
        "scheme=CRYPT username_format=%u \"/srv/a\"",
        "10.0.0.0/8, !/srv/a /srv/gone",
        "${lookup{$domain}lsearch{/srv/a}{$value}}",
        "lsearch;/srv/a : /run/x : /srv/dir",
        "user=filter argv=/srv/a -f ${sender} http://srv/b",
    ] {
        assert_eq!(found("value", value), ["/srv/a"], "{value}");
    }
    let root = Server::with(&[("srv/two words", "")]);
    let mut finding = Finding::default();
    finding.files_from(&root.tree(), "/etc/apache2", "AuthUserFile", "/srv/two words");
    finding.files_of(&root.tree(), ["passdb_file = \"/srv/two words\""]);
    assert_eq!(finding.done().paths, ["/srv/two words"]);
    assert_eq!(found("maps", "unionmap:{hash:/srv/b, proxy:pgsql:/srv/a}"), ["/srv/b", "/srv/b.db", "/srv/a"]);
}

#[test]
fn what_the_daemon_writes_stays_where_it_is() {
    for setting in ["log_path", "maillog_file", "driftfile", "pid_file", "tls_session_cache_database"] {
        assert!(found(setting, "/srv/a").is_empty(), "{setting}");
    }
    assert_eq!(found("smtpd_sender_login_maps", "hash:/srv/a"), ["/srv/a"]);
}

#[test]
fn a_directory_is_taken_where_one_is_meant() {
    assert_eq!(found("smtpd_tls_CApath", "/srv/dir/"), ["/srv/dir"]);
    assert!(found("mail_home", "/srv/dir").is_empty());
    assert!(found("smtpd_tls_CApath", "/etc/ssl/certs").is_empty());
}

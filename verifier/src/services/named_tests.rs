//! Files that travel because a configuration names them: one case for each kind.

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
];

#[test]
fn what_a_configuration_names_travels_whatever_the_kind() {
    let mut missing = vec![];
    for (service, files, expected) in CASES {
        let server = Server::with(files);
        let found = (super::by_name(service).unwrap().find)(&server.tree()).unwrap();
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
            (super::by_name(service).unwrap().find)(&server.tree()).unwrap().paths
        };
        let store = find("/etc/letsencrypt/live/a/cert.pem");
        assert!(store.contains(&"/etc/letsencrypt".to_owned()), "{service}: {store:?}");
        let linked = find("/srv/tls/a.pem");
        for path in ["/srv/tls/a.pem", "/srv/tls/a-2.pem"] {
            assert!(linked.contains(&path.to_owned()), "{path} of {service}: {linked:?}");
        }
    }
}

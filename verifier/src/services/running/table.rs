//! What Debian runs for each service: units, the program, its configuration, the directories that have to be there.

/// One program that can provide a service.
#[derive(Debug)]
pub(crate) struct Server {
    /// The services, as SetUp names them.
    pub(crate) services: &'static [&'static str],
    /// The package, for people.
    pub(crate) package: &'static str,
    /// Its configuration: without it, the program is not what provides the service here.
    pub(crate) config: &'static str,
    /// Its units; one of them suffices.
    pub(crate) units: &'static [&'static str],
    /// The unit of one instance that SetUp found, where each has one of its own; `None` for a name that is none of a unit.
    pub(super) unit_of: fn(&str) -> Option<String>,
    /// Its program.
    pub(crate) program: &'static str,
    /// The program and arguments by which it looks at its own configuration and changes nothing; empty where it has none.
    pub(super) check: &'static [&'static str],
    /// Directories that it does not start, or does not work, without; and the accounts that each may belong to, the usual one first.
    pub(super) directories: &'static [(&'static str, &'static [&'static str])],
    /// Modules of the kernel.
    pub(super) modules: &'static [&'static str],
    /// Whether clients come by UDP.
    pub(super) is_udp: bool,
    /// How it is tried where PRI's addresses are.
    pub(crate) beside: Beside,
}

/// How one is started beside the one that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Beside {
    /// By this script, which leaves it in the background.
    Start(&'static str),
    /// Not at all, because …
    Never(&'static str),
}

const PLAIN: Server = Server {
    services: &[],
    package: "",
    config: "",
    units: &[],
    unit_of: |_| None,
    program: "",
    check: &[],
    directories: &[],
    modules: &[],
    is_udp: false,
    beside: Beside::Never("two of it cannot run at once"),
};

/// Asks the server of each cluster for its configuration, as its account, and stops at the first that it refuses. Who may come in it reads as it
/// starts, and tells what of that it does not understand while it runs.
const CLUSTERS: &str = r#"as="setpriv --reuid=postgres --regid=postgres --init-groups --no-new-privs --"
for at in /etc/postgresql/*/*/; do
    version=${at#/etc/postgresql/} version=${version%%/*}
    server=/usr/lib/postgresql/$version/bin/postgres
    [ -x "$server" ] && [ -e "${at}postgresql.conf" ] || continue
    $as "$server" -C config_file -D "$at" >/dev/null || exit 1
    port=$($as "$server" -C port -D "$at") && sockets=$($as "$server" -C unix_socket_directories -D "$at") || continue
    bad=$($as psql -h "${sockets%%,*}" -p "$port" -d postgres -AtXc         "SELECT 'line ' || line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL LIMIT 1" 2>/dev/null) || continue
    [ -z "$bad" ] || { echo "${at}pg_hba.conf, $bad" >&2; exit 1; }
done"#;

/// The ones that Debian 11, 12 and 13 have.
pub(crate) const SERVERS: &[Server] = &[
    Server {
        services: &["ssh"],
        package: "openssh-server",
        config: "etc/ssh/sshd_config",
        units: &["ssh.service", "ssh.socket"],
        program: "usr/sbin/sshd",
        check: &["sshd", "-t"],
        beside: Beside::Start("mkdir -p /run/sshd && exec /usr/sbin/sshd"),
        ..PLAIN
    },
    Server {
        services: &["web"],
        package: "nginx",
        config: "etc/nginx/nginx.conf",
        units: &["nginx.service"],
        program: "usr/sbin/nginx",
        check: &["nginx", "-t", "-q"],
        directories: &[("var/log/nginx", &["root", "www-data"]), ("var/lib/nginx", &["root", "www-data"])],
        beside: Beside::Start("exec nginx"),
        ..PLAIN
    },
    Server {
        services: &["web"],
        package: "apache2",
        config: "etc/apache2/apache2.conf",
        units: &["apache2.service"],
        program: "usr/sbin/apache2",
        check: &["apache2ctl", "-t"],
        directories: &[("var/log/apache2", &["root", "www-data"])],
        beside: Beside::Start("exec apache2ctl start"),
        ..PLAIN
    },
    Server {
        services: &["nfs"],
        package: "nfs-kernel-server",
        config: "etc/exports",
        units: &["nfs-server.service"],
        program: "usr/sbin/rpc.nfsd",
        directories: &[("var/lib/nfs", &["statd", "root"])],
        modules: &["nfsd"],
        beside: Beside::Never("the kernel has one NFS server"),
        ..PLAIN
    },
    Server {
        services: &["samba", "smb"],
        package: "samba",
        config: "etc/samba/smb.conf",
        units: &["smbd.service", "samba-ad-dc.service"],
        program: "usr/sbin/smbd",
        check: &["testparm", "-s"],
        directories: &[("var/lib/samba", &["root"]), ("var/lib/samba/private", &["root"])],
        beside: Beside::Start("mkdir -p /run/samba && exec smbd -D"),
        ..PLAIN
    },
    Server {
        services: &["dns"],
        package: "bind9",
        config: "etc/bind/named.conf",
        units: &["named.service", "bind9.service"],
        program: "usr/sbin/named",
        check: &["named-checkconf"],
        directories: &[("var/cache/bind", &["root", "bind"])],
        is_udp: true,
        beside: Beside::Start("install -d -o bind -g bind /run/named && exec named -u bind"),
        ..PLAIN
    },
    Server {
        services: &["dns"],
        package: "unbound",
        config: "etc/unbound/unbound.conf",
        units: &["unbound.service"],
        program: "usr/sbin/unbound",
        check: &["unbound-checkconf"],
        is_udp: true,
        beside: Beside::Start("exec unbound"),
        ..PLAIN
    },
    Server {
        services: &["dns"],
        package: "dnsmasq",
        config: "etc/dnsmasq.conf",
        units: &["dnsmasq.service"],
        program: "usr/sbin/dnsmasq",
        check: &["dnsmasq", "--test", "-7", "/etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new"],
        is_udp: true,
        beside: Beside::Start(
            "install -d -o dnsmasq /run/dnsmasq && exec dnsmasq -7 /etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new",
        ),
        ..PLAIN
    },
    Server {
        services: &["ntp"],
        package: "chrony",
        config: "etc/chrony/chrony.conf",
        units: &["chrony.service"],
        program: "usr/sbin/chronyd",
        check: &["chronyd", "-p"],
        directories: &[("var/lib/chrony", &["_chrony"])],
        is_udp: true,
        beside: Beside::Never("a second one would steer the clock"),
        ..PLAIN
    },
    Server {
        services: &["ntp"],
        package: "ntpsec",
        config: "etc/ntpsec/ntp.conf",
        units: &["ntpsec.service"],
        program: "usr/sbin/ntpd",
        is_udp: true,
        beside: Beside::Never("a second one would steer the clock"),
        ..PLAIN
    },
    Server {
        services: &["smtp", "mail"],
        package: "postfix",
        config: "etc/postfix/main.cf",
        units: &["postfix.service"],
        program: "usr/sbin/postfix",
        // `postfix check` makes directories; this only reads.
        check: &["postconf", "-M"],
        directories: &[("var/spool/postfix", &["root"]), ("var/lib/postfix", &["postfix"])],
        beside: Beside::Never("a second one would deliver what is in the queue"),
        ..PLAIN
    },
    Server {
        services: &["smtp", "mail"],
        package: "exim4",
        config: "etc/exim4",
        units: &["exim4.service"],
        program: "usr/sbin/exim4",
        check: &["exim4", "-bV"],
        directories: &[("var/spool/exim4", &["Debian-exim"])],
        beside: Beside::Never("a second one would deliver what is in the queue"),
        ..PLAIN
    },
    Server {
        services: &["imap", "mail"],
        package: "dovecot-imapd",
        config: "etc/dovecot/dovecot.conf",
        units: &["dovecot.service"],
        program: "usr/sbin/dovecot",
        check: &["doveconf", "-n"],
        beside: Beside::Start("exec dovecot"),
        ..PLAIN
    },
    Server {
        services: &["postgresql", "postgres"],
        package: "postgresql",
        config: "etc/postgresql",
        // It only starts and stops the clusters' own, and runs on when one of them does not.
        units: &["postgresql.service"],
        unit_of: |cluster| {
            let is_plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let (version, name) =
                cluster.split_once('/').filter(|(version, name)| is_plain(version) && is_plain(name))?;
            Some(format!("postgresql@{version}-{name}.service"))
        },
        program: "usr/bin/pg_ctlcluster",
        check: &["sh", "-c", CLUSTERS],
        directories: &[("var/lib/postgresql", &["postgres"])],
        beside: Beside::Never("two cannot work with the same data"),
        ..PLAIN
    },
    Server {
        services: &["mariadb", "mysql"],
        package: "mariadb-server",
        config: "etc/mysql/mariadb.conf.d",
        units: &["mariadb.service"],
        program: "usr/sbin/mariadbd",
        // The server reads all of its settings before it tells them.
        check: &["mariadbd", "--user=mysql", "--verbose", "--help"],
        directories: &[("var/lib/mysql", &["mysql"])],
        beside: Beside::Never("two cannot work with the same data"),
        ..PLAIN
    },
];

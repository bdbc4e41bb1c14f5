//! The daemons whose configurations are read: how each is started as its package does, and what it needs to be there.

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    /// As the folder of its cases is called.
    pub name: &'static str,
    /// The service of the Verifier that finds it.
    pub service: &'static str,
    /// Where its configuration lies.
    pub dir: &'static str,
    /// Whether it lies in the root file system of those that cannot be installed beside others.
    pub is_other: bool,
    /// Shell that makes what a server would have: accounts' directories, test data of the packages.
    pub prepare: &'static str,
    /// Shell that says by its status whether the daemon takes the configuration.
    pub accepts: &'static str,
    /// Shell that lists its names, where SetUp has no word of its own to compare.
    pub names: &'static str,
    /// Shell that becomes the daemon, in the foreground; empty where it is a kernel's: see `uml.rs`.
    pub start: &'static str,
    /// Shell that waits until it does what it is there for, where that is later than that it listens.
    pub ready: &'static str,
    /// Whether clients come over UDP.
    pub is_udp: bool,
    /// Ports at which it is controlled, not used.
    pub control: &'static [u16],
    /// How often it is exercised, in seconds; a check is over within that.
    pub interval: u64,
}

const NONE: Daemon = Daemon {
    name: "",
    service: "",
    dir: "",
    is_other: false,
    prepare: "",
    accepts: "",
    names: "",
    start: "",
    ready: "",
    is_udp: false,
    control: &[],
    interval: 3,
};

pub const ALL: &[Daemon] = &[
    Daemon {
        name: "nginx",
        service: "web",
        dir: "/etc/nginx",
        accepts: "nginx -t -q",
        start: "exec nginx -g 'daemon off;'",
        ..NONE
    },
    Daemon {
        name: "apache",
        service: "web",
        dir: "/etc/apache2",
        prepare: "mkdir -p /run/lock",
        accepts: "apache2ctl -t",
        names: "apache2ctl -t -D DUMP_VHOSTS",
        start: ". /etc/apache2/envvars; mkdir -p $APACHE_RUN_DIR $APACHE_LOCK_DIR; exec apache2 -D FOREGROUND",
        ..NONE
    },
    Daemon {
        name: "ssh",
        service: "ssh",
        dir: "/etc/ssh",
        prepare: "mkdir -p /run/sshd",
        accepts: "sshd -t",
        start: "exec /usr/sbin/sshd -D -e",
        ..NONE
    },
    Daemon {
        name: "bind",
        service: "dns",
        dir: "/etc/bind",
        prepare: "mkdir -p /run/named; chown bind /run/named",
        accepts: "named-checkconf",
        start: "exec named -g -u bind",
        is_udp: true,
        ..NONE
    },
    Daemon {
        name: "unbound",
        service: "dns",
        dir: "/etc/unbound",
        prepare: "[ -e /var/lib/unbound/root.key ] || install -o unbound -m 644 /usr/share/dns/root.key /var/lib/unbound/root.key",
        accepts: "unbound-checkconf",
        start: "exec unbound -d -p",
        is_udp: true,
        ..NONE
    },
    Daemon {
        name: "dnsmasq",
        service: "dns",
        dir: "/etc/dnsmasq.conf",
        accepts: "dnsmasq --test",
        start: "exec dnsmasq -k -u root -7 /etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new --local-service",
        is_udp: true,
        ..NONE
    },
    Daemon {
        name: "postfix",
        service: "mail",
        dir: "/etc/postfix",
        prepare: "[ -e /etc/aliases ] || echo 'root: postmaster' >/etc/aliases; newaliases || true",
        accepts: "postfix check",
        start: "exec postfix start-fg",
        ..NONE
    },
    Daemon {
        name: "dovecot",
        service: "mail",
        dir: "/etc/dovecot",
        accepts: "doveconf -n",
        start: "exec dovecot -F",
        ..NONE
    },
    Daemon {
        name: "exim",
        service: "mail",
        dir: "/etc/exim4",
        is_other: true,
        prepare: "update-exim4.conf",
        accepts: "exim4 -bV",
        start: "exec exim4 -bdf",
        // Without a certificate, Debian 11's makes itself a key for each conversation: a second, where others work beside it.
        interval: 15,
        ..NONE
    },
    Daemon {
        name: "samba",
        service: "samba",
        dir: "/etc/samba",
        prepare: "mkdir -p /run/samba",
        accepts: "testparm -s",
        start: "exec smbd -F --no-process-group",
        // A check is several runs of a client.
        interval: 8,
        ..NONE
    },
    Daemon {
        name: "postgresql",
        service: "postgresql",
        dir: "/etc/postgresql",
        prepare: "mkdir -p /run/postgresql; chown postgres /run/postgresql; cd /",
        accepts: "for one in /etc/postgresql/*/*/postgresql.conf; do v=${one#/etc/postgresql/}; setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/${v%%/*}/bin/postgres -C port -c config_file=$one; done",
        start: "cd /; for one in /etc/postgresql/*/*/postgresql.conf; do v=${one#/etc/postgresql/}; setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/${v%%/*}/bin/postgres -c config_file=$one & done; wait",
        ..NONE
    },
    Daemon {
        name: "mariadb",
        service: "mariadb",
        dir: "/etc/mysql",
        prepare: "mkdir -p /run/mysqld; chown mysql /run/mysqld",
        accepts: "mariadbd --help --verbose --user=mysql",
        start: "exec mariadbd --user=mysql",
        ..NONE
    },
    Daemon {
        name: "chrony",
        service: "ntp",
        dir: "/etc/chrony",
        prepare: "mkdir -p /run/chrony; chown _chrony /run/chrony",
        accepts: "chronyd -p",
        start: "exec chronyd -d -x",
        is_udp: true,
        control: &[323],
        ..NONE
    },
    Daemon {
        name: "ntpsec",
        service: "ntp",
        dir: "/etc/ntpsec",
        is_other: true,
        accepts: "true",
        // It has the time at once, where for minutes it would not have got it from anybody; and leaves this machine's clock alone.
        start: "echo 'tos orphan 8 orphanwait 1' >>/etc/ntpsec/ntp.conf; exec setpriv --bounding-set=-sys_time --inh-caps=-all -- ntpd -n -g",
        ready: "timeout 20 sh -c 'until ntpq -c rv | grep -q leap=00; do sleep 0.2; done' || true",
        is_udp: true,
        ..NONE
    },
    Daemon {
        name: "nfs",
        service: "nfs",
        dir: "/etc/exports",
        // Without the kernel's part it fails, and has written what is exported, which is what it tells.
        accepts: "rm -f /var/lib/nfs/etab; exportfs -r || [ -s /var/lib/nfs/etab ]",
        names: "exportfs -s",
        ..NONE
    },
];

/// The one of this name.
pub fn of(name: &str) -> &'static Daemon {
    ALL.iter().find(|daemon| daemon.name == name).unwrap_or_else(|| panic!("no daemon {name}"))
}

//! For each service, that it does not run; and for most, that it runs and does not serve.

use super::{DEADLINE, INTERVAL};
use crate::scenarios::latent::Fault;

const fn fault(
    name: &'static str,
    inject: &'static str,
    is_there: &'static str,
    undo: &'static str,
    names: &'static [&'static str],
) -> Fault {
    Fault { name, inject, is_there, undo, names, pacemaker: false, interval: INTERVAL }
}

/// A fault that shows when a check has waited for as long as it may.
const fn that_hangs(fault: Fault) -> Fault {
    Fault { interval: INTERVAL + DEADLINE, ..fault }
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    fault(
        "nginx stopped",
        "systemctl stop nginx",
        "! pgrep -x nginx",
        "systemctl start nginx",
        &["nginx.service does not run", "nothing comes from port 80:"],
    ),
    fault(
        "Apache stopped",
        "systemctl stop apache2",
        "! pgrep -x apache2",
        "systemctl start apache2",
        &["apache2.service does not run", "nothing comes from port 8080:"],
    ),
    fault(
        "Apache may not read its pages",
        "chmod 700 /unbound/cakes",
        "! runuser -u www-data -- ls /unbound/cakes",
        "chmod 755 /unbound/cakes",
        &["/atlas-verify.html may not be read (403)"],
    ),
    fault(
        "NFS stopped",
        "systemctl stop nfs-server",
        "! ss -Hltn 'sport = :2049' | grep -q .",
        "systemctl start nfs-server",
        &["nfs-server.service does not run", "the NFS server does not answer"],
    ),
    fault(
        "NFS exports nothing",
        "exportfs -ua",
        "! exportfs | grep -q recipes",
        "exportfs -ra",
        &["nfs//unbound/recipes: /unbound/recipes: "],
    ),
    fault(
        "Samba stopped",
        "systemctl stop smbd",
        "! ss -Hltn 'sport = :445' | grep -q .",
        "systemctl start smbd",
        &["smbd.service does not run", "nobody answers on port 445"],
    ),
    fault(
        "Samba's share cannot be written",
        "chmod 755 /unbound/team",
        "! runuser -u nobody -- touch /unbound/team/new",
        "chmod 1777 /unbound/team",
        &["team: writing: "],
    ),
    fault(
        "name server stopped",
        "systemctl stop named",
        "! pgrep -x named",
        "systemctl start named",
        &["named.service does not run", "from port 53: "],
    ),
    fault(
        "name server without its zone",
        "mv /etc/bind/db.bakery /root/ && systemctl restart named",
        "pgrep -x named && ! test -e /etc/bind/db.bakery",
        "mv /root/db.bakery /etc/bind/ && systemctl restart named",
        &["asked for bakery.example, it says SERVFAIL: the zone is not loaded"],
    ),
    fault(
        "time server stopped",
        "systemctl stop chrony",
        "! pgrep -x chronyd",
        "systemctl start chrony",
        &["chrony.service does not run", "no time comes from port 123"],
    ),
    fault(
        "time server without the time",
        "mv /etc/chrony/conf.d/lan.conf /root/ && echo 'allow 192.168.77.0/24' > /etc/chrony/conf.d/lan.conf && systemctl restart chrony",
        "timeout 60 sh -c \"until chronyc -c tracking | grep -q 'Not synchronised'; do sleep 1; done\"",
        "mv /root/lan.conf /etc/chrony/conf.d/lan.conf && systemctl restart chrony",
        &["it answers, but has not got the time itself"],
    ),
    fault(
        "Postfix stopped",
        "systemctl stop postfix postfix@-",
        "! ss -Hltn 'sport = :25' | grep -q .",
        "systemctl start postfix",
        &["postfix.service does not run", "nobody answers on port 25"],
    ),
    that_hangs(fault(
        "mail is accepted and not delivered",
        "mv /unbound/mail /unbound/gone",
        "! test -e /unbound/mail",
        "mv /unbound/gone /unbound/mail && postqueue -f",
        &["was accepted, and is not in its mailbox"],
    )),
    fault(
        "Dovecot stopped",
        "systemctl stop dovecot",
        "! ss -Hltn 'sport = :143' | grep -q .",
        "systemctl start dovecot",
        &["dovecot.service does not run", "nobody answers on port 143", "port 993"],
    ),
    fault(
        "PostgreSQL stopped",
        "systemctl stop postgresql postgresql@15-main",
        "! ss -Hltn 'sport = :5432' | grep -q .",
        "systemctl start postgresql",
        &["postgresql.service does not run", "nobody answers on port 5432"],
    ),
    fault(
        "PostgreSQL's cluster stopped alone",
        "systemctl stop postgresql@15-main",
        "systemctl is-active -q postgresql && ! ss -Hltn 'sport = :5432' | grep -q .",
        "systemctl start postgresql@15-main",
        &["postgresql@15-main.service does not run", "nobody answers on port 5432"],
    ),
    fault(
        "PostgreSQL does not let the account in",
        "runuser -u postgres -- psql -qc 'ALTER ROLE verify NOLOGIN'",
        "! PGPASSWORD=cake psql -h 192.168.77.2 -U verify -c 'SELECT 1'",
        "runuser -u postgres -- psql -qc 'ALTER ROLE verify LOGIN'",
        &["as verify: "],
    ),
    fault(
        "MariaDB stopped",
        "systemctl stop mariadb",
        "! pgrep -x mariadbd",
        "systemctl start mariadb",
        &["mariadb.service does not run", "nobody answers on port 3306"],
    ),
    that_hangs(fault(
        "MariaDB hangs",
        "pkill -STOP -x mariadbd",
        "ps -o stat= -C mariadbd | grep -q T",
        "pkill -CONT -x mariadbd",
        &["port 3306: no answer"],
    )),
];

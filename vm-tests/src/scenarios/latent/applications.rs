//! Faults of applications that no check of ATLAS knows by name: one in Python with a unit of its own, one in PHP, one in a container; and of
//! their cause, where something else fails.

use super::faults::{Fault, fault, no, of_cold_boot};

/// All of them.
pub(super) const APPLICATIONS: &[Fault] = &[
    of_cold_boot(fault(
        "an application in Python stopped",
        "systemctl stop orders",
        "! systemctl is-active -q orders",
        "systemctl start orders",
        &["orders.service is running on PRI and stopped here"],
    )),
    no(of_cold_boot(fault(
        "an application in Python disabled",
        "systemctl disable orders",
        "! systemctl is-enabled -q orders",
        "systemctl enable orders",
        &["orders.service is enabled on PRI and nothing here"],
    ))),
    no(fault(
        "an application's program gone",
        "mv /opt/orders/orders.py /root/",
        "! test -e /opt/orders/orders.py",
        "mv /root/orders.py /opt/orders/",
        &["/opt/orders/orders.py is gone since the last cycle"],
    )),
    no(fault(
        "an application's file of settings gone",
        "mv /etc/default/orders /root/orders.default",
        "! test -e /etc/default/orders",
        "mv /root/orders.default /etc/default/orders",
        &["/etc/default/orders is gone since the last cycle", "its file of settings /etc/default/orders is not there"],
    )),
    fault(
        "an application's data of another owner",
        "chown -R root:root /unbound/orders",
        "! runuser -u orders -- test -w /unbound/orders && curl -s http://127.0.0.1:8081/ | grep -q denied",
        "chown -R orders:orders /unbound/orders",
        &["orders.service would not start: its account orders may not go into /unbound/orders"],
    ),
    fault(
        "an application hangs",
        "pkill -STOP -f '[o]rders.py'",
        "ps -o stat= -C python3 | grep -q T",
        "pkill -CONT -f '[o]rders.py'",
        &["/ answers 504", "nothing comes from port 8081"],
    ),
    no(of_cold_boot(fault(
        "an application's account locked out of its unit",
        "mkdir -p /etc/systemd/system/orders.service.d && printf '[Service]\\nUser=nobody\\n' > /etc/systemd/system/orders.service.d/user.conf",
        "grep -q nobody /etc/systemd/system/orders.service.d/user.conf",
        "rm -r /etc/systemd/system/orders.service.d",
        &["orders.service.d/user.conf is nothing on PRI", "its account nobody may not go into /unbound/orders"],
    ))),
    of_cold_boot(fault(
        "PHP stopped",
        "systemctl stop php8.2-fpm",
        "! systemctl is-active -q php8.2-fpm",
        "systemctl start php8.2-fpm",
        &["php8.2-fpm.service is running on PRI and stopped here", "/index.php answers 502"],
    )),
    no(of_cold_boot(fault(
        "PHP disabled",
        "systemctl disable php8.2-fpm",
        "! systemctl is-enabled -q php8.2-fpm",
        "systemctl enable php8.2-fpm",
        &["php8.2-fpm.service is enabled on PRI and nothing here"],
    ))),
    fault(
        "PHP keeps no sessions",
        "chmod 700 /var/lib/php/sessions",
        "! runuser -u www-data -- test -w /var/lib/php/sessions",
        "chmod 1733 /var/lib/php/sessions",
        &["the dynamic page /index.php answers 500, and says 'no session can be kept'"],
    ),
    fault(
        "a page in PHP with a mistake",
        "cp -a /srv/shop/index.php /root/ && echo '<?php open(' > /srv/shop/index.php",
        "! php8.2 -l /srv/shop/index.php 2>/dev/null || grep -q 'open(' /srv/shop/index.php",
        "cp -a /root/index.php /srv/shop/index.php",
        &["/srv/shop/index.php was changed since the last cycle: its content"],
    ),
    no(fault(
        "settings of PHP gone",
        "mv /etc/php/8.2/fpm/pool.d/www.conf /root/",
        "! test -e /etc/php/8.2/fpm/pool.d/www.conf",
        "mv /root/www.conf /etc/php/8.2/fpm/pool.d/",
        &["/etc/php/8.2/fpm/pool.d/www.conf is gone since the last cycle"],
    )),
    of_cold_boot(fault(
        "a container stopped",
        "systemctl stop shelf",
        "! systemctl is-active -q shelf",
        "systemctl start shelf",
        &["shelf.service is running on PRI and stopped here", "/ answers 502"],
    )),
    no(of_cold_boot(fault(
        "a container's directory gone",
        "mv /var/lib/machines/shelf /var/lib/machines/gone",
        "! test -e /var/lib/machines/shelf",
        "mv /var/lib/machines/gone /var/lib/machines/shelf",
        &["shelf.service's /var/lib/machines/shelf is of root"],
    ))),
    no(of_cold_boot(fault(
        "a container disabled",
        "systemctl disable shelf",
        "! systemctl is-enabled -q shelf",
        "systemctl enable shelf",
        &["shelf.service is enabled on PRI and nothing here"],
    ))),
    fault(
        "a firewall for the clients' interface alone",
        "nft add table inet t && nft 'add chain inet t in { type filter hook input priority 0; }' && nft add rule inet t in iifname eth0 tcp dport 8081 drop",
        "nft list ruleset | grep -q 'iifname \"eth0\" tcp dport 8081 drop'",
        "nft delete table inet t",
        &["a rule of t in drops tcp port 8081"],
    ),
    fault(
        "the site's own start page changed",
        "cp -a /srv/shop/index.html /root/ && echo closed > /srv/shop/index.html",
        "grep -q closed /srv/shop/index.html",
        "cp -a /root/index.html /srv/shop/index.html",
        &["/srv/shop/index.html was changed since the last cycle: its content"],
    ),
    of_cold_boot(fault(
        "another site's start page in its place",
        "mkdir -p /root/other && echo other > /root/other/index.html && cp /srv/shop/atlas-verify.html /root/other/ && chmod -R a+rX /root/other && mount --bind /root/other /srv/shop",
        "grep -q other /srv/shop/index.html",
        "umount /srv/shop; rm -r /root/other",
        &["/srv/shop/index.html was changed since the last cycle", "start pages: *:8082 is"],
    )),
];

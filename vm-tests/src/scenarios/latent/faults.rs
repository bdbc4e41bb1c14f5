//! The table of faults that an idle standby can carry unseen.

/// One fault: how it comes about, how to see that it is there, and how it goes.
#[derive(Debug, Clone, Copy)]
pub(in crate::scenarios) struct Fault {
    /// What happened.
    pub(in crate::scenarios) name: &'static str,
    /// Brings it about on the secondary.
    pub(in crate::scenarios) inject: &'static str,
    /// Succeeds while it is there, whatever ATLAS says.
    pub(in crate::scenarios) is_there: &'static str,
    /// Takes it away.
    pub(in crate::scenarios) undo: &'static str,
    /// One of these must be in what is said, so that it names the fault and not only that something is wrong.
    pub(in crate::scenarios) names: &'static [&'static str],
    /// Within which it has to be told, in seconds, where that is not the interval of all others.
    pub(in crate::scenarios) interval: Option<u64>,
    /// Whether a swap would fail with it: `atlas status` must not say yes then, and not that nobody knows.
    pub(in crate::scenarios) breaks: bool,
}

/// Most of them.
pub(in crate::scenarios) const fn fault(
    name: &'static str,
    inject: &'static str,
    is_there: &'static str,
    undo: &'static str,
    names: &'static [&'static str],
) -> Fault {
    Fault { name, inject, is_there, undo, names, interval: None, breaks: false }
}

/// A fault that no service shows: what PRI boots with and the secondary does not is compared, and told within a minute.
pub(super) const fn of_cold_boot(fault: Fault) -> Fault {
    Fault { interval: Some(60), ..fault }
}

/// A fault with which a swap would fail, or end without a service.
pub(super) const fn no(fault: Fault) -> Fault {
    Fault { breaks: true, ..fault }
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    fault(
        "web server stopped",
        "systemctl stop nginx",
        "! systemctl is-active -q nginx",
        "systemctl start nginx",
        &["nginx.service does not run"],
    ),
    fault(
        "web server hangs",
        "pkill -STOP nginx",
        "ps -o stat= -C nginx | grep -q T",
        "pkill -CONT nginx",
        &["nothing comes from port 80: Operation timed out"],
    ),
    no(fault(
        "web server disabled at boot",
        "systemctl disable nginx",
        "! systemctl is-enabled -q nginx",
        "systemctl enable nginx",
        &[
            "nginx.service would not start at the next boot: it is disabled",
            "nginx.service is enabled on PRI and nothing here",
        ],
    )),
    no(fault(
        "web server masked",
        "systemctl disable nginx; ln -sf /dev/null /etc/systemd/system/nginx.service; systemctl daemon-reload",
        "test \"$(systemctl is-enabled nginx)\" = masked",
        "rm /etc/systemd/system/nginx.service; systemctl daemon-reload; systemctl enable nginx; systemctl start nginx",
        &[
            "nginx.service would not start at the next boot: it is masked",
            "nginx.service is enabled on PRI and masked here",
        ],
    )),
    no(fault(
        "web server listens on the wrong address",
        "sed -i.atlas 's/listen 80[^;]*/listen 127.0.0.1:80/; /listen \\[::\\]:80/d' /etc/nginx/conf.d/unbound.conf; systemctl restart nginx",
        "ss -Hltn 'sport = :80' | grep -q 127.0.0.1",
        "mv /etc/nginx/conf.d/unbound.conf.atlas /etc/nginx/conf.d/unbound.conf; systemctl restart nginx",
        &["web listens on 127.0.0.1 alone"],
    )),
    no(fault(
        "web configuration broken, not yet loaded",
        "echo 'nonsense;' > /etc/nginx/conf.d/zz.conf",
        "! nginx -t 2>/dev/null",
        "rm /etc/nginx/conf.d/zz.conf",
        &["the configuration of nginx is broken"],
    )),
    fault(
        "web page's directory gone",
        "mv /unbound/www /unbound/gone",
        "test -d /unbound/gone",
        "mv /unbound/gone /unbound/www",
        &["/unbound/www is missing"],
    ),
    fault(
        "web page's directory unreadable",
        "chmod 700 /unbound/www",
        "! su -s /bin/sh www-data -c 'ls /unbound/www'",
        "chmod 755 /unbound/www",
        &["may not be read (403)"],
    ),
    fault(
        "test page changed",
        "echo other > /unbound/www/$(cd /unbound/www; ls -a | grep atlas-verify | head -1)",
        "grep -rq other /unbound/www --include='*atlas-verify*'",
        "cp /root/test-page /unbound/www/$(cd /unbound/www; ls -a | grep atlas-verify | head -1)",
        &["is not what was placed"],
    ),
    fault(
        "sshd stopped",
        "systemctl stop ssh",
        "! systemctl is-active -q ssh",
        "systemctl start ssh",
        &["ssh.service does not run", "nobody answers on port 22: Connection refused"],
    ),
    no(fault(
        "sshd disabled at boot",
        "systemctl disable ssh",
        "! systemctl is-enabled -q ssh",
        "systemctl enable ssh",
        &[
            "ssh.service would not start at the next boot: it is disabled",
            "ssh.service is enabled on PRI and nothing here",
        ],
    )),
    fault(
        "ssh host key gone",
        "mv /etc/ssh/ssh_host_ed25519_key /root/",
        "! test -e /etc/ssh/ssh_host_ed25519_key",
        "mv /root/ssh_host_ed25519_key /etc/ssh/",
        &["no hostkeys available"],
    ),
    fault(
        "firewall drops the web port",
        "nft add table inet t && nft 'add chain inet t in { type filter hook input priority 0; }' && nft add rule inet t in tcp dport 80 drop",
        "nft list ruleset | grep -q 'dport 80 drop'",
        "nft delete table inet t",
        &["the firewall seems to keep clients of web out"],
    ),
    fault(
        "firewall drops everything from PRI",
        "nft add table inet t && nft 'add chain inet t in { type filter hook input priority 0; }' && nft add rule inet t in ip saddr 192.168.77.1 drop",
        "nft list ruleset | grep -q 'saddr 192.168.77.1 drop'",
        "nft delete table inet t",
        &["192.168.77.2 answers no echo request"],
    ),
    fault(
        "network cable out",
        "ip link set eth0 down",
        "ip link show eth0 | grep -q 'state DOWN'",
        "ip link set eth0 up; systemctl restart systemd-networkd",
        &["192.168.77.2 answers no echo request"],
    ),
    fault(
        "large packets are lost",
        "nft add table inet t && nft 'add chain inet t in { type filter hook prerouting priority -500; }' && nft add rule inet t in meta length '>' 1000 drop",
        "nft list ruleset | grep -q 'meta length > 1000 drop'",
        "nft delete table inet t",
        &["fragment", "large"],
    ),
    fault(
        "NFS server stopped",
        "systemctl stop nfs-server",
        "! systemctl is-active -q nfs-server",
        "systemctl start nfs-server",
        &["nfs-server.service does not run"],
    ),
    fault(
        "NFS no longer exports",
        "exportfs -ua",
        "test -z \"$(exportfs)\"",
        "exportfs -ra",
        &["access denied by server while mounting"],
    ),
    no(fault(
        "NFS exports disabled at boot",
        "systemctl disable nfs-server",
        "! systemctl is-enabled -q nfs-server",
        "systemctl enable nfs-server",
        &[
            "nfs-server.service would not start at the next boot: it is disabled",
            "nfs-server.service is enabled on PRI and nothing here",
        ],
    )),
    fault(
        "exported directory gone",
        "mv /unbound/share /unbound/lost",
        "test -d /unbound/lost",
        "mv /unbound/lost /unbound/share; exportfs -ra",
        &["reason given by server: No such file", "/unbound/share is not there"],
    ),
    no(fault(
        "root file system full",
        "fallocate -l $(( $(df --output=avail -B1 / | tail -1) )) /big || true; dd if=/dev/zero of=/big2 bs=64k 2>/dev/null || true",
        "test $(df --output=avail -B1 / | tail -1) -lt 1000000",
        "rm -f /big /big2",
        &["No space left on device", "/ is nearly full"],
    )),
    fault(
        "client data's file system full",
        "dd if=/dev/zero of=/unbound/big bs=64k 2>/dev/null || true",
        "test $(df --output=avail -B1 /unbound | tail -1) -lt 1000000",
        "rm -f /unbound/big",
        &["/unbound is nearly full"],
    ),
    fault(
        "no inodes left",
        "mkdir /unbound/many && cd /unbound/many && seq 1 40000 | xargs touch 2>/dev/null || true",
        "test $(df --output=iavail /unbound | tail -1) -lt 100",
        "rm -rf /unbound/many",
        &["free inodes"],
    ),
    fault(
        "file system turned read-only",
        "mount -o remount,ro /unbound",
        "! touch /unbound/x 2>/dev/null",
        "mount -o remount,rw /unbound",
        &["is read-only"],
    ),
    fault(
        "a disk of the mirror failed",
        "mdadm /dev/md/*atlas-unbound* --fail /dev/vdc",
        "grep -q '\\[2/1\\]' /proc/mdstat",
        "mdadm /dev/md/*atlas-unbound* --remove /dev/vdc; mdadm /dev/md/*atlas-unbound* --add /dev/vdc; for i in $(seq 60); do grep -q '\\[2/2\\]' /proc/mdstat && break; sleep 1; done",
        &["runs with 1 of 2 disks: vdc failed"],
    ),
    no(fault(
        "initramfs without the hook",
        "cp -a /boot /root/boot.atlas; for i in /boot/initrd.img-*; do echo . | cpio -o -H newc 2>/dev/null | gzip > $i; done",
        "! lsinitramfs /boot/initrd.img-* | grep -q atlas-boot",
        "cp -a /root/boot.atlas/. /boot/; rm -rf /root/boot.atlas",
        &["lacks usr/lib/atlas/atlas-boot"],
    )),
    no(fault(
        "a kernel without an initramfs",
        "cp /boot/vmlinuz-* /boot/vmlinuz-9.9.9-test",
        "test -e /boot/vmlinuz-9.9.9-test",
        "rm /boot/vmlinuz-9.9.9-test",
        &["9.9.9-test"],
    )),
    no(fault(
        "kernel modules gone",
        "mv /lib/modules /lib/modules.gone",
        "! test -e /lib/modules",
        "mv /lib/modules.gone /lib/modules",
        &["has no modules"],
    )),
    no(fault(
        "default boot target changed",
        "systemctl set-default rescue.target",
        "test $(systemctl get-default) = rescue.target",
        "systemctl set-default graphical.target",
        &["the next boot would end in rescue.target"],
    )),
    no(fault(
        "another EnvID",
        "cp /opt/atlas/EnvID /root/ && echo 7 > /opt/atlas/EnvID",
        "grep -q 7 /opt/atlas/EnvID",
        "cp /root/EnvID /opt/atlas/EnvID",
        &["EnvID was Env1 at the boot and is Env7 now"],
    )),
    fault(
        "another Role in MasterConfig",
        "cp /unbound/SID_DATA/MasterConfig /root/ && sed -i 's/\"SEC1\"/\"SEC2\"/' /unbound/SID_DATA/MasterConfig",
        "grep -q SEC2 /unbound/SID_DATA/MasterConfig",
        "cp /root/MasterConfig /unbound/SID_DATA/MasterConfig",
        &["the next boot would fail (role)"],
    ),
    no(fault(
        "identity file made immutable",
        "chattr +i /etc/hostname",
        "lsattr /etc/hostname | cut -d ' ' -f 1 | grep -q i",
        "chattr -i /etc/hostname",
        &["/etc/hostname was made immutable"],
    )),
    fault(
        "PRI's key revoked",
        "mv /unbound/SID_DATA/keys/authorized_keys /root/",
        "! test -e /unbound/SID_DATA/keys/authorized_keys",
        "mv /root/authorized_keys /unbound/SID_DATA/keys/",
        &["the key of PRI is not known"],
    ),
    no(fault(
        "an ATLAS program gone",
        "mv /opt/atlas/bin/ssSync /root/ssSync.link",
        "! test -e /opt/atlas/bin/ssSync",
        "mv /root/ssSync.link /opt/atlas/bin/ssSync",
        &["the program ssSync is not there"],
    )),
    no(fault(
        "network not held for the identity",
        "mv /usr/lib/systemd/system/systemd-networkd.service.d/50-atlas.conf /root/",
        "! test -e /usr/lib/systemd/system/systemd-networkd.service.d/50-atlas.conf",
        "mv /root/50-atlas.conf /usr/lib/systemd/system/systemd-networkd.service.d/",
        &["would configure the network without a role"],
    )),
    fault(
        "Verifier stopped",
        "systemctl stop VerifierControl",
        "! systemctl is-active -q VerifierControl",
        "systemctl start VerifierControl",
        &["the Verifier of SEC1 does not answer: connect to its port"],
    ),
    fault(
        "Verifier stuck",
        "pkill -STOP -x VerifierControl",
        "ps -o stat= -C VerifierControl | grep -q T",
        "pkill -CONT -x VerifierControl",
        &["the Verifier of SEC1 does not answer: it takes questions and answers none"],
    ),
    fault(
        "Verifiers' secret differs",
        "cp -a /etc/atlas/verifier/secret /root/ && head -c 32 /dev/urandom | sha256sum > /etc/atlas/verifier/secret",
        "! cmp -s /root/secret /etc/atlas/verifier/secret",
        "cp -a /root/secret /etc/atlas/verifier/secret",
        &["the two servers' /etc/atlas/verifier/secret differ"],
    ),
    of_cold_boot(fault(
        "a package removed",
        "tar -cf /root/acl.tar $(dpkg -L acl | xargs -I{} sh -c 'test -d {} || echo {}') /var/lib/dpkg 2>/dev/null; dpkg --remove --force-depends acl",
        "! dpkg -s acl 2>/dev/null | grep -q 'ok installed'",
        "tar -C / -xf /root/acl.tar",
        &["packages: acl is"],
    )),
    of_cold_boot(fault(
        "a package of another version",
        "cp -a /var/lib/dpkg/status /root/status && sed -i '/^Package: nginx-light$/,/^$/s/^Version: .*/Version: 0.1-1/' /var/lib/dpkg/status",
        "dpkg -s nginx-light | grep -q 'Version: 0.1-1'",
        "cp -a /root/status /var/lib/dpkg/status",
        &["packages: nginx-light is"],
    )),
    fault(
        "cycles would not begin as PRI",
        "systemctl disable ssSyncLoop",
        "! systemctl is-enabled -q ssSyncLoop",
        "systemctl enable ssSyncLoop",
        &["ssSyncLoop is disabled"],
    ),
    fault(
        "a unit failed",
        "systemd-run --unit=failing /bin/false; sleep 1",
        "systemctl is-failed -q failing",
        "systemctl reset-failed failing",
        &["the unit failing.service has failed"],
    ),
    // Less than a tenth is left. With nearly nothing, an emulated server does nothing any more but read its programs again.
    fault(
        "memory eaten up",
        "mount -t tmpfs -o size=100% none /mnt && head -c $(( ($(grep MemAvailable /proc/meminfo | tr -dc 0-9) - 42000) * 1024 )) /dev/zero > /mnt/eater",
        "test $(( $(grep MemAvailable /proc/meminfo | tr -dc 0-9) * 10 )) -lt $(grep MemTotal /proc/meminfo | tr -dc 0-9)",
        "umount /mnt",
        &["memory is short"],
    ),
    fault(
        "clock two hours ahead",
        "date -s '+2 hours'",
        "test $(date +%s) -gt $(( $(stat -c %Y /run/atlas/boot.json) + 7200 ))",
        "date -s '-2 hours'",
        &["difference-of-clocks is 7"],
    ),
    of_cold_boot(fault(
        "another time zone",
        "cp -a /etc/localtime /root/localtime 2>/dev/null; ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime; echo Asia/Tokyo > /etc/timezone",
        "test \"$(readlink /etc/localtime)\" = /usr/share/zoneinfo/Asia/Tokyo",
        "rm /etc/localtime; cp -a /root/localtime /etc/localtime 2>/dev/null; echo Etc/UTC > /etc/timezone",
        &["zone is"],
    )),
    fault(
        "the log cannot be written",
        "mount -t tmpfs -o ro none /var/log",
        "! touch /var/log/x 2>/dev/null",
        "umount /var/log",
        &["nothing can be logged"],
    ),
];

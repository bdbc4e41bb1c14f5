//! The table of faults that an idle standby can carry unseen.

/// One fault: how it comes about, how to see that it is there, and how it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// What happened.
    pub(super) name: &'static str,
    /// Brings it about on the secondary.
    pub(super) inject: &'static str,
    /// Succeeds while it is there, whatever ATLAS says.
    pub(super) is_there: &'static str,
    /// Takes it away.
    pub(super) undo: &'static str,
    /// Words one of which the report must have, so that it names the fault and not only that something is wrong.
    pub(super) names: &'static [&'static str],
    /// Whether two nodes of Pacemaker, with resource agents that monitor the active node, would have told of it: they watch the standby's
    /// membership of the cluster, and nothing of its services.
    pub(super) pacemaker: bool,
}

const fn fault(
    name: &'static str,
    inject: &'static str,
    is_there: &'static str,
    undo: &'static str,
    names: &'static [&'static str],
) -> Fault {
    Fault { name, inject, is_there, undo, names, pacemaker: false }
}

/// All of them.
pub(super) const FAULTS: &[Fault] = &[
    fault(
        "web server stopped",
        "systemctl stop nginx",
        "! systemctl is-active -q nginx",
        "systemctl start nginx",
        &["nginx", "refused"],
    ),
    fault(
        "web server hangs",
        "pkill -STOP nginx",
        "ps -o stat= -C nginx | grep -q T",
        "pkill -CONT nginx",
        &["nginx", "no answer", "within", "timed out"],
    ),
    fault(
        "web server disabled at boot",
        "systemctl disable nginx",
        "! systemctl is-enabled -q nginx",
        "systemctl enable nginx",
        &["nginx"],
    ),
    fault(
        "web server masked",
        "systemctl disable nginx; ln -sf /dev/null /etc/systemd/system/nginx.service; systemctl daemon-reload",
        "test \"$(systemctl is-enabled nginx)\" = masked",
        "rm /etc/systemd/system/nginx.service; systemctl daemon-reload; systemctl enable nginx; systemctl start nginx",
        &["nginx"],
    ),
    fault(
        "web server listens on the wrong address",
        "sed -i.atlas 's/listen 80[^;]*/listen 127.0.0.1:80/; /listen \\[::\\]:80/d' /etc/nginx/conf.d/unbound.conf; systemctl restart nginx",
        "ss -Hltn 'sport = :80' | grep -q 127.0.0.1",
        "mv /etc/nginx/conf.d/unbound.conf.atlas /etc/nginx/conf.d/unbound.conf; systemctl restart nginx",
        &["refused", "listen"],
    ),
    fault(
        "web configuration broken, not yet loaded",
        "echo 'nonsense;' > /etc/nginx/conf.d/zz.conf",
        "! nginx -t 2>/dev/null",
        "rm /etc/nginx/conf.d/zz.conf",
        &["nginx", "configuration"],
    ),
    fault(
        "web page's directory gone",
        "mv /unbound/www /unbound/gone",
        "test -d /unbound/gone",
        "mv /unbound/gone /unbound/www",
        &["404", "page", "not there", "missing"],
    ),
    fault(
        "web page's directory unreadable",
        "chmod 700 /unbound/www",
        "! su -s /bin/sh www-data -c 'ls /unbound/www'",
        "chmod 755 /unbound/www",
        &["403", "page", "permission"],
    ),
    fault(
        "test page changed",
        "echo other > /unbound/www/$(cd /unbound/www; ls -a | grep atlas-verify | head -1)",
        "grep -rq other /unbound/www --include='*atlas-verify*'",
        "cp /root/test-page /unbound/www/$(cd /unbound/www; ls -a | grep atlas-verify | head -1)",
        &["content", "page", "other"],
    ),
    fault(
        "sshd stopped",
        "systemctl stop ssh",
        "! systemctl is-active -q ssh",
        "systemctl start ssh",
        &["ssh", "port 22"],
    ),
    fault(
        "sshd disabled at boot",
        "systemctl disable ssh",
        "! systemctl is-enabled -q ssh",
        "systemctl enable ssh",
        &["ssh"],
    ),
    fault(
        "ssh host key gone",
        "mv /etc/ssh/ssh_host_ed25519_key /root/",
        "! test -e /etc/ssh/ssh_host_ed25519_key",
        "mv /root/ssh_host_ed25519_key /etc/ssh/",
        &["key", "sshd", "ssh"],
    ),
    fault(
        "firewall drops the web port",
        "nft add table inet t && nft 'add chain inet t in { type filter hook input priority 0; }' && nft add rule inet t in tcp dport 80 drop",
        "nft list ruleset | grep -q 'dport 80 drop'",
        "nft delete table inet t",
        &["port 80", "timed out", "within", "firewall", "no answer"],
    ),
    fault(
        "firewall drops everything from PRI",
        "nft add table inet t && nft 'add chain inet t in { type filter hook input priority 0; }' && nft add rule inet t in ip saddr 192.168.77.1 drop",
        "nft list ruleset | grep -q 'saddr 192.168.77.1 drop'",
        "nft delete table inet t",
        &["answer", "reach", "echo"],
    ),
    Fault {
        pacemaker: true,
        ..fault(
            "network cable out",
            "ip link set eth0 down",
            "ip link show eth0 | grep -q 'state DOWN'",
            "ip link set eth0 up; systemctl restart systemd-networkd",
            &["answer", "reach", "echo"],
        )
    },
    fault(
        "small packets only",
        "ip link set eth0 mtu 600",
        "ip link show eth0 | grep -q 'mtu 600'",
        "ip link set eth0 mtu 1500",
        &["fragment", "large", "mtu"],
    ),
    fault(
        "NFS server stopped",
        "systemctl stop nfs-server",
        "! systemctl is-active -q nfs-server",
        "systemctl start nfs-server",
        &["nfs"],
    ),
    fault(
        "NFS no longer exports",
        "exportfs -ua",
        "test -z \"$(exportfs)\"",
        "exportfs -ra",
        &["export", "mount", "nfs"],
    ),
    fault(
        "NFS exports disabled at boot",
        "systemctl disable nfs-server",
        "! systemctl is-enabled -q nfs-server",
        "systemctl enable nfs-server",
        &["nfs"],
    ),
    fault(
        "exported directory gone",
        "mv /unbound/share /unbound/lost",
        "test -d /unbound/lost",
        "mv /unbound/lost /unbound/share; exportfs -ra",
        &["export", "share", "mount", "stale", "nfs"],
    ),
    fault(
        "root file system full",
        "fallocate -l $(( $(df --output=avail -B1 / | tail -1) )) /big || true; dd if=/dev/zero of=/big2 bs=64k 2>/dev/null || true",
        "test $(df --output=avail -B1 / | tail -1) -lt 1000000",
        "rm -f /big /big2",
        &["full", "free", "space"],
    ),
    fault(
        "client data's file system full",
        "dd if=/dev/zero of=/unbound/big bs=64k 2>/dev/null || true",
        "test $(df --output=avail -B1 /unbound | tail -1) -lt 1000000",
        "rm -f /unbound/big",
        &["full", "free", "space"],
    ),
    fault(
        "no inodes left",
        "mkdir /unbound/many && cd /unbound/many && seq 1 40000 | xargs touch 2>/dev/null || true",
        "test $(df --output=iavail /unbound | tail -1) -lt 100",
        "rm -rf /unbound/many",
        &["inode"],
    ),
    fault(
        "file system turned read-only",
        "mount -o remount,ro /unbound",
        "! touch /unbound/x 2>/dev/null",
        "mount -o remount,rw /unbound",
        &["read-only"],
    ),
    fault(
        "a disk of the mirror failed",
        "mdadm /dev/md/*atlas-unbound* --fail /dev/vdc",
        "grep -q '\\[2/1\\]' /proc/mdstat",
        "mdadm /dev/md/*atlas-unbound* --remove /dev/vdc; mdadm /dev/md/*atlas-unbound* --add /dev/vdc; for i in $(seq 60); do grep -q '\\[2/2\\]' /proc/mdstat && break; sleep 1; done",
        &["1 of 2", "degraded", "mirror"],
    ),
    fault(
        "initramfs without the hook",
        "cp -a /boot /root/boot.atlas; for i in /boot/initrd.img-*; do echo . | cpio -o -H newc 2>/dev/null | gzip > $i; done",
        "! lsinitramfs /boot/initrd.img-* | grep -q atlas-boot",
        "cp -a /root/boot.atlas/. /boot/; rm -rf /root/boot.atlas",
        &["initramfs"],
    ),
    fault(
        "a kernel without an initramfs",
        "cp /boot/vmlinuz-* /boot/vmlinuz-9.9.9-test",
        "test -e /boot/vmlinuz-9.9.9-test",
        "rm /boot/vmlinuz-9.9.9-test",
        &["9.9.9", "initramfs", "kernel"],
    ),
    fault(
        "kernel modules gone",
        "mv /lib/modules /lib/modules.gone",
        "! test -e /lib/modules",
        "mv /lib/modules.gone /lib/modules",
        &["module", "kernel"],
    ),
    fault(
        "default boot target changed",
        "systemctl set-default rescue.target",
        "test $(systemctl get-default) = rescue.target",
        "systemctl set-default graphical.target",
        &["rescue", "target"],
    ),
    fault(
        "another EnvID",
        "cp /opt/atlas/EnvID /root/ && echo 7 > /opt/atlas/EnvID",
        "grep -q 7 /opt/atlas/EnvID",
        "cp /root/EnvID /opt/atlas/EnvID",
        &["EnvID", "environment"],
    ),
    fault(
        "another Role in MasterConfig",
        "cp /unbound/SID_DATA/MasterConfig /root/ && sed -i 's/\"SEC1\"/\"SEC2\"/' /unbound/SID_DATA/MasterConfig",
        "grep -q SEC2 /unbound/SID_DATA/MasterConfig",
        "cp /root/MasterConfig /unbound/SID_DATA/MasterConfig",
        &["MasterConfig", "role", "SEC2"],
    ),
    fault(
        "PRI's key revoked",
        "mv /root/.ssh/authorized_keys /root/ak 2>/dev/null; mv /etc/atlas/authorized_keys /root/ak2 2>/dev/null; true",
        "test -e /root/ak || test -e /root/ak2",
        "mv /root/ak /root/.ssh/authorized_keys 2>/dev/null; mv /root/ak2 /etc/atlas/authorized_keys 2>/dev/null; true",
        &["key"],
    ),
    fault(
        "an ATLAS program gone",
        "mv /opt/atlas/bin/ssSync /root/ssSync.link",
        "! test -e /opt/atlas/bin/ssSync",
        "mv /root/ssSync.link /opt/atlas/bin/ssSync",
        &["ssSync", "program"],
    ),
    fault(
        "network not held for the identity",
        "mv /usr/lib/systemd/system/systemd-networkd.service.d/50-atlas.conf /root/",
        "! test -e /usr/lib/systemd/system/systemd-networkd.service.d/50-atlas.conf",
        "mv /root/50-atlas.conf /usr/lib/systemd/system/systemd-networkd.service.d/",
        &["networkd", "network"],
    ),
    fault(
        "Verifier stopped",
        "systemctl stop VerifierControl",
        "! systemctl is-active -q VerifierControl",
        "systemctl start VerifierControl",
        &["Verifier"],
    ),
    fault(
        "Verifier stuck",
        "pkill -STOP -x VerifierControl",
        "ps -o stat= -C VerifierControl | grep -q T",
        "pkill -CONT -x VerifierControl",
        &["Verifier"],
    ),
    fault(
        "Verifiers' secret differs",
        "cp -a /etc/atlas/verifier/secret /root/ && head -c 32 /dev/urandom | sha256sum > /etc/atlas/verifier/secret",
        "! cmp -s /root/secret /etc/atlas/verifier/secret",
        "cp -a /root/secret /etc/atlas/verifier/secret",
        &["secret"],
    ),
    fault(
        "a package removed",
        "tar -cf /root/acl.tar $(dpkg -L acl | xargs -I{} sh -c 'test -d {} || echo {}') /var/lib/dpkg 2>/dev/null; dpkg --remove --force-depends acl",
        "! dpkg -s acl 2>/dev/null | grep -q 'ok installed'",
        "tar -C / -xf /root/acl.tar",
        &["acl"],
    ),
    fault(
        "a package of another version",
        "cp -a /var/lib/dpkg/status /root/status && sed -i '/^Package: nginx-light$/,/^$/s/^Version: .*/Version: 0.1-1/' /var/lib/dpkg/status",
        "dpkg -s nginx-light | grep -q 'Version: 0.1-1'",
        "cp -a /root/status /var/lib/dpkg/status",
        &["nginx-light", "0.1-1"],
    ),
    fault(
        "a unit failed",
        "systemd-run --unit=failing /bin/false; sleep 1",
        "systemctl is-failed -q failing",
        "systemctl reset-failed failing",
        &["failing"],
    ),
    fault(
        "memory eaten up",
        "systemd-run --unit=eater sh -c 'head -c $(( $(grep MemAvailable /proc/meminfo | tr -dc 0-9) * 1000 )) /dev/zero | tail | sleep 600'; sleep 20",
        "test $(( $(grep MemAvailable /proc/meminfo | tr -dc 0-9) * 8 )) -lt $(grep MemTotal /proc/meminfo | tr -dc 0-9)",
        "systemctl stop eater",
        &["memory"],
    ),
    fault(
        "clock two hours ahead",
        "date -s '+2 hours'",
        "test $(date +%s) -gt $(( $(stat -c %Y /run/atlas/boot.json) + 7200 ))",
        "date -s '-2 hours'",
        &["clock", "time"],
    ),
    fault(
        "another time zone",
        "cp -a /etc/localtime /root/localtime 2>/dev/null; ln -sf /usr/share/zoneinfo/Asia/Tokyo /etc/localtime; echo Asia/Tokyo > /etc/timezone",
        "test \"$(readlink /etc/localtime)\" = /usr/share/zoneinfo/Asia/Tokyo",
        "rm /etc/localtime; cp -a /root/localtime /etc/localtime 2>/dev/null; echo Etc/UTC > /etc/timezone",
        &["zone"],
    ),
    fault(
        "the log cannot be written",
        "mount -t tmpfs -o ro none /var/log",
        "! touch /var/log/x 2>/dev/null",
        "umount /var/log",
        &["log"],
    ),
];

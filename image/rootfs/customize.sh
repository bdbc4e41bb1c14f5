# Runs inside the new root file system, as its root, once all packages are there.
set -eu

echo 'root:atlas' | chpasswd
echo atlas-server > /etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 atlas-server\n' > /etc/hosts
rm -f /etc/nginx/sites-enabled/default
# What is in it now is whom this machine asks. There is no name server where the servers live.
: > /etc/resolv.conf

# Left out until now, because the package's script would have applied it to the machine that this is made on.
cores=usr/lib/sysctl.d/50-coredump.conf
dpkg --fsys-tarfile /var/cache/apt/archives/systemd-coredump_*.deb | tar -x -C / "./$cores"
grep -q kernel.core_pattern "/$cores"

systemctl enable systemd-networkd.service ssh.service nginx.service serial-getty@ttyS0.service qemu-guest-agent.service

# What a server in a test never needs and each boot would pay for: nobody looks at its screen, it is not on the
# internet, it has one LAN without DHCP, and it lives for minutes. Not every release has each of them. NFS is started by
# the test that needs it.
for unit in getty@tty1.service e2scrub_reap.service e2scrub_all.timer \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
    systemd-networkd-wait-online.service systemd-pstore.service \
    nfs-server.service nfs-client.target nfs-blkmap.service rpcbind.service rpcbind.socket; do
    systemctl disable "$unit" || echo "this release has no $unit"
    [ -z "$(find /etc/systemd/system -name "$unit")" ] || { echo "$unit is still enabled"; exit 1; }
done
systemctl mask getty-static.service
# The same of what systemd brings along and cannot be disabled: file systems for those who debug a kernel, modules that are loaded in case
# somebody wants them, book-keeping. They are a fifth of an emulated boot.
for unit in sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount dev-hugepages.mount dev-mqueue.mount \
    sys-fs-fuse-connections.mount modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service \
    modprobe@fuse.service modprobe@loop.service modprobe@dm_mod.service \
    proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
    systemd-network-generator.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-sysext.service systemd-boot-system-token.service \
    logrotate.timer man-db.timer systemd-tmpfiles-clean.timer; do
    systemctl mask "$unit"
done
# Programs that systemd runs before anything else, to make units out of what such a server does not have: 3 s of an emulated boot.
mkdir -p /etc/systemd/system-generators
for generator in systemd-bless-boot-generator systemd-cryptsetup-generator systemd-debug-generator systemd-getty-generator \
    systemd-gpt-auto-generator systemd-hibernate-resume-generator systemd-integritysetup-generator systemd-rc-local-generator \
    systemd-run-generator systemd-system-update-generator systemd-veritysetup-generator; do
    ln -s /dev/null "/etc/systemd/system-generators/$generator"
done

# Runs inside the new root file system, after the one that all have. Each configurer has one card: eth0 ifupdown or ifupdown2, eth1
# systemd-networkd, eth2 NetworkManager, eth3 dhcpcd, eth4 connman, eth5 netplan, eth6 cloud-init, eth7 dropbear in early boot.
set -eu

# These are the packages' own files, which they do not take from anybody else.
printf '[General]\nNetworkInterfaceBlacklist=eth0,eth1,eth2,eth3,eth5,eth6,eth7,eth8,eth9,veth,br,mac\nPreferredTechnologies=ethernet\n' \
    > /etc/connman/main.conf
grep -q eth3 /etc/dhcpcd.conf || echo 'allowinterfaces eth3' >> /etc/dhcpcd.conf
systemctl enable NetworkManager.service dhcpcd.service connman.service networking.service
systemctl enable cloud-init-local.service cloud-init.service || systemctl enable cloud-init-local.service cloud-init-main.service cloud-init-network.service
# Nobody waits here for a network that comes later, or never; nobody asks for names.
for unit in NetworkManager-wait-online.service systemd-networkd-wait-online.service ifupdown-wait-online.service connman-wait-online.service \
    cloud-config.service cloud-final.service wpa_supplicant.service ModemManager.service; do
    systemctl disable "$unit" 2>/dev/null || true
    systemctl mask "$unit"
done
# Not the generators of all servers, and not one that hides the services of the cloud because this is none.
ls /usr/lib/systemd/system-generators /lib/systemd/system-generators | grep -q netplan

# Removes the condition and the order that ATLAS gives these services: what is left is the lock.
mkdir -p /usr/local/sbin
cat > /usr/local/sbin/without-conditions <<'SCRIPT'
#!/bin/sh
set -eu
for unit in systemd-networkd.service systemd-networkd.socket NetworkManager.service networking.service ifup@.service dhcpcd.service \
    connman.service cloud-init-local.service cloud-init-main.service cloud-init-network.service cloud-init.service; do
    mkdir -p "/etc/systemd/system/$unit.d"
    : > "/etc/systemd/system/$unit.d/50-atlas.conf"
done
SCRIPT
chmod 755 /usr/local/sbin/without-conditions

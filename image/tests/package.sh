# After unpack.sh, with the package as the only argument: what installing and removing it does to a Debian system.
before=$(find "$root" -xdev -name '*atlas*')
[ -z "$before" ] || { echo "the plain root file system already has $before"; exit 1; }
cp "$1" "$root/tmp/a.deb"

chroot "$root" dpkg --install --force-unsafe-io /tmp/a.deb
rm "$root/tmp/a.deb"
echo "== installed"
chroot "$root" sh -c 'lsinitramfs /boot/initrd.img-*' | grep atlas
chroot "$root" atlas-boot --version

chroot "$root" dpkg --purge --force-unsafe-io atlas
echo "== removed"
chroot "$root" sh -c 'lsinitramfs /boot/initrd.img-*' | grep atlas || echo "initramfs: none"
chroot "$root" dpkg --listfiles atlas 2>/dev/null || echo "dpkg: none"
find "$root" -xdev \( -name '*atlas*' -o -name unbound \) | grep . || echo "files: none"

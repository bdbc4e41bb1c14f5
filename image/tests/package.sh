# After unpack.sh, with the package as the only argument: what installing and removing it does to a Debian system.
before=$(find "$root" -xdev -name '*atlas*')
[ -z "$before" ] || { echo "the plain root file system already has $before"; exit 1; }
cp "$1" "$root/tmp/a.deb"

chroot "$root" dpkg --install --force-unsafe-io /tmp/a.deb
echo "== installed"
chroot "$root" sh -c 'lsinitramfs /boot/initrd.img-*' | grep atlas
chroot "$root" atlas-boot --version

chroot "$root" ssSync --version
echo "== kernel"
# As when a kernel is installed: its package has an initramfs made that was not there.
rm "$root"/boot/initrd.img-*
chroot "$root" dpkg-reconfigure "linux-image-$(ls "$root/lib/modules")"
chroot "$root" sh -c 'lsinitramfs /boot/initrd.img-*' | grep atlas
echo "== operator"
# The next version of the package: the same, with other bundles. First nobody has chosen, then the operator has.
repack() {
    rm -rf "$root/tmp/next" && mkdir -p "$root/tmp/next" "$root/tmp/module"
    dpkg-deb -R "$root/tmp/a.deb" "$root/tmp/next"
    sed -i "s/^Version: .*/Version: $1/" "$root/tmp/next/DEBIAN/control"
    rm "$root"/tmp/next/usr/lib/atlas/bundles/*
    printf '#!/bin/sh\necho ssSync %s\n' "$1" > "$root/tmp/module/ssSync" && chmod 755 "$root/tmp/module/ssSync"
    chroot "$root" atlas-module pack /tmp/module /tmp/next/usr/lib/atlas/bundles/ssSync.tar.zst --name ssSync --version "v$1"
    dpkg-deb --root-owner-group -b "$root/tmp/next" "$root/tmp/next.deb"
    chroot "$root" dpkg --install --force-unsafe-io /tmp/next.deb
}
repack 90.1
echo "upgraded: $(chroot "$root" ssSync)"
first=$(chroot "$root" atlas-module list --json ssSync | grep -o 'v0[.0-9]*' | head -n 1)
chroot "$root" atlas-module set ssSync "$first"
repack 90.2
chroot "$root" ssSync --version | grep -v 90 && echo "kept: what the operator set"
chroot "$root" atlas-module list ssSync
chroot "$root" atlas-module verify && echo "verified: all versions"
rm -r "$root"/tmp/next "$root"/tmp/next.deb "$root"/tmp/module "$root"/tmp/a.deb

# Not from a machine that wears the identity of a role.
printf 'format = 1\nworn = "role"\n\n[role]\nrole = "PRI"\ncluster = "bakery"\npaths = []\n' > "$root/opt/atlas/Identity"
chroot "$root" dpkg --purge --force-unsafe-io atlas 2>&1 || echo "refused: $?"
chroot "$root" atlas-boot --version > /dev/null && echo "still there: atlas-boot"
rm "$root/opt/atlas/Identity"
chroot "$root" dpkg --purge --force-unsafe-io atlas
echo "== removed"
chroot "$root" sh -c 'lsinitramfs /boot/initrd.img-*' | grep atlas || echo "initramfs: none"
chroot "$root" dpkg --listfiles atlas 2>/dev/null || echo "dpkg: none"
find "$root" -xdev \( -name '*atlas*' -o -name unbound \) | grep . || echo "files: none"

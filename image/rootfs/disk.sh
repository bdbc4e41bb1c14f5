# After unpack.sh, with arguments OUT SIZE LABEL [PACKAGE]: installs the package, as a user would, and writes into OUT
# the disk, and the kernel and the initramfs that are on it.
out=$1 size=$2 label=$3 package=${4:-}

if [ -n "$package" ]; then
    cp "$package" "$root/tmp/atlas.deb"
    chroot "$root" dpkg --install --force-unsafe-io /tmp/atlas.deb
    rm "$root/tmp/atlas.deb"
fi

# With all that is mounted below them, which a user namespace may not take down one by one.
umount --lazy "$root/dev" "$root/sys" "$root/proc"

# Whoever runs QEMU reads them; Debian leaves the initramfs to root.
install -m 0644 "$root"/boot/vmlinuz-* "$out/kernel"
install -m 0644 "$root"/boot/initrd.img-* "$out/initrd"
# Debian 11 may have a /lib of its own.
basename "$root"/lib/modules/* > "$out/kernel-release"
mke2fs -q -t ext4 -L "$label" -d "$root" "$out/root.img" "$size"

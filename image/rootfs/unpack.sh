# Unpacks a root file system into memory and makes it one to chroot into, as $root. Runs in namespaces of its own, so
# that nothing has to be cleaned up however it ends: the memory and the mounts go with the last process.
# Called as: sh -eu unpack.sh ROOTFS_TAR SCRIPT [ARGUMENT...]; SCRIPT then goes on with $root and its arguments.
mount --make-rprivate /
rootfs_tar=$(realpath "$1")
script=$(realpath "$2")
shift 2
# /tmp would hide what was handed over from there: the mount goes where nothing that is needed lies.
root=/mnt
mount -t tmpfs -o mode=755,size=3G atlas-root "$root"
tar --xattrs --xattrs-include='*' --acls --numeric-owner --exclude='./dev/*' -xf "$rootfs_tar" -C "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
. "$script"

//! Commands for a person at the console, fit to be pasted.
//!
//! `mdadm --add` alone takes back a disk that md knows, and copies only what a bitmap says has changed since: what that disk was written
//! by itself stays on it, and the mirror is none. So what md remembers is always removed first.

use crate::UNBOUND_ARRAY;

/// What the times of last writes are worth.
pub(super) const BY_TIMES: &str = "the times above say which was written last, by the clocks of the servers that wrote; where one may have been wrong, look into each";

/// Fills each disk, which was in a set before, as a full copy.
pub(super) fn add_anew(disks: &[&str]) -> String {
    let commands =
        disks.iter().map(|disk| format!("mdadm --zero-superblock {disk} && mdadm {UNBOUND_ARRAY} --add {disk}"));
    commands.collect::<Vec<_>>().join("; ")
}

/// Puts any disk in the place of one that is missing.
pub(super) fn replace() -> String {
    format!("mdadm {UNBOUND_ARRAY} --add DISK; where the disk was in a set before, mdadm --zero-superblock DISK first")
}

/// Shows what each member holds. Nothing can be written: md starts it read-only, and ext4 leaves its journal alone.
pub(super) fn look_into(members: &[&str]) -> String {
    let Some(first) = members.first() else { return String::new() };
    let others = match &members[1..] {
        [] => String::new(),
        others => format!("; then the same with {}", others.join(" and ")),
    };
    format!(
        "to look into a member without writing to it: mdadm --assemble --readonly --run --config=none /dev/md/look {first} && \
         mount -o ro,noload /dev/md/look /mnt; when you have seen it: umount /mnt; mdadm --stop /dev/md/look{others}"
    )
}

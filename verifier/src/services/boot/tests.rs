use super::*;
use crate::here::testing::Server;
use atlas_model::verify::Verdict;

const HOOK: &str = "usr/share/initramfs-tools/hooks/atlas";

fn server() -> Server {
    let server = Server::with(&[
        ("boot/vmlinuz-6.1", ""),
        (
            "lib/modules/6.1/modules.dep",
            "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz\nkernel/drivers/md/raid1.ko:\n",
        ),
        ("lib/modules/6.1/modules.builtin", "kernel/fs/fuse/fuse.ko\n"),
        ("lib/modules/6.1/kernel/fs/ext4/ext4.ko.xz", ""),
        ("lib/modules/6.1/kernel/drivers/md/raid1.ko", ""),
        ("proc/mdstat", "md127 : active raid1 vdb[0] vdc[1]\n"),
        ("proc/self/x", ""),
        ("proc/sys/net/ipv4/ip_forward", "1\n"),
        ("proc/sys/vm/swappiness", "60\n"),
        ("etc/sysctl.d/forward.conf", "# why\nnet.ipv4.ip_forward = 1\n-net.none = 3\n"),
        ("usr/lib/sysctl.d/10-package.conf", "vm.swappiness = 10\n"),
        ("etc/mdadm/mdadm.conf", "# x\nHOMEHOST <system>\nMAILADDR root\nARRAY <ignore> UUID=1:2:3:4\n  name=x\n"),
        (
            "etc/fstab",
            "UUID=ab-cd / ext4 errors=remount-ro 0 1\nproc /proc proc defaults\n/dev/sr0 /media/cd iso9660 noauto 0 0\n",
        ),
        ("dev/disk/by-uuid/ab-cd", ""),
        ("var/lib/dpkg/info/atlas.list", &format!("/.\n/{HOOK}\n/usr/bin/atlas\n")),
        ("var/lib/dpkg/info/atlas.md5sums", &format!("aaaa  {HOOK}\n")),
    ]);
    server.program(HOOK, "exit 0");
    server.program(
        "usr/bin/md5sum",
        "shift\nfor f; do [ -e \"$f.changed\" ] && echo \"bbbb  $f\" || echo \"aaaa  $f\"; done",
    );
    for dir in SHARED {
        std::fs::create_dir_all(server.root().join(dir)).unwrap();
        server.mode(dir, 0o1777);
    }
    OPEN.iter().filter(|dir| here::is_there(server.root(), dir)).for_each(|dir| server.mode(dir, 0o755));
    server
}

#[test]
fn a_server_that_would_boot_is_well() {
    assert!(server().is_well(&SERVICE).summary.contains("1 of the kernel's settings"));
    Server::new().is_well(&SERVICE);
}

#[test]
fn each_link_of_the_chain_that_is_broken_is_told() {
    type Change = fn(&Server);
    let cases: [(Change, Verdict, &str); 13] = [
        (
            |s| s.remove("lib/modules/6.1/kernel/drivers/md/raid1.ko"),
            Verdict::Unacceptable,
            "raid1.ko is not there: the next initramfs would lack raid1",
        ),
        (
            |s| s.write("lib/modules/6.1/modules.dep", "kernel/drivers/md/raid1.ko:\n"),
            Verdict::Unacceptable,
            "the kernel 6.1 has no module ext4",
        ),
        (
            |s| s.write("etc/modprobe.d/x.conf", "install raid1 /bin/false\n"),
            Verdict::Unacceptable,
            "/etc/modprobe.d/x.conf keeps raid1 from being loaded",
        ),
        (
            |s| s.write("etc/modprobe.d/x.conf", "blacklist ext4\n"),
            Verdict::Unacceptable,
            "keeps ext4 from being loaded",
        ),
        (|s| s.remove(HOOK), Verdict::Unacceptable, "/usr/share/initramfs-tools/hooks/atlas is not there"),
        (|s| s.mode(HOOK, 0o644), Verdict::Unacceptable, "hooks/atlas is not executable"),
        (
            |s| s.write(&format!("{HOOK}.changed"), ""),
            Verdict::Unacceptable,
            "hooks/atlas is not as the package has it",
        ),
        (
            |s| s.write("etc/mdadm/mdadm.conf", "ARRY /dev/md0\n"),
            Verdict::Slow,
            "/etc/mdadm/mdadm.conf: line 1 begins with 'arry'",
        ),
        (
            |s| s.write("etc/fstab", "UUID=ff-ff /srv ext4 defaults 0 2\n"),
            Verdict::Unacceptable,
            "UUID=ff-ff, to be mounted at /srv, is not there",
        ),
        (
            |s| s.write("etc/fstab", "/dev/vdz1 /srv ext4 defaults 0 2\n"),
            Verdict::Unacceptable,
            "/dev/vdz1, to be mounted at /srv, is not there",
        ),
        (
            |s| s.write("etc/fstab", "UUID=ff-ff none swap sw 0 0\n"),
            Verdict::Slow,
            "UUID=ff-ff, for swap, is not there: the next boot would wait 90 s and go on without",
        ),
        (|s| s.mode("tmp", 0o755), Verdict::Unacceptable, "/tmp has mode 0755 instead of 1777"),
        (
            |s| s.write("proc/sys/net/ipv4/ip_forward", "0\n"),
            Verdict::Slow,
            "net.ipv4.ip_forward is 0, and /etc/sysctl.d/forward.conf says 1",
        ),
    ];
    for (change, verdict, told) in cases {
        let server = server();
        change(&server);
        server.says(&SERVICE, verdict, &[told]);
    }
}

#[test]
fn what_a_line_of_fstab_lacks_weighs_as_it_does_at_the_boot() {
    for (line, verdict) in [
        ("UUID=ff-ff /srv ext4 x-systemd.automount 0 0\n", Verdict::Slow),
        ("UUID=ff-ff /srv ext4 defaults,_netdev 0 0\n", Verdict::Slow),
        ("/srv/no.img /mnt ext4 loop 0 0\n", Verdict::Unacceptable),
        ("/srv/no /mnt none bind 0 0\n", Verdict::Unacceptable),
    ] {
        let server = server();
        server.write("etc/fstab", line);
        server.says(&SERVICE, verdict, &["/etc/fstab: ", "is not there"]);
    }
    let server = server();
    server.write("srv/data/x", "");
    server.write("etc/fstab", "/srv/data /mnt none bind 0 0\n/unbound/www /var/www none rbind 0 0\n");
    server.is_well(&SERVICE);
}

#[test]
fn what_need_not_be_there_is_no_fault() {
    let server = server();
    server.write(
        "etc/fstab",
        "UUID=ff-ff /srv ext4 nofail 0 2\nLABEL=a\\x20b /x ext4 defaults 0 0\nnas:/x /nas nfs defaults 0 0\n",
    );
    server.is_well(&SERVICE);
    server.write("proc/mdstat", "unused devices: <none>\n");
    server.remove("lib/modules/6.1/kernel/drivers/md/raid1.ko");
    server.is_well(&SERVICE);
    server.write("lib/modules/6.1/modules.builtin", "kernel/fs/ext4/ext4.ko\n");
    server.remove("lib/modules/6.1/kernel/fs/ext4/ext4.ko.xz");
    server.is_well(&SERVICE);
    server.mode("etc", 0o700);
    server.says(&SERVICE, Verdict::Unacceptable, &["/etc has mode 0700: programs that are not root's find nothing"]);
    server.mode("etc", 0o777);
    server.says(&SERVICE, Verdict::Unacceptable, &["/etc has mode 0777: everybody may change"]);
}

#[test]
fn the_last_word_of_the_settings_counts_and_of_two_files_the_nearer_one() {
    let server = server();
    server.write("etc/sysctl.d/zz-more.conf", "net/ipv4/ip_forward = 0\n");
    server.says(&SERVICE, Verdict::Slow, &["ip_forward is 1, and /etc/sysctl.d/zz-more.conf says 0"]);
    server.write("usr/lib/sysctl.d/zz-more.conf", "net.ipv4.ip_forward = 5\n");
    server.write("etc/sysctl.d/zz-more.conf", "");
    server.is_well(&SERVICE);
}

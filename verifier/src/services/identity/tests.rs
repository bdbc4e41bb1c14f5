use super::*;
use crate::here::testing::Server;
use atlas_model::{EnvVersion, worn::Worn};
use atlas_sid::{SidData, create};

const ID: &str = "0123456789abcdef0123456789abcdef\n";
const NETWORK: &str = "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.2/24\n";

/// A secondary after a cycle, with PRI's Snapshot.
fn secondary() -> Server {
    let server = Server::new();
    server.member("SEC1");
    let days = here::now() / 86_400;
    for (path, content) in [
        ("opt/atlas/EnvID", "1\n"),
        ("unbound/SID_DATA/SEC1/Env1/IdentFilePaths", "/etc/hostname\n/etc/hosts\n/etc/systemd/network\n"),
        ("unbound/SID_DATA/PRI/SnapshotEnvVersion", "1\n"),
        ("unbound/SID_DATA/PRI/Env1/IdentFiles/etc/hostname", "pri\n"),
        ("unbound/SID_DATA/PRI/Env1/IdentFiles/etc/hosts", "127.0.0.1 localhost\n192.0.2.1 pri\n192.0.2.9 printer\n"),
        (
            "unbound/SID_DATA/PRI/Env1/IdentFiles/etc/systemd/network/lan.network",
            "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1/24\n",
        ),
        ("etc/hostname", "sec1\n"),
        ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 sec1\n192.0.2.1 pri\n"),
        ("etc/systemd/network/lan.network", NETWORK),
        ("proc/sys/kernel/hostname", "sec1\n"),
        ("proc/net/fib_trie", "Local:\n  |-- 127.0.0.1\n     /32 host LOCAL\n  |-- 192.0.2.2\n     /32 host LOCAL\n"),
        ("etc/machine-id", ID),
        ("run/log/journal/0123456789abcdef0123456789abcdef/x", ""),
        ("etc/shadow", &format!("root:$y$x:{days}:0:99999:7:::\n")),
    ] {
        server.write(path, content);
    }
    let sid = SidData::open(&Dir::open_root(server.root().join("unbound")).unwrap()).unwrap();
    let tree = Dir::open_root(server.root()).unwrap();
    create::create(&tree, &sid, Role::Sec(1), EnvVersion::OLDEST).unwrap();
    server
}

#[test]
fn a_secondary_that_is_who_it_was_is_well_and_pri_s_own_changes_are_meant() {
    secondary().is_well(&SERVICE);
    Server::new().is_well(&SERVICE);
    let pri = Server::new();
    pri.member("PRI");
    pri.is_well(&SERVICE);
}

#[test]
fn a_server_that_has_the_disks_of_a_role_and_not_yet_its_identity_is_told() {
    let server = secondary();
    server.write("opt/atlas/Identity", &Worn::OWN.to_file());
    server.is_well(&SERVICE);
    server.write("etc/hostname", "third\n");
    server.write("proc/sys/kernel/hostname", "third\n");
    let told =
        "this server has the disks of SEC1, and wears an identity of its own, and not that of the Snapshot of SEC1";
    server.says(&SERVICE, Verdict::Unacceptable, &[told]);
}

#[test]
fn each_part_of_the_identity_that_was_changed_is_told() {
    type Change = fn(&Server);
    let cases: [(Change, Verdict, &str); 9] = [
        (
            |s| s.write("etc/hosts", "127.0.0.1 localhost\n"),
            Verdict::Slow,
            "/etc/hosts of this server's identity was changed: its content",
        ),
        (|s| s.remove("etc/hostname"), Verdict::Slow, "/etc/hostname of this server's identity is gone"),
        (
            |s| s.write("etc/systemd/network/more.network", ""),
            Verdict::Slow,
            "/etc/systemd/network/more.network is new in this server's identity",
        ),
        (
            |s| s.write("proc/sys/kernel/hostname", "other\n"),
            Verdict::Slow,
            "this server calls itself other, and /etc/hostname sec1",
        ),
        (|s| s.write("etc/hostname", "pri\n"), Verdict::Slow, "this server is called pri, as PRI is"),
        (|s| s.write("etc/machine-id", &ID.replace('0', "1")), Verdict::Slow, "/etc/machine-id was changed"),
        (|s| s.write("etc/machine-id", ""), Verdict::Slow, "/etc/machine-id holds no id"),
        (
            |s| s.write("etc/hosts", "127.0.0.1 localhost\n192.0.2.7 printer\n"),
            Verdict::Slow,
            "/etc/hosts says that printer is 192.0.2.7, and PRI's that it is 192.0.2.9",
        ),
        (
            |s| s.write("etc/systemd/network/lan.network", &NETWORK.replace("192.0.2.2", "192.0.2.1")),
            Verdict::Unacceptable,
            "PRI's address 192.0.2.1 is configured here: the next boot would take it",
        ),
    ];
    for (change, verdict, told) in cases {
        let server = secondary();
        change(&server);
        server.says(&SERVICE, verdict, &[told]);
    }
}

#[test]
fn pri_s_address_in_use_on_a_secondary_is_told_though_no_file_has_it() {
    let server = secondary();
    let kernel = here::text(server.root(), "proc/net/fib_trie").unwrap();
    server.write("proc/net/fib_trie", &format!("{kernel}\n  |-- 192.0.2.1\n     /32 host LOCAL\n"));
    server.says(&SERVICE, Verdict::Unacceptable, &["PRI's address 192.0.2.1 is in use here, although nothing"]);
    // A route to it is no address.
    server.write("proc/net/fib_trie", &format!("{kernel}\n  |-- 192.0.2.1\n     /32 universe UNICAST\n"));
    server.is_well(&SERVICE);
}

#[test]
fn root_who_cannot_log_in_is_told_before_pri_fails_to() {
    let today = here::now() / 86_400;
    let with = |shadow: String| {
        let server = secondary();
        server.write("etc/shadow", &shadow);
        server
    };
    let cases = [
        (
            format!("root:$y$x:{}:0:90:7:::\n", today - 100),
            Verdict::Unacceptable,
            "root's password expired 10 days ago",
        ),
        (format!("root:$y$x:{}:0:90:7:::\n", today - 85), Verdict::Slow, "root's password expires in 5 days"),
        (format!("root:$y$x:{today}:0:99999:7::{}:\n", today - 3), Verdict::Unacceptable, "account expired 3 days ago"),
        ("root:$y$x:0:0:99999:7:::\n".into(), Verdict::Unacceptable, "has to be changed at the next login"),
        ("daemon:*:1::::::\n".into(), Verdict::Unacceptable, "root has no entry"),
    ];
    for (shadow, verdict, told) in cases {
        with(shadow).says(&SERVICE, verdict, &[told]);
    }
    with("root:*:19000:0:99999:7:::\n".into()).is_well(&SERVICE);
    with("root:*:::::::\n".into()).is_well(&SERVICE);
}

#[test]
fn a_network_of_pri_s_that_no_program_here_configures_is_told() {
    let server = secondary();
    let wants = |unit: &str| server.write(&format!("etc/systemd/system/multi-user.target.wants/{unit}"), "");
    wants("networking.service");
    let told = "PRI's identity configures the network by systemd-networkd, which no boot of this server starts";
    server.says(&SERVICE, Verdict::Unacceptable, &[told]);
    wants("systemd-networkd.service");
    server.is_well(&SERVICE);
    server.remove("etc/systemd/system/multi-user.target.wants/systemd-networkd.service");
    let interfaces = "auto lo\niface lo inet loopback\n";
    server.write("unbound/SID_DATA/PRI/Env1/IdentFiles/etc/network/interfaces", interfaces);
    server.says(&SERVICE, Verdict::Unacceptable, &[told]);
    // What another program has besides is perhaps left over.
    for stanza in ["static\n\taddress\t192.0.2.1/24", "dhcp"] {
        let interfaces = format!("{interfaces}auto eth0\niface eth0 inet {stanza}\n");
        server.write("unbound/SID_DATA/PRI/Env1/IdentFiles/etc/network/interfaces", &interfaces);
        server.is_well(&SERVICE);
    }
}

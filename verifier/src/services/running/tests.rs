use super::*;
use crate::here::testing::Server as Tree;
use atlas_model::verify::{Instance, Verdict};

const NGINX: &str = "Id=nginx.service\nNames=nginx.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n";
const NFS: &str = "Id=nfs-server.service\nNames=nfs-server.service nfs-kernel-server.service\nLoadState=loaded\nActiveState=active\nSubState=exited\nUnitFileState=enabled\n";
const APACHE_GONE: &str = "Id=apache2.service\nNames=apache2.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n";

fn services(names: &[&str]) -> String {
    let found = |port: &str| FoundService {
        instances: vec![Instance { options: BTreeMap::from([("port".into(), port.into())]), ..Instance::default() }],
        problems: vec![],
        notes: vec![],
    };
    let services = names.iter().map(|name| ((*name).to_owned(), found("80"))).collect();
    serde_json::to_string(&Services { format: 1, services }).unwrap()
}

fn systemctl(server: &Tree, units: &[&str]) {
    server.write("units", &units.join("\n"));
    server.program("usr/bin/systemctl", "cat \"${0%/usr/bin/systemctl}/units\"");
}

/// A server with nginx and NFS.
fn server() -> Tree {
    let server = Tree::new();
    server.write(SERVICES, &services(&["web", "nfs"]));
    server.write("run/systemd/system/x", "");
    server.write("etc/nginx/nginx.conf", "");
    server.write("etc/exports", "/srv 10.0.0.0/8(rw)\n");
    for directory in ["var/log/nginx/x", "var/lib/nginx/x", "var/lib/nfs/x"] {
        server.write(directory, "");
    }
    let own = std::fs::metadata(server.root()).unwrap().uid();
    server.write("etc/passwd", &format!("root:x:{own}:0::/root:/bin/sh\nmail:x:4711:8::/:/bin/sh\n"));
    server.program("usr/sbin/nginx", "");
    server.program("usr/sbin/rpc.nfsd", "");
    server.write("boot/vmlinuz-6.1", "");
    server.write("lib/modules/6.1/nfsd.ko", "");
    server.program(
        "usr/sbin/modprobe",
        "[ \"$4\" = nfsd ] && [ \"$2\" = 6.1 ] && echo 'builtin sunrpc' && echo \"insmod /lib/modules/6.1/nfsd.ko \"",
    );
    systemctl(&server, &[NGINX, NFS]);
    server
}

#[test]
fn services_that_run_and_will_run_are_well() {
    assert_eq!(server().is_well(&SERVICE).summary, "runs, now and after a boot: nginx, nfs-kernel-server");
    assert_eq!(Tree::new().is_well(&SERVICE).summary, "no services have been found yet");
    let other = server();
    other.write(SERVICES, &services(&["connectivity"]));
    other.is_well(&SERVICE);
}

#[test]
fn the_configuration_that_a_removed_program_left_is_no_fault() {
    let server = server();
    server.write("etc/apache2/apache2.conf", "");
    systemctl(&server, &[NGINX, NFS, APACHE_GONE]);
    server.is_well(&SERVICE);
    // Without nginx it is what should provide the service.
    server.remove("etc/nginx");
    server.says(&SERVICE, Verdict::Unacceptable, &["/usr/sbin/apache2 is not there", "package apache2"]);
}

#[test]
fn a_unit_that_does_not_run_or_would_not_start_is_told() {
    let cases = [
        (NGINX.replace("=active", "=failed"), "nginx.service does not run (failed, running)"),
        (NGINX.replace("=enabled", "=disabled"), "nginx.service would not start at the next boot: it is disabled"),
        (NGINX.replace("=enabled", "=masked"), "it is masked"),
        (NGINX.replace("=loaded", "=not-found"), "there is no unit nginx.service"),
    ];
    for (unit, words) in cases {
        let server = server();
        systemctl(&server, &[&unit, NFS]);
        server.says(&SERVICE, Verdict::Unacceptable, &[words]);
    }
    let server = server();
    server.program("usr/bin/systemctl", "echo 'Failed to connect to bus' >&2; exit 1");
    server.says(&SERVICE, Verdict::Unknown, &["Failed to connect to bus"]);
}

#[test]
fn a_configuration_that_would_not_load_again_is_told_although_the_service_runs() {
    let server = server();
    server.program(
        "usr/sbin/nginx",
        "[ \"$1\" = -t ] && echo 'unknown directive nonsense in conf.d/zz.conf:1' >&2 && exit 1",
    );
    let words = ["the configuration of nginx is broken", "nonsense in conf.d/zz.conf:1"];
    let profile = server.says(&SERVICE, Verdict::Unacceptable, &words);
    assert_eq!(profile.hint.as_deref(), Some("nginx -t -q; mend what it names"));
}

#[test]
fn one_unit_of_several_suffices() {
    let server = server();
    server.write(SERVICES, &services(&["ssh"]));
    server.write("etc/ssh/sshd_config", "");
    server.program("usr/sbin/sshd", "");
    let service = "Id=ssh.service\nNames=ssh.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nUnitFileState=disabled\n";
    let socket = "Id=ssh.socket\nNames=ssh.socket\nLoadState=loaded\nActiveState=active\nSubState=listening\nUnitFileState=enabled\n";
    systemctl(&server, &[service, socket]);
    server.is_well(&SERVICE);
    systemctl(&server, &[service]);
    server.says(&SERVICE, Verdict::Unacceptable, &["ssh.service does not run", "ssh.service would not start"]);
}

#[test]
fn a_cluster_of_postgresql_that_does_not_run_is_told_although_the_unit_over_all_of_them_does() {
    let server = server();
    let mut found: Services = serde_json::from_str(&services(&["postgresql"])).unwrap();
    found.services.get_mut("postgresql").unwrap().instances[0].name = "15/main".into();
    server.write(SERVICES, &serde_json::to_string(&found).unwrap());
    server.write("etc/postgresql/15/main/x", "");
    let own = std::fs::metadata(server.root()).unwrap().uid();
    server.write("etc/passwd", &format!("postgres:x:{own}:0::/:/bin/sh\n"));
    server.write("var/lib/postgresql/x", "");
    server.program("usr/bin/pg_ctlcluster", "");
    let unit = |name: &str, state: &str, file: &str| {
        format!("Id={name}\nNames={name}\nLoadState=loaded\nActiveState={state}\nSubState=x\nUnitFileState={file}\n")
    };
    let all = unit("postgresql.service", "active", "enabled");
    let own = |state, file| unit("postgresql@15-main.service", state, file);
    systemctl(&server, &[&all, &own("active", "enabled-runtime")]);
    server.is_well(&SERVICE);
    systemctl(&server, &[&all, &own("inactive", "enabled-runtime")]);
    server.says(&SERVICE, Verdict::Unacceptable, &["postgresql@15-main.service does not run"]);
    systemctl(&server, &[&all, &own("active", "disabled")]);
    server.says(&SERVICE, Verdict::Unacceptable, &["postgresql@15-main.service would not start at the next boot"]);
}

#[test]
fn programs_and_directories_that_are_gone_or_a_stranger_s_are_named() {
    let gone = server();
    gone.remove("usr/sbin/nginx");
    gone.says(&SERVICE, Verdict::Unacceptable, &["/usr/sbin/nginx is not there", "package nginx"]);
    let missing = server();
    missing.remove("var/lib/nfs");
    missing.says(&SERVICE, Verdict::Unacceptable, &["/var/lib/nfs, which nfs-kernel-server needs, is not there"]);
    let wrong = server();
    wrong.write("etc/passwd", "mail:x:4711:8::/:/bin/sh\n");
    let number = format!("account number {}", std::fs::metadata(wrong.root()).unwrap().uid());
    wrong.says(&SERVICE, Verdict::Unacceptable, &["/var/log/nginx", &number, "instead of root"]);
    let stranger = server();
    if std::os::unix::fs::chown(stranger.root().join("var/lib/nginx"), Some(4711), None).is_ok() {
        stranger.says(&SERVICE, Verdict::Unacceptable, &["/var/lib/nginx", "belongs to mail instead of root"]);
    }
}

#[test]
fn a_module_that_no_kernel_could_load_is_named() {
    let server = server();
    server.remove("lib/modules/6.1/nfsd.ko");
    server.says(&SERVICE, Verdict::Unacceptable, &["6.1 cannot load nfsd", "nfsd.ko is not there"]);
    server.program("usr/sbin/modprobe", "echo 'FATAL: Module nfsd not found' >&2; exit 1");
    server.says(&SERVICE, Verdict::Unacceptable, &["cannot load nfsd", "FATAL"]);
    server.remove("lib/modules/6.1");
    server.says(&SERVICE, Verdict::Unacceptable, &["6.1 has no modules"]);
    server.remove("boot/vmlinuz-6.1");
    server.is_well(&SERVICE);
}

#[test]
fn a_firewall_in_the_way_is_a_warning() {
    let server = server();
    let chain = r#"{"chain":{"table":"filter","name":"input","hook":"input","policy":"drop"}}"#;
    server.program("usr/sbin/nft", &format!("echo '{{\"nftables\":[{chain}]}}'"));
    server.says(&SERVICE, Verdict::Slow, &["keep clients of web out", "tcp port 80"]);
    server.program("usr/sbin/nft", "echo '{\"nftables\":[]}'");
    server.is_well(&SERVICE);
}

#[test]
fn what_listens_on_pri_s_address_need_not_run_on_a_secondary() {
    let server = server();
    let mut found: Services = serde_json::from_str(&services(&["web"])).unwrap();
    // An address that is set aside for documentation: no server has it.
    found.services.get_mut("web").unwrap().instances[0].options.insert(BOUND.into(), "192.0.2.10".into());
    server.write(SERVICES, &serde_json::to_string(&found).unwrap());
    systemctl(&server, &[&NGINX.replace("=active", "=failed")]);
    let verify = |role| (SERVICE.verify)(&Target { role, ..server.target() }).unwrap();
    let secondary = verify(Some(Role::Sec(1)));
    assert_eq!(secondary.verdict, Verdict::Ok, "{secondary:?}");
    assert!(
        secondary.summary.contains("PRI's addresses alone") && secondary.summary.contains("nginx"),
        "{secondary:?}"
    );
    assert_eq!(verify(Some(Role::Pri)).verdict, Verdict::Unacceptable);
}

/// A line of /proc/net/tcp for a listening socket.
fn listener(at: &str) -> String {
    format!(
        "   0: {at} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0 0 10 0\n"
    )
}

#[test]
fn a_service_that_listens_to_this_server_alone_is_told() {
    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    let server = server();
    // 127.0.0.1:80 and 0.0.0.0:80, as a little-endian kernel writes them.
    let (own, any) = (listener("0100007F:0050"), listener("00000000:0050"));
    server.write("proc/net/tcp", &format!("{HEAD}{own}"));
    server.says(&SERVICE, Verdict::Unacceptable, &["web listens on 127.0.0.1 alone, port 80"]);
    server.write("proc/net/tcp", &format!("{HEAD}{own}{any}"));
    server.is_well(&SERVICE);
    server.write("proc/net/tcp", HEAD);
    server.is_well(&SERVICE);
}

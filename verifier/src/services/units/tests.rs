use super::*;
use crate::here::testing::Server;

const APP: &str = "[Unit]\nDescription=x\n[Service]\nUser=app\nWorkingDirectory=/srv/app\nEnvironmentFile=-/etc/default/none\n\
                   EnvironmentFile=/etc/default/app\nExecStart=/usr/local/bin/app --port \\\n 80\nStateDirectory=app\n\
                   ReadWritePaths=/var/spool/app -/var/none\nStandardOutput=append:/var/log/app/out.log\n";

fn server() -> Server {
    let server = Server::with(&[
        ("etc/systemd/system/app.service", APP),
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"),
        ("srv/app/x", ""),
        ("etc/default/app", ""),
        ("var/spool/app/x", ""),
        ("var/log/app/x", ""),
        ("var/lib/app/x", ""),
        ("sys/fs/cgroup/system.slice/app.service/cgroup.events", "populated 1\n"),
        ("run/systemd/system/x", ""),
        ("opt/atlas/EnvID", "1\n"),
        ("bin/sh", ""),
    ]);
    server.program("usr/local/bin/app", "");
    server.link("/etc/systemd/system/app.service", "etc/systemd/system/multi-user.target.wants/app.service");
    for (unit, _) in OWN {
        server.write(&format!("usr/lib/systemd/system/{unit}"), "[Service]\n");
        server.link(&format!("../{unit}"), &format!("usr/lib/systemd/system/multi-user.target.wants/{unit}"));
    }
    server
}

#[test]
fn what_a_unit_names_is_there_or_is_told() {
    server().is_well(&SERVICE);
    Server::new().is_well(&SERVICE);
    let cases = [
        ("srv/app", "app.service would not start: its working directory /srv/app is not there"),
        ("etc/default/app", "its file of settings /etc/default/app is not there"),
        ("usr/local/bin/app", "its program /usr/local/bin/app is not there"),
        ("var/spool/app", "/var/spool/app, which it names, is not there"),
        ("var/log/app", "/var/log/app, to which it writes, is not there"),
    ];
    for (gone, told) in cases {
        let server = server();
        server.remove(gone);
        server.says(&SERVICE, Verdict::Unacceptable, &[told]);
    }
    let server = server();
    server.remove("var/lib/app");
    server.says(&SERVICE, Verdict::Slow, &["/var/lib/app, which app.service needs, is gone while it runs"]);
    server.write("sys/fs/cgroup/system.slice/app.service/cgroup.events", "populated 0\n");
    server.is_well(&SERVICE);
    server.write("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    server.says(&SERVICE, Verdict::Unacceptable, &["app.service would not start: the account app is not there"]);
}

#[test]
fn a_drop_in_has_the_last_word_and_client_data_is_where_pri_s_disks_are() {
    let server = server();
    server.write("etc/systemd/system/app.service.d/dir.conf", "[Service]\nWorkingDirectory=/srv/other\n");
    server.says(&SERVICE, Verdict::Unacceptable, &["its working directory /srv/other is not there"]);
    server.write("etc/systemd/system/app.service.d/dir.conf", "[Service]\nWorkingDirectory=/unbound/app\n");
    server.is_well(&SERVICE);
    server.write("etc/systemd/system/app.service.d/dir.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/gone\n");
    server.says(&SERVICE, Verdict::Unacceptable, &["its program /usr/bin/gone is not there"]);
}

#[test]
fn a_unit_is_looked_at_where_its_process_is_and_as_systemd_starts_it() {
    let with = |text: &str| {
        let server = server();
        server.write("etc/systemd/system/app.service", &format!("[Service]\nUser=app\n{text}"));
        server.write("sys/fs/cgroup/system.slice/app.service/cgroup.events", "populated 0\n");
        server.write("srv/jail/bin/sh", "");
        for program in ["srv/jail/bin/in", "usr/bin/python3", "usr/bin/known", "usr/bin/my app"] {
            server.program(program, "");
        }
        server.write("srv/jail/in/x", "");
        server.write("srv/plain", "");
        server.program("srv/old", "");
        server.write("srv/old", "#!/opt/venv/bin/python3 -u\n");
        server.write("etc/hostname", "sec1\n");
        server.write("etc/init.d/old", "");
        server.write("srv/a b/x", "");
        for (name, text) in [
            ("crlf", "#!/bin/sh\r\nexit\n"),
            ("text", "exit 0\n"),
            ("env", "#!/usr/bin/env nosuchint\n"),
            ("private", "#!/bin/sh\n"),
        ] {
            server.program(&format!("srv/{name}"), "");
            server.write(&format!("srv/{name}"), text);
        }
        server.mode("srv/private", 0o700);
        server.write("srv/closed/x", "");
        server.mode("srv/closed", 0o700);
        // The condition that a boot's command line has something holds, others do not.
        server.program("usr/bin/systemd-analyze", "[ \"$1 $2\" != 'condition ConditionVirtualization=vm' ]");
        server
    };
    for well in [
        "StateDirectory=zz\nWorkingDirectory=/var/lib/zz\nExecStart=known",
        "CacheDirectory=cc/dd\nReadWritePaths=/var/cache/cc/dd\nLogsDirectory=aa\nStandardOutput=append:/var/log/aa/x\nExecStart=known",
        "BindPaths=/srv/jail:/srv/inside\nWorkingDirectory=/srv/inside\nExecStart=known",
        "RootDirectory=/srv/jail\nWorkingDirectory=/in\nExecStart=/bin/in",
        "RootImage=/srv/plain\nWorkingDirectory=/in\nExecStart=/bin/elsewhere",
        "ExecStart=/opt/agent/bin/agent\n[Unit]\nConditionFileIsExecutable=/opt/agent/bin/agent",
        "ExecStart=/opt/agent/bin/agent\n[Unit]\nConditionHost=pri",
        "ExecStart=/opt/agent/bin/agent\n[Unit]\nConditionPathExists=!/srv/plain",
        "ExecStart=known\n[Unit]\nRequires=app.service dev-sda1.device srv-x.mount -.slice\nBindsTo=old.service",
        "Type=oneshot\nExecStart=known\nExecStart=known",
        "ExecStart=\"/usr/bin/my app\" x",
        "ExecStart=known\nReadWritePaths=\"/srv/a b\" /srv",
        "ExecStart=/srv/env\nEnvironment=PATH=/opt/bin",
        "ExecStart=+/srv/private",
        "ExecStart=/opt/gone\n[Unit]\nConditionVirtualization=vm",
        "ExecCondition=/bin/false\nExecStart=/opt/gone",
        "ExecStart=known\nWorkingDirectory=-/srv/closed",
        "ExecStart='/usr/bin/known' x",
        "ExecStart=/usr/bin/my\\x20app x",
        "Type=oneshot\nExecStop=known",
        "RemainAfterExit=yes\nExecStop=known",
        "ExecStart=known\nLoadCredential=key:/etc/app.key\nSetCredential=key:x",
        "ExecStart=known\nEnvironmentFile=-/etc/default/no*.conf\nEnvironmentFile=/etc/default/a*",
        "ExecStart=known\n[Unit]\nAssertPathExists=/srv/plain",
    ] {
        with(well).is_well(&SERVICE);
    }
    for (text, told) in [
        ("ExecStart=/srv/crlf", "its program /srv/crlf is a script whose lines end as those of Windows do"),
        ("ExecStart=/srv/text", "its program /srv/text is a text, and does not begin with the program that it is for"),
        ("ExecStart=/srv/env", "its program /srv/env is a script for nosuchint, which is in none of the usual"),
        ("ExecStart=${BIN}/app", "begins with a variable"),
        ("ExecStart=/srv/private", "its program /srv/private may not be run by its account app: it belongs to"),
        ("ExecStart=known\nReadWritePaths=\"/srv/a b\" /srv/none", "/srv/none, which it names, is not there"),
        ("ExecStart=/opt/gone\n[Unit]\nConditionKernelCommandLine=x", "its program /opt/gone is not there"),
        ("Type=oneshot\nExecStart=known a ; /usr/bin/nope b", "its program /usr/bin/nope is not there"),
        ("ExecStart=\"/usr/bin/your app\" x", "its program /usr/bin/your app is not there"),
        ("ExecStart=unknown", "its program unknown is in none of the directories in which systemd looks"),
        ("ExecStart=/srv/plain", "its program /srv/plain is no program that may be run"),
        ("ExecStart=/srv/old", "its program /srv/old is a script for /opt/venv/bin/python3, which is not there"),
        ("ExecStartPre=/usr/bin/nope\nExecStart=known", "its program /usr/bin/nope is not there"),
        ("RootDirectory=/srv/jail\nExecStart=/bin/other", "its program /bin/other is not there"),
        ("ExecStart=/opt/gone\n[Unit]\nConditionHost=SEC1", "its program /opt/gone is not there"),
        ("ExecStart=/opt/gone\n[Unit]\nConditionPathExists=|/nowhere", "its program /opt/gone is not there"),
        ("ExecStart=known\n[Unit]\nRequires=app.service nosuch.service", "the unit nosuch.service, which it requires"),
        ("ExecStart=known\nExecStart=known", "it has 2 ExecStart=, which Type=simple may not have"),
        ("Restart=always", "it has no ExecStart="),
        ("ExecStart=known\nLoadCredential=key:/etc/app.key", "its credential /etc/app.key is not there"),
        (
            "ExecStart=known\nEnvironmentFile=/etc/default/no*.conf",
            "no file of settings is called /etc/default/no*.conf",
        ),
        ("ExecStart=known\n[Unit]\nAssertPathExists=/srv/gone", "/srv/gone, which it asserts, is not there"),
    ] {
        with(text).says(&SERVICE, Verdict::Unacceptable, &[told]);
    }
}

#[test]
fn a_timer_or_socket_that_starts_nothing_is_told() {
    let with = |unit: &str, text: &str| {
        let server = server();
        server.write(&format!("etc/systemd/system/{unit}"), text);
        server.link(&format!("/etc/systemd/system/{unit}"), &format!("etc/systemd/system/timers.target.wants/{unit}"));
        server
    };
    for (unit, text) in [
        ("app.timer", "[Timer]\nOnCalendar=daily\n"),
        ("other.timer", "[Timer]\nOnCalendar=daily\nUnit=app.service\n"),
        ("app.socket", "[Socket]\nListenStream=1\n"),
    ] {
        with(unit, text).is_well(&SERVICE);
    }
    for (unit, text, told) in [
        ("gone.timer", "[Timer]\nOnCalendar=daily\n", "gone.timer starts nothing: the unit gone.service is not there"),
        (
            "app.timer",
            "[Timer]\nOnCalendar=daily\nUnit=gone.service\n",
            "app.timer starts nothing: the unit gone.service",
        ),
        ("app.socket", "[Socket]\nListenStream=1\nAccept=yes\n", "the unit app@.service is not there"),
    ] {
        with(unit, text).says(&SERVICE, Verdict::Unacceptable, &[told]);
    }
}

#[test]
fn atlas_s_own_daemons_that_would_not_start_are_told() {
    let masked = server();
    masked.link("/dev/null", "etc/systemd/system/VerifierControl.service");
    masked.says(&SERVICE, Verdict::Unacceptable, &["VerifierControl is masked: after the next boot nothing would be"]);
    let unlinked = server();
    unlinked.remove("usr/lib/systemd/system/multi-user.target.wants/atlas-gate.service");
    unlinked.says(&SERVICE, Verdict::Unacceptable, &["nothing starts atlas-gate at the next boot"]);
}

#[test]
fn a_circle_is_told_and_systemd_is_asked_again_only_when_a_unit_has_changed() {
    let server = server();
    let script = "echo x >> \"${0%/usr/bin/systemd-analyze}/asked\"\n[ \"$1 $3\" = 'verify default.target' ] || exit 9\n\
                  echo 'app.service: Unknown key'  >&2\n[ -e \"${0%/usr/bin/systemd-analyze}/circle\" ] && \
                  echo 'default.target: Found ordering cycle on app.service/start' >&2\nexit 1";
    server.program("usr/bin/systemd-analyze", script);
    let asked = || std::fs::read_to_string(server.root().join("asked")).unwrap().len() / 2;
    server.is_well(&SERVICE);
    server.is_well(&SERVICE);
    assert_eq!(asked(), 1);
    server.write("circle", "");
    server.write("etc/systemd/system/app.service.d/after.conf", "[Unit]\nAfter=multi-user.target\n");
    for _ in 0..2 {
        server.says(&SERVICE, Verdict::Unacceptable, &["in a circle", "Found ordering cycle on app.service/start"]);
    }
    assert_eq!(asked(), 2);
}

#[test]
fn a_systemd_that_did_not_answer_is_asked_again_later() {
    let server = server();
    server.program("usr/bin/systemd-analyze", "[ -e \"${0%/usr/bin/systemd-analyze}/busy\" ] && sleep 20; exit 0");
    server.write("busy", "");
    for _ in 0..3 {
        let target = crate::service::Target {
            until: std::time::Instant::now() + std::time::Duration::from_millis(300),
            ..server.target()
        };
        verify(&target).unwrap();
    }
    server.says(&SERVICE, Verdict::Slow, &["systemd-analyze does not answer in time"]);
    server.remove("busy");
    server.says(&SERVICE, Verdict::Slow, &["systemd-analyze does not answer in time"]);
    let kept = here::text(server.root(), "run/atlas/circles.json").unwrap();
    let at = kept.find("\"asked\":").unwrap();
    server.write("run/atlas/circles.json", &format!("{}\"asked\":1000}}", &kept[..at]));
    server.is_well(&SERVICE);
}

use super::*;
use crate::testing;

/// Runs `look` in a room made of the tree at `root`, while all others see that tree as it is.
fn inside<T: Send>(root: &Path, hosts: Option<&str>, look: impl FnOnce(Room) -> T + Send) -> T {
    let furnished = move || {
        mount::own_mounts().unwrap();
        look(Room::furnish(root, hosts).unwrap())
    };
    // Only this thread has the room's mounts; the limits, which hold for the process, end with the test.
    std::thread::scope(|scope| scope.spawn(furnished).join()).unwrap()
}

fn tree() -> tempfile::TempDir {
    let tmp = tempfile::tempdir_in("/var/tmp").unwrap();
    for path in ["etc/web/web.conf", "etc/hosts", "var/log/old", "var/own disk/kept", "srv/page", "run/real.sock"] {
        let path = tmp.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "outside").unwrap();
    }
    ["tmp", "dev", "usr"].iter().for_each(|dir| fs::create_dir(tmp.path().join(dir)).unwrap());
    tmp
}

#[test]
fn what_is_written_in_a_room_is_seen_in_it_alone() {
    if !testing::own_mounts("room::tests::what_is_written_in_a_room_is_seen_in_it_alone") {
        return;
    }
    let tmp = tree();
    let root = tmp.path().canonicalize().unwrap();
    mount::memory(&root.join("var/own disk"), 1 << 20).unwrap();
    fs::write(root.join("var/own disk/data"), "outside").unwrap();
    inside(&root, Some("192.0.2.10 www\n"), |_| {
        for path in [
            "etc/web/web.conf",
            "var/log/old",
            "var/own disk/data",
            "run/daemon.pid",
            "run/lock/x",
            "tmp/x",
            "dev/shm/x",
        ] {
            fs::write(root.join(path), "inside").unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        for path in ["srv/page", "usr/new", "new"] {
            let error = fs::write(root.join(path), "inside").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{path}");
        }
        assert_eq!(fs::read_to_string(root.join("srv/page")).unwrap(), "outside");
        assert_eq!(fs::read_to_string(root.join("etc/hosts")).unwrap(), "192.0.2.10 www\n");
        assert!(!root.join("run/real.sock").exists(), "nobody outside is reached");
        assert_eq!(fs::read(root.join("dev/null")).unwrap(), b"");
    });
    for path in ["etc/web/web.conf", "etc/hosts", "var/log/old", "var/own disk/data", "srv/page", "run/real.sock"] {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), "outside", "{path}");
    }
    for path in ["run/daemon.pid", "tmp/x", "dev/null"] {
        assert!(!root.join(path).exists(), "{path}");
    }
}

#[test]
fn who_runs_in_a_room_has_no_rights_over_the_machine_and_an_end() {
    if !testing::own_mounts("room::tests::who_runs_in_a_room_has_no_rights_over_the_machine_and_an_end") {
        return;
    }
    inside(Path::new("/"), None, |room| {
        let run = |script: &str| room.command(&["sh", "-c", script]).output().unwrap();
        assert!(!run("mount -t tmpfs x /mnt").status.success());
        assert!(!run("echo 1 > /proc/sys/kernel/sysrq").status.success());
        assert_eq!(run("ulimit -t; cat /proc/self/oom_score_adj").text(), "60\n1000\n");
        assert_eq!(run("ls /dev").text(), "fd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n");
    });
    // A whole one: what is started in it ends with its first process.
    let script = "sleep 300 & echo $$; readlink /proc/self/ns/net";
    let words = ["sh", "-c", script].map(str::to_owned);
    let said = apart(&Replica::default(), &words).run().unwrap().text();
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(said.starts_with("1\nnet:") && !said.contains(own.to_str().unwrap()), "{said}");
}

#[test]
fn mount_points_are_read_as_the_kernel_writes_them() {
    assert_eq!(plain("/srv/a\\040b\\134c"), Path::new("/srv/a b\\c"));
}

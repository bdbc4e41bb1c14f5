//! What udev's rule asks of each disk, in the sandbox that udev runs it in.

#![allow(clippy::unwrap_used, reason = "a test")]

use atlas_host::testing::refuse_openat2;
use atlas_model::md;
use std::{fs, process::Command};

#[test]
fn in_udevs_sandbox_a_member_is_recognised_and_md_is_kept_off_its_set() {
    let tmp = tempfile::tempdir().unwrap();
    let disk = tmp.path().join("disk");
    let content = [vec![0; 4096], md::testing::to_block(&md::testing::half(0)), vec![0; 4 << 20]].concat();
    fs::write(&disk, content).unwrap();
    let run = tmp.path().join("run");
    fs::create_dir(&run).unwrap();
    let output = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            refuse_openat2();
            let mut command = Command::new(env!("CARGO_BIN_EXE_atlas-boot"));
            command.arg("--root").arg(tmp.path()).arg("--run").arg(&run).arg("is-member").arg(&disk).output().unwrap()
        });
        asked.join().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    let uuid = md::testing::half(0).set_uuid;
    assert_eq!(fs::read_to_string(run.join("atlas/mdadm.conf")).unwrap(), format!("ARRAY <ignore> UUID={uuid}\n"));
}

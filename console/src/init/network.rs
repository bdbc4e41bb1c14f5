//! Whether anything would configure the network before there is a role, or without one.
//!
//! The gate keeps every interface from sending all the same. A service that does not wait for it starts in vain, though, and gives up.

use super::check::{Finding, WARNING};
use std::path::{Path, PathBuf};

/// The services that wait for the gate, one a line; the package gives each the drop-in.
const UNITS: &str = include_str!("../../../initramfs/systemd/network-units");
const DROP_IN: &str = "50-atlas.conf";
/// The file that the drop-in waits for.
const ALLOWED: &str = "/run/atlas/network-allowed";
/// Where the initramfs-tools are told to configure the network in early boot.
const INITRAMFS_CONFIG: [&str; 3] =
    ["etc/initramfs-tools/initramfs.conf", "etc/initramfs-tools/conf.d", "usr/share/initramfs-tools/conf.d"];
/// An ssh server for early boot.
const DROPBEAR: &str = "usr/share/initramfs-tools/scripts/init-premount/dropbear";
/// `ip=` that configures nothing.
const HARMLESS: [&str; 4] = ["off", "none", "::::::off", "::::::none"];

const UNIT_DIRS: [&str; 3] = ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system"];

/// All that is to be said of the network.
pub(super) fn findings(root: &Path) -> Vec<Finding> {
    let mut findings = units(root);
    findings.push(gate(root));
    findings.push(kernel_command_line(root));
    findings.extend(initramfs(root));
    findings
}

/// The services that configure the network on this server, each held until the role is there, or not.
fn units(root: &Path) -> Vec<Finding> {
    let about = "network";
    let known = UNITS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let enabled: Vec<&str> = known.filter(|unit| is_enabled(root, unit)).collect();
    if enabled.is_empty() {
        return vec![Finding::well(about, "no service that configures the network is enabled")];
    }
    let finding = |unit: &str| match drop_in(root, unit) {
        Some(_) => Finding::well(about, format!("{unit} waits for the role")),
        None => Finding::problem(about, format!("{unit} would configure the network without a role")).remedy(format!(
            "remove /etc/systemd/system/{unit}.d/{DROP_IN} if it is there, and reinstall the package 'atlas'"
        )),
    };
    enabled.into_iter().map(finding).collect()
}

/// Whether another unit pulls it in; of a template, any instance.
pub(super) fn is_enabled(root: &Path, unit: &str) -> bool {
    let is_it = |name: &str| match unit.split_once("@.") {
        Some((template, kind)) => name.strip_prefix(template).is_some_and(|rest| {
            rest.strip_prefix('@').is_some_and(|rest| rest.strip_suffix(kind).is_some_and(|rest| rest.ends_with('.')))
        }),
        None => name == unit,
    };
    let names = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)))
    };
    let pulls = |name: &str| name.ends_with(".wants") || name.ends_with(".requires");
    UNIT_DIRS
        .iter()
        .flat_map(|dir| names(root.join(dir)))
        .filter(|(_, name)| pulls(name))
        .flat_map(|(dir, _)| names(dir))
        .any(|(_, name)| is_it(&name))
}

/// The drop-in that counts, where it makes the unit wait: one in /etc hides the package's.
fn drop_in(root: &Path, unit: &str) -> Option<PathBuf> {
    let files = UNIT_DIRS.iter().map(|place| root.join(place).join(format!("{unit}.d")).join(DROP_IN));
    let first = files.into_iter().find(|file| std::fs::symlink_metadata(file).is_ok())?;
    let text = std::fs::read_to_string(&first).ok()?;
    let waits = text.lines().any(|line| line.trim().starts_with("ConditionPathExists=") && line.contains(ALLOWED));
    waits.then_some(first)
}

/// Without its keeper, the gate is never opened.
fn gate(root: &Path) -> Finding {
    let about = "network gate";
    let masked = UNIT_DIRS[..2]
        .iter()
        .map(|dir| root.join(dir).join("atlas-gate.service"))
        .find(|unit| std::fs::read_link(unit).is_ok_and(|target| target == Path::new("/dev/null")));
    match masked {
        Some(_) => Finding::problem(about, "atlas-gate.service is masked, so the network would never be allowed")
            .remedy("systemctl unmask atlas-gate.service"),
        None => Finding::well(about, "atlas-gate.service opens it where the boot took a role"),
    }
}

/// `ip=` makes the kernel or the initramfs configure the network before there is a role.
fn kernel_command_line(root: &Path) -> Finding {
    let about = "kernel command line";
    let line = std::fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    let configures = |word: &&str| word.strip_prefix("ip=").is_some_and(|value| !HARMLESS.contains(&value));
    match line.split_whitespace().find(configures) {
        Some(word) => Finding::problem(about, format!("'{word}' configures the network before there is a role"))
            .remedy("take it out of the boot loader's configuration (/etc/default/grub, then update-grub)"),
        None => Finding::well(about, "does not configure the network"),
    }
}

/// What the initramfs would do in the network: nothing, because of the gate.
fn initramfs(root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some((file, line)) = initramfs_address(root) {
        findings.push(
            Finding::well(
                WARNING,
                format!("'{line}' in {file} has no effect: early boot sends nothing before there is a role"),
            )
            .remedy("remove it, and run 'update-initramfs -u -k all'"),
        );
    }
    if root.join(DROPBEAR).exists() {
        let found = "dropbear-initramfs cannot be reached: early boot sends nothing before there is a role";
        findings.push(Finding::well(WARNING, found).remedy("apt remove dropbear-initramfs"));
    }
    findings
}

/// The first `IP=` that configures something, and the file that it is in.
fn initramfs_address(root: &Path) -> Option<(String, String)> {
    let files = INITRAMFS_CONFIG.iter().flat_map(|place| {
        let path = root.join(place);
        match std::fs::read_dir(&path) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![path],
        }
    });
    let value = |line: &str| Some(line.trim().strip_prefix("IP=")?.trim_matches(['"', '\'']).to_owned());
    let configures =
        |line: &&str| value(line).is_some_and(|value| !value.is_empty() && !HARMLESS.contains(&value.as_str()));
    let mut found = files.filter_map(|file| {
        let text = std::fs::read_to_string(&file).ok()?;
        let line = text.lines().find(configures)?.trim().to_owned();
        Some((format!("/{}", file.strip_prefix(root).unwrap_or(&file).display()), line))
    });
    found.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        std::fs::write(root.join(file), text).unwrap();
    }

    #[test]
    fn an_instance_of_a_template_is_enabled_and_one_of_another_is_not() {
        let tmp = tempfile::tempdir().unwrap();
        write(tmp.path(), "etc/systemd/system/multi-user.target.wants/dhcpcd@eth0.service", "");
        for (unit, enabled) in
            [("dhcpcd@.service", true), ("dhcpcd.service", false), ("wpa_supplicant@.service", false)]
        {
            assert_eq!(is_enabled(tmp.path(), unit), enabled, "{unit}");
        }
        let found = units(tmp.path());
        assert!(found.len() == 1 && found[0].is_problem, "{found:?}");
        write(
            tmp.path(),
            "usr/lib/systemd/system/dhcpcd@.service.d/50-atlas.conf",
            include_str!("../../../initramfs/systemd/network-held.conf"),
        );
        assert!(!units(tmp.path())[0].is_problem);
    }

    #[test]
    fn early_boots_own_network_is_reported_wherever_it_is_configured() {
        let tmp = tempfile::tempdir().unwrap();
        write(tmp.path(), "etc/initramfs-tools/initramfs.conf", "MODULES=most\nDEVICE=\n#IP=10.0.0.1\nIP=off\n");
        assert_eq!(initramfs(tmp.path()), vec![]);
        write(tmp.path(), "etc/initramfs-tools/conf.d/net", "IP=\"10.0.0.1::10.0.0.254:255.255.255.0::eth0:off\"\n");
        write(tmp.path(), DROPBEAR, "");
        let found = initramfs(tmp.path());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].found.contains("conf.d/net") && found[1].found.contains("dropbear"), "{found:?}");
        assert!(found.iter().all(|finding| !finding.is_problem && finding.about == WARNING));
    }

    #[test]
    fn a_gate_whose_keeper_is_masked_is_a_problem() {
        let tmp = tempfile::tempdir().unwrap();
        assert!(!gate(tmp.path()).is_problem);
        std::fs::create_dir_all(tmp.path().join("etc/systemd/system")).unwrap();
        std::os::unix::fs::symlink("/dev/null", tmp.path().join("etc/systemd/system/atlas-gate.service")).unwrap();
        assert!(gate(tmp.path()).is_problem);
    }
}

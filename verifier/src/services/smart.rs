//! What disks say of themselves: `smartctl --json -n standby,0 -H -A /dev/sda`.

use crate::{
    here::{self, Faults},
    service::Target,
};
use atlas_model::verify::Worse;
use serde::Deserialize;
use std::path::Path;

/// ATA attributes that count sectors which the disk has lost, or is about to.
const LOST_SECTORS: [(u64, &str); 3] =
    [(5, "replaced"), (197, "that cannot be read at the moment"), (198, "that cannot be read")];
/// Sectors that a SAS disk has replaced: slow above this, as those of ATA.
const GROWN_DEFECTS: f64 = 0.0;
/// Degrees: slow, unacceptable.
const HOT: (f64, f64) = (55.0, 65.0);

/// The part of smartctl's answer that is judged.
#[derive(Default, Deserialize)]
struct Answer {
    smart_support: Option<Support>,
    smart_status: Option<Status>,
    temperature: Option<Temperature>,
    ata_smart_attributes: Option<Attributes>,
    nvme_smart_health_information_log: Option<Nvme>,
    scsi_grown_defect_list: Option<u64>,
    scsi_error_counter_log: Option<Counters>,
}

/// What a SAS disk counts. It says that it is well long after it began to lose data.
#[derive(Default, Deserialize)]
struct Counters {
    #[serde(default)]
    read: Counter,
    #[serde(default)]
    write: Counter,
    #[serde(default)]
    verify: Counter,
}

#[derive(Default, Deserialize)]
struct Counter {
    #[serde(default)]
    total_uncorrected_errors: u64,
}

#[derive(Deserialize)]
struct Support {
    available: bool,
}

#[derive(Deserialize)]
struct Status {
    passed: bool,
}

#[derive(Deserialize)]
struct Temperature {
    current: f64,
}

#[derive(Deserialize)]
struct Attributes {
    table: Vec<Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    id: u64,
    raw: Raw,
}

#[derive(Deserialize)]
struct Raw {
    value: u64,
    /// As smartctl understands it: some vendors keep more than one number in the bytes of the value.
    #[serde(default)]
    string: String,
}

impl Raw {
    fn count(&self) -> u64 {
        let decimal = Some(&self.string).filter(|text| !text.starts_with("0x"));
        let number = decimal.and_then(|text| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        number.unwrap_or(self.value)
    }
}

#[derive(Deserialize)]
struct Nvme {
    #[serde(default)]
    critical_warning: u64,
    #[serde(default)]
    percentage_used: f64,
    #[serde(default)]
    media_errors: u64,
}

/// Asks every disk that may have an answer; says what was done, for people.
pub(super) fn look(target: &Target, faults: &mut Faults) -> anyhow::Result<String> {
    let disks = disks(&target.root);
    if disks.is_empty() {
        return Ok("SMART is not available: no disk here has it".into());
    }
    if here::program(&target.root, "smartctl").is_none() {
        return Ok("SMART is not available: smartmontools is not installed".into());
    }
    let mut asked = Vec::new();
    for disk in disks {
        let device = format!("/dev/{disk}");
        // A disk that sleeps is not woken up.
        let args = ["--json", "-n", "standby,0", "-H", "-A", &device];
        let Some(output) = here::run(&target.root, "smartctl", &args, target.left()) else { continue };
        let answer = output.and_then(|output| {
            serde_json::from_slice::<Answer>(&output.stdout).map_err(|_| format!("smartctl: {}", output.complaint()))
        });
        match answer {
            Err(why) => {
                faults.unknown(format!("{disk} does not tell its health: {why}"), format!("smartctl -x {device}"));
            }
            Ok(answer) if answer.smart_support.as_ref().is_some_and(|support| !support.available) => {}
            // Neither health nor a reason: it sleeps, or is no disk to ask.
            Ok(answer) if answer.smart_status.is_none() => {}
            Ok(answer) => {
                judge(target, &disk, &answer, faults)?;
                asked.push(disk);
            }
        }
    }
    Ok(if asked.is_empty() {
        "SMART is not available".into()
    } else {
        format!("SMART of {} is good", asked.join(", "))
    })
}

/// Disks that are neither virtual nor made of others.
fn disks(root: &Path) -> Vec<String> {
    let is_one = |name: &String| {
        (name.starts_with("sd") || name.starts_with("nvme"))
            && here::is_there(root, &format!("/sys/block/{name}/device"))
    };
    here::names(root, "/sys/block").into_iter().filter(is_one).collect()
}

fn judge(target: &Target, disk: &str, answer: &Answer, faults: &mut Faults) -> anyhow::Result<()> {
    let hint = format!("smartctl -x /dev/{disk}; replace the disk soon");
    if answer.smart_status.as_ref().is_some_and(|status| !status.passed) {
        faults.unacceptable(format!("{disk} foresees its own failure (SMART)"), &hint);
    }
    for attribute in answer.ata_smart_attributes.iter().flat_map(|attributes| &attributes.table) {
        let known = LOST_SECTORS.iter().find(|(id, _)| *id == attribute.id);
        if let Some((_, what)) = known.filter(|_| attribute.raw.count() > 0) {
            faults.slow(format!("{disk} has {} sectors {what} (SMART)", attribute.raw.count()), &hint);
        }
    }
    judge_sas(target, disk, answer, faults)?;
    if let Some(nvme) = &answer.nvme_smart_health_information_log {
        if nvme.critical_warning != 0 {
            faults.unacceptable(format!("{disk} warns of its state, bits {:#x} (SMART)", nvme.critical_warning), &hint);
        }
        if nvme.media_errors > 0 {
            faults.slow(format!("{disk} has lost data {} times (SMART)", nvme.media_errors), &hint);
        }
        let worn =
            target.measure(&format!("{disk}/worn"), nvme.percentage_used, "%", (Some(90.0), None), Worse::Higher)?;
        faults.measure(worn, &format!("{disk} is nearly worn out (SMART)"), &hint);
    }
    if let Some(temperature) = &answer.temperature {
        let name = format!("{disk}/temperature");
        let measure = target.measure(&name, temperature.current, "", (Some(HOT.0), Some(HOT.1)), Worse::Higher)?;
        faults.measure(measure, &format!("{disk} is too hot, degrees"), "see the fans and the room's cooling");
    }
    Ok(())
}

/// Errors that no repetition and no code corrected, and places that the disk avoids since it was made.
fn judge_sas(target: &Target, disk: &str, answer: &Answer, faults: &mut Faults) -> anyhow::Result<()> {
    let hint = format!("smartctl -x /dev/{disk}; replace the disk soon");
    let none = Counters::default();
    let counters = answer.scsi_error_counter_log.as_ref().unwrap_or(&none);
    for (what, counter) in [("read", &counters.read), ("write", &counters.write), ("verify", &counters.verify)] {
        if counter.total_uncorrected_errors > 0 {
            let count = counter.total_uncorrected_errors;
            faults.slow(format!("{disk} has {count} uncorrected {what} errors (SMART)"), &hint);
        }
    }
    if let Some(defects) = answer.scsi_grown_defect_list {
        let name = format!("{disk}/grown-defects");
        let measure = target.measure(&name, defects as f64, "", (Some(GROWN_DEFECTS), None), Worse::Higher)?;
        faults.measure(measure, &format!("{disk} has grown defects (SMART)"), &hint);
    }
    Ok(())
}

#[cfg(feature = "testing")]
pub(super) fn judged(answer: &[u8], target: &Target) -> anyhow::Result<atlas_model::verify::Profile> {
    let answer: Answer = serde_json::from_slice(answer)?;
    let mut faults = Faults::default();
    judge(target, "sda", &answer, &mut faults)?;
    Ok(faults.profile("it is good"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::here::testing::Server;
    use atlas_model::verify::{Profile, Verdict};

    fn server(answer: &str) -> Server {
        let server = Server::new();
        server.write("sys/block/sda/device/model", "DISK");
        server.write("sys/block/vda/device/model", "virtual");
        server.write("sys/block/md127/dev", "9:127");
        server.program("usr/sbin/smartctl", &format!("[ \"$6\" = /dev/sda ] || exit 9\necho '{answer}'"));
        server
    }

    fn profile(server: &Server) -> Profile {
        let mut faults = Faults::default();
        let told = look(&server.target(), &mut faults).unwrap();
        faults.profile(told)
    }

    const GOOD: &str = r#"{"smart_status":{"passed":true},"temperature":{"current":31},
        "ata_smart_attributes":{"table":[{"id":5,"raw":{"value":0}},{"id":9,"raw":{"value":4000}}]}}"#;

    #[test]
    fn a_good_disk_is_good_and_one_without_smart_no_fault() {
        assert_eq!(profile(&server(GOOD)), {
            let mut expected = Profile::ok("SMART of sda is good");
            expected.measures = profile(&server(GOOD)).measures;
            expected
        });
        for none in [r#"{"smart_support":{"available":false}}"#, "{}"] {
            assert_eq!(profile(&server(none)), Profile::ok("SMART is not available"));
        }
        let bare = server(GOOD);
        bare.remove("usr/sbin/smartctl");
        assert_eq!(profile(&bare).verdict, Verdict::Ok);
        bare.remove("sys/block/sda");
        assert_eq!(profile(&bare).summary, "SMART is not available: no disk here has it");
    }

    const SAS: &str = r#"{"device":{"type":"scsi","protocol":"SCSI"},"smart_status":{"passed":true},"scsi_grown_defect_list":412,
        "scsi_error_counter_log":{"read":{"total_uncorrected_errors":7},"write":{"total_uncorrected_errors":0}}}"#;

    #[test]
    fn what_vendors_pack_into_one_number_is_read_as_smartctl_reads_it() {
        let packed = r#"{"value":281474976710656,"string":"0 (Average 31)"}"#;
        let answer = GOOD.replace(r#"{"value":0}"#, packed);
        assert!(answer.contains("Average") && profile(&server(&answer)).verdict == Verdict::Ok);
        let sleeps = r#"{"device":{"protocol":"ATA"},"power_mode":{"ata_value":0,"ata_string":"STANDBY"}}"#;
        assert_eq!(profile(&server(sleeps)).verdict, Verdict::Ok);
        let good = SAS.replace("412", "0").replace(":7", ":0");
        assert_eq!(profile(&server(&good)).verdict, Verdict::Ok);
    }

    #[test]
    fn each_sign_of_an_end_is_told_with_the_disk() {
        let cases = [
            (r#"{"smart_status":{"passed":false}}"#, Verdict::Unacceptable, "sda foresees"),
            (&GOOD.replace(r#"{"value":0}"#, r#"{"value":7}"#), Verdict::Slow, "sda has 7 sectors replaced"),
            (&GOOD.replace("31", "60"), Verdict::Slow, "sda is too hot, degrees: 60"),
            (
                r#"{"smart_status":{"passed":true},"nvme_smart_health_information_log":{"critical_warning":4}}"#,
                Verdict::Unacceptable,
                "sda warns",
            ),
            (SAS, Verdict::Slow, "sda has 7 uncorrected read errors (SMART); sda has grown defects (SMART): 412"),
            ("no JSON", Verdict::Unknown, "sda does not tell its health"),
        ];
        for (answer, verdict, words) in cases {
            let profile = profile(&server(answer));
            assert_eq!(profile.verdict, verdict, "{profile:?}");
            assert!(profile.summary.contains(words) && profile.hint.is_some(), "{profile:?}");
        }
    }
}

//! What disks say of themselves: `smartctl --json -n standby,0 -i -H -A -l selftest -l ssd -l defects /dev/sda`.

use crate::{
    here::{self, Faults},
    service::Target,
};
use atlas_model::verify::Worse;
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

/// ATA attributes that count sectors which the disk has lost, or is about to.
const LOST_SECTORS: [(u64, &str); 3] =
    [(5, "replaced"), (197, "that cannot be read at the moment"), (198, "that cannot be read")];
/// Attributes of SSDs whose value begins at 100 and falls with wear. What other vendors count under the same number has
/// another name.
const LIFE: [(u64, &[&str]); 4] = [
    (177, &["Wear_Leveling_Count"]),
    (202, &["Percent_Lifetime_Remain", "Percent_Lifetime_Used"]),
    (231, &["SSD_Life_Left"]),
    (233, &["Media_Wearout_Indicator"]),
];
/// The value of these at which a disk is nearly worn out.
const NEAR_END: u64 = 10;
/// Errors that the disk could not correct, and told the server of: a few may be years old.
const REPORTED_UNCORRECT: (u64, f64) = (187, 10.0);
/// Temperatures, which are judged by themselves.
const TEMPERATURES: [u64; 2] = [190, 194];
/// How much of its life a SAS disk has used, in percent: slow from 90, unacceptable from 100, which are whole numbers.
const ENDURANCE: (f64, f64) = (89.0, 99.0);
/// Sectors that a SAS disk has replaced: slow above this, as those of ATA.
const GROWN_DEFECTS: f64 = 0.0;
/// Degrees: slow, unacceptable.
const HOT: (f64, f64) = (55.0, 65.0);

/// The part of smartctl's answer that is judged.
#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    smartctl: Own,
    smart_support: Option<Support>,
    smart_status: Option<Status>,
    temperature: Option<Temperature>,
    ata_smart_attributes: Option<Attributes>,
    nvme_smart_health_information_log: Option<Nvme>,
    ata_smart_self_test_log: Option<SelfTests>,
    nvme_self_test_log: Option<NvmeSelfTests>,
    scsi_grown_defect_list: Option<u64>,
    scsi_error_counter_log: Option<Counters>,
    scsi_percentage_used_endurance_indicator: Option<f64>,
    scsi_pending_defects: Option<PendingDefects>,
    /// Among what else it says: `scsi_self_test_0`, the latest, and so on.
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

/// What smartctl says of its own work.
#[derive(Default, Deserialize)]
struct Own {
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    string: String,
}

/// What a disk that answers nothing any more leaves smartctl with. A controller or USB bridge that wants to be asked otherwise has other words.
const SILENT: [&str; 3] = ["No such device", "Input/output error", "timed out"];

#[derive(Deserialize)]
struct SelfTests {
    standard: Option<SelfTestTable>,
}

#[derive(Deserialize)]
struct SelfTestTable {
    #[serde(default)]
    table: Vec<SelfTest>,
}

#[derive(Deserialize)]
struct SelfTest {
    #[serde(default, rename = "type")]
    kind: Outcome,
    status: Outcome,
}

#[derive(Deserialize)]
struct NvmeSelfTests {
    #[serde(default)]
    table: Vec<NvmeSelfTest>,
}

#[derive(Deserialize)]
struct NvmeSelfTest {
    #[serde(default)]
    self_test_code: Outcome,
    self_test_result: Outcome,
}

#[derive(Deserialize)]
struct ScsiSelfTest {
    #[serde(default)]
    code: Outcome,
    result: Outcome,
}

/// Which test of the disk by itself, or how it ended.
#[derive(Default, Deserialize)]
struct Outcome {
    #[serde(default)]
    value: u64,
    #[serde(default)]
    string: String,
    /// Of ATA; missing where it was stopped, or still runs.
    passed: Option<bool>,
}

#[derive(Deserialize)]
struct PendingDefects {
    #[serde(default)]
    count: u64,
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
    enabled: Option<bool>,
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
    #[serde(default)]
    name: String,
    value: Option<u64>,
    #[serde(default)]
    thresh: u64,
    #[serde(default)]
    when_failed: String,
    #[serde(default)]
    flags: Flags,
    raw: Raw,
}

#[derive(Default, Deserialize)]
struct Flags {
    /// Whether the vendor means by it that the disk fails soon, and not that it is old.
    #[serde(default)]
    prefailure: bool,
}

impl Attribute {
    fn is_failing(&self) -> bool {
        let is_below = self.thresh > 0 && self.value.is_some_and(|value| value <= self.thresh);
        !TEMPERATURES.contains(&self.id) && (self.when_failed == "now" || is_below)
    }

    /// How much of its life is left, where that is what it counts and there is little.
    fn little_life(&self) -> Option<u64> {
        let is_life = LIFE.iter().any(|(id, names)| *id == self.id && names.contains(&self.name.as_str()));
        // Some vendors count under 177, and keep no value of it.
        let is_kept = |value: &u64| *value > 0 || self.id != 177;
        self.value.filter(|_| is_life).filter(is_kept).filter(|value| *value <= NEAR_END)
    }
}

impl Answer {
    /// It has SMART, and is told not to watch itself.
    fn is_switched_off(&self) -> bool {
        let says = |support: &Support| support.available && support.enabled == Some(false);
        self.smart_support.as_ref().is_some_and(says)
            || self.smartctl.messages.iter().any(|message| message.string.starts_with("SMART Disabled"))
    }

    /// Why nothing was heard from the disk, where it was asked as it is to be.
    fn silence(&self) -> Option<&str> {
        let messages = self.smartctl.messages.iter().map(|message| message.string.as_str());
        let mut silent = messages.filter(|said| SILENT.iter().any(|words| said.ends_with(words)));
        silent.next().filter(|_| self.smart_status.is_none())
    }

    /// How a test failed, where no long one that passed came after it: a short one reads a small part of the disk.
    fn failed_test(&self) -> Option<String> {
        let ata = self.ata_smart_self_test_log.as_ref().and_then(|log| log.standard.as_ref());
        let ata = ata.iter().flat_map(|log| &log.table);
        // 2: extended, 130: the same while nothing else is served.
        let ata = ata.map(|test| (matches!(test.kind.value, 2 | 130), test.status.passed, &test.status.string));
        let nvme = self.nvme_self_test_log.iter().flat_map(|log| &log.table).map(|test| {
            let passed = match test.self_test_result.value {
                0 => Some(true),
                5..=7 => Some(false),
                // 1 to 4, 8 and 9: it was stopped; 15: it runs.
                _ => None,
            };
            (test.self_test_code.value == 2, passed, &test.self_test_result.string)
        });
        let scsi: Vec<ScsiSelfTest> = (0..20)
            .map_while(|at| self.others.get(&format!("scsi_self_test_{at}")))
            .filter_map(|test| ScsiSelfTest::deserialize(test).ok())
            .collect();
        let scsi = scsi.iter().map(|test| {
            let passed = match test.result.value {
                0 => Some(true),
                3..=7 => Some(false),
                _ => None,
            };
            (matches!(test.code.value, 2 | 6), passed, &test.result.string)
        });
        unrefuted(ata).or_else(|| unrefuted(nvme)).or_else(|| unrefuted(scsi))
    }
}

/// The latest of these tests (whether it was a long one, whether it passed, its words) that failed, if no long one has passed since.
fn unrefuted<'t>(tests: impl Iterator<Item = (bool, Option<bool>, &'t String)>) -> Option<String> {
    for (is_long, passed, words) in tests {
        match passed {
            Some(false) => return Some(words.clone()),
            Some(true) if is_long => return None,
            _ => {}
        }
    }
    None
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
        let args =
            ["--json", "-n", "standby,0", "-i", "-H", "-A", "-l", "selftest", "-l", "ssd", "-l", "defects", &device];
        let Some(output) = here::run(&target.root, "smartctl", &args, target.left()) else { continue };
        let answer = output.and_then(|output| {
            serde_json::from_slice::<Answer>(&output.stdout).map_err(|_| format!("smartctl: {}", output.complaint()))
        });
        match answer {
            Err(why) => {
                faults.unknown(format!("{disk} does not tell its health: {why}"), format!("smartctl -x {device}"));
            }
            Ok(answer) if answer.smart_support.as_ref().is_some_and(|support| !support.available) => {}
            Ok(answer) if answer.is_switched_off() => faults.slow(
                format!("SMART of {disk} is switched off: nobody would see it fail"),
                format!("smartctl --smart=on {device}"),
            ),
            Ok(answer) if answer.silence().is_some() => {
                let said = answer.silence().unwrap_or_default();
                faults.unknown(
                    format!("{disk} does not answer: {said}"),
                    format!("smartctl -x {device}; lsblk {device}"),
                );
            }
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
    judge_ata(target, disk, answer, faults)?;
    if let Some(how) = answer.failed_test() {
        faults.slow(format!("{disk} failed a test of itself, and has passed no long one since: {how} (SMART)"), &hint);
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

/// What vendors count, each under its own number.
fn judge_ata(target: &Target, disk: &str, answer: &Answer, faults: &mut Faults) -> anyhow::Result<()> {
    let hint = format!("smartctl -x /dev/{disk}; replace the disk soon");
    for attribute in answer.ata_smart_attributes.iter().flat_map(|attributes| &attributes.table) {
        let count = attribute.raw.count();
        if attribute.is_failing() {
            let Attribute { id, name, thresh, .. } = attribute;
            let value = attribute.value.map_or("?".to_owned(), |value| value.to_string());
            let what = format!("{disk} is at its end by attribute {id} {name}: {value}, limit {thresh} (SMART)");
            match attribute.flags.prefailure {
                true => faults.unacceptable(what, &hint),
                false => faults.slow(what, &hint),
            }
        } else if let Some(left) = attribute.little_life() {
            faults.slow(format!("{disk} is nearly worn out: {} {left} of 100 (SMART)", attribute.name), &hint);
        }
        if let Some((_, what)) = LOST_SECTORS.iter().find(|(id, _)| *id == attribute.id).filter(|_| count > 0) {
            faults.slow(format!("{disk} has {count} sectors {what} (SMART)"), &hint);
        }
        if attribute.id == REPORTED_UNCORRECT.0 {
            let name = format!("{disk}/uncorrected");
            let limits = (Some(REPORTED_UNCORRECT.1), None);
            let measure = target.measure(&name, count as f64, "", limits, Worse::Higher)?;
            faults.measure(measure, &format!("{disk} has errors that it could not correct (SMART)"), &hint);
        }
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
    if let Some(count) = answer.scsi_pending_defects.as_ref().map(|defects| defects.count).filter(|count| *count > 0) {
        faults.slow(format!("{disk} has {count} sectors that cannot be read at the moment (SMART)"), &hint);
    }
    if let Some(used) = answer.scsi_percentage_used_endurance_indicator {
        let limits = (Some(ENDURANCE.0), Some(ENDURANCE.1));
        let worn = target.measure(&format!("{disk}/worn"), used, "%", limits, Worse::Higher)?;
        faults.measure(worn, &format!("{disk} is nearly worn out (SMART)"), &hint);
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
        server.program(
            "usr/sbin/smartctl",
            &format!("for last; do :; done; [ \"$last\" = /dev/sda ] || exit 9\necho '{answer}'"),
        );
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
        let controller =
            "Smartctl open device: /dev/sda failed: DELL or MegaRaid controller, please try adding '-d megaraid,N'";
        let controller = controller.replace('\'', "");
        let controller = format!(r#"{{"smartctl":{{"exit_status":2,"messages":[{{"string":"{controller}"}}]}}}}"#);
        assert_eq!(profile(&server(&controller)).verdict, Verdict::Ok);
        let sleeps = r#"{"device":{"protocol":"ATA"},"power_mode":{"ata_value":0,"ata_string":"STANDBY"}}"#;
        assert_eq!(profile(&server(sleeps)).verdict, Verdict::Ok);
        let good = SAS.replace("412", "0").replace(":7", ":0");
        assert_eq!(profile(&server(&good)).verdict, Verdict::Ok);
    }

    fn with_attribute(attribute: &str) -> String {
        format!(r#"{{"smart_status":{{"passed":true}},"ata_smart_attributes":{{"table":[{attribute}]}}}}"#)
    }

    fn attribute(id: u64, name: &str, value: u64, thresh: u64, raw: u64) -> String {
        with_attribute(&format!(
            r#"{{"id":{id},"name":"{name}","value":{value},"worst":{value},"thresh":{thresh},"when_failed":"",
                "flags":{{"prefailure":false}},"raw":{{"value":{raw},"string":"{raw}"}}}}"#
        ))
    }

    #[test]
    fn wear_errors_and_failed_tests_are_told_though_the_disk_calls_itself_well() {
        let now = |name: &str| attribute(10, name, 90, 97, 12).replace(r#":"","#, r#":"now","#);
        let tested = |outcome: &str| {
            format!(
                r#"{{"smart_status":{{"passed":true}},"ata_smart_self_test_log":{{"standard":{{"table":[
                {{"type":{{"value":2}},"status":{{"value":25,"string":"Aborted by host"}}}},
                {{"type":{{"value":1}},"status":{{"string":"Completed","passed":true}}}},
                {{"type":{{"value":2}},"status":{outcome}}},
                {{"type":{{"value":2}},"status":{{"string":"Completed","passed":true}}}}]}}}}}}"#
            )
        };
        let failed = r#"{"value":121,"string":"Completed: read failure","passed":false}"#;
        let sas = |what: &str| format!(r#"{{"smart_status":{{"passed":true}},{what}}}"#);
        let cases = [
            (
                attribute(233, "Media_Wearout_Indicator", 1, 0, 0),
                Verdict::Slow,
                "sda is nearly worn out: Media_Wearout",
            ),
            (attribute(231, "SSD_Life_Left", 3, 0, 3), Verdict::Slow, "SSD_Life_Left 3 of 100"),
            (attribute(202, "Percent_Lifetime_Remain", 2, 1, 98), Verdict::Slow, "Percent_Lifetime_Remain 2 of 100"),
            (attribute(177, "Wear_Leveling_Count", 1, 0, 3000), Verdict::Slow, "Wear_Leveling_Count 1 of 100"),
            (attribute(231, "SSD_Life_Left", 10, 10, 0), Verdict::Slow, "at its end by attribute 231 SSD_Life_Left"),
            (now("Spin_Retry_Count"), Verdict::Slow, "attribute 10 Spin_Retry_Count: 90, limit 97"),
            (
                now("Spin_Retry_Count").replace(r#""prefailure":false"#, r#""prefailure":true"#),
                Verdict::Unacceptable,
                "Spin_Retry_Count",
            ),
            (attribute(187, "Reported_Uncorrect", 1, 0, 712), Verdict::Slow, "could not correct (SMART): 712"),
            (
                tested(failed),
                Verdict::Slow,
                "sda failed a test of itself, and has passed no long one since: Completed: read failure",
            ),
            (
                sas(r#""nvme_self_test_log":{"table":[{"self_test_result":{"value":7,"string":"failed segments"}}]}"#),
                Verdict::Slow,
                "failed segments",
            ),
            (
                sas(r#""scsi_self_test_0":{"result":{"value":5,"string":"Failed in first segment"}}"#),
                Verdict::Slow,
                "Failed in first segment",
            ),
            (
                sas(r#""scsi_self_test_0":{"code":{"value":1},"result":{"value":0,"string":"Completed"}},
                       "scsi_self_test_1":{"code":{"value":2},"result":{"value":7,"string":"Failed in segment 7"}}"#),
                Verdict::Slow,
                "Failed in segment 7",
            ),
            (sas(r#""scsi_percentage_used_endurance_indicator":90"#), Verdict::Slow, "nearly worn out (SMART): 90 %"),
            (sas(r#""scsi_percentage_used_endurance_indicator":100"#), Verdict::Unacceptable, "nearly worn out"),
            (sas(r#""scsi_pending_defects":{"count":5}"#), Verdict::Slow, "sda has 5 sectors that cannot be read"),
        ];
        for (answer, verdict, words) in cases {
            let profile = profile(&server(&answer));
            assert_eq!(profile.verdict, verdict, "{profile:?}");
            assert!(profile.summary.contains(words) && profile.hint.is_some(), "{words}: {profile:?}");
        }
        for well in [
            attribute(233, "Media_Wearout_Indicator", 97, 0, 0),
            // What SandForce keeps under these numbers, and a Maxtor.
            attribute(233, "SandForce_Internal", 0, 0, 1234),
            attribute(177, "Wear_Range_Delta", 0, 0, 3),
            attribute(177, "Wear_Leveling_Count", 0, 0, 44),
            attribute(202, "Data_Address_Mark_Errs", 5, 0, 0),
            attribute(231, "Temperature_Celsius", 10, 0, 31),
            attribute(190, "Airflow_Temperature_Cel", 44, 45, 56),
            attribute(187, "Reported_Uncorrect", 98, 0, 2),
            tested(r#"{"value":0,"string":"Completed without error","passed":true}"#),
            tested(failed).replacen(r#"{"value":1}"#, r#"{"value":2}"#, 1),
            sas(r#""scsi_percentage_used_endurance_indicator":12,"scsi_pending_defects":{"count":0}"#),
        ] {
            assert_eq!(profile(&server(&well)).verdict, Verdict::Ok, "{well}");
        }
    }

    #[test]
    fn smart_that_is_switched_off_is_told_with_how_to_switch_it_on() {
        for off in [
            r#"{"smart_support":{"available":true,"enabled":false}}"#,
            r#"{"smartctl":{"messages":[{"string":"SMART Disabled. Use option -s with argument on to enable it."}]}}"#,
        ] {
            let profile = profile(&server(off));
            assert_eq!(profile.verdict, Verdict::Slow, "{profile:?}");
            assert!(profile.summary.contains("SMART of sda is switched off"), "{profile:?}");
            assert_eq!(profile.hint.as_deref(), Some("smartctl --smart=on /dev/sda"));
        }
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
            (
                r#"{"smartctl":{"exit_status":2,"messages":[{"string":"Smartctl open device: /dev/sda failed: No such device"}]}}"#,
                Verdict::Unknown,
                "sda does not answer: Smartctl open device: /dev/sda failed: No such device",
            ),
        ];
        for (answer, verdict, words) in cases {
            let profile = profile(&server(answer));
            assert_eq!(profile.verdict, verdict, "{profile:?}");
            assert!(profile.summary.contains(words) && profile.hint.is_some(), "{profile:?}");
        }
    }
}

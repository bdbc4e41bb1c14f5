//! Machines for the tests of the plan.

use super::{
    super::{
        answers::Storage,
        machine::{BlockDevice, By, Holds, Use},
        objection::Objection,
    },
    SetFacts, SetPlan, Task, plan_set,
};
use atlas_model::{
    ext4, md,
    survey::{Member, Survey},
};

pub(super) fn disk(name: &str) -> BlockDevice {
    BlockDevice {
        named: format!("/dev/{name}").into(),
        path: format!("/dev/{name}").into(),
        disk: name.into(),
        size_bytes: 10 << 30,
        uses: vec![],
        holds: None,
        parts: vec![],
        raid_level: None,
    }
}

pub(super) fn holding(name: &str, kind: &str, label: Option<&str>) -> BlockDevice {
    let holds = Holds { kind: Some(kind.into()), label: label.map(Into::into) };
    BlockDevice { holds: Some(holds), ..disk(name) }
}

pub(super) fn used(name: &str, by: By) -> BlockDevice {
    BlockDevice { uses: vec![Use { of: name.into(), by }], ..disk(name) }
}

pub(super) fn disks(parts: Vec<BlockDevice>) -> (Storage, SetFacts) {
    let degraded = parts.len() == 1;
    let storage = Storage::Disks { disks: parts.iter().map(|part| part.named.clone()).collect(), degraded };
    (storage, SetFacts { parts, ..SetFacts::default() })
}

/// A healthy pair on vdb and vdc; `label`: that of its file system, if it has one.
pub(super) fn pair(label: Option<&str>) -> Survey {
    let member = |number: u32, device: &str| Member {
        device: device.into(),
        serial: None,
        md: md::testing::half(number),
        ext4: label.map(|label| ext4::testing::superblock(label, 5)),
    };
    Survey { members: vec![member(0, "/dev/vdb"), member(1, "/dev/vdc")], ..Survey::default() }
}

pub(super) fn whats(objections: &[Objection]) -> String {
    objections.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

pub(super) fn refused((storage, facts): (Storage, SetFacts)) -> String {
    whats(&plan_set(&storage, &facts).unwrap_err())
}

pub(super) fn tasks(plan: &SetPlan) -> Vec<&Task> {
    plan.items.iter().filter_map(|item| item.task.as_ref()).collect()
}

pub(super) fn hardware(device: BlockDevice) -> (Storage, SetFacts) {
    let storage = Storage::Device(device.named.clone());
    (storage, SetFacts { parts: vec![device.clone()], top: Some(device), ..SetFacts::default() })
}

//! What is written to the two file systems.

use super::{
    super::{answers::Answers, objection::Objection},
    Item, Task,
    identity::{IdentityFacts, SetSeen, plan_identity},
    list,
};
use atlas_model::MasterConfig;
use atlas_sid::BoundData;

/// What this server's own disk says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It was never set up.
    Nothing,
    /// This.
    Is(BoundData),
    /// A part is lost or damaged; it is written anew.
    Broken(String),
}

impl Bound {
    /// Why it cannot be read.
    pub fn why_broken(&self) -> Option<String> {
        match self {
            Bound::Broken(why) => Some(why.clone()),
            Bound::Nothing | Bound::Is(_) => None,
        }
    }
}

/// What the Unbound file system has of this Role.
#[derive(Clone, Debug, Default)]
pub struct SidFacts {
    /// Who it makes of a server.
    pub config: Option<MasterConfig>,
    /// Whether there is a directory of the Role, with Snapshots or path lists.
    pub has_role: bool,
}

/// The files as they are.
#[derive(Clone, Debug)]
pub struct DataFacts {
    /// The Bound Data.
    pub bound: Bound,
    /// The identity in place.
    pub identity: IdentityFacts,
    /// Whether `/etc/atlas/initialised` is there.
    pub marker: bool,
    /// The Sync and Identity Data; all missing while the set is not mounted.
    pub sid: SidFacts,
    /// Whether both file systems say how the set is made.
    pub has_record: bool,
    /// Whether a line of mdadm's configuration starts the set.
    pub mdadm_starts_it: bool,
    /// The installed kernels whose initramfs lacks atlas-boot, or the mark.
    pub kernels_without: Vec<String>,
    /// How many kernels are installed.
    pub kernels: usize,
}

/// Plans what is written to the two file systems; what contradicts the answers is an objection that says what is there.
pub fn plan_data(answers: &Answers, facts: &DataFacts) -> Result<Vec<Item>, Vec<Objection>> {
    let mut objections = contradictions(answers, facts);
    let identity = plan_identity(answers, &facts.identity).map_err(|more| objections.extend(more)).ok();
    let Some(identity) = identity.filter(|_| objections.is_empty()) else { return Err(objections) };
    let (config, env_version) = (&answers.config, answers.env_version);
    let (role, cluster) = (config.role(), config.cluster());
    let partners = list(config.partners().iter().map(|partner| format!("{}={}", partner.role, partner.host)));
    let bound_is_so = matches!(&facts.bound, Bound::Is(_));
    // What the set has of it is not known before it is mounted.
    let is_closed = facts.identity.set == SetSeen::NotMounted && facts.sid.config.is_none();
    let on_the_set =
        |is_so, what: String, task| if is_closed { Item::open(what) } else { Item::needed(is_so, what, task) };
    Ok(vec![
        on_the_set(
            facts.sid.config.is_some(),
            format!("MasterConfig: {role} of cluster {cluster}, partners {partners}"),
            Task::MasterConfig,
        ),
        on_the_set(
            facts.has_record,
            "SID_DATA/Set, /opt/atlas/Set: how the set is made, and that it is whole".into(),
            Task::SetRecord,
        ),
        on_the_set(facts.sid.has_role, format!("the path lists of {role}"), Task::PathLists),
        identity,
        Item::needed(
            bound_is_so,
            format!("/opt/atlas: EnvID {}, cluster {cluster}", env_version.number()),
            Task::BoundData,
        ),
        Item::needed(facts.marker, "/etc/atlas/initialised: the network waits for the role", Task::Marker),
        Item::needed(
            !facts.mdadm_starts_it,
            "mdadm's configuration: no line that starts the Unbound set",
            Task::MdadmConf,
        ),
        Item::needed(
            facts.kernels_without.is_empty(),
            match facts.kernels {
                1 => "atlas-boot in the initramfs".to_owned(),
                count => format!("atlas-boot in the initramfs of each of {count} kernels"),
            },
            Task::Initramfs,
        ),
    ])
}

fn contradictions(answers: &Answers, facts: &DataFacts) -> Vec<Objection> {
    let mut objections = Vec::new();
    let wanted = &answers.config;
    if let Bound::Is(bound) = &facts.bound {
        if &bound.cluster != wanted.cluster() {
            objections.push(
                Objection::new(format!(
                    "this server belongs to cluster '{}' already, not to '{}'",
                    bound.cluster,
                    wanted.cluster()
                ))
                .hint("if it is to join the other cluster, remove /opt/atlas/Cluster and /opt/atlas/EnvID first"),
            );
        }
        if bound.env_id != answers.env_version {
            objections.push(
                Objection::new(format!("this server is of {} already, not of {}", bound.env_id, answers.env_version))
                    .hint("after an upgrade of the environment, write its new number to /opt/atlas/EnvID"),
            );
        }
    }
    let Some(config) = &facts.sid.config else { return objections };
    if config.cluster() != wanted.cluster() {
        objections.push(
            Objection::new(format!(
                "the Unbound set belongs to cluster '{}', not to '{}'",
                config.cluster(),
                wanted.cluster()
            ))
            .hint("check that these are the right disks"),
        );
    }
    if config.role() != wanted.role() {
        objections.push(
            Objection::new(format!("the Unbound set makes a server {}, not {}", config.role(), wanted.role()))
                .hint("check that these are the right disks; each server has a set of its own"),
        );
    } else if config.partners() != wanted.partners() {
        let there = list(config.partners().iter().map(|partner| format!("{}={}", partner.role, partner.host)));
        objections.push(
            Objection::new(format!("MasterConfig has other partners: {there}"))
                .hint("to change them, edit /unbound/SID_DATA/MasterConfig"),
        );
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::answers::Storage, testing::whats},
        *,
    };
    use atlas_model::{EnvVersion, worn::Worn};

    fn answers() -> Answers {
        let config = "format=1\ncluster='bakery'\nrole='PRI'\n[[partner]]\nrole='SEC1'\nhost='a'\n";
        Answers {
            config: MasterConfig::parse(config.as_bytes()).unwrap(),
            env_version: EnvVersion::OLDEST,
            storage: Storage::Attached,
            ident_paths: vec![],
            sync_paths: vec![],
            own: None,
        }
    }

    fn data(config: Option<&str>, bound: Bound) -> DataFacts {
        let config = config.map(|text| MasterConfig::parse(text.as_bytes()).unwrap());
        let has_role = config.is_some();
        let sid = SidFacts { config, has_role };
        let (worn, set) = (Worn::OWN, SetSeen::NotMounted);
        let identity = IdentityFacts {
            worn,
            is_recorded: true,
            set,
            network: Default::default(),
            addresses: Default::default(),
            same_name: false,
            is_as_asked: false,
        };
        DataFacts {
            bound,
            identity,
            marker: true,
            sid,
            has_record: true,
            mdadm_starts_it: false,
            kernels_without: vec![],
            kernels: 1,
        }
    }

    #[test]
    fn what_contradicts_the_answers_is_told_as_it_is() {
        let bound = |env: u32, cluster: &str| {
            Bound::Is(BoundData { env_id: EnvVersion::try_from(env).unwrap(), cluster: cluster.parse().unwrap() })
        };
        let config = |cluster: &str, role: &str, partner: &str, host: &str| {
            format!("format=1\ncluster='{cluster}'\nrole='{role}'\n[[partner]]\nrole='{partner}'\nhost='{host}'\n")
        };
        let same = config("bakery", "PRI", "SEC1", "a");
        assert!(
            plan_data(&answers(), &data(Some(&same), bound(1, "bakery"))).unwrap().iter().all(|i| i.task.is_none())
        );
        for (there, bound, expected) in [
            (same.clone(), bound(1, "brewery"), "this server belongs to cluster 'brewery' already"),
            (same, bound(2, "bakery"), "this server is of Env2 already"),
            (config("brewery", "PRI", "SEC1", "a"), Bound::Nothing, "the Unbound set belongs to cluster 'brewery'"),
            (config("bakery", "SEC1", "PRI", "a"), Bound::Nothing, "the Unbound set makes a server SEC1, not PRI"),
            (config("bakery", "PRI", "SEC1", "b"), Bound::Nothing, "MasterConfig has other partners: SEC1=b"),
        ] {
            let objections = plan_data(&answers(), &data(Some(&there), bound)).unwrap_err();
            assert!(whats(&objections).contains(expected), "{objections:?}");
        }
    }

    #[test]
    fn a_kernel_without_atlas_boot_has_its_initramfs_made_anew() {
        let mut facts = data(None, Bound::Nothing);
        facts.kernels_without = vec!["/boot/initrd.img-6.1 lacks it".into()];
        let items = plan_data(&answers(), &facts).unwrap();
        assert!(items.iter().any(|item| item.task == Some(Task::Initramfs)));
    }
}

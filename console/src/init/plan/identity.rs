//! Whether the identity in place may be that of the Role: only before its first Snapshot, which brings one.

use super::{
    super::{
        answers::Answers,
        objection::Objection,
        own::{Answer, NewIdentity, NewNetwork, network::Network},
    },
    Item, Task, list,
};
use atlas_model::worn::{Foreign, RoleIdentity, Worn};

/// The Unbound set, as far as it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetSeen {
    /// It is there, and not mounted.
    NotMounted,
    /// It is to be made.
    ToBeMade,
    /// It is mounted.
    Mounted {
        /// The UUID of its file system, where that can be read.
        file_system: Option<String>,
        /// Whether there is a Snapshot of the Role.
        has_snapshot: bool,
    },
}

/// What is known of the identity in place.
#[derive(Clone, Debug)]
pub struct IdentityFacts {
    /// The record of the Bound disk. A machine that ATLAS never knew wears its own.
    pub worn: Worn,
    /// Whether the record is there.
    pub is_recorded: bool,
    /// The set.
    pub set: SetSeen,
    /// How the server gets its addresses.
    pub network: Network,
    /// What of the new identity is that of the one in place.
    pub same: Vec<String>,
}

/// Why the identity in place may not be the Role's; `None`: it may, or it is not known yet.
pub fn foreign<'f>(answers: &Answers, facts: &'f IdentityFacts) -> Option<Foreign<'f>> {
    let set = match &facts.set {
        SetSeen::NotMounted | SetSeen::Mounted { has_snapshot: true, .. } => return None,
        // None that there was.
        SetSeen::ToBeMade => Some(String::new()),
        SetSeen::Mounted { file_system, .. } => file_system.clone(),
    };
    let config = &answers.config;
    let wanted = RoleIdentity { role: config.role(), cluster: config.cluster().clone(), set, paths: vec![] };
    facts.worn.foreign_to(&wanted)
}

/// What is the matter, as a sentence.
pub fn in_words(foreign: &Foreign<'_>) -> String {
    match foreign {
        Foreign::Of(worn) => format!("this server wears the identity of {worn}: whoever has those disks has its name and addresses, too"),
        Foreign::Unknown => {
            "it is not known whose identity this server wears: its name and addresses may be those of a role whose disks are elsewhere".into()
        }
    }
}

/// Plans what becomes of the identity in place.
pub(super) fn plan_identity(answers: &Answers, facts: &IdentityFacts) -> Result<Item, Vec<Objection>> {
    let role = answers.config.role();
    let Some(foreign) = foreign(answers, facts) else {
        return Ok(match &facts.set {
            SetSeen::Mounted { has_snapshot: true, .. } => {
                Item::was_so(format!("the identity of {role}, in its Snapshot"))
            }
            _ if !facts.is_recorded && facts.worn == Worn::OWN => Item::todo(
                "/opt/atlas/Identity: name, addresses and host keys are this server's own",
                Task::KeepIdentity,
            ),
            _ => Item::was_so("name, addresses and host keys that no other server has"),
        });
    };
    let config = &answers.config;
    let is_of_this_role = matches!(foreign, Foreign::Of(worn) if (worn.role, &worn.cluster) == (role, config.cluster()))
        || foreign == Foreign::Unknown;
    match &answers.own {
        Some(Answer::Keep) if is_of_this_role => Ok(Item::todo(
            "/opt/atlas/Identity: name, addresses and host keys stay, and no other server has them",
            Task::KeepIdentity,
        )),
        Some(Answer::New(new)) => plan_new(new, facts, is_of_this_role),
        _ => Err(vec![objection(&foreign, is_of_this_role)]),
    }
}

fn objection(foreign: &Foreign<'_>, is_of_this_role: bool) -> Objection {
    let objection = Objection::new(in_words(foreign))
        .hint("give it its own: --hostname NAME --address ADDRESS/LENGTH; ssh host keys are made")
        .hint("where ATLAS cannot write the addresses: configure them, then --hostname NAME --addresses-are-own");
    if !is_of_this_role {
        return objection;
    }
    objection.hint("if the disks with it are lost, or no other server ever had it: --keep-identity")
}

fn plan_new(new: &NewIdentity, facts: &IdentityFacts, may_be_the_same: bool) -> Result<Item, Vec<Objection>> {
    let mut objections: Vec<Objection> =
        facts.same.iter().filter(|_| !may_be_the_same).map(|what| Objection::new(what.as_str())).collect();
    let name = new.hostname.as_str();
    let what = match &new.network {
        NewNetwork::Configured => {
            format!(
                "the name {name} and new ssh host keys; the addresses stay as {}",
                list(facts.network.files.iter().map(|file| format!("/{}", file.display())))
            )
        }
        NewNetwork::Write { addresses, gateways } => match facts.network.files_for(addresses, gateways) {
            Ok(files) => {
                let files = list(files.iter().map(|file| format!("/{}", file.path.display())));
                format!("the name {name}, {} in {files}, and new ssh host keys", list(addresses))
            }
            Err(why) => {
                objections.push(Objection::new(why));
                String::new()
            }
        },
    };
    if objections.is_empty() { Ok(Item::todo(what, Task::NewIdentity)) } else { Err(objections) }
}

#[cfg(test)]
mod tests {
    use super::{super::super::answers::Storage, *};
    use atlas_model::{EnvVersion, MasterConfig};

    fn identity(role: &str, set: &str) -> RoleIdentity {
        let (role, cluster) = (role.parse().unwrap(), "bakery".parse().unwrap());
        RoleIdentity { role, cluster, set: Some(set.into()), paths: vec![] }
    }

    fn answers(own: Option<Answer>) -> Answers {
        let config = "format=1\ncluster='bakery'\nrole='SEC1'\n[[partner]]\nrole='PRI'\nhost='a'\n";
        Answers {
            config: MasterConfig::parse(config.as_bytes()).unwrap(),
            env_version: EnvVersion::OLDEST,
            storage: Storage::Attached,
            ident_paths: vec![],
            sync_paths: vec![],
            own,
        }
    }

    fn facts(worn: Worn, set: SetSeen) -> IdentityFacts {
        let network = Network { interfaces: vec!["eth0".into()], ..Network::default() };
        IdentityFacts { worn, is_recorded: true, set, network, same: vec![] }
    }

    fn new() -> Option<Answer> {
        Some(Answer::New(NewIdentity { hostname: "sec1".parse().unwrap(), network: NewNetwork::Configured }))
    }

    fn mounted(file_system: &str, has_snapshot: bool) -> SetSeen {
        SetSeen::Mounted { file_system: Some(file_system.into()), has_snapshot }
    }

    /// What is planned: the task, nothing, or an objection.
    fn planned(own: Option<Answer>, facts: &IdentityFacts) -> Result<Option<Task>, String> {
        let item = plan_identity(&answers(own), facts);
        item.map(|item| item.task).map_err(|objections| objections[0].what.clone())
    }

    #[test]
    fn a_repaired_pri_becomes_a_secondary_only_with_an_identity_of_its_own() {
        let pri = Worn::of(identity("PRI", "u-1"));
        for set in [SetSeen::ToBeMade, mounted("u-2", false)] {
            let facts = facts(pri.clone(), set);
            assert!(planned(None, &facts).unwrap_err().contains("the identity of PRI of cluster bakery"));
            assert!(planned(Some(Answer::Keep), &facts).is_err(), "PRI's is not its own");
            assert_eq!(planned(new(), &facts), Ok(Some(Task::NewIdentity)));
        }
    }

    #[test]
    fn with_a_snapshot_or_before_the_set_can_be_seen_nothing_is_asked() {
        for set in [mounted("u-2", true), SetSeen::NotMounted] {
            for worn in [Worn::UNKNOWN, Worn::of(identity("PRI", "u-1"))] {
                assert_eq!(planned(None, &facts(worn, set.clone())), Ok(None));
            }
        }
    }

    #[test]
    fn an_identity_that_is_not_known_or_of_lost_disks_of_this_role_may_be_kept() {
        for worn in [Worn::UNKNOWN, Worn::of(identity("SEC1", "u-1"))] {
            let facts = facts(worn, SetSeen::ToBeMade);
            assert!(planned(None, &facts).is_err());
            assert_eq!(planned(Some(Answer::Keep), &facts), Ok(Some(Task::KeepIdentity)));
        }
        assert_eq!(planned(None, &facts(Worn::of(identity("SEC1", "u-1")), mounted("u-1", false))), Ok(None));
    }

    #[test]
    fn a_machine_that_is_new_to_atlas_wears_its_own_and_it_is_written_down() {
        let new = IdentityFacts { is_recorded: false, ..facts(Worn::OWN, SetSeen::ToBeMade) };
        assert_eq!(planned(None, &new), Ok(Some(Task::KeepIdentity)));
        assert_eq!(planned(None, &facts(Worn::OWN, SetSeen::ToBeMade)), Ok(None));
    }

    #[test]
    fn what_is_given_may_not_be_what_the_other_role_has() {
        let same = vec!["the name pri is that of the identity in place".to_owned()];
        let facts = IdentityFacts { same, ..facts(Worn::of(identity("PRI", "u-1")), SetSeen::ToBeMade) };
        assert!(planned(new(), &facts).unwrap_err().contains("the name pri"));
    }
}

//! Whether the identity in place may be that of the Role: only before its first Snapshot, which brings one.

use super::{
    super::{
        answers::Answers,
        objection::Objection,
        own::{
            Answer, NewIdentity, NewNetwork,
            addresses::{Addresses, Known, looked_at, shared},
            network::Network,
        },
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
    /// The addresses of this server and of others.
    pub addresses: Addresses,
    /// Whether the new name is that of the identity in place.
    pub same_name: bool,
    /// Whether name and addresses are those that were asked for.
    pub is_as_asked: bool,
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
    if let SetSeen::Mounted { has_snapshot: true, .. } = &facts.set {
        return with_snapshot(answers, facts).map_err(Into::into);
    }
    let (role, cluster) = (answers.config.role(), answers.config.cluster());
    let foreign = foreign(answers, facts);
    let may_be_the_same = match &foreign {
        Some(Foreign::Of(worn)) => (worn.role, &worn.cluster) == (role, cluster),
        Some(Foreign::Unknown) | None => true,
    };
    let mut objections = of_others(answers, facts, may_be_the_same);
    let item = match (&answers.own, &foreign) {
        (Some(Answer::New(new)), _) => plan_new(new, facts, foreign.is_some()),
        (Some(Answer::Keep), Some(_)) if may_be_the_same => Ok(Item::todo(
            "/opt/atlas/Identity: name, addresses and host keys stay, and no other server has them",
            Task::KeepIdentity,
        )),
        (_, Some(foreign)) => Err(objection(foreign, may_be_the_same)),
        (_, None) => Ok(as_it_is(facts)),
    };
    match item {
        Ok(item) if objections.is_empty() => Ok(item),
        Ok(_) => Err(objections),
        Err(objection) => {
            objections.push(objection);
            Err(objections)
        }
    }
}

fn is_unrecorded(facts: &IdentityFacts) -> bool {
    !facts.is_recorded && facts.worn == Worn::OWN
}

/// The next boot installs another identity. Until then this machine must not be taken for one that has it already.
fn with_snapshot(answers: &Answers, facts: &IdentityFacts) -> Result<Item, Objection> {
    let role = answers.config.role();
    if answers.own.is_some() {
        return Err(Objection::new(format!(
            "the set has a Snapshot of {role}: the next boot installs the identity that it holds, and what is said of name and addresses would be lost"
        ))
        .hint("leave out --hostname, --address, --gateway, --addresses-are-own and --keep-identity")
        .hint(format!("to change the identity of {role}: boot, change it there, and run 'ssSync create'")));
    }
    Ok(if is_unrecorded(facts) {
        Item::todo(
            format!("/opt/atlas/Identity: this server wears its own identity until a boot installs that of {role}"),
            Task::KeepIdentity,
        )
    } else {
        Item::was_so(format!("the identity of {role}, in its Snapshot"))
    })
}

fn as_it_is(facts: &IdentityFacts) -> Item {
    if is_unrecorded(facts) {
        return Item::todo(
            "/opt/atlas/Identity: name, addresses and host keys are this server's own",
            Task::KeepIdentity,
        );
    }
    match &facts.set {
        SetSeen::NotMounted => Item::open("whose name, addresses and host keys this server will have"),
        _ => Item::was_so("name, addresses and host keys that no other server has"),
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

/// What of the identity that this server will have is another server's.
fn of_others(answers: &Answers, facts: &IdentityFacts, may_be_the_same: bool) -> Vec<Objection> {
    let addresses = &facts.addresses;
    let given: Vec<Known>;
    let (mine, are_given) = match &answers.own {
        Some(Answer::New(NewIdentity { network: NewNetwork::Write { addresses, .. }, .. })) => {
            given = addresses.iter().map(|address| (address.ip, format!("--address {address}"))).collect();
            (&given, true)
        }
        // A Snapshot on the set may take their place.
        _ if facts.set == SetSeen::NotMounted => return vec![],
        _ => (&addresses.in_place, false),
    };
    let mut objections = Vec::new();
    if let (Some(Answer::New(new)), true, false) = (&answers.own, facts.same_name, may_be_the_same) {
        let what = format!("the name {} is that of the identity in place", new.hostname.as_str());
        objections.push(Objection::new(what).hint("give this server another name"));
    }
    let place = |at: &str| if are_given { at.to_owned() } else { format!("/{at} gives this server") };
    for ((address, at), (_, whose)) in shared(mine, &addresses.partners) {
        let at = place(at);
        let what = if are_given {
            format!("{at}: that is the address of {whose}")
        } else {
            format!("{at} {address}, the address of {whose}")
        };
        objections.push(for_another(Objection::new(what), are_given).hint("or correct --partner, if that is wrong"));
    }
    if !may_be_the_same {
        for ((address, at), (_, how)) in shared(mine, &addresses.worn) {
            let at = if are_given { String::new() } else { format!("{}: ", place(at)) };
            let what =
                format!("{at}{address} is an address of the identity in place, which stays with its disks ({how})");
            objections.push(for_another(Objection::new(what), are_given));
        }
    }
    objections
}

fn for_another(objection: Objection, are_given: bool) -> Objection {
    objection.hint(if are_given {
        "give this server an address that no other one has"
    } else {
        "give this server another address in that file, or have it written: --hostname NAME --address ADDRESS/LENGTH"
    })
}

/// A name and addresses of its own. `is_foreign`: instead of those of others, who have its host keys, too.
fn plan_new(new: &NewIdentity, facts: &IdentityFacts, is_foreign: bool) -> Result<Item, Objection> {
    let (name, keys) =
        (new.hostname.as_str(), if is_foreign { "new ssh host keys" } else { "the ssh host keys it has" });
    let what = match &new.network {
        NewNetwork::Configured => {
            let stay = match facts.addresses.in_place.as_slice() {
                [] => looked_at(&facts.network, &facts.addresses),
                known => {
                    let known = list(known.iter().map(|(address, file)| format!("{address} (/{file})")));
                    format!("the addresses stay: {known}")
                }
            };
            format!("the name {name} and {keys}; {stay}")
        }
        NewNetwork::Write { addresses, gateways } => {
            let files = facts.network.files_for(addresses, gateways).map_err(Objection::new)?;
            let files = list(files.iter().map(|file| format!("/{}", file.path.display())));
            format!("the name {name}, {} in {files}, and {keys}", list(addresses))
        }
    };
    Ok(match (is_foreign || !facts.is_as_asked, facts.is_recorded) {
        (false, true) => Item::was_so(what),
        _ => Item::todo(what, Task::NewIdentity { new_keys: is_foreign }),
    })
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
        IdentityFacts {
            worn,
            is_recorded: true,
            set,
            network,
            addresses: Addresses::default(),
            same_name: false,
            is_as_asked: false,
        }
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
            assert_eq!(planned(new(), &facts), Ok(Some(Task::NewIdentity { new_keys: true })));
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
        let facts = IdentityFacts { same_name: true, ..facts(Worn::of(identity("PRI", "u-1")), SetSeen::ToBeMade) };
        assert!(planned(new(), &facts).unwrap_err().contains("the name sec1 is that of the identity in place"));
    }

    fn addresses(in_place: &str, partners: &str, worn: &str) -> Addresses {
        let known = |ip: &str, at: &str| {
            ip.split_whitespace().map(|ip| (ip.parse().unwrap(), at.to_owned())).collect::<Vec<Known>>()
        };
        Addresses {
            in_place: known(in_place, "etc/network/interfaces"),
            partners: known(partners, "PRI (pri)"),
            worn: known(worn, "/etc/network/interfaces is as that identity has it"),
            unknown: vec![],
        }
    }

    /// As [`new`], with this address.
    fn given(address: &str) -> Option<Answer> {
        let network = NewNetwork::Write { addresses: vec![address.parse().unwrap()], gateways: vec![] };
        Some(Answer::New(NewIdentity { hostname: "sec1".parse().unwrap(), network }))
    }

    #[test]
    fn no_server_gets_the_address_of_a_partner_or_of_the_identity_that_it_gives_up() {
        let pri = Worn::of(identity("PRI", "u-1"));
        let with = |worn: &Worn, addresses| IdentityFacts { addresses, ..facts(worn.clone(), SetSeen::ToBeMade) };
        let of_partner = addresses("192.168.77.1 10.0.0.1", "192.168.77.1", "");
        for (own, worn) in [(new(), &pri), (None, &Worn::OWN), (Some(Answer::Keep), &Worn::UNKNOWN)] {
            let why = planned(own, &with(worn, of_partner.clone())).unwrap_err();
            assert_eq!(why, "/etc/network/interfaces gives this server 192.168.77.1, the address of PRI (pri)");
        }
        let unresolved = with(&pri, addresses("192.168.77.1", "", "192.168.77.1"));
        assert!(
            planned(new(), &unresolved).unwrap_err().contains("/etc/network/interfaces is as that identity has it")
        );
        let changed = with(&pri, addresses("192.168.77.2", "192.168.77.1", ""));
        assert_eq!(planned(new(), &changed), Ok(Some(Task::NewIdentity { new_keys: true })));
        for addresses in [addresses("", "192.168.77.1", ""), addresses("", "", "192.168.77.1")] {
            let mut facts = with(&pri, addresses);
            facts.network.manager = Some(super::super::super::own::network::Manager::Networkd);
            assert!(planned(given("192.168.77.1/24"), &facts).is_err());
            assert!(planned(given("192.168.77.2/24"), &facts).is_ok());
        }
    }

    #[test]
    fn where_no_address_can_be_read_the_plan_says_what_was_looked_at() {
        let mut facts = facts(Worn::of(identity("PRI", "u-1")), SetSeen::ToBeMade);
        facts.network.files = vec!["etc/network/interfaces".into()];
        facts.addresses.unknown = vec!["'pri', the host of PRI, has no address here".into()];
        let item = plan_identity(&answers(new()), &facts).unwrap();
        for part in ["no address could be read (/etc/network/interfaces; 'pri', the host", "none was compared"] {
            assert!(item.what.contains(part), "{}", item.what);
        }
    }

    #[test]
    fn a_machine_that_takes_a_set_with_a_snapshot_notes_that_it_does_not_wear_that_identity_yet() {
        let new_here = IdentityFacts { is_recorded: false, ..facts(Worn::OWN, mounted("u-1", true)) };
        assert_eq!(planned(None, &new_here), Ok(Some(Task::KeepIdentity)));
        assert_eq!(planned(None, &facts(Worn::OWN, mounted("u-1", true))), Ok(None));
    }

    #[test]
    fn what_is_asked_for_is_done_on_a_fresh_server_or_refused_with_the_reason() {
        let fresh = IdentityFacts { is_recorded: false, ..facts(Worn::OWN, SetSeen::ToBeMade) };
        assert_eq!(planned(new(), &fresh), Ok(Some(Task::NewIdentity { new_keys: false })));
        let again = IdentityFacts { is_recorded: true, is_as_asked: true, ..fresh };
        assert_eq!(planned(new(), &again), Ok(None));
        for own in [new(), Some(Answer::Keep)] {
            assert!(
                planned(own, &facts(Worn::OWN, mounted("u-1", true))).unwrap_err().contains("has a Snapshot of SEC1")
            );
        }
    }
}

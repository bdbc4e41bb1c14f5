//! Role verification: both ends compare who they are before anything is written [320-324].

use super::{Hello, PROTOCOL, Wears, wears};
use crate::{report::now, server::Server};
use atlas_model::Role;
use atlas_sid::{
    SidError,
    bond::{self, Bond, Fit},
};

/// What this server says of itself to `to`.
pub(crate) fn introduce(server: &Server, to: Role) -> Result<Hello, SidError> {
    Ok(Hello {
        protocol: PROTOCOL,
        program: format!("ssSync v{}", env!("CARGO_PKG_VERSION")),
        cluster: server.config.cluster().to_string(),
        role: server.role(),
        partners: server.config.partners().to_vec(),
        to,
        env_version: server.env_version(),
        bond: Bond::read(&server.sid, to)?,
        clock: now(),
        wears: Some(Wears::of(&server.root)),
    })
}

/// On a secondary: whether who calls is its PRI. `Err` says why not.
pub(crate) fn check_pri(own: &Hello, pri: &Hello) -> Result<(), String> {
    check_common(own, pri)?;
    if own.role == Role::Pri {
        return Err(match pri.role {
            Role::Pri => "two servers hold Role PRI: the one that calls and the one that answers".into(),
            other => format!("this server is PRI and takes nothing from {other}"),
        });
    }
    if pri.role != Role::Pri {
        return Err(format!("the caller is {}; only PRI may call {}", pri.role, own.role));
    }
    check_bond(&pri.bond, &own.bond)
}

/// On PRI: whether who answers is the partner that was called. `Err` says why not.
pub(crate) fn check_partner(own: &Hello, partner: &Hello) -> Result<(), String> {
    check_common(own, partner)?;
    if partner.role == Role::Pri {
        return Err("two servers hold Role PRI: this one and the one that answers".into());
    }
    check_bond(&own.bond, &partner.bond)
}

fn check_common(own: &Hello, other: &Hello) -> Result<(), String> {
    if other.protocol != own.protocol {
        return Err(format!(
            "{} speaks protocol {}, {} speaks {}; set the same version of ssSync on both",
            other.program, other.protocol, own.program, own.protocol
        ));
    }
    if other.cluster != own.cluster {
        return Err(format!(
            "the disks of the caller and of the called belong to clusters '{}' and '{}'",
            other.cluster, own.cluster
        ));
    }
    if other.role == own.role {
        return Err(format!("two servers hold Role {}", own.role));
    }
    if other.to != own.role {
        return Err(format!("{} takes this server for {}, but it is {}", other.role, other.to, own.role));
    }
    if own.to != other.role {
        return Err(format!("{} was called, and {} answered", own.to, other.role));
    }
    let lists = |hello: &Hello, role: Role| hello.partners.iter().any(|partner| partner.role == role);
    if !lists(own, other.role) || !lists(other, own.role) {
        return Err(format!("{} and {} do not list each other as partners in MasterConfig", own.role, other.role));
    }
    if let (Some(own_wears), Some(other_wears)) = (&own.wears, &other.wears) {
        wears::compare((own.role, own_wears), (other.role, other_wears))?;
    }
    Ok(())
}

fn check_bond(pri: &Bond, sec: &Bond) -> Result<(), String> {
    match bond::fit(pri, sec) {
        Fit::Known | Fit::New => Ok(()),
        Fit::PriDiffers(why) | Fit::SecDiffers(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_model::{EnvVersion, Partner};
    use atlas_sid::bond::Knot;

    fn hello(role: Role, to: Role) -> Hello {
        Hello {
            protocol: PROTOCOL,
            program: "ssSync v1".into(),
            cluster: "bakery".into(),
            role,
            partners: vec![Partner { role: to, host: "h".into() }],
            to,
            env_version: EnvVersion::OLDEST,
            bond: Bond::default(),
            clock: 0,
            wears: None,
        }
    }

    #[test]
    fn an_identity_that_two_roles_wear_is_refused_at_both_ends_and_one_of_which_nothing_is_said_is_not() {
        let wears = |address: &str| {
            let addresses = [address.parse().unwrap()].into();
            Some(Wears { addresses, ..Wears::default() })
        };
        let pri = Hello { wears: wears("10.0.0.1"), ..hello(Role::Pri, Role::Sec(1)) };
        for (said, is_refused) in [(wears("10.0.0.1"), true), (wears("10.0.0.2"), false), (None, false)] {
            let sec = Hello { wears: said, ..hello(Role::Sec(1), Role::Pri) };
            assert_eq!(check_pri(&sec, &pri).is_err(), is_refused);
            assert_eq!(check_partner(&pri, &sec), check_pri(&sec, &pri));
        }
    }

    #[test]
    fn a_partner_of_before_reads_what_is_said_and_what_it_says_is_read() {
        let pri = Hello { wears: Some(Wears::default()), ..hello(Role::Pri, Role::Sec(1)) };
        let mut said = serde_json::to_value(&pri).unwrap();
        // As a program of before says it; and one to come may say more.
        said.as_object_mut().unwrap().remove("wears");
        said["new"] = 1.into();
        let read: Hello = serde_json::from_value(said).unwrap();
        assert_eq!(read, Hello { wears: None, ..pri.clone() });
        let mut said = serde_json::to_value(&pri).unwrap();
        said["wears"]["new"] = 1.into();
        assert_eq!(serde_json::from_value::<Hello>(said).unwrap(), pri);
    }

    #[test]
    fn partners_that_know_each_other_agree() {
        let (pri, sec) = (hello(Role::Pri, Role::Sec(1)), hello(Role::Sec(1), Role::Pri));
        assert_eq!(check_pri(&sec, &pri), Ok(()));
        assert_eq!(check_partner(&pri, &sec), Ok(()));
    }

    #[test]
    fn each_disagreement_is_named_at_both_ends() {
        let (pri, sec) = (hello(Role::Pri, Role::Sec(1)), hello(Role::Sec(1), Role::Pri));
        let cases: [(&str, Hello, Hello); 5] = [
            ("cluster", pri.clone(), Hello { cluster: "brewery".into(), ..sec.clone() }),
            ("protocol", pri.clone(), Hello { protocol: 2, ..sec.clone() }),
            ("two servers hold Role PRI", pri.clone(), hello(Role::Pri, Role::Sec(1))),
            ("SEC2", pri.clone(), hello(Role::Sec(2), Role::Pri)),
            ("do not list each other", pri, Hello { partners: vec![], ..sec }),
        ];
        for (what, pri, sec) in cases {
            let (at_pri, at_sec) = (check_partner(&pri, &sec), check_pri(&sec, &pri));
            for said in [at_pri, at_sec] {
                assert!(said.as_ref().is_err_and(|why| why.contains(what)), "{what}: {said:?}");
            }
        }
        let (sec1, sec2) = (hello(Role::Sec(1), Role::Sec(2)), hello(Role::Sec(2), Role::Sec(1)));
        assert!(check_pri(&sec2, &sec1).is_err_and(|why| why.contains("only PRI may call")));
    }

    #[test]
    fn an_old_copy_of_pri_is_refused_at_both_ends() {
        let old = Bond { last: Knot::after(None).ok(), next: None };
        let new = Bond { last: old.last.as_ref().and_then(|last| Knot::after(Some(last)).ok()), next: None };
        let pri = Hello { bond: old, ..hello(Role::Pri, Role::Sec(1)) };
        let sec = Hello { bond: new, ..hello(Role::Sec(1), Role::Pri) };
        assert!(check_pri(&sec, &pri).is_err() && check_partner(&pri, &sec).is_err());
    }
}

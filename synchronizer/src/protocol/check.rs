//! Role verification: both ends compare who they are before anything is written [320-324].

use super::{Hello, PROTOCOL};
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
        }
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

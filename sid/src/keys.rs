//! The keys by which partners know each other. They live with the Role, so that they move with it.
//!
//! ```text
//! SID_DATA/keys/                 0700
//!   id_ed25519  id_ed25519.pub   PRI's own: what it calls secondaries with
//!   known_hosts                  on PRI: the host key of each secondary, by Role
//!   authorized_keys              on SECn: PRI's key, for one command and nothing else; sshd is told to look here
//! ```

use crate::layout::{SidData, SidError};
use atlas_model::Role;

/// The directory, below SID_DATA.
pub const KEYS: &str = "keys";
/// PRI's own key.
pub const OWN: &str = "id_ed25519";
/// Its public half.
pub const OWN_PUBLIC: &str = "id_ed25519.pub";
/// Whom PRI takes for its secondaries.
pub const KNOWN_HOSTS: &str = "known_hosts";
/// Whom a secondary takes for PRI.
pub const AUTHORIZED_KEYS: &str = "authorized_keys";
/// The largest of these files, in bytes.
pub const MAX_SIZE: usize = 256 << 10;

/// The file in which a server of this Role keeps its partners' keys.
pub fn of_partners(role: Role) -> &'static str {
    if role == Role::Pri { KNOWN_HOSTS } else { AUTHORIZED_KEYS }
}

/// Whose line of this file it is: the first word in one, the last in the other.
pub fn role_of(name: &str, line: &str) -> Option<Role> {
    let mut words = line.split_whitespace();
    let word = if name == KNOWN_HOSTS { words.next() } else { words.next_back() };
    word?.parse().ok()
}

/// The partners whose keys lie on the disks of a server of this Role.
pub fn trusted(sid: &SidData, role: Role) -> Result<Vec<Role>, SidError> {
    let name = of_partners(role);
    let content = match sid.dir().dir(KEYS) {
        Ok(keys) => keys.read_if_there(name, MAX_SIZE)?.unwrap_or_default(),
        Err(error) if error.is_not_found() => vec![],
        Err(error) => return Err(error.into()),
    };
    Ok(String::from_utf8_lossy(&content).lines().filter_map(|line| role_of(name, line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use atlas_host::tree::Dir;

    #[test]
    fn each_file_tells_whose_keys_it_holds() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join("SID_DATA")).unwrap();
        let sid = SidData::open(&Dir::open_root(tmp.path()).unwrap()).unwrap();
        assert_eq!(trusted(&sid, Role::Pri).unwrap(), vec![]);
        std::fs::create_dir_all(tmp.path().join("SID_DATA/keys")).unwrap();
        assert_eq!(trusted(&sid, Role::Pri).unwrap(), vec![]);
        let write = |name: &str, text: &str| std::fs::write(tmp.path().join("SID_DATA/keys").join(name), text).unwrap();
        write(KNOWN_HOSTS, "SEC1 ssh-ed25519 AAAA\n# nobody\nSEC2 ssh-ed25519 AAAA\n");
        write(AUTHORIZED_KEYS, "restrict,command=\"x y\" ssh-ed25519 AAAA PRI\n");
        assert_eq!(trusted(&sid, Role::Pri).unwrap(), [Role::Sec(1), Role::Sec(2)]);
        assert_eq!(trusted(&sid, Role::Sec(1)).unwrap(), [Role::Pri]);
    }
}

//! Who made a package: signatures in minisign's format, and the keys that this server trusts.
//!
//! Trusted are the public keys in `/etc/atlas/trusted-keys.d/*.pub`, as `minisign -G` writes them. A signature that is there and does
//! not hold is never passed over: `--allow-unsigned` speaks of packages without a signature, and of keys that are not known here.

use atlas_host::{FileError, tree::Dir};
use minisign::{PublicKey, PublicKeyBox, SecretKeyBox, SignatureBox};
use std::io::Cursor;

/// Where the trusted keys lie, below the root directory.
pub const TRUSTED_KEYS: &str = "etc/atlas/trusted-keys.d";
const MAX_KEYS: usize = 1000;
const MAX_KEY_SIZE: usize = 4096;

/// The keys that a server trusts, and whether it insists.
#[derive(Debug, Default)]
pub struct Trust {
    keys: Vec<(String, PublicKey)>,
    allow_unsigned: bool,
}

/// Why a signature, or its absence, is no good.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadSignature {
    /// There is none.
    #[error("the package is not signed")]
    Unsigned,
    /// It is not of the format.
    #[error("the signature of the package cannot be read")]
    Unreadable,
    /// The key is not among those trusted here.
    #[error("the package is signed with the key {0}, which is not among those in /{TRUSTED_KEYS}")]
    UnknownKey(String),
    /// It is no signature of this record by that key.
    #[error("the signature of the package does not hold: it is not what the owner of the key '{0}' signed")]
    Wrong(String),
}

impl BadSignature {
    /// What a person can try.
    pub fn hint(&self) -> &'static str {
        match self {
            BadSignature::Unsigned => "get a signed one, or, where you know where it comes from, give --allow-unsigned",
            BadSignature::UnknownKey(_) => {
                "put the maker's .pub file into /etc/atlas/trusted-keys.d, or, where you know where it comes from, give --allow-unsigned"
            }
            BadSignature::Unreadable | BadSignature::Wrong(_) => {
                "do not install it; get the package from its maker again"
            }
        }
    }
}

impl Trust {
    /// The keys of the server whose root directory this is. A file there that holds no key is an error: it would be missed.
    pub fn of(root: &Dir, allow_unsigned: bool) -> Result<Trust, FileError> {
        let dir = match root.dir(TRUSTED_KEYS) {
            Err(error) if error.is_not_found() => return Ok(Trust { keys: vec![], allow_unsigned }),
            other => other?,
        };
        let mut keys = Vec::new();
        for name in dir.names(MAX_KEYS)? {
            let Some(shown) = name.to_str().filter(|name| name.ends_with(".pub")) else { continue };
            let content = dir.read(&name, MAX_KEY_SIZE)?;
            let key = std::str::from_utf8(&content)
                .ok()
                .and_then(|text| PublicKeyBox::from_string(text).ok())
                .and_then(|boxed| boxed.into_public_key().ok());
            let no_key =
                || FileError::on("use the key", dir.show(&name))(std::io::Error::other("it is no minisign public key"));
            keys.push((shown.to_owned(), key.ok_or_else(no_key)?));
        }
        Ok(Trust { keys, allow_unsigned })
    }

    /// Trusts whatever has no signature: for a caller whose packages were checked another way.
    pub fn anything() -> Trust {
        Trust { keys: vec![], allow_unsigned: true }
    }

    /// Checks the signature of a record; gives the name of the key, or `None` where it goes without.
    pub fn check(&self, record: &[u8], signature: Option<&[u8]>) -> Result<Option<String>, BadSignature> {
        let Some(signature) = signature else {
            return if self.allow_unsigned { Ok(None) } else { Err(BadSignature::Unsigned) };
        };
        let text = std::str::from_utf8(signature).map_err(|_| BadSignature::Unreadable)?;
        let signature = SignatureBox::from_string(text).map_err(|_| BadSignature::Unreadable)?;
        match self.keys.iter().find(|(_, key)| key.keynum() == signature.keynum()) {
            None if self.allow_unsigned => Ok(None),
            None => Err(BadSignature::UnknownKey(key_id(signature.keynum()))),
            Some((name, key)) => minisign::verify(key, &signature, Cursor::new(record), true, false, false)
                .map(|()| Some(name.clone()))
                .map_err(|_| BadSignature::Wrong(name.clone())),
        }
    }
}

/// A key's number as minisign shows it.
fn key_id(number: &[u8]) -> String {
    number.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// Signs a record with the text of a secret key file, as `minisign -G` writes it; gives the text of the signature.
///
/// # Errors
/// A text that says why the key is no good.
pub fn sign(record: &[u8], secret_key: &str, password: Option<String>) -> Result<String, String> {
    let failed = |error: minisign::PError| error.to_string();
    let boxed = || SecretKeyBox::from_string(secret_key).map_err(failed);
    let key = match password {
        Some(password) => boxed()?.into_secret_key(Some(password)),
        None => boxed()?.into_unencrypted_secret_key(),
    };
    let key = key.map_err(failed)?;
    let signature =
        minisign::sign(None, &key, Cursor::new(record), Some("ATLAS module"), Some("signature of module.toml"));
    signature.map(|signature| signature.into_string()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minisign::KeyPair;

    fn server_trusting(pair: &KeyPair) -> (tempfile::TempDir, Dir) {
        let tmp = tempfile::tempdir().unwrap();
        let keys = tmp.path().join(TRUSTED_KEYS);
        std::fs::create_dir_all(&keys).unwrap();
        std::fs::write(keys.join("maker.pub"), pair.pk.to_box().unwrap().to_string()).unwrap();
        let dir = Dir::open_root(tmp.path()).unwrap();
        (tmp, dir)
    }

    fn signed(pair: &KeyPair, record: &[u8]) -> String {
        sign(record, &pair.sk.to_box(None).unwrap().to_string(), None).unwrap()
    }

    #[test]
    fn a_signature_holds_for_its_record_and_its_key_alone() {
        let (maker, other) =
            (KeyPair::generate_unencrypted_keypair().unwrap(), KeyPair::generate_unencrypted_keypair().unwrap());
        let (_tmp, root) = server_trusting(&maker);
        let strict = Trust::of(&root, false).unwrap();
        let good = signed(&maker, b"record");
        assert_eq!(strict.check(b"record", Some(good.as_bytes())), Ok(Some("maker.pub".into())));
        assert_eq!(strict.check(b"another", Some(good.as_bytes())), Err(BadSignature::Wrong("maker.pub".into())));
        assert!(matches!(
            strict.check(b"record", Some(signed(&other, b"record").as_bytes())),
            Err(BadSignature::UnknownKey(_))
        ));
        assert_eq!(strict.check(b"record", None), Err(BadSignature::Unsigned));
        assert_eq!(strict.check(b"record", Some(b"junk")), Err(BadSignature::Unreadable));
    }

    #[test]
    fn a_false_signature_is_refused_even_where_none_is_needed() {
        let maker = KeyPair::generate_unencrypted_keypair().unwrap();
        let (_tmp, root) = server_trusting(&maker);
        let lax = Trust::of(&root, true).unwrap();
        assert_eq!(lax.check(b"record", None), Ok(None));
        let of_another = signed(&maker, b"another");
        assert_eq!(lax.check(b"record", Some(of_another.as_bytes())), Err(BadSignature::Wrong("maker.pub".into())));
    }

    #[test]
    fn a_trusted_key_that_cannot_be_read_is_an_error_and_not_a_missing_key() {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tmp.path().join(TRUSTED_KEYS)).unwrap();
        std::fs::write(tmp.path().join(TRUSTED_KEYS).join("x.pub"), "junk").unwrap();
        assert!(Trust::of(&Dir::open_root(tmp.path()).unwrap(), true).is_err());
    }
}

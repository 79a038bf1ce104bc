//! Password hashing: argon2id with the parameters that OWASP recommends (19 MiB, 2 passes, 1 lane), stored as PHC
//! strings.
//!
//! A [`Hasher`] belongs to one thread of [`Accounts`](super::Accounts) and reuses its 19 MiB for each hash. So the
//! number of these threads bounds the memory of all hashing.

use std::collections::TryReserveError;
use std::io;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};

use crate::random;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// The parameters of a new hash: KiB of memory, passes, lanes.
const PARAMS: Params = match Params::new(19 * 1024, 2, 1, Some(HASH_BYTES)) {
    Ok(params) => params,
    Err(_) => panic!("invalid parameters"),
};
/// The most that a stored hash may require, in the same units. A hash that requires more was not written by this
/// server.
const COST_MAX: (u32, u32, u32) = (64 * 1024, 10, 4);

/// Why a password could not be hashed or checked. A wrong password is not an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordError {
    /// The stored text is not an argon2id PHC string, or requires more than this server allows.
    #[error("a stored password hash is not an argon2id hash within the limits of this server")]
    UnusableHash,
    #[error("cannot hash a password: {0}")]
    NoMemory(#[from] TryReserveError),
    #[error("cannot hash a password: {0}")]
    NoRandomness(#[from] io::Error),
    /// The library cannot write the PHC string: a defect of this server.
    #[error("cannot hash a password: the hash cannot be written as a PHC string")]
    NotWritten,
}

/// Hashes passwords on one thread, and reuses its memory. Allocates with the first hash.
#[derive(Default)]
pub(crate) struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    /// The PHC string of a password, with a new salt. Takes about 30 ms.
    pub(crate) fn hash(&mut self, password: &str) -> Result<String, PasswordError> {
        let mut salt = [0; SALT_BYTES];
        random::fill(&mut salt)?;
        let mut hash = [0; HASH_BYTES];
        self.fill(&PARAMS, Version::V0x13, password, &salt, &mut hash)?;
        phc(&salt, &hash)
    }

    /// Whether the PHC string was made from this password. A wrong password takes as long as the right one.
    ///
    /// # Errors
    /// [`PasswordError::UnusableHash`], without hashing, or [`PasswordError::NoMemory`].
    pub(crate) fn verify(&mut self, password: &str, stored: &str) -> Result<bool, PasswordError> {
        let stored = PasswordHash::new(stored).map_err(|_| PasswordError::UnusableHash)?;
        let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else { return Err(PasswordError::UnusableHash) };
        let params = Params::try_from(&stored).map_err(|_| PasswordError::UnusableHash)?;
        let version = match stored.version {
            None => Version::V0x13,
            Some(version) => Version::try_from(version).map_err(|_| PasswordError::UnusableHash)?,
        };
        let too_much = params.m_cost() > COST_MAX.0 || params.t_cost() > COST_MAX.1 || params.p_cost() > COST_MAX.2;
        if stored.algorithm != ARGON2ID_IDENT || too_much {
            return Err(PasswordError::UnusableHash);
        }
        let mut bytes = [0; Output::MAX_LENGTH];
        let bytes = bytes.get_mut(..expected.len()).ok_or(PasswordError::UnusableHash)?;
        self.fill(&params, version, password, &salt, bytes)?;
        // `Output` compares in constant time.
        Ok(Output::new(bytes).is_ok_and(|actual| actual == expected))
    }

    fn fill(
        &mut self,
        params: &Params,
        version: Version,
        password: &str,
        salt: &[u8],
        hash: &mut [u8],
    ) -> Result<(), PasswordError> {
        let argon2 = Argon2::new(Algorithm::Argon2id, version, params.clone());
        let needed = params.block_count();
        let own = PARAMS.block_count();
        let mut larger = Vec::new();
        // A stored hash that needs more memory gets it only for this call, so that a thread keeps 19 MiB and no more.
        let blocks = if needed > own { &mut larger } else { &mut self.blocks };
        grow(blocks, needed.max(own))?;
        argon2
            .hash_password_into_with_memory(password.as_bytes(), salt, hash, blocks.as_mut_slice())
            .map_err(|_| PasswordError::UnusableHash)
    }
}

/// A PHC string with the usual parameters that matches no password. Checking against it takes as long as against a real
/// hash.
pub(crate) fn unmatchable_hash() -> Result<String, PasswordError> {
    let mut salt = [0; SALT_BYTES];
    let mut hash = [0; HASH_BYTES];
    random::fill(&mut salt)?;
    random::fill(&mut hash)?;
    phc(&salt, &hash)
}

fn grow(blocks: &mut Vec<Block>, wanted: usize) -> Result<(), TryReserveError> {
    let more = wanted.saturating_sub(blocks.len());
    blocks.try_reserve_exact(more)?;
    blocks.resize(blocks.len() + more, Block::new());
    Ok(())
}

fn phc(salt: &[u8], hash: &[u8]) -> Result<String, PasswordError> {
    let text = || -> Option<String> {
        Some(
            PasswordHash {
                algorithm: ARGON2ID_IDENT,
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(&PARAMS).ok()?,
                salt: Some(Salt::new(salt).ok()?),
                hash: Some(Output::new(hash).ok()?),
            }
            .to_string(),
        )
    };
    text().ok_or(PasswordError::NotWritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_hash_and_no_other() {
        let mut hasher = Hasher::default();
        let stored = hasher.hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(hasher.verify("correct horse", &stored).unwrap());
        assert!(!hasher.verify("correct horsf", &stored).unwrap());
        assert_ne!(stored, hasher.hash("correct horse").unwrap(), "each hash has its own salt");
        assert!(!hasher.verify("correct horse", &unmatchable_hash().unwrap()).unwrap());
        assert_eq!(hasher.blocks.len(), 19 * 1024);
    }

    #[test]
    fn a_hash_of_another_program_is_accepted() {
        let mut hasher = Hasher::default();
        let smaller = "$argon2id$v=19$m=64,t=1,p=2$c29tZXNhbHRzb21lc2FsdA";
        assert!(matches!(hasher.verify("password", smaller), Err(PasswordError::UnusableHash)), "without a hash");
        let params = Params::new(64, 1, 2, Some(HASH_BYTES)).unwrap();
        let mut bytes = [0; HASH_BYTES];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
            .hash_password_into(b"password", b"somesaltsomesalt", &mut bytes)
            .unwrap();
        let stored = PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params).unwrap(),
            salt: Some(Salt::new(b"somesaltsomesalt").unwrap()),
            hash: Some(Output::new(&bytes).unwrap()),
        };
        assert!(hasher.verify("password", &stored.to_string()).unwrap());
    }

    #[test]
    fn a_stored_hash_cannot_require_more_than_the_limits() {
        let mut hasher = Hasher::default();
        let stored = hasher.hash("correct horse").unwrap();
        for (from, to) in [
            ("m=19456", "m=65537"),
            ("m=19456", "m=4294967295"),
            ("t=2", "t=11"),
            ("p=1", "p=5"),
            ("argon2id", "argon2i"),
            ("argon2id", "scrypt"),
            ("v=19", "v=99"),
        ] {
            let changed = stored.replacen(from, to, 1);
            assert!(matches!(hasher.verify("correct horse", &changed), Err(PasswordError::UnusableHash)), "{changed}");
        }
        for garbage in ["", "$", "plain", "$argon2id$v=19$m=19456,t=2,p=1$$"] {
            assert!(matches!(hasher.verify("correct horse", garbage), Err(PasswordError::UnusableHash)));
        }
    }
}

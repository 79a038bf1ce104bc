//! Password hashing: argon2id with the parameters OWASP recommends (19 MiB, 2 passes, 1 lane), kept as PHC strings.
//!
//! A [`Hasher`] belongs to one thread of [`Accounts`](super::Accounts) and keeps its 19 MiB from one hash to the next:
//! so the memory of all hashing is bounded by the number of these threads.

use std::io;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};

use crate::random;

/// What is asked of a new hash: KiB of memory, passes, lanes.
const COST: (u32, u32, u32) = (19 * 1024, 2, 1);
/// What a stored hash may ask for at most, in the same units. One that asks for more was not written by this server.
const COST_LIMIT: (u32, u32, u32) = (64 * 1024, 10, 4);
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Why a password was neither hashed nor checked. A wrong password is not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The stored text is not an argon2id PHC string, or asks for more than this server allows.
    #[error("a stored password hash is not an argon2id hash within the limits of this server")]
    UnusableHash,
    /// No memory, or no random bytes.
    #[error("cannot hash a password: {0}")]
    NoResources(String),
}

/// Hashes on one thread, with memory that it keeps. Nothing is allocated before the first hash.
#[derive(Default)]
pub struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    /// The PHC string of a password, with a salt of its own. Takes about 30 ms.
    ///
    /// # Errors
    /// [`PasswordError::NoResources`].
    pub fn hash(&mut self, password: &str) -> Result<String, PasswordError> {
        let mut salt = [0; SALT_BYTES];
        random::fill(&mut salt).map_err(no_resources)?;
        let mut hash = [0; HASH_BYTES];
        self.fill(&own_params()?, Version::V0x13, password, &salt, &mut hash)?;
        phc(&salt, &hash)
    }

    /// Whether this is the password that the PHC string was made from. Takes as long for a wrong one as for the right.
    ///
    /// # Errors
    /// [`PasswordError::UnusableHash`] without hashing anything, or [`PasswordError::NoResources`].
    pub fn verify(&mut self, password: &str, stored: &str) -> Result<bool, PasswordError> {
        let stored = PasswordHash::new(stored).map_err(|_| PasswordError::UnusableHash)?;
        let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else { return Err(PasswordError::UnusableHash) };
        let params = Params::try_from(&stored).map_err(|_| PasswordError::UnusableHash)?;
        let version = match stored.version {
            None => Version::V0x13,
            Some(version) => Version::try_from(version).map_err(|_| PasswordError::UnusableHash)?,
        };
        let too_much =
            params.m_cost() > COST_LIMIT.0 || params.t_cost() > COST_LIMIT.1 || params.p_cost() > COST_LIMIT.2;
        if stored.algorithm != ARGON2ID_IDENT || too_much {
            return Err(PasswordError::UnusableHash);
        }
        let mut bytes = [0; Output::MAX_LENGTH];
        let bytes = bytes.get_mut(..expected.len()).ok_or(PasswordError::UnusableHash)?;
        self.fill(&params, version, password, &salt, bytes)?;
        // The comparison of `Output` takes the same time wherever the first difference is.
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
        let own = own_params()?.block_count();
        let mut larger = Vec::new();
        // A stored hash that wants more than ours gets it for this once, so that a thread keeps 19 MiB and no more.
        let blocks = if needed > own { &mut larger } else { &mut self.blocks };
        grow(blocks, needed.max(own))?;
        argon2
            .hash_password_into_with_memory(password.as_bytes(), salt, hash, blocks.as_mut_slice())
            .map_err(|_| PasswordError::UnusableHash)
    }
}

/// A PHC string with our parameters that no password fits: checking against it takes the time of a real one.
///
/// # Errors
/// [`PasswordError::NoResources`].
pub fn unmatchable_hash() -> Result<String, PasswordError> {
    let mut salt = [0; SALT_BYTES];
    let mut hash = [0; HASH_BYTES];
    random::fill(&mut salt).map_err(no_resources)?;
    random::fill(&mut hash).map_err(no_resources)?;
    phc(&salt, &hash)
}

fn own_params() -> Result<Params, PasswordError> {
    Params::new(COST.0, COST.1, COST.2, Some(HASH_BYTES)).map_err(|error| PasswordError::NoResources(error.to_string()))
}

fn grow(blocks: &mut Vec<Block>, wanted: usize) -> Result<(), PasswordError> {
    let more = wanted.saturating_sub(blocks.len());
    blocks.try_reserve_exact(more).map_err(|error| PasswordError::NoResources(error.to_string()))?;
    blocks.resize(blocks.len() + more, Block::new());
    Ok(())
}

fn phc(salt: &[u8], hash: &[u8]) -> Result<String, PasswordError> {
    let made = || -> Option<String> {
        Some(
            PasswordHash {
                algorithm: ARGON2ID_IDENT,
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(&own_params().ok()?).ok()?,
                salt: Some(Salt::new(salt).ok()?),
                hash: Some(Output::new(hash).ok()?),
            }
            .to_string(),
        )
    };
    made().ok_or_else(|| PasswordError::NoResources("the hash cannot be written down".to_owned()))
}

fn no_resources(error: io::Error) -> PasswordError {
    PasswordError::NoResources(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_hash_and_no_other() {
        let mut hasher = Hasher::default();
        let stored = hasher.hash("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_eq!(hasher.verify("correct horse", &stored), Ok(true));
        assert_eq!(hasher.verify("correct horsf", &stored), Ok(false));
        assert_ne!(stored, hasher.hash("correct horse").unwrap(), "each hash has a salt of its own");
        assert_eq!(hasher.verify("correct horse", &unmatchable_hash().unwrap()), Ok(false));
        assert_eq!(hasher.blocks.len(), 19 * 1024);
    }

    #[test]
    fn hashes_of_other_programs_are_read() {
        let mut hasher = Hasher::default();
        let smaller = "$argon2id$v=19$m=64,t=1,p=2$c29tZXNhbHRzb21lc2FsdA";
        assert_eq!(hasher.verify("password", smaller), Err(PasswordError::UnusableHash), "without a hash");
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
        assert_eq!(hasher.verify("password", &stored.to_string()), Ok(true));
    }

    #[test]
    fn a_stored_hash_cannot_ask_for_more_than_the_limits() {
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
            assert_eq!(hasher.verify("correct horse", &changed), Err(PasswordError::UnusableHash), "{changed}");
        }
        for garbage in ["", "$", "plain", "$argon2id$v=19$m=19456,t=2,p=1$$"] {
            assert_eq!(hasher.verify("correct horse", garbage), Err(PasswordError::UnusableHash));
        }
    }
}

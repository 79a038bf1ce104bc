//! Random bytes from the operating system: ids, salts and secrets. May be called on any thread.

use std::io;

/// Fills `bytes` with random bytes that nobody can guess.
///
/// # Errors
/// When the operating system gives none (a sandbox without `getrandom` and without `/dev/urandom`).
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes).map_err(|error| io::Error::other(format!("no random bytes from the system: {error}")))
}

/// A random number, any of the 2^64 with the same chance.
///
/// # Errors
/// As [`fill`].
pub fn u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_draws_differ() {
        assert_ne!(super::u64().unwrap(), super::u64().unwrap());
        let mut bytes = [0; 32];
        super::fill(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 32]);
    }
}

//! Random bytes from the operating system, for ids, salts and secrets. Any thread.

use std::io;

/// Fills `bytes` with unpredictable random bytes.
///
/// # Errors
/// The operating system provides none, as in a sandbox without `getrandom` and without `/dev/urandom`.
pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| io::Error::other(format!("the operating system provides no random bytes: {error}")))
}

/// Returns a uniformly distributed random number.
///
/// # Errors
/// See [`fill`].
pub(crate) fn u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_random_numbers_differ() {
        assert_ne!(super::u64().unwrap(), super::u64().unwrap());
        let mut bytes = [0; 32];
        super::fill(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 32]);
    }
}

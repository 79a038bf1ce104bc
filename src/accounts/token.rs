//! [`Tokens`]: issues the token of a login, and checks the token of a join. A join does not use the store.
//!
//! Tokens are issued by this server (HS256, with a secret that all instances share) or by an outside issuer (checked
//! with its public key). The key determines the algorithm; the token does not. Any thread; no I/O.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, str};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::rules;
use super::store::Account;

/// A longer token is refused before it is decoded. Tokens of this server have about 250 bytes.
const TOKEN_BYTES_MAX: usize = 4096;
/// By how much the clocks of issuer and server may differ.
const LEEWAY_SECONDS: u64 = 5;
/// The shortest secret: RFC 7518, 3.2 requires the length of the hash for HS256.
pub(crate) const SECRET_BYTES_MIN: usize = 32;
/// An RSA public key of 2048 bits (PKCS#1, DER) has 270 bytes; a key with fewer bits has fewer bytes than this.
const RSA_KEY_BYTES_MIN: usize = 260;
/// The length of an uncompressed point of P-256, the curve of ES256.
const P256_POINT_BYTES: usize = 65;
/// The most characters of the claim `id`.
const ID_CHARS_MAX: usize = 128;
/// The end of the year 9999. A later time in a token is replaced by this one, so that no calculation overflows.
const LATEST_UNIX_SECONDS: u64 = 253_402_300_799;

/// How tokens are issued and checked.
#[derive(Clone)]
pub struct TokenSettings {
    /// The key of this server or of an outside issuer.
    pub key: TokenKey,
    /// The claim `iss`: in issued tokens, and required in all tokens.
    pub issuer: String,
    /// How long an issued token is valid.
    pub ttl: Duration,
}

/// The key that determines who issues tokens.
#[derive(Clone)]
pub enum TokenKey {
    /// The secret of this server and of all servers that accept its tokens (HS256). At least [`SECRET_BYTES_MIN`]
    /// bytes.
    Secret(Vec<u8>),
    /// An outside issuer with this public key, as PEM text: RSA (RS256, 2048 bits or more), P-256 (ES256) or Ed25519
    /// (EdDSA). This server then issues no tokens, and refuses HS256.
    PublicKeyPem(String),
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TokenKey::Secret(_) => "Secret(..)",
            TokenKey::PublicKeyPem(_) => "PublicKeyPem(..)",
        })
    }
}

impl fmt::Debug for TokenSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TokenSettings")
            .field("key", &self.key)
            .field("issuer", &self.issuer)
            .field("ttl", &self.ttl)
            .finish()
    }
}

/// The claims of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The claim `id`; 1 to 128 characters without control characters.
    pub(crate) user_id: String,
    /// Valid by [`rules::check_username`], also in a token of an outside issuer.
    pub(crate) username: String,
    /// At most the end of the year 9999.
    pub(crate) expires_at_unix_seconds: u64,
}

/// Why a key or a token is not accepted. Never contains a key or a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The secret has fewer than [`SECRET_BYTES_MIN`] bytes.
    #[error("the token secret is shorter than {SECRET_BYTES_MIN} bytes: make one with `openssl rand -base64 48`")]
    ShortSecret,
    /// The public key cannot be used.
    #[error("the issuer's key must be a PEM public key: RSA of 2048 bits or more, P-256 or Ed25519")]
    UnusableKey,
    /// An outside issuer issues the tokens.
    #[error("tokens are issued by an outside issuer: get one there")]
    OutsideIssuer,
    /// The token cannot be encoded: an error of this server.
    #[error("a token cannot be issued")]
    NotIssued,
    /// The token is malformed, was changed, is from another issuer, or has invalid claims.
    #[error("the token is not valid: log in for a new one")]
    Invalid,
    /// The token was valid, and has expired.
    #[error("the token has expired: log in for a new one")]
    Expired,
}

/// Issues and checks tokens. Any thread.
pub struct Tokens {
    /// `None` with an outside issuer.
    encoding_key: Option<EncodingKey>,
    decoding_key: DecodingKey,
    validation: Validation,
    issuer: String,
    ttl: Duration,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    id: &'a str,
    username: &'a str,
    iss: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct ReadClaims {
    id: String,
    username: String,
    /// The library also accepts an array in `iss`; we require one string.
    iss: String,
    /// Unix time in seconds, possibly with a fraction.
    exp: f64,
}

impl Tokens {
    /// Parses the key.
    ///
    /// # Errors
    /// [`TokenError::ShortSecret`] or [`TokenError::UnusableKey`].
    pub fn new(settings: TokenSettings) -> Result<Self, TokenError> {
        let TokenSettings { key, issuer, ttl } = settings;
        let (encoding_key, decoding_key, algorithm) = match key {
            TokenKey::Secret(secret) if secret.len() < SECRET_BYTES_MIN => return Err(TokenError::ShortSecret),
            TokenKey::Secret(secret) => {
                (Some(EncodingKey::from_secret(&secret)), DecodingKey::from_secret(&secret), Algorithm::HS256)
            }
            TokenKey::PublicKeyPem(pem) => {
                let (key, algorithm) = public_key(&pem).ok_or(TokenError::UnusableKey)?;
                (None, key, algorithm)
            }
        };
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss"]);
        validation.set_issuer(&[&issuer]);
        Ok(Tokens { encoding_key, decoding_key, validation, issuer, ttl })
    }

    /// A token for this account that is valid from now on for `ttl`.
    ///
    /// # Errors
    /// [`TokenError::OutsideIssuer`] or [`TokenError::NotIssued`].
    pub fn issue(&self, account: &Account) -> Result<String, TokenError> {
        let key = self.encoding_key.as_ref().ok_or(TokenError::OutsideIssuer)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| TokenError::NotIssued)?.as_secs();
        let exp = now.saturating_add(self.ttl.as_secs()).min(LATEST_UNIX_SECONDS);
        let claims = IssuedClaims { id: &account.id, username: &account.username, iss: &self.issuer, iat: now, exp };
        encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|_| TokenError::NotIssued)
    }

    /// The claims of this token, if it is valid now.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::Invalid`].
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let data =
            decode::<ReadClaims>(token, &self.decoding_key, &self.validation).map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid,
            })?;
        // `crit` lists extensions that the reader must understand; this server knows none.
        if data.header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let ReadClaims { id, username, iss, exp } = data.claims;
        let id_chars = id.chars().take(ID_CHARS_MAX + 1).count();
        let id_is_valid = (1..=ID_CHARS_MAX).contains(&id_chars) && !id.chars().any(char::is_control);
        if iss != self.issuer || !id_is_valid || rules::check_username(&username).is_err() {
            return Err(TokenError::Invalid);
        }
        // `as` saturates. The library has refused negative and infinite values.
        let expires_at_unix_seconds = (exp as u64).min(LATEST_UNIX_SECONDS);
        Ok(Claims { user_id: id, username, expires_at_unix_seconds })
    }
}

/// Checks whether [`Tokens::new`] accepts this PEM text as a public key.
///
/// # Errors
/// [`TokenError::UnusableKey`].
pub(crate) fn check_public_key(pem: &str) -> Result<(), TokenError> {
    public_key(pem).map(drop).ok_or(TokenError::UnusableKey)
}

/// The key and the algorithm of its type.
fn public_key(pem: &str) -> Option<(DecodingKey, Algorithm)> {
    // The library would also accept a private key or a certificate; those are mistakes of the operator.
    let has_public_label = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN RSA PUBLIC KEY-----"]
        .iter()
        .any(|label| pem.trim_start().starts_with(label));
    if !has_public_label {
        return None;
    }
    let bytes = pem.as_bytes();
    let long_enough =
        |key: &DecodingKey, wanted: fn(usize) -> bool| key.try_get_as_bytes().is_ok_and(|bytes| wanted(bytes.len()));
    if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        return long_enough(&key, |len| len == P256_POINT_BYTES).then_some((key, Algorithm::ES256));
    }
    if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
        return Some((key, Algorithm::EdDSA));
    }
    let key = DecodingKey::from_rsa_pem(bytes).ok()?;
    long_enough(&key, |len| len >= RSA_KEY_BYTES_MIN).then_some((key, Algorithm::RS256))
}

#[cfg(test)]
mod tests;

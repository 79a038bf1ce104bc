//! Tokens: what a login gives, and what lets somebody in at `/join`. A valid one is enough; the store is not asked.
//!
//! Either this server's own (HS256, one secret that all instances share) or those of an outside issuer, by its public
//! key. Which algorithm is allowed follows from the key, never from the token. Any thread; no I/O.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, str};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use super::rules;
use super::store::Account;

/// Longer ones are refused before anything is decoded. Ours have about 250 bytes.
const MAX_TOKEN_BYTES: usize = 4096;
/// How far the clocks of issuer and server may differ.
const LEEWAY_SECONDS: u64 = 5;
/// A secret of HS256 must be as long as its hash.
const MIN_SECRET_BYTES: usize = 32;
/// The public key (PKCS#1, DER) of RSA with 2048 bits has 270 bytes; shorter keys are never accepted.
const MIN_RSA_KEY_BYTES: usize = 260;
/// An uncompressed point of P-256, the curve of ES256.
const P256_POINT_BYTES: usize = 65;
/// Characters of the claim `id`.
const MAX_ID_CHARS: usize = 128;
/// The end of the year 9999: later times in a token are cut to it, so that counting with them cannot overflow.
const LATEST_UNIX_SECONDS: u64 = 253_402_300_799;

/// What tokens are made or checked with.
#[derive(Clone)]
pub struct TokenSettings {
    /// Ours or an outside issuer's.
    pub key: TokenKey,
    /// The claim `iss`: put into ours, and required in all.
    pub issuer: String,
    /// How long ours are valid.
    pub ttl: Duration,
}

/// Who makes the tokens.
#[derive(Clone)]
pub enum TokenKey {
    /// This server, and others with the same secret: HS256. At least 32 bytes.
    Secret(Vec<u8>),
    /// Somebody else, whose public key this is, as PEM text: RSA (RS256, 2048 bits or more), P-256 (ES256) or Ed25519
    /// (EdDSA). This server then makes none, and HS256 is off.
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

/// Whom a valid token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The account's id; 1 to 128 characters without control characters.
    pub user_id: String,
    /// Keeps the rules of [`rules::check_username`], whoever made the token.
    pub username: String,
    /// When the token ends, at most at the end of the year 9999.
    pub expires_at_unix_seconds: u64,
}

/// Why a key or a token is not accepted. Never contains any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The secret has fewer than 32 bytes.
    #[error("the token secret is shorter than 32 bytes: make one with `openssl rand -base64 48`")]
    ShortSecret,
    /// Not a public key that can be used.
    #[error("the issuer's key must be a PEM public key: RSA of 2048 bits or more, P-256 or Ed25519")]
    UnusableKey,
    /// An outside issuer makes the tokens.
    #[error("tokens come from an outside issuer: ask there for one")]
    OutsideIssuer,
    /// The token cannot be written: a fault of this server.
    #[error("a token cannot be made")]
    NotIssued,
    /// No token, or one that was tampered with, is not from our issuer, or names nobody.
    #[error("the token is not valid: log in for a new one")]
    Invalid,
    /// It was valid once.
    #[error("the token has expired: log in for a new one")]
    Expired,
}

/// Makes and checks tokens. Shared by all threads, in an `Arc`.
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
    /// The library takes a list as well; who made the token must be one.
    iss: String,
    /// Seconds, possibly with a fraction.
    exp: f64,
}

impl Tokens {
    /// Takes the key in use.
    ///
    /// # Errors
    /// [`TokenError::ShortSecret`] or [`TokenError::UnusableKey`].
    pub fn new(settings: TokenSettings) -> Result<Self, TokenError> {
        let TokenSettings { key, issuer, ttl } = settings;
        let (encoding_key, decoding_key, algorithm) = match key {
            TokenKey::Secret(secret) if secret.len() < MIN_SECRET_BYTES => return Err(TokenError::ShortSecret),
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

    /// A token for this account, valid from now on for the time in the settings.
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

    /// Whom this token names, if it is valid now.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::Invalid`].
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let data =
            decode::<ReadClaims>(token, &self.decoding_key, &self.validation).map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => TokenError::Expired,
                _ => TokenError::Invalid,
            })?;
        // `crit` names extensions that must be understood; none is.
        if data.header.crit.is_some() {
            return Err(TokenError::Invalid);
        }
        let ReadClaims { id, username, iss, exp } = data.claims;
        let id_chars = id.chars().take(MAX_ID_CHARS + 1).count();
        let id_is_fine = (1..=MAX_ID_CHARS).contains(&id_chars) && !id.chars().any(char::is_control);
        if iss != self.issuer || !id_is_fine || rules::check_username(&username).is_err() {
            return Err(TokenError::Invalid);
        }
        // `as` saturates, and the library has refused what is negative or not finite.
        let expires_at_unix_seconds = (exp as u64).min(LATEST_UNIX_SECONDS);
        Ok(Claims { user_id: id, username, expires_at_unix_seconds })
    }
}

/// Finds out whether this PEM text is a public key that [`Tokens::new`] takes.
///
/// # Errors
/// [`TokenError::UnusableKey`].
pub fn check_public_key(pem: &str) -> Result<(), TokenError> {
    public_key(pem).map(drop).ok_or(TokenError::UnusableKey)
}

/// The key, and the one algorithm that goes with its type.
fn public_key(pem: &str) -> Option<(DecodingKey, Algorithm)> {
    // A private key or a certificate would be taken apart as well; neither belongs here.
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
    long_enough(&key, |len| len >= MIN_RSA_KEY_BYTES).then_some((key, Algorithm::RS256))
}

#[cfg(test)]
mod tests;

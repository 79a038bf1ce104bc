//! [`Tokens`]: issues the token of a login, and checks the token of a join. A join does not use the store.
//!
//! Tokens are issued by this server (HS256, with a secret that all instances share) or by an outside issuer (checked with
//! its public keys, which `key_file` reads). A key determines its algorithm; the token does not. Any thread; no I/O.

mod claims;
mod key_file;
mod keys;
mod openssl_provider;
mod refused;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde_json::{Map, Value, json};

pub(crate) use self::claims::Claims;
pub use self::claims::{AdminClaim, ClaimNames};
use self::key_file::KeyFile;
pub use self::key_file::KeyFileError;
pub(crate) use self::key_file::check as check_key_file;
use self::keys::{KeySet, VerifyKey};
pub(crate) use self::refused::TokenRefused;
use super::store::Account;
use crate::supervisor::Supervisor;

/// A longer token is refused before it is decoded. Tokens of this server have about 250 bytes; those of other issuers can
/// list the groups of a user.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// By how much the clocks of issuer and server may differ.
const LEEWAY_SECONDS: u64 = 60;
/// The shortest secret: RFC 7518, 3.2 requires the length of the hash for HS256.
pub(crate) const SECRET_BYTES_MIN: usize = 32;
/// The end of the year 9999. A later time in a token is replaced by this one, so that no calculation overflows.
const LATEST_UNIX_SECONDS: u64 = 253_402_300_799;

/// How tokens are issued and checked.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The key of this server or of an outside issuer.
    pub key: TokenKey,
    /// The claim `iss`: in issued tokens, and required in all tokens.
    pub issuer: String,
    /// The claim `aud`: in issued tokens, and required in all tokens. `None`: tokens with this claim are refused, because
    /// they are for somebody else (RFC 7519, section 4.1.3).
    pub audience: Option<String>,
    /// The claims with the id and the name of the user.
    pub claims: ClaimNames,
    /// How long an issued token is valid.
    pub ttl: Duration,
}

/// The key that determines who issues tokens.
#[derive(Clone)]
pub enum TokenKey {
    /// The secrets of this server and of all servers that accept its tokens (HS256). Each has at least [`SECRET_BYTES_MIN`] bytes.
    Secret {
        /// Signs tokens.
        current: Vec<u8>,
        /// Tokens that were signed with it are still accepted.
        previous: Option<Vec<u8>>,
    },
    /// An outside issuer, with public keys in this file (PEM or JWKS). This server then issues no tokens, and refuses
    /// HS256.
    PublicKeyFile(PathBuf),
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TokenKey::Secret { .. } => "Secret(..)",
            TokenKey::PublicKeyFile(_) => "PublicKeyFile(..)",
        })
    }
}

/// Why the keys cannot be used, or why no token is issued. Never contains a key.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A secret has fewer than [`SECRET_BYTES_MIN`] bytes.
    #[error("the token secret is shorter than {SECRET_BYTES_MIN} bytes: make one with `openssl rand -base64 48`")]
    ShortSecret,
    /// The file with the public keys cannot be used.
    #[error("{} {source}", path.display())]
    KeyFile {
        /// The setting.
        path: PathBuf,
        /// What is wrong with the file.
        source: KeyFileError,
    },
    /// An outside issuer issues the tokens.
    #[error("tokens are issued by an outside issuer: get one there")]
    OutsideIssuer,
    /// The token cannot be encoded: an error of this server.
    #[error("a token cannot be issued")]
    NotIssued,
}

/// The keys that tokens are checked with.
enum Keys {
    Secrets(Arc<KeySet>),
    File(Arc<KeyFile>),
}

/// Issues and checks tokens. Any thread.
pub struct Tokens {
    /// `None` with an outside issuer.
    encoding_key: Option<EncodingKey>,
    keys: Keys,
    /// The checks of the claims. The algorithm is that of each key.
    validation: Validation,
    issuer: String,
    audience: Option<String>,
    claims: ClaimNames,
    ttl: Duration,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Parses the keys.
    ///
    /// # Errors
    /// [`TokenError::ShortSecret`] or [`TokenError::KeyFile`].
    pub fn new(settings: TokenSettings) -> Result<Self, TokenError> {
        openssl_provider::install();
        let TokenSettings { key, issuer, audience, claims, ttl } = settings;
        let (encoding_key, keys) = match key {
            TokenKey::Secret { current, previous } => {
                let secrets = || [Some(&current), previous.as_ref()].into_iter().flatten().map(Vec::as_slice);
                if secrets().any(|secret| secret.len() < SECRET_BYTES_MIN) {
                    return Err(TokenError::ShortSecret);
                }
                let keys = KeySet::of_secrets(secrets());
                (Some(EncodingKey::from_secret(&current)), Keys::Secrets(Arc::new(keys)))
            }
            TokenKey::PublicKeyFile(path) => match KeyFile::open(path.clone()) {
                Ok(file) => (None, Keys::File(Arc::new(file))),
                Err(source) => return Err(TokenError::KeyFile { path, source }),
            },
        };
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&issuer]);
        match &audience {
            None => validation.set_required_spec_claims(&["exp", "iss"]),
            Some(audience) => {
                validation.set_required_spec_claims(&["exp", "iss", "aud"]);
                validation.set_audience(&[audience]);
            }
        }
        Ok(Tokens { encoding_key, keys, validation, issuer, audience, claims, ttl })
    }

    /// With a file of public keys: starts the thread that reads the file again when it has changed.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn watch_key_file(&self, supervisor: &Supervisor) -> io::Result<()> {
        match &self.keys {
            Keys::Secrets(_) => Ok(()),
            Keys::File(file) => file.watch(supervisor),
        }
    }

    /// Whether this server issues tokens, and not an outside issuer. Then the users of all tokens have accounts here.
    pub(crate) fn can_issue(&self) -> bool {
        self.encoding_key.is_some()
    }

    /// A token for this account that is valid from now on for `ttl`.
    ///
    /// # Errors
    /// [`TokenError::OutsideIssuer`] or [`TokenError::NotIssued`].
    pub fn issue(&self, account: &Account) -> Result<String, TokenError> {
        let key = self.encoding_key.as_ref().ok_or(TokenError::OutsideIssuer)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| TokenError::NotIssued)?.as_secs();
        let exp = now.saturating_add(self.ttl.as_secs()).min(LATEST_UNIX_SECONDS);
        let mut claims = Map::new();
        claims.insert(self.claims.id.clone(), json!(account.id));
        claims.insert(self.claims.username.clone(), json!(account.username));
        claims.insert("iss".to_owned(), json!(self.issuer));
        claims.extend(self.audience.as_ref().map(|audience| ("aud".to_owned(), json!(audience))));
        claims.insert("iat".to_owned(), json!(now));
        claims.insert("exp".to_owned(), json!(exp));
        encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|_| TokenError::NotIssued)
    }

    /// The claims of this token, if it is valid now.
    ///
    /// # Errors
    /// Why the token is refused.
    pub(crate) fn verify(&self, token: &str) -> Result<Claims, TokenRefused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenRefused::TooLong);
        }
        let header = decode_header(token).map_err(|_| TokenRefused::Malformed)?;
        // `crit` lists extensions that the reader must understand; this server knows none.
        if header.crit.is_some() {
            return Err(TokenRefused::Malformed);
        }
        let keys = match &self.keys {
            Keys::Secrets(keys) => keys.clone(),
            Keys::File(file) => file.keys(),
        };
        for key in keys.candidates(&header)? {
            match self.decode(token, key) {
                Err(TokenRefused::BadSignature) => {}
                Err(refused) => return Err(refused),
                Ok(claims) => return Claims::read(&claims, &self.claims),
            }
        }
        Err(TokenRefused::BadSignature)
    }

    /// Checks the signature with this key, and then the claims that have the names of RFC 7519.
    fn decode(&self, token: &str, key: &VerifyKey) -> Result<Map<String, Value>, TokenRefused> {
        let mut validation = self.validation.clone();
        validation.algorithms = vec![key.algorithm];
        let decoded = decode(token, &key.key, &validation).map_err(|error| match error.into_kind() {
            ErrorKind::InvalidSignature => TokenRefused::BadSignature,
            ErrorKind::ExpiredSignature => TokenRefused::Expired,
            ErrorKind::ImmatureSignature => TokenRefused::NotYetValid,
            ErrorKind::InvalidIssuer => TokenRefused::WrongIssuer,
            ErrorKind::InvalidAudience => TokenRefused::WrongAudience,
            ErrorKind::MissingRequiredClaim(name) | ErrorKind::InvalidClaimFormat(name) => {
                TokenRefused::MissingClaim(name)
            }
            _ => TokenRefused::Malformed,
        })?;
        Ok(decoded.claims)
    }
}

#[cfg(test)]
mod tests;

//! [`KeySet`]: the keys that a token may be signed with, and [`parse`], which reads the public keys of an outside issuer
//! from a PEM file or a JWKS file (RFC 7517). Pure.
//!
//! A key determines its algorithm: RSA with 2048 to 8192 bits, P-256 (ES256) or Ed25519 (EdDSA). OpenSSL checks each key,
//! so that a key that can never verify a token is an error at start and not at each join.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Header};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use pem::Pem;
use serde_json::Value;

use super::refused::TokenRefused;

/// The most keys of a file. A token is checked with each key that it may be signed with.
const KEYS_MAX: usize = 64;
/// The sizes of RSA keys that the cryptography library verifies with.
const RSA_BITS: std::ops::RangeInclusive<i32> = 2048..=8192;
/// The length of an uncompressed point of P-256: a marker, and two coordinates of 32 bytes.
const P256_POINT_BYTES: usize = 65;
/// The members of a JWK that are private or secret (RFC 7518, section 6).
const PRIVATE_MEMBERS: [&str; 2] = ["d", "k"];

/// Why a file with public keys cannot be used: the end of a sentence that begins with its path. Never contains a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Neither PEM nor JSON.
    #[error("contains no public key: neither PEM (-----BEGIN PUBLIC KEY-----) nor a JWKS ({{\"keys\":[...]}})")]
    NoKey,
    /// A `BEGIN` line without its `END` line, or invalid base64 between them.
    #[error("is not valid PEM: a line is missing or was changed")]
    BadPem,
    /// Not JSON, or JSON of another form.
    #[error("is not a valid JWKS ({{\"keys\":[...]}})")]
    BadJwks,
    /// A private key or a symmetric key.
    #[error("contains a private or secret key: use the public key (openssl pkey -in KEY -pubout)")]
    PrivateKey,
    /// A certificate.
    #[error("contains a certificate: use its public key (openssl x509 -in CERTIFICATE -pubkey -noout)")]
    Certificate,
    /// A key that cannot be used.
    #[error("cannot be used: key {number} {problem}")]
    UnusableKey {
        /// The position in the file, from 1 on.
        number: usize,
        /// What is wrong with it.
        problem: KeyProblem,
    },
    /// More keys than [`KEYS_MAX`].
    #[error("contains more than {KEYS_MAX} keys")]
    TooManyKeys,
}

/// What is wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// It cannot be parsed.
    #[error("is malformed")]
    Malformed,
    /// Another type, or another curve.
    #[error("is not of a supported type: RSA, P-256 or Ed25519")]
    Type,
    /// Too short to be safe, or too long for the library.
    #[error("is RSA with {0} bits: at least 2048 are needed, and at most 8192 are possible")]
    RsaBits(i32),
    /// The member `alg` of a JWK does not fit the type of the key, or is not supported.
    #[error("has an `alg` that is not supported for its type")]
    Algorithm,
}

/// One key, and the only algorithm that it is used with.
pub(super) struct VerifyKey {
    /// The member `kid` of a JWK. `None`: a token may name any key.
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Keys, any of which may have signed a token.
pub(super) struct KeySet(Vec<VerifyKey>);

impl fmt::Debug for KeySet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "KeySet({} keys)", self.0.len())
    }
}

impl KeySet {
    /// Secrets for HS256.
    pub(super) fn of_secrets<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let key = |secret| VerifyKey { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) };
        KeySet(secrets.into_iter().map(key).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys that may have signed a token with this header; at least one.
    ///
    /// # Errors
    /// [`TokenRefused::UnknownKey`] or [`TokenRefused::WrongAlgorithm`].
    pub(super) fn candidates(&self, header: &Header) -> Result<Vec<&VerifyKey>, TokenRefused> {
        let is_named = |key: &&VerifyKey| key.id.is_none() || header.kid.is_none() || key.id == header.kid;
        let mut keys: Vec<&VerifyKey> = self.0.iter().filter(is_named).collect();
        if keys.is_empty() {
            return Err(TokenRefused::UnknownKey);
        }
        keys.retain(|key| key.algorithm == header.alg);
        if keys.is_empty() { Err(TokenRefused::WrongAlgorithm) } else { Ok(keys) }
    }
}

/// The public keys in the bytes of a file.
///
/// # Errors
/// See [`KeysError`].
pub(super) fn parse(bytes: &[u8]) -> Result<KeySet, KeysError> {
    let text = std::str::from_utf8(bytes).map_err(|_| KeysError::NoKey)?;
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let keys = if text.starts_with('{') { parse_jwks(text)? } else { parse_pem(text)? };
    if keys.len() > KEYS_MAX { Err(KeysError::TooManyKeys) } else { Ok(KeySet(keys)) }
}

/// Each block must be a public key that can be used.
fn parse_pem(text: &str) -> Result<Vec<VerifyKey>, KeysError> {
    let blocks = pem::parse_many(text).map_err(|_| KeysError::BadPem)?;
    // The library skips a block without an end: the file may be written at this moment.
    if blocks.len() != text.matches("-----BEGIN ").count() {
        return Err(KeysError::BadPem);
    }
    if blocks.is_empty() {
        return Err(KeysError::NoKey);
    }
    let parsed = blocks.iter().zip(1..).map(|(block, number)| {
        let key = match block.tag() {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => parse_block(block),
            "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => return Err(KeysError::Certificate),
            tag if tag.contains("PRIVATE KEY") => return Err(KeysError::PrivateKey),
            _ => Err(KeyProblem::Type),
        };
        key.map_err(|problem| KeysError::UnusableKey { number, problem })
    });
    parsed.collect()
}

fn parse_block(block: &Pem) -> Result<VerifyKey, KeyProblem> {
    let der = block.contents();
    let key = match block.tag() {
        "RSA PUBLIC KEY" => Rsa::public_key_from_der_pkcs1(der).and_then(PKey::from_rsa),
        _ => PKey::public_key_from_der(der),
    };
    let (key, algorithm) = checked(&key.map_err(|_| KeyProblem::Malformed)?)?;
    Ok(VerifyKey { id: None, algorithm, key })
}

/// Keys for other purposes and keys that cannot be used are skipped (RFC 7517, section 5), as long as one can be used.
fn parse_jwks(text: &str) -> Result<Vec<VerifyKey>, KeysError> {
    let set: Value = serde_json::from_str(text).map_err(|_| KeysError::BadJwks)?;
    let keys = match &set["keys"] {
        Value::Array(keys) => keys.as_slice(),
        // A single key.
        Value::Null if set["kty"].is_string() => std::slice::from_ref(&set),
        _ => return Err(KeysError::BadJwks),
    };
    if keys.iter().any(|key| PRIVATE_MEMBERS.iter().any(|member| key.get(member).is_some())) {
        return Err(KeysError::PrivateKey);
    }
    let mut usable = Vec::new();
    let mut unusable = None;
    for (key, number) in keys.iter().zip(1..) {
        match parse_jwk(key) {
            Ok(key) => usable.extend(key),
            Err(problem) => {
                unusable.get_or_insert(KeysError::UnusableKey { number, problem });
            }
        }
    }
    if usable.is_empty() { Err(unusable.unwrap_or(KeysError::NoKey)) } else { Ok(usable) }
}

/// `None`: the key is not for signatures.
fn parse_jwk(key: &Value) -> Result<Option<VerifyKey>, KeyProblem> {
    let jwk: Jwk = serde_json::from_value(key.clone()).map_err(|_| KeyProblem::Type)?;
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return Ok(None);
    }
    if let AlgorithmParameters::Other(_) = jwk.algorithm {
        return Err(KeyProblem::Type);
    }
    let decoded = DecodingKey::from_jwk(&jwk).map_err(|_| KeyProblem::Malformed)?;
    let key = openssl_key(&decoded).map_err(|_| KeyProblem::Malformed)?.ok_or(KeyProblem::Type)?;
    let (key, algorithm) = checked(&key)?;
    let algorithm = match jwk.common.key_algorithm {
        None => algorithm,
        Some(named) => match Algorithm::try_from(named) {
            Ok(named) if named.family() == algorithm.family() && named != Algorithm::ES384 => named,
            _ => return Err(KeyProblem::Algorithm),
        },
    };
    Ok(Some(VerifyKey { id: jwk.common.key_id, algorithm, key }))
}

/// The key in the form of OpenSSL. The numbers of a JWK are not checked yet. `None`: another type or curve.
pub(super) fn openssl_key(decoded: &DecodingKey) -> Result<Option<PKey<Public>>, ErrorStack> {
    match (decoded.family(), decoded.kind()) {
        (_, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let rsa = Rsa::from_public_components(BigNum::from_slice(n)?, BigNum::from_slice(e)?)?;
            PKey::from_rsa(rsa).map(Some)
        }
        (AlgorithmFamily::Ed, DecodingKeyKind::SecretOrDer(bytes)) => {
            PKey::public_key_from_raw_bytes(bytes, Id::ED25519).map(Some)
        }
        (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) if point.len() == P256_POINT_BYTES => {
            let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
            let mut context = BigNumContext::new()?;
            let point = EcPoint::from_bytes(&group, point, &mut context)?;
            EcKey::from_public_key(&group, &point).and_then(PKey::from_ec_key).map(Some)
        }
        _ => Ok(None),
    }
}

/// The key in the form of the token library, and the algorithm that a key of its type has by default.
fn checked(key: &PKey<Public>) -> Result<(DecodingKey, Algorithm), KeyProblem> {
    let malformed = |_: ErrorStack| KeyProblem::Malformed;
    match key.id() {
        Id::RSA => {
            let rsa = key.rsa().map_err(malformed)?;
            let bits = rsa.n().num_bits();
            if !RSA_BITS.contains(&bits) {
                return Err(KeyProblem::RsaBits(bits));
            }
            let key = DecodingKey::from_rsa_raw_components(&rsa.n().to_vec(), &rsa.e().to_vec());
            Ok((key, Algorithm::RS256))
        }
        Id::EC => {
            let ec = key.ec_key().map_err(malformed)?;
            if ec.group().curve_name() != Some(Nid::X9_62_PRIME256V1) {
                return Err(KeyProblem::Type);
            }
            ec.check_key().map_err(malformed)?;
            let mut context = BigNumContext::new().map_err(malformed)?;
            let form = PointConversionForm::UNCOMPRESSED;
            let point = ec.public_key().to_bytes(ec.group(), form, &mut context).map_err(malformed)?;
            Ok((DecodingKey::from_ec_der(&point), Algorithm::ES256))
        }
        Id::ED25519 => Ok((DecodingKey::from_ed_der(&key.raw_public_key().map_err(malformed)?), Algorithm::EdDSA)),
        _ => Err(KeyProblem::Type),
    }
}

#[cfg(test)]
mod tests;

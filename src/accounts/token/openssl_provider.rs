//! [`install`]: lets the library for tokens sign and verify by OpenSSL.
//!
//! The library leaves the cryptography to a provider. OpenSSL is in the program for TLS already, so no second
//! cryptographic library has to be compiled and updated. Any thread; no I/O.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private, Public};
use openssl::rsa::Padding;
use openssl::{memcmp, sign};

use super::keys::openssl_key;

/// Signs by HS256. Verifies HS256, and the algorithms of public keys in RFC 7518, section 3.1 and RFC 8037, section 3.1,
/// but not ES384.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: new_signer,
    verifier_factory: new_verifier,
    // These functions derive public keys from private ones and compute thumbprints. This server does neither.
    key_utils: KeyUtils::new_unimplemented(),
};

/// A signature by ES256 is two numbers of this many bytes (RFC 7518, section 3.4).
const P256_NUMBER_BYTES: usize = 32;

/// Installs the provider for the process. Further calls do nothing.
pub(super) fn install() {
    // The error means that it is installed.
    let _ = PROVIDER.install_default();
}

fn new_signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => Ok(Box::new(Hs256::new(key.as_bytes())?)),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

fn new_verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if algorithm.family() != key.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    match algorithm {
        Algorithm::HS256 => Ok(Box::new(Hs256::new(key.try_get_as_bytes()?)?)),
        Algorithm::HS384 | Algorithm::HS512 | Algorithm::ES384 => Err(ErrorKind::InvalidAlgorithm.into()),
        algorithm => {
            let key = openssl_key(key).ok().flatten().ok_or(ErrorKind::InvalidKeyFormat)?;
            Ok(Box::new(PublicKey { algorithm: *algorithm, key }))
        }
    }
}

type Verified = std::result::Result<(), SignatureError>;

/// The outcome of a verification in the form of the library.
fn verified(outcome: std::result::Result<bool, ErrorStack>) -> Verified {
    match outcome {
        Ok(true) => Ok(()),
        Ok(false) => Err(SignatureError::new()),
        Err(error) => Err(SignatureError::from_source(error)),
    }
}

/// A secret for HS256.
struct Hs256(PKey<Private>);

impl Hs256 {
    fn new(secret: &[u8]) -> Result<Self> {
        Ok(Hs256(PKey::hmac(secret).map_err(|_| ErrorKind::InvalidKeyFormat)?))
    }

    fn mac(&self, message: &[u8]) -> std::result::Result<Vec<u8>, ErrorStack> {
        sign::Signer::new(MessageDigest::sha256(), &self.0)?.sign_oneshot_to_vec(message)
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        self.mac(message).map_err(SignatureError::from_source)
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Verified {
        // `memcmp::eq` takes equally long for every content, and panics when the lengths differ.
        verified(self.mac(message).map(|mac| mac.len() == signature.len() && memcmp::eq(&mac, signature)))
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// A public key of an outside issuer.
struct PublicKey {
    algorithm: Algorithm,
    key: PKey<Public>,
}

impl PublicKey {
    fn check(&self, message: &[u8], signature: &[u8]) -> std::result::Result<bool, ErrorStack> {
        let digest = match self.algorithm {
            Algorithm::EdDSA => {
                return sign::Verifier::new_without_digest(&self.key)?.verify_oneshot(signature, message);
            }
            Algorithm::RS384 | Algorithm::PS384 => MessageDigest::sha384(),
            Algorithm::RS512 | Algorithm::PS512 => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        };
        let mut verifier = sign::Verifier::new(digest, &self.key)?;
        match self.algorithm {
            Algorithm::ES256 => match es256_der(signature)? {
                Some(signature) => verifier.verify_oneshot(&signature, message),
                None => Ok(false),
            },
            Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => {
                // RFC 7518, section 3.5: the same digest everywhere, and a salt of its length.
                verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
                verifier.set_rsa_mgf1_md(digest)?;
                verifier.set_rsa_pss_saltlen(sign::RsaPssSaltlen::DIGEST_LENGTH)?;
                verifier.verify_oneshot(signature, message)
            }
            _ => verifier.verify_oneshot(signature, message),
        }
    }
}

/// A signature by ES256 in the encoding of OpenSSL. `None`: it has another length.
fn es256_der(signature: &[u8]) -> std::result::Result<Option<Vec<u8>>, ErrorStack> {
    if signature.len() != 2 * P256_NUMBER_BYTES {
        return Ok(None);
    }
    let (r, s) = signature.split_at(P256_NUMBER_BYTES);
    EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.to_der().map(Some)
}

impl Verifier<Vec<u8>> for PublicKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Verified {
        verified(self.check(message, signature))
    }
}

impl JwtVerifier for PublicKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

//! An outside issuer of tokens: a key pair, its public key for a file, and tokens signed with it.

use std::time::{SystemTime, UNIX_EPOCH};

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use serde_json::{Value, json};

use super::jwt::{base64_url, sign};

/// An issuer with a key of its own (P-256).
pub struct Issuer {
    /// The public key, as PEM.
    pub pem: String,
    key: PKey<Private>,
}

impl Issuer {
    pub fn new() -> Issuer {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
        let key = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
        Issuer { pem: String::from_utf8(key.public_key_to_pem().expect("PEM")).expect("text"), key }
    }

    /// The public key as a JWK with this `kid`.
    pub fn jwk(&self, kid: &str) -> Value {
        let key = self.key.ec_key().expect("a key of a curve");
        let (mut x, mut y) = (BigNum::new().expect("a number"), BigNum::new().expect("a number"));
        let mut context = BigNumContext::new().expect("a context");
        key.public_key().affine_coordinates(key.group(), &mut x, &mut y, &mut context).expect("a point");
        let coordinate = |number: &BigNum| base64_url(&number.to_vec_padded(32).expect("32 bytes"));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "x": coordinate(&x), "y": coordinate(&y), "kid": kid})
    }

    /// A token with these claims. Its header names the key `kid`, unless that is empty.
    pub fn token(&self, kid: &str, claims: &Value) -> String {
        let mut header = json!({"alg": "ES256", "typ": "JWT"});
        if !kid.is_empty() {
            header["kid"] = json!(kid);
        }
        sign(&header, claims, &self.key)
    }
}

/// The Unix time in seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Valid claims for a server with the default settings, with these changes.
pub fn claims(changes: &Value) -> Value {
    let mut claims = json!({"id": "1", "username": "Bob", "iss": "ich", "exp": now() + 3600});
    let fields = claims.as_object_mut().expect("an object");
    fields.extend(changes.as_object().expect("an object").clone());
    claims
}

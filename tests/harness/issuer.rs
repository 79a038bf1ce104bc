//! An outside issuer of tokens: a key pair, its public key for a file, and tokens signed with it.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use serde_json::{Value, json};

/// An issuer with a key of its own (P-256).
pub struct Issuer {
    /// The public key, as PEM.
    pub pem: String,
    key: EncodingKey,
}

impl Issuer {
    pub fn new() -> Issuer {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
        let key = PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key");
        let private = key.private_key_to_pem_pkcs8().expect("PEM");
        Issuer {
            pem: String::from_utf8(key.public_key_to_pem().expect("PEM")).expect("text"),
            key: EncodingKey::from_ec_pem(&private).expect("a key"),
        }
    }

    /// The public key as a JWK with this `kid`.
    pub fn jwk(&self, kid: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).expect("a JWK");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(kid);
        jwk
    }

    /// A token with these claims. Its header names the key `kid`, unless that is empty.
    pub fn token(&self, kid: &str, claims: &Value) -> String {
        let kid = (!kid.is_empty()).then(|| kid.to_owned());
        encode(&Header { kid, ..Header::new(Algorithm::ES256) }, claims, &self.key).expect("a token")
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

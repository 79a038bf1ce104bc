//! [`sign`]: tokens as any issuer makes them, also those that the server must refuse.
//!
//! They are made with OpenSSL alone: an error in the server's use of its library for tokens is then not made here, too.

use openssl::base64;
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};
use serde_json::{Value, json};

/// A token (RFC 7515, section 7.1) with this key. `header` has the algorithm in `alg`; the key must be one for it.
pub fn sign(header: &Value, claims: &Value, key: &PKey<Private>) -> String {
    let signed = format!("{}.{}", base64_url(header.to_string().as_bytes()), base64_url(claims.to_string().as_bytes()));
    let algorithm = header["alg"].as_str().expect("an algorithm");
    format!("{signed}.{}", base64_url(&signature(algorithm, signed.as_bytes(), key)))
}

/// A token by HS256, HS384 or HS512 with this secret.
pub fn sign_with_secret(algorithm: &str, claims: &Value, secret: &[u8]) -> String {
    // OpenSSL refuses an empty key. HMAC pads keys with zeros (RFC 2104, section 2), so this one is equal.
    let secret = if secret.is_empty() { b"\0" } else { secret };
    sign(&json!({"alg": algorithm, "typ": "JWT"}), claims, &PKey::hmac(secret).expect("a key"))
}

fn signature(algorithm: &str, message: &[u8], key: &PKey<Private>) -> Vec<u8> {
    let digest = match algorithm.get(2..) {
        Some("256") => MessageDigest::sha256(),
        Some("384") => MessageDigest::sha384(),
        Some("512") => MessageDigest::sha512(),
        _ => {
            return Signer::new_without_digest(key)
                .and_then(|mut it| it.sign_oneshot_to_vec(message))
                .expect("a signature");
        }
    };
    let mut signer = Signer::new(digest, key).expect("a key for the algorithm");
    if algorithm.starts_with("PS") {
        signer.set_rsa_padding(Padding::PKCS1_PSS).expect("a padding");
        signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).expect("a length");
    }
    let signature = signer.sign_oneshot_to_vec(message).expect("a signature");
    if algorithm == "ES256" { two_numbers(&signature) } else { signature }
}

/// A signature by ES256 (RFC 7518, section 3.4), from the encoding that OpenSSL uses.
fn two_numbers(der: &[u8]) -> Vec<u8> {
    let signature = EcdsaSig::from_der(der).expect("a signature");
    let numbers = [signature.r(), signature.s()];
    numbers.iter().flat_map(|number| number.to_vec_padded(32).expect("32 bytes")).collect()
}

/// Base64 for URLs without padding (RFC 7515, section 2).
pub fn base64_url(bytes: &[u8]) -> String {
    base64::encode_block(bytes).replace('+', "-").replace('/', "_").replace(['=', '\n'], "")
}

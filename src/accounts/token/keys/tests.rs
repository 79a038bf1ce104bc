//! Files of public keys: those that are accepted, and those that are refused with their reason.

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::Private;
use openssl::x509::X509;
use serde_json::json;

use super::*;

fn ec(curve: Nid) -> PKey<Private> {
    PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(curve).unwrap()).unwrap()).unwrap()
}

fn rsa(bits: u32) -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap()
}

fn pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
}

fn private_pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap()
}

/// The public key as a JWK.
fn jwk(key: &PKey<Private>) -> Value {
    let text = |bytes: &[u8]| {
        openssl::base64::encode_block(bytes).replace('+', "-").replace('/', "_").replace(['=', '\n'], "")
    };
    match key.id() {
        Id::RSA => {
            let rsa = key.rsa().unwrap();
            json!({"kty": "RSA", "n": text(&rsa.n().to_vec()), "e": text(&rsa.e().to_vec())})
        }
        Id::EC => {
            let key = key.ec_key().unwrap();
            let form = PointConversionForm::UNCOMPRESSED;
            let point = key.public_key().to_bytes(key.group(), form, &mut BigNumContext::new().unwrap()).unwrap();
            let (x, y) = point[1..].split_at(point.len() / 2);
            let curve = if x.len() == 32 { "P-256" } else { "P-384" };
            json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
        }
        _ => json!({"kty": "OKP", "crv": "Ed25519", "x": text(&key.raw_public_key().unwrap())}),
    }
}

fn with(mut key: Value, changes: Value) -> Value {
    key.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    key
}

fn algorithms(keys: &KeySet) -> Vec<Algorithm> {
    keys.0.iter().map(|key| key.algorithm).collect()
}

fn parse_keys(keys: Value) -> Result<KeySet, KeysError> {
    parse(json!({"keys": keys}).to_string().as_bytes())
}

#[test]
fn a_pem_file_can_have_several_keys_and_text_between_them() {
    let rsa = rsa(2048);
    let pkcs1 = String::from_utf8(rsa.rsa().unwrap().public_key_to_pem_pkcs1().unwrap()).unwrap();
    let ed = PKey::generate_ed25519().unwrap();
    let file = format!("\u{feff}# of last year\n{}of now:\r\n{}\n{pkcs1}\n", pem(&ec(Nid::X9_62_PRIME256V1)), pem(&ed));
    let keys = parse(file.replace('\n', "\r\n").as_bytes()).unwrap();
    assert_eq!(algorithms(&keys), [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256]);
}

#[test]
fn a_jwks_file_names_its_keys_and_can_have_keys_for_other_purposes() {
    let (rsa, ec, ed) = (rsa(2048), ec(Nid::X9_62_PRIME256V1), PKey::generate_ed25519().unwrap());
    let keys = parse_keys(json!([
        with(jwk(&rsa), json!({"kid": "a", "use": "sig", "alg": "PS512", "x5c": ["AAAA"]})),
        with(jwk(&rsa), json!({"kid": "b", "use": "enc", "alg": "RSA-OAEP"})),
        with(jwk(&ec), json!({"kid": "c", "key_ops": ["verify"]})),
        {"kty": "OKP", "crv": "X25519", "x": "AAAA"},
        {"kty": "new"},
        jwk(&ed),
    ]))
    .unwrap();
    assert_eq!(algorithms(&keys), [Algorithm::PS512, Algorithm::ES256, Algorithm::EdDSA]);
    let single = parse(jwk(&ec).to_string().as_bytes()).unwrap();
    assert_eq!(algorithms(&single), [Algorithm::ES256]);
}

#[test]
fn the_header_of_a_token_selects_its_key() {
    let (one, two) = (ec(Nid::X9_62_PRIME256V1), ec(Nid::X9_62_PRIME256V1));
    let keys = parse_keys(json!([with(jwk(&one), json!({"kid": "1"})), with(jwk(&two), json!({"kid": "2"}))])).unwrap();
    let header = |kid: Option<&str>, algorithm| Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    let ids = |header: &Header| -> Result<Vec<_>, _> {
        Ok(keys.candidates(header)?.iter().map(|key| key.id.clone().unwrap()).collect::<Vec<_>>())
    };
    assert_eq!(ids(&header(Some("2"), Algorithm::ES256)), Ok(vec!["2".to_owned()]));
    assert_eq!(ids(&header(None, Algorithm::ES256)), Ok(vec!["1".to_owned(), "2".to_owned()]));
    assert_eq!(ids(&header(Some("3"), Algorithm::ES256)), Err(TokenRefused::UnknownKey));
    assert_eq!(ids(&header(Some("2"), Algorithm::HS256)), Err(TokenRefused::WrongAlgorithm));
    let unnamed = parse(format!("{}{}", pem(&one), pem(&two)).as_bytes()).unwrap();
    assert_eq!(unnamed.candidates(&header(Some("3"), Algorithm::ES256)).unwrap().len(), 2);
}

fn certificate(key: &PKey<Private>) -> String {
    let mut builder = X509::builder().unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
}

#[test]
fn a_pem_file_with_a_key_that_cannot_be_used_is_refused_with_the_reason() {
    let good = ec(Nid::X9_62_PRIME256V1);
    let rsa_1024 = Rsa::generate(1024).unwrap();
    let pkcs1 = |rsa: &Rsa<Private>| String::from_utf8(rsa.public_key_to_pem_pkcs1().unwrap()).unwrap();
    let unusable = |problem| KeysError::UnusableKey { number: 2, problem };
    let cut = |pem: String| pem[..pem.len() - 30].to_owned();
    for (second, error) in [
        (private_pem(&good), KeysError::PrivateKey),
        (String::from_utf8(good.ec_key().unwrap().private_key_to_pem().unwrap()).unwrap(), KeysError::PrivateKey),
        (String::from_utf8(rsa(2048).rsa().unwrap().private_key_to_pem().unwrap()).unwrap(), KeysError::PrivateKey),
        (certificate(&good), KeysError::Certificate),
        (pkcs1(&rsa_1024), unusable(KeyProblem::RsaBits(1024))),
        (pem(&PKey::from_rsa(rsa_1024).unwrap()), unusable(KeyProblem::RsaBits(1024))),
        (pem(&ec(Nid::SECP384R1)), unusable(KeyProblem::Type)),
        (pem(&ec(Nid::SECP256K1)), unusable(KeyProblem::Type)),
        (pem(&PKey::generate_ed448().unwrap()), unusable(KeyProblem::Type)),
        (pem(&PKey::generate_x25519().unwrap()), unusable(KeyProblem::Type)),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned(), unusable(KeyProblem::Malformed)),
        ("-----BEGIN X-----\nAAAA\n-----END X-----\n".to_owned(), unusable(KeyProblem::Type)),
        (pem(&good).replace("MF", "M!"), KeysError::BadPem),
        (cut(pem(&good)), KeysError::BadPem),
        (pem(&good).repeat(KEYS_MAX), KeysError::TooManyKeys),
    ] {
        let file = format!("{}{second}", pem(&good));
        assert_eq!(parse(file.as_bytes()).unwrap_err(), error, "{second}");
    }
}

#[test]
fn a_file_without_a_usable_key_is_refused_with_the_reason() {
    let unusable = |problem| KeysError::UnusableKey { number: 1, problem };
    let (p256, p384) = (ec(Nid::X9_62_PRIME256V1), ec(Nid::SECP384R1));
    let off_the_curve = with(jwk(&p256), json!({"y": jwk(&p256)["x"]}));
    for (keys, error) in [
        (json!([]), KeysError::NoKey),
        (json!({}), KeysError::BadJwks),
        (json!([5]), unusable(KeyProblem::Type)),
        (json!([jwk(&p384)]), unusable(KeyProblem::Type)),
        (json!([jwk(&rsa(1024))]), unusable(KeyProblem::RsaBits(1024))),
        (json!([off_the_curve]), unusable(KeyProblem::Malformed)),
        (json!([with(jwk(&p256), json!({"x": "!"}))]), unusable(KeyProblem::Malformed)),
        (json!([{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]), unusable(KeyProblem::Malformed)),
        (json!([with(jwk(&p256), json!({"alg": "RS256"}))]), unusable(KeyProblem::Algorithm)),
        (json!([with(jwk(&p256), json!({"alg": "HS256"}))]), unusable(KeyProblem::Algorithm)),
        (json!([with(jwk(&p256), json!({"use": "enc"}))]), KeysError::NoKey),
        (json!([jwk(&p256), {"kty": "oct", "k": "c2VjcmV0"}]), KeysError::PrivateKey),
        (json!([jwk(&p256), with(jwk(&p256), json!({"d": "AAAA"}))]), KeysError::PrivateKey),
    ] {
        assert_eq!(parse_keys(keys.clone()).unwrap_err(), error, "{keys}");
    }
    for (file, error) in [
        (&b""[..], KeysError::NoKey),
        (b"secret", KeysError::NoKey),
        (b"\xff\xfe{\0", KeysError::NoKey),
        (b"{", KeysError::BadJwks),
        (b"{\"keys\":5}", KeysError::BadJwks),
        (b"{\"key\":[]}", KeysError::BadJwks),
    ] {
        assert_eq!(parse(file).unwrap_err(), error);
    }
}

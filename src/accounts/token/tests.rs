//! Tokens and keys that are accepted, and those that are not.

use jsonwebtoken::Header;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn settings(key: TokenKey) -> TokenSettings {
    TokenSettings { key, issuer: "ich".to_owned(), ttl: Duration::from_secs(24 * 3600) }
}

fn ours() -> Tokens {
    Tokens::new(settings(TokenKey::Secret(SECRET.to_vec()))).unwrap()
}

fn bob() -> Account {
    Account { id: "4".to_owned(), email: "bob@example.com".to_owned(), username: "Bob".to_owned() }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Valid claims with changes. `null` removes a claim.
fn claims(changes: Value) -> Value {
    let mut claims = json!({"id": "4", "username": "Bob", "iss": "ich", "exp": now() + 100});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn signed(algorithm: Algorithm, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

#[test]
fn an_issued_token_is_valid_and_has_the_documented_claims() {
    let tokens = ours();
    let token = tokens.issue(&bob()).unwrap();
    let read = tokens.verify(&token).unwrap();
    assert_eq!((read.user_id.as_str(), read.username.as_str()), ("4", "Bob"));
    assert!((now() + 86_390..=now() + 86_400).contains(&read.expires_at_unix_seconds));
    let all: Value = jsonwebtoken::dangerous::insecure_decode(&token).unwrap().claims;
    assert_eq!(all["id"], "4");
    assert_eq!(all["iss"], "ich");
    assert!(all["exp"].is_u64() && all["iat"].is_u64());
    assert!(all.get("email").is_none());
}

#[test]
fn a_short_secret_is_refused_with_advice() {
    for secret in [&b""[..], &SECRET[..31]] {
        let error = Tokens::new(settings(TokenKey::Secret(secret.to_vec()))).unwrap_err();
        assert_eq!(error, TokenError::ShortSecret);
        assert!(error.to_string().contains("openssl rand -base64 48"));
    }
}

#[test]
fn only_hs256_with_the_servers_secret_is_accepted() {
    let tokens = ours();
    assert!(tokens.verify(&signed(Algorithm::HS256, &claims(json!({})))).is_ok());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(tokens.verify(&signed(algorithm, &claims(json!({})))), Err(TokenError::Invalid));
    }
    let token = signed(Algorithm::HS256, &claims(json!({})));
    let (head, signature) = token.rsplit_once('.').unwrap();
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{}.", head.split_once('.').unwrap().1);
    let other = encode(&Header::default(), &claims(json!({})), &EncodingKey::from_secret(&[7; 32])).unwrap();
    let mut tampered = signature.to_owned();
    tampered.replace_range(..1, if signature.starts_with('A') { "B" } else { "A" });
    for bad in ["", ".", "..", "a.b.c", &none, &other, head, &format!("{head}."), &format!("{head}.{tampered}")] {
        assert_eq!(tokens.verify(bad), Err(TokenError::Invalid), "{bad}");
    }
    let mut critical = Header::new(Algorithm::HS256);
    critical.crit = Some(vec!["exp".to_owned()]);
    let critical = encode(&critical, &claims(json!({})), &EncodingKey::from_secret(SECRET)).unwrap();
    assert_eq!(tokens.verify(&critical), Err(TokenError::Invalid));
}

#[test]
fn tokens_with_missing_or_invalid_claims_are_refused() {
    let tokens = ours();
    for wrong in [
        json!({"exp": null}),
        json!({"exp": (now() + 100).to_string()}),
        json!({"exp": -1}),
        json!({"exp": [1]}),
        json!({"nbf": now() + 60}),
        json!({"nbf": "soon"}),
        json!({"iss": null}),
        json!({"iss": "other"}),
        json!({"iss": ["ich", "other"]}),
        json!({"aud": "another service"}),
        json!({"id": null}),
        json!({"id": 4}),
        json!({"id": ""}),
        json!({"id": "x".repeat(129)}),
        json!({"id": "4\n"}),
        json!({"username": null}),
        json!({"username": " Bob"}),
        json!({"username": "Bo\u{202E}b"}),
        json!({"username": "x".repeat(65)}),
    ] {
        let token = signed(Algorithm::HS256, &claims(wrong.clone()));
        assert_eq!(tokens.verify(&token), Err(TokenError::Invalid), "{wrong}");
    }
    for right in
        [json!({"nbf": now() + 2}), json!({"exp": now() - 2}), json!({"exp": now() as f64 + 9.5}), json!({"x": 1})]
    {
        assert!(tokens.verify(&signed(Algorithm::HS256, &claims(right.clone()))).is_ok(), "{right}");
    }
    let expired = signed(Algorithm::HS256, &claims(json!({"exp": now() - 10})));
    assert_eq!(tokens.verify(&expired), Err(TokenError::Expired));
    let far = tokens.verify(&signed(Algorithm::HS256, &claims(json!({"exp": u64::MAX})))).unwrap();
    assert_eq!(far.expires_at_unix_seconds, LATEST_UNIX_SECONDS);
}

#[test]
fn a_long_token_is_refused_before_it_is_decoded() {
    let tokens = ours();
    let valid_but_long = signed(Algorithm::HS256, &claims(json!({"x": "x".repeat(4096)})));
    assert_eq!(tokens.verify(&valid_but_long), Err(TokenError::Invalid));
    assert_eq!(tokens.verify(&"x".repeat(1 << 20)), Err(TokenError::Invalid));
}

fn pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
}

#[test]
fn tokens_of_an_external_issuer_are_accepted() {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ec = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let ed = PKey::generate_ed25519().unwrap();
    let private = |key: &PKey<Private>| key.private_key_to_pem_pkcs8().unwrap();
    let issuers = [
        (pem(&ec), Algorithm::ES256, EncodingKey::from_ec_pem(&private(&ec)).unwrap()),
        (pem(&rsa), Algorithm::RS256, EncodingKey::from_rsa_pem(&private(&rsa)).unwrap()),
        (pem(&ed), Algorithm::EdDSA, EncodingKey::from_ed_pem(&private(&ed)).unwrap()),
    ];
    for (public, algorithm, key) in &issuers {
        let tokens = Tokens::new(settings(TokenKey::PublicKeyPem(public.clone()))).unwrap();
        let token = encode(&Header::new(*algorithm), &claims(json!({"id": "auth0|7"})), key).unwrap();
        assert_eq!(tokens.verify(&token).unwrap().user_id, "auth0|7");
        assert_eq!(tokens.issue(&bob()), Err(TokenError::OutsideIssuer));
        // Everybody knows the public key, so it must not work as a secret of HS256.
        let forged = EncodingKey::from_secret(public.as_bytes());
        let forged = encode(&Header::new(Algorithm::HS256), &claims(json!({})), &forged).unwrap();
        assert_eq!(tokens.verify(&forged), Err(TokenError::Invalid));
        for (_, other_algorithm, other) in issuers.iter().filter(|(_, other, _)| other != algorithm) {
            let token = encode(&Header::new(*other_algorithm), &claims(json!({})), other).unwrap();
            assert_eq!(tokens.verify(&token), Err(TokenError::Invalid));
        }
    }
}

#[test]
fn unusable_keys_are_errors_at_start() {
    let p384 = EcKey::generate(&EcGroup::from_curve_name(Nid::SECP384R1).unwrap()).unwrap();
    let short = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    let ed = PKey::generate_ed25519().unwrap();
    let private = String::from_utf8(ed.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let garbage = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    for bad in ["", "secret", garbage, &private, &pem(&short), &pem(&PKey::from_ec_key(p384).unwrap())] {
        let error = Tokens::new(settings(TokenKey::PublicKeyPem(bad.to_owned()))).unwrap_err();
        assert_eq!(error, TokenError::UnusableKey);
    }
}

#[test]
fn nothing_secret_is_printed() {
    let settings = settings(TokenKey::Secret(SECRET.to_vec()));
    let printed = format!("{settings:?} {:?}", Tokens::new(settings.clone()).unwrap());
    assert!(!printed.contains("0123456789") && !printed.contains("48, 49"), "{printed}");
}

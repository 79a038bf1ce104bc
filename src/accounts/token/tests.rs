//! Tokens that are accepted, and those that are not.

#[path = "../../../tests/harness/jwt.rs"]
mod jwt;

use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;

use self::jwt::{base64_url, sign, sign_with_secret};
use super::super::testing::Folder;
use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OLD_SECRET: &[u8] = b"fedcba9876543210fedcba9876543210";

fn settings(key: TokenKey) -> TokenSettings {
    let claims = ClaimNames { id: "id".to_owned(), username: "username".to_owned(), admin: None };
    TokenSettings { key, issuer: "ich".to_owned(), audience: None, claims, ttl: Duration::from_secs(24 * 3600) }
}

fn secret() -> TokenKey {
    TokenKey::Secret { current: SECRET.to_vec(), previous: None }
}

fn ours() -> Tokens {
    Tokens::new(settings(secret())).unwrap()
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

fn signed(algorithm: &str, claims: &Value) -> String {
    sign_with_secret(algorithm, claims, SECRET)
}

/// The label of the reason for which a token with these changed claims is refused.
fn refused(tokens: &Tokens, changes: Value) -> &'static str {
    tokens.verify(&signed("HS256", &claims(changes))).unwrap_err().label()
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
    assert!(all.get("email").is_none() && all.get("aud").is_none());
}

#[test]
fn a_short_secret_is_refused_with_advice() {
    for short in [&b""[..], &SECRET[..31]] {
        for key in [
            TokenKey::Secret { current: short.to_vec(), previous: None },
            TokenKey::Secret { current: SECRET.to_vec(), previous: Some(short.to_vec()) },
        ] {
            let error = Tokens::new(settings(key)).unwrap_err();
            assert!(error.to_string().contains("openssl rand -base64 48"), "{error}");
        }
    }
}

#[test]
fn only_hs256_with_the_servers_secret_is_accepted() {
    let tokens = ours();
    let label = |token: &str| tokens.verify(token).unwrap_err().label();
    assert!(tokens.verify(&signed("HS256", &claims(json!({})))).is_ok());
    for algorithm in ["HS384", "HS512"] {
        assert_eq!(label(&signed(algorithm, &claims(json!({})))), "wrong_algorithm");
    }
    let token = signed("HS256", &claims(json!({})));
    let (head, signature) = token.rsplit_once('.').unwrap();
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{}.", head.split_once('.').unwrap().1);
    for bad in ["", ".", "..", "a.b.c", &none, head] {
        assert_eq!(label(bad), "malformed", "{bad}");
    }
    let other = sign_with_secret("HS256", &claims(json!({})), &[7; 32]);
    let mut tampered = signature.to_owned();
    tampered.replace_range(..1, if signature.starts_with('A') { "B" } else { "A" });
    for bad in [&other, &format!("{head}."), &format!("{head}.{tampered}")] {
        assert_eq!(label(bad), "bad_signature", "{bad}");
    }
    let critical = json!({"alg": "HS256", "crit": ["exp"]});
    assert_eq!(label(&sign(&critical, &claims(json!({})), &PKey::hmac(SECRET).unwrap())), "malformed");
}

#[test]
fn each_missing_or_invalid_claim_has_its_reason() {
    let tokens = ours();
    for (wrong, label) in [
        (json!({"exp": null}), "missing_claim"),
        (json!({"exp": (now() + 100).to_string()}), "missing_claim"),
        (json!({"exp": -1}), "missing_claim"),
        (json!({"exp": [1]}), "malformed"),
        (json!({"exp": now() - 70}), "expired"),
        (json!({"nbf": now() + 70}), "not_yet_valid"),
        (json!({"nbf": "soon"}), "missing_claim"),
        (json!({"iss": null}), "missing_claim"),
        (json!({"iss": "other"}), "wrong_issuer"),
        (json!({"iss": ["ich", "other"]}), "wrong_issuer"),
        (json!({"aud": "another service"}), "wrong_audience"),
        (json!({"aud": ["another service"]}), "wrong_audience"),
        (json!({"id": null}), "missing_claim"),
        (json!({"id": 4.5}), "missing_claim"),
        (json!({"id": true}), "missing_claim"),
        (json!({"id": ""}), "invalid_claim"),
        (json!({"id": "x".repeat(129)}), "invalid_claim"),
        (json!({"id": "4\n"}), "invalid_claim"),
        (json!({"username": null}), "missing_claim"),
        (json!({"username": 4}), "missing_claim"),
        (json!({"username": " Bob"}), "invalid_claim"),
        (json!({"username": "Bo\u{202E}b"}), "invalid_claim"),
        (json!({"username": "x".repeat(65)}), "invalid_claim"),
    ] {
        assert_eq!(refused(&tokens, wrong.clone()), label, "{wrong}");
    }
    let error = tokens.verify(&signed("HS256", &claims(json!({"id": "hunter2\n"})))).unwrap_err();
    assert!(error.to_string().contains("`id`") && !error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn clocks_may_differ_by_a_minute_and_ids_may_be_numbers() {
    let tokens = ours();
    let verify = |changes: Value| tokens.verify(&signed("HS256", &claims(changes)));
    for right in
        [json!({"nbf": now() + 50}), json!({"exp": now() - 50}), json!({"exp": now() as f64 + 9.5}), json!({"x": 1})]
    {
        assert!(verify(right.clone()).is_ok(), "{right}");
    }
    assert_eq!(verify(json!({"id": 4})).unwrap().user_id, "4");
    assert_eq!(verify(json!({"id": u64::MAX})).unwrap().user_id, u64::MAX.to_string());
    assert_eq!(verify(json!({"id": -4})).unwrap().user_id, "-4");
    let far = verify(json!({"exp": u64::MAX / 2})).unwrap();
    assert_eq!(far.expires_at_unix_seconds, LATEST_UNIX_SECONDS);
}

#[test]
fn a_session_ends_when_the_token_expires_or_with_the_leeway() {
    let claims =
        |exp| Claims { user_id: String::new(), username: String::new(), expires_at_unix_seconds: exp, is_admin: false };
    assert_eq!(claims(1_010).seconds_left(1_000), 10);
    assert_eq!(claims(1_001).seconds_left(1_000), 1);
    assert_eq!(claims(1_000).seconds_left(1_000), LEEWAY_SECONDS);
    assert_eq!(claims(950).seconds_left(1_000), LEEWAY_SECONDS - 50);
    assert_eq!(claims(900).seconds_left(1_000), 0);
}

#[test]
fn with_an_audience_each_token_needs_it() {
    let tokens = Tokens::new(TokenSettings { audience: Some("chat".to_owned()), ..settings(secret()) }).unwrap();
    assert!(tokens.verify(&tokens.issue(&bob()).unwrap()).is_ok(), "an issued token");
    for right in [json!("chat"), json!(["chat", "other"])] {
        assert!(tokens.verify(&signed("HS256", &claims(json!({"aud": right})))).is_ok(), "{right}");
    }
    assert_eq!(refused(&tokens, json!({"aud": "other"})), "wrong_audience");
    assert_eq!(refused(&tokens, json!({"aud": []})), "wrong_audience");
    assert_eq!(refused(&tokens, json!({})), "missing_claim");
    assert_eq!(refused(&tokens, json!({"aud": 5})), "missing_claim");
}

#[test]
fn the_claims_of_the_user_can_have_other_names() {
    let names = ClaimNames { id: "sub".to_owned(), username: "https://chat.example/name".to_owned(), admin: None };
    let tokens = Tokens::new(TokenSettings { claims: names, ..settings(secret()) }).unwrap();
    assert!(tokens.verify(&tokens.issue(&bob()).unwrap()).is_ok(), "an issued token");
    let renamed = json!({"id": "1", "username": "Eve", "sub": 7, "https://chat.example/name": "Ann"});
    let read = tokens.verify(&signed("HS256", &claims(renamed))).unwrap();
    assert_eq!((read.user_id.as_str(), read.username.as_str()), ("7", "Ann"));
    let error = tokens.verify(&signed("HS256", &claims(json!({})))).unwrap_err();
    assert_eq!(error, TokenRefused::MissingClaim("sub".to_owned()));
}

#[test]
fn tokens_of_the_previous_secret_are_accepted_and_not_issued() {
    let key = TokenKey::Secret { current: SECRET.to_vec(), previous: Some(OLD_SECRET.to_vec()) };
    let tokens = Tokens::new(settings(key)).unwrap();
    let old_key = TokenKey::Secret { current: OLD_SECRET.to_vec(), previous: None };
    let old = Tokens::new(settings(old_key)).unwrap();
    assert!(tokens.verify(&old.issue(&bob()).unwrap()).is_ok());
    assert!(ours().verify(&tokens.issue(&bob()).unwrap()).is_ok());
    assert_eq!(old.verify(&tokens.issue(&bob()).unwrap()).unwrap_err(), TokenRefused::BadSignature);
    let expired = sign_with_secret("HS256", &claims(json!({"exp": 1})), OLD_SECRET);
    assert_eq!(tokens.verify(&expired).unwrap_err(), TokenRefused::Expired, "not a bad signature");
}

#[test]
fn a_long_token_is_accepted_and_a_longer_one_is_refused_before_it_is_decoded() {
    let tokens = ours();
    let with = |bytes: usize| signed("HS256", &claims(json!({"groups": "x".repeat(bytes)})));
    assert!(tokens.verify(&with(11_000)).is_ok());
    assert_eq!(tokens.verify(&with(TOKEN_BYTES_MAX)).unwrap_err(), TokenRefused::TooLong);
    assert_eq!(tokens.verify(&"x".repeat(1 << 20)).unwrap_err(), TokenRefused::TooLong);
}

#[test]
fn tokens_of_an_outside_issuer_are_accepted_with_the_algorithm_of_their_key() {
    let folder = Folder::new("outside-issuer");
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ec = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let ed = PKey::generate_ed25519().unwrap();
    let issuers = [("ES256", ec), ("RS256", rsa), ("EdDSA", ed)];
    for (algorithm, key) in &issuers {
        let public = key.public_key_to_pem().unwrap();
        let path = folder.0.join("issuer.pem");
        std::fs::write(&path, &public).unwrap();
        let tokens = Tokens::new(settings(TokenKey::PublicKeyFile(path))).unwrap();
        let token = sign(&json!({"alg": algorithm}), &claims(json!({"id": "auth0|7"})), key);
        assert_eq!(tokens.verify(&token).unwrap().user_id, "auth0|7");
        let (head, _) = token.rsplit_once('.').unwrap();
        for signature in ["", "AAAA", &"A".repeat(86), &("_".repeat(85) + "w"), &"A".repeat(342)] {
            assert_eq!(tokens.verify(&format!("{head}.{signature}")).unwrap_err(), TokenRefused::BadSignature);
        }
        let other = sign(&json!({"alg": algorithm}), &claims(json!({"id": "auth0|8"})), key);
        let swapped = format!("{head}.{}", other.rsplit_once('.').unwrap().1);
        assert_eq!(tokens.verify(&swapped).unwrap_err(), TokenRefused::BadSignature);
        assert!(matches!(tokens.issue(&bob()), Err(TokenError::OutsideIssuer)));
        // Everybody knows the public key, so it must not work as a secret of HS256.
        let forged = sign_with_secret("HS256", &claims(json!({})), &public);
        assert_eq!(tokens.verify(&forged).unwrap_err(), TokenRefused::WrongAlgorithm);
        for (other_algorithm, other) in issuers.iter().filter(|(other, _)| other != algorithm) {
            let token = sign(&json!({"alg": other_algorithm}), &claims(json!({})), other);
            assert_eq!(tokens.verify(&token).unwrap_err(), TokenRefused::WrongAlgorithm);
        }
    }
}

#[test]
fn a_jwks_can_name_any_algorithm_of_rsa() {
    let folder = Folder::new("rsa-algorithms");
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let rsa = key.rsa().unwrap();
    let (n, e) = (base64_url(&rsa.n().to_vec()), base64_url(&rsa.e().to_vec()));
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let path = folder.0.join("issuer.json");
        let jwks = json!({"keys": [{"kty": "RSA", "alg": algorithm, "n": n, "e": e}]});
        std::fs::write(&path, jwks.to_string()).unwrap();
        let tokens = Tokens::new(settings(TokenKey::PublicKeyFile(path))).unwrap();
        let token = sign(&json!({"alg": algorithm}), &claims(json!({})), &key);
        assert_eq!(tokens.verify(&token).unwrap().user_id, "4", "{algorithm}");
        // A signature with the other padding.
        let other = if algorithm.starts_with("PS") { "RS" } else { "PS" };
        let other = sign(&json!({"alg": format!("{other}{}", &algorithm[2..])}), &claims(json!({})), &key);
        let (head, _) = token.rsplit_once('.').unwrap();
        let mixed = format!("{head}.{}", other.rsplit_once('.').unwrap().1);
        assert_eq!(tokens.verify(&mixed).unwrap_err(), TokenRefused::BadSignature, "{algorithm}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let settings = settings(secret());
    let printed = format!("{settings:?} {:?}", Tokens::new(settings.clone()).unwrap());
    assert!(!printed.contains("0123456789") && !printed.contains("48, 49"), "{printed}");
}

#[test]
fn a_claim_names_an_administrator() {
    let is_admin = |setting: &str, claim: Value| {
        let claims = json!({"iss": "ich", "id": "4", "username": "Bob", "exp": 1, "role": claim});
        let names = ClaimNames { id: "id".into(), username: "username".into(), admin: AdminClaim::parse(setting) };
        Claims::read(claims.as_object().unwrap(), &names).unwrap().is_admin
    };
    for right in
        [("role", json!(true)), ("role=a", json!("a")), ("role=a", json!(["b", "a"])), ("role=a=b", json!("a=b"))]
    {
        assert!(is_admin(right.0, right.1.clone()), "{right:?}");
    }
    for wrong in [
        ("role", json!("true")),
        ("role", json!(1)),
        ("role", json!([true])),
        ("role=a", json!(true)),
        ("role=a", json!("ab")),
        ("", json!(true)),
        ("other", json!(true)),
    ] {
        assert!(!is_admin(wrong.0, wrong.1.clone()), "{wrong:?}");
    }
    for invalid in ["", "=a", "role="] {
        assert_eq!(AdminClaim::parse(invalid), None);
    }
}

//! A file of public keys that cannot be used is an error in the settings: for `ich check` and for the start, with exit
//! code 2 and the reason.

mod harness;

use std::fs;

use harness::folder::Folder;
use harness::issuer::Issuer;
use harness::server::command;
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::X509;
use serde_json::json;

const FILE: &str = "issuer";

fn pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
}

fn certificate(key: &PKey<Private>) -> String {
    let mut builder = X509::builder().unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(key, MessageDigest::null()).unwrap();
    String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
}

/// The exit code and what was printed.
fn run(folder: &Folder, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = command(&folder.0, settings).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_file_that_cannot_be_used_is_found_by_the_check_and_by_the_start() {
    let ed = PKey::generate_ed25519().unwrap();
    let private = String::from_utf8(ed.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let p384 = EcKey::generate(&EcGroup::from_curve_name(Nid::SECP384R1).unwrap()).unwrap();
    let good = Issuer::new().pem;
    let mut with_private = Issuer::new().jwk("1");
    with_private["d"] = json!("hunter2");
    let folder = Folder::new();
    for (what, content, error) in [
        ("missing", None, "cannot be read"),
        ("empty", Some(String::new()), "contains no public key"),
        ("malformed", Some("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into()), "is malformed"),
        ("cut off", Some(good[..100].to_owned()), "is not valid PEM"),
        ("private", Some(format!("{good}{private}")), "private or secret key"),
        ("a certificate", Some(certificate(&ed)), "contains a certificate"),
        ("RSA 1024", Some(pem(&PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap())), "1024 bits"),
        ("P-384", Some(pem(&PKey::from_ec_key(p384).unwrap())), "RSA, P-256 or Ed25519"),
        ("a JWKS with a private key", Some(json!({"keys": [with_private]}).to_string()), "private or secret key"),
        ("a JWKS without keys", Some(r#"{"keys":[]}"#.into()), "contains no public key"),
        ("large", Some("x".repeat(300 * 1024)), "larger than 256 KiB"),
    ] {
        match content {
            Some(content) => fs::write(folder.0.join(FILE), content).unwrap(),
            None => drop(fs::remove_file(folder.0.join(FILE))),
        }
        let settings = [("ICH_JWT_SECRET", ""), ("ICH_JWT_PUBLIC_KEY_FILE", FILE)];
        for arguments in [&["check"][..], &[]] {
            let (code, printed) = run(&folder, arguments, &settings);
            assert_eq!(code, Some(2), "{what} {arguments:?}: {printed}");
            assert!(printed.contains(&format!("ICH_JWT_PUBLIC_KEY_FILE={FILE} ")), "{what}: {printed}");
            assert!(printed.contains(error) && !printed.contains("hunter2"), "{what}: {printed}");
        }
    }
    fs::write(folder.0.join(FILE), good).unwrap();
    let (code, printed) = run(&folder, &["check"], &[("ICH_JWT_SECRET", ""), ("ICH_JWT_PUBLIC_KEY_FILE", FILE)]);
    assert_eq!(code, Some(0), "{printed}");
}

#[test]
fn settings_of_tokens_that_contradict_each_other_are_errors() {
    let folder = Folder::new();
    let previous = ("ICH_JWT_PREVIOUS_SECRET", "hunter2hunter2hunter2hunter2hunter2");
    for (settings, error) in [
        (vec![("ICH_JWT_SECRET", ""), previous], "ICH_JWT_PREVIOUS_SECRET is set, but ICH_JWT_SECRET is not"),
        (vec![("ICH_JWT_PREVIOUS_SECRET", "hunter2")], "ICH_JWT_PREVIOUS_SECRET is shorter than 32 bytes"),
        (vec![previous, ("ICH_JWT_PREVIOUS_SECRET_FILE", "file")], "are both set"),
        (vec![("ICH_JWT_ID_CLAIM", "iss")], "ICH_JWT_ID_CLAIM=iss"),
        (vec![("ICH_JWT_USERNAME_CLAIM", "exp")], "ICH_JWT_USERNAME_CLAIM=exp"),
        (vec![("ICH_JWT_ID_CLAIM", "username")], "are equal"),
    ] {
        let (code, printed) = run(&folder, &["check"], &settings);
        assert_eq!(code, Some(2), "{settings:?}: {printed}");
        assert!(printed.contains(error) && !printed.contains("hunter2"), "{settings:?}: {printed}");
    }
}

//! Tokens of an outside issuer: files with several keys, keys that the issuer replaces, and claims with other names.

mod harness;

use std::fs;
use std::path::Path;

use harness::client::Client;
use harness::folder::Folder;
use harness::issuer::{Issuer, claims, now};
use harness::server::Server;
use harness::wait_until;
use serde_json::{Value, json};

const FILE: &str = "issuer";

/// A server that reads its keys from [`FILE`], with these further settings.
fn start(folder: &Folder, more: &[(&str, &str)]) -> Server {
    let settings = [&[("ICH_JWT_SECRET", ""), ("ICH_JWT_PUBLIC_KEY_FILE", FILE)], more].concat();
    Server::start_in(&folder.0, &settings)
}

fn accepts(server: &Server, token: &str) -> bool {
    Client::try_join(server.address, token).is_ok()
}

fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// Replaces the file at once, as Kubernetes and careful programs do.
fn replace(folder: &Path, content: &str) {
    fs::write(folder.join("new"), content).unwrap();
    fs::rename(folder.join("new"), folder.join(FILE)).unwrap();
}

#[test]
fn each_key_of_a_pem_file_is_accepted() {
    let (one, two, other) = (Issuer::new(), Issuer::new(), Issuer::new());
    let folder = Folder::new();
    fs::write(folder.0.join(FILE), format!("the key of last year\n{}\nthe key of now\n{}", one.pem, two.pem)).unwrap();
    let server = start(&folder, &[]);
    let claims = claims(&json!({}));
    assert!(accepts(&server, &one.token("", &claims)));
    assert!(accepts(&server, &two.token("any", &claims)));
    assert!(!accepts(&server, &other.token("", &claims)));
}

#[test]
fn a_token_names_its_key_in_a_jwks_file() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let folder = Folder::new();
    fs::write(folder.0.join(FILE), jwks(&[one.jwk("1"), two.jwk("2")])).unwrap();
    let server = start(&folder, &[]);
    let claims = claims(&json!({}));
    assert!(accepts(&server, &one.token("1", &claims)));
    assert!(accepts(&server, &two.token("2", &claims)));
    assert!(accepts(&server, &two.token("", &claims)), "without a name, each key is tried");
    assert!(!accepts(&server, &two.token("1", &claims)));
    assert!(!accepts(&server, &two.token("3", &claims)));
}

#[test]
fn the_file_is_read_again_when_it_has_changed_and_a_bad_one_changes_nothing() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let folder = Folder::new();
    fs::write(folder.0.join(FILE), jwks(&[one.jwk("1")])).unwrap();
    let server = start(&folder, &[]);
    let claims = claims(&json!({}));
    let (old, new) = (one.token("1", &claims), two.token("2", &claims));
    let mut joined_with_old = Client::join(server.address, &old);
    assert!(!accepts(&server, &new));

    replace(&folder.0, &jwks(&[one.jwk("1"), two.jwk("2")]));
    wait_until("the new key", || accepts(&server, &new));
    assert!(accepts(&server, &old));

    // In place, and incomplete.
    fs::write(folder.0.join(FILE), &jwks(&[two.jwk("2")])[..20]).unwrap();
    wait_until("a warning", || server.log().contains("is not a valid JWKS"));
    assert!(accepts(&server, &old) && accepts(&server, &new));
    fs::remove_file(folder.0.join(FILE)).unwrap();
    wait_until("a warning", || server.log().contains("cannot be read"));
    assert!(accepts(&server, &old) && accepts(&server, &new));

    replace(&folder.0, &two.pem);
    wait_until("the old key to be refused", || !accepts(&server, &old));
    assert!(accepts(&server, &new));
    joined_with_old.say("an open session does not need its key");
    joined_with_old
        .wait_for("chat_message", &json!({"from_user": "Bob", "text": "an open session does not need its key"}));
    assert_eq!(server.log().matches("is not a valid JWKS").count(), 1, "the warning is not repeated");
}

#[test]
fn the_claims_of_other_issuers_are_understood() {
    let issuer = Issuer::new();
    let folder = Folder::new();
    fs::write(folder.0.join(FILE), &issuer.pem).unwrap();
    let server = start(
        &folder,
        &[
            ("ICH_JWT_ISSUER", "https://id.example/realms/chat"),
            ("ICH_JWT_AUDIENCE", "chat"),
            ("ICH_JWT_ID_CLAIM", "sub"),
            ("ICH_JWT_USERNAME_CLAIM", "preferred_username"),
        ],
    );
    let token = |audience: Value| {
        let claims = json!({
            "sub": 4711, "preferred_username": "Bob", "iss": "https://id.example/realms/chat", "aud": audience,
            "exp": now() + 3600, "nbf": now() + 30, "groups": "x".repeat(10 * 1024),
        });
        issuer.token("k1", &claims)
    };
    let mut bob = Client::join(server.address, &token(json!(["account", "chat"])));
    bob.wait_for("user_joined", &json!({"username": "Bob"}));
    assert!(!accepts(&server, &token(json!("account"))));
}

#[test]
fn tokens_of_the_previous_secret_are_accepted() {
    let folder = Folder::new();
    let (old, new) = (harness::server::SECRET, "another secret for tests, of more than 32 bytes");
    fs::write(folder.0.join("previous"), format!("{old}\n")).unwrap();
    let token = harness::server::token("Bob");
    let with_file =
        Server::start_in(&folder.0, &[("ICH_JWT_SECRET", new), ("ICH_JWT_PREVIOUS_SECRET_FILE", "previous")]);
    assert!(accepts(&with_file, &token));
    let with_value = Server::start(&[("ICH_JWT_SECRET", new), ("ICH_JWT_PREVIOUS_SECRET", old)]);
    assert!(accepts(&with_value, &token));
    let without = Server::start(&[("ICH_JWT_SECRET", new)]);
    assert!(!accepts(&without, &token));
}

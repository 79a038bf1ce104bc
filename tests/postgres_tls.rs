//! TLS connections to PostgreSQL: how the `sslmode` of the URL decides whether the certificate is checked.

mod harness;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use harness::postgres::Server;
use harness::wait_until;
use ich::accounts::{AccountStore, postgres};
use ich::supervisor::Supervisor;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// A self-signed certificate for `localhost`, and its key.
fn certificate() -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "ich test").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    let names = SubjectAlternativeName::new().dns("localhost").build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(names).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

fn connects(url: &str) -> bool {
    let store = postgres::open(url, &Supervisor::default()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(3);
    while !store.is_ready() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    store.is_ready()
}

#[test]
fn the_certificate_is_checked_according_to_the_sslmode() {
    let Some(server) = Server::start() else { return };
    let (own, key) = certificate();
    server.stop();
    server.use_tls(&own.to_pem().unwrap(), &key.private_key_to_pem_pkcs8().unwrap());
    server.launch();
    let (trusted, other) = (server.file("trusted.pem"), server.file("other.pem"));
    fs::write(&trusted, own.to_pem().unwrap()).unwrap();
    fs::write(&other, certificate().0.to_pem().unwrap()).unwrap();
    let (trusted, other) = (trusted.display(), other.display());

    let database = server.database();
    let by_address = database.url.clone();
    let by_name = database.url.replace("127.0.0.1", "localhost");
    for (expected, url, parameters) in [
        (true, &by_address, "sslmode=disable".to_owned()),
        (true, &by_address, "sslmode=require".to_owned()),
        (true, &by_address, format!("sslmode=verify-ca&sslrootcert={trusted}")),
        (true, &by_name, format!("sslmode=verify-full&sslrootcert={trusted}")),
        (false, &by_address, format!("sslmode=verify-full&sslrootcert={trusted}")),
        (false, &by_name, format!("sslmode=verify-full&sslrootcert={other}")),
        (false, &by_address, format!("sslmode=verify-ca&sslrootcert={other}")),
        (false, &by_address, format!("sslmode=require&sslrootcert={other}")),
        (false, &by_name, "sslmode=verify-full".to_owned()),
    ] {
        assert_eq!(connects(&format!("{url}&{parameters}")), expected, "{parameters}");
    }

    let _store = postgres::open(&format!("{by_address}&sslmode=require"), &Supervisor::default()).unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'ich' AND datname = current_database()";
    wait_until("an encrypted connection", || database.number(encrypted) > 0);
}

#[test]
fn a_server_without_tls_is_rejected_when_tls_is_required() {
    let Some(server) = Server::start() else { return };
    let database = server.database();
    assert!(connects(&format!("{}&sslmode=prefer", database.url)));
    assert!(!connects(&format!("{}&sslmode=require", database.url)));
}

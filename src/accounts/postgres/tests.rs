//! What can be told without a server; the contract is tested in `tests/account_stores.rs`, on a real one.

use super::*;

fn tls(url: &str) -> (String, TlsSettings) {
    TlsSettings::take_from(url).unwrap()
}

#[test]
fn tls_parameters_are_taken_out_of_the_url() {
    let settings =
        |mode, verify, root_cert: Option<&str>| TlsSettings { mode, verify, root_cert: root_cert.map(str::to_owned) };
    let (url, read) =
        tls("postgres://u:p?sslmode=x@h:5432/d?connect_timeout=1&sslmode=verify-full&sslrootcert=%2Fa%20b.pem");
    assert_eq!(url, "postgres://u:p?sslmode=x@h:5432/d?connect_timeout=1");
    assert_eq!(read, settings(SslMode::Require, Verify::CertificateAndHost, Some("/a b.pem")));
    for (query, expected) in [
        ("", settings(SslMode::Prefer, Verify::Nothing, None)),
        ("?sslmode=disable", settings(SslMode::Disable, Verify::Nothing, None)),
        ("?sslmode=require", settings(SslMode::Require, Verify::Nothing, None)),
        ("?sslmode=require&sslrootcert=/c", settings(SslMode::Require, Verify::Certificate, Some("/c"))),
        ("?sslmode=verify-ca&sslrootcert=system", settings(SslMode::Require, Verify::Certificate, None)),
    ] {
        let (url, read) = tls(&format!("postgresql://u@h/d{query}"));
        assert_eq!(read, expected);
        assert!(url.parse::<Config>().is_ok(), "{url}");
    }
}

#[test]
fn a_url_that_makes_no_sense_is_refused_without_quoting_it() {
    for bad in [
        "",
        "hunter22",
        "mysql://u:hunter22@h/d",
        "postgres://u:hunter22@h:port/d",
        "postgres://u:hunter22@h/d?sslmode=sometimes",
        "postgres://u:p@ss?hunter22=1@h/d",
        "postgres://u:hunter22@h/d?sslrootcert=%zz",
        "postgres://u:hunter22@h/d?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
    ] {
        let Err(StoreError::Unusable(message)) = open(bad, &Supervisor::default()) else { panic!("{bad} was taken") };
        assert!(message.contains("ICH_DATABASE_URL") && !message.contains("hunter22"), "{message}");
    }
}

//! URLs that cannot be used. `tests/account_stores.rs` tests the contract on a real server.

use super::*;

#[test]
fn an_invalid_url_is_refused_without_quoting_it() {
    for invalid in [
        "",
        "hunter22",
        "mysql://u:hunter22@h/d",
        "postgres://u:hunter22@h:port/d",
        "postgres://u:hunter22@h/d?sslmode=sometimes",
        "postgres://u:p@ss?hunter22=1@h/d",
        "postgres://u:hunter22@h/d?sslrootcert=%zz",
        "postgres://u:hunter22@h/d?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
    ] {
        let Err(StoreError::Unusable(message)) = open(invalid, &Supervisor::default()) else {
            panic!("{invalid} was accepted")
        };
        assert!(message.contains("ICH_DATABASE_URL") && !message.contains("hunter22"), "{message}");
    }
}

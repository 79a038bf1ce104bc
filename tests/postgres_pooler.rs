//! pgbouncer between the server and PostgreSQL: every pool mode with transactions works, and a pool that cannot answer is
//! reported.

mod harness;

use harness::http::{get, post};
use harness::pgbouncer::Pgbouncer;
use harness::postgres::Server as Postgres;
use harness::server::Server;
use harness::{wait_for, wait_until};
use postgres::{Client, NoTls};
use serde_json::json;

fn start(url: &str) -> Server {
    let unlimited = ["ICH_MAX_LOGINS_PER_MINUTE", "ICH_MAX_REGISTRATIONS_PER_MINUTE"].map(|name| (name, "0"));
    Server::launch(&[("ICH_DATABASE_URL", url), unlimited[0], unlimited[1]])
}

fn wait_line(server: &Server, parts: &[&str]) {
    wait_for(&format!("{parts:?} in the log"), || {
        server.log().lines().any(|line| parts.iter().all(|part| line.contains(part))).then_some(())
    });
}

#[test]
fn registrations_and_logins_work_in_transaction_mode() {
    let Some(postgres) = Postgres::start() else { return };
    // Fewer connections than the server has threads, so that they change hands.
    let settings = "pool_mode=transaction\ndefault_pool_size=3";
    let Some(pooler) = Pgbouncer::start(postgres.port(), settings) else { return };
    let database = postgres.database();
    let server = start(&pooler.url(database.name()));
    server.wait_ready();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let address = server.address;
            scope.spawn(move || {
                for number in 0..5 {
                    let name = format!("user {thread} {number}");
                    let email = format!("{thread}-{number}@example.com");
                    let account = json!({"email": email, "username": name, "password": "12345678"}).to_string();
                    assert_eq!(post(address, "/createUser", &account).status, 200);
                    assert_eq!(post(address, "/createUser", &account).code(), "email_taken");
                    let same_name = json!({"email": format!("x{email}"), "username": name, "password": "12345678"});
                    assert_eq!(post(address, "/createUser", &same_name.to_string()).code(), "username_taken");
                    let login = json!({"email": email, "password": "12345678"}).to_string();
                    assert_eq!(post(address, "/login", &login).status, 200);
                }
            });
        }
    });
    assert!(!server.log().contains("ERROR"), "{}", server.log());
    // The limits of a transaction do not stay behind on the connections of the pool.
    let mut client = Client::connect(&pooler.url(database.name()), NoTls).unwrap();
    for _ in 0..5 {
        let timeout: String = match &client.simple_query("SHOW statement_timeout").unwrap()[..] {
            [_, postgres::SimpleQueryMessage::Row(row), ..] | [postgres::SimpleQueryMessage::Row(row), ..] => {
                row.get(0).unwrap().to_owned()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(timeout, "0");
    }
}

#[test]
fn a_pooler_whose_database_is_away_is_reported() {
    let Some(postgres) = Postgres::start() else { return };
    let Some(pooler) = Pgbouncer::start(postgres.port(), "pool_mode=session\nserver_login_retry=1") else { return };
    postgres.stop();
    let server = start(&pooler.url("postgres"));
    wait_line(&server, &["ERROR", &format!("127.0.0.1:{}", pooler.port()), "ICH_DATABASE_URL"]);
    assert_eq!(get(server.address, "/ready").status, 503);
    postgres.launch();
    server.wait_ready();
}

#[test]
fn a_pool_without_a_free_connection_is_reported() {
    let Some(postgres) = Postgres::start() else { return };
    let Some(pooler) = Pgbouncer::start(postgres.port(), "pool_mode=session\ndefault_pool_size=1") else { return };
    let mut other = Client::connect(&pooler.url("postgres"), NoTls).unwrap();
    other.batch_execute("SELECT 1").unwrap();
    let server = start(&pooler.url("postgres"));
    let address = format!("127.0.0.1:{}", pooler.port());
    wait_line(&server, &["ERROR", "no answer for 7 seconds", &address, "its pool has free connections"]);
    assert_eq!(get(server.address, "/ready").status, 503);
    drop(other);
    server.wait_ready();
}

#[test]
fn a_pool_with_fewer_connections_than_the_server_wants_is_enough() {
    let Some(postgres) = Postgres::start() else { return };
    let Some(pooler) = Pgbouncer::start(postgres.port(), "pool_mode=session\ndefault_pool_size=1") else { return };
    let server = start(&pooler.url("postgres"));
    server.wait_ready();
    wait_line(&server, &["ERROR", "no answer for 7 seconds", "its pool has free connections"]);
    // The only connection still works.
    let account = json!({"email": "a@example.com", "username": "Ann", "password": "12345678"}).to_string();
    assert_eq!(post(server.address, "/createUser", &account).status, 200);
    wait_until("a ready server", || get(server.address, "/ready").status == 200);
}

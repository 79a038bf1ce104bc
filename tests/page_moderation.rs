//! The web page of a user on whom an administrator acts: it shows a mute until it ends, and a kick or a ban at the login.

mod harness;

use harness::browser::Browser;
use harness::http::post;
use harness::page::{PASSWORD, Page, email};
use harness::server::{Server, command};
use serde_json::json;

fn register(server: &Server, name: &str) {
    let body = json!({"email": email(name), "username": name, "password": PASSWORD});
    assert_eq!(post(server.address, "/createUser", &body.to_string()).status, 200);
}

/// Registers an administrator. Returns a function that runs `ich` with their token.
fn admin(server: &Server) -> impl Fn(&[&str]) + '_ {
    register(server, "Root");
    let promoted = command(server.dir(), &[]).args(["user", "promote", "Root"]).output().unwrap();
    assert!(promoted.status.success(), "{promoted:?}");
    let body = json!({"email": email("Root"), "password": PASSWORD}).to_string();
    let token = post(server.address, "/login", &body).json()["token"].as_str().unwrap().to_owned();
    let url = format!("http://{}", server.address);
    move |action| {
        let mut act = command(server.dir(), &[("ICH_TOKEN", &token)]);
        let output = act.args(action).args(["--url", &url]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn a_muted_user_sees_why_and_writes_again_afterwards() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let act = admin(&server);
    let page = Page::open_as(&browser, server.address, "Ann");
    page.say("one");
    page.wait_texts(&["one"]);
    act(&["mute", "Ann", "--reason", "too much noise"]);
    page.say("two");
    page.wait_state("Muted");
    page.wait_until("document.getElementById('banner-text').textContent.includes('too much noise')");
    page.wait_pending(&["two"]);
    act(&["unban", "Ann"]);
    page.say("three");
    page.wait_state("Online");
    page.wait_texts(&["one", "three"]);
    page.wait_pending(&["two"]);
    let retry =
        "[...document.querySelectorAll('#pending button')].find((button) => button.textContent === 'Try again')";
    browser.run(&format!("{retry}.click()"));
    page.wait_texts(&["one", "three", "two"]);
    page.wait_pending(&[]);
}

#[test]
fn a_kicked_or_banned_user_sees_the_reason_at_the_login() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    register(&server, "Ann");
    let act = admin(&server);
    let page = Page::open(&browser, server.address);
    page.log_in("Ann", PASSWORD);
    page.wait_state("Online");
    act(&["kick", "Ann", "--reason", "spam"]);
    page.wait_login("kicked by an administrator: spam");
    page.log_in("Ann", PASSWORD);
    page.wait_state("Online");
    act(&["ban", "Ann", "--reason", "threats"]);
    page.wait_login("threats");
    page.log_in("Ann", PASSWORD);
    page.wait_login("threats");
}

//! The web page before and after the lobby: accounts, logins, reloads, and the end of a token.

mod harness;

use std::fs;
use std::time::Duration;

use harness::browser::Browser;
use harness::folder::Folder;
use harness::http::post;
use harness::issuer::{Issuer, claims};
use harness::page::{PASSWORD, Page, email};
use harness::server::{Server, new_dir, token_for};
use harness::wait_until;
use harness::watcher::Watcher;
use serde_json::json;

#[test]
fn a_user_creates_an_account_stays_after_a_reload_and_logs_out() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let page = Page::open(&browser, server.address);
    page.register("Ann");
    let page = page.in_lobby();
    page.wait_users(&["Ann"]);
    page.say("before the reload");
    page.wait_texts(&["before the reload"]);
    page.write("a draft");

    browser.reload();
    page.wait_state("Online");
    page.wait_texts(&["before the reload"]);
    page.wait_users(&["Ann"]);
    assert_eq!(browser.value("document.getElementById('text').value"), "a draft");

    browser.run("document.getElementById('log-out').click()");
    page.wait_login("");
    assert_eq!(browser.value("sessionStorage.length"), 0);
    browser.reload();
    page.wait_login("");
    page.log_in("Ann", "not the password");
    page.wait_login("password");
    page.log_in("Ann", PASSWORD);
    page.wait_state("Online");
    // The browser reports the refused login, and nothing else: no violation of the policy of the page.
    let errors = browser.console_errors();
    assert!(errors.len() == 1 && errors[0].contains("/login"), "{errors:?}");
}

#[test]
fn a_refused_token_leads_to_the_login_and_is_not_used_again() {
    let Some(browser) = Browser::start() else { return };
    let dir = new_dir();
    let server = Server::start_in(&dir, &[]);
    let port = server.address.port().to_string();
    let page = Page::open_as(&browser, server.address, "Ann");

    drop(server);
    page.wait_state("Offline");
    let other_secret = "another secret, so that earlier tokens are refused";
    let server = Server::start_in(&dir, &[("ICH_PORT", &port), ("ICH_JWT_SECRET", other_secret)]);
    page.wait_login("token");
    assert_eq!(browser.value("sessionStorage.getItem('ich.session')"), json!(null));
    drop(server);
    drop(std::fs::remove_dir_all(&dir));
}

#[test]
fn the_end_of_a_token_leads_to_the_login_and_keeps_what_was_not_sent() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let short = token_for("1", "Ann", Duration::from_secs(20));
    let page = Page::open_with_token(&browser, server.address, "Ann", &short).in_lobby();
    // A message that the server has not confirmed.
    let pending = json!({"username": "Ann", "messages": [{"id": "x", "text": "not sent", "problem": null}]});
    browser.run(&format!("sessionStorage.setItem('ich.pending', {})", json!(pending.to_string())));
    page.write("not ready to be sent");
    page.wait_login("expired");
    page.register("Ann");
    page.wait_state("Online");
    page.wait_texts(&["not sent"]);
    page.wait_pending(&[]);
    assert_eq!(browser.value("document.getElementById('text').value"), "not ready to be sent");
}

#[test]
fn the_user_renews_the_login_before_it_ends_and_stays() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let bob = Watcher::join(&server, "Bob");
    let account = json!({"email": email("Ann"), "username": "Ann", "password": PASSWORD});
    let id = post(server.address, "/createUser", &account.to_string()).json()["id"].clone();
    let short = token_for(id.as_str().expect("an id"), "Ann", Duration::from_secs(12));
    let page = Page::open(&browser, server.address);
    // The page asks at once.
    browser.run(&format!(
        "window.endsAt = Date.now() + 12_000;
         const session = {{ token: {}, username: 'Ann', email: {}, lifetime: {{ askAt: Date.now(), endsAt }} }};
         sessionStorage.setItem('ich.session', JSON.stringify(session));",
        json!(short),
        json!(email("Ann"))
    ));
    browser.reload();
    page.wait_state("Online");
    page.wait_until("!document.getElementById('renewal').hidden");
    let renew = |password: &str| {
        let set = format!("document.getElementById('renewal-password').value = {}", json!(password));
        browser.run(&format!("{set}; document.getElementById('renewal').requestSubmit()"));
    };
    renew("not the password");
    page.wait_until("document.getElementById('renewal-text').textContent.includes('password is wrong')");
    renew(PASSWORD);
    page.wait_until("document.getElementById('renewal').hidden");

    // Longer than the first token. The session goes on: the page did not have to join again.
    let joined_at = bob.wait_frame("user_joined", "Ann").received_at;
    wait_until("the end of the first token", || joined_at.elapsed() > Duration::from_secs(15));
    page.say("still here");
    page.wait_texts(&["still here"]);
    assert_eq!(bob.count("user_left", "Ann"), 0);
}

#[test]
fn a_login_that_is_renewed_while_the_page_connects_continues_the_session() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let account = json!({"email": email("Ann"), "username": "Ann", "password": PASSWORD});
    assert_eq!(post(server.address, "/createUser", &account.to_string()).status, 200);
    let page = Page::open_played(&browser, server.address, "Ann", &[]);
    // The page asks at once.
    let lifetime = json!({"askAt": 0, "endsAt": 1});
    let session = json!({"token": "no token", "username": "Ann", "email": email("Ann"), "lifetime": lifetime});
    browser.run(&format!("sessionStorage.setItem('ich.session', {})", json!(session.to_string())));
    browser.reload();
    page.wait_state("Connecting");
    browser.run(&format!(
        "document.getElementById('renewal-password').value = {}; document.getElementById('renewal').requestSubmit()",
        json!(PASSWORD)
    ));
    page.wait_until("document.getElementById('renewal').hidden");
    page.receive(&[json!({"type": "users_online", "msg": {"list": []}})]);
    page.wait_state("Online");
    page.wait_until("window.lobby.sent.length > 0 && window.lobby.sent[0].type === 'token'");
    page.receive(&[json!({"type": "caught_up", "msg": {"complete": true}})]);
    page.say("the first message");
    page.wait_until("window.lobby.sent[1]?.type === 'chat_message'");
}

#[test]
fn a_user_of_another_service_logs_in_with_its_token() {
    let Some(browser) = Browser::start() else { return };
    let issuer = Issuer::new();
    let folder = Folder::new();
    let keys = folder.0.join("keys.pem");
    fs::write(&keys, &issuer.pem).expect("writing the keys");
    let server = Server::start(&[
        ("ICH_JWT_SECRET", ""),
        ("ICH_JWT_PUBLIC_KEY_FILE", keys.to_str().expect("a path")),
        ("ICH_JWT_USERNAME_CLAIM", "preferred_username"),
    ]);
    let page = Page::open(&browser, server.address);
    page.log_in("Ann", PASSWORD);
    page.wait_login("issued by an outside issuer");
    page.wait_until("document.getElementById('token-login').open && document.activeElement.id === 'token'");
    let join = |token: &str| {
        let set = format!("document.getElementById('token').value = {}", json!(token));
        browser.run(&format!("{set}; document.getElementById('token-form').requestSubmit()"));
    };
    join("no token");
    page.wait_login("is no token");
    join("wrong");
    page.wait_login("token");
    join(&issuer.token("", &claims(&json!({"preferred_username": "Ann"}))));
    page.wait_state("Online");
    page.wait_users(&["Ann"]);
    page.say("hello");
    page.wait_texts(&["hello"]);
    browser.reload();
    page.wait_state("Online");
    page.wait_texts(&["hello"]);
}

//! The web page is accessible: axe-core finds no violation of WCAG 2.2 (A, AA) and of its best practices, in each state of
//! the page, in dark and light, on a wide and on a narrow screen.

mod harness;

use std::fs;
use std::path::Path;

use harness::browser::Browser;
use harness::page::Page;
use harness::server::Server;
use harness::skip;
use serde_json::{Value, json};

/// `tests/run` installs it.
fn axe() -> Option<String> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe/node_modules/axe-core/axe.min.js");
    let source = fs::read_to_string(&file).ok();
    if source.is_none() {
        skip("axe-core: tests/run --prepare");
    }
    source
}

/// Checks the page in dark and light, wide and narrow. `target-size`, a rule of WCAG 2.2, is off by default.
fn check(browser: &Browser, axe: &str, state: &str) {
    for (width, is_dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
        browser.set_screen(width, 844, is_dark, width < 1000);
        // Colours change in the next frame.
        browser.run_async(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(null)))",
        );
        let violations = browser.run_async(&format!(
            "{axe}; const done = arguments[0];
             axe.run(document, {{ resultTypes: ['violations'], rules: {{ 'target-size': {{ enabled: true }} }} }}).then(
                 ({{ violations }}) => done(violations.map(({{ id, nodes }}) => [id, nodes.map(({{ html, failureSummary }}) =>
                     [html, failureSummary])])),
                 (error) => done([String(error)]))"
        ));
        assert_eq!(violations, json!([]), "{state}, {width} pixels, dark: {is_dark}");
    }
}

fn frame(kind: &str, msg: Value) -> Value {
    json!({"type": kind, "sent_at": "2026-11-23T10:00:00+01:00", "event_id": format!("{msg}").len().to_string(), "msg": msg})
}

#[test]
fn axe_finds_no_violation() {
    let Some(axe) = axe() else { return };
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let page = Page::open(&browser, server.address);
    check(&browser, &axe, "the login");
    page.log_in("Nobody", "not the password");
    page.wait_login("password");
    check(&browser, &axe, "a refused login");
    browser.run("document.getElementById('switch').click()");
    check(&browser, &axe, "a new account");

    let colours: Vec<String> = (0..40).map(|number| format!("User {number}")).collect();
    let page = Page::open_played(&browser, server.address, "Ann", &[frame("users_online", json!({ "list": colours }))]);
    check(&browser, &axe, "an empty lobby");
    let caught_up = frame("caught_up", json!({"complete": true, "messages": 0}));
    page.receive(&[caught_up]);
    let said = |from: &str, text: &str| frame("chat_message", json!({"from_user": from, "text": text}));
    let messages: Vec<Value> = colours.iter().map(|name| said(name, &format!("https://example.org/ {name}"))).collect();
    page.receive(&messages);
    page.receive(&[
        said("Ann", "my own"),
        said("Ann", "my own, the second"),
        frame("user_joined", json!({"username": "Zoe"})),
    ]);
    page.say("not confirmed");
    page.wait_pending(&["not confirmed"]);
    check(&browser, &axe, "a lobby with messages");
    browser.run("document.getElementById('show-users').click()");
    check(&browser, &axe, "the list of users");
    browser.run("document.getElementById('show-users').click()");
    browser.run("document.getElementById('renewal').hidden = false");
    check(&browser, &axe, "a login that ends soon");
    browser.run("document.getElementById('renewal').hidden = true");
    let muted = "const { id } = window.lobby.sent.at(-1); window.lobby.receive(
        { type: 'error', id, msg: { code: 'muted', text: 'muted for 5 minutes: be kind' } })";
    browser.run(muted);
    page.wait_state("Muted");
    check(&browser, &axe, "a muted user");
    browser.run("window.lobby.onclose({ code: 1012, reason: 'the server restarts' })");
    page.wait_state("Offline");
    check(&browser, &axe, "an offline page");
}

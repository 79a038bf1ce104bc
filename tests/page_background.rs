//! The web page in a tab that is not in front, and the user who returns to it: what is new, and what day it is.

mod harness;

use harness::browser::Browser;
use harness::page::Page;
use harness::server::Server;
use serde_json::{Value, json};

fn frame(kind: &str, id: &str, msg: Value) -> Value {
    json!({"type": kind, "sent_at": "2026-11-23T10:00:00Z", "event_id": id, "msg": msg})
}

fn online() -> Value {
    frame("users_online", "0", json!({"list": ["Ann", "Bob"]}))
}

fn caught_up() -> Value {
    frame("caught_up", "0", json!({"complete": true, "messages": 1}))
}

fn said(id: &str, from: &str) -> Value {
    frame("chat_message", id, json!({"from_user": from, "text": format!("text {id}")}))
}

/// The user switches to another tab, or back to this one.
fn hide(browser: &Browser, is_hidden: bool) {
    browser.run(&format!(
        "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }});
         document.dispatchEvent(new Event('visibilitychange'));"
    ));
}

/// Waits until the line stands before this message only.
fn wait_unread_line(page: &Page, text: &str) {
    let entries = "[...document.querySelectorAll('#messages .unread')].map((line) => line.parentElement)";
    page.wait_until(&format!("{entries}.map((entry) => entry.querySelector('.text').textContent).join() === '{text}'"));
}

#[test]
fn the_title_counts_new_messages_and_a_line_stands_before_them() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let page = Page::open_played(&browser, server.address, "Ann", &[online(), said("1", "Bob"), caught_up()]);
    page.wait_texts(&["text 1"]);
    page.receive(&[said("2", "Bob")]);
    let title = browser.value("document.title");
    let title = title.as_str().expect("a title");
    let wait_title = |unread: &str| page.wait_until(&format!("document.title === '{unread}{title}'"));
    assert!(!title.contains('('), "nothing is new for a user who looks at the page: {title}");

    hide(&browser, true);
    page.receive(&[said("3", "Ann"), said("4", "Bob"), said("5", "Bob")]);
    wait_title("(2) ");
    wait_unread_line(&page, "text 4");
    // The connection breaks. What the server sends again is not new, what the page has missed is.
    browser.run("window.lost = window.lobby; window.lobby.onclose({ code: 1006, reason: '' })");
    page.wait_until("window.lobby !== window.lost && window.lobby.onmessage");
    page.receive(&[online(), said("5", "Bob"), said("6", "Bob"), caught_up()]);
    wait_title("(3) ");

    hide(&browser, false);
    wait_title("");
    wait_unread_line(&page, "text 4");
    hide(&browser, true);
    page.receive(&[said("7", "Bob")]);
    wait_title("(1) ");
    wait_unread_line(&page, "text 7");
}

#[test]
fn after_midnight_today_is_yesterday() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let page = Page::open_played(&browser, server.address, "Ann", &[online()]);
    browser.run(
        "Date.now = () => Date.parse('2026-11-23T12:00:00');
         const msg = { from_user: 'Bob', text: 'good morning' };
         const sent_at = new Date(Date.now()).toISOString();
         window.lobby.receive({ type: 'chat_message', event_id: '1', sent_at, msg });",
    );
    page.receive(&[caught_up()]);
    let days = "[...document.querySelectorAll('#messages .day')].map((day) => day.textContent).join()";
    page.wait_until(&format!("{days} === 'Today'"));
    hide(&browser, true);
    browser.run("Date.now = () => Date.parse('2026-11-24T12:00:00')");
    hide(&browser, false);
    page.wait_until(&format!("{days} === 'Yesterday'"));
}

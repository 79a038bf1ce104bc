//! The web page and earlier messages: pages of them above those that are shown, each message once, until the beginning.

mod harness;

use harness::browser::Browser;
use harness::page::Page;
use harness::server::Server;
use serde_json::{Value, json};

/// Answers requests for earlier messages as the server does: 120 messages, the newest first.
const ARCHIVE: &str = "
    window.asked = [];
    const realFetch = window.fetch;
    window.fetch = async (path, options) => {
        if (!path.startsWith('history')) return realFetch(path, options);
        const query = new URL(path, location).searchParams;
        window.asked.push(query.get('before'));
        const all = Array.from({ length: 120 }, (_, number) => number).filter((number) => number < query.get('before'));
        const page = all.slice(-query.get('limit')).reverse().map((number) => ({ event_id: String(number),
            sent_at: '2026-11-23T09:00:00Z', from_user: 'Bob', text: `message ${number}` }));
        return Response.json({ messages: page, more: all.length > page.length });
    };
";

/// The message with this number.
fn message(number: usize) -> Value {
    json!({"type": "chat_message", "sent_at": "2026-11-23T10:00:00Z", "event_id": number.to_string(),
           "msg": {"from_user": "Bob", "text": format!("message {number}")}})
}

#[test]
fn earlier_messages_are_loaded_when_the_user_scrolls_up_until_the_beginning() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let page = Page::open_played(&browser, server.address, "Ann", &[]);
    browser.run(ARCHIVE);
    let online = json!({"type": "users_online", "sent_at": "2026-11-23T10:00:00Z", "msg": {"list": ["Bob"]}});
    let caught_up =
        json!({"type": "caught_up", "sent_at": "2026-11-23T10:00:00Z", "msg": {"complete": true, "messages": 40}});
    let mut frames = vec![online];
    frames.extend((80..120).map(message));
    frames.push(caught_up);
    page.receive(&frames);
    let texts = |first: usize| (first..120).map(|number| format!("message {number}")).collect::<Vec<_>>();
    let wait_texts = |first| page.wait_texts(&texts(first).iter().map(String::as_str).collect::<Vec<_>>());
    wait_texts(80);
    assert_eq!(browser.value("window.asked"), json!([]), "the user has not scrolled up");

    browser.run("document.getElementById('messages-scroller').scrollTop = 0");
    wait_texts(30);
    assert_eq!(browser.value("window.asked"), json!(["80"]));
    // What the user was reading has not moved.
    assert_eq!(browser.value("document.getElementById('messages-scroller').scrollTop > 500"), true);
    browser.run("document.getElementById('earlier').click()");
    wait_texts(0);
    page.wait_until("!document.getElementById('beginning').hidden && document.getElementById('earlier').hidden");
    browser.run("document.getElementById('messages-scroller').scrollTop = 0");
    page.receive(&[message(120)]);
    page.wait_until("document.getElementById('latest').textContent === '1 new'");
    assert_eq!(browser.value("window.asked"), json!(["80", "30"]));
}

fn online(id_before: &str) -> Value {
    json!({"type": "users_online", "sent_at": "2026-11-23T10:00:00Z", "event_id": id_before, "msg": {"list": ["Bob"]}})
}

fn caught_up(is_complete: bool) -> Value {
    json!({"type": "caught_up", "sent_at": "2026-11-23T10:00:00Z", "msg": {"complete": is_complete, "messages": 1}})
}

/// Breaks the connection of a page that was opened with `Page::open_played`, and waits for the next one.
fn reconnect(page: &Page) {
    page.browser.run("window.lost = window.lobby; window.lobby.onclose({ code: 1006, reason: '' })");
    page.wait_until("window.lobby !== window.lost && window.lobby.onmessage");
}

#[test]
fn a_gap_after_a_long_absence_is_filled_from_earlier_messages() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let page = Page::open_played(&browser, server.address, "Ann", &[]);
    // Before the first message: when the page has few messages, it asks for earlier ones at once. There are none.
    browser.run(ARCHIVE);
    page.receive(&[online("none"), message(0), caught_up(true)]);
    page.wait_texts(&["message 0"]);
    reconnect(&page);
    // The server has the newest messages only.
    let newest: Vec<Value> = (90..100).map(message).collect();
    page.receive(&[&[online("99")], newest.as_slice(), &[caught_up(false), message(100)]].concat());
    let texts: Vec<String> = (0..101).map(|number| format!("message {number}")).collect();
    page.wait_texts(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(browser.value("window.asked.filter((before) => before > 0)"), json!(["90"]));
    assert_eq!(browser.value("document.body.textContent.includes('missing')"), false);

    // The last message that the page knows is not in the archive: the page says that messages are missing.
    let mut other = message(0);
    other["event_id"] = json!("other");
    page.receive(&[other]);
    reconnect(&page);
    page.receive(&[online("0"), message(130), caught_up(false)]);
    page.wait_until("document.querySelector('#messages .note')?.textContent.includes('missing')");
    page.wait_until("document.querySelector('#messages').lastElementChild.textContent.includes('message 130')");
}

#[test]
fn the_page_shows_all_messages_that_the_server_keeps() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let texts: Vec<String> = (0..170).map(|number| format!("message {number}")).collect();
    let mut bob = server.join("Bob");
    texts.iter().for_each(|text| bob.say(text));
    bob.texts_until("message 169");
    let page = Page::open_as(&browser, server.address, "Ann");
    let shown = |first: usize| texts[first..].iter().map(String::as_str).collect::<Vec<_>>();
    page.wait_texts(&shown(70));
    browser.run("document.getElementById('messages-scroller').scrollTop = 0");
    page.wait_texts(&shown(20));
    browser.run("document.getElementById('messages-scroller').scrollTop = 0");
    page.wait_texts(&shown(0));
    page.wait_until("!document.getElementById('beginning').hidden");
    assert_eq!(browser.console_errors(), Vec::<String>::new());
}

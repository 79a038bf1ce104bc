//! Chatting on the web page: with other users on other instances, in two windows, and with texts that look like markup.

mod harness;

use harness::browser::Browser;
use harness::client::Client;
use harness::page::Page;
use harness::server::{Server, token};
use harness::sqlite::DataFolder;
use harness::wait_for;
use harness::watcher::Watcher;
use serde_json::{Value, json};

#[test]
fn two_users_on_two_instances_see_each_other_and_each_message_once() {
    let Some(browser) = Browser::start() else { return };
    let folder = DataFolder::new();
    let servers = [Server::start_in(folder.path(), &[]), Server::start_in(folder.path(), &[])];
    let first = browser.window();
    let ann = Page::open_as(&browser, servers[0].address, "Ann");
    let second = browser.new_window();
    let bob = Page::open_as(&browser, servers[1].address, "Bob");

    bob.wait_users(&["Ann", "Bob"]);
    bob.say("Hello Ann");
    browser.switch_to(&first);
    ann.wait_users(&["Ann", "Bob"]);
    ann.say("Hello Bob");
    for window in [&second, &first] {
        browser.switch_to(window);
        ann.wait_texts(&["Hello Ann", "Hello Bob"]);
        ann.wait_pending(&[]);
    }
    // The own message is marked, and only this one.
    let own = "[...document.querySelectorAll('#messages .own .text')].map((text) => text.textContent).join()";
    assert_eq!(browser.value(own), "Hello Bob");
    ann.wait_until("document.querySelector('#messages .presence .line').textContent.startsWith('Bob joined')");
}

#[test]
fn two_windows_of_one_user_are_one_user_with_the_same_messages() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let cid = Watcher::join(&server, "Cid");
    let first = browser.window();
    let page = Page::open_as(&browser, server.address, "Ann");
    page.say("from the first");
    page.wait_texts(&["from the first"]);
    browser.new_window();
    let page = Page::open_as(&browser, server.address, "Ann");
    page.wait_users(&["Ann", "Cid"]);
    page.wait_texts(&["from the first"]);
    page.say("from the second");
    page.wait_texts(&["from the first", "from the second"]);
    // Both windows mark both messages as own.
    assert_eq!(browser.value("document.querySelectorAll('#messages .own').length"), 2);
    browser.switch_to(&first);
    page.wait_texts(&["from the first", "from the second"]);
    assert_eq!(browser.value("document.querySelectorAll('#messages .own').length"), 2);
    assert_eq!((cid.count("user_joined", "Ann"), cid.count("user_left", "Ann")), (1, 0));
}

#[test]
fn names_and_texts_are_data_and_links_are_links() {
    const MARKUP: &str =
        "<img src=x onerror=\"document.title='run'\"> <b>bold</b> &amp; https://example.org/a?b=1&c=2.";
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let name = "<i>Eve</i><script>document.title='run'</script>";
    let mut eve = Client::join(server.address, &token(name));
    eve.say(MARKUP);
    eve.say("javascript:alert(1)\nsecond line");
    let page = Page::open_as(&browser, server.address, "Ann");
    page.wait_texts(&[MARKUP, "javascript:alert(1)\nsecond line"]);
    assert_eq!(browser.value("document.querySelector('#messages .name').textContent"), name);
    assert_eq!(browser.value("document.querySelectorAll('#lobby img, #lobby b, #lobby i, #lobby script').length"), 1);
    assert_ne!(browser.value("document.title"), "run");
    let link = "const link = document.querySelector('#messages a'); return [link.href, link.textContent, link.rel]";
    let expected =
        json!(["https://example.org/a?b=1&c=2", "https://example.org/a?b=1&c=2", "noopener noreferrer nofollow"]);
    assert_eq!(browser.run(link), expected);
    assert_eq!(browser.value("document.querySelectorAll('#messages a').length"), 1);
    assert_eq!(browser.console_errors(), Vec::<String>::new());
}

#[test]
fn a_refused_message_stays_with_its_reason_until_the_user_decides() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[("ICH_MAX_TEXT_CHARS", "10")]);
    let page = Page::open_as(&browser, server.address, "Ann");
    page.say("more than ten");
    page.wait_until("document.querySelector('#pending').textContent.includes('longer than 10')");
    page.say("short");
    page.wait_texts(&["short"]);
    page.wait_pending(&["more than ten"]);
    browser.run(
        "[...document.querySelectorAll('#pending button')].find(({ textContent }) => textContent === 'Edit').click()",
    );
    page.wait_pending(&[]);
    assert_eq!(browser.value("document.getElementById('text').value"), "more than ten");
    page.say("now short");
    page.wait_texts(&["short", "now short"]);
}

#[test]
fn a_message_that_is_not_confirmed_stands_where_it_stands_later() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let frame = |kind: &str, id: &str, msg: Value| json!({"type": kind, "sent_at": "2026-11-23T10:00:00Z", "event_id": id, "msg": msg});
    let said = |id: &str, from: &str| frame("chat_message", id, json!({"from_user": from, "text": id}));
    let online = frame("users_online", "0", json!({"list": ["Ann", "Bob"]}));
    let caught_up = frame("caught_up", "0", json!({"complete": true, "messages": 1}));
    let page = Page::open_played(&browser, server.address, "Ann", &[online, said("by Bob", "Bob"), caught_up]);
    page.wait_texts(&["by Bob"]);
    page.say("one");
    page.say("two");
    page.wait_pending(&["one", "two"]);
    // A new group with a name, and a second message below it.
    let names = "[...document.querySelectorAll('#pending li')].map((row) => row.querySelector('.name')?.textContent)";
    assert_eq!(browser.value(names), json!(["Ann", null]));
    let place = |list: &str, text: &str| {
        let texts = format!("[...document.querySelectorAll('#{list} .text')]");
        browser.value(&format!(
            "(({{ x, y }}) => [x, y])({texts}.find((each) => each.textContent === '{text}').getBoundingClientRect())"
        ))
    };
    let pending = [place("pending", "one"), place("pending", "two")];
    browser.run(
        "const { id, msg } = window.lobby.sent.find(({ msg }) => msg?.text === 'one');
         window.lobby.receive({ type: 'chat_message', id, event_id: '9', sent_at: '2026-11-23T10:00:00Z',
             msg: { from_user: 'Ann', text: msg.text } });",
    );
    page.wait_texts(&["by Bob", "one"]);
    page.wait_pending(&["two"]);
    assert_eq!([place("messages", "one"), place("pending", "two")], pending);
    // The lobby does not confirm the other one, and a message of another user comes first.
    page.wait_until("document.getElementById('pending').textContent.includes('Not sent yet')");
    page.receive(&[said("by Bob again", "Bob")]);
    page.wait_until(&format!("JSON.stringify({names}) === '[\"Ann\"]'"));
}

#[test]
fn copied_messages_have_names_and_texts_without_initials() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let mut bob = server.join("Bob");
    bob.say("first");
    bob.say("second");
    let page = Page::open_as(&browser, server.address, "Ann");
    page.wait_texts(&["first", "second"]);
    // In one script, and again if the page has just drawn the messages anew.
    let select = "(getSelection().selectAllChildren(document.getElementById('messages')), String(getSelection()))";
    let lines = wait_for("both messages to be copied", || {
        let copied = browser.value(select);
        let lines: Vec<String> = copied.as_str()?.lines().map(|line| line.trim().to_owned()).collect();
        ["first", "second"].iter().all(|text| lines.iter().any(|line| line == text)).then_some(lines)
    });
    assert!(lines.iter().any(|line| line.starts_with("Bob")) && !lines.iter().any(|line| line == "B"), "{lines:?}");
}

#[test]
fn the_composer_keeps_the_focus_and_long_texts() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[("ICH_MAX_TEXT_CHARS", "4500")]);
    let page = Page::open_as(&browser, server.address, "Ann");
    let insert = |length: usize| {
        browser.run(&format!("document.execCommand('insertText', false, 'x'.repeat({length}))"));
        assert_eq!(browser.value("document.getElementById('text').value.length"), length);
    };
    // The button takes the focus, and gives it back: otherwise the keyboard of a phone would close.
    let send = "const button = document.querySelector('#composer button'); button.focus(); button.click()";
    insert(4_400);
    browser.run(send);
    page.wait_texts(&["x".repeat(4_400).as_str()]);
    assert_eq!(browser.value("document.activeElement.id"), "text");
    // A text is not cut without a word: the server says how long it may be.
    insert(5_000);
    browser.run(send);
    page.wait_until("document.getElementById('pending').textContent.includes('longer than 4500')");
    browser.run(
        "const discard = [...document.querySelectorAll('#pending button')].at(-1); discard.focus(); discard.click()",
    );
    page.wait_pending(&[]);
    assert_eq!(browser.value("document.activeElement.id"), "messages-scroller");
}

#[test]
fn more_messages_than_allowed_are_all_sent_in_order() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[("ICH_MESSAGE_BURST", "3"), ("ICH_MAX_MESSAGES_PER_SECOND", "2")]);
    let page = Page::open_as(&browser, server.address, "Ann");
    let texts: Vec<String> = (0..7).map(|number| number.to_string()).collect();
    texts.iter().for_each(|text| page.say(text));
    page.wait_state("Slowed down");
    page.wait_texts(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    page.wait_state("Online");
}

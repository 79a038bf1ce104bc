//! Chatting on the web page: with other users on other instances, in two windows, and with texts that look like markup.

mod harness;

use harness::browser::Browser;
use harness::client::Client;
use harness::page::Page;
use harness::server::{Server, token};
use harness::sqlite::DataFolder;
use harness::watcher::Watcher;
use serde_json::json;

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

//! The web page and a lost connection: it notices, comes back by itself, and no message is missing or shown twice.

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::browser::Browser;
use harness::page::Page;
use harness::relay::Relay;
use harness::server::Server;
use harness::sqlite::DataFolder;
use harness::watcher::Watcher;

/// How long the network is silent. The page notices it after 23 seconds; the rest is for a slow machine.
const SILENCE: Duration = Duration::from_secs(40);

#[test]
fn after_a_kill_of_the_server_the_page_comes_back_and_misses_nothing() {
    let Some(browser) = Browser::start() else { return };
    let folder = DataFolder::new();
    let other = Server::start_in(folder.path(), &[]);
    let bob = Watcher::join(&other, "Bob");
    let killed = Server::start_in(folder.path(), &[]);
    let port = killed.address.port().to_string();
    let page = Page::open_as(&browser, killed.address, "Ann");
    bob.say("1", "one");
    page.wait_texts(&["one"]);

    drop(killed);
    page.wait_state("Offline");
    bob.say("2", "two");
    bob.wait_text("two");
    page.say("written offline");
    page.wait_pending(&["written offline"]);
    let _again = Server::start_in(folder.path(), &[("ICH_PORT", &port)]);
    page.wait_state("Online");
    page.wait_texts(&["one", "two", "written offline"]);
    page.wait_pending(&[]);
    bob.wait_text("written offline");
    assert_eq!(browser.value("document.body.textContent.includes('missing')"), false);
}

#[test]
fn a_silent_network_is_noticed_and_the_page_resumes_by_itself_when_it_is_back() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let relay = Relay::start(server.address);
    let bob = Watcher::join(&server, "Bob");
    let page = Page::open_as(&browser, relay.address, "Ann");
    page.say("one");
    page.wait_texts(&["one"]);

    relay.silence();
    let silent_until = Instant::now() + SILENCE;
    // The page does not know yet, and sends this into the silence.
    page.say("into the silence");
    page.wait_pending(&["into the silence"]);
    bob.say("2", "two");
    bob.wait_text("two");
    page.wait_state("Offline");
    let left = silent_until.checked_duration_since(Instant::now());
    thread::sleep(left.expect("the page shows that it is offline while the network is silent"));
    relay.restore();
    page.wait_state("Online");
    page.wait_texts(&["one", "two", "into the silence"]);
    page.wait_pending(&[]);
    let own = bob.frames().iter().filter(|frame| frame.text == "into the silence").count();
    assert_eq!(own, 1);
}

#[test]
fn a_message_that_arrived_although_the_page_does_not_know_is_shown_once() {
    let Some(browser) = Browser::start() else { return };
    let folder = DataFolder::new();
    let server = Server::start_in(folder.path(), &[]);
    let mut bob = server.join("Bob");
    let page = Page::open_as(&browser, server.address, "Ann");
    page.wait_users(&["Ann", "Bob"]);
    // The connection breaks after the message was sent and before it came back: to the page it looks like this.
    browser.run(
        "const pending = { username: 'Ann', messages: [{ id: 'sent before', text: 'hello', problem: null }] };
         sessionStorage.setItem('ich.pending', JSON.stringify(pending));",
    );
    let mut ann = server.join("Ann");
    ann.say_with_id("sent before", "hello");
    bob.texts_until("hello");
    browser.reload();
    page.wait_state("Online");
    page.wait_pending(&[]);
    page.wait_texts(&["hello"]);
    bob.say("end");
    assert_eq!(bob.texts_until("end"), ["end"]);
    page.wait_texts(&["hello", "end"]);
}

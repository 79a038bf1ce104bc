//! The web page with the keyboard only: from the login to a message, on a wide and on a narrow screen.

mod harness;

use harness::browser::{Browser, keys};
use harness::page::{PASSWORD, Page, email};
use harness::server::Server;

/// Presses Tab until the element with this id, or with this text, has the focus.
fn tab_to(browser: &Browser, id_or_text: &str) {
    let focused = "[document.activeElement.id, document.activeElement.textContent.trim()]";
    for _ in 0..30 {
        if browser.value(focused).as_array().expect("a pair").iter().any(|value| value == id_or_text) {
            // The focus is visible.
            assert_ne!(browser.value("getComputedStyle(document.activeElement).outlineStyle"), "none", "{id_or_text}");
            return;
        }
        browser.press(&keys::TAB.to_string());
    }
    panic!("Tab does not lead to {id_or_text}");
}

#[test]
fn a_user_registers_chats_and_logs_out_with_the_keyboard_only() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let page = Page::open(&browser, server.address);
    // The first field has the focus.
    assert_eq!(browser.value("document.activeElement.id"), "email");
    tab_to(&browser, "switch");
    browser.press(&keys::ENTER.to_string());
    page.wait_until("!document.getElementById('username-row').hidden");
    let shift_tab = format!("{}{}", keys::SHIFT, keys::TAB);
    // Back over the button and the password.
    browser.press(&shift_tab.repeat(4));
    assert_eq!(browser.value("document.activeElement.id"), "email");
    browser.press(&format!("{}{}Ann{}{PASSWORD}{}", email("Ann"), keys::TAB, keys::TAB, keys::ENTER));
    page.wait_state("Online");

    // The field of the message has the focus. Shift and Enter begin a new line, Enter sends.
    browser.press(&format!("first{}{}second{}", keys::SHIFT, keys::ENTER, keys::ENTER));
    page.wait_texts(&["first\nsecond"]);
    assert_eq!(browser.value("document.activeElement.id"), "text");
    tab_to(&browser, "filter");
    browser.press("x");
    page.wait_until("!document.getElementById('nobody-found').hidden");
    browser.press(&keys::BACKSPACE.to_string());
    page.wait_users(&["Ann"]);
    tab_to(&browser, "users-scroller");
    tab_to(&browser, "log-out");
    browser.press(&keys::ENTER.to_string());
    page.wait_login("");
}

#[test]
fn on_a_narrow_screen_the_list_of_users_opens_and_closes_with_the_keyboard() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    browser.set_screen(390, 844, false, true);
    let page = Page::open_as(&browser, server.address, "Ann");
    let is_list_visible = "document.getElementById('users').checkVisibility()";
    assert_eq!(browser.value(is_list_visible), false);
    tab_to(&browser, "show-users");
    browser.press(&keys::ENTER.to_string());
    page.wait_until(is_list_visible);
    page.wait_users(&["Ann"]);
    assert_eq!(browser.value("document.getElementById('show-users').ariaExpanded"), "true");
    browser.press(&keys::ESCAPE.to_string());
    page.wait_until("!document.getElementById('users').checkVisibility()");
    assert_eq!(browser.value("document.activeElement.id"), "show-users");
    browser.press(&keys::ENTER.to_string());
    page.wait_until(is_list_visible);
    tab_to(&browser, "close-users");
    browser.press(&keys::ENTER.to_string());
    page.wait_until("!document.getElementById('users').checkVisibility()");
    assert_eq!(browser.value("document.activeElement.id"), "show-users");
}

#[test]
fn the_list_of_messages_scrolls_with_the_keyboard() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[("ICH_MAX_MESSAGES_PER_SECOND", "0")]);
    let mut bob = server.join("Bob");
    (0..100).for_each(|number| bob.say(&format!("message {number}")));
    bob.texts_until("message 99");
    let page = Page::open_as(&browser, server.address, "Ann");
    let scroller = "document.getElementById('messages-scroller')";
    let is_at_end = format!("{scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight < 2");
    page.wait_until(&format!("document.querySelectorAll('#messages .text').length === 100 && {is_at_end}"));
    // A short way up is a way up: the list does not go back to its end.
    browser.run(&format!("{scroller}.scrollTop -= 40"));
    browser.run_async("const done = arguments[0]; setTimeout(() => requestAnimationFrame(() => done(null)), 100)");
    let from_end = format!("{scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight");
    assert_eq!(browser.value(&format!("Math.round({from_end})")), 40);
    tab_to(&browser, "messages-scroller");
    browser.press(&keys::HOME.to_string());
    page.wait_until(&format!("{scroller}.scrollTop === 0"));
    // A new message does not move what the user reads.
    bob.say("new");
    page.wait_until("document.getElementById('latest').textContent === '1 new'");
    assert_eq!(browser.value(&format!("{scroller}.scrollTop")), 0);
    tab_to(&browser, "latest");
    browser.press(&keys::ENTER.to_string());
    page.wait_until(&is_at_end);
    page.wait_until("document.getElementById('latest').hidden");
    assert_eq!(browser.value("document.activeElement.id"), "messages-scroller");
}

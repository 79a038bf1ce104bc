//! The web page in a real browser.

mod harness;

use harness::browser::Browser;
use harness::server::{Server, new_dir};
use serde_json::json;

/// Fills in the form for a new account and sends it.
const REGISTER: &str = r#"
    document.getElementById("switch").click();
    document.getElementById("email").value = "ann@example.com";
    document.getElementById("username").value = "Ann";
    document.getElementById("password").value = "qwerty123456";
    document.getElementById("enter").click();
"#;

#[test]
fn a_refused_token_leads_to_the_login_form_and_is_not_used_again() {
    let Some(browser) = Browser::start() else { return };
    let dir = new_dir();
    let server = Server::start_in(&dir, &[]);
    let (url, port) = (format!("http://{}/", server.address), server.address.port().to_string());
    browser.open(&url);
    browser.run(REGISTER);
    browser.wait_until("!document.getElementById('lobby').hidden");
    browser.wait_until("document.getElementById('online').textContent === 'Ann'");

    drop(server);
    browser.wait_until("document.getElementById('state').textContent.startsWith('not connected')");
    let other_secret = "another secret, so that earlier tokens are refused";
    let _server = Server::start_in(&dir, &[("ICH_PORT", &port), ("ICH_JWT_SECRET", other_secret)]);
    browser.wait_until("!document.getElementById('door').hidden");
    browser.wait_until("document.getElementById('problem').textContent.includes('token')");
    assert_eq!(browser.run("return document.getElementById('lobby').hidden"), true);
    drop(std::fs::remove_dir_all(&dir));
}

#[test]
fn after_a_lost_connection_the_page_shows_the_messages_that_it_missed_once() {
    const SHOWN: &str = "[...document.querySelectorAll('#events .said span')].map((item) => item.textContent).join()";
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let mut bob = server.join("Bob");
    browser.open(&format!("http://{}/", server.address));
    browser.run(REGISTER);
    bob.wait_for("user_joined", &json!({"username": "Ann"}));
    bob.say("one");
    browser.wait_until(&format!("{SHOWN} === 'one'"));

    // The page tries again only after Bob has said the next message.
    browser.run("retryMs = 4000; socket.close(4000);");
    bob.wait_for("user_left", &json!({"username": "Ann"}));
    bob.say("two");
    bob.wait_for("user_joined", &json!({"username": "Ann"}));
    bob.say("three");
    browser.wait_until(&format!("{SHOWN} === 'one,two,three'"));
    assert_eq!(browser.run("return document.body.textContent.includes('missing')"), false);
}

//! Pictures of the web page for people to look at: each state, wide and narrow, dark and light. They are in
//! `target/tmp/screenshots`. `doc/picture/screenshots` runs this test and copies the pictures of the docs.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};

use harness::browser::Browser;
use harness::page::Page;
use harness::server::Server;
use serde_json::{Value, json};

/// The times in the pictures do not depend on where the test runs.
const ZONE: &str = "UTC";

struct Camera<'a> {
    browser: &'a Browser,
    folder: PathBuf,
}

impl Camera<'_> {
    /// Takes four pictures: wide and narrow, light and dark.
    fn take(&self, name: &str) {
        for (width, height, is_dark) in [(1280, 720, false), (1280, 720, true), (390, 844, false), (390, 844, true)] {
            self.browser.set_screen(width, height, is_dark, width < 1000);
            self.browser.run_async(
                "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done(null)))",
            );
            let colours = if is_dark { "dark" } else { "light" };
            let file = self.folder.join(format!("{name}-{width}-{colours}.png"));
            let picture = self.browser.screenshot();
            assert!(picture.starts_with(b"\x89PNG"), "{name} is no PNG");
            fs::write(&file, picture).expect("writing a picture");
        }
    }
}

/// Frames with rising ids and times.
#[derive(Default)]
struct Script {
    frames: Vec<Value>,
    seconds: usize,
}

impl Script {
    fn online(names: &[String]) -> Script {
        let mut script = Script::default();
        script.add("users_online", json!({ "list": names }));
        script.add("caught_up", json!({"complete": true, "messages": 0}));
        script
    }

    fn add(&mut self, kind: &str, msg: Value) {
        self.add_now(kind, msg);
        self.seconds += 20;
    }

    /// The next frame has the same time.
    fn add_now(&mut self, kind: &str, msg: Value) {
        let number = self.frames.len();
        let sent_at = format!("2026-11-23T10:{:02}:{:02}Z", self.seconds / 60, self.seconds % 60);
        self.frames.push(json!({"type": kind, "event_id": number.to_string(), "sent_at": sent_at, "msg": msg}));
    }

    /// All at one time.
    fn burst(mut self, count: usize) -> Script {
        for number in 0..count {
            self.add_now("user_joined", json!({ "username": format!("Guest {number:04}") }));
        }
        self
    }

    fn say(mut self, from: &str, text: &str) -> Script {
        self.add("chat_message", json!({"from_user": from, "text": text}));
        self
    }

    fn join(mut self, name: &str) -> Script {
        self.add("user_joined", json!({ "username": name }));
        self
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn conversation() -> Script {
    Script::online(&names(&["Igor", "Patrick"]))
        .join("Ann")
        .say("Igor", "Hello!")
        .say("Patrick", "Hi Igor. Did you see how resuming works?")
        .say("Igor", "Not yet. Is it described somewhere?")
        .say("Patrick", "Yes, here: https://www.rfc-editor.org/rfc/rfc6455#section-7.4")
        .say("Patrick", "A client that returns names the last message that it has.")
        .join("Bob")
        .say("Ann", "And then it gets everything since that one, once and in order.")
        .say("Ann", "I closed my laptop for a while, and nothing was missing.")
        .say("Igor", "Nice. Hello Bob!")
}

#[test]
fn the_page_in_all_its_states() {
    let Some(browser) = Browser::start() else { return };
    let server = Server::start(&[]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    fs::create_dir_all(&folder).expect("a folder for the pictures");
    let camera = Camera { browser: &browser, folder };
    browser.cdp("Emulation.setTimezoneOverride", &json!({ "timezoneId": ZONE }));

    let page = Page::open(&browser, server.address);
    camera.take("login");
    page.log_in("Nobody", "not the password");
    page.wait_login("password");
    camera.take("login-refused");
    browser.run("document.getElementById('switch').click()");
    camera.take("new-account");

    let played = |name: &str, script: &Script| Page::open_played(&browser, server.address, name, &script.frames);
    played("Ann", &Script::online(&names(&["Ann"]))).wait_users(&["Ann"]);
    camera.take("nobody");

    let page = played("Ann", &conversation());
    page.wait_users(&["Ann", "Bob", "Igor", "Patrick"]);
    camera.take("users-3");
    browser.run("document.getElementById('show-users').click()");
    camera.take("users-3-list");
    browser.run("document.getElementById('show-users').click()");

    let mut later = conversation();
    let known = later.frames.len();
    later = later.say("Bob", "Hello Igor, hello Patrick!").say("Igor", "Have you closed your laptop, Ann?");
    browser.run("Object.defineProperty(document, 'hidden', { value: true, configurable: true })");
    page.receive(&later.frames[known..]);
    page.wait_until("document.querySelector('.unread') && document.title.startsWith('(2)')");
    camera.take("unread");
    let page = played("Ann", &conversation());
    page.wait_users(&["Ann", "Bob", "Igor", "Patrick"]);

    let text = "Your login ends at 10:10 AM. Enter your password to stay.";
    browser.run(&format!("document.getElementById('renewal-text').textContent = {}", json!(text)));
    browser.run("document.getElementById('renewal').hidden = false");
    camera.take("renewal");
    browser.run("document.getElementById('renewal').hidden = true");

    page.say("Is anybody here?");
    page.wait_pending(&["Is anybody here?"]);
    let muted = "const { id } = window.lobby.sent.at(-1); window.lobby.receive(
        { type: 'error', id, msg: { code: 'muted', text: 'an admin muted you for 5 minutes' } })";
    browser.run(muted);
    page.wait_state("Muted");
    camera.take("muted");
    // The page does not connect again while the pictures are taken.
    browser.run(
        "const wait = window.setTimeout;
         window.setTimeout = (run, ms) => wait(run, 1000 * ms);
         window.lobby.onclose({ code: 1012, reason: 'the server restarts: join again' });
         window.setTimeout = wait;",
    );
    page.wait_state("Offline");
    page.say("This is sent later.");
    page.wait_until("document.getElementById('pending').textContent.includes('Not sent yet')");
    camera.take("offline");

    browser.run(
        "document.getElementById('messages-scroller').scrollTop = 0;
         document.getElementById('messages-scroller').dispatchEvent(new Event('scroll'));",
    );
    page.wait_until("!document.getElementById('latest').hidden");
    camera.take("scrolled-up");

    let many: Vec<String> = (0..7_999).map(|number| format!("Visitor {number:04}")).collect();
    browser.run("sessionStorage.clear()");
    let page = played("Ann", &Script::online(&many).join("Ann").burst(2_000).say("Visitor 0042", "So many people!"));
    page.wait_texts(&["So many people!"]);
    page.wait_until("document.querySelector('.user-count').textContent === '10,000'");
    camera.take("users-10000");

    let long = "Wolfeschlegelsteinhausenbergerdorff-Featherstonehaugh-Cholmondel";
    let script = Script::online(&names(&[long, "\u{645}\u{631}\u{64A}\u{645} \u{62D}\u{633}\u{646}", "\u{5D3}\u{5D5}\u{5D3}"]))
        .join(long)
        .say(long, &"Long words: ".repeat(3))
        .say(long, &"no-spaces-at-all".repeat(20))
        .say("\u{645}\u{631}\u{64A}\u{645} \u{62D}\u{633}\u{646}", "\u{645}\u{631}\u{62D}\u{628}\u{627} \u{628}\u{627}\u{644}\u{62C}\u{645}\u{64A}\u{639}! https://example.org")
        .say("\u{5D3}\u{5D5}\u{5D3}", "\u{5E9}\u{5DC}\u{5D5}\u{5DD} Ann, \u{5DE}\u{5D4} \u{5E9}\u{5DC}\u{5D5}\u{5DE}\u{5DA}?\nSecond line in English.")
        .join("\u{5D3}\u{5D5}\u{5D3} 2");
    let page = played(long, &script);
    page.wait_state("Online");
    page.wait_until("document.querySelectorAll('#messages .text').length === 4");
    camera.take("long-and-rtl");
}

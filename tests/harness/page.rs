//! The web page of the server in a browser: what a user does with it, and what the user sees.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::browser::Browser;
use super::server::token;

pub const PASSWORD: &str = "qwerty123456";

/// Replaces the websocket of the page by one that the test plays: `lobby.receive(frame)` delivers a frame, and `lobby.sent`
/// has what the page has sent. There are no earlier messages. For lobbies that would need 10,000 connections, and for pictures that do not change.
const PLAYED_LOBBY: &str = "
    window.WebSocket = class {
        static OPEN = 1;
        sent = [];
        constructor() {
            window.lobby = this;
            setTimeout(() => this.onopen());
        }
        send(text) { this.sent.push(JSON.parse(text)); }
        close() {}
        receive(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
    };
    const realFetch = window.fetch;
    window.fetch = async (path, options) =>
        path.startsWith('history') ? Response.json({ messages: [], more: false }) : realFetch(path, options);
";

/// The page of one server, in the current window of a browser.
pub struct Page<'a> {
    pub browser: &'a Browser,
    url: String,
}

impl<'a> Page<'a> {
    /// Opens the page. It shows the login, unless this window is logged in.
    pub fn open(browser: &'a Browser, address: SocketAddr) -> Page<'a> {
        let page = Page { browser, url: format!("http://{address}/") };
        browser.open(&page.url);
        page.wait_until("!document.getElementById('login').hidden || !document.getElementById('lobby').hidden");
        page
    }

    /// Opens the page of a user who is logged in already, and waits for the lobby. The user needs no account.
    pub fn open_as(browser: &'a Browser, address: SocketAddr, name: &str) -> Page<'a> {
        Self::open_with_token(browser, address, name, &token(name)).in_lobby()
    }

    /// As [`Page::open_as`], with this token, and without waiting.
    pub fn open_with_token(browser: &'a Browser, address: SocketAddr, name: &str, token: &str) -> Page<'a> {
        let page = Page::open(browser, address);
        let session = json!({ "token": token, "username": name }).to_string();
        browser.run(&format!("sessionStorage.setItem('ich.session', {})", json!(session)));
        browser.reload();
        page
    }

    /// Opens the page of this user with a websocket that the test plays, and delivers these frames.
    pub fn open_played(browser: &'a Browser, address: SocketAddr, name: &str, frames: &[Value]) -> Page<'a> {
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": PLAYED_LOBBY }));
        let page = Page::open_with_token(browser, address, name, "no token");
        page.wait_until("window.lobby !== undefined && window.lobby.onmessage");
        page.receive(frames);
        page
    }

    /// Delivers frames to a page that was opened with [`Page::open_played`].
    pub fn receive(&self, frames: &[Value]) {
        self.browser.run(&format!("for (const frame of {}) window.lobby.receive(frame)", json!(frames)));
    }

    /// Fills in the form for a new account and sends it.
    pub fn register(&self, name: &str) {
        self.browser.run("document.getElementById('switch').click()");
        self.fill("username", name);
        self.enter(&email(name), PASSWORD);
    }

    /// Fills in the login and sends it.
    pub fn log_in(&self, name: &str, password: &str) {
        self.enter(&email(name), password);
    }

    fn enter(&self, email: &str, password: &str) {
        self.fill("email", email);
        self.fill("password", password);
        self.browser.run("document.getElementById('enter').click()");
    }

    fn fill(&self, id: &str, value: &str) {
        self.browser.run(&format!("document.getElementById({}).value = {}", json!(id), json!(value)));
    }

    /// Waits until the page is connected.
    pub fn in_lobby(self) -> Page<'a> {
        self.wait_state("Online");
        self
    }

    /// Waits for this word in the header: `Online`, `Offline`, `Connecting`, `Muted` or `Slowed down`.
    pub fn wait_state(&self, state: &str) {
        let lobby = "!document.getElementById('lobby').hidden";
        self.wait_until(&format!("{lobby} && document.getElementById('state').textContent === '{state}'"));
    }

    /// Waits for the login with a message that contains this text.
    pub fn wait_login(&self, text: &str) {
        let problem = "document.getElementById('problem').textContent";
        self.wait_until(&format!("!document.getElementById('login').hidden && {problem}.includes({})", json!(text)));
    }

    /// Writes a message and does not send it.
    pub fn write(&self, text: &str) {
        self.fill("text", text);
        self.browser.run("document.getElementById('text').dispatchEvent(new Event('input'))");
    }

    /// Writes a message and sends it.
    pub fn say(&self, text: &str) {
        self.fill("text", text);
        self.browser.run("document.getElementById('composer').requestSubmit()");
    }

    /// Waits until these are the texts of all confirmed messages, in this order.
    pub fn wait_texts(&self, texts: &[&str]) {
        let shown = "[...document.querySelectorAll('#messages .text')].map((text) => text.textContent)";
        self.wait_until(&format!("JSON.stringify({shown}) === JSON.stringify({})", json!(texts)));
    }

    /// Waits until these are the texts of all messages that are not confirmed.
    pub fn wait_pending(&self, texts: &[&str]) {
        let shown = "[...document.querySelectorAll('#pending .text')].map((text) => text.textContent)";
        self.wait_until(&format!("JSON.stringify({shown}) === JSON.stringify({})", json!(texts)));
    }

    /// Waits until exactly these users are in the list, in this order.
    pub fn wait_users(&self, names: &[&str]) {
        let shown = "[...document.querySelectorAll('#user-rows .name')].map((name) => name.textContent)";
        self.wait_until(&format!("JSON.stringify({shown}) === JSON.stringify({})", json!(names)));
    }

    pub fn wait_until(&self, expression: &str) {
        self.browser.wait_until(expression);
    }
}

/// The email of the account of this user.
pub fn email(name: &str) -> String {
    format!("{}@example.com", name.to_lowercase())
}

//! A real browser: Debian's headless Chromium, controlled through its `chromedriver` (W3C WebDriver). Both end when
//! [`Browser`] is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::server::new_dir;
use super::{PATIENCE, skip, wait_for};

/// No window, no sandbox (tests may run as root), and no background traffic.
const ARGUMENTS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// One browser with one window.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    dir: PathBuf,
}

impl Browser {
    /// Starts a browser. `None` if none is installed: the test is reported as skipped and must return.
    pub fn start() -> Option<Browser> {
        let driver = Command::new("chromedriver").arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let Ok(mut driver) = driver else {
            skip("a browser: apt-get install -y chromium chromium-driver");
            return None;
        };
        let stdout = driver.stdout.take().expect("a pipe");
        let port = BufReader::new(stdout).lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("the port of chromedriver")));
        let dir = new_dir();
        let mut browser = Browser { driver, address, session: String::new(), dir };
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", browser.dir.display()));
        let options = json!({ "args": arguments });
        let capabilities = json!({ "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } });
        let created = browser.command("POST", "/session", &json!({ "capabilities": capabilities }));
        browser.session = created["sessionId"].as_str().expect("a session of the browser").to_owned();
        Some(browser)
    }

    /// Opens this page and waits until it has loaded.
    pub fn open(&self, url: &str) {
        self.in_session("/url", &json!({ "url": url }));
    }

    /// Runs this script in the page, and returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.in_session("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until this expression is true in the page.
    pub fn wait_until(&self, expression: &str) {
        wait_for(expression, || (self.run(&format!("return Boolean({expression})")) == true).then_some(()));
    }

    fn in_session(&self, path: &str, body: &Value) -> Value {
        self.command("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.address).expect("connecting to chromedriver");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}",
            self.address
        )
        .expect("a command for the browser");
        let answer: Value = serde_json::from_slice(&read_body(stream)).expect("JSON from chromedriver");
        assert!(answer["value"]["error"].is_null(), "{method} {path}: {answer}");
        answer["value"].clone()
    }
}

/// Reads the body of an answer with `Content-Length`.
fn read_body(stream: TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer of chromedriver");
        if line.trim().is_empty() {
            break;
        }
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the whole answer");
    body
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.command("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

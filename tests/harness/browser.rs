//! A real browser: Debian's headless Chromium, controlled through its `chromedriver` (W3C WebDriver, and the commands of
//! Chromium's own protocol for what WebDriver lacks). Both end when [`Browser`] is dropped.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
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

/// Keys of WebDriver, section 17.4.2.
pub mod keys {
    pub const BACKSPACE: char = '\u{E003}';
    pub const TAB: char = '\u{E004}';
    pub const ENTER: char = '\u{E007}';
    pub const SHIFT: char = '\u{E008}';
    pub const ESCAPE: char = '\u{E00C}';
    pub const HOME: char = '\u{E011}';
}

/// One browser. A new one has one window.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    /// The process of the browser.
    process: Option<Pid>,
    dir: PathBuf,
}

/// A window of a browser; each has its own `sessionStorage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window(String);

impl Browser {
    /// Starts a browser. `None` if none is installed: the test is reported as skipped and must return.
    pub fn start() -> Option<Browser> {
        Self::start_with(&json!({ "browser": "ALL" }), &json!({}))
    }

    /// As [`Browser::start`], for [`Browser::longest_task`].
    pub fn start_traced() -> Option<Browser> {
        let trace = json!({ "traceCategories": "toplevel,blink.user_timing", "enableNetwork": false });
        Self::start_with(&json!({ "browser": "ALL", "performance": "ALL" }), &trace)
    }

    fn start_with(logs: &Value, trace: &Value) -> Option<Browser> {
        let driver = Command::new("chromedriver").arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let Ok(mut driver) = driver else {
            skip("a browser: apt-get install -y chromium chromium-driver");
            return None;
        };
        let stdout = driver.stdout.take().expect("a pipe");
        let mut output = Vec::new();
        let port = BufReader::new(stdout).lines().map_while(Result::ok).find_map(|line| {
            let port = line.split_once("started successfully on port ").map(|(_, port)| port.trim_end_matches('.'));
            let port = port.and_then(|port| port.parse::<u16>().ok());
            output.push(line);
            port
        });
        let port = port.unwrap_or_else(|| panic!("chromedriver does not start: {output:?}"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let dir = new_dir();
        let mut browser = Browser { driver, address, session: String::new(), process: None, dir };
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", browser.dir.display()));
        let mut options = json!({ "args": arguments });
        if logs["performance"].is_string() {
            options["perfLoggingPrefs"] = trace.clone();
        }
        let always = json!({ "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs });
        let created = browser.command("POST", "/session", &json!({ "capabilities": { "alwaysMatch": always } }));
        browser.session = created["sessionId"].as_str().expect("a session of the browser").to_owned();
        let process = created["capabilities"]["goog:processID"].as_i64().and_then(|id| i32::try_from(id).ok());
        browser.process = process.and_then(Pid::from_raw);
        Some(browser)
    }

    /// Opens this page and waits until it has loaded.
    pub fn open(&self, url: &str) {
        self.in_session("/url", &json!({ "url": url }));
    }

    /// Loads the page again, as a user does with the button of the browser.
    pub fn reload(&self) {
        self.in_session("/refresh", &json!({}));
    }

    /// Runs this script in the page, and returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.in_session("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// As [`Browser::run`], for a script that calls its last argument with the result.
    pub fn run_async(&self, script: &str) -> Value {
        self.in_session("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// The value of this expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        self.run(&format!("return ({expression})"))
    }

    /// Waits until this expression is true in the page.
    pub fn wait_until(&self, expression: &str) {
        wait_for(expression, || (self.value(&format!("Boolean({expression})")) == true).then_some(()));
    }

    /// Presses and releases these keys one after the other, as on a keyboard. `SHIFT` is held for the next key.
    pub fn press(&self, keys: &str) {
        let mut actions = Vec::new();
        let mut is_shift_down = false;
        for key in keys.chars() {
            actions.push(json!({ "type": "keyDown", "value": key.to_string() }));
            if key == self::keys::SHIFT {
                is_shift_down = true;
                continue;
            }
            actions.push(json!({ "type": "keyUp", "value": key.to_string() }));
            if std::mem::take(&mut is_shift_down) {
                actions.push(json!({ "type": "keyUp", "value": self::keys::SHIFT.to_string() }));
            }
        }
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.in_session("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Opens a new window. The following commands go to it.
    pub fn new_window(&self) -> Window {
        let created = self.in_session("/window/new", &json!({ "type": "window" }));
        let window = Window(created["handle"].as_str().expect("a window").to_owned());
        self.switch_to(&window);
        window
    }

    /// The window that commands go to.
    pub fn window(&self) -> Window {
        let handle = self.command("GET", &format!("/session/{}/window", self.session), &Value::Null);
        Window(handle.as_str().expect("a window").to_owned())
    }

    pub fn switch_to(&self, window: &Window) {
        self.in_session("/window", &json!({ "handle": window.0 }));
    }

    /// Sets the size of the page in CSS pixels, and dark or light colours. `is_phone`: a touch screen.
    pub fn set_screen(&self, width: u32, height: u32, is_dark: bool, is_phone: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.cdp("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// A command of Chromium's own protocol.
    pub fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.in_session("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// The visible part of the page, as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let picture = self.command("GET", &format!("/session/{}/screenshot", self.session), &Value::Null);
        openssl::base64::decode_block(picture.as_str().expect("a picture")).expect("base64")
    }

    /// The errors in the console since the last call, such as violations of the policy of the page.
    pub fn console_errors(&self) -> Vec<String> {
        let log = self.in_session("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().expect("entries").iter();
        entries.filter(|entry| entry["level"] == "SEVERE").map(|entry| entry["message"].to_string()).collect()
    }

    /// The most CPU time that a task of the page's main thread has used since `performance.mark("begin")`. Not the time
    /// between two frames: a task's duration includes the time that other processes take from the browser, and a frame
    /// waits for other threads of the browser, too. Without the task that runs when the trace ends. Can be called once.
    pub fn longest_task(&self) -> Duration {
        let log = self.in_session("/se/log", &json!({ "type": "performance" }));
        let entries = log.as_array().expect("entries").iter();
        let messages = entries.map(|entry| entry["message"].as_str().expect("a message"));
        let events: Vec<Value> = messages
            .map(|message| serde_json::from_str::<Value>(message).expect("JSON")["message"]["params"].take())
            .collect();
        let begin = events.iter().rfind(|event| event["cat"] == "blink.user_timing" && event["name"] == "begin");
        let begin = begin.expect("performance.mark(\"begin\")");
        let began_at = begin["ts"].as_f64().expect("a time");
        let tasks = events.iter().filter(|event| {
            event["name"] == "ThreadControllerImpl::RunTask"
                && event["ph"] == "X"
                && (&event["pid"], &event["tid"]) == (&begin["pid"], &begin["tid"])
                && event["ts"].as_f64().expect("a time") >= began_at
        });
        // Where the trace has no CPU time, the duration is its upper bound.
        let cpu_time = |task: &Value| {
            let micros = task["tdur"].as_u64().or(task["dur"].as_u64());
            micros.unwrap_or_else(|| panic!("a task without a duration: {task}"))
        };
        let micros: Vec<u64> = tasks.map(cpu_time).collect();
        Duration::from_micros(micros.into_iter().max().expect("a task of the page"))
    }

    /// Begins to measure the time between the callbacks of `requestAnimationFrame`.
    pub fn begin_frames(&self) {
        self.run(
            "let last = performance.now();
             window.longestFrame = 0;
             requestAnimationFrame(function frame(now) {
                 window.longestFrame = Math.max(window.longestFrame, now - last);
                 last = now;
                 requestAnimationFrame(frame);
             });",
        );
    }

    /// The longest time between two frames since [`Browser::begin_frames`]. It depends on what else the machine does, so
    /// no test may expect a value.
    pub fn longest_frame(&self) -> Duration {
        Duration::from_secs_f64(self.value("window.longestFrame").as_f64().expect("a number") / 1000.0)
    }

    fn in_session(&self, path: &str, body: &Value) -> Value {
        self.command("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(self.address).expect("connecting to chromedriver");
        // The trace of a burst is long.
        stream.set_read_timeout(Some(3 * PATIENCE)).expect("an option");
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
        if std::thread::panicking() {
            // Without the driver, the browser would go on.
            if let Some(process) = self.process {
                let _ = kill_process(process, Signal::KILL);
            }
        } else if !self.session.is_empty() {
            self.command("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

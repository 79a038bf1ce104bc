//! The web page while very many users join, leave or are online: it stays responsive. The CPU time of its tasks is checked.
//! The time between two frames is only printed, because it depends on what else the machine does.

mod harness;

use std::thread;
use std::time::Duration;

use harness::browser::Browser;
use harness::client::Client;
use harness::page::Page;
use harness::server::{Server, token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

const JOINS: usize = 2_000;
const THREADS: usize = 4;
/// A page stalls if one of its tasks uses more CPU time than this.
const TASK_MAX: Duration = Duration::from_millis(100);
const SETTINGS: [(&str, &str); 2] = [("ICH_MAX_CONNECTIONS_PER_ADDRESS", "0"), ("ICH_MAX_MESSAGES_PER_SECOND", "0")];

/// Each connection needs a file descriptor of this process.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("raising the limit of descriptors");
}

/// All join as fast as they can.
fn join_all(server: &Server) -> Vec<Client> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                let numbers = (first..JOINS).step_by(THREADS);
                let join = move |number| Client::join(server.address, &token(&format!("user {number:04}")));
                scope.spawn(move || numbers.map(join).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a joining thread")).collect()
    })
}

#[test]
fn two_thousand_joins_cause_no_long_task() {
    let Some(browser) = Browser::start_traced() else { return };
    raise_descriptor_limit();
    let server = Server::start(&SETTINGS);
    let page = Page::open_as(&browser, server.address, "Ann");
    browser.run("performance.mark('begin')");
    browser.begin_frames();
    let clients = join_all(&server);
    page.wait_until(&has_users(JOINS + 1));
    // The whole burst is one line, and few rows exist.
    page.wait_until("document.querySelector('#messages li:last-child').textContent.includes('1,997 others joined')");
    assert!(browser.value("document.querySelectorAll('#user-rows li').length").as_u64() < Some(100));
    assert_eq!(browser.value("document.querySelectorAll('#messages li').length"), 1);
    println!("2,000 joins: the longest time between two frames was {:?}", browser.longest_frame());
    drop(clients);
    page.wait_users(&["Ann"]);
    let longest = browser.longest_task();
    assert!(longest < TASK_MAX, "a task used {longest:?}");
}

#[test]
fn ten_thousand_users_are_shown_searched_and_scrolled_without_a_long_task() {
    let Some(browser) = Browser::start_traced() else { return };
    let server = Server::start(&SETTINGS);
    let names: Vec<String> = (0..10_000).map(|number| format!("user {:05}", number * 7919 % 10_000)).collect();
    let list = json!({"type": "users_online", "sent_at": "2026-11-23T10:00:00+01:00", "msg": {"list": names}});
    let page = Page::open_played(&browser, server.address, "Ann", &[]);
    browser.run(&format!("window.list = {list}"));
    browser.run("performance.mark('begin'); setTimeout(() => window.lobby.receive(window.list))");
    page.wait_until(&has_users(10_000));
    browser.run("document.getElementById('users-scroller').scrollTop = 5000 * 44");
    page.wait_until("document.getElementById('user-rows').textContent.includes('user 05000')");
    assert!(browser.value("document.querySelectorAll('#user-rows li').length").as_u64() < Some(100));
    browser.run(
        "const filter = document.getElementById('filter');
         filter.value = 'USER 09999'; filter.dispatchEvent(new Event('input'));",
    );
    page.wait_users(&["user 09999"]);
    let longest = browser.longest_task();
    assert!(longest < TASK_MAX, "a task used {longest:?}");
}

/// Whether the page shows this number of users, in the format of the language of the browser.
fn has_users(number: usize) -> String {
    format!("document.querySelector('#users .user-count').textContent.replace(/\\D/g, '') === '{number}'")
}

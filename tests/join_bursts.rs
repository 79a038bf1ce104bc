//! Bursts of joins and leaves that exceed the in-flight window: every client receives each join and leave once, chat
//! messages are delivered meanwhile, and the server can be stopped meanwhile.

mod harness;

use std::collections::BTreeSet;
use std::thread;

use harness::client::Client;
use harness::server::{Server, token};
use harness::wait_until;
use harness::watcher::Watcher;

/// About five times the in-flight window.
const CLIENTS: usize = 700;
const THREADS: usize = 4;

fn name(number: usize) -> String {
    format!("user {number}")
}

/// All clients join as fast as they can. They do not read: the events fit into the buffers of their sockets.
fn join_all(server: &Server) -> Vec<Client> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                let numbers = (first..CLIENTS).step_by(THREADS);
                scope.spawn(move || numbers.map(|number| server.join(&name(number))).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a joining thread")).collect()
    })
}

fn wait_online_count(watcher: &Watcher, count: usize) {
    wait_until(&format!("{count} users online"), || watcher.online().len() == count);
}

#[test]
fn each_join_and_leave_of_a_burst_is_delivered_once_and_messages_are_delivered_meanwhile() {
    let server = Server::start(&[]);
    let ann = Watcher::join(&server, "Ann");
    let first = join_all(&server);
    ann.say("joining", "during the joins");
    wait_online_count(&ann, CLIENTS + 1);
    drop(first);
    ann.say("leaving", "during the leaves");
    let second = join_all(&server);
    ann.wait_text("during the leaves");
    // A user who rejoined before the first session ended never left. So each user joined and left once or twice.
    drop(second);
    wait_online_count(&ann, 1);
    assert_eq!(ann.chat_ids(), ["joining", "leaving"]);
    for number in 0..CLIENTS {
        let (joined, left) = (ann.count("user_joined", &name(number)), ann.count("user_left", &name(number)));
        assert!(joined == left && (1..=2).contains(&joined), "{number} joined {joined} times and left {left} times");
    }
    let bob = Watcher::join(&server, "Bob");
    assert_eq!(bob.online(), BTreeSet::from(["Ann".to_owned(), "Bob".to_owned()]));
}

#[test]
fn a_stop_during_a_leave_burst_succeeds_and_closes_with_1012() {
    let mut server = Server::start(&[]);
    let ann = Watcher::join(&server, "Ann");
    let clients = join_all(&server);
    wait_online_count(&ann, CLIENTS + 1);
    drop(clients);
    assert!(server.stop().success());
    // Service restart, see doc/api.md.
    assert_eq!(ann.wait_closed(), 1012);
}

#[test]
fn a_message_sent_before_the_join_is_admitted_is_delivered() {
    let server = Server::start(&[]);
    let ann = Watcher::join(&server, "Ann");
    thread::scope(|scope| {
        let burst = scope.spawn(|| join_all(&server));
        for number in 0..20 {
            let name = format!("talker {number}");
            let mut talker = Client::join(server.address, &token(&name));
            talker.say(&name);
            talker.texts_until(&name);
        }
        burst.join().expect("the join burst");
    });
    (0..20).for_each(|number| ann.wait_text(&format!("talker {number}")));
}

//! More people than may be under way in the event log at once, who come, drop and come back together: everybody is told
//! of each of them once, messages pass, and a stop amid it ends well.

mod harness;

use std::collections::BTreeSet;
use std::thread;

use harness::client::Client;
use harness::server::{Server, token};
use harness::wait_for;
use harness::watcher::Watcher;

/// Some five times as many as may be under way.
const PEOPLE: usize = 700;
const THREADS: usize = 4;

fn name(number: usize) -> String {
    format!("one of many {number}")
}

/// All come as fast as they can. They do not read: what they are told fits their sockets' buffers.
fn crowd(server: &Server) -> Vec<Client> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                let numbers = (first..PEOPLE).step_by(THREADS);
                scope.spawn(move || numbers.map(|number| server.join(&name(number))).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a part of the crowd")).collect()
    })
}

fn wait_until_there_are(watcher: &Watcher, people: usize) {
    wait_for(&format!("{people} people"), || (watcher.online().len() == people).then_some(()));
}

#[test]
fn everybody_is_told_of_each_of_a_crowd_once_and_messages_pass() {
    let server = Server::start(&[]);
    let ann = Watcher::join(&server, "Ann");
    let first = crowd(&server);
    ann.say("amid", "amid the joins");
    wait_until_there_are(&ann, PEOPLE + 1);
    drop(first);
    ann.say("leaving", "amid the leaves");
    let second = crowd(&server);
    ann.wait_text("amid the leaves");
    // Whoever came back before he was found gone was never away; so it shows only now who came and went how often.
    drop(second);
    wait_until_there_are(&ann, 1);
    assert_eq!(ann.chat_ids(), ["amid", "leaving"]);
    for number in 0..PEOPLE {
        let (joined, left) = (ann.count("user_joined", &name(number)), ann.count("user_left", &name(number)));
        assert!(joined == left && (1..=2).contains(&joined), "{number} joined {joined} times and left {left} times");
    }
    let bob = Watcher::join(&server, "Bob");
    assert_eq!(bob.online(), BTreeSet::from(["Ann".to_owned(), "Bob".to_owned()]));
}

#[test]
fn a_stop_amid_a_mass_leave_ends_well_and_reports_nobody_more() {
    let mut server = Server::start(&[]);
    let ann = Watcher::join(&server, "Ann");
    let crowd = crowd(&server);
    wait_until_there_are(&ann, PEOPLE + 1);
    drop(crowd);
    assert!(server.stop().success());
    // Restarting, see doc/api.md.
    assert_eq!(ann.wait_closed(), 1012);
}

#[test]
fn what_a_newcomer_says_at_once_is_said_even_when_he_has_to_wait_for_his_turn() {
    let server = Server::start(&[]);
    let ann = Watcher::join(&server, "Ann");
    thread::scope(|scope| {
        let crowd = scope.spawn(|| crowd(&server));
        for number in 0..20 {
            let name = format!("talker {number}");
            let mut talker = Client::join(server.address, &token(&name));
            talker.say(&name);
            talker.texts_until(&name);
        }
        crowd.join().expect("the crowd");
    });
    (0..20).for_each(|number| ann.wait_text(&format!("talker {number}")));
}

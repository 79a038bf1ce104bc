//! Short disconnections (`ICH_LEAVE_GRACE_SECONDS`): a user whose connection breaks and who joins again in time, on any
//! instance, is never reported as gone.

mod harness;

use harness::cluster::metric;
use harness::server::Server;
use harness::sqlite::DataFolder;
use harness::wait_until;
use harness::watcher::Watcher;
use rustix::process::Signal;

#[test]
fn a_user_who_returns_in_time_never_leaves() {
    let folder = DataFolder::new();
    let settings = [("ICH_LEAVE_GRACE_SECONDS", "300")];
    let servers = [Server::start_in(folder.path(), &settings), Server::start_in(folder.path(), &settings)];
    let ann = Watcher::join(&servers[0], "Ann");
    let bob = servers[0].join("Bob");
    ann.wait_frame("user_joined", "Bob");
    bob.vanish();
    wait_until("the broken connection", || metric(&servers[0], "ich_sessions") == 1);
    // On the other instance, and then on the same one.
    let mut bob = servers[1].join("Bob");
    bob.say("here");
    ann.wait_text("here");
    bob.vanish();
    wait_until("the broken connection", || metric(&servers[1], "ich_sessions") == 0);
    let mut bob = servers[1].join("Bob");
    bob.say("here again");
    ann.wait_text("here again");
    assert_eq!((ann.count("user_left", "Bob"), ann.count("user_joined", "Bob")), (0, 1));
    assert!(ann.online().contains("Bob"));
    // A user who closes the connection leaves at once, but Bob's first session waits for the end of its grace period.
    let cid = servers[0].join("Cid");
    ann.wait_frame("user_joined", "Cid");
    cid.leave();
    ann.wait_frame("user_left", "Cid");
}

#[test]
fn a_user_who_does_not_return_leaves_after_the_grace_period() {
    let server = Server::start(&[("ICH_LEAVE_GRACE_SECONDS", "1")]);
    let ann = Watcher::join(&server, "Ann");
    let bob = server.join("Bob");
    ann.wait_frame("user_joined", "Bob");
    bob.vanish();
    ann.wait_frame("user_left", "Bob");
    assert_eq!(ann.count("user_left", "Bob"), 1);
}

#[test]
fn a_stop_does_not_wait_for_the_grace_period() {
    let mut server = Server::start(&[("ICH_LEAVE_GRACE_SECONDS", "300"), ("ICH_DRAIN_SECONDS", "60")]);
    let ann = Watcher::join(&server, "Ann");
    let bob = server.join("Bob");
    ann.wait_frame("user_joined", "Bob");
    bob.vanish();
    wait_until("the broken connection", || metric(&server, "ich_sessions") == 1);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(server.log().contains("stopped"), "{}", server.log());
}

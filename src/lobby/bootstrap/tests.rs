//! One test for each part of the rule.

use crate::lobby::testing::*;

use super::*;

fn replay(log: &[Record], from_the_beginning: bool) -> (Lobby, bool) {
    let (mut lobby, mut bootstrap) = (Lobby::default(), Bootstrap::new(from_the_beginning));
    for record in log {
        lobby.apply(record, &mut Vec::new());
        bootstrap.on_record(record);
    }
    let is_exact = bootstrap.is_exact(&lobby);
    (lobby, is_exact)
}

/// Two members, of which the first has its roster at the start only.
fn story() -> Story {
    let mut story = Story::default();
    story.tell(X, roster(&[(1, "Ann")]));
    for n in 0..40 {
        story.tell(X, heartbeat(n + 1));
        story.tell(Y, if n % 10 == 0 { roster(&[]) } else { heartbeat(n + 1) });
    }
    story
}

#[test]
fn the_beginning_of_the_log_is_always_enough() {
    assert!(replay(&[], true).1);
    assert!(replay(&story().log[..5], true).1);
    assert!(!replay(&[], false).1);
}

#[test]
fn somebody_must_have_outbeaten_the_lease() {
    let mut story = Story::default();
    story.tell(X, roster(&[]));
    story.heartbeats(X, 11);
    assert!(!replay(&story.log, false).1);
    story.put(record(X, 12, heartbeat(11)));
    assert!(!replay(&story.log, false).1, "the same heartbeat once more");
    story.put(record(X, 13, heartbeat(12)));
    assert!(replay(&story.log, false).1);
}

#[test]
fn every_instance_must_have_shown_its_roster() {
    let mut story = story();
    assert!(!replay(&story.log[1..], false).1);
    story.tell(X, roster(&[(1, "Ann")]));
    let (lobby, is_exact) = replay(&story.log[1..], false);
    assert!(is_exact);
    assert_eq!(lobby, story.lobby);
}

#[test]
fn what_was_lost_before_need_not_be_known() {
    let mut story = story();
    story.tell(Z, roster(&[(1, "Dan")]));
    let start = story.log.len();
    story.tell(Y, roster(&[]));
    story.heartbeats(Y, 12);
    let (lobby, is_exact) = replay(&story.log[start..], false);
    assert!(is_exact);
    assert_eq!(lobby, story.lobby);
    assert!(story.online().is_empty());
}

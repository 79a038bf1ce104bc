//! One test for each condition that a span must meet.

use crate::lobby::testing::*;

use super::*;

fn replay(log: &[Record], from_the_beginning: bool) -> (Lobby, bool) {
    let (mut lobby, mut bootstrap) = (Lobby::default(), Bootstrap::new(0, from_the_beginning));
    for (offset, record) in (0..).zip(log) {
        lobby.apply(record, offset, &mut Vec::new());
        bootstrap.on_record(record, offset, &lobby);
    }
    (lobby, bootstrap.is_exact())
}

/// Two members. The first one has its roster at the beginning only.
fn story() -> Story {
    let mut story = Story::default();
    story.append(X, roster(&[(1, "Ann")]));
    for n in 0..40 {
        story.append(X, heartbeat(n + 1));
        story.append(Y, if n % 10 == 0 { roster(&[]) } else { heartbeat(n + 1) });
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
fn the_span_must_contain_more_heartbeats_of_one_instance_than_a_lease() {
    let mut story = Story::default();
    story.append(X, roster(&[]));
    story.heartbeats(X, 11);
    assert!(!replay(&story.log, false).1);
    story.put(record(X, 12, heartbeat(11)));
    assert!(!replay(&story.log, false).1, "the same heartbeat once more");
    story.put(record(X, 13, heartbeat(12)));
    assert!(replay(&story.log, false).1);
}

#[test]
fn the_span_must_contain_a_roster_of_every_instance() {
    let mut story = story();
    assert!(!replay(&story.log[1..], false).1);
    story.append(X, roster(&[(1, "Ann")]));
    let (lobby, is_exact) = replay(&story.log[1..], false);
    assert!(is_exact);
    assert_eq!(lobby, story.lobby);
}

#[test]
fn a_lost_instance_needs_no_record_in_the_span() {
    let mut story = story();
    story.append(Z, roster(&[(1, "Dan")]));
    let start = story.log.len();
    story.append(Y, roster(&[]));
    story.heartbeats(Y, 12);
    let (lobby, is_exact) = replay(&story.log[start..], false);
    assert!(is_exact);
    assert_eq!(lobby, story.lobby);
    assert!(story.online().is_empty());
}

const SPAN_SIZES: Spans = Spans { first: 10, widen_times: 4, history_max: 1_000 };

/// Replays this log with a window of `window` records, and returns the length of the next span.
fn next_span(log: &[Record], window: u64, read: u64, is_history_full: bool) -> Option<u64> {
    let mut lobby = Lobby::with_repetition_window(window);
    let mut bootstrap = Bootstrap::new(500, false);
    for (offset, record) in (500..).zip(log) {
        lobby.apply(record, offset, &mut Vec::new());
        bootstrap.on_record(record, offset, &lobby);
    }
    bootstrap.next_span(&SPAN_SIZES, read, &lobby, 500 + log.len() as u64, is_history_full)
}

#[test]
fn a_span_is_long_enough_with_a_whole_window_after_the_record_that_makes_the_sessions_exact() {
    let mut story = Story::default();
    story.append(X, roster(&[]));
    story.heartbeats(X, 12);
    assert_eq!(next_span(&story.log[..12], 0, 10, true), Some(40));
    assert_eq!(next_span(&story.log, 0, 10, true), None);
    for _ in 0..9 {
        story.append(X, said(1, ""));
    }
    assert_eq!(next_span(&story.log, 10, 40, true), Some(160));
    assert_eq!(next_span(&story.log, 9, 40, true), None);
}

#[test]
fn more_is_read_to_fill_the_history_up_to_a_bound() {
    let mut story = Story::default();
    story.append(X, roster(&[]));
    story.heartbeats(X, 12);
    assert_eq!(next_span(&story.log, 0, 10, false), Some(40));
    assert_eq!(next_span(&story.log, 0, 640, false), Some(1_000));
    assert_eq!(next_span(&story.log, 0, 1_000, false), None);
    assert_eq!(next_span(&story.log, 100, 1_000, false), Some(4_000), "the state needs more, whatever the history");
}

#[test]
fn from_the_beginning_of_the_log_all_repetitions_are_known() {
    let bootstrap = Bootstrap::new(0, true);
    assert!(bootstrap.knows_repetitions(&Lobby::default(), 0));
    assert_eq!(bootstrap.next_span(&SPAN_SIZES, 10, &Lobby::default(), 0, true), None);
}

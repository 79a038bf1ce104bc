//! One test for each rule of [`Lobby::apply`], named by it.

use proptest::prelude::*;

use super::*;
use crate::lobby::testing::*;
use crate::lobby::{Action, Moderation};

const NOTHING: [&str; 0] = [];

fn with_members() -> Story {
    let mut story = Story::default();
    story.append(X, roster(&[(1, "Ann"), (2, "Bob")]));
    story.append(Y, roster(&[(1, "Cid")]));
    story
}

#[test]
fn the_first_session_joins_and_the_last_one_leaves() {
    let mut story = with_members();
    assert_eq!(story.append(X, joined(3, "Cid")), NOTHING);
    assert_eq!(story.append(Y, left(1)), NOTHING);
    assert_eq!(story.append(X, left(3)), ["-Cid"]);
    assert_eq!(story.append(X, joined(4, "Cid")), ["+Cid"]);
    assert_eq!(story.online(), ["Ann", "Bob", "Cid"]);
}

#[test]
fn records_of_a_non_member_are_ignored() {
    let mut story = with_members();
    for body in [joined(1, "Dan"), said(1, "hello"), left(1), heartbeat(1), Body::Bye { last: false }] {
        assert_eq!(story.append(Z, body), NOTHING);
    }
    assert!(!story.lobby.is_member(Z));
    assert_eq!(story.append(Z, roster(&[(1, "Dan")])), ["+Dan"]);
    assert!(story.lobby.is_member(Z));
}

#[test]
fn a_message_counts_only_from_a_session_in_the_roster() {
    let mut story = with_members();
    assert_eq!(story.append(X, said(2, "hello")), ["Bob: hello"]);
    assert_eq!(story.append(X, said(9, "hello")), NOTHING);
    story.append(X, left(2));
    assert_eq!(story.append(X, said(2, "hello?")), NOTHING);
    assert_eq!(story.append(Y, said(2, "a session of another instance")), NOTHING);
}

#[test]
fn a_duplicate_is_not_applied() {
    let mut story = with_members();
    story.append(X, said(1, "once"));
    assert_eq!(story.put(story.log[2].clone()), NOTHING);
    story.append(X, left(1));
    assert_eq!(story.put(story.log[0].clone()), NOTHING);
    assert_eq!(story.online(), ["Bob", "Cid"]);
}

#[test]
fn a_duplicate_heartbeat_does_not_tick() {
    let mut story = with_members();
    story.heartbeats(Y, 9);
    let last = story.log.last().unwrap().clone();
    assert_eq!(story.put(last), NOTHING);
    assert!(story.lobby.is_member(X));
    assert_eq!(story.append(Y, heartbeat(10)), ["-Ann", "-Bob"]);
}

#[test]
fn any_record_renews_the_lease_even_a_duplicate() {
    for renewal in [said(1, ""), joined(1, "Ann"), left(9), heartbeat(1), Body::Bye { last: false }, part(3, 1, &[])] {
        let mut story = with_members();
        story.heartbeats(Y, 9);
        story.append(X, renewal);
        assert_eq!(story.heartbeats(Y, 9), NOTHING);
        assert_eq!(story.put(story.log[0].clone()), NOTHING);
        assert_eq!(story.heartbeats(Y, 9), NOTHING);
        assert_eq!(story.append(Y, heartbeat(9)), ["-Ann", "-Bob"]);
    }
}

#[test]
fn an_instance_is_lost_after_ten_heartbeats_of_one_other_instance_not_of_several() {
    let mut story = with_members();
    story.heartbeats(Y, 9);
    story.append(Y, said(1, "renews Y, not X"));
    assert_eq!(story.heartbeats(Z, 9), NOTHING);
    assert_eq!(story.append(Z, heartbeat(10)), ["-Ann", "-Bob", "-Cid"]);
    assert_eq!(story.online(), NOTHING);
}

#[test]
fn an_instance_does_not_expire_its_own_lease() {
    let mut story = Story::default();
    story.append(X, roster(&[(1, "Ann")]));
    assert_eq!(story.heartbeats(X, 100), NOTHING);
}

#[test]
fn a_lost_instance_comes_back_with_its_roster() {
    let mut story = with_members();
    story.heartbeats(Y, 10);
    assert!(!story.lobby.is_member(X));
    assert_eq!(story.append(X, said(1, "of a lost instance")), NOTHING);
    assert_eq!(story.append(X, joined(3, "Dan")), NOTHING);
    assert_eq!(story.append(X, roster(&[(1, "Ann"), (3, "Dan")])), ["+Ann", "+Dan"]);
}

#[test]
fn a_roster_replaces_the_sessions_and_only_the_difference_becomes_events() {
    let mut story = with_members();
    assert_eq!(story.append(X, roster(&[(2, "Bob"), (5, "Eve"), (6, "Dan"), (7, "Eve")])), ["-Ann", "+Dan", "+Eve"]);
    assert_eq!(story.append(X, roster(&[(8, "Bob"), (5, "Cid")])), ["-Dan", "-Eve"]);
    assert_eq!(story.append(X, roster(&[])), ["-Bob"]);
    assert_eq!(story.online(), ["Cid"]);
}

#[test]
fn a_roster_in_parts_is_effective_with_its_last_part() {
    let mut story = with_members();
    assert_eq!(story.append(X, part(0, 3, &[(2, "Bob"), (3, "Dan")])), NOTHING);
    assert_eq!(story.append(Y, heartbeat(1)), NOTHING);
    assert_eq!(story.append(X, part(1, 3, &[])), NOTHING);
    assert_eq!(story.online(), ["Ann", "Bob", "Cid"]);
    assert_eq!(story.append(X, part(2, 3, &[(4, "Eve")])), ["-Ann", "+Dan", "+Eve"]);
}

#[test]
fn a_roster_with_a_missing_part_is_ignored() {
    let mut story = with_members();
    story.put(record(X, 2, part(0, 2, &[])));
    assert_eq!(story.put(record(X, 4, part(1, 2, &[]))), NOTHING);
    story.put(record(X, 5, part(0, 3, &[])));
    assert_eq!(story.put(record(X, 6, part(2, 3, &[]))), NOTHING);
    story.put(record(X, 7, part(0, 2, &[])));
    assert_eq!(story.put(record(X, 8, part(1, 3, &[]))), NOTHING);
    assert_eq!(story.put(record(X, 9, part(2, 3, &[]))), NOTHING);
    story.put(record(X, 10, part(0, 2, &[])));
    story.put(record(X, 11, said(1, "between")));
    assert_eq!(story.put(record(X, 12, part(1, 2, &[]))), NOTHING);
    assert_eq!(story.online(), ["Ann", "Bob", "Cid"]);
}

#[test]
fn a_part_that_comes_twice_does_no_harm() {
    let mut story = with_members();
    for seq in [2, 2, 3, 2, 3] {
        let number = u32::try_from(seq).unwrap() - 2;
        assert_eq!(story.put(record(X, seq, part(number, 3, &[(seq, "Bob")]))), NOTHING);
    }
    assert_eq!(story.put(record(X, 4, part(2, 3, &[(4, "Eve")]))), ["-Ann", "+Eve"]);
}

#[test]
fn after_a_bye_the_sessions_stay_for_the_rest_of_the_lease() {
    let mut story = with_members();
    assert_eq!(story.append(X, Body::Bye { last: false }), NOTHING);
    assert_eq!(story.heartbeats(Y, 9), NOTHING);
    assert_eq!(story.append(Y, joined(2, "Bob")), NOTHING);
    assert_eq!(story.append(Y, heartbeat(10)), ["-Ann"]);
}

#[test]
fn the_last_bye_removes_the_instances_that_said_bye_and_no_others() {
    let mut story = with_members();
    story.append(Z, roster(&[(1, "Dan")]));
    story.append(X, Body::Bye { last: false });
    assert!(!story.lobby.every_member_said_bye());
    story.append(Y, Body::Bye { last: false });
    assert_eq!(story.append(Y, Body::Bye { last: true }), ["-Ann", "-Bob", "-Cid"]);
    assert_eq!(story.online(), ["Dan"]);
    story.append(Z, Body::Bye { last: false });
    assert!(story.lobby.every_member_said_bye());
    assert_eq!(story.append(Z, Body::Bye { last: true }), ["-Dan"]);
    assert_eq!(story.lobby, Lobby::default());
}

#[test]
fn sessions_with_different_names_are_different_users() {
    let mut story = with_members();
    let renamed = User { id: "bob".into(), username: "Bobby".into() };
    assert_eq!(story.append(Y, Body::Joined { session: SessionId(2), user: renamed }), ["+Bobby"]);
    assert_eq!(story.append(Y, said(2, "hi")), ["Bobby: hi"]);
    assert_eq!(story.append(X, left(2)), ["-Bob"]);
}

/// Users of an outside issuer may have one name and different ids.
#[test]
fn accounts_with_one_name_join_with_the_first_and_leave_with_the_last() {
    let mut story = with_members();
    let namesake = User { id: "another".into(), username: "Bob".into() };
    let join = |session| Body::Joined { session: SessionId(session), user: namesake.clone() };
    assert_eq!(story.append(Y, join(5)), NOTHING);
    assert_eq!(story.append(Y, said(5, "hi")), ["Bob: hi"]);
    assert_eq!(story.online(), ["Ann", "Bob", "Cid"]);
    assert_eq!(story.append(X, left(2)), NOTHING, "the other Bob is still there");
    assert_eq!(story.append(Y, roster(&[(1, "Cid"), (9, "Bob")])), NOTHING, "one Bob takes the place of the other");
    assert_eq!(story.append(Y, left(9)), ["-Bob"]);
}

#[test]
fn the_user_of_a_session_does_not_change() {
    let mut story = with_members();
    assert_eq!(story.append(X, joined(1, "Dan")), NOTHING);
    assert_eq!(story.append(X, left(1)), ["-Ann"]);
}

#[test]
fn a_message_with_an_id_that_its_account_used_is_not_published_again() {
    let mut story = with_members();
    assert_eq!(story.append(X, said_with_id(1, "a")), ["Ann: text"]);
    assert_eq!(story.append(X, said_with_id(1, "a")), NOTHING);
    assert_eq!(story.append(X, said_with_id(1, "b")), ["Ann: text"], "another id");
    assert_eq!(story.append(X, said_with_id(2, "a")), ["Bob: text"], "another account");
    assert_eq!(story.append(X, said(1, "no id")), ["Ann: no id"]);
    assert_eq!(story.append(X, said(1, "no id")), ["Ann: no id"]);
    assert_eq!(story.append(Y, joined(2, "Ann")), NOTHING);
    assert_eq!(story.append(Y, said_with_id(2, "a")), NOTHING, "on another instance");
    let renamed = User { id: "ann".into(), username: "Anna".into() };
    story.append(Y, Body::Joined { session: SessionId(3), user: renamed });
    assert_eq!(story.append(Y, said_with_id(3, "a")), NOTHING, "under another name");
}

/// An ignored message can be sent again with the same id: its author got an error.
#[test]
fn an_ignored_message_is_no_use_of_its_id() {
    let mut story = with_members();
    assert_eq!(story.append(X, said_with_id(9, "a")), NOTHING);
    assert_eq!(story.append(Z, said_with_id(1, "a")), NOTHING);
    assert_eq!(story.append(X, said_with_id(1, "a")), ["Ann: text"]);
    story.put(story.log.last().unwrap().clone());
    assert_eq!(story.lobby.apply(&story.log[0].clone(), 100, &mut Vec::new()), Outcome::Duplicate);
}

#[test]
fn an_id_can_be_used_again_when_its_last_use_was_ten_thousand_records_before() {
    let mut lobby = Lobby::default();
    let mut events = Vec::new();
    let mut seq = 0;
    let mut apply = |lobby: &mut Lobby, offset: u64, body| {
        seq += 1;
        lobby.apply(&record(X, seq, body), offset, &mut events)
    };
    apply(&mut lobby, 0, roster(&[(1, "Ann")]));
    assert_eq!(apply(&mut lobby, 100, said_with_id(1, "a")), Outcome::Applied);
    assert_eq!(apply(&mut lobby, 10_099, said_with_id(1, "a")), Outcome::Repeated, "renews the window");
    assert_eq!(apply(&mut lobby, 20_098, said_with_id(1, "a")), Outcome::Repeated);
    assert_eq!(apply(&mut lobby, 30_098, said_with_id(1, "a")), Outcome::Applied);
}

#[test]
fn ten_thousand_users_join_and_leave_at_once() {
    let mut story = Story::default();
    story.append(X, roster(&[]));
    let mut events = Vec::new();
    for session in 0..10_000 {
        let user = User { id: session.to_string().into(), username: format!("User {session}").into() };
        let joined = record(X, session + 2, Body::Joined { session: SessionId(session), user });
        story.lobby.apply(&joined, session + 1, &mut events);
    }
    assert_eq!(story.lobby.names_online().len(), 10_000);
    assert_eq!(story.heartbeats(Y, 10).len(), 10_000);
}

/// Records of few instances, sessions and users, also with invalid values, which must do no harm.
fn any_record() -> impl Strategy<Value = Record> {
    let name = prop_oneof![Just("Ann"), Just("Bob"), Just("Cid")];
    let sessions = proptest::collection::vec((0u64..4, name.clone()), 0..4);
    let number = prop_oneof![6 => 0u32..3, 1 => Just(u32::MAX)];
    let body = prop_oneof![
        3 => (number.clone(), number, sessions).prop_map(|(number, parts, sessions)| part(number, parts, &sessions)),
        2 => Just(roster(&[(1, "Ann")])),
        8 => (0u64..9).prop_map(heartbeat),
        4 => (0u64..4, name).prop_map(|(session, name)| joined(session, name)),
        2 => (0u64..4).prop_map(left),
        2 => (0u64..4).prop_map(|session| said(session, "text")),
        2 => (0u64..4, prop_oneof![Just("a"), Just("b")]).prop_map(|(session, id)| said_with_id(session, id)),
        1 => any::<bool>().prop_map(|last| Body::Bye { last }),
    ];
    let seq = prop_oneof![20 => 0u64..60, 1 => Just(u64::MAX)];
    (prop_oneof![Just(X), Just(Y), Just(Z)], seq, body).prop_map(|(from, seq, body)| record(from, seq, body))
}

proptest! {
    /// With any log, nothing panics, a user is online while they have a session, and joined and left alternate.
    #[test]
    fn any_log_gives_a_state_that_its_events_describe(log in proptest::collection::vec(any_record(), 0..120)) {
        let mut lobby = Lobby::default();
        let mut seen = BTreeSet::new();
        for (offset, record) in (0..).zip(&log) {
            let mut events = Vec::new();
            lobby.apply(record, offset, &mut events);
            for event in events {
                match event {
                    Event::UserJoined { username } => prop_assert!(seen.insert(username)),
                    Event::UserLeft { username } => prop_assert!(seen.remove(&username)),
                    Event::Said { user, .. } => prop_assert!(seen.contains(&user.username)),
                }
            }
            let sessions = lobby.instances.values().flat_map(|instance| instance.sessions.values());
            let by_session: BTreeSet<Arc<str>> = sessions.map(|user| user.username.clone()).collect();
            prop_assert_eq!(&by_session, &seen);
            prop_assert!(lobby.names_online().eq(seen.iter()));
        }
    }

    /// Actions of administrators change nothing, not even a lease: the version before skips these records.
    #[test]
    fn actions_of_administrators_change_nothing(
        log in proptest::collection::vec((any_record(), any::<bool>()), 0..120),
    ) {
        let (mut with, mut without) = (Lobby::default(), Lobby::default());
        for (offset, (record, is_action)) in (0..).zip(log) {
            let (mut events, mut same) = (Vec::new(), Vec::new());
            if is_action {
                let action = Body::Moderated(Moderation {
                    action: Action::Kick,
                    username: "Ann".into(),
                    by: "Bob".into(),
                    reason: "".into(),
                    at_ms: 1,
                    until_ms: None,
                });
                with.apply(&Record { body: action, ..record }, offset, &mut events);
                // The repetitions of messages depend on the offset alone.
                without.repetitions.advance(offset);
            } else {
                with.apply(&record, offset, &mut events);
                without.apply(&record, offset, &mut same);
            }
            prop_assert_eq!(events, same);
            prop_assert_eq!(&with, &without);
        }
    }

    /// The state does not depend on the wall clocks of the senders.
    #[test]
    fn the_senders_clocks_change_nothing(log in proptest::collection::vec(any_record(), 0..60)) {
        let (mut one, mut other) = (Lobby::default(), Lobby::default());
        for (offset, mut record) in (0..).zip(log) {
            let (mut events, mut same) = (Vec::new(), Vec::new());
            one.apply(&record, offset, &mut events);
            record.at = "another time".into();
            other.apply(&record, offset, &mut same);
            prop_assert_eq!(events, same);
        }
        prop_assert_eq!(one, other);
    }
}

//! A session without a network: the test plays the server and the clock.

use serde_json::{Value, json};

use super::*;
use crate::cli::chat::connection::{
    FIRST_FRAME_TIMEOUT, PAUSE_FIRST, PAUSE_MAX, PING_AFTER, PONG_TIMEOUT, STABLE_AFTER,
};
use crate::cli::chat::protocol::{ChatMessage, Page, PageResult};
use crate::session::end::End;

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VybmFtZSI6IkFubiIsImlhdCI6MTAwMCwiZXhwIjoxNjAwfQ.c2ln";
/// The lifetime of that token, whose user is Ann.
const LIFETIME: Duration = Duration::from_secs(600);
/// Half of the random part.
const CHANCE: f64 = 0.5;

struct Fixture {
    session: Session,
    now: Instant,
}

impl Fixture {
    fn new(can_log_in: bool) -> Fixture {
        let now = Instant::now();
        Fixture { session: Session::new(Token::new(TOKEN.to_owned(), now), can_log_in, 50, now), now }
    }

    /// A session that has caught up.
    fn online(can_log_in: bool) -> Fixture {
        let mut fixture = Fixture::new(can_log_in);
        fixture.join("?last=50", &[]);
        fixture
    }

    fn step(&mut self) -> Step {
        self.session.next_step(self.now, CHANCE)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn receive(&mut self, frame: &Value) {
        self.session.received(self.now);
        self.session.frame(&frame.to_string(), self.now, CHANCE);
    }

    fn message(&mut self, event_id: &str, from: &str, id: Option<&str>) {
        let mut frame = json!({"type": "chat_message", "sent_at": "t", "event_id": event_id,
            "msg": {"from_user": from, "text": event_id}});
        if let Some(id) = id {
            frame["id"] = id.into();
        }
        self.receive(&frame);
    }

    /// Connects, and receives these messages of Bob.
    fn join(&mut self, query: &str, missed: &[&str]) {
        assert_eq!(self.step(), Step::Connect);
        assert_eq!(self.session.query(), query);
        self.session.opened(self.now);
        self.receive(&json!({"type": "users_online", "event_id": "b0", "msg": {"list": ["Bob"]}}));
        missed.iter().for_each(|id| self.message(id, "Bob", None));
        self.receive(&json!({"type": "caught_up", "msg": {"complete": true}}));
    }

    fn close(&mut self, code: Option<u16>) {
        self.session.closed(code, "the reason", self.now, CHANCE);
    }

    fn shown(&mut self) -> Vec<String> {
        let updates = self.session.take_updates().into_iter().filter_map(|update| match update {
            Update::Message { message, is_own } => {
                Some(format!("{}{}", if is_own { "own " } else { "" }, message.text))
            }
            Update::State(state) => Some(format!("{state:?}")),
            Update::Ended(reason) => Some(format!("ended: {reason}")),
            Update::Gap => Some("gap".to_owned()),
            Update::Note(text) => Some(text),
            _ => None,
        });
        updates.collect()
    }
}

fn said(id: &str) -> Step {
    Step::Send(protocol::say(id, "hello"))
}

#[test]
fn a_client_returns_after_a_pause_and_gets_what_it_missed_once() {
    let mut fixture = Fixture::online(false);
    fixture.message("b1", "Bob", None);
    assert_eq!(fixture.shown(), ["b1", "Online"]);
    fixture.close(None);
    assert_eq!(fixture.shown(), ["Offline(\"the reason\")"]);
    assert!(matches!(fixture.step(), Step::Wait(Some(_))));
    fixture.wait(PAUSE_FIRST.mul_f64(0.75));
    fixture.join("?after=b1", &["b1", "b2"]);
    assert_eq!(fixture.shown(), ["b2", "Online"]);
}

#[test]
fn pauses_grow_and_begin_anew_after_a_connection_that_lasted() {
    let mut fixture = Fixture::new(false);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_eq!(fixture.step(), Step::Connect);
        fixture.session.refused(
            &Refusal { status: None, reason: "down".into(), retry_after: Duration::ZERO },
            fixture.now,
            1.0,
        );
        let Step::Wait(Some(until)) = fixture.step() else { panic!("a pause") };
        pauses.push((until - fixture.now).as_millis());
        fixture.now = until;
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15000, 15000]);
    fixture.join("?last=50", &[]);
    fixture.wait(STABLE_AFTER);
    for pause in [PAUSE_FIRST, PAUSE_FIRST * 2, PAUSE_FIRST * 4] {
        fixture.close(Some(1012));
        fixture.now += pause.mul_f64(0.75);
        // The server closes each of these at once.
        fixture.join("?after=b0", &[]);
    }
    fixture.close(Some(1012));
    assert_eq!(fixture.step(), Step::Wait(Some(fixture.now + (PAUSE_FIRST * 8).mul_f64(0.75))));
}

#[test]
fn the_server_can_ask_for_a_longer_pause() {
    let mut fixture = Fixture::new(false);
    fixture.step();
    let retry_after = Duration::from_secs(60);
    fixture.session.refused(&Refusal { status: Some(503), reason: "full".into(), retry_after }, fixture.now, CHANCE);
    assert_eq!(fixture.step(), Step::Wait(Some(fixture.now + retry_after)));
}

#[test]
fn a_dead_network_is_found_by_a_ping() {
    let mut fixture = Fixture::online(false);
    fixture.wait(PING_AFTER);
    assert_eq!(fixture.step(), Step::Ping);
    fixture.wait(PONG_TIMEOUT / 2);
    fixture.session.received(fixture.now);
    fixture.wait(PING_AFTER - Duration::from_millis(1));
    assert_eq!(fixture.step(), Step::Wait(Some(fixture.now + Duration::from_millis(1))));
    fixture.wait(Duration::from_millis(1));
    assert_eq!(fixture.step(), Step::Ping);
    fixture.wait(PONG_TIMEOUT);
    assert_eq!(fixture.step(), Step::GiveUp);
    fixture.wait(PAUSE_MAX);
    fixture.join("?after=b0", &[]);
}

#[test]
fn clients_that_lose_a_dead_network_do_not_return_in_step() {
    let returns_after = |random: f64| {
        let mut fixture = Fixture::online(false);
        fixture.wait(PING_AFTER);
        assert_eq!(fixture.session.next_step(fixture.now, random), Step::Ping);
        fixture.wait(PONG_TIMEOUT);
        assert_eq!(fixture.session.next_step(fixture.now, random), Step::GiveUp);
        let Step::Wait(Some(until)) = fixture.step() else { panic!("a pause") };
        until - fixture.now
    };
    assert_eq!((returns_after(0.0), returns_after(1.0)), (PAUSE_FIRST / 2, PAUSE_FIRST));
}

#[test]
fn the_first_frame_may_take_long_and_a_websocket_on_which_nothing_comes_is_given_up() {
    let moment = Duration::from_millis(1);
    let mut fixture = Fixture::new(false);
    assert_eq!(fixture.step(), Step::Connect);
    fixture.session.opened(fixture.now);
    // A ping of the server, for example, does not shorten the time.
    fixture.session.received(fixture.now);
    fixture.wait(FIRST_FRAME_TIMEOUT - moment);
    assert_eq!(fixture.step(), Step::Wait(Some(fixture.now + moment)));
    fixture.wait(moment);
    assert_eq!(fixture.step(), Step::GiveUp);
    assert_eq!(fixture.shown(), ["Offline(\"the server does not answer\")"]);
}

#[test]
fn unconfirmed_messages_are_sent_again_after_the_missed_ones() {
    let mut fixture = Fixture::online(false);
    fixture.session.say("x1".into(), "hello".into());
    fixture.session.say("x2".into(), "hello".into());
    assert_eq!(fixture.step(), said("x1"));
    fixture.close(None);
    fixture.wait(PAUSE_MAX);
    assert_eq!(fixture.step(), Step::Connect);
    fixture.session.opened(fixture.now);
    fixture.receive(&json!({"type": "users_online", "msg": {"list": []}}));
    assert!(matches!(fixture.step(), Step::Wait(_)), "the first one may be among those that follow");
    fixture.message("a1", "Ann", Some("x1"));
    fixture.receive(&json!({"type": "caught_up", "msg": {"complete": true}}));
    assert_eq!(fixture.step(), said("x2"));
    assert!(fixture.shown().contains(&"own a1".to_owned()));
}

#[test]
fn a_message_of_somebody_else_with_the_same_id_confirms_nothing() {
    let mut fixture = Fixture::online(false);
    fixture.session.say("x1".into(), "hello".into());
    assert_eq!(fixture.step(), said("x1"));
    fixture.message("b1", "Bob", Some("x1"));
    assert!(fixture.session.take_updates().iter().all(|update| !matches!(update, Update::Confirmed(_))));
    fixture.message("a1", "Ann", Some("x1"));
    assert!(fixture.session.take_updates().iter().any(|update| matches!(update, Update::Confirmed(_))));
}

#[test]
fn a_message_that_is_too_long_is_not_sent_again() {
    let mut fixture = Fixture::online(false);
    fixture.session.say("x1".into(), "hello".into());
    assert_eq!(fixture.step(), said("x1"));
    fixture.close(Some(1009));
    assert!(fixture.session.take_updates().iter().any(|update| matches!(update, Update::NotSent(..))));
    fixture.wait(PAUSE_MAX);
    fixture.join("?after=b0", &[]);
    assert!(matches!(fixture.step(), Step::Wait(_)));
}

#[test]
fn a_kicked_client_and_one_with_a_refused_token_stop() {
    let mut fixture = Fixture::online(true);
    fixture.shown();
    fixture.close(Some(1008));
    assert_eq!((fixture.step(), fixture.shown()), (Step::End, vec!["ended: the reason".to_owned()]));

    for (status, has_joined, ends) in [
        (401, true, true),
        (403, true, true),
        (404, false, true),
        (301, false, true),
        (404, true, false),
        (429, false, false),
    ] {
        let mut fixture = if has_joined { Fixture::online(false) } else { Fixture::new(false) };
        if has_joined {
            fixture.close(None);
            fixture.wait(PAUSE_MAX);
        }
        assert_eq!(fixture.step(), Step::Connect);
        let refusal = Refusal { status: Some(status), reason: "refused".into(), retry_after: Duration::ZERO };
        fixture.session.refused(&refusal, fixture.now, CHANCE);
        assert_eq!(fixture.step() == Step::End, ends, "{status}");
    }
}

#[test]
fn the_token_is_renewed_in_the_session() {
    let mut fixture = Fixture::online(true);
    fixture.shown();
    for _ in 0..LIFETIME.as_secs() * 5 / 6 / 15 {
        fixture.wait(PING_AFTER);
        fixture.session.received(fixture.now);
    }
    fixture.wait(PING_AFTER / 2);
    assert_eq!(fixture.step(), Step::LogIn);
    fixture.session.login_failed(false, "down", fixture.now);
    assert_eq!(fixture.shown(), ["The login could not be renewed: down"]);
    for _ in 0..2 {
        fixture.wait(PING_AFTER);
        fixture.session.received(fixture.now);
    }
    assert_eq!(fixture.step(), Step::LogIn);
    fixture.session.logged_in(Token::new("new".into(), fixture.now));
    assert_eq!(fixture.step(), Step::Send(protocol::renew("new")));
    fixture.receive(&json!({"type": "token", "msg": {"expires_in": 600}}));
    assert!(matches!(fixture.step(), Step::Wait(_)));
}

/// A session whose login has ended while it connected: the server has the token from before.
fn renewed_while_connecting() -> Fixture {
    let mut fixture = Fixture::online(true);
    fixture.close(None);
    fixture.wait(LIFETIME * 5 / 6);
    assert_eq!(fixture.step(), Step::LogIn);
    assert_eq!(fixture.step(), Step::Connect);
    fixture.session.opened(fixture.now);
    fixture.session.logged_in(Token::new("new".into(), fixture.now));
    fixture
}

#[test]
fn a_token_that_came_while_the_client_connected_is_sent() {
    let mut fixture = renewed_while_connecting();
    fixture.receive(&json!({"type": "users_online", "msg": {"list": []}}));
    assert_eq!(fixture.step(), Step::Send(protocol::renew("new")));
    assert!(matches!(fixture.step(), Step::Wait(_)), "once");
}

#[test]
fn a_new_token_helps_only_after_the_end_of_the_old_one() {
    for end in End::ALL.into_iter().filter(|end| end.row().code == POLICY) {
        let mut fixture = renewed_while_connecting();
        fixture.session.closed(Some(POLICY), &end.text_with(""), fixture.now, CHANCE);
        assert_eq!(fixture.step() == Step::End, end != End::TokenExpired, "{end:?}");
    }
}

#[test]
fn a_client_that_was_away_for_long_logs_in_before_it_returns() {
    let mut fixture = Fixture::online(true);
    fixture.close(None);
    fixture.wait(LIFETIME);
    assert_eq!(fixture.step(), Step::LogIn);
    assert!(matches!(fixture.step(), Step::Wait(_)), "not with the old token");
    fixture.session.logged_in(Token::new("new".into(), fixture.now));
    fixture.join("?after=b0", &[]);

    let mut fixture = Fixture::online(true);
    fixture.close(None);
    fixture.wait(LIFETIME);
    assert_eq!(fixture.step(), Step::LogIn);
    fixture.session.login_failed(true, "wrong password", fixture.now);
    assert_eq!(fixture.step(), Step::End);
}

#[test]
fn the_state_shows_what_the_server_refuses() {
    let mut fixture = Fixture::online(false);
    fixture.session.say("x1".into(), "hello".into());
    assert_eq!(fixture.step(), said("x1"));
    fixture.shown();
    fixture.receive(&json!({"type": "error", "msg": {"code": "rate_limited", "text": "slow"}}));
    assert_eq!(fixture.shown(), ["SlowedDown"]);
    fixture.wait(Duration::from_secs(2));
    assert_eq!(fixture.step(), said("x1"));
    assert_eq!(fixture.shown(), ["Online"]);
    fixture.receive(&json!({"type": "error", "id": "x1", "msg": {"code": "muted", "text": "until noon"}}));
    assert_eq!(fixture.shown(), ["Muted(\"until noon\")"]);
    fixture.session.say("x2".into(), "hello".into());
    assert_eq!(fixture.step(), said("x2"));
    fixture.message("a1", "Ann", Some("x2"));
    assert_eq!(fixture.shown(), ["own a1", "Online"]);
}

fn page(ids: &[&str], has_more: bool) -> PageResult {
    let message = |id: &&str| {
        let text = |text: &str| text.to_owned();
        ChatMessage { event_id: text(id), sent_at: text("t"), from_user: text("Bob"), text: text(id) }
    };
    Ok(Page { messages: ids.iter().map(message).collect(), has_more })
}

/// A session that has returned, and got `b8` only of the messages after `b1`.
fn with_gap() -> Fixture {
    let mut fixture = Fixture::online(false);
    fixture.message("b1", "Bob", None);
    return_incomplete(&mut fixture, "b8");
    assert_eq!(fixture.step(), Step::LoadPage(Some("b8".to_owned())));
    fixture.shown();
    fixture
}

fn return_incomplete(fixture: &mut Fixture, newest: &str) {
    fixture.close(None);
    fixture.wait(PAUSE_MAX);
    assert_eq!(fixture.step(), Step::Connect);
    fixture.session.opened(fixture.now);
    fixture.receive(&json!({"type": "users_online", "msg": {"list": ["Bob"]}}));
    fixture.message(newest, "Bob", None);
    fixture.receive(&json!({"type": "caught_up", "msg": {"complete": false}}));
}

/// A session that joined at ten o'clock, when the server knew no message, and has returned and got `b9` only.
fn with_gap_after_the_join() -> Fixture {
    let now = Instant::now();
    let mut fixture = Fixture { session: Session::new(Token::new(TOKEN.to_owned(), now), false, 0, now), now };
    assert_eq!(fixture.step(), Step::Connect);
    fixture.session.opened(fixture.now);
    fixture.receive(&json!({"type": "users_online", "sent_at": "2026-11-23T10:00:00+01:00", "msg": {"list": []}}));
    return_incomplete(&mut fixture, "b9");
    assert_eq!(fixture.step(), Step::LoadPage(Some("b9".to_owned())));
    fixture.shown();
    fixture
}

#[test]
fn a_client_that_has_received_no_message_gets_those_since_its_join() {
    let at = |id: &str, time: &str| ChatMessage {
        sent_at: format!("2026-11-23T{time}+01:00"),
        ..page(&[id], true).unwrap().messages.remove(0)
    };
    let mut fixture = with_gap_after_the_join();
    let messages = vec![at("b8", "10:00:02"), at("b7", "10:00:00.5"), at("b6", "09:59:59"), at("b5", "09:59:58")];
    fixture.session.loaded(Ok(Page { messages, has_more: true }));
    assert_eq!(fixture.shown(), ["b7", "b8", "b9"]);

    let mut fixture = with_gap_after_the_join();
    fixture.session.loaded(Ok(Page { messages: vec![at("b8", "10:00:02")], has_more: false }));
    assert_eq!(fixture.shown(), ["b8", "b9"], "the lobby has begun with them");

    let mut fixture = with_gap_after_the_join();
    fixture.session.loaded(page(&[], false));
    assert_eq!(fixture.shown(), ["gap", "b9"], "the server has none of the missing messages");
}

#[test]
fn a_gap_is_filled_before_what_comes_after_it() {
    let mut fixture = with_gap();
    fixture.message("b9", "Bob", None);
    assert!(matches!(fixture.step(), Step::Wait(_)), "one page at a time");
    fixture.session.loaded(page(&["b7", "b6"], true));
    assert_eq!(fixture.step(), Step::LoadPage(Some("b6".to_owned())));
    assert!(fixture.shown().is_empty());
    fixture.session.loaded(page(&["b5", "b1", "b0"], true));
    assert_eq!(fixture.shown(), ["b5", "b6", "b7", "b8", "b9"]);
    assert!(matches!(fixture.step(), Step::Wait(_)));
    fixture.close(None);
    assert_eq!(fixture.session.query(), "?after=b9");
}

#[test]
fn a_message_is_sent_and_confirmed_while_a_gap_is_filled() {
    let mut fixture = with_gap();
    fixture.session.say("x1".into(), "hello".into());
    assert_eq!(fixture.step(), said("x1"));
    fixture.message("a9", "Ann", Some("x1"));
    fixture.session.loaded(page(&["b7", "b1"], true));
    assert_eq!(fixture.shown(), ["b7", "b8", "own a9"]);
}

#[test]
fn messages_that_history_does_not_have_stay_missing() {
    let mut fixture = with_gap();
    fixture.session.loaded(page(&["b7"], false));
    assert_eq!(fixture.shown(), ["gap", "b7", "b8"]);

    let mut fixture = with_gap();
    fixture.session.loaded(Err("down".to_owned()));
    assert_eq!(fixture.shown(), ["gap", "b8"]);
}

#[test]
fn a_slow_history_does_not_delay_messages_for_long() {
    let mut fixture = with_gap();
    let Step::Wait(Some(until)) = fixture.step() else { panic!("a deadline") };
    fixture.now = until;
    assert_eq!(fixture.step(), Step::Wait(Some(until)));
    assert_eq!(fixture.shown(), ["gap", "b8"]);
    // A second request does not begin before the first one has ended.
    return_incomplete(&mut fixture, "b20");
    assert!(matches!(fixture.step(), Step::Wait(_)));
    assert_eq!(fixture.shown(), ["gap", "b20"]);
    fixture.session.loaded(page(&["b7", "b6"], true));
    assert!(fixture.shown().is_empty(), "too late");
}

#[test]
fn a_connection_that_is_lost_while_a_gap_is_filled_loses_no_message() {
    let mut fixture = with_gap();
    fixture.message("b9", "Bob", None);
    fixture.session.loaded(page(&["b7", "b6"], true));
    fixture.close(None);
    assert_eq!(fixture.shown(), ["gap", "b6", "b7", "b8", "b9", "Offline(\"the reason\")"]);
}

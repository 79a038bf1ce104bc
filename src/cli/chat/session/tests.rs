//! A session without a network: the test plays the server and the clock.

use serde_json::{Value, json};

use super::*;

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VybmFtZSI6IkFubiIsImlhdCI6MTAwMCwiZXhwIjoxNjAwfQ.c2ln";
/// The lifetime of that token, whose user is Ann.
const LIFETIME: Duration = Duration::from_secs(600);
/// Half of the random part.
const CHANCE: f64 = 0.5;

struct Play {
    session: Session,
    now: Instant,
}

impl Play {
    fn new(can_log_in: bool) -> Play {
        let now = Instant::now();
        Play { session: Session::new(Token::new(TOKEN.to_owned(), now), can_log_in, 50, now), now }
    }

    /// A session that has caught up.
    fn online(can_log_in: bool) -> Play {
        let mut play = Play::new(can_log_in);
        play.join("?last=50", &[]);
        play
    }

    fn step(&mut self) -> Step {
        self.session.next_step(self.now)
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn receive(&mut self, frame: &Value) {
        self.session.heard(self.now);
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
    let mut play = Play::online(false);
    play.message("b1", "Bob", None);
    assert_eq!(play.shown(), ["b1", "Online"]);
    play.close(None);
    assert_eq!(play.shown(), ["Offline(\"the reason\")"]);
    assert!(matches!(play.step(), Step::Wait(Some(_))));
    play.wait(PAUSE_FIRST.mul_f64(0.75));
    play.join("?after=b1", &["b1", "b2"]);
    assert_eq!(play.shown(), ["b2", "Online"]);
}

#[test]
fn pauses_grow_and_begin_anew_after_a_connection_that_lasted() {
    let mut play = Play::new(false);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        assert_eq!(play.step(), Step::Connect);
        play.session.refused(
            &Refusal { status: None, reason: "down".into(), retry_after: Duration::ZERO },
            play.now,
            1.0,
        );
        let Step::Wait(Some(until)) = play.step() else { panic!("a pause") };
        pauses.push((until - play.now).as_millis());
        play.now = until;
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15000, 15000]);
    play.join("?last=50", &[]);
    play.wait(STABLE_AFTER);
    for pause in [PAUSE_FIRST, PAUSE_FIRST * 2, PAUSE_FIRST * 4] {
        play.close(Some(1012));
        play.now += pause.mul_f64(0.75);
        // The server closes each of these at once.
        play.join("?after=b0", &[]);
    }
    play.close(Some(1012));
    assert_eq!(play.step(), Step::Wait(Some(play.now + (PAUSE_FIRST * 8).mul_f64(0.75))));
}

#[test]
fn the_server_can_ask_for_a_longer_pause() {
    let mut play = Play::new(false);
    play.step();
    let retry_after = Duration::from_secs(60);
    play.session.refused(&Refusal { status: Some(503), reason: "full".into(), retry_after }, play.now, CHANCE);
    assert_eq!(play.step(), Step::Wait(Some(play.now + retry_after)));
}

#[test]
fn a_dead_network_is_found_by_a_ping() {
    let mut play = Play::online(false);
    play.wait(PING_AFTER);
    assert_eq!(play.step(), Step::Ping);
    play.wait(PONG_TIMEOUT / 2);
    play.session.heard(play.now);
    play.wait(PING_AFTER - Duration::from_millis(1));
    assert_eq!(play.step(), Step::Wait(Some(play.now + Duration::from_millis(1))));
    play.wait(Duration::from_millis(1));
    assert_eq!(play.step(), Step::Ping);
    play.wait(PONG_TIMEOUT);
    assert_eq!(play.step(), Step::GiveUp);
    play.wait(PAUSE_MAX);
    play.join("?after=b0", &[]);
}

#[test]
fn a_websocket_on_which_nothing_comes_is_given_up() {
    let mut play = Play::new(false);
    assert_eq!(play.step(), Step::Connect);
    play.session.opened(play.now);
    play.wait(PING_AFTER);
    assert_eq!(play.step(), Step::GiveUp);
    assert_eq!(play.shown(), ["Offline(\"the server does not answer\")"]);
}

#[test]
fn unconfirmed_messages_are_sent_again_after_the_missed_ones() {
    let mut play = Play::online(false);
    play.session.say("x1".into(), "hello".into());
    play.session.say("x2".into(), "hello".into());
    assert_eq!(play.step(), said("x1"));
    play.close(None);
    play.wait(PAUSE_MAX);
    assert_eq!(play.step(), Step::Connect);
    play.session.opened(play.now);
    play.receive(&json!({"type": "users_online", "msg": {"list": []}}));
    assert!(matches!(play.step(), Step::Wait(_)), "the first one may be among those that follow");
    play.message("a1", "Ann", Some("x1"));
    play.receive(&json!({"type": "caught_up", "msg": {"complete": true}}));
    assert_eq!(play.step(), said("x2"));
    assert!(play.shown().contains(&"own a1".to_owned()));
}

#[test]
fn a_message_of_somebody_else_with_the_same_id_confirms_nothing() {
    let mut play = Play::online(false);
    play.session.say("x1".into(), "hello".into());
    assert_eq!(play.step(), said("x1"));
    play.message("b1", "Bob", Some("x1"));
    assert!(play.session.take_updates().iter().all(|update| !matches!(update, Update::Confirmed(_))));
    play.message("a1", "Ann", Some("x1"));
    assert!(play.session.take_updates().iter().any(|update| matches!(update, Update::Confirmed(_))));
}

#[test]
fn a_message_that_is_too_long_is_not_sent_again() {
    let mut play = Play::online(false);
    play.session.say("x1".into(), "hello".into());
    assert_eq!(play.step(), said("x1"));
    play.close(Some(1009));
    assert!(play.session.take_updates().iter().any(|update| matches!(update, Update::NotSent(..))));
    play.wait(PAUSE_MAX);
    play.join("?after=b0", &[]);
    assert!(matches!(play.step(), Step::Wait(_)));
}

#[test]
fn a_kicked_client_and_one_with_a_refused_token_stop() {
    let mut play = Play::online(true);
    play.shown();
    play.close(Some(1008));
    assert_eq!((play.step(), play.shown()), (Step::End, vec!["ended: the reason".to_owned()]));

    for (status, has_joined, ends) in [
        (401, true, true),
        (403, true, true),
        (404, false, true),
        (301, false, true),
        (404, true, false),
        (429, false, false),
    ] {
        let mut play = if has_joined { Play::online(false) } else { Play::new(false) };
        if has_joined {
            play.close(None);
            play.wait(PAUSE_MAX);
        }
        assert_eq!(play.step(), Step::Connect);
        let refusal = Refusal { status: Some(status), reason: "refused".into(), retry_after: Duration::ZERO };
        play.session.refused(&refusal, play.now, CHANCE);
        assert_eq!(play.step() == Step::End, ends, "{status}");
    }
}

#[test]
fn the_token_is_renewed_in_the_session() {
    let mut play = Play::online(true);
    play.shown();
    for _ in 0..LIFETIME.as_secs() * 5 / 6 / 15 {
        play.wait(PING_AFTER);
        play.session.heard(play.now);
    }
    play.wait(PING_AFTER / 2);
    assert_eq!(play.step(), Step::LogIn);
    play.session.login_failed(false, "down", play.now);
    assert_eq!(play.shown(), ["The login could not be renewed: down"]);
    for _ in 0..2 {
        play.wait(PING_AFTER);
        play.session.heard(play.now);
    }
    assert_eq!(play.step(), Step::LogIn);
    play.session.logged_in(Token::new("new".into(), play.now));
    assert_eq!(play.step(), Step::Send(protocol::renew("new")));
    play.receive(&json!({"type": "token", "msg": {"expires_in": 600}}));
    assert!(matches!(play.step(), Step::Wait(_)));
}

#[test]
fn a_client_that_was_away_for_long_logs_in_before_it_returns() {
    let mut play = Play::online(true);
    play.close(None);
    play.wait(LIFETIME);
    assert_eq!(play.step(), Step::LogIn);
    assert!(matches!(play.step(), Step::Wait(_)), "not with the old token");
    play.session.logged_in(Token::new("new".into(), play.now));
    play.join("?after=b0", &[]);

    let mut play = Play::online(true);
    play.close(None);
    play.wait(LIFETIME);
    assert_eq!(play.step(), Step::LogIn);
    play.session.login_failed(true, "wrong password", play.now);
    assert_eq!(play.step(), Step::End);
}

#[test]
fn the_state_shows_what_the_server_refuses() {
    let mut play = Play::online(false);
    play.session.say("x1".into(), "hello".into());
    assert_eq!(play.step(), said("x1"));
    play.shown();
    play.receive(&json!({"type": "error", "msg": {"code": "rate_limited", "text": "slow"}}));
    assert_eq!(play.shown(), ["SlowedDown"]);
    play.wait(Duration::from_secs(2));
    assert_eq!(play.step(), said("x1"));
    assert_eq!(play.shown(), ["Online"]);
    play.receive(&json!({"type": "error", "id": "x1", "msg": {"code": "muted", "text": "until noon"}}));
    assert_eq!(play.shown(), ["Muted(\"until noon\")"]);
    play.session.say("x2".into(), "hello".into());
    assert_eq!(play.step(), said("x2"));
    play.message("a1", "Ann", Some("x2"));
    assert_eq!(play.shown(), ["own a1", "Online"]);
}

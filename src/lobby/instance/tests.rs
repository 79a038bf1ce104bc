//! One test for each rule of [`Instance`], named by it.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::lobby::testing::{Y, joined as joined_body, roster as roster_body, user};
use crate::lobby::{Event, RosterEntry};

const ID: InstanceId = InstanceId(1);

/// An instance and its log, which delivers each appended record at once.
struct Bench {
    instance: Instance,
    lobby: Lobby,
    now: Duration,
    other_seq: u64,
    next_offset: u64,
}

impl Bench {
    fn new() -> Self {
        let instance = Instance::new(ID, 200, Duration::ZERO);
        Bench { instance, lobby: Lobby::default(), now: Duration::ZERO, other_seq: 0, next_offset: 0 }
    }

    /// An instance that is ready.
    fn ready() -> Self {
        let mut bench = Bench::new();
        bench.run(2);
        assert_eq!(bench.health(), Health::Ready);
        bench
    }

    fn at() -> Arc<str> {
        "now".into()
    }

    fn tick(&mut self) -> Vec<Record> {
        self.instance.tick(&self.lobby, &Self::at(), self.now)
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn deliver(&mut self, records: &[Record]) -> Vec<Event> {
        let mut events = Vec::new();
        for record in records {
            self.lobby.apply(record, self.next_offset, &mut events);
            self.next_offset += 1;
            if record.from == ID {
                self.instance.on_own_record(record, &self.lobby, self.now);
            }
        }
        events
    }

    /// Runs for this many seconds, in which all appended records are delivered.
    fn run(&mut self, seconds: u64) -> Vec<Record> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            let records = self.tick();
            self.deliver(&records);
            all.extend(records);
            self.wait_ms(1_000);
        }
        all
    }

    /// Runs for this many seconds, in which no record is delivered.
    fn run_cut_off(&mut self, seconds: u64) -> Vec<Record> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            all.extend(self.tick());
            self.wait_ms(1_000);
        }
        all
    }

    fn open(&mut self, session: u64) -> Record {
        self.instance.open_session(SessionId(session), user("Ann"), Self::at()).unwrap()
    }

    fn health(&self) -> Health {
        self.instance.health(self.now)
    }

    /// Applies a record of another instance.
    fn apply_other(&mut self, body: Body) {
        self.other_seq += 1;
        let record = Record { from: Y, seq: self.other_seq, at: Self::at(), body };
        self.lobby.apply(&record, self.next_offset, &mut Vec::new());
        self.next_offset += 1;
    }

    fn lose(&mut self) {
        (0..10).for_each(|_| self.apply_other(Body::Heartbeat { n: 1 }));
    }
}

fn is_roster(record: &Record) -> bool {
    matches!(record.body, Body::Roster { .. })
}

fn is_heartbeat(record: &Record) -> bool {
    matches!(record.body, Body::Heartbeat { .. })
}

fn roster_of(records: &[Record]) -> Vec<u64> {
    let entries = |record: &Record| match &record.body {
        Body::Roster { sessions, .. } => sessions.iter().map(|RosterEntry { session, .. }| session.0).collect(),
        _ => Vec::new(),
    };
    records.iter().flat_map(entries).collect()
}

#[test]
fn it_starts_with_an_empty_roster_and_a_heartbeat_and_is_ready_when_both_were_read_back() {
    let mut bench = Bench::new();
    let first = bench.tick();
    assert_eq!(first[0].body, roster_body(&[]));
    assert_eq!(first[1].body, Body::Heartbeat { n: 1 });
    assert_eq!((first[0].seq, first[1].seq, first.len()), (1, 2, 2));
    assert_eq!(bench.health(), Health::Starting);
    bench.deliver(&first[..1]);
    assert_eq!(bench.health(), Health::Starting);
    bench.deliver(&first[1..]);
    assert_eq!(bench.health(), Health::Ready);
}

#[test]
fn a_heartbeat_follows_a_second_after_the_last_one_and_only_when_that_was_read_back() {
    let mut bench = Bench::ready();
    let first: Vec<Record> = bench.tick();
    assert!(first.iter().all(is_heartbeat) && first.len() == 1);
    bench.deliver(&first);
    bench.wait_ms(999);
    assert_eq!(bench.tick(), []);
    bench.wait_ms(1);
    let second = bench.tick();
    assert!(second.iter().all(is_heartbeat) && second.len() == 1);
    bench.wait_ms(1_400);
    assert_eq!(bench.tick(), []);
    bench.deliver(&second);
    assert_eq!(bench.tick().len(), 1);
}

#[test]
fn an_undelivered_heartbeat_is_followed_by_the_next_one_and_counts_as_unanswered() {
    let mut bench = Bench::ready();
    for _ in 0..5 {
        let heartbeats: Vec<Record> = bench.tick();
        assert_eq!(heartbeats.len(), 1);
        bench.instance.on_undelivered(&heartbeats[0]);
        bench.wait_ms(1_000);
    }
    assert_eq!(bench.health(), Health::Stalled);
    bench.run(1);
    assert_eq!(bench.health(), Health::Ready);
}

#[test]
fn without_answers_it_is_stalled_and_then_down_and_one_heartbeat_makes_it_ready() {
    let mut bench = Bench::ready();
    let sent = bench.run_cut_off(3);
    assert_eq!((sent.len(), bench.health()), (1, Health::Ready));
    bench.run_cut_off(1);
    assert_eq!(bench.health(), Health::Stalled);
    bench.run_cut_off(27);
    assert_eq!(bench.health(), Health::Down);
    bench.deliver(&sent);
    assert_eq!(bench.health(), Health::Ready);
}

#[test]
fn time_in_which_the_process_was_stopped_does_not_count() {
    let mut bench = Bench::ready();
    bench.run_cut_off(1);
    bench.wait_ms(40_000);
    assert_eq!(bench.health(), Health::Ready);
    bench.tick();
    assert_eq!(bench.health(), Health::Ready);
}

#[test]
fn every_tenth_heartbeat_comes_with_a_roster() {
    let mut bench = Bench::new();
    let joined = bench.open(1);
    bench.deliver(&[joined]);
    let records = bench.run(41);
    let rosters = records.iter().enumerate().filter(|(_, record)| is_roster(record)).count();
    assert_eq!(rosters, 1 + 4);
}

#[test]
fn a_lost_instance_is_stalled_until_its_roster_is_read_back() {
    let mut bench = Bench::ready();
    let joined = bench.open(1);
    bench.deliver(&[joined]);
    bench.lose();
    let records = bench.tick();
    assert_eq!(bench.health(), Health::Stalled);
    assert_eq!(roster_of(&records), [1]);
    assert_eq!(bench.deliver(&records), [Event::UserJoined { username: "Ann".into() }]);
    assert_eq!(bench.health(), Health::Ready);
}

/// A client leaves while the process stands still and its lease expires. When the process runs again, the thread of the
/// session and the log thread race.
#[test]
fn the_roster_after_a_pause_has_a_session_only_if_its_end_was_not_noticed_yet() {
    for notices_first in [true, false] {
        let mut bench = Bench::ready();
        let joined = bench.open(1);
        assert_eq!(bench.deliver(&[joined]).len(), 1);
        bench.lose();
        assert!(!bench.lobby.is_member(ID));
        let left = |bench: &mut Bench| bench.instance.close_session(SessionId(1), Bench::at()).unwrap();
        let mut records = Vec::new();
        if notices_first {
            records.push(left(&mut bench));
        }
        records.extend(bench.tick().into_iter().filter(is_roster));
        if !notices_first {
            records.push(left(&mut bench));
        }
        assert_eq!(roster_of(&records), if notices_first { vec![] } else { vec![1] });
        let events = bench.deliver(&records);
        let once_more = [Event::UserJoined { username: "Ann".into() }, Event::UserLeft { username: "Ann".into() }];
        assert_eq!(events, if notices_first { vec![] } else { once_more.to_vec() });
    }
}

#[test]
fn after_an_undelivered_join_or_leave_a_roster_is_appended() {
    let mut bench = Bench::ready();
    let joined = bench.open(1);
    bench.instance.on_undelivered(&joined);
    let records = bench.run(1);
    assert_eq!(roster_of(&records), [1]);
    let left = bench.instance.close_session(SessionId(1), Bench::at()).unwrap();
    bench.instance.on_undelivered(&left);
    let records = bench.run(2);
    assert!(records.iter().any(is_roster));
    assert_eq!(bench.lobby.sessions_of(ID).count(), 0);
}

#[test]
fn after_an_undelivered_message_no_roster_is_appended() {
    let mut bench = Bench::ready();
    let joined = bench.open(1);
    bench.deliver(&[joined]);
    let said = bench.instance.say(SessionId(1), "hi".into(), None, Bench::at()).unwrap();
    bench.instance.on_undelivered(&said);
    assert!(!bench.run(3).iter().any(is_roster));
}

#[test]
fn a_roster_that_is_too_large_goes_in_parts_and_no_second_one_until_all_are_answered() {
    let mut bench = Bench::ready();
    for session in 1..=5 {
        let joined = bench.open(session);
        bench.instance.on_undelivered(&joined);
    }
    let parts: Vec<Record> = bench.tick().into_iter().filter(is_roster).collect();
    assert!(parts.len() > 1);
    assert_eq!(roster_of(&parts), [1, 2, 3, 4, 5]);
    assert!(parts.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));

    bench.instance.on_undelivered(&parts[0]);
    bench.deliver(&parts[1..parts.len() - 1]);
    assert!(!bench.run(3).iter().any(is_roster));
    bench.deliver(&parts[parts.len() - 1..]);
    assert_eq!(bench.lobby.sessions_of(ID).count(), 0);
    bench.run(1);
    assert_eq!(bench.lobby.sessions_of(ID).count(), 5);
}

#[test]
fn a_refused_roster_is_not_tried_again_at_once() {
    let mut bench = Bench::new();
    let first = bench.tick();
    first.iter().for_each(|record| bench.instance.on_undelivered(record));
    bench.wait_ms(10);
    assert_eq!(bench.tick(), []);
    bench.wait_ms(990);
    assert!(bench.tick().iter().any(is_roster));
}

#[test]
fn only_a_known_session_sends_messages_and_leaves() {
    let mut bench = Bench::ready();
    assert_eq!(bench.instance.say(SessionId(1), "hi".into(), None, Bench::at()), None);
    assert_eq!(bench.instance.close_session(SessionId(1), Bench::at()), None);
    bench.open(1);
    assert_eq!(bench.instance.session_count(), 1);
    assert!(bench.instance.close_session(SessionId(1), Bench::at()).is_some());
    assert_eq!(bench.instance.close_session(SessionId(1), Bench::at()), None);
}

#[test]
fn a_stop_drains_without_left_and_ends_with_bye() {
    let mut bench = Bench::ready();
    let joined = bench.open(1);
    let other = Record { from: Y, seq: 1, at: Bench::at(), body: roster_body(&[(1, "Bob")]) };
    bench.deliver(&[joined, other]);
    bench.instance.stop();
    assert_eq!(bench.instance.open_session(SessionId(2), user("Cid"), Bench::at()), None);
    assert!(bench.run(3).iter().all(is_heartbeat), "it appends heartbeats while a session is open");
    assert_eq!(bench.instance.close_session(SessionId(1), Bench::at()), None);
    assert_eq!(bench.instance.next_tick(bench.now), Duration::ZERO);
    let bye = bench.tick();
    assert_eq!(bye.iter().map(|record| &record.body).collect::<Vec<_>>(), [&Body::Bye { last: false }]);
    assert!(!bench.instance.is_stopped());
    assert_eq!(bench.deliver(&bye), []);
    assert!(bench.instance.is_stopped());
    assert_eq!(bench.run(3), []);
    assert_eq!(bench.lobby.names_online().len(), 2);
}

#[test]
fn the_last_one_to_stop_removes_all() {
    let mut bench = Bench::ready();
    let joined = bench.open(1);
    let at = Bench::at;
    let other = |seq, body| Record { from: Y, seq, at: at(), body };
    bench.deliver(&[joined, other(1, roster_body(&[])), other(2, joined_body(1, "Bob"))]);
    bench.deliver(&[other(3, Body::Bye { last: false })]);
    bench.instance.stop();
    bench.instance.close_session(SessionId(1), at());
    let bye = bench.tick();
    bench.deliver(&bye);
    assert!(!bench.instance.is_stopped());
    let last = bench.tick();
    assert_eq!(last[0].body, Body::Bye { last: true });
    bench.deliver(&last);
    assert!(bench.instance.is_stopped());
    assert_eq!(bench.lobby.names_online().len(), 0);
}

#[test]
fn the_bye_of_an_idle_instance_does_not_wait_for_a_tick() {
    let mut bench = Bench::ready();
    let joined = bench.open(1);
    bench.deliver(&[joined]);
    assert_eq!(bench.instance.bye(Bench::at(), bench.now), None, "it is not stopping");
    bench.instance.stop();
    assert_eq!(bench.instance.bye(Bench::at(), bench.now), None, "a session is open");
    bench.instance.close_session(SessionId(1), Bench::at());
    let bye = bench.instance.bye(Bench::at(), bench.now).expect("a record");
    assert_eq!(bye.body, Body::Bye { last: false });
    assert_eq!(bench.instance.bye(Bench::at(), bench.now), None, "it is in flight");
    bench.deliver(&[bye]);
    bench.run(1);
    assert!(bench.instance.is_stopped());
}

#[test]
fn an_instance_that_appended_nothing_stops_at_once() {
    let mut bench = Bench::new();
    bench.instance.stop();
    assert!(bench.instance.is_stopped());
    assert_eq!(bench.run(3), []);
}

#[test]
fn an_undelivered_bye_is_tried_again() {
    let mut bench = Bench::ready();
    bench.instance.stop();
    let bye = bench.tick();
    bench.instance.on_undelivered(&bye[0]);
    assert_eq!(bench.tick(), []);
    bench.wait_ms(1_000);
    let again = bench.tick();
    assert_eq!(again[0].body, Body::Bye { last: false });
    assert!(again[0].seq > bye[0].seq);
    bench.deliver(&again);
    assert_eq!(bench.run(1)[0].body, Body::Bye { last: true });
    assert!(bench.instance.is_stopped());
}

#[test]
fn a_draining_instance_waits_between_two_ticks() {
    let mut bench = Bench::ready();
    let joined = bench.open(1);
    bench.deliver(&[joined]);
    bench.instance.stop();
    // The tenth heartbeat makes a roster due, and a draining instance appends none.
    for _ in 0..12 {
        let records = bench.tick();
        bench.deliver(&records);
        assert_ne!(
            bench.instance.next_tick(bench.now),
            Duration::ZERO,
            "after heartbeat {}",
            bench.instance.heartbeats
        );
        bench.wait_ms(1_000);
    }
}

#[test]
fn an_instance_waits_while_its_bye_is_in_flight() {
    let mut bench = Bench::ready();
    bench.instance.stop();
    let bye = bench.tick();
    assert!(matches!(bye[0].body, Body::Bye { .. }));
    for _ in 0..5 {
        bench.wait_ms(1_000);
        assert_eq!(bench.tick(), []);
        assert_ne!(bench.instance.next_tick(bench.now), Duration::ZERO);
    }
}

#[test]
fn a_record_of_an_earlier_incarnation_that_is_undelivered_changes_nothing() {
    let mut bench = Bench::new();
    let first = bench.tick();
    let before = format!("{:?}", bench.instance);
    let bodies = [roster_body(&[]), joined_body(1, "Ann"), Body::Heartbeat { n: 1 }, Body::Bye { last: false }];
    for record in first.iter().map(|record| record.seq).flat_map(|seq| bodies.clone().map(|body| (seq, body))) {
        let (seq, body) = record;
        bench.instance.on_undelivered(&Record { from: Y, seq, at: Bench::at(), body });
    }
    assert_eq!(format!("{:?}", bench.instance), before);
}

#[test]
fn the_next_tick_is_when_something_is_due_and_never_more_than_a_second_ahead() {
    let mut bench = Bench::new();
    assert_eq!(bench.instance.next_tick(bench.now), Duration::ZERO);
    let first = bench.tick();
    assert_eq!(bench.instance.next_tick(bench.now), Duration::from_secs(1));
    bench.deliver(&first);
    bench.wait_ms(300);
    assert_eq!(bench.instance.next_tick(bench.now), Duration::from_millis(700));
}

/// One call of an instance, or something that happens to its records.
#[derive(Debug, Clone, Copy)]
enum Call {
    Wait {
        ms: u64,
    },
    Tick,
    Open,
    Close,
    Say,
    Stop,
    /// The first records in flight are read back.
    Deliver {
        records: usize,
    },
    /// The first records in flight are reported undelivered; some of them are in the log nevertheless.
    Undeliver {
        records: usize,
        yet_delivered: bool,
    },
    /// The lease of this instance expires.
    Lose,
    /// Another instance was the last one to stop.
    LastBye,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        4 => (0u64..2_500).prop_map(|ms| Call::Wait { ms }),
        3 => Just(Call::Wait { ms: 1_000 }),
        6 => Just(Call::Tick),
        2 => Just(Call::Open),
        2 => Just(Call::Close),
        1 => Just(Call::Say),
        1 => Just(Call::Stop),
        6 => (1usize..8).prop_map(|records| Call::Deliver { records }),
        2 => (1usize..8, any::<bool>())
            .prop_map(|(records, yet_delivered)| Call::Undeliver { records, yet_delivered }),
        1 => Just(Call::Lose),
        1 => Just(Call::LastBye),
    ];
    proptest::collection::vec(call, 0..150)
}

/// An instance whose records are in flight until a call delivers them.
struct History {
    bench: Bench,
    in_flight: VecDeque<Record>,
    next_session: u64,
}

impl History {
    fn new() -> Self {
        History { bench: Bench::new(), in_flight: VecDeque::new(), next_session: 1 }
    }

    fn perform(&mut self, call: Call) {
        let instance = &mut self.bench.instance;
        let last_session = SessionId(self.next_session - 1);
        match call {
            Call::Wait { ms } => self.bench.wait_ms(ms),
            Call::Tick => self.in_flight.extend(self.bench.tick()),
            Call::Open => {
                let session = SessionId(self.next_session);
                self.next_session += 1;
                self.in_flight.extend(instance.open_session(session, user("Ann"), Bench::at()));
            }
            Call::Close => self.in_flight.extend(instance.close_session(last_session, Bench::at())),
            Call::Say => self.in_flight.extend(instance.say(last_session, "hi".into(), None, Bench::at())),
            Call::Stop => instance.stop(),
            Call::Deliver { records } => {
                let back: Vec<_> = self.in_flight.drain(..records.min(self.in_flight.len())).collect();
                self.bench.deliver(&back);
            }
            Call::Undeliver { records, yet_delivered } => {
                let back: Vec<_> = self.in_flight.drain(..records.min(self.in_flight.len())).collect();
                back.iter().for_each(|record| instance.on_undelivered(record));
                if yet_delivered {
                    self.bench.deliver(&back);
                }
            }
            Call::Lose => self.bench.lose(),
            Call::LastBye => self.bench.apply_other(Body::Bye { last: true }),
        }
    }

    /// Whether the instance has seen the last change of the lobby. A tick shows it to the instance.
    fn knows_lobby(&self) -> bool {
        let Bench { instance, lobby, .. } = &self.bench;
        (instance.is_member, instance.is_alone) == (lobby.is_member(ID), lobby.is_alone(ID))
    }

    fn phase_and_next_tick(&self) -> (Phase, Duration) {
        (self.bench.instance.phase, self.bench.instance.next_tick(self.bench.now))
    }
}

proptest! {
    /// A loop that ticks exactly when `next_tick` says so appends everything in time and never spins.
    #[test]
    fn after_any_calls_a_tick_does_something_exactly_when_it_is_due(calls in calls()) {
        let mut history = History::new();
        for call in calls {
            history.perform(call);
            // The log thread ticks after each poll; here it does so when a tick is due, and at random times in between.
            let (phase, wait) = history.phase_and_next_tick();
            prop_assert!(wait <= INTERVAL);
            let knows_lobby = history.knows_lobby();
            let is_between = knows_lobby && matches!(call, Call::Tick | Call::Deliver { .. });
            if !(wait.is_zero() || is_between) {
                continue;
            }
            let records = history.bench.tick();
            let (phase_after, wait_after) = history.phase_and_next_tick();
            let does_something = !records.is_empty() || phase_after != phase;
            // A record of another instance may have made the tick unnecessary.
            prop_assert!(does_something == wait.is_zero() || !knows_lobby, "{:?} after {:?}", records, call);
            prop_assert!(!wait_after.is_zero(), "it spins after {:?}: {:?}", call, history.bench.instance);
            history.in_flight.extend(records);
        }
    }
}

/// An instance that has just become idle: it has appended the first heartbeats, which are always a second apart.
fn idle() -> Bench {
    let mut bench = Bench::new();
    bench.run(12);
    bench.now -= Duration::from_millis(1_000);
    assert_eq!(bench.health(), Health::Ready);
    bench
}

/// Ticks every 100 ms for `ms` milliseconds. Returns how many of these ticks appended something.
fn appending_ticks(bench: &mut Bench, ms: u64) -> usize {
    let mut count = 0;
    for _ in 0..ms / 100 {
        bench.wait_ms(100);
        let records = bench.tick();
        count += usize::from(!records.is_empty());
        bench.deliver(&records);
    }
    count
}

#[test]
fn an_instance_that_is_alone_and_has_no_sessions_appends_once_in_12_seconds() {
    let mut bench = Bench::new();
    assert_eq!(appending_ticks(&mut bench, 12_000), 12, "not yet");
    assert_eq!(appending_ticks(&mut bench, 11_000), 0);
    // Every tenth heartbeat comes with a roster, in the same tick.
    assert_eq!(appending_ticks(&mut bench, 240_000), 20);
    assert_eq!(bench.health(), Health::Ready);
}

#[test]
fn a_record_of_another_instance_makes_heartbeats_frequent_until_that_instance_is_lost() {
    let mut bench = idle();
    bench.wait_ms(5_000);
    assert_eq!(bench.tick(), []);
    bench.apply_other(roster_body(&[]));
    let first = bench.tick();
    assert_eq!(first.iter().filter(|record| is_heartbeat(record)).count(), 1);
    bench.deliver(&first);
    // At the tenth heartbeat, the lease of the other instance expires.
    assert_eq!(appending_ticks(&mut bench, 9_000), 9);
    assert!(bench.lobby.is_alone(ID));
    assert_eq!(appending_ticks(&mut bench, 11_000), 0);
}

#[test]
fn an_open_session_makes_heartbeats_frequent_until_the_last_session_closes() {
    let mut bench = idle();
    bench.wait_ms(5_000);
    let joined = bench.open(1);
    bench.deliver(&[joined]);
    assert_eq!(appending_ticks(&mut bench, 5_000), 5);
    let left = bench.instance.close_session(SessionId(1), Bench::at()).unwrap();
    bench.deliver(&[left]);
    assert_eq!(appending_ticks(&mut bench, 11_000), 0);
}

#[test]
fn its_heartbeats_are_frequent_until_an_undelivered_one_is_answered() {
    let mut bench = idle();
    assert_eq!(appending_ticks(&mut bench, 11_900), 0);
    bench.wait_ms(100);
    for _ in 0..3 {
        let records = bench.tick();
        assert_eq!(records.iter().filter(|record| is_heartbeat(record)).count(), 1);
        records.iter().for_each(|record| bench.instance.on_undelivered(record));
        bench.wait_ms(1_000);
    }
    let records = bench.tick();
    bench.deliver(&records);
    assert_eq!(appending_ticks(&mut bench, 11_000), 0);
}

//! [`BatchBuilder`]: collects the events of the records that the log thread applies into the next batch for the
//! fan-out.

use std::sync::Arc;
use std::time::Instant;

use crate::lobby::{Event, EventId, Record, SessionId};
use crate::session::fan_out::{Admission, Batch, Command, FanOut, OnSent};
use crate::session::history::Missed;
use crate::session::outbox::Piece;
use crate::session::protocol;
use crate::session::wire;

/// The next batch. Its frames are the same for all fan-out threads; each thread gets the admissions of its sessions.
pub(crate) struct BatchBuilder {
    frames: Vec<u8>,
    events: u64,
    has_presence: bool,
    oldest_append: Option<Instant>,
    /// The sessions that become live; the index is the number of their fan-out thread.
    admissions: Vec<Vec<Admission>>,
    /// Direct frames, which are sent after the events.
    direct: Vec<(SessionId, Vec<u8>)>,
}

impl BatchBuilder {
    pub(crate) fn new(threads: usize) -> Self {
        BatchBuilder {
            frames: Vec::new(),
            events: 0,
            has_presence: false,
            oldest_append: None,
            admissions: (0..threads).map(|_| Vec::new()).collect(),
            direct: Vec::new(),
        }
    }

    /// The bytes of the frames in the batch.
    pub(super) fn len_bytes(&self) -> usize {
        self.frames.len()
    }

    /// Adds an event of `record`, for all live sessions. Returns its encoded frame.
    pub(crate) fn put(&mut self, event: &Event, record: &Record) -> &[u8] {
        let start = self.frames.len();
        protocol::put_event(event, record, &mut self.frames);
        self.events += 1;
        self.has_presence |= !matches!(event, Event::Said { .. });
        self.frames.get(start..).unwrap_or_default()
    }

    /// Records when this instance appended a message that was added.
    pub(super) fn set_append(&mut self, appended_at: Instant) {
        // Messages are read back in the order in which they were appended.
        self.oldest_append.get_or_insert(appended_at);
    }

    /// Makes a session live: it gets `first_frames`, and then the events that are added from now on.
    pub(crate) fn admit(&mut self, thread: usize, session: SessionId, first_frames: Vec<Piece>) {
        let origin = self.frames.len();
        if let Some(admissions) = self.admissions.get_mut(thread) {
            admissions.push(Admission { session, first_frames, origin });
        }
    }

    /// Adds a direct frame. The client gets it after the events that were added before it.
    pub(super) fn put_direct(&mut self, session: SessionId, frame: Vec<u8>) {
        self.direct.push((session, frame));
    }

    /// Sends the batch to the fan-out threads and begins an empty one. `on_sent` is dropped when all threads have sent it,
    /// and at once if the batch has no events and no admissions.
    pub(crate) fn flush(&mut self, fan_out: &FanOut, on_sent: Option<OnSent>) {
        if !self.frames.is_empty() || self.admissions.iter().any(|admissions| !admissions.is_empty()) {
            self.flush_events(fan_out, on_sent.map(Arc::new));
        }
        for (session, frame) in self.direct.drain(..) {
            fan_out.send(session, Command::Direct { session, frame });
        }
    }

    fn flush_events(&mut self, fan_out: &FanOut, on_sent: Option<Arc<OnSent>>) {
        let frames: Arc<[u8]> = self.frames.as_slice().into();
        self.frames.clear();
        let (events, has_presence) = (std::mem::take(&mut self.events), std::mem::take(&mut self.has_presence));
        let oldest_append = self.oldest_append.take();
        for (thread, admissions) in self.admissions.iter_mut().enumerate() {
            let admissions = std::mem::take(admissions);
            let (frames, on_sent) = (frames.clone(), on_sent.clone());
            let batch = Batch { frames, events, has_presence, oldest_append, on_sent, admissions };
            fan_out.send_to_thread(thread, Command::Events(batch));
        }
    }
}

/// The `users_online` frame of this list, in parts. Sessions share the parts with the names.
pub(crate) fn users_online(sent_at: &str, last_message: Option<EventId>, names: &[Arc<[u8]>]) -> Vec<Piece> {
    let head = protocol::users_online_head(sent_at, last_message);
    let names_bytes: usize = names.iter().map(|part| part.len()).sum();
    let payload_bytes = head.len() + names_bytes + protocol::USERS_ONLINE_TAIL.len();
    let mut first = Vec::with_capacity(head.len() + 10);
    wire::put_text_header(payload_bytes as u64, &mut first);
    first.extend_from_slice(head.as_bytes());
    let mut pieces = Vec::with_capacity(names.len() + 2);
    pieces.push(Piece::part(first.into(), false));
    pieces.extend(names.iter().map(|part| Piece::part(part.clone(), false)));
    pieces.push(Piece::part(protocol::USERS_ONLINE_TAIL.into(), true));
    pieces
}

/// The frames of the messages that a client had missed, and `caught_up`. Sessions share the blocks of messages.
pub(super) fn missed_messages(sent_at: &str, missed: Missed) -> impl Iterator<Item = Piece> {
    let caught_up = protocol::caught_up_frame(missed.is_complete, missed.messages, sent_at);
    let origins = std::iter::once(missed.origin).chain(std::iter::repeat(0));
    let messages = missed.blocks.into_iter().zip(origins).map(|(block, origin)| Piece::frames(block, origin));
    messages.chain(std::iter::once(Piece::frames(caught_up.into(), 0)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::lobby::{Body, InstanceId, User};
    use crate::session::testing::frames;

    const AT: &str = "2026-11-23T10:00:00.000000001+01:00";

    #[derive(Debug, Clone)]
    enum Step {
        Put { name: String },
        Say { name: String },
        Admit { session: u64 },
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => ".{0,200}".prop_map(|name| Step::Put { name }),
            2 => ".{0,200}".prop_map(|name| Step::Say { name }),
            2 => (0u64..9).prop_map(|session| Step::Admit { session }),
            1 => Just(Step::Flush),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Each thread gets every event once and in order, and the events of an admitted session begin between two
        /// frames.
        #[test]
        fn every_thread_gets_every_event_and_each_admission_once(steps in steps()) {
            let (fan_out, threads) = FanOut::detached(2);
            let mut builder = BatchBuilder::new(2);
            let record = Record { from: InstanceId(1), seq: 1, at: AT.into(), body: Body::Heartbeat { n: 1 } };
            let mut expected = Vec::new();
            let (sent, flushes) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
            let on_sent = || {
                let sent = sent.clone();
                flushes.fetch_add(1, Ordering::Relaxed);
                Some(OnSent::new(move || {
                    sent.fetch_add(1, Ordering::Relaxed);
                }))
            };
            // By thread: the session, and the events before it.
            let mut admitted = [Vec::new(), Vec::new()];
            for step in steps {
                let user = |name: &str| User { id: name.into(), username: name.into() };
                let event = match step {
                    Step::Put { name } => Event::UserJoined { username: name.as_str().into() },
                    Step::Say { name } => Event::Said { user: user(&name), text: "hi".into(), id: None },
                    Step::Admit { session } => {
                        let thread = fan_out.thread_of(SessionId(session));
                        admitted[thread].push((SessionId(session), expected.len()));
                        builder.admit(thread, SessionId(session), users_online(AT, None, &[]));
                        continue;
                    }
                    Step::Flush => {
                        builder.flush(&fan_out, on_sent());
                        prop_assert_eq!(builder.len_bytes(), 0);
                        continue;
                    }
                };
                let mut frame = Vec::new();
                protocol::put_event(&event, &record, &mut frame);
                prop_assert_eq!(builder.put(&event, &record), &frame);
                expected.push(frame);
            }
            builder.flush(&fan_out, on_sent());
            let mut unsent = Vec::new();
            for (thread, admitted) in threads.iter().zip(admitted) {
                let (mut events, mut got_admitted) = (Vec::new(), Vec::new());
                for command in thread.receive() {
                    let Command::Events(batch) = command else { panic!("not a batch") };
                    let (whole, rest) = frames(&batch.frames);
                    prop_assert_eq!((whole.len() as u64, rest), (batch.events, 0));
                    prop_assert!(!batch.frames.is_empty() || !batch.admissions.is_empty() || threads.len() > 1);
                    for admission in &batch.admissions {
                        let (before, rest) = frames(&batch.frames[..admission.origin]);
                        prop_assert_eq!(rest, 0, "its events begin inside a frame");
                        got_admitted.push((admission.session, events.len() + before.len()));
                    }
                    events.extend(whole);
                    unsent.extend(batch.on_sent);
                }
                prop_assert!(events == expected);
                prop_assert_eq!(got_admitted, admitted);
            }
            prop_assert_eq!(unsent.len() % threads.len(), 0, "every thread holds each");
            let count = || sent.load(Ordering::Relaxed);
            prop_assert_eq!(count() + unsent.len() / threads.len(), flushes.load(Ordering::Relaxed));
            unsent.clear();
            prop_assert_eq!(count(), flushes.load(Ordering::Relaxed));
        }
    }
}

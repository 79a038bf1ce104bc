//! [`BatchBuilder`]: collects the events of the records that the log thread applies into the next batch for the
//! fan-out.

use std::sync::Arc;

use crate::lobby::{Event, SessionId};
use crate::session::fan_out::{Admission, Batch, Command, FanOut};
use crate::session::outbox::Piece;
use crate::session::protocol;
use crate::session::wire;

/// The next batch. Its frames are the same for all fan-out threads; each thread gets the admissions of its sessions.
pub(super) struct BatchBuilder {
    frames: Vec<u8>,
    events: u64,
    has_presence: bool,
    /// By fan-out thread.
    admissions: Vec<Vec<Admission>>,
}

impl BatchBuilder {
    pub(super) fn new(threads: usize) -> Self {
        BatchBuilder {
            frames: Vec::new(),
            events: 0,
            has_presence: false,
            admissions: (0..threads).map(|_| Vec::new()).collect(),
        }
    }

    /// The length of its frames.
    pub(super) fn len_bytes(&self) -> usize {
        self.frames.len()
    }

    /// Adds an event for all live sessions.
    pub(super) fn put(&mut self, event: &Event, sent_at: &str) {
        protocol::put_event(event, sent_at, &mut self.frames);
        self.events += 1;
        self.has_presence |= !matches!(event, Event::Said { .. });
    }

    /// Makes a session live: it gets the events that are added from now on.
    pub(super) fn admit(&mut self, thread: usize, session: SessionId, list: Vec<Piece>) {
        let origin = self.frames.len();
        if let Some(admissions) = self.admissions.get_mut(thread) {
            admissions.push(Admission { session, list, origin });
        }
    }

    /// Sends the batch to the fan-out threads and begins an empty one. Does nothing if the batch is empty.
    pub(super) fn flush(&mut self, fan_out: &FanOut) {
        if self.frames.is_empty() && self.admissions.iter().all(Vec::is_empty) {
            return;
        }
        let frames: Arc<[u8]> = self.frames.as_slice().into();
        self.frames.clear();
        let (events, has_presence) = (std::mem::take(&mut self.events), std::mem::take(&mut self.has_presence));
        for (thread, admissions) in self.admissions.iter_mut().enumerate() {
            let batch = Batch { frames: frames.clone(), events, has_presence, admissions: std::mem::take(admissions) };
            fan_out.send_to_thread(thread, Command::Events(batch));
        }
    }
}

/// The `users_online` frame of this list, in parts. Sessions share the parts with the names.
pub(super) fn users_online(sent_at: &str, names: &[Arc<[u8]>]) -> Vec<Piece> {
    let head = protocol::users_online_head(sent_at);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lobby::User;
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
        /// Whatever is put in comes out on each thread, once and in order, and an admission at the boundary of a frame.
        #[test]
        fn every_thread_gets_every_event_and_each_admission_once(steps in steps()) {
            let (fan_out, threads) = FanOut::detached(2);
            let mut builder = BatchBuilder::new(2);
            let mut expected = Vec::new();
            // By thread: the session, and the events before it.
            let mut admitted = [Vec::new(), Vec::new()];
            for step in steps {
                let user = |name: &str| User { id: name.into(), username: name.into() };
                let event = match step {
                    Step::Put { name } => Event::UserJoined { user: user(&name) },
                    Step::Say { name } => Event::Said { user: user(&name), text: "hi".into(), id: None },
                    Step::Admit { session } => {
                        let thread = fan_out.thread_of(SessionId(session));
                        admitted[thread].push((SessionId(session), expected.len()));
                        builder.admit(thread, SessionId(session), users_online(AT, &[]));
                        continue;
                    }
                    Step::Flush => {
                        builder.flush(&fan_out);
                        prop_assert_eq!(builder.len_bytes(), 0);
                        continue;
                    }
                };
                builder.put(&event, AT);
                let mut frame = Vec::new();
                protocol::put_event(&event, AT, &mut frame);
                expected.push(frame);
            }
            builder.flush(&fan_out);
            for (thread, admitted) in threads.iter().zip(admitted) {
                let (mut events, mut got_admitted) = (Vec::new(), Vec::new());
                for command in thread.commands.try_iter() {
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
                }
                prop_assert!(events == expected);
                prop_assert_eq!(got_admitted, admitted);
            }
        }
    }
}

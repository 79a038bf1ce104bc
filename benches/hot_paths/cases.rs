//! The table of the operations that are measured, and the data that they have in common.

use std::fmt;
use std::sync::Arc;

use ich::lobby::{Body, InstanceId, Record, SessionId, User};

use crate::{lobby, sessions};

/// One operation with its state. It can be repeated any number of times, and costs the same each time.
pub type Operation = Box<dyn FnMut()>;

/// An operation that is measured.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// How often `benches/instructions` runs it.
    pub count: u64,
    /// Makes the state of the operation, which is not measured.
    pub prepare: fn() -> Operation,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// All operations. `benches/instructions.txt` has a line for each.
pub const CASES: [Case; 13] = [
    Case { name: "apply_message", count: 1000, prepare: lobby::apply_message },
    Case { name: "apply_message_with_id", count: 1000, prepare: lobby::apply_message_with_id },
    Case { name: "apply_join_and_leave", count: 1000, prepare: lobby::apply_join_and_leave },
    Case { name: "encode_record", count: 1000, prepare: lobby::encode_record },
    Case { name: "decode_record", count: 1000, prepare: lobby::decode_record },
    Case { name: "encode_message_frame", count: 1000, prepare: sessions::encode_message_frame },
    Case { name: "encode_join_frame", count: 1000, prepare: sessions::encode_join_frame },
    Case { name: "batch_of_64_messages", count: 1000, prepare: sessions::batch_of_messages },
    Case { name: "outbox_sends_a_batch", count: 1000, prepare: sessions::outbox_sends_a_batch },
    Case { name: "outbox_of_a_slow_client", count: 1000, prepare: sessions::outbox_of_a_slow_client },
    Case { name: "list_of_10000_users", count: 5, prepare: sessions::whole_list },
    Case { name: "list_after_one_change", count: 1000, prepare: sessions::list_after_one_change },
    Case { name: "batch_with_a_join", count: 1000, prepare: sessions::batch_with_a_join },
];

/// The users in the lobby.
pub const USERS: u64 = 10_000;
pub const AT: &str = "2026-11-23T10:00:00.000000001+01:00";
pub const ME: InstanceId = InstanceId(0x2a);

/// The user with this number.
pub fn user(number: u64) -> User {
    User { id: number.to_string().into(), username: name(number) }
}

/// The name of the user with this number, as in the load tool.
pub fn name(number: u64) -> Arc<str> {
    format!("l1a2b-{number:05}").into()
}

pub fn record(seq: u64, body: Body) -> Record {
    Record { from: ME, seq, at: AT.into(), body }
}

/// A message of 100 characters.
pub fn said(session: u64, id: Option<Arc<str>>) -> Body {
    Body::Said { session: SessionId(session), text: "x".repeat(100).into(), id }
}

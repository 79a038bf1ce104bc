//! [`Bootstrap`]: how far back an instance must read before its state is exact.

use super::record::Record;
use super::state::Lobby;

/// Watches one span of the log being replayed into an empty [`Lobby`].
#[derive(Debug, Clone)]
pub struct Bootstrap {}

/// How many records before the end are read at first.
pub const FIRST_SPAN_RECORDS: u64 = 4096;
/// How many times wider the next span is when one was not enough.
pub const WIDEN_TIMES: u64 = 4;

impl Bootstrap {
    /// A new span. `from_the_beginning`: it starts at the first record there ever was.
    #[must_use]
    pub fn new(_from_the_beginning: bool) -> Self {
        Bootstrap {}
    }

    /// The next record of the span, after it was applied to the lobby.
    pub fn on_record(&mut self, _record: &Record) {}

    /// Whether the state built from this span is the state that all of the log would have given.
    #[must_use]
    pub fn is_exact(&self, _lobby: &Lobby) -> bool {
        false
    }
}

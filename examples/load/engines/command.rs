//! What the scenario asks of every engine of a run, and the messages between a worker process and its parent: JSON, one
//! per line.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Load, Report, Status};

/// Connections dropped before the chatting clients are served.
const DROPS_PER_POLL: usize = 64;

/// The first message to a worker process.
#[derive(Serialize, Deserialize)]
pub struct Setup {
    pub load: Load,
    /// See [`crate::clock::origin`].
    pub clock_origin: u64,
}

/// A message to all engines. Clients of other engines matter to an engine because they are users in the lists that its
/// clients receive.
#[derive(Serialize, Deserialize)]
pub enum Command {
    /// At most so many joins of an engine are in flight at once.
    LimitJoins { outstanding: usize },
    /// These clients join.
    Join { clients: Vec<usize> },
    /// These clients disconnect.
    Leave { clients: Vec<usize>, close_frame: bool },
    /// Clients of another engine have lost their connections.
    Gone { clients: Vec<usize> },
    /// The figures of a part of the scenario begin.
    BeginWindow,
    /// From now on messages are in flight.
    ExpectChat,
    /// Each sender has sent so many messages and sends no more. `all_arrived`: all clients have received all of them.
    StopChat { all_arrived: bool, sent: Vec<u32> },
    /// Clients that never read are read once, to see whether they were disconnected.
    WakeSlow,
    /// Another instance is in the place of the one with this number.
    SetAddress { number: usize, address: SocketAddr },
    /// The next answer has a report.
    Report,
}

/// A message from a worker process.
#[derive(Serialize, Deserialize)]
pub struct Answer {
    /// How many commands the process had applied.
    pub applied: u64,
    pub status: Status,
    /// Clients that have lost their connections since the answer before.
    pub gone: Vec<usize>,
    pub report: Option<Report>,
}

impl Command {
    /// Applies the command to one engine. Returns the report, if the command asks for it.
    pub fn apply(self, engine: &mut Engine) -> Result<Option<Report>, String> {
        match self {
            Self::LimitJoins { outstanding } => engine.outstanding = outstanding,
            Self::Join { clients } => engine.join(clients.into_iter()),
            Self::Leave { clients, close_frame } => {
                for chunk in clients.chunks(DROPS_PER_POLL) {
                    chunk.iter().for_each(|&client| engine.leave(client, close_frame));
                    engine.poll_once(Duration::ZERO)?;
                }
            }
            Self::Gone { clients } => clients.into_iter().for_each(|client| engine.on_gone(client)),
            Self::BeginWindow => engine.begin_window(),
            Self::ExpectChat => engine.expect_chat(),
            Self::StopChat { all_arrived, sent } => engine.stop_chat(all_arrived, &sent),
            Self::WakeSlow => engine.wake_slow(),
            Self::SetAddress { number, address } => engine.set_address(number, address),
            Self::Report => return Ok(Some(engine.report())),
        }
        Ok(None)
    }
}

//! [`Piece`]: bytes that wait in an outbox.

use std::sync::Arc;

use crate::session::wire;

/// Bytes to be sent: whole frames, or one part of a frame. Several outboxes can share the bytes.
#[derive(Debug, Clone)]
pub struct Piece {
    bytes: Arc<[u8]>,
    sent: usize,
    kind: PieceKind,
}

#[derive(Debug, Clone, Copy)]
enum PieceKind {
    /// Whole frames, of which this client gets those from `origin` on.
    Frames { origin: usize },
    /// One part of a frame that comes in several pieces.
    Part { is_last: bool },
}

impl Piece {
    /// Whole frames: `bytes` from the offset `origin` on, at which a frame begins.
    #[must_use]
    pub fn frames(bytes: Arc<[u8]>, origin: usize) -> Self {
        Piece { sent: origin, bytes, kind: PieceKind::Frames { origin } }
    }

    /// One part of a frame. The other parts are the pieces before and after it. `is_last` marks the last part.
    #[must_use]
    pub fn part(bytes: Arc<[u8]>, is_last: bool) -> Self {
        Piece { sent: 0, bytes, kind: PieceKind::Part { is_last } }
    }

    /// The bytes that the socket has not accepted yet.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// The socket has accepted this many of the remaining bytes.
    pub(super) fn advance(&mut self, sent: usize) {
        self.sent += sent;
    }

    /// Drops the frames of which the socket has accepted nothing. False if the frame that remains continues in the next
    /// piece.
    pub(super) fn keep_begun_frame(&mut self) -> bool {
        match self.kind {
            PieceKind::Part { is_last } => is_last,
            PieceKind::Frames { origin } => {
                let frames = self.bytes.get(origin..).unwrap_or_default();
                let end = origin + wire::frame_boundary(frames, self.sent - origin);
                self.bytes = self.bytes.get(..end).unwrap_or_default().into();
                true
            }
        }
    }
}

//! [`End`]: the one table of reasons why a session ends. Each row has the close code, the text, the log level and the
//! metric label. `doc/api.md` has the same table; a test compares both.
//!
//! Close codes are those of RFC 6455, section 7.4.1, and of the IANA registry after it (1012, 1013).

use log::Level;

/// The most bytes of the text of a close frame (RFC 6455, section 5.5).
const CLOSE_TEXT_BYTES_MAX: usize = 123;

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The client closed the connection.
    ClosedByClient,
    /// The connection ended without a close frame.
    Disconnected,
    /// The client did not answer a ping.
    PingTimeout,
    /// An invalid websocket frame.
    ProtocolError,
    /// A text message that is not UTF-8.
    NotUtf8,
    /// A frame or message that is too long.
    TooBig,
    /// Too many messages, after `rate_limited` errors; or too many control frames, without a warning.
    TooFast,
    /// The token expired.
    TokenExpired,
    /// The client did not read fast enough.
    TooSlow,
    /// An administrator ended the user's sessions.
    Kicked,
    /// An administrator has banned the user.
    Banned,
    /// This instance stops gracefully.
    Restarting,
    /// The event log does not answer.
    LogUnavailable,
    /// Too many users join at once: the join waited too long for its turn.
    JoinTimeout,
    /// A defect of the server.
    Internal,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The code of the close frame. The reply to a client's close frame has the client's code instead.
    pub code: u16,
    /// The text of the close frame: at most 123 bytes (RFC 6455, section 5.5).
    pub text: &'static str,
    /// The level of the log line.
    pub level: Level,
    /// The value of the label `reason` in the metrics; also in the log.
    pub label: &'static str,
}

impl End {
    /// All reasons, in the order of the variants.
    pub const ALL: [End; 15] = [
        End::ClosedByClient,
        End::Disconnected,
        End::PingTimeout,
        End::ProtocolError,
        End::NotUtf8,
        End::TooBig,
        End::TooFast,
        End::TokenExpired,
        End::TooSlow,
        End::Kicked,
        End::Banned,
        End::Restarting,
        End::LogUnavailable,
        End::JoinTimeout,
        End::Internal,
    ];

    /// The row of this reason.
    #[must_use]
    pub const fn row(self) -> Row {
        let (code, text, level, label) = match self {
            End::ClosedByClient => (1000, "", Level::Debug, "closed_by_client"),
            End::Disconnected => (1000, "", Level::Debug, "disconnected"),
            End::PingTimeout => (1001, "no answer to a ping", Level::Debug, "ping_timeout"),
            End::ProtocolError => (1002, "not a valid websocket frame", Level::Debug, "protocol_error"),
            End::NotUtf8 => (1007, "text is not UTF-8", Level::Debug, "not_utf8"),
            End::TooBig => (1009, "message too big", Level::Debug, "too_big"),
            End::TooFast => (1008, "too many messages", Level::Info, "too_fast"),
            End::TokenExpired => (1008, "token expired: log in again", Level::Debug, "token_expired"),
            End::TooSlow => (1013, "too slow: the client did not read fast enough", Level::Info, "too_slow"),
            End::Kicked => (1008, "kicked by an administrator", Level::Info, "kicked"),
            End::Banned => (1008, "banned by an administrator", Level::Info, "banned"),
            End::Restarting => (1012, "the server restarts: join again", Level::Debug, "restarting"),
            End::LogUnavailable => (1013, "the lobby is unavailable: try again later", Level::Debug, "log_unavailable"),
            End::JoinTimeout => (1013, "too many users join at once: try again later", Level::Debug, "join_timeout"),
            End::Internal => (1011, "a defect of the server", Level::Error, "internal"),
        };
        Row { code, text, level, label }
    }

    /// The text of the close frame, with a reason that an administrator gave, truncated to the 123 bytes of a close frame.
    #[must_use]
    pub(crate) fn text_with(self, reason: &str) -> String {
        let text = self.row().text;
        let mut text = if reason.is_empty() { text.to_owned() } else { format!("{text}: {reason}") };
        while text.len() > CLOSE_TEXT_BYTES_MAX {
            text.pop();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_can_tell_an_expired_token_from_the_other_reasons_with_the_same_code() {
        let expired: Vec<_> = End::ALL.iter().filter(|end| end.row().text.starts_with("token expired")).collect();
        assert_eq!(expired, [&End::TokenExpired]);
    }

    #[test]
    fn each_reason_fits_a_control_frame_and_has_a_different_label() {
        let mut labels: Vec<_> = End::ALL.iter().map(|end| end.row().label).collect();
        // RFC 6455, section 5.5: 125 bytes, two of which are the code.
        assert!(End::ALL.iter().all(|end| end.row().text.len() <= 123));
        assert_eq!(End::Kicked.text_with("spam"), "kicked by an administrator: spam");
        assert_eq!(End::Kicked.text_with(&"ß".repeat(100)).len(), 122);
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), End::ALL.len());
    }
}

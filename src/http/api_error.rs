//! [`ApiError`]: the table of all error answers. Each row has the status, the code for programs, the default text for
//! users, and when to retry. `doc/api.md` has the same table; a test compares both.

use super::response::Response;

/// An error answer. Codes are part of the contract with clients and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApiError {
    /// The head is not valid HTTP/1.1.
    BadRequest,
    /// The connection does not begin with a valid PROXY header.
    BadProxyHeader,
    /// The body is not one valid JSON object.
    BadJson,
    /// A field of the body is missing, not a string, or breaks a rule.
    BadField,
    /// The query of the request is not valid.
    BadQuery,
    /// The websocket handshake is not valid.
    BadHandshake,
    /// The email or the password is wrong.
    WrongCredentials,
    /// The token is missing or not valid.
    Unauthorized,
    /// The origin of the page is not allowed.
    OriginNotAllowed,
    /// An outside issuer makes the tokens; this server issues none.
    OutsideIssuer,
    /// The user is not an administrator.
    NotAdmin,
    /// An administrator has banned the user.
    Banned,
    /// The path does not exist.
    NotFound,
    /// No message with this id is kept.
    UnknownMessage,
    /// The path does not accept this method; the answer has `Allow`.
    MethodNotAllowed,
    /// The client took too long to send the head or the body.
    TooLate,
    /// An account with this email exists.
    EmailTaken,
    /// An account with this username exists.
    UsernameTaken,
    /// The body has neither a `Content-Length` nor chunks.
    LengthRequired,
    /// The body is too large.
    BodyTooLarge,
    /// The request line is too long.
    TargetTooLong,
    /// The path needs a websocket handshake, version 13.
    UpgradeRequired,
    /// The address has too many connections.
    TooManyConnections,
    /// The address had too many failed logins, or the account too many logins.
    TooManyLogins,
    /// The address had too many registrations.
    TooManyRegistrations,
    /// The user has too many open sessions.
    TooManySessions,
    /// Too many requests of one kind from this address.
    TooManyRequests,
    /// The head is too large.
    HeadTooLarge,
    /// A defect of the server.
    Internal,
    /// Too many registrations or logins wait for their password hash.
    Busy,
    /// The instance stops.
    Draining,
    /// A supervised thread has failed; the process is about to end.
    Failed,
    /// The server has reached its maximum of connections, or has no memory for another thread.
    Full,
    /// The event log or the database does not answer.
    NotReady,
    /// An action of an administrator is not known to be in the event log.
    NotApplied,
    /// The database does not answer.
    Unavailable,
    /// An HTTP version other than 1.0 and 1.1.
    HttpVersion,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The status code (RFC 9110, section 15).
    pub status: u16,
    /// The code for programs. Never changes.
    pub code: &'static str,
    /// The default text for users: the cause and, if it is not obvious, what to do.
    pub text: &'static str,
    /// The default `Retry-After` in seconds (RFC 9110, section 10.2.3). `None` for errors that waiting does not solve.
    pub retry_after_seconds: Option<u64>,
}

impl ApiError {
    /// All errors, in the order of their status.
    pub const ALL: [ApiError; 37] = [
        ApiError::BadRequest,
        ApiError::BadProxyHeader,
        ApiError::BadJson,
        ApiError::BadField,
        ApiError::BadQuery,
        ApiError::BadHandshake,
        ApiError::WrongCredentials,
        ApiError::Unauthorized,
        ApiError::OriginNotAllowed,
        ApiError::OutsideIssuer,
        ApiError::NotAdmin,
        ApiError::Banned,
        ApiError::NotFound,
        ApiError::UnknownMessage,
        ApiError::MethodNotAllowed,
        ApiError::TooLate,
        ApiError::EmailTaken,
        ApiError::UsernameTaken,
        ApiError::LengthRequired,
        ApiError::BodyTooLarge,
        ApiError::TargetTooLong,
        ApiError::UpgradeRequired,
        ApiError::TooManyConnections,
        ApiError::TooManyLogins,
        ApiError::TooManyRegistrations,
        ApiError::TooManySessions,
        ApiError::TooManyRequests,
        ApiError::HeadTooLarge,
        ApiError::Internal,
        ApiError::Busy,
        ApiError::Draining,
        ApiError::Failed,
        ApiError::Full,
        ApiError::NotReady,
        ApiError::NotApplied,
        ApiError::Unavailable,
        ApiError::HttpVersion,
    ];

    /// The row of this error.
    #[must_use]
    pub const fn row(self) -> Row {
        use ApiError as E;
        let (status, code, retry_after_seconds, text) = match self {
            E::BadRequest => (400, "bad_request", None, "the request is not valid HTTP/1.1"),
            E::BadProxyHeader => {
                (400, "bad_proxy_header", None, "the connection must begin with a PROXY header: see ICH_PROXY_PROTOCOL")
            }
            E::BadJson => (400, "bad_json", None, "the body must be a JSON object"),
            E::BadField => (400, "bad_field", None, "a field of the body is not valid"),
            E::BadQuery => (400, "bad_query", None, "a parameter of the query is not valid"),
            E::BadHandshake => {
                (400, "bad_handshake", None, "the websocket handshake is not valid (RFC 6455, section 4.2.1)")
            }
            E::WrongCredentials => (401, "wrong_credentials", None, "the email or the password is wrong"),
            E::Unauthorized => (401, "unauthorized", None, "log in, and send the token: Authorization: Bearer <token>"),
            E::OriginNotAllowed => (
                403,
                "origin_not_allowed",
                None,
                "pages of this origin may not use this server: see ICH_ALLOWED_ORIGINS",
            ),
            E::OutsideIssuer => (403, "outside_issuer", None, "tokens are issued elsewhere: log in there"),
            E::NotAdmin => (403, "not_admin", None, "only an administrator may do this: see `ich user promote`"),
            E::Banned => (403, "banned", None, "an administrator has banned this user"),
            E::NotFound => (404, "not_found", None, "this path does not exist: see doc/api.md"),
            E::UnknownMessage => {
                (404, "unknown_message", None, "no message with this event_id is kept: ask without before")
            }
            E::MethodNotAllowed => {
                (405, "method_not_allowed", None, "this path does not accept this method: see Allow")
            }
            E::TooLate => (408, "too_late", None, "sending the request took longer than 10 seconds"),
            E::EmailTaken => (409, "email_taken", None, "an account with this email exists: log in"),
            E::UsernameTaken => {
                (409, "username_taken", None, "this username, or one that looks like it, is taken: choose another")
            }
            E::LengthRequired => (411, "length_required", None, "send the body with a Content-Length, or chunked"),
            E::BodyTooLarge => (413, "body_too_large", None, "the body may have at most 16 KiB"),
            E::TargetTooLong => (414, "target_too_long", None, "the request line may have at most 8 KiB"),
            E::UpgradeRequired => (426, "upgrade_required", None, "join with a websocket (RFC 6455, version 13)"),
            E::TooManyConnections => {
                (429, "too_many_connections", Some(5), "too many connections from this address: try again later")
            }
            E::TooManyLogins => (429, "too_many_logins", Some(60), "too many logins: try again later"),
            E::TooManyRegistrations => {
                (429, "too_many_registrations", Some(60), "too many new accounts from this address: try again later")
            }
            E::TooManySessions => {
                (429, "too_many_sessions", Some(30), "this account has too many open sessions: close one")
            }
            E::TooManyRequests => {
                (429, "too_many_requests", Some(60), "too many requests from this address: try again later")
            }
            E::HeadTooLarge => (431, "head_too_large", None, "the head may have at most 16 KiB and 64 fields"),
            E::Internal => (500, "internal", None, "internal error of the server: its log has the details"),
            E::Busy => (503, "busy", Some(2), "too many registrations and logins are waiting: try again later"),
            E::Draining => (503, "draining", Some(1), "this instance is about to stop: try again"),
            E::Failed => (503, "failed", Some(1), "a thread of the server has failed: the process is about to end"),
            E::Full => (503, "full", Some(5), "the server has reached its maximum of connections: try again later"),
            E::NotReady => (503, "not_ready", Some(2), "the lobby cannot be joined now: try again later"),
            E::NotApplied => {
                (503, "not_applied", Some(2), "the event log does not answer: the action may not apply; repeat it")
            }
            E::Unavailable => {
                (503, "unavailable", Some(5), "the database of accounts does not answer: try again later")
            }
            E::HttpVersion => (505, "http_version", None, "this server supports HTTP/1.0 and HTTP/1.1"),
        };
        Row { status, code, text, retry_after_seconds }
    }

    /// Whether the server refuses a client by a limit or a setting. These errors are logged, because nothing else shows
    /// an operator why users cannot get in.
    pub(crate) const fn is_refusal(self) -> bool {
        matches!(self.row().status, 403 | 429) || matches!(self, ApiError::Busy | ApiError::Full)
    }

    /// The answer with the text of the table.
    pub(crate) fn response(self) -> Response {
        self.with_text(self.row().text)
    }

    /// The answer with a text that is more specific than the table's.
    pub(crate) fn with_text(self, text: &str) -> Response {
        let row = self.row();
        let response = Response::error(self, text);
        let response = match row.retry_after_seconds {
            Some(seconds) => response.retry_after(seconds),
            None => response,
        };
        match self {
            // RFC 9110, section 11.6.1.
            ApiError::Unauthorized => response.with("WWW-Authenticate", "Bearer realm=\"ich\""),
            // RFC 6455, section 4.4.
            ApiError::BadHandshake => response.with("Sec-WebSocket-Version", "13"),
            // RFC 9110, section 15.5.22.
            ApiError::UpgradeRequired => response.with("Sec-WebSocket-Version", "13").with("Upgrade", "websocket"),
            _ => response,
        }
    }
}

impl From<ApiError> for Response {
    fn from(error: ApiError) -> Response {
        error.response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_distinct_codes_and_limits_have_a_retry_time() {
        let mut codes: Vec<_> = ApiError::ALL.iter().map(|error| (error.row().status, error.row().code)).collect();
        assert!(codes.is_sorted_by_key(|(status, _)| *status));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ApiError::ALL.len());
        for error in ApiError::ALL {
            let row = error.row();
            assert_eq!(row.retry_after_seconds.is_some(), matches!(row.status, 429 | 503), "{error:?}");
        }
    }
}

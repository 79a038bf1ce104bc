//! [`Renewal`]: the token of a session, and when the client logs in again to continue it. Pure.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Deserialize;

/// The client logs in again this long before the end, or a sixth of the lifetime of the token if that is shorter.
const RENEW_BEFORE: Duration = Duration::from_secs(10 * 60);
/// The pause after a login that failed for a reason that passes, or that brought a token of less than [`LIFETIME_MIN`].
const RETRY: Duration = Duration::from_secs(30);
/// Tokens that end sooner would make the client log in without a pause.
const LIFETIME_MIN: Duration = Duration::from_secs(5);
/// The longest lifetime that is taken from a token: a century.
const LIFETIME_MAX_SECONDS: u64 = 100 * 366 * 24 * 3600;

/// What a token says about itself. The server has checked it.
#[derive(Debug, Clone, Deserialize)]
struct Claims {
    iat: Option<u64>,
    exp: Option<u64>,
    username: Option<String>,
    /// The name of most outside issuers.
    preferred_username: Option<String>,
}

/// A token, when it was got, and how long it is valid.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: String,
    /// `None`: the token does not say it in a way that this client knows.
    pub(super) username: Option<String>,
    /// The clock of the server can differ, so only the lifetime is taken from the token.
    lifetime: Option<Duration>,
    got_at: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the text, which is a secret.
        formatter.debug_struct("Token").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Token {
    pub(super) fn new(text: String, now: Instant) -> Self {
        let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(&text).ok();
        let lifetime = claims.as_ref().and_then(|claims| claims.exp?.checked_sub(claims.iat?));
        let lifetime = lifetime.map(|seconds| Duration::from_secs(seconds.min(LIFETIME_MAX_SECONDS)));
        let username = claims.and_then(|claims| claims.username.or(claims.preferred_username));
        Token { text, username, lifetime, got_at: now }
    }

    fn ends_at(&self) -> Option<Instant> {
        self.lifetime.and_then(|lifetime| self.got_at.checked_add(lifetime))
    }
}

/// The token of a client.
#[derive(Debug)]
pub(super) struct Renewal {
    token: Token,
    /// The server has got the token for the session.
    is_sent: bool,
    /// When to log in again; `None`: never, or a login runs.
    due: Option<Instant>,
    /// The earliest time of the next login.
    not_before: Instant,
    /// The client knows the password.
    can_log_in: bool,
    is_running: bool,
}

impl Renewal {
    pub(super) fn new(token: Token, can_log_in: bool) -> Self {
        let not_before = token.got_at;
        let mut renewal = Renewal { token, is_sent: false, due: None, not_before, can_log_in, is_running: false };
        renewal.plan();
        renewal
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// Whether the server has got the token for the session.
    pub(super) fn is_sent(&self) -> bool {
        self.is_sent
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to log in now. The caller then reports how that ends.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
            self.is_running = true;
        }
        is_due
    }

    /// A join with the current token begins, or the server has accepted the token for the session.
    pub(super) fn joining(&mut self) {
        self.is_sent = true;
    }

    /// The server refuses the token, or has ended the session because of it. Returns whether a new token will help: there
    /// is one already, or the client logs in now.
    pub(super) fn refused(&mut self, now: Instant) -> bool {
        if !self.is_sent || self.is_running {
            return true;
        }
        // A token that has just been issued is refused for another reason than its age.
        let is_over = self.token.ends_at().is_some_and(|end| end <= now + self.ask_before());
        if self.can_log_in && is_over {
            self.due = Some(now.max(self.not_before));
        }
        self.can_log_in && is_over
    }

    /// Whether a login is needed before the next join.
    pub(super) fn is_waiting(&self, now: Instant) -> bool {
        self.can_log_in && self.token.ends_at().is_some_and(|end| end <= now)
    }

    pub(super) fn logged_in(&mut self, token: Token) {
        self.is_running = false;
        self.is_sent &= token.text == self.token.text;
        self.token = token;
        self.plan();
    }

    /// The login failed. `is_final`: the password is wrong, for example.
    pub(super) fn failed(&mut self, is_final: bool, now: Instant) {
        self.is_running = false;
        self.can_log_in &= !is_final;
        self.not_before = now + RETRY;
        self.due = self.can_log_in.then_some(self.not_before);
    }

    fn ask_before(&self) -> Duration {
        RENEW_BEFORE.min(self.token.lifetime.unwrap_or_default() / 6)
    }

    fn plan(&mut self) {
        let is_short = self.token.lifetime.is_some_and(|lifetime| lifetime < LIFETIME_MIN);
        self.not_before = self.token.got_at + if is_short { RETRY } else { Duration::ZERO };
        let ask_at = self.token.ends_at().and_then(|end| end.checked_sub(self.ask_before()));
        self.due = ask_at.filter(|_| self.can_log_in).map(|at| at.max(self.not_before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"username":"Ann","iat":1000,"exp":1600}`, with a signature that nobody checks here.
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VybmFtZSI6IkFubiIsImlhdCI6MTAwMCwiZXhwIjoxNjAwfQ.c2ln";

    #[test]
    fn a_token_names_its_user_and_its_lifetime() {
        let token = Token::new(TOKEN.to_owned(), Instant::now());
        assert_eq!((token.username.as_deref(), token.lifetime), (Some("Ann"), Some(Duration::from_secs(600))));
        let token = Token::new("not a token".to_owned(), Instant::now());
        assert_eq!((token.username, token.lifetime), (None, None));
    }

    #[test]
    fn a_token_is_not_shown_to_debug() {
        let mut renewal = Renewal::new(Token::new(TOKEN.to_owned(), Instant::now()), true);
        renewal.joining();
        let shown = format!("{renewal:?}");
        assert!(shown.contains("Ann") && !shown.contains("eyJ"), "{shown}");
    }

    #[test]
    fn a_client_logs_in_again_before_the_token_ends() {
        let now = Instant::now();
        let mut renewal = Renewal::new(Token::new(TOKEN.to_owned(), now), true);
        renewal.joining();
        assert!(!renewal.begin(now + Duration::from_secs(499)));
        assert!(renewal.begin(now + Duration::from_secs(500)), "a sixth before the end");
        assert!(!renewal.begin(now + Duration::from_secs(501)), "it runs");
        assert!(renewal.refused(now), "the login will help");
        renewal.failed(false, now + Duration::from_secs(501));
        assert_eq!(renewal.due(), Some(now + Duration::from_secs(501) + RETRY));
        renewal.logged_in(Token::new(TOKEN.to_owned(), now + Duration::from_secs(600)));
        assert_eq!(renewal.due(), Some(now + Duration::from_secs(1100)));
    }

    #[test]
    fn logins_have_pauses() {
        let now = Instant::now();
        for seconds in [0, 1, 4] {
            let lifetime = Some(Duration::from_secs(seconds));
            let token = Token { text: "short".to_owned(), username: None, lifetime, got_at: now };
            let mut renewal = Renewal::new(token.clone(), true);
            renewal.joining();
            let end = now + Duration::from_secs(seconds);
            assert!(!renewal.begin(end) && renewal.refused(end) && !renewal.begin(end), "{seconds}");
            assert!(renewal.begin(now + RETRY));
            renewal.logged_in(Token { got_at: now + RETRY, ..token });
            assert_eq!(renewal.due(), Some(now + 2 * RETRY));
        }
        let mut renewal = Renewal::new(Token::new(TOKEN.to_owned(), now), true);
        renewal.joining();
        let end = now + Duration::from_secs(600);
        assert!(renewal.begin(end));
        renewal.failed(false, end);
        assert!(renewal.refused(end) && !renewal.begin(end), "a refusal does not shorten the pause after a failure");
    }

    #[test]
    fn a_refused_token_is_tried_once() {
        let now = Instant::now();
        let mut renewal = Renewal::new(Token::new(TOKEN.to_owned(), now), true);
        renewal.joining();
        assert!(!renewal.refused(now), "it is new, so another one would be refused too");
        let end = now + Duration::from_secs(600);
        assert!(renewal.is_waiting(end) && renewal.refused(end) && renewal.begin(end));
        renewal.failed(true, end);
        assert!(!renewal.refused(end) && !renewal.is_waiting(end), "the password is wrong");
        let mut renewal = Renewal::new(Token::new(TOKEN.to_owned(), now), false);
        renewal.joining();
        assert!(!renewal.refused(end) && renewal.due().is_none(), "without a password");
    }
}

//! [`AppState`]: the state that all endpoints use. Shared by all connections in an `Arc`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{log, warn};

use super::address_limit::AddressLimit;
use super::api_error::ApiError;
use super::permits::Permits;
use super::readiness::Readiness;
use super::request::Request;
use super::response::Response;
use crate::accounts::{Accounts, Claims, TokenRefused, Tokens};
use crate::archive::reader::ArchiveReader;
use crate::clock;
use crate::lobby::User;
use crate::log_throttle::LogThrottle;
use crate::metrics::{Metrics, Sample};
use crate::origin::Origin;
use crate::proxies::{Client, Proxies, Sender, Source};
use crate::publisher::Publisher;
use crate::session::history::SharedHistory;
use crate::session::renewal::TokenGrant;
use crate::supervisor::Supervisor;

/// The shared state of the HTTP side.
pub(crate) struct AppState {
    pub(crate) accounts: Accounts,
    pub(crate) tokens: Tokens,
    /// One line a minute for each reason for which tokens are refused.
    pub(crate) refused_tokens: LogThrottle,
    /// Limits the open sessions of each user, by user id.
    pub(crate) permits_per_user: Arc<Permits<Arc<str>>>,
    /// Tells whether the lobby can be joined.
    pub(crate) publisher: Arc<Publisher>,
    /// Tells whether a supervised thread has failed.
    pub(crate) supervisor: Supervisor,
    /// Set from the beginning of the drain delay. Only the readiness depends on it.
    pub(crate) will_stop: AtomicBool,
    pub(crate) metrics: Arc<Metrics>,
    /// The newest messages, from the log thread.
    pub(crate) history: SharedHistory,
    /// Reads older messages. `None`: there is no archive.
    pub(crate) archive: Option<ArchiveReader>,
    /// Limits the requests of `/history`.
    pub(crate) history_limit: AddressLimit,
    /// Origins besides the server's own whose pages may use this server.
    pub(crate) allowed_origins: Vec<Origin>,
    pub(crate) proxies: Proxies,
    /// One line a minute for each proxy that does not name its clients correctly.
    pub(crate) proxy_warnings: LogThrottle,
}

impl AppState {
    /// Counts an answer, and the error that it reports.
    pub(crate) fn count(&self, response: &Response) {
        self.metrics.response_sent(response.status);
        if let Some(error) = response.error {
            self.metrics.error_sent(error.row().code);
        }
    }

    /// All metrics, in the text format of OpenMetrics 1.0.
    pub(crate) fn encode_metrics(&self) -> String {
        let (readiness, backlog) = (self.readiness(), self.publisher.backlog());
        self.metrics.set_sample(&Sample {
            is_ready: readiness.is_ready(),
            has_event_log: readiness.has_event_log,
            has_accounts: readiness.has_accounts,
            queued_records: backlog.queued,
            records_in_flight: backlog.in_flight,
            lag: backlog.lag,
        });
        self.metrics.encode()
    }

    /// Checks the token of a request or of an open session. A refused token is counted and logged, without its content.
    ///
    /// # Errors
    /// Why the token is refused.
    pub(crate) fn check_token(&self, token: &str) -> Result<TokenGrant, TokenRefused> {
        let claims = self.claims(token)?;
        let lifetime = Duration::from_secs(claims.seconds_left(clock::unix_seconds()));
        Ok(TokenGrant { user: User { id: claims.user_id.into(), username: claims.username.into() }, lifetime })
    }

    /// The claims of a token. A refused token is counted and logged, without its content.
    ///
    /// # Errors
    /// Why the token is refused.
    pub(crate) fn claims(&self, token: &str) -> Result<Claims, TokenRefused> {
        self.tokens.verify(token).inspect_err(|refused| {
            self.metrics.token_refused(refused.label());
            if let Some(more) = self.refused_tokens.may_log(refused.label(), Instant::now()) {
                log!(refused.level(), "refused a token: {refused}{more}");
            }
        })
    }

    /// The client of a request. Logs that a proxy names two clients.
    pub(crate) fn client(&self, sender: Sender, request: &Request) -> Client {
        let client = self.proxies.client(sender, request.head.headers());
        if client.source == Source::Contradiction {
            self.warn_about_proxy(&format!(
                "the proxy {} sends X-Forwarded-For and Forwarded with different clients, so its own address counts: let \
                 it remove the one that it does not set",
                sender.address
            ));
        }
        client
    }

    /// Logs a warning about a proxy, once a minute.
    pub(crate) fn warn_about_proxy(&self, text: &str) {
        if let Some(more) = self.proxy_warnings.may_log(text, Instant::now()) {
            warn!("{text}{more}");
        }
    }

    /// Refuses a banned user.
    ///
    /// # Errors
    /// 403 `banned`, with the end of the ban and the reason.
    pub(crate) fn check_ban(&self, username: &str) -> Result<(), Response> {
        match self.publisher.sanctions().ban_of(username) {
            None => Ok(()),
            Some(ban) => {
                let text = format!("an administrator has banned this user{}", ban.until_and_reason());
                Err(ApiError::Banned.with_text(&text))
            }
        }
    }

    /// Whether this instance is ready for users now. Never blocks.
    pub(crate) fn readiness(&self) -> Readiness {
        Readiness {
            is_draining: self.will_stop.load(Ordering::Acquire) || self.supervisor.has_failed(),
            has_event_log: self.publisher.is_log_available(),
            has_accounts: self.accounts.is_ready(),
        }
    }
}

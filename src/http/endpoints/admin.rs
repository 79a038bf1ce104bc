//! `/admin/...`: the endpoints for administrators. This file has what the actions share: [`act`] stores a ban or a mute,
//! appends the action to the event log, and waits until this instance has read it.

mod ban;
mod bans;
mod kick;
mod mute;
mod unban;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::ban::Ban;
pub(crate) use self::bans::Bans;
pub(crate) use self::kick::Kick;
pub(crate) use self::mute::Mute;
pub(crate) use self::unban::Unban;
use super::account_error;
use crate::accounts::{AccountError, rules};
use crate::clock;
use crate::http::api_error::ApiError;
use crate::http::app_state::AppState;
use crate::http::body::{self, TextField};
use crate::http::response::Response;
use crate::lobby::{Action, Moderation};
use crate::moderation::{ReadAction, Sanction, SanctionKind};

/// The longest reason, in characters.
const REASON_CHARS_MAX: usize = 200;
/// The longest ban or mute with an end: a hundred years.
const MINUTES_MAX: u64 = 100 * 366 * 24 * 60;
/// How long a request waits until this instance has read the action from the event log, in all attempts together.
const APPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an action is appended if other actions on the user have the same time.
const ATTEMPTS_MAX: u32 = 5;

/// The body of an action.
pub(crate) struct Order {
    username: String,
    /// `None`: without an end.
    minutes: Option<u64>,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    username: TextField,
    minutes: Option<Value>,
    reason: TextField,
}

/// Why an action failed.
pub(crate) enum Failed {
    Store(AccountError),
    /// The event log does not answer.
    NotApplied,
    /// Each attempt had the time of another action on the user.
    Dropped,
}

#[derive(Serialize)]
struct Applied<'a> {
    action: &'static str,
    username: &'a str,
    /// RFC 3339; missing if there is no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl Order {
    /// Parses a body. `minutes` that are 0 or missing mean no end.
    fn parse(body: &[u8]) -> Result<Order, Response> {
        let bad = |text: &str| ApiError::BadField.with_text(text);
        let Body { username, minutes, reason } = body::parse(body)?;
        let username = username.text("username")?;
        rules::check_username(&username).map_err(|rule| bad(&rule.to_string()))?;
        let reason = match reason {
            TextField::Missing => String::new(),
            given => given.text("reason")?,
        };
        if reason.chars().count() > REASON_CHARS_MAX || reason.chars().any(char::is_control) {
            return Err(bad("reason: must have at most 200 characters and no control characters"));
        }
        let minutes = minutes.map_or(Some(0), |minutes| minutes.as_u64()).filter(|minutes| *minutes <= MINUTES_MAX);
        let minutes = minutes.ok_or_else(|| bad("minutes: must be a whole number; 0 means without an end"))?;
        Ok(Order { username, minutes: (minutes > 0).then_some(minutes), reason })
    }
}

/// Applies an action: all instances read it from the event log. Repeats it with a later time if another action on the
/// user had the same time and was read first. Called on the connection's thread.
fn act(app: &AppState, action: Action, order: Order, by: &str, address: IpAddr) -> Result<Moderation, Failed> {
    let deadline = Instant::now() + APPLY_TIMEOUT;
    let mut moderation = Moderation {
        action,
        username: order.username.into(),
        by: by.into(),
        reason: order.reason.into(),
        at_ms: 0,
        until_ms: None,
    };
    let minutes = order.minutes.filter(|_| matches!(action, Action::Mute | Action::Ban));
    for _ in 0..ATTEMPTS_MAX {
        moderation.at_ms = app.publisher.sanctions().next_at_ms(&moderation.username);
        moderation.until_ms = minutes.map(|minutes| moderation.at_ms.saturating_add(minutes * 60_000));
        match append(app, &moderation, address, deadline)? {
            ReadAction::Applied => return Ok(moderation),
            ReadAction::Dropped => {}
            ReadAction::NotRead => return Err(Failed::NotApplied),
        }
    }
    Err(Failed::Dropped)
}

/// Stores an action, appends it to the event log, and waits until this instance has read it.
fn append(app: &AppState, moderation: &Moderation, address: IpAddr, deadline: Instant) -> Result<ReadAction, Failed> {
    let mut stored = Sanction::of(moderation);
    stored.retain(|sanction| sanction.kind != SanctionKind::Kick);
    if !stored.is_empty() {
        app.accounts.put_sanctions(address, stored).map_err(Failed::Store)?;
    }
    app.publisher.moderate(moderation).map_err(|_| Failed::NotApplied)?;
    Ok(app.publisher.sanctions().wait_read(moderation, deadline))
}

/// The answer to an action.
fn applied(result: Result<Moderation, Failed>) -> Result<Response, Response> {
    match result {
        Ok(Moderation { action, username, until_ms, .. }) => Ok(Response::json(&Applied {
            action: action.name(),
            username: &username,
            until: until_ms.map(clock::shown_millis),
        })),
        Err(Failed::Store(error)) => Err(account_error(&error)),
        Err(Failed::NotApplied) => Err(ApiError::NotApplied.response()),
        Err(Failed::Dropped) => {
            Err(ApiError::NotApplied
                .with_text("other administrators act on this user at the same time: repeat the action"))
        }
    }
}

//! Ends the sessions of kicked and banned users on this instance.

use std::sync::Arc;

use super::end::End;
use super::fan_out::{Command, FanOut};
use crate::accounts::rules::username_key;
use crate::lobby::{Action, Moderation};
use crate::publisher::Publisher;

/// Ends the sessions that an action ends. Returns their number. Called by the log thread, after it has added the action
/// to the sanctions.
pub(crate) fn end_sessions(moderation: &Moderation, publisher: &Publisher, fan_out: &FanOut) -> usize {
    let end = match moderation.action {
        Action::Kick => End::Kicked,
        Action::Ban => End::Banned,
        Action::Mute | Action::Unban => return 0,
    };
    let key = username_key(&moderation.username);
    end_sessions_of(publisher, fan_out, end, |username| {
        (username_key(username) == key).then(|| moderation.reason.clone())
    })
}

/// Ends the sessions of all users who are banned now.
pub(crate) fn end_sessions_of_banned(publisher: &Publisher, fan_out: &FanOut) {
    end_sessions_of(publisher, fan_out, End::Banned, |username| {
        publisher.sanctions().ban_of(username).map(|ban| ban.reason)
    });
}

/// `reason_for` returns a reason for each user whose sessions end.
fn end_sessions_of(
    publisher: &Publisher,
    fan_out: &FanOut,
    end: End,
    reason_for: impl Fn(&str) -> Option<Arc<str>>,
) -> usize {
    let ended = publisher.end_sessions(reason_for);
    let count = ended.len();
    for (session, reason) in ended {
        fan_out.send(session, Command::End { session, end, reason });
    }
    count
}

//! [`SharedSanctions`]: the sanctions of this process. Any thread; the lock is held for a lookup only.
//!
//! The log thread adds an action before it ends the sessions of the user. The publisher refuses banned users under the
//! lock under which it adds a session. So a session of a banned user is either refused or ended.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::sanctions::{Sanction, SanctionKind, Sanctions};
use crate::accounts::rules::username_key;
use crate::clock;
use crate::lobby::Moderation;
use crate::threads::lock;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SharedSanctions {
    sanctions: Mutex<Sanctions>,
    /// Signalled when sanctions were added.
    added: Condvar,
}

impl SharedSanctions {
    /// Adds the sanctions of an action that was read from the event log. False if they change nothing.
    pub(crate) fn apply(&self, moderation: &Moderation) -> bool {
        self.add(Sanction::of(moderation))
    }

    /// Adds sanctions. False if they change nothing.
    pub(crate) fn add(&self, sanctions: Vec<Sanction>) -> bool {
        let mut known = lock(&self.sanctions);
        let mut changed = false;
        for sanction in sanctions {
            changed |= known.add(sanction);
        }
        self.added.notify_all();
        changed
    }

    /// The ban of this user, if there is one now.
    pub(crate) fn ban_of(&self, username: &str) -> Option<Sanction> {
        self.active(SanctionKind::Ban, username)
    }

    /// The mute of this user, if there is one now.
    pub(crate) fn mute_of(&self, username: &str) -> Option<Sanction> {
        self.active(SanctionKind::Mute, username)
    }

    fn active(&self, kind: SanctionKind, username: &str) -> Option<Sanction> {
        let sanctions = lock(&self.sanctions);
        if sanctions.is_empty() {
            return None;
        }
        sanctions.active(kind, &username_key(username), clock::unix_millis()).cloned()
    }

    /// All bans and mutes that have not ended.
    pub(crate) fn all(&self) -> Vec<Sanction> {
        lock(&self.sanctions).all_active(clock::unix_millis()).cloned().collect()
    }

    /// See [`Sanctions::next_at_ms`].
    pub(crate) fn next_at_ms(&self, username: &str) -> u64 {
        lock(&self.sanctions).next_at_ms(&username_key(username), clock::unix_millis())
    }

    /// Waits until an action was read from the event log. False after `timeout`.
    pub(crate) fn wait_applied(&self, moderation: &Moderation, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let key = username_key(&moderation.username);
        let mut known = lock(&self.sanctions);
        while known.next_at_ms(&key, 0) <= moderation.at_ms {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            known = self.added.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

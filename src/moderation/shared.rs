//! [`SharedSanctions`]: the sanctions of this process. Any thread; the lock is held for a lookup only.
//!
//! The log thread adds an action before it ends the sessions of the user. The publisher refuses banned users under the
//! lock under which it adds a session. So a session of a banned user is either refused or ended.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::sanctions::{Sanction, SanctionKind, Sanctions};
use crate::accounts::rules::username_key;
use crate::clock;
use crate::lobby::Moderation;
use crate::threads::lock;

/// What became of an action that was appended to the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadAction {
    /// It applies, or a later action on the user already replaces it.
    Applied,
    /// A different action on the user has the same time and was read first. Needs a later time.
    Dropped,
    /// It was not read before the deadline.
    NotRead,
}

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

    /// Waits until an action was read from the event log.
    pub(crate) fn wait_read(&self, moderation: &Moderation, deadline: Instant) -> ReadAction {
        let own = Sanction::of(moderation);
        let mut known = lock(&self.sanctions);
        loop {
            let last: Option<Vec<_>> = own.iter().map(|it| known.last(it.kind, &it.username)).collect();
            if let Some(last) = last.filter(|last| last.iter().all(|it| it.at_ms >= moderation.at_ms)) {
                let is_dropped = own.iter().zip(last).any(|(own, last)| last.at_ms == own.at_ms && last != own);
                return if is_dropped { ReadAction::Dropped } else { ReadAction::Applied };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return ReadAction::NotRead;
            }
            known = self.added.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lobby::Action;

    fn action(action: Action, by: &str, at_ms: u64) -> Moderation {
        Moderation { action, username: "Bob".into(), by: by.into(), reason: "".into(), at_ms, until_ms: None }
    }

    fn outcome(sanctions: &SharedSanctions, moderation: &Moderation) -> ReadAction {
        sanctions.wait_read(moderation, Instant::now())
    }

    #[test]
    fn of_two_different_actions_at_the_same_time_only_the_first_one_that_is_read_applies() {
        let sanctions = SharedSanctions::default();
        let (ban, unban) = (action(Action::Ban, "Ann", 5), action(Action::Unban, "Eve", 5));
        assert_eq!(outcome(&sanctions, &ban), ReadAction::NotRead);
        assert!(sanctions.apply(&ban));
        sanctions.apply(&unban);
        assert_eq!(outcome(&sanctions, &ban), ReadAction::Applied);
        assert_eq!(outcome(&sanctions, &unban), ReadAction::Dropped);
        let again = Moderation { at_ms: sanctions.next_at_ms("Bob"), ..unban };
        sanctions.apply(&again);
        assert_eq!(outcome(&sanctions, &again), ReadAction::Applied);
        assert_eq!(sanctions.ban_of("Bob"), None);
    }

    #[test]
    fn an_action_of_another_kind_or_an_earlier_one_is_not_the_action() {
        let sanctions = SharedSanctions::default();
        let kick = action(Action::Kick, "Ann", 5);
        for other in [action(Action::Mute, "Ann", 5), action(Action::Kick, "Ann", 4)] {
            sanctions.apply(&other);
            assert_eq!(outcome(&sanctions, &kick), ReadAction::NotRead, "{other:?}");
        }
        sanctions.apply(&action(Action::Kick, "Eve", 6));
        assert_eq!(outcome(&sanctions, &kick), ReadAction::Applied, "a later one replaces it");
    }
}

//! [`LateLeaves`]: the sessions whose connection broke and whose `left` waits for the end of a grace period
//! (`ICH_LEAVE_GRACE_SECONDS`). Until then they are sessions like any other: the user stays in the lobby, and if the user
//! joins any instance meanwhile, the late `left` has no effect that clients see.
//!
//! Each user has at most one such session on an instance, so a client that connects and breaks in a loop adds nothing.
//!
//! Pure. The lock of the publisher protects it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::lobby::{SessionId, User};

/// The most sessions that wait. Further ones leave at once.
const WAITING_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LateLeaves {
    by_user: HashMap<User, (SessionId, Duration)>,
    users: HashMap<SessionId, User>,
    /// The same sessions in the order in which they are due.
    by_due: BTreeSet<(Duration, SessionId)>,
}

impl LateLeaves {
    /// The `left` of this session waits until `due`. Returns a session that has to leave now: the one of the same user
    /// that waited before, or this one if too many wait.
    pub(super) fn add(&mut self, session: SessionId, user: User, due: Duration) -> Option<SessionId> {
        let earlier = self.take(&user);
        if self.users.len() >= WAITING_MAX {
            return Some(session);
        }
        self.by_user.insert(user.clone(), (session, due));
        self.users.insert(session, user);
        self.by_due.insert((due, session));
        earlier
    }

    /// Removes the waiting session of this user.
    pub(super) fn take(&mut self, user: &User) -> Option<SessionId> {
        let (session, due) = self.by_user.remove(user)?;
        self.users.remove(&session);
        self.by_due.remove(&(due, session));
        Some(session)
    }

    /// Removes a session, if it waits.
    pub(super) fn remove(&mut self, session: SessionId) {
        if let Some(user) = self.users.get(&session).cloned() {
            self.take(&user);
        }
    }

    /// Whether this session waits.
    pub(super) fn contains(&self, session: SessionId) -> bool {
        self.users.contains_key(&session)
    }

    /// Removes the sessions whose time has come. Called after each poll of the log, so it does not look at the others.
    pub(super) fn take_due(&mut self, now: Duration) -> Vec<SessionId> {
        let mut leaving = Vec::new();
        while let Some(&(due, session)) = self.by_due.first()
            && due <= now
        {
            self.remove(session);
            leaving.push(session);
        }
        leaving
    }

    /// Removes all sessions.
    pub(super) fn take_all(&mut self) -> Vec<SessionId> {
        self.by_user.clear();
        self.by_due.clear();
        self.users.drain().map(|(session, _)| session).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User { id: name.into(), username: name.into() }
    }

    #[test]
    fn each_user_has_one_waiting_session_which_leaves_when_it_is_due() {
        let mut late = LateLeaves::default();
        let second = Duration::from_secs(1);
        assert_eq!(late.add(SessionId(1), user("Ann"), second), None);
        assert_eq!(late.add(SessionId(2), user("Ann"), 2 * second), Some(SessionId(1)));
        assert_eq!(late.add(SessionId(3), user("Bob"), 3 * second), None);
        assert!(!late.contains(SessionId(1)) && late.contains(SessionId(2)));
        assert_eq!((late.take_due(second), late.by_due.len()), (vec![], 2));
        assert_eq!(late.take_due(2 * second), [SessionId(2)]);
        assert_eq!(late.take(&user("Bob")), Some(SessionId(3)));
        assert_eq!(late.take_all(), []);
    }

    #[test]
    fn beyond_the_bound_a_session_leaves_at_once() {
        let mut late = LateLeaves::default();
        for number in 0..WAITING_MAX as u64 {
            assert_eq!(late.add(SessionId(number), user(&number.to_string()), Duration::ZERO), None);
        }
        let last = SessionId(WAITING_MAX as u64);
        assert_eq!(late.add(last, user("one more"), Duration::ZERO), Some(last));
        assert!(!late.contains(last));
    }
}

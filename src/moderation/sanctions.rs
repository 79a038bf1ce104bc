//! [`Sanctions`]: the bans and mutes that follow from the actions of administrators. Pure.
//!
//! Of two actions on one user, the one with the later time applies, in whatever order they are read. So the stored
//! sanctions and the records of the event log can be combined, and a record that is read twice acts once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::accounts::rules::username_key;
use crate::clock;
use crate::lobby::{Action, Moderation};

/// The most sanctions that an instance keeps. Those that have ended longest ago are forgotten first.
pub(crate) const SANCTIONS_MAX: u32 = 100_000;

/// The kind of a sanction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SanctionKind {
    /// Over at once. It is kept so that a record that is read twice acts once.
    Kick,
    /// The messages of the user are refused.
    Mute,
    /// The user cannot join or log in.
    Ban,
}

impl SanctionKind {
    /// The name in answers and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SanctionKind::Kick => "kick",
            SanctionKind::Mute => "mute",
            SanctionKind::Ban => "ban",
        }
    }

    /// The kind with this name, if it is one that is stored.
    #[must_use]
    pub fn stored(name: &str) -> Option<SanctionKind> {
        [SanctionKind::Mute, SanctionKind::Ban].into_iter().find(|kind| kind.name() == name)
    }
}

/// The last action of one kind on one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sanction {
    /// What is refused.
    pub kind: SanctionKind,
    /// The name of the user, as the administrator gave it.
    pub username: Arc<str>,
    /// The name of the administrator.
    pub by: Arc<str>,
    /// The reason, for the user. May be empty.
    pub reason: Arc<str>,
    /// The time of the action, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// When it ends; `None`: when an administrator ends it. Not after `at_ms` if an administrator has ended it.
    pub until_ms: Option<u64>,
}

impl Sanction {
    /// The sanctions that an action sets: one, or for [`Action::Unban`] two that have ended.
    #[must_use]
    pub fn of(moderation: &Moderation) -> Vec<Sanction> {
        let ended = Some(moderation.at_ms);
        let kinds: &[_] = match moderation.action {
            Action::Kick => &[(SanctionKind::Kick, ended)],
            Action::Mute => &[(SanctionKind::Mute, moderation.until_ms)],
            Action::Ban => &[(SanctionKind::Ban, moderation.until_ms)],
            Action::Unban => &[(SanctionKind::Mute, ended), (SanctionKind::Ban, ended)],
        };
        let sanction = |(kind, until_ms): &(SanctionKind, Option<u64>)| Sanction {
            kind: *kind,
            username: moderation.username.clone(),
            by: moderation.by.clone(),
            reason: moderation.reason.clone(),
            at_ms: moderation.at_ms,
            until_ms: *until_ms,
        };
        kinds.iter().map(sanction).collect()
    }

    /// For the user: the end and the reason, as far as there are any.
    #[must_use]
    pub(crate) fn until_and_reason(&self) -> String {
        let until = self.until_ms.map(|until| format!(" until {}", clock::shown_millis(until))).unwrap_or_default();
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        until + &reason
    }

    /// Whether it has not ended at this time. One that an administrator has ended is over at once, also if `at_ms` is in
    /// the future, because the clock of that instance is ahead.
    #[must_use]
    pub fn is_active(&self, now_ms: u64) -> bool {
        self.until_ms.is_none_or(|until| until > now_ms && until > self.at_ms)
    }
}

/// The last action of each kind on each user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sanctions {
    entries: BTreeMap<(SanctionKind, String), Sanction>,
}

impl Sanctions {
    /// Adds a sanction. False if it changes nothing, because the last action of this kind on this user is not earlier.
    pub fn add(&mut self, sanction: Sanction) -> bool {
        let key = (sanction.kind, username_key(&sanction.username));
        if self.entries.get(&key).is_some_and(|known| known.at_ms >= sanction.at_ms) {
            return false;
        }
        self.entries.insert(key, sanction);
        if self.entries.len() > SANCTIONS_MAX as usize {
            let oldest = self.entries.iter().min_by_key(|(_, it)| (it.until_ms.unwrap_or(u64::MAX), it.at_ms));
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
        true
    }

    /// Whether no administrator has acted, which is the usual case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The sanction of this kind on the user with this key, unless it has ended.
    #[must_use]
    pub fn active(&self, kind: SanctionKind, username_key: &str, now_ms: u64) -> Option<&Sanction> {
        self.entries.get(&(kind, username_key.to_owned())).filter(|sanction| sanction.is_active(now_ms))
    }

    /// All sanctions that have not ended, ordered by kind and name.
    pub fn all_active(&self, now_ms: u64) -> impl Iterator<Item = &Sanction> + '_ {
        self.entries.values().filter(move |sanction| sanction.is_active(now_ms))
    }

    /// The sanction of this kind on this user, also one that has ended.
    pub(super) fn last(&self, kind: SanctionKind, username: &str) -> Option<&Sanction> {
        self.entries.get(&(kind, username_key(username)))
    }

    /// The earliest time for an action on this user that is later than all actions before it: usually `now_ms`, but the
    /// clock of another instance may be ahead.
    #[must_use]
    pub fn next_at_ms(&self, username_key: &str, now_ms: u64) -> u64 {
        let at = |kind| self.entries.get(&(kind, username_key.to_owned())).map_or(0, |it| it.at_ms + 1);
        [SanctionKind::Kick, SanctionKind::Mute, SanctionKind::Ban].into_iter().map(at).fold(now_ms, u64::max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moderation(action: Action, username: &str, at_ms: u64, until_ms: Option<u64>) -> Moderation {
        Moderation { action, username: username.into(), by: "Ann".into(), reason: "".into(), at_ms, until_ms }
    }

    fn applied(actions: &[Moderation]) -> Sanctions {
        let mut sanctions = Sanctions::default();
        for sanction in actions.iter().flat_map(Sanction::of) {
            sanctions.add(sanction);
        }
        sanctions
    }

    #[test]
    fn a_ban_lasts_until_its_end_and_an_unban_ends_both_kinds() {
        let bob = [moderation(Action::Ban, "Bob", 5, Some(10)), moderation(Action::Mute, "BOB", 6, None)];
        let sanctions = applied(&bob);
        assert!(sanctions.active(SanctionKind::Ban, "bob", 9).is_some());
        assert!(sanctions.active(SanctionKind::Ban, "bob", 10).is_none());
        assert!(sanctions.active(SanctionKind::Mute, "bob", u64::MAX).is_some());
        assert!(sanctions.active(SanctionKind::Ban, "eve", 9).is_none());
        assert_eq!(sanctions.next_at_ms("bob", 3), 7);
        assert_eq!(sanctions.next_at_ms("bob", 99), 99);
        let ended = applied(&[&bob[..], &[moderation(Action::Unban, "bob", 7, None)]].concat());
        assert_eq!(ended.all_active(7).count(), 0);
    }

    #[test]
    fn a_record_that_is_read_twice_acts_once() {
        let kick = Sanction::of(&moderation(Action::Kick, "Bob", 5, None));
        let mut sanctions = Sanctions::default();
        assert!(sanctions.add(kick[0].clone()));
        assert!(!sanctions.add(kick[0].clone()));
        assert!(sanctions.all_active(5).next().is_none());
    }

    #[test]
    fn an_unban_ends_a_ban_also_where_the_clock_is_behind() {
        let ended = applied(&[moderation(Action::Ban, "Bob", 5, None), moderation(Action::Unban, "Bob", 7, None)]);
        assert_eq!(ended.all_active(3).count(), 0);
        let banned = applied(&[moderation(Action::Ban, "Bob", 5, Some(9))]);
        assert!(banned.active(SanctionKind::Ban, "bob", 3).is_some());
    }

    proptest! {
        /// Any order of the same actions, with repetitions, gives the same sanctions: those of the latest action.
        #[test]
        fn the_latest_action_applies_in_any_order(
            inputs in proptest::collection::vec((0usize..4, 0usize..3, prop::option::of(0u64..40)), 1..20),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let kinds = [Action::Kick, Action::Mute, Action::Ban, Action::Unban];
            let actions: Vec<_> = (1..).zip(&inputs).map(|(at, (kind, name, until))| {
                moderation(kinds[*kind], ["Ann", "Bob", "Cid"][*name], at, *until)
            }).collect();
            let shuffled: Vec<_> = order.iter().map(|index| index.get(&actions).clone()).chain(actions.iter().rev().cloned()).collect();
            let sanctions = applied(&shuffled);
            prop_assert_eq!(&sanctions, &applied(&actions));
            for name in ["ann", "bob", "cid"] {
                let last = actions.iter().rev().find(|it| {
                    username_key(&it.username) == name && matches!(it.action, Action::Ban | Action::Unban)
                });
                let is_banned = last.is_some_and(|it| it.action == Action::Ban && it.until_ms.is_none_or(|until| until > 20 && until > it.at_ms));
                prop_assert_eq!(sanctions.active(SanctionKind::Ban, name, 20).is_some(), is_banned);
            }
        }
    }
}

//! [`Repetitions`]: the message ids that each account used in the *window*, the last [`WINDOW_RECORDS`] records. They
//! let the lobby publish a repeated message only once.
//!
//! Owned by [`super::Lobby`]. The content at an offset depends only on the uses in the window before this offset, so
//! replicas that began to read at different offsets agree (see [`super::Bootstrap`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::record::User;

/// A use of an id counts for this many records: a use at offset `o` counts up to the offset `o + WINDOW_RECORDS - 1`.
pub const WINDOW_RECORDS: u64 = 10_000;

/// The id of an account, and the id that a client of this account gave a message.
type Key = (Arc<str>, Arc<str>);

/// The uses of ids within the window. There is at most one for each record, so the window bounds the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repetitions {
    window: u64,
    /// The offset of the last use of each id.
    last_use: BTreeMap<Key, u64>,
    /// All uses, in the order of the log.
    uses: VecDeque<(u64, Key)>,
}

impl Repetitions {
    pub fn new(window: u64) -> Self {
        Repetitions { window, last_use: BTreeMap::new(), uses: VecDeque::new() }
    }

    pub fn window(&self) -> u64 {
        self.window
    }

    /// Forgets the uses that no longer count at `offset`. The lobby calls this for every record, in order. Otherwise
    /// one replica could still have a use that another has forgotten.
    pub fn advance(&mut self, offset: u64) {
        while let Some((used_at, _)) = self.uses.front()
            && used_at.saturating_add(self.window) <= offset
            && let Some((used_at, key)) = self.uses.pop_front()
        {
            if self.last_use.get(&key) == Some(&used_at) {
                self.last_use.remove(&key);
            }
        }
    }

    /// The account of `user` uses `id` at `offset`. True if it has used the id within the window before.
    pub fn add(&mut self, user: &User, id: &Arc<str>, offset: u64) -> bool {
        let key = (user.id.clone(), id.clone());
        self.uses.push_back((offset, key.clone()));
        self.last_use.insert(key, offset).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(id: u8) -> User {
        User { id: id.to_string().into(), username: "Bob".into() }
    }

    fn use_at(repetitions: &mut Repetitions, offset: u64, id: &str) -> bool {
        repetitions.advance(offset);
        repetitions.add(&user(1), &id.into(), offset)
    }

    #[test]
    fn an_id_is_refused_within_the_window_and_a_refused_use_renews_it() {
        let mut repetitions = Repetitions::new(10);
        assert!(!use_at(&mut repetitions, 100, "a"));
        assert!(use_at(&mut repetitions, 109, "a"));
        assert!(use_at(&mut repetitions, 118, "a"));
        assert!(!use_at(&mut repetitions, 128, "a"));
        assert!(!repetitions.add(&user(2), &"a".into(), 128), "another account");
        repetitions.advance(138);
        assert_eq!(repetitions, Repetitions::new(10));
    }

    proptest! {
        /// Agrees with a search through all earlier uses, and keeps no use that is outside the window.
        #[test]
        fn any_uses_are_judged_as_by_a_search_backwards(
            steps in prop::collection::vec((1u64..6, prop::option::of((0u8..3, 0u8..3))), 0..200),
            window in 1u64..30,
        ) {
            let mut repetitions = Repetitions::new(window);
            let mut uses = Vec::new();
            let mut offset = 0;
            for (gap, used) in steps {
                offset += gap;
                repetitions.advance(offset);
                if let Some((account, id)) = used {
                    let counts = |(at, key): &(u64, _)| *key == (account, id) && offset - at < window;
                    let is_repeated = uses.iter().any(counts);
                    prop_assert_eq!(repetitions.add(&user(account), &id.to_string().into(), offset), is_repeated);
                    uses.push((offset, (account, id)));
                }
                let kept = uses.iter().filter(|(at, _)| offset - at < window).count();
                prop_assert_eq!(repetitions.uses.len(), kept);
                prop_assert!(repetitions.last_use.len() <= kept);
            }
        }
    }
}

//! [`FairQueue`]: a bounded queue that is shared fairly between keys (here: addresses).
//!
//! Pure: no I/O, no lock, no clock. Owned by [`super::jobs`].

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A queue in which keys take turns: each [`pop`](FairQueue::pop) takes the oldest item of the next key. So between two
/// items of one key, at most one item of each other key is taken.
///
/// Bounded in total and per key. When it is full, a key with few items displaces the newest item of the key with most,
/// so a few keys cannot keep the others out.
pub(super) struct FairQueue<K, T> {
    items_max: usize,
    items_per_key_max: usize,
    items: usize,
    /// The keys with items, in the order of their turns.
    turns: VecDeque<K>,
    /// The items of each key in `turns`, oldest first. No list is empty.
    waiting: HashMap<K, VecDeque<T>>,
}

/// The result of adding an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Push<T> {
    /// The item is in the queue.
    Queued,
    /// The item is in the queue, and this item of another key was removed.
    Displaced(T),
    /// The queue is full; this is the item.
    Refused(T),
}

impl<K: Eq + Hash + Copy, T> FairQueue<K, T> {
    /// At most `items_max` items (at least 1), and `items_per_key_max` (at least 1) of one key.
    pub(super) fn new(items_max: usize, items_per_key_max: usize) -> Self {
        FairQueue {
            items_max: items_max.max(1),
            items_per_key_max: items_per_key_max.max(1),
            items: 0,
            turns: VecDeque::new(),
            waiting: HashMap::new(),
        }
    }

    pub(super) fn push(&mut self, key: K, item: T) -> Push<T> {
        let own = self.waiting.get(&key).map_or(0, VecDeque::len);
        if own >= self.items_per_key_max {
            return Push::Refused(item);
        }
        let displaced = if self.items < self.items_max { None } else { self.displace(own) };
        if self.items >= self.items_max {
            return Push::Refused(item);
        }
        let waiting = self.waiting.entry(key).or_default();
        if waiting.is_empty() {
            self.turns.push_back(key);
        }
        waiting.push_back(item);
        self.items += 1;
        displaced.map_or(Push::Queued, Push::Displaced)
    }

    /// Takes the oldest item of the key whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let key = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&key)?;
        let item = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        self.items -= 1;
        Some(item)
    }

    /// Removes the newest item of the key with the most items, to make room for an item of a key that has `own` items.
    /// Removes nothing if the new item would give its key more items than the other key keeps.
    fn displace(&mut self, own: usize) -> Option<T> {
        let key = *self.turns.iter().max_by_key(|key| self.waiting.get(key).map_or(0, VecDeque::len))?;
        let longest = self.waiting.get_mut(&key)?;
        // The key has at least 2 items, so one stays, and the key keeps its turn.
        if longest.len() < own + 2 {
            return None;
        }
        self.items -= 1;
        longest.pop_back()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_take_turns() {
        let mut queue = FairQueue::new(10, 5);
        for item in 0..4 {
            assert_eq!(queue.push('a', item), Push::Queued);
        }
        assert_eq!(queue.push('b', 10), Push::Queued);
        assert_eq!(queue.push('c', 20), Push::Queued);
        let order: Vec<i32> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [0, 10, 20, 1, 2, 3]);
    }

    #[test]
    fn each_key_has_a_bound_and_a_full_queue_makes_room_for_others() {
        let mut queue = FairQueue::new(4, 3);
        for item in 0..3 {
            assert_eq!(queue.push('a', item), Push::Queued);
        }
        assert_eq!(queue.push('a', 3), Push::Refused(3));
        assert_eq!(queue.push('b', 10), Push::Queued);
        assert_eq!(queue.push('b', 11), Push::Displaced(2), "a has three and b one");
        assert_eq!(queue.push('b', 12), Push::Refused(12), "both have two");
        // If two keys have equally many items, either may lose one.
        assert!(matches!(queue.push('c', 20), Push::Displaced(1 | 11)));
        assert!(matches!(queue.push('d', 30), Push::Displaced(1 | 11)));
        assert_eq!(queue.push('e', 40), Push::Refused(40), "each has one");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u8),
        Pop,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![3 => (0..6_u8).prop_map(Step::Push), 1 => Just(Step::Pop)];
        proptest::collection::vec(step, 0..300)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_bounds_hold(steps in steps(), items_max in 1..12_usize, per_key_max in 1..6_usize) {
            let mut queue = FairQueue::new(items_max, per_key_max);
            let mut inside: Vec<(u8, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(key) => {
                        let own = inside.iter().filter(|(it, _)| *it == key).count();
                        match queue.push(key, (key, number)) {
                            Push::Queued => inside.push((key, number)),
                            Push::Displaced(item) => {
                                prop_assert_eq!(inside.len(), items_max);
                                prop_assert!(item.0 != key);
                                let at = inside.iter().position(|it| *it == item).expect("an item in the queue");
                                inside.remove(at);
                                inside.push((key, number));
                            }
                            Push::Refused(item) => {
                                prop_assert_eq!(item, (key, number));
                                let longest = (0..6).map(|k| inside.iter().filter(|(it, _)| *it == k).count()).max();
                                prop_assert!(
                                    own >= per_key_max
                                        || (inside.len() == items_max && longest.unwrap_or(0) <= own + 1)
                                );
                            }
                        }
                    }
                    Step::Pop => match queue.pop() {
                        None => prop_assert!(inside.is_empty()),
                        Some(item) => {
                            // The oldest of its key.
                            let at = inside.iter().position(|it| it.0 == item.0).expect("an item of this key");
                            prop_assert_eq!(inside.remove(at), item);
                        }
                    },
                }
                prop_assert!(inside.len() <= items_max);
                for key in 0..6 {
                    prop_assert!(inside.iter().filter(|(it, _)| *it == key).count() <= per_key_max);
                }
            }
            let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(rest.len(), inside.len());
            prop_assert!(queue.turns.is_empty() && queue.waiting.is_empty() && queue.items == 0);
        }

        #[test]
        fn a_new_key_waits_for_one_item_of_each_other_key(steps in steps()) {
            let mut queue = FairQueue::new(40, 20);
            for step in steps {
                match step {
                    Step::Push(key) => drop(queue.push(key, key)),
                    Step::Pop => drop(queue.pop()),
                }
            }
            let others = queue.turns.len();
            prop_assert!(!matches!(queue.push(99, 99), Push::Refused(_)));
            let before = std::iter::from_fn(|| queue.pop()).take_while(|item| *item != 99).count();
            prop_assert_eq!(before, others);
        }
    }
}

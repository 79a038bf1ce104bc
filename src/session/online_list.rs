//! [`OnlineList`]: the names of the users online, encoded as JSON in blocks. A snapshot encodes only the blocks that
//! have changed since the last one. Owned by the log thread; its snapshots go to the fan-out.
//!
//! When 10,000 users join at once, each gets a different list. Encoding each list anew would produce a gigabyte of
//! JSON.

use std::collections::HashMap;
use std::sync::Arc;

use super::protocol;

/// The number of names in one block. Encoding a block takes microseconds, and the list of 10,000 users has about 80
/// blocks, few enough for one write.
const BLOCK_NAMES: usize = 128;

/// The names of the users online, also in encoded blocks.
#[derive(Debug, Default)]
pub struct OnlineList {
    names: Vec<Arc<str>>,
    indices: HashMap<Arc<str>, usize>,
    /// Block `b` has `names[b * BLOCK_NAMES..]`. `None`: changed since it was encoded.
    blocks: Vec<Option<Arc<[u8]>>>,
}

impl OnlineList {
    /// Adds a name. Does nothing if the list has the name already.
    pub fn insert(&mut self, name: &Arc<str>) {
        if self.indices.contains_key(name) {
            return;
        }
        let index = self.names.len();
        self.indices.insert(name.clone(), index);
        self.names.push(name.clone());
        self.touch(index);
    }

    /// Removes a name. The last name moves to the free index, so that all blocks but the last stay full.
    pub fn remove(&mut self, name: &str) {
        let Some(index) = self.indices.remove(name) else { return };
        self.names.swap_remove(index);
        if let Some(moved) = self.names.get(index) {
            self.indices.insert(moved.clone(), index);
            self.touch(index);
        }
        let last = self.names.len();
        self.blocks.truncate(last.div_ceil(BLOCK_NAMES));
        // If the moved name was alone in the last block, removing the block removed the name too.
        if !last.is_multiple_of(BLOCK_NAMES) {
            self.touch(last);
        }
    }

    /// The number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The current list: JSON strings with commas between them, in parts that snapshots share.
    pub fn snapshot(&mut self) -> Vec<Arc<[u8]>> {
        let names = &self.names;
        self.blocks
            .iter_mut()
            .enumerate()
            .map(|(number, block)| block.get_or_insert_with(|| encode(names, number)).clone())
            .collect()
    }

    fn touch(&mut self, index: usize) {
        let number = index / BLOCK_NAMES;
        if number == self.blocks.len() {
            self.blocks.push(None);
        } else if let Some(block) = self.blocks.get_mut(number) {
            *block = None;
        }
    }
}

fn encode(names: &[Arc<str>], block: usize) -> Arc<[u8]> {
    let mut bytes = Vec::with_capacity(BLOCK_NAMES * 16);
    for (index, name) in names.iter().enumerate().skip(block * BLOCK_NAMES).take(BLOCK_NAMES) {
        if index > 0 {
            bytes.push(b',');
        }
        protocol::put_name(name, &mut bytes);
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn names(list: &mut OnlineList) -> BTreeSet<String> {
        let text = format!("[{}]", String::from_utf8(list.snapshot().concat()).unwrap());
        let names: Vec<String> = serde_json::from_str(&text).unwrap();
        let set: BTreeSet<String> = names.iter().cloned().collect();
        assert_eq!(set.len(), names.len(), "a name is in the list twice");
        set
    }

    fn name(number: u16) -> Arc<str> {
        format!("n\"{number}").into()
    }

    proptest! {
        #[test]
        fn any_sequence_of_changes_gives_the_same_names_as_a_set(
            changes in proptest::collection::vec((any::<bool>(), 0u16..400, any::<bool>()), 0..1500)
        ) {
            let mut list = OnlineList::default();
            let mut expected = BTreeSet::new();
            for (joins, number, look) in changes {
                if joins {
                    list.insert(&name(number));
                    expected.insert(name(number).to_string());
                } else {
                    list.remove(&name(number));
                    expected.remove(&*name(number));
                }
                if look {
                    prop_assert_eq!(&names(&mut list), &expected);
                }
            }
            prop_assert_eq!(&names(&mut list), &expected);
            prop_assert_eq!(list.len(), expected.len());
        }
    }

    #[test]
    fn a_snapshot_shares_what_did_not_change() {
        let mut list = OnlineList::default();
        (0..1000).for_each(|number| list.insert(&name(number)));
        let before = list.snapshot();
        list.insert(&name(1000));
        let after = list.snapshot();
        let shared = before.iter().zip(&after).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, before.len() - 1);
    }
}

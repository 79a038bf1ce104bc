//! [`Presence`]: joins and leaves that follow each other, shown in one line. A burst of 2,000 joins is one line, too. Pure.

use std::collections::HashMap;

use crate::text::terminal::printable;

/// Names in one group at most, so that a group stays small.
const NAMES_MAX: usize = 5_000;
/// Names that the line has before "others".
const NAMES_SHOWN: usize = 3;

/// What a user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Did {
    Join,
    Leave,
}

/// A group.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// In the order of their first change.
    names: Vec<String>,
    /// The first and the last thing that each user did.
    changes: HashMap<String, (Did, Did)>,
}

impl Presence {
    pub(super) fn has_room(&self) -> bool {
        self.names.len() < NAMES_MAX
    }

    pub(super) fn add(&mut self, name: &str, did: Did) {
        match self.changes.get_mut(name) {
            Some((_, last)) => *last = did,
            None => {
                self.names.push(name.to_owned());
                self.changes.insert(name.to_owned(), (did, did));
            }
        }
    }

    /// The line, for a terminal.
    pub(super) fn line(&self) -> String {
        let kinds = [
            (Did::Join, Did::Join, "joined"),
            (Did::Leave, Did::Leave, "left"),
            (Did::Join, Did::Leave, "joined and left"),
            (Did::Leave, Did::Join, "left and came back"),
        ];
        let parts = kinds.iter().filter_map(|(first, last, did)| {
            let is_of_kind = |name: &&String| self.changes.get(*name) == Some(&(*first, *last));
            let mut names: Vec<String> =
                self.names.iter().filter(is_of_kind).take(NAMES_SHOWN).map(|name| printable(name)).collect();
            match self.names.iter().filter(is_of_kind).count() - names.len() {
                0 => {}
                1 => names.push("1 other".to_owned()),
                others => names.push(format!("{others} others")),
            }
            let last = names.pop()?;
            let list = if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) };
            Some(format!("{list} {did}"))
        });
        parts.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_has_all_changes() {
        let mut group = Presence::default();
        for number in 0..2_000 {
            group.add(&format!("User {number}"), Did::Join);
        }
        group.add("Ann", Did::Leave);
        group.add("User 7", Did::Leave);
        group.add("\u{1b}Bob", Did::Leave);
        group.add("\u{1b}Bob", Did::Join);
        let line =
            "User 0, User 1, User 2 and 1996 others joined; Ann left; User 7 joined and left; ␛Bob left and came back";
        assert_eq!(group.line(), line);
    }

    #[test]
    fn a_group_is_bounded() {
        let mut group = Presence::default();
        (0..NAMES_MAX).for_each(|number| group.add(&number.to_string(), Did::Join));
        assert!(!group.has_room());
    }
}

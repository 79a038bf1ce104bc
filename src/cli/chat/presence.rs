//! [`Presence`]: joins and leaves that follow each other, shown in one line. A burst of 2,000 joins is one line, too. Pure.

use std::collections::HashMap;

use crate::text::terminal::printable;

/// Names in one group at most, so that a group stays small.
const NAMES_MAX: usize = 5_000;
/// Names that the line has before "others".
const NAMES_SHOWN: usize = 3;

/// Whether a user joined or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Join,
    Leave,
}

/// A group.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// In the order of their first change.
    names: Vec<String>,
    /// The first and the last change of each user.
    changes: HashMap<String, (ChangeKind, ChangeKind)>,
}

impl Presence {
    pub(super) fn has_room(&self) -> bool {
        self.names.len() < NAMES_MAX
    }

    pub(super) fn add(&mut self, name: &str, kind: ChangeKind) {
        match self.changes.get_mut(name) {
            Some((_, last)) => *last = kind,
            None => {
                self.names.push(name.to_owned());
                self.changes.insert(name.to_owned(), (kind, kind));
            }
        }
    }

    /// The line, for a terminal.
    pub(super) fn line(&self) -> String {
        let kinds = [
            (ChangeKind::Join, ChangeKind::Join, "joined"),
            (ChangeKind::Leave, ChangeKind::Leave, "left"),
            (ChangeKind::Join, ChangeKind::Leave, "joined and left"),
            (ChangeKind::Leave, ChangeKind::Join, "left and came back"),
        ];
        let parts = kinds.iter().filter_map(|(first, last, verb)| {
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
            Some(format!("{list} {verb}"))
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
            group.add(&format!("User {number}"), ChangeKind::Join);
        }
        group.add("Ann", ChangeKind::Leave);
        group.add("User 7", ChangeKind::Leave);
        group.add("\u{1b}Bob", ChangeKind::Leave);
        group.add("\u{1b}Bob", ChangeKind::Join);
        let line =
            "User 0, User 1, User 2 and 1996 others joined; Ann left; User 7 joined and left; ␛Bob left and came back";
        assert_eq!(group.line(), line);
    }

    #[test]
    fn a_group_is_bounded() {
        let mut group = Presence::default();
        (0..NAMES_MAX).for_each(|number| group.add(&number.to_string(), ChangeKind::Join));
        assert!(!group.has_room());
    }
}

//! [`Users`]: who is online, in the order of the list. Pure.

use crate::text::fold_case;
use crate::text::terminal::printable;

/// A user in the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct User {
    key: String,
    name: String,
}

impl User {
    fn new(name: String) -> Self {
        User { key: fold_case(&name), name }
    }

    pub(super) fn is(&self, name: Option<&str>) -> bool {
        Some(self.name.as_str()) == name
    }

    /// The name, for a terminal.
    pub(super) fn shown(&self) -> String {
        printable(&self.name)
    }
}

/// The list, sorted without regard to case.
#[derive(Debug, Default)]
pub(super) struct Users(Vec<User>);

impl Users {
    pub(super) fn replace(&mut self, names: Vec<String>) {
        self.0 = names.into_iter().map(User::new).collect();
        self.0.sort_unstable();
        self.0.dedup();
    }

    pub(super) fn add(&mut self, name: &str) {
        let user = User::new(name.to_owned());
        if let Err(at) = self.0.binary_search(&user) {
            self.0.insert(at, user);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Ok(at) = self.0.binary_search(&User::new(name.to_owned())) {
            self.0.remove(at);
        }
    }

    pub(super) fn as_slice(&self) -> &[User] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_has_each_user_once() {
        let mut users = Users::default();
        users.replace(["bob", "Ann", "ann", "Cid", "Ann"].map(str::to_owned).to_vec());
        users.add("ben");
        users.add("Cid");
        users.remove("bob");
        users.remove("nobody");
        let names: Vec<String> = users.as_slice().iter().map(User::shown).collect();
        assert_eq!(names, ["Ann", "ann", "ben", "Cid"]);
    }
}

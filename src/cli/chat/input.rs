//! [`Input`]: the line in which the user writes. Pure.

use crate::text::terminal::graphemes;

/// The longest text that is kept. The server accepts messages of 16 KiB.
const BYTES_MAX: usize = 16 * 1024;
/// The messages that can be recalled.
const RECALLED_MAX: usize = 100;

/// The text, and where the cursor is.
#[derive(Debug, Default)]
pub(super) struct Input {
    text: String,
    /// A byte index, at the start of a grapheme or at the end.
    cursor: usize,
    /// What was sent, the last one at the end.
    sent: Vec<String>,
    /// Which of them is shown.
    recalled: Option<usize>,
}

impl Input {
    /// The text before the cursor, and behind it.
    pub(super) fn parts(&self) -> (&str, &str) {
        self.text.split_at(self.cursor)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Inserts a text at the cursor, if there is room.
    pub(super) fn insert(&mut self, text: &str) {
        if self.text.len() + text.len() <= BYTES_MAX {
            self.text.insert_str(self.cursor, text);
            self.cursor += text.len();
        }
    }

    /// Takes the text, to send it.
    pub(super) fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        (self.cursor, self.recalled) = (0, None);
        if self.sent.len() == RECALLED_MAX {
            self.sent.remove(0);
        }
        self.sent.push(text.clone());
        text
    }

    /// Puts a text back that could not be sent.
    pub(super) fn put_back(&mut self, text: String) {
        self.sent.pop();
        self.set(text);
    }

    /// Shows the message before (or after) the one that is shown.
    pub(super) fn recall(&mut self, is_earlier: bool) {
        let count = self.sent.len();
        let shown = self.recalled.unwrap_or(count);
        let next = if is_earlier { shown.saturating_sub(1) } else { shown + 1 };
        match self.sent.get(next).cloned() {
            Some(text) => {
                self.set(text);
                self.recalled = Some(next);
            }
            None if self.recalled.is_some() => self.set(String::new()),
            None => {}
        }
    }

    pub(super) fn left(&mut self) {
        self.cursor -= self.length_before();
    }

    pub(super) fn right(&mut self) {
        self.cursor += self.length_behind();
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    pub(super) fn delete_before(&mut self) {
        let length = self.length_before();
        self.text.replace_range(self.cursor - length..self.cursor, "");
        self.cursor -= length;
    }

    pub(super) fn delete_behind(&mut self) {
        self.text.replace_range(self.cursor..self.cursor + self.length_behind(), "");
    }

    pub(super) fn delete_to_start(&mut self) {
        self.text.replace_range(..self.cursor, "");
        self.cursor = 0;
    }

    pub(super) fn delete_to_end(&mut self) {
        self.text.truncate(self.cursor);
    }

    pub(super) fn delete_word(&mut self) {
        let before = self.text[..self.cursor].trim_end();
        let start = before
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    fn set(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
        self.recalled = None;
    }

    fn length_before(&self) -> usize {
        graphemes(self.parts().0).next_back().map_or(0, str::len)
    }

    fn length_behind(&self) -> usize {
        graphemes(self.parts().1).next().map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_edited_by_graphemes() {
        let mut input = Input::default();
        input.insert("ae\u{301}👨\u{200D}👩b");
        input.left();
        input.left();
        assert_eq!(input.parts(), ("ae\u{301}", "👨\u{200D}👩b"));
        input.delete_before();
        input.delete_behind();
        assert_eq!(input.parts(), ("a", "b"));
        input.home();
        input.left();
        input.delete_before();
        input.right();
        input.insert("x y  ");
        input.delete_word();
        assert_eq!(input.parts(), ("ax ", "b"));
        input.delete_word();
        input.end();
        input.right();
        input.delete_behind();
        input.delete_to_start();
        assert!(input.is_empty());
        input.insert("日本 ");
        input.left();
        input.delete_to_end();
        assert_eq!(input.parts(), ("日本", ""));
    }

    #[test]
    fn sent_messages_are_recalled() {
        let mut input = Input::default();
        input.recall(true);
        for text in ["one", "two"] {
            input.insert(text);
            assert_eq!(input.take(), text);
        }
        for (is_earlier, text) in
            [(true, "two"), (true, "one"), (true, "one"), (false, "two"), (false, ""), (true, "two")]
        {
            input.recall(is_earlier);
            assert_eq!(input.parts().0, text);
        }
        let text = input.take();
        input.put_back(text);
        assert_eq!(input.parts(), ("two", ""));
    }

    #[test]
    fn the_length_is_bounded() {
        let mut input = Input::default();
        input.insert(&"x".repeat(BYTES_MAX));
        input.insert("y");
        assert_eq!(input.parts().0.len(), BYTES_MAX);
    }
}

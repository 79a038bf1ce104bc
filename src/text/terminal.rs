//! Texts of other users in a terminal: without characters that a terminal obeys or that hide what is written, and measured
//! in columns. Pure.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use super::{is_invisible, joiners};

/// What a tab is replaced by: its width in a terminal depends on its column.
const TAB: &str = "    ";
/// The first of the characters that show control characters; the one for U+0000.
const PICTURES: u32 = 0x2400;

/// A text that a terminal shows on one line and does not obey: control characters are replaced by visible ones, and
/// invisible or direction-changing characters are removed unless a script or an emoji needs them.
#[must_use]
pub(crate) fn printable(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut printable = String::with_capacity(text.len());
    for (at, c) in chars.iter().enumerate() {
        match c {
            '\t' => printable.push_str(TAB),
            '\u{7F}' => printable.push('\u{2421}'),
            c if c.is_control() => printable.push(picture(*c)),
            c if is_invisible(*c) && !joiners::is_needed(&chars, at) => {}
            c => printable.push(*c),
        }
    }
    printable
}

/// The controls of ASCII have pictures, those behind them have none.
fn picture(control: char) -> char {
    let picture = if control.is_ascii() { char::from_u32(PICTURES + u32::from(control)) } else { None };
    picture.unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The columns that a text takes.
#[must_use]
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The characters as a reader counts them, such as a letter with its accents or an emoji of several code points.
pub(crate) fn graphemes(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.graphemes(true)
}

/// Breaks a line into lines of at most `columns` columns, at the spaces behind a word if possible. The spaces at which a line
/// breaks are not shown. A character that is wider than `columns` has a line of its own. There is at least one line.
#[must_use]
pub(crate) fn wrap(line: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    let mut taken = 0;
    for grapheme in graphemes(line) {
        let next = width(grapheme);
        while taken + next > columns && !current.is_empty() {
            // Spaces at the start are an indentation, and no place for a break.
            let space =
                current.rfind(' ').filter(|at| grapheme != " " && !current[..*at].trim_end_matches(' ').is_empty());
            let rest = space.map_or_else(String::new, |at| current.split_off(at + 1));
            lines.push(current.trim_end_matches(' ').to_owned());
            current = rest;
            taken = width(&current);
        }
        if grapheme == " " && current.is_empty() && !lines.is_empty() {
            continue;
        }
        current.push_str(grapheme);
        taken += next;
    }
    if !current.is_empty() || lines.is_empty() {
        lines.push(current);
    }
    lines
}

/// The beginning of a text, at most `columns` wide, with an ellipsis if something is left out.
#[must_use]
pub(crate) fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut taken = 1;
    for grapheme in graphemes(text) {
        taken += width(grapheme);
        if taken > columns {
            break;
        }
        short.push_str(grapheme);
    }
    short.push_str(if columns > 0 { "…" } else { "" });
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_replaced() {
        for (text, shown) in [
            ("\u{1b}[31mred\u{1b}[0m", "␛[31mred␛[0m"),
            ("\u{9b}2J\u{7}\u{8}\u{7f}\r\n\0", "�2J␇␈␡␍␊␀"),
            ("a\u{202E}b\u{2066}c\u{200F}d\u{FEFF}e\u{2028}f", "abcdef"),
            ("a\tb", "a    b"),
            ("👨\u{200D}👩 ❤\u{FE0F} علی\u{200C}رضا", "👨\u{200D}👩 ❤\u{FE0F} علی\u{200C}رضا"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn lines_break_at_spaces_and_count_columns() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("one two", 7), ["one two"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("abcd ef", 4), ["abcd", "ef"]);
        assert_eq!(wrap(" bcd日", 4), [" bcd", "日"]);
        assert_eq!(wrap("  a bcde", 5), ["  a", "bcde"]);
        assert_eq!(wrap("      a", 4), ["", "a"]);
        assert_eq!(width("日e\u{301}🦀"), 5);
    }

    #[test]
    fn a_long_text_is_shortened() {
        assert_eq!(shorten("Ann", 3), "Ann");
        assert_eq!(shorten("Anna", 3), "An…");
        assert_eq!(shorten("日本語", 4), "日…");
        assert_eq!(shorten("Ann", 0), "");
    }

    proptest! {
        #[test]
        fn lines_are_not_too_wide_and_have_all_characters(text in "[ a日]{0,20}", columns in 2usize..8) {
            let lines = wrap(&text, columns);
            prop_assert!(lines.iter().all(|line| width(line) <= columns), "{lines:?}");
            prop_assert!(lines[1..].iter().all(|line| !line.is_empty()), "{lines:?}");
            let without_spaces = |text: &str| text.replace(' ', "");
            prop_assert_eq!(without_spaces(&lines.concat()), without_spaces(&text));
        }

        #[test]
        fn any_text_is_printable_and_wrapped(text in any::<String>(), columns in 2usize..40) {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(char::is_control));
            for line in wrap(&shown, columns) {
                prop_assert!(width(&line) <= columns.max(graphemes(&line).map(width).max().unwrap_or(0)));
            }
            prop_assert!(width(&shorten(&shown, columns)) <= columns);
        }
    }
}

//! Where invisible characters are needed: joiners in the scripts that use them (RFC 5892, appendix A.1 and A.2), and
//! joiners, variation selectors and tags in emoji (UTS 51) and in some other scripts. Pure.

use unicode_joining_type::{JoiningType, get_joining_type};
use unicode_normalization::char::canonical_combining_class;
use unicode_properties::UnicodeEmoji;

const ZERO_WIDTH_NON_JOINER: char = '\u{200C}';
const ZERO_WIDTH_JOINER: char = '\u{200D}';
/// Shows the character before it as text, or as an emoji.
const TEXT_STYLE: char = '\u{FE0E}';
const EMOJI_STYLE: char = '\u{FE0F}';
const KEYCAP: char = '\u{20E3}';
/// Followed by tags, it is the flag of a region.
const BLACK_FLAG: char = '\u{1F3F4}';
const LAST_TAG: char = '\u{E007F}';
/// The combining class of the characters that suppress a vowel.
const VIRAMA: u8 = 9;

/// Whether the invisible character at this index is needed there.
pub(super) fn is_needed(text: &[char], at: usize) -> bool {
    let Some((before, [c, after @ ..])) = text.split_at_checked(at) else { return false };
    match *c {
        ZERO_WIDTH_NON_JOINER => follows_virama(before) || is_between_joining_letters(before, after),
        ZERO_WIDTH_JOINER => follows_virama(before) || is_between_emoji(before, after),
        TEXT_STYLE | EMOJI_STYLE => has_styles(before, after),
        '\u{FE00}'..='\u{FE0D}' | '\u{E0100}'..='\u{E01EF}' => before.last().is_some_and(|c| has_variants(*c)),
        '\u{180B}'..='\u{180F}' => before.last().is_some_and(|c| is_mongolian(*c)),
        '\u{E0020}'..='\u{E007F}' => is_in_flag(before, *c, after),
        _ => false,
    }
}

fn follows_virama(before: &[char]) -> bool {
    before.last().is_some_and(|c| canonical_combining_class(*c) == VIRAMA)
}

/// The letters on both sides would be joined otherwise, as in Persian.
fn is_between_joining_letters(before: &[char], after: &[char]) -> bool {
    let is_letter = |joining: &JoiningType| *joining != JoiningType::Transparent;
    let left = before.iter().rev().map(|c| get_joining_type(*c)).find(is_letter);
    let right = after.iter().map(|c| get_joining_type(*c)).find(is_letter);
    matches!(left, Some(JoiningType::LeftJoining | JoiningType::DualJoining))
        && matches!(right, Some(JoiningType::RightJoining | JoiningType::DualJoining))
}

/// The emoji on both sides are one emoji, such as a family. The style of the left one may be given.
fn is_between_emoji(before: &[char], after: &[char]) -> bool {
    let before = before.strip_suffix(&[EMOJI_STYLE]).unwrap_or(before);
    let is_emoji = |c: Option<&char>| c.is_some_and(|c| !c.is_ascii() && c.is_emoji_char());
    is_emoji(before.last()) && is_emoji(after.first())
}

/// A digit has a style only as the label of a key.
fn has_styles(before: &[char], after: &[char]) -> bool {
    before.last().is_some_and(|c| c.is_emoji_char() && (!c.is_ascii() || after.first() == Some(&KEYCAP)))
}

/// Ideographs have variants, and letters of Myanmar that other languages write differently.
fn has_variants(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFD}')
        || matches!(c, '\u{1000}'..='\u{109F}' | '\u{AA60}'..='\u{AA7F}')
}

fn is_mongolian(c: char) -> bool {
    matches!(c, '\u{1820}'..='\u{18AA}')
}

/// A black flag, then the code of a region in 3 to 6 tags, then the last tag: England, Scotland and Wales.
fn is_in_flag(before: &[char], tag: char, after: &[char]) -> bool {
    let is_code = |c: &&char| matches!(c, '\u{E0030}'..='\u{E0039}' | '\u{E0061}'..='\u{E007A}');
    let left = before.iter().rev().take_while(is_code).count();
    let right = if tag == LAST_TAG { 0 } else { 1 + after.iter().take_while(is_code).count() };
    let ends = tag == LAST_TAG || (is_code(&&tag) && after.get(right - 1) == Some(&LAST_TAG));
    before.iter().rev().nth(left) == Some(&BLACK_FLAG) && ends && (3..=6).contains(&(left + right))
}

#[cfg(test)]
mod tests {
    use super::super::has_hidden_character;

    #[test]
    fn joiners_and_selectors_are_allowed_where_they_are_needed() {
        for good in [
            "علی\u{200C}رضا",
            "نمی\u{200C}خواهم",
            "क्\u{200D}ष",
            "ශ්\u{200D}රී",
            "क्\u{200C}ष",
            "👨\u{200D}👩\u{200D}👧\u{200D}👦",
            "👩🏽\u{200D}🚀",
            "🏳\u{FE0F}\u{200D}🌈",
            "❤\u{FE0F}",
            "Ann ☺\u{FE0E}",
            "1\u{FE0F}\u{20E3}",
            "葛\u{E0100}城",
            "ᠨᠢ\u{180B}ᠭ",
            "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
        ] {
            assert!(!has_hidden_character(good), "{good}");
        }
    }

    #[test]
    fn joiners_and_selectors_are_refused_elsewhere() {
        for bad in [
            "Bo\u{200C}b",
            "Bo\u{200D}b",
            "\u{200C}علی",
            "علی\u{200C}",
            "عل\u{200C}\u{200C}ی x\u{200D}",
            "دا\u{200C}دا",
            "🦀\u{200D}",
            "\u{200D}🦀",
            "🦀\u{200D}a",
            "1\u{200D}2",
            "1\u{FE0F}",
            "a\u{FE0F}",
            "❤\u{FE0F}\u{FE0F}",
            "Bob\u{E0100}",
            "a\u{180B}",
            "🏴\u{E0067}\u{E007F}x",
            "🏴\u{E0067}\u{E0062}\u{E0065}",
            "Bob\u{E0067}",
            "🦀\u{E0067}\u{E0062}\u{E0065}\u{E007F}",
        ] {
            assert!(has_hidden_character(bad), "{bad:?}");
        }
    }
}

//! Unicode: which characters cannot be seen, when two names look the same, and the normal forms of texts. Pure.
//!
//! Used by the rules for accounts, by the check of chat messages, and by the terminal client. Only this module uses the
//! crates for Unicode.

mod joiners;
pub(crate) mod terminal;

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_security::confusable_detection;

/// The normal form C of a text: letters with accents are single characters where Unicode has them. Keyboards and systems
/// differ in that, and nobody can see the difference.
#[must_use]
pub(crate) fn nfc(text: &str) -> Cow<'_, str> {
    if is_nfc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
}

/// A password as it is hashed: every kind of space is U+0020, and the text is in normal form C. These are the mappings of
/// the profile `OpaqueString` (RFC 8265, section 4.2.2).
#[must_use]
pub(crate) fn opaque_string(password: &str) -> Cow<'_, str> {
    let is_other_space = |c: char| c != ' ' && c.general_category() == GeneralCategory::SpaceSeparator;
    if is_nfc(password) && !password.contains(is_other_space) {
        return Cow::Borrowed(password);
    }
    Cow::Owned(password.chars().map(|c| if is_other_space(c) { ' ' } else { c }).nfc().collect())
}

/// First to upper case, then to lower case. Lower case alone would keep letters apart that read the same: a final and an
/// inner sigma, `ß` and `ss`, a dotless and a dotted `i`.
#[must_use]
pub(crate) fn fold_case(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// Two names that look the same, or differ only in a way that few readers notice, have the same skeleton (UTS 39, section
/// 4): letters of other scripts with the same shape, `1` and `l`, compatibility forms, invisible characters, kinds of
/// spaces. Not for display.
#[must_use]
pub(crate) fn skeleton(name: &str) -> String {
    let visible: String = name.nfkc().filter(|c| !is_invisible(*c)).collect();
    let visible = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    // The shapes come before the case: a capital `I` looks like `l`, and a small `i` does not.
    let shape: String = confusable_detection::skeleton(&visible).collect();
    fold_case(&shape).nfc().collect()
}

/// Whether nothing of a text can be seen.
#[must_use]
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c.is_control() || is_invisible(c))
}

/// Whether a text has an invisible or direction-changing character at a place where no script and no emoji needs it.
#[must_use]
pub(crate) fn has_hidden_character(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    chars.iter().enumerate().any(|(at, c)| is_invisible(*c) && !joiners::is_needed(&chars, at))
}

/// Whether a character is invisible, or changes how its neighbours are shown: the categories of format characters (with
/// the bidirectional controls), line separators and paragraph separators, and the characters of [`is_filler`].
#[must_use]
pub(crate) fn is_invisible(c: char) -> bool {
    use GeneralCategory::{Format, LineSeparator, ParagraphSeparator};
    matches!(c.general_category(), Format | LineSeparator | ParagraphSeparator) || is_filler(c)
}

/// The characters with Unicode's property `Default_Ignorable_Code_Point` that are not format characters (joiners, fillers,
/// variation selectors, unassigned ones), and the blank braille pattern.
fn is_filler(c: char) -> bool {
    matches!(c,
        '\u{034F}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180D}' | '\u{180F}' | '\u{2065}'
        | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn composed_and_decomposed_texts_become_equal() {
        assert_eq!(nfc("Jose\u{301}"), "José");
        assert!(matches!(nfc("José 日本語 🦀"), Cow::Borrowed(_)));
        assert_eq!(opaque_string("pa\u{A0}ss\u{3000}Jose\u{301}"), "pa ss José");
        assert_eq!(opaque_string("\u{1d5}\u{308}"), opaque_string("U\u{308}\u{304}\u{308}"));
        assert_eq!(opaque_string("ﬁ Ａ"), "ﬁ Ａ", "compatibility forms stay apart");
        assert!(matches!(opaque_string("correct horse\tbattery"), Cow::Borrowed(_)));
    }

    #[test]
    fn names_that_look_the_same_have_one_skeleton() {
        for (one, other) in [
            ("José", "Jose\u{301}"),
            ("Bob", "Вob"),
            ("BOB", "ВОВ"),
            ("paypal", "раураl"),
            ("Igor", "lgor"),
            ("Bob1", "Bobl"),
            ("O0", "OO"),
            ("ＢＯＢ", "BOB"),
            ("Ａnn", "ann"),
            ("ﬁona", "fiona"),
            ("User  Name", "User\u{A0}Name"),
            ("علی\u{200C}رضا", "علیرضا"),
            ("❤\u{FE0F}", "❤"),
            ("Straße", "STRASSE"),
        ] {
            assert_eq!(skeleton(one), skeleton(other), "{one} {other}");
        }
        for (one, other) in
            [("Bob", "Rob"), ("Eva", "Éva"), ("Ann", "Anna"), ("User Name", "UserName"), ("日本", "日木")]
        {
            assert_ne!(skeleton(one), skeleton(other), "{one} {other}");
        }
    }

    #[test]
    fn texts_of_blanks_only_are_found() {
        for blank in [
            "",
            " ",
            "\t\r\n",
            "\u{200B}",
            "\u{3000}\u{2800}",
            "\u{FEFF} \u{202E}",
            "\u{3164}",
            "\u{200D}\u{FE0F}",
            "\u{7}",
            "\u{E0041}",
        ] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for text in [".", " a ", "\u{200B}a", "🦀", "\u{301}", "0"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_all_forms(text in "\\PC{0,80}") {
            let (normal, opaque) = (nfc(&text), opaque_string(&text));
            prop_assert_eq!(nfc(&normal), &*normal);
            prop_assert_eq!(opaque_string(&opaque), &*opaque);
            prop_assert_eq!(skeleton(&text), skeleton(&nfc(&text)));
            let _ = (is_blank(&text), has_hidden_character(&text));
        }
    }
}

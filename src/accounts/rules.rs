//! The rules for emails, usernames and passwords, and when two emails or usernames count as equal. Pure.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::error::AccountError;

/// Characters (Unicode scalar values) of an email.
const EMAIL_CHARS: std::ops::RangeInclusive<usize> = 3..=254;
/// Characters of a username.
const USERNAME_CHARS: std::ops::RangeInclusive<usize> = 1..=64;
/// Characters of a password.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;

/// Checks an email: 3 to 254 characters, exactly one `@` with text on both sides, no whitespace, no control or
/// invisible characters. Trims nothing, and does not check that the address exists.
///
/// # Errors
/// [`AccountError::InvalidField`] with the broken rule.
pub(crate) fn check_email(email: &str) -> Result<(), AccountError> {
    if !EMAIL_CHARS.contains(&email.chars().count()) {
        return Err(invalid("email", "email must have 3 to 254 characters"));
    }
    if email.chars().any(|c| c.is_whitespace() || c.is_control() || is_invisible(c)) {
        return Err(invalid("email", "email must not contain spaces, control or invisible characters"));
    }
    match email.split_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !domain.contains('@') => Ok(()),
        _ => Err(invalid("email", "email must look like name@example.com, with exactly one @")),
    }
}

/// Checks a username: 1 to 64 characters, no control characters, no characters that are invisible or change the
/// direction of text, no whitespace at either end.
///
/// # Errors
/// [`AccountError::InvalidField`] with the broken rule.
pub(crate) fn check_username(username: &str) -> Result<(), AccountError> {
    if !USERNAME_CHARS.contains(&username.chars().count()) {
        return Err(invalid("username", "username must have 1 to 64 characters"));
    }
    if username.chars().any(char::is_control) {
        return Err(invalid("username", "username must not contain control characters"));
    }
    if username.chars().any(is_invisible) {
        return Err(invalid("username", "username must not contain invisible or direction-changing characters"));
    }
    if username.trim() != username {
        return Err(invalid("username", "username must not begin or end with a space"));
    }
    Ok(())
}

/// Checks a password: 8 to 128 characters, no NUL.
///
/// # Errors
/// [`AccountError::InvalidField`] with the broken rule; never contains the password.
pub(crate) fn check_password(password: &str) -> Result<(), AccountError> {
    // Counting stops early, because the text may be as long as a request body.
    if !PASSWORD_CHARS.contains(&password.chars().take(PASSWORD_CHARS.end() + 1).count()) {
        return Err(invalid("password", "password must have 8 to 128 characters"));
    }
    if password.contains('\0') {
        return Err(invalid("password", "password must not contain NUL"));
    }
    Ok(())
}

/// Two emails that differ only in case have the same key.
#[must_use]
pub fn email_key(email: &str) -> String {
    fold_case(email)
}

/// Two usernames that differ only in case, or in the kind and number of spaces, have the same key.
#[must_use]
pub fn username_key(username: &str) -> String {
    fold_case(&username.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// First to upper case, then to lower case. Lower case alone would keep letters apart that read the same: a final and
/// an inner sigma, `ß` and `ss`, a dotless and a dotted `i`.
fn fold_case(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

fn invalid(field: &'static str, message: &str) -> AccountError {
    AccountError::InvalidField { field, message: message.to_owned() }
}

/// Whether a character is invisible, or changes how its neighbours are shown: the categories of format characters (with
/// the bidirectional controls), line separators and paragraph separators, and the characters of [`is_blank`].
fn is_invisible(c: char) -> bool {
    use GeneralCategory::{Format, LineSeparator, ParagraphSeparator};
    matches!(c.general_category(), Format | LineSeparator | ParagraphSeparator) || is_blank(c)
}

/// The characters with Unicode's property `Default_Ignorable_Code_Point` that are not format characters (joiners,
/// fillers, variation selectors, unassigned ones), and the blank braille pattern.
fn is_blank(c: char) -> bool {
    matches!(c,
        '\u{034F}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180D}' | '\u{180F}' | '\u{2065}'
        | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(result: Result<(), AccountError>) -> Option<&'static str> {
        match result {
            Err(AccountError::InvalidField { field, .. }) => Some(field),
            _ => None,
        }
    }

    #[test]
    fn emails() {
        for good in ["a@b", "Bob.Smith+x@example.com", "bøb@exämple.org", &format!("{}@b", "a".repeat(252))] {
            assert_eq!(check_email(good), Ok(()), "{good:?}");
        }
        let long = format!("{}@b", "a".repeat(253));
        for bad in ["", "a@", "@b", "a@b@c", "ab c@d", " a@b", "a@b\n", "a\0@b", "abc", "a@\u{200B}b", &long] {
            assert_eq!(field(check_email(bad)), Some("email"), "{bad:?}");
        }
    }

    #[test]
    fn usernames() {
        for good in ["B", "User Name", "Łukasz", "日本語", "<b>x</b>", "🦀", "नमस्ते", &"x".repeat(64), &"🦀".repeat(64)]
        {
            assert_eq!(check_username(good), Ok(()), "{good:?}");
        }
        let long = "x".repeat(65);
        for bad in [
            "",
            " ",
            "\u{3000}",
            " Bob",
            "Bob ",
            "Bo\tb",
            "Bo\nb",
            "Bo\0b",
            "Bo\u{7f}b",
            "Bo\u{85}b",
            "Bo\u{202E}b",
            "Bo\u{2066}b",
            "Bo\u{200B}b",
            "Bo\u{200D}b",
            "Bob\u{FEFF}",
            "Bo\u{AD}b",
            "\u{3164}",
            "\u{2800}",
            "Bo\u{2028}b",
            "Bob\u{E0041}",
            "Bob\u{FE0F}",
            &long,
        ] {
            assert_eq!(field(check_username(bad)), Some("username"), "{bad:?}");
        }
    }

    #[test]
    fn the_length_of_a_password_is_counted_in_characters_and_it_is_never_shown() {
        for good in ["12345678", "        ", &"ß".repeat(128), "pass\tword"] {
            assert_eq!(check_password(good), Ok(()));
        }
        for bad in ["hunter2", "1234567\u{0}", &"ß".repeat(129), &"x".repeat(10_000_000)] {
            let error = check_password(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(bad));
            assert_eq!(field(Err(error)), Some("password"));
        }
    }

    #[test]
    fn texts_that_differ_only_in_case_are_equal() {
        for (one, other) in
            [("Bob", "bOB"), ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"), ("STRASSE", "straße"), ("K", "\u{212A}"), ("Éva", "éVA")]
        {
            assert_eq!(username_key(one), username_key(other));
            assert_eq!(email_key(one), email_key(other));
        }
        assert_eq!(username_key("User  Name"), username_key("user\u{A0}name"));
        assert_ne!(username_key("User Name"), username_key("UserName"));
        assert_ne!(username_key("Eva"), username_key("Éva"));
    }

    proptest! {
        #[test]
        fn any_text_can_be_checked_and_keys_do_not_depend_on_case(text in "\\PC{0,80}") {
            let _ = check_email(&text);
            let _ = check_password(&text);
            if check_username(&text).is_ok() {
                prop_assert!((1..=64).contains(&text.chars().count()));
                prop_assert!(!username_key(&text).is_empty());
            }
            prop_assert_eq!(username_key(&text), username_key(&text.to_uppercase()));
        }
    }
}

//! The rules for emails, usernames and passwords, and when two emails or usernames count as equal. Pure.

use std::borrow::Cow;

use super::error::AccountError;
use crate::text;

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
    if email.chars().any(|c| c.is_whitespace() || c.is_control() || text::is_invisible(c)) {
        return Err(invalid("email", "email must not contain spaces, control or invisible characters"));
    }
    match email.split_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !domain.contains('@') => Ok(()),
        _ => Err(invalid("email", "email must look like name@example.com, with exactly one @")),
    }
}

/// A username as it is stored and shown: in normal form C.
#[must_use]
pub(crate) fn shown_username(username: &str) -> Cow<'_, str> {
    text::nfc(username)
}

/// Checks a username: 1 to 64 characters, no control characters, no whitespace at either end, no characters that are
/// invisible or change the direction of text, except where a script or an emoji needs them.
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
    if text::has_hidden_character(username) {
        return Err(invalid("username", "username must not contain invisible or direction-changing characters"));
    }
    if username.trim() != username {
        return Err(invalid("username", "username must not begin or end with a space"));
    }
    Ok(())
}

/// The texts that a password may have been hashed from, in the order in which they are tried. The first is the form that
/// new accounts use, so that a password does not depend on the keyboard. Earlier versions hashed what the user typed.
#[must_use]
pub(crate) fn password_forms(password: &str) -> Vec<Cow<'_, str>> {
    let prepared = text::opaque_string(password);
    if prepared == password { vec![prepared] } else { vec![prepared, Cow::Borrowed(password)] }
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

/// Two emails that differ only in case, or in the form of their accents, have the same key.
#[must_use]
pub fn email_key(email: &str) -> String {
    text::fold_case(&text::nfc(email))
}

/// The key that earlier versions stored for this email, if it differs from [`email_key`].
#[must_use]
pub(crate) fn earlier_email_key(email: &str) -> Option<String> {
    let key = text::fold_case(email);
    (key != email_key(email)).then_some(key)
}

/// Two usernames that differ only in case, or in the kind and number of spaces, have the same key.
#[must_use]
pub fn username_key(username: &str) -> String {
    text::fold_case(&username.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Two usernames that look the same have the same skeleton.
#[must_use]
pub fn username_skeleton(username: &str) -> String {
    text::skeleton(username)
}

fn invalid(field: &'static str, message: &str) -> AccountError {
    AccountError::InvalidField { field, message: message.to_owned() }
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
        for good in [
            "B",
            "User Name",
            "Łukasz",
            "日本語",
            "<b>x</b>",
            "🦀",
            "नमस्ते",
            "علی\u{200C}رضا",
            "Bob ❤\u{FE0F}",
            &"x".repeat(64),
            &"🦀".repeat(64),
        ] {
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
    fn a_password_is_tried_in_its_prepared_form_and_then_as_it_was_typed() {
        assert_eq!(password_forms("qwerty123456"), ["qwerty123456"]);
        assert_eq!(password_forms("Jose\u{301} 12345"), ["José 12345", "Jose\u{301} 12345"]);
    }

    #[test]
    fn the_form_of_an_accent_does_not_distinguish_emails() {
        assert_eq!(email_key("Jose\u{301}@example.com"), email_key("JOSÉ@example.com"));
        assert_eq!(earlier_email_key("Jose\u{301}@example.com").as_deref(), Some("jose\u{301}@example.com"));
        assert_eq!(earlier_email_key("José@example.com"), None);
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

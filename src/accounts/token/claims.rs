//! [`Claims`]: what a valid token says about its user, and [`ClaimNames`]: where it says it. Pure.

use serde_json::{Map, Value};

use super::refused::TokenRefused;
use super::{LATEST_UNIX_SECONDS, LEEWAY_SECONDS};
use crate::accounts::rules;

/// The most characters of the claim with the account id.
const ID_CHARS_MAX: usize = 128;

/// The names of the claims that describe the user. The other claims have the names of RFC 7519.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// The claim with the id of the account: a string or a whole number.
    pub id: String,
    /// The claim with the username.
    pub username: String,
    /// The claim that makes the user an administrator. `None`: no claim does.
    pub admin: Option<AdminClaim>,
}

/// The claim that makes a user an administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminClaim {
    /// The name of the claim.
    pub name: String,
    /// The text that the claim must be, or that it must contain if it is a list. `None`: the claim must be `true`.
    pub value: Option<String>,
}

impl AdminClaim {
    /// Parses `name` or `name=value`. `None` if the name or the value is empty.
    #[must_use]
    pub fn parse(text: &str) -> Option<AdminClaim> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let is_valid = !name.is_empty() && value != Some("");
        is_valid.then(|| AdminClaim { name: name.to_owned(), value: value.map(str::to_owned) })
    }

    fn is_in(&self, claims: &Map<String, Value>) -> bool {
        let is_value = |claim: &Value| claim.as_str().is_some() && claim.as_str() == self.value.as_deref();
        match claims.get(&self.name) {
            Some(Value::Bool(is_admin)) => *is_admin && self.value.is_none(),
            Some(Value::Array(list)) => list.iter().any(is_value),
            Some(claim) => is_value(claim),
            None => false,
        }
    }
}

/// The claims of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    /// 1 to 128 characters without control characters.
    pub(crate) user_id: String,
    /// Valid by [`rules::check_username`], also in a token of an outside issuer, and in the form of
    /// [`rules::shown_username`].
    pub(crate) username: String,
    /// At most the end of the year 9999.
    pub(crate) expires_at_unix_seconds: u64,
    /// Whether the token names an administrator, with [`ClaimNames::admin`].
    pub(crate) is_admin: bool,
}

impl Claims {
    /// Reads the claims of a token whose signature and times are valid.
    ///
    /// # Errors
    /// A claim is missing or invalid.
    pub(super) fn read(claims: &Map<String, Value>, names: &ClaimNames) -> Result<Self, TokenRefused> {
        let missing = |name: &str| TokenRefused::MissingClaim(name.to_owned());
        let invalid = |name: &str, rule: String| TokenRefused::InvalidClaim { name: name.to_owned(), rule };
        // The library also accepts an array in `iss`; we require one string.
        if !claims.get("iss").is_some_and(Value::is_string) {
            return Err(TokenRefused::WrongIssuer);
        }
        let user_id = claims.get(&names.id).and_then(id).ok_or_else(|| missing(&names.id))?;
        let id_chars = user_id.chars().take(ID_CHARS_MAX + 1).count();
        if !(1..=ID_CHARS_MAX).contains(&id_chars) || user_id.chars().any(char::is_control) {
            return Err(invalid(&names.id, format!("1 to {ID_CHARS_MAX} characters, no control characters")));
        }
        let username = claims.get(&names.username).and_then(Value::as_str).ok_or_else(|| missing(&names.username))?;
        rules::check_username(username).map_err(|rule| invalid(&names.username, rule.to_string()))?;
        // `as` saturates. The library has refused negative and infinite values.
        let expires_at = claims.get("exp").and_then(Value::as_f64).ok_or_else(|| missing("exp"))? as u64;
        let expires_at_unix_seconds = expires_at.min(LATEST_UNIX_SECONDS);
        let username = rules::shown_username(username).into_owned();
        let is_admin = names.admin.as_ref().is_some_and(|claim| claim.is_in(claims));
        Ok(Claims { user_id, username, expires_at_unix_seconds, is_admin })
    }

    /// How many seconds after `now_unix_seconds` a session with this token ends: when the token expires. A token that is
    /// accepted although it has expired, because clocks differ, is valid to the end of the leeway.
    pub(crate) fn seconds_left(&self, now_unix_seconds: u64) -> u64 {
        match self.expires_at_unix_seconds.saturating_sub(now_unix_seconds) {
            0 => (self.expires_at_unix_seconds + LEEWAY_SECONDS).saturating_sub(now_unix_seconds),
            left => left,
        }
    }
}

/// Many issuers number their accounts.
fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_u64() || number.is_i64() => Some(number.to_string()),
        _ => None,
    }
}

//! One file for each endpoint, or for a few that belong together.

pub(crate) mod create_user;
pub(crate) mod join;
pub(crate) mod log_in;
pub(crate) mod page;
pub(crate) mod status;

use super::api_error::ApiError;
use super::response::Response;
use crate::accounts::AccountError;

/// The answer to a request of an account that failed.
fn account_error(error: &AccountError) -> Response {
    match error {
        // The message names the field.
        AccountError::InvalidField { message, .. } => ApiError::BadField.with_text(message),
        AccountError::EmailTaken => ApiError::EmailTaken.response(),
        AccountError::UsernameTaken => ApiError::UsernameTaken.response(),
        AccountError::WrongCredentials => ApiError::WrongCredentials.response(),
        AccountError::Busy { .. } => ApiError::Busy.response(),
        AccountError::Unavailable { .. } => ApiError::Unavailable.response(),
        AccountError::Internal => ApiError::Internal.response(),
    }
}

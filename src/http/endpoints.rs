//! The endpoints: one file each, or one for a few small ones. This file has what they share.

pub(crate) mod admin;
pub(crate) mod create_user;
pub(crate) mod history;
pub(crate) mod join;
pub(crate) mod log_in;
pub(crate) mod metrics;
pub(crate) mod page;
pub(crate) mod status;

use super::api_error::ApiError;
use super::app_state::AppState;
use super::response::Response;
use crate::accounts::{Account, AccountError};

/// The answer to a failed registration or login.
pub(crate) fn account_error(error: &AccountError) -> Response {
    match error {
        // The message names the field.
        AccountError::InvalidField { message, .. } => ApiError::BadField.with_text(message),
        AccountError::EmailTaken => ApiError::EmailTaken.response(),
        AccountError::UsernameTaken => ApiError::UsernameTaken.response(),
        AccountError::WrongCredentials => ApiError::WrongCredentials.response(),
        AccountError::TooManyLogins { retry_after_seconds } => {
            ApiError::TooManyLogins.response().retry_after(*retry_after_seconds)
        }
        AccountError::TooManyRegistrations { retry_after_seconds } => {
            ApiError::TooManyRegistrations.response().retry_after(*retry_after_seconds)
        }
        AccountError::Busy { retry_after_seconds } => ApiError::Busy.response().retry_after(*retry_after_seconds),
        AccountError::Unavailable { retry_after_seconds } => {
            ApiError::Unavailable.response().retry_after(*retry_after_seconds)
        }
        AccountError::Internal => ApiError::Internal.response(),
    }
}

/// Counts the request if a limit refused it.
fn count_refusal(app: &AppState, result: &Result<Account, AccountError>) {
    let limit = match result {
        Err(AccountError::TooManyLogins { .. }) => ApiError::TooManyLogins,
        Err(AccountError::TooManyRegistrations { .. }) => ApiError::TooManyRegistrations,
        Err(AccountError::Busy { .. }) => ApiError::Busy,
        Ok(_) | Err(_) => return,
    };
    app.metrics.account_request_refused(limit.row().code);
}

//! Loads a page of `GET /history`.

use super::protocol::{Page, PageResult, parameter};
use crate::cli::http_client;
use crate::cli::server_url::ServerUrl;

/// Loads at most `limit` messages before the one with this id, or the newest ones. Blocks.
pub(super) fn load(url: &ServerUrl, token: &str, before: Option<&str>, limit: usize) -> PageResult {
    let before = before.map_or_else(String::new, |id| format!("&before={}", parameter(id)));
    let answer = http_client::request(url, "GET", &format!("/history?limit={limit}{before}"), token, "")?;
    match answer.status {
        200 => serde_json::from_value(answer.body).map_err(|error| format!("the answer of {url} is invalid: {error}")),
        // The server does not have the message any more, nor those before it.
        404 => Ok(Page { messages: Vec::new(), has_more: false }),
        _ => Err(answer.error()),
    }
}

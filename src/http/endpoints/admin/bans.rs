//! `GET /admin/bans`: the bans and mutes that have not ended, as this instance knows them.

use std::net::IpAddr;

use serde::Serialize;

use crate::clock;
use crate::http::admin::AdminEndpoint;
use crate::http::app_state::AppState;
use crate::http::response::Response;
use crate::moderation::Sanction;

pub(crate) struct Bans;

#[derive(Serialize)]
struct Answer<'a> {
    bans: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    kind: &'static str,
    username: &'a str,
    by: &'a str,
    reason: &'a str,
    since: String,
    /// Missing if there is no end.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl AdminEndpoint for Bans {
    type Output = Vec<Sanction>;

    fn parse(_: &[u8]) -> Result<Self, Response> {
        Ok(Bans)
    }

    fn execute(self, app: &AppState, _: &str, _: IpAddr) -> Self::Output {
        app.publisher.sanctions().all()
    }

    fn respond(sanctions: Self::Output) -> Result<Response, Response> {
        let bans = sanctions.iter().map(|Sanction { kind, username, by, reason, at_ms, until_ms }| {
            let (since, until) = (clock::shown_millis(*at_ms), until_ms.map(clock::shown_millis));
            Row { kind: kind.name(), username, by, reason, since, until }
        });
        Ok(Response::json(&Answer { bans: bans.collect() }))
    }
}

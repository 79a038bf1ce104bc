//! `POST /admin/unban`: ends the ban and the mute of a user.

use std::net::IpAddr;

use super::{Failed, Order, act, applied};
use crate::http::admin::AdminEndpoint;
use crate::http::app_state::AppState;
use crate::http::response::Response;
use crate::lobby::{Action, Moderation};

pub(crate) struct Unban(Order);

impl AdminEndpoint for Unban {
    type Output = Result<Moderation, Failed>;

    fn parse(body: &[u8]) -> Result<Self, Response> {
        Order::parse(body).map(Unban)
    }

    fn execute(self, app: &AppState, by: &str, address: IpAddr) -> Self::Output {
        act(app, Action::Unban, self.0, by, address)
    }

    fn respond(output: Self::Output) -> Result<Response, Response> {
        applied(output)
    }
}

//! `POST /admin/ban`: ends the open sessions of a user, and refuses the user's logins and joins.

use std::net::IpAddr;

use super::{Failed, Order, act, applied};
use crate::http::admin::AdminEndpoint;
use crate::http::app_state::AppState;
use crate::http::response::Response;
use crate::lobby::{Action, Moderation};

pub(crate) struct Ban(Order);

impl AdminEndpoint for Ban {
    type Output = Result<Moderation, Failed>;

    fn parse(body: &[u8]) -> Result<Self, Response> {
        Order::parse(body).map(Ban)
    }

    fn execute(self, app: &AppState, by: &str, address: IpAddr) -> Self::Output {
        act(app, Action::Ban, self.0, by, address)
    }

    fn respond(output: Self::Output) -> Result<Response, Response> {
        applied(output)
    }
}

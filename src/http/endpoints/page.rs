//! `GET /`, `/app.js` and `/style.css`: the web page, from the binary.

use crate::http::app_state::AppState;
use crate::http::response::Response;

const PAGE: &str = include_str!("../../web/index.html");
const SCRIPT: &str = include_str!("../../web/app.js");
const STYLE: &str = include_str!("../../web/style.css");
/// The page loads nothing from other origins, and text of users cannot become a script in it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn page(_: &AppState) -> Response {
    Response::ok("text/html; charset=utf-8", PAGE)
        .with("Content-Security-Policy", PAGE_POLICY)
        .with("Referrer-Policy", "no-referrer")
}

pub(crate) fn script(_: &AppState) -> Response {
    Response::ok("text/javascript; charset=utf-8", SCRIPT)
}

pub(crate) fn style(_: &AppState) -> Response {
    Response::ok("text/css; charset=utf-8", STYLE)
}

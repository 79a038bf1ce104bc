//! `GET /`, `/app.js` and `/style.css`: the web page. The files are compiled into the program.

use crate::http::app_state::AppState;
use crate::http::request::Request;
use crate::http::response::Response;

const PAGE: &str = include_str!("../../web/index.html");
const SCRIPT: &str = include_str!("../../web/app.js");
const STYLE: &str = include_str!("../../web/style.css");
/// The page loads nothing from other origins, and runs no script besides `/app.js` (Content Security Policy Level 3).
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn page(_: &AppState, _: &Request) -> Response {
    Response::ok("text/html; charset=utf-8", PAGE)
        .with("Content-Security-Policy", PAGE_POLICY)
        .with("Referrer-Policy", "no-referrer")
}

pub(crate) fn script(_: &AppState, _: &Request) -> Response {
    Response::ok("text/javascript; charset=utf-8", SCRIPT)
}

pub(crate) fn style(_: &AppState, _: &Request) -> Response {
    Response::ok("text/css; charset=utf-8", STYLE)
}

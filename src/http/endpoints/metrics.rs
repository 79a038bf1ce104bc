//! `GET /metrics`: all metrics, in one of the two text formats of Prometheus.

use http::header::ACCEPT;

use crate::http::app_state::AppState;
use crate::http::request::Request;
use crate::http::response::Response;
use crate::metrics::classic;

const OPEN_METRICS: &str = "application/openmetrics-text";
const CLASSIC: &str = "text/plain";

/// OpenMetrics 1.0, unless the client prefers the classic format 0.0.4.
pub(crate) fn metrics(app: &AppState, request: &Request) -> Response {
    let open_metrics = app.encode_metrics();
    let accepted: Vec<&str> = request.list(ACCEPT).collect();
    if quality(&accepted, CLASSIC) > quality(&accepted, OPEN_METRICS) {
        return Response::ok("text/plain; version=0.0.4; charset=utf-8", classic::from_open_metrics(&open_metrics));
    }
    Response::ok("application/openmetrics-text; version=1.0.0; charset=utf-8", open_metrics)
}

/// How much the client wants this media type, from 0 to 1 (RFC 9110, section 12.5.1). The most specific range counts.
fn quality(accepted: &[&str], media_type: &str) -> f32 {
    let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let of = |wanted: &str| {
        let qualities = accepted.iter().filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_wanted = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(wanted));
            let quality =
                parts.find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")));
            is_wanted.then(|| quality.map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0)))
        });
        // A type may occur several times, with different versions.
        qualities.reduce(f32::max)
    };
    of(media_type).or_else(|| of(&format!("{kind}/*"))).or_else(|| of("*/*")).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_that_the_client_wants_more_is_chosen() {
        let wants_classic = |accept: &str| {
            let accepted: Vec<&str> = accept.split(',').map(str::trim).filter(|range| !range.is_empty()).collect();
            quality(&accepted, CLASSIC) > quality(&accepted, OPEN_METRICS)
        };
        for accept in [
            "text/plain",
            "text/plain; version=0.0.4",
            "TEXT/PLAIN;version=0.0.4;q=0.5,*/*;q=0.1",
            "text/*",
            "application/openmetrics-text;q=0.5,text/plain;q=0.9",
        ] {
            assert!(wants_classic(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html",
            "application/json",
            "text/plain;q=x",
            // Prometheus itself.
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "text/plain,application/openmetrics-text",
        ] {
            assert!(!wants_classic(accept), "{accept}");
        }
    }
}

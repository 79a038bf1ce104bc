//! `GET /metrics` in the format that the client asks for.

mod harness;

use harness::http::{Answer, raw};
use harness::server::Server;

fn metrics(server: &Server, accept: &str) -> Answer {
    let accept = if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
    raw(server.address, format!("GET /metrics HTTP/1.1\r\nHost: test\r\n{accept}\r\n").as_bytes())
}

#[test]
fn the_classic_format_is_for_clients_that_prefer_it() {
    let server = Server::start(&[]);
    for accept in ["text/plain", "text/plain;version=0.0.4;q=1,*/*;q=0.1", "application/json\r\nAccept: text/plain"] {
        let answer = metrics(&server, accept);
        assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"), "{accept}");
        assert!(answer.body.contains("# TYPE ich_messages_accepted_total counter\nich_messages_accepted_total 0\n"));
        assert!(!answer.body.contains("# EOF") && answer.body.contains("# TYPE ich_sessions gauge\n"));
    }
    for accept in ["", "*/*", "application/openmetrics-text,text/plain;q=0.5"] {
        let answer = metrics(&server, accept);
        let content_type = answer.header("Content-Type").expect("a type");
        assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"), "{accept}: {content_type}");
        assert!(answer.body.contains("# TYPE ich_messages_accepted counter\n") && answer.body.ends_with("# EOF\n"));
    }
}

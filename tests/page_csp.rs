//! The web page has a strict Content Security Policy: it runs no script of others, even if one gets into the page.

mod harness;

use harness::http::get;
use harness::server::Server;

#[test]
fn the_page_allows_its_own_files_only_and_no_text_as_markup() {
    let server = Server::start(&[]);
    let page = get(server.address, "/");
    assert_eq!(page.status, 200);
    let policies: Vec<&str> = page
        .head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-security-policy"))
        .map(|(_, value)| value)
        .collect();
    let strict = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; \
                  base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                  trusted-types 'none'";
    assert_eq!(policies, [strict]);
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
    assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
}

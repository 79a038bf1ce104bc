//! The client of a request, from all forms of the header fields.

use proptest::prelude::*;

use super::*;

const PROXY: &str = "10.0.0.1";

fn proxies() -> Proxies {
    let trusted = ["10.0.0.0/8", "fd00::/8", "192.0.2.9"].map(|entry| parse_network(entry).unwrap());
    Proxies { trusted: trusted.into(), have_proxy_header: false }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn client_with(fields: &[(HeaderName, &[u8])]) -> Client {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name, http::HeaderValue::from_bytes(value).unwrap());
    }
    let proxies = proxies();
    proxies.client(proxies.sender(ip(PROXY)), &map)
}

/// The client in these lines of `X-Forwarded-For`.
fn x_forwarded_for(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| (X_FORWARDED_FOR, line.as_bytes())).collect();
    client_with(&lines).address.to_string()
}

fn forwarded(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| (FORWARDED, line.as_bytes())).collect();
    client_with(&lines).address.to_string()
}

#[test]
fn the_client_is_the_nearest_hop_that_is_not_trusted() {
    assert_eq!(x_forwarded_for(&["203.0.113.7"]), "203.0.113.7");
    assert_eq!(x_forwarded_for(&["198.51.100.1, 203.0.113.7, 10.1.1.1,192.0.2.9"]), "203.0.113.7");
    assert_eq!(x_forwarded_for(&["198.51.100.1", "203.0.113.7 , ", "fd00::1,,"]), "203.0.113.7", "lines are joined");
    assert_eq!(x_forwarded_for(&["10.2.2.2, 10.1.1.1"]), "10.2.2.2", "all are trusted");
    assert_eq!(x_forwarded_for(&[""]), PROXY);
}

#[test]
fn garbage_ends_the_walk_at_the_last_good_address() {
    for bad in [
        "unknown",
        "_hidden",
        "203.0.113",
        "203.0.113.7.8",
        "203.0.113.07",
        "203.0.113.7:",
        "203.0.113.7:x",
        "203.0.113.7:123456",
        "[::1",
        "::1]:80",
        "[203.0.113.7]",
        "fe80::1%eth0",
        "\"203.0.113.7\"",
        "a b",
        "for=203.0.113.7",
    ] {
        assert_eq!(x_forwarded_for(&[bad]), PROXY, "{bad}");
        assert_eq!(x_forwarded_for(&["203.0.113.7", &format!("{bad}, 10.1.1.1")]), "10.1.1.1", "{bad}");
    }
    let not_ascii = client_with(&[(X_FORWARDED_FOR, b"203.0.113.7, \xff")]);
    assert_eq!(not_ascii, Client { address: ip(PROXY), source: Source::Fields });
}

#[test]
fn addresses_may_have_ports_and_brackets() {
    for (text, address) in [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:DB8::1]:4711", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
    ] {
        assert_eq!(x_forwarded_for(&[text]), address);
        assert_eq!(forwarded(&[&format!("for=\"{text}\"")]), address);
    }
}

#[test]
fn forwarded_has_pairs() {
    for element in [
        "for=203.0.113.7",
        "For=\"203.0.113.7:80\"",
        "proto=https;FOR=203.0.113.7;by=_a",
        "for=203.0.113.7:80",
        "for=203.0.113.7 ; host=\"a;b\"",
        ";;for=203.0.113.7;",
        "for=\"203.0.\\113.7\"",
        "for=\"203.0.113.7:_port\"",
    ] {
        assert_eq!(forwarded(&[&format!("for=198.51.100.1, {element}")]), "203.0.113.7", "{element}");
    }
    for bad in [
        "for=unknown",
        "for=_hidden",
        "for=\"_hidden:80\"",
        "for=",
        "for",
        "by=203.0.113.7",
        "for=\"203.0.113.7",
        "for=203.0.113.7;for=203.0.113.7",
        "for=\"203.0.113.7\"x",
        "for =203.0.113.7",
        "203.0.113.7",
        "for=\"203.0.113.7:_\"",
    ] {
        assert_eq!(forwarded(&["for=198.51.100.1", bad]), PROXY, "{bad}");
    }
}

/// A quote that the client leaves open does not reach the element of the proxy.
#[test]
fn an_open_quote_does_not_hide_the_element_of_the_proxy() {
    assert_eq!(forwarded(&["for=\"198.51.100.1, for=203.0.113.7"]), "203.0.113.7");
    assert_eq!(forwarded(&["for=\"198.51.100.1", "for=203.0.113.7"]), "203.0.113.7");
    assert_eq!(forwarded(&["for=\"a\\, for=203.0.113.7;host=\"b\""]), "203.0.113.7");
}

#[test]
fn two_fields_must_agree() {
    let both = |one: &[u8], other: &[u8]| client_with(&[(X_FORWARDED_FOR, one), (FORWARDED, other)]);
    let agreed = both(b"198.51.100.1, 203.0.113.7", b"for=203.0.113.7, for=10.1.1.1");
    assert_eq!(agreed, Client { address: ip("203.0.113.7"), source: Source::Fields });
    let neither = Client { address: ip(PROXY), source: Source::Contradiction };
    assert_eq!(both(b"203.0.113.7", b"for=203.0.113.8"), neither);
    assert_eq!(both(b"203.0.113.7", b"for=unknown"), neither);
}

#[test]
fn only_a_trusted_proxy_names_a_client() {
    let proxies = proxies();
    let mut fields = HeaderMap::new();
    fields.insert(X_FORWARDED_FOR, http::HeaderValue::from_static("203.0.113.7"));
    let client = |sender| proxies.client(sender, &fields).address.to_string();
    assert_eq!(client(proxies.sender(ip("198.51.100.1"))), "198.51.100.1");
    assert_eq!(client(proxies.sender(ip("::ffff:10.0.0.1"))), "203.0.113.7");
    assert_eq!(client(proxies.sender_in_header(ip(PROXY), Some(ip("198.51.100.1")))), "198.51.100.1");
    assert_eq!(client(proxies.sender_in_header(ip(PROXY), Some(ip("10.1.1.1")))), "203.0.113.7", "a second proxy");
    assert_eq!(client(proxies.sender_in_header(ip(PROXY), None)), PROXY, "the client may be anybody");
    assert!(!Proxies::default().is_trusted(ip("127.0.0.1")));
}

#[test]
fn networks_are_parsed_strictly() {
    for (entry, shown) in [
        ("192.0.2.7", "192.0.2.7/32"),
        ("::1", "::1/128"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("fd00::/8", "fd00::/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::/0", "::/0"),
    ] {
        assert_eq!(parse_network(entry).map(|network| network.to_string()).as_deref(), Ok(shown), "{entry}");
    }
    for bad in
        ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/255.0.0.0", "10.*", "10.0.0.1:80", "10.0.0.0-10.0.0.9"]
    {
        assert!(parse_network(bad).is_err(), "{bad}");
    }
    let error = parse_network("10.0.0.1/8").unwrap_err();
    assert!(error.contains("10.0.0.0/8"), "{error}");
}

/// An element that a proxy may send, or a client may invent.
fn any_element() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| IpAddr::from(octets).to_string()),
        any::<[u8; 16]>().prop_map(|octets| format!("for=\"[{}]:80\"", IpAddr::from(octets))),
        "[ -~]{0,30}",
    ]
}

proptest! {
    /// Whatever the client sends before it, the element of the proxy counts.
    #[test]
    fn a_client_cannot_change_what_the_proxy_appends(
        invented in proptest::collection::vec(any_element(), 0..5),
        joins_lines in any::<bool>(),
        octets in any::<[u8; 4]>(),
    ) {
        let address = IpAddr::from(octets);
        prop_assume!(!proxies().is_trusted(address));
        for (name, appended) in [(X_FORWARDED_FOR, address.to_string()), (FORWARDED, format!("for={address};proto=https"))] {
            let mut lines: Vec<String> = invented.clone();
            if joins_lines {
                lines = vec![[lines, vec![appended]].concat().join(", ")];
            } else {
                lines.push(appended);
            }
            let fields: Vec<_> = lines.iter().map(|line| (name.clone(), line.as_bytes())).collect();
            prop_assert_eq!(client_with(&fields), Client { address, source: Source::Fields });
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), text in "[for=\";:,\\[\\]\\\\.0-9a-f_ ]{0,60}") {
        for parse in [forwarding::x_forwarded_for as fn(&str) -> Option<IpAddr>, forwarding::forwarded] {
            for input in [&bytes[..], text.as_bytes()] {
                forwarding::hops([input].into_iter(), parse).for_each(drop);
            }
        }
    }
}

//! [`Origin`]: the origin of a page (RFC 6454), in a form that can be compared. Pure.
//!
//! A browser sends the origin of the page in `Origin`. The settings list the origins that are allowed.

/// The origin of a page. Two texts that differ only in case, in a default port, or in `ws` for `http` give equal origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `null`: the page has no origin of its own. It is a local file, for example.
    Null,
    /// A scheme, a host and a port.
    Named {
        /// In lower case; `http` for `ws`, and `https` for `wss`: libraries for mobile apps send those.
        scheme: String,
        /// In lower case; an IPv6 address is in brackets. May be empty if the scheme is not `http` or `https`.
        host: String,
        /// `None`: the default port of the scheme.
        port: Option<u16>,
    },
}

impl Origin {
    /// Parses an origin such as `https://chat.example`, `tauri://localhost` or `null`. `None` if the text is not an
    /// origin: a pattern, or a URL with a path or a user.
    pub(crate) fn parse(text: &str) -> Option<Origin> {
        if text.eq_ignore_ascii_case("null") {
            return Some(Origin::Null);
        }
        let (scheme, authority) = text.split_once("://")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "ws" => "http".to_owned(),
            "wss" => "https".to_owned(),
            other => other.to_owned(),
        };
        // RFC 3986, section 3.1.
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let (host, port) = if authority.is_empty() { ("", None) } else { host_and_port(authority)? };
        let default_port = default_port(&scheme);
        if !is_scheme || (host.is_empty() && default_port.is_some()) {
            return None;
        }
        let port = port.filter(|port| Some(*port) != default_port);
        Some(Origin::Named { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// Whether a page of this origin was loaded from the host in this `Host` field. The field may have the default port
    /// of the origin, or leave it out.
    pub(crate) fn is_of_host(&self, host_field: &str) -> bool {
        let Origin::Named { scheme, host, port } = self else { return false };
        let (Some(default_port), Some((own_host, own_port))) = (default_port(scheme), host_and_port(host_field)) else {
            return false;
        };
        own_host.eq_ignore_ascii_case(host) && own_port.unwrap_or(default_port) == port.unwrap_or(default_port)
    }
}

/// Of the schemes that a page of this server can have.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Splits `host:port`, `[address]:port`, or one of them without a port. `None` if the text is neither.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end = match text.strip_prefix('[') {
        Some(_) => text.find(']')? + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn origins_of_pages_and_apps_are_compared_without_case_and_default_ports() {
        for (one, other) in [
            ("https://chat.example", "HTTPS://Chat.Example:443"),
            ("http://chat.example", "ws://chat.example:80"),
            ("https://chat.example:8443", "wss://chat.example:8443"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("tauri://localhost", "TAURI://localhost"),
            ("null", "NULL"),
        ] {
            assert_eq!(origin(one), origin(other));
        }
        for other in
            ["https://chat.example", "http://chat.example:8080", "http://chat.example.", "null", "app://chat.example"]
        {
            assert_ne!(origin("http://chat.example"), origin(other));
        }
        for good in [
            "capacitor://localhost",
            "ionic://localhost",
            "file://",
            "app://",
            "chrome-extension://abcdef",
            "http://a_b",
        ] {
            origin(good);
        }
    }

    #[test]
    fn a_text_that_no_browser_sends_is_not_an_origin() {
        for bad in [
            "",
            "*",
            "chat.example",
            "://chat.example",
            "https://",
            "https://*",
            "https://*.example",
            "https://a.example/",
            "https://a.example/chat",
            "https://a.example?x",
            "https://a.example#x",
            "https://me@a.example",
            "https://a b",
            "https://a.example:",
            "https://a.example:x",
            "https://a.example:99999",
            "https://a.example:+1",
            "https://münchen.example",
            "https://[::1",
            "https://[x]",
            "https://::1",
            "1a://b",
            "a_b://c",
            "https://a.example, https://b.example",
        ] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_own_host_is_compared_with_the_port_of_the_origin() {
        for (text, host) in [
            ("https://chat.example", "chat.example"),
            ("https://chat.example", "chat.example:443"),
            ("https://chat.example:443", "Chat.Example"),
            ("http://chat.example", "chat.example:80"),
            ("ws://chat.example:8080", "chat.example:8080"),
            ("wss://chat.example", "chat.example"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(origin(text).is_of_host(host), "{text} {host}");
        }
        for (text, host) in [
            ("https://chat.example", "chat.example:80"),
            ("https://chat.example", "chat.example:8443"),
            ("https://chat.example:8443", "chat.example"),
            ("https://chat.example", "chat.example.evil.example"),
            ("https://chat.example", "evil.example"),
            ("tauri://localhost", "localhost"),
            ("null", "null"),
            ("null", ""),
            ("file://", ""),
        ] {
            assert!(!origin(text).is_of_host(host), "{text} {host}");
        }
    }
}

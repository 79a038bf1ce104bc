//! [`ServerUrl`]: the address of a server, as users write it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::config::Config;
use crate::proxies::Proxies;

/// Where a server is. The text has no control characters and no spaces, so it can be part of a request.
#[derive(Debug, Clone)]
pub(super) struct ServerUrl {
    pub(super) has_tls: bool,
    /// A name or an address; an address of IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The host and the port as they were given, for the field `Host`.
    pub(super) authority: String,
    /// The path below which a proxy serves the lobby: empty, or with `/` at the start and none at the end.
    path: String,
    /// The trusted proxies of a server on this machine, which may require a PROXY header from this machine, too.
    pub(super) proxies: Proxies,
}

/// The error for another text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address of a server must look like http://localhost:8080 or https://chat.example.org")]
pub(super) struct InvalidUrl;

impl ServerUrl {
    /// The server of the settings, on this machine.
    ///
    /// # Errors
    /// A text with what is wrong with the settings.
    pub(super) fn of_settings() -> Result<Self, String> {
        let config = Config::load().map_err(|errors| format!("the settings cannot be used:\n{errors}"))?;
        Ok(Self::on_this_machine(config.host, config.port, config.proxies))
    }

    /// `listens_on`: the address of the server, which may be all addresses of this machine.
    fn on_this_machine(listens_on: IpAddr, port: u16, proxies: Proxies) -> Self {
        let host = if listens_on.is_unspecified() { "localhost".to_owned() } else { listens_on.to_string() };
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        ServerUrl { has_tls: false, host, port, authority, path: String::new(), proxies }
    }

    /// The path and query of a request. `target` begins with `/`.
    pub(super) fn target(&self, target: &str) -> String {
        format!("{}{target}", self.path)
    }
}

impl FromStr for ServerUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl)?;
        let has_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => false,
            "https" | "wss" => true,
            _ => return Err(InvalidUrl),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '\\');
        if !rest.chars().all(is_plain) {
            return Err(InvalidUrl);
        }
        // The colons of an address of IPv6 are inside its brackets.
        let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
        let (host, port) = match port_at {
            Some(at) => (&authority[..at], authority[at + 1..].parse().map_err(|_| InvalidUrl)?),
            None => (authority, if has_tls { 443 } else { 80 }),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || port == 0 {
            return Err(InvalidUrl);
        }
        let path = path.trim_end_matches('/').to_owned();
        Ok(ServerUrl {
            has_tls,
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            path,
            proxies: Proxies::default(),
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}{}", if self.has_tls { "https" } else { "http" }, self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_a_port_and_a_path() {
        for (text, has_tls, host, port, target) in [
            ("http://localhost:8080", false, "localhost", 8080, "/join"),
            ("ws://localhost:8080/", false, "localhost", 8080, "/join"),
            ("HTTPS://chat.example.org", true, "chat.example.org", 443, "/join"),
            ("http://chat.example.org/lobby/", false, "chat.example.org", 80, "/lobby/join"),
            ("wss://[::1]:8443/a/b", true, "::1", 8443, "/a/b/join"),
            ("http://[2001:db8::1]", false, "2001:db8::1", 80, "/join"),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            let parts = (url.has_tls, url.host.as_str(), url.port, url.target("/join"));
            assert_eq!(parts, (has_tls, host, port, target.to_owned()), "{text}");
        }
        let url: ServerUrl = "wss://chat.example.org:8443/lobby/".parse().unwrap();
        assert_eq!(url.to_string(), "https://chat.example.org:8443/lobby");
        assert_eq!(url.authority, "chat.example.org:8443");
    }

    #[test]
    fn the_server_of_the_settings_is_at_the_address_on_which_it_listens() {
        for (listens_on, host, shown) in [
            ("0.0.0.0", "localhost", "http://localhost:8080"),
            ("::", "localhost", "http://localhost:8080"),
            ("127.0.0.2", "127.0.0.2", "http://127.0.0.2:8080"),
            ("2001:db8::1", "2001:db8::1", "http://[2001:db8::1]:8080"),
        ] {
            let url = ServerUrl::on_this_machine(listens_on.parse().unwrap(), 8080, Proxies::default());
            assert_eq!((url.host.as_str(), url.to_string().as_str()), (host, shown));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "localhost",
            "localhost:8080",
            "http://",
            "http://:80",
            "http:///join",
            "ftp://a",
            "http://a:x",
            "http://a:0",
            "http://a:70000",
            "http://Ann:secret@a",
            "http://Ann@a",
            "http://a/?b",
            "http://a#b",
            "http://a b",
            "http://a\r\nb",
            "http://[]",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }
}

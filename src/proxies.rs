//! [`Proxies`]: the trusted proxies, and the client behind them. Pure.
//!
//! A proxy names the client in one of two ways: in a PROXY header before the first request ([`protocol`]), or in header
//! fields of each request ([`forwarding`]). Any client can send both, so they count only if a trusted proxy sent them.
//! The connection thread asks [`Proxies`] first for the [`Sender`] of a connection, then for the [`Client`] of its
//! request.

mod forwarding;
pub(crate) mod protocol;

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::{IpNet, Ipv4Net};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies of the settings. Without one, the client of a connection is its peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    /// `ICH_TRUSTED_PROXIES`.
    pub(crate) trusted: Vec<IpNet>,
    /// `ICH_PROXY_PROTOCOL`: each connection of a trusted proxy begins with a PROXY header.
    pub(crate) have_proxy_header: bool,
}

/// What sends the requests of a connection, as far as it is known before the first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) address: IpAddr,
    /// The sender is a trusted proxy: the header fields of its requests name the client.
    pub(crate) is_proxy: bool,
}

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) source: Source,
}

/// Where the address of a [`Client`] is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The sender, which names no client.
    Sender,
    /// The header fields of the request.
    Fields,
    /// The sender, because `X-Forwarded-For` and `Forwarded` name different clients.
    Contradiction,
}

impl Proxies {
    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Whether connections of this peer begin with a PROXY header.
    pub(crate) fn expects_proxy_header(&self, peer: IpAddr) -> bool {
        self.have_proxy_header && self.is_trusted(peer)
    }

    /// The sender of a connection without a PROXY header.
    pub(crate) fn sender(&self, peer: IpAddr) -> Sender {
        Sender { address: peer, is_proxy: self.is_trusted(peer) }
    }

    /// The sender of a connection that began with a PROXY header of this content. A header without an address does not
    /// make the peer the sender of the requests: they may be those of any client, with any header fields.
    pub(crate) fn sender_in_header(&self, peer: IpAddr, named: Option<IpAddr>) -> Sender {
        match named {
            Some(address) => self.sender(address),
            None => Sender { address: peer, is_proxy: false },
        }
    }

    /// The client of a request with these header fields.
    pub(crate) fn client(&self, sender: Sender, fields: &HeaderMap) -> Client {
        let Sender { address, is_proxy } = sender;
        if !is_proxy {
            return Client { address, source: Source::Sender };
        }
        let client_in = |name: HeaderName, parse| {
            let lines = fields.get_all(&name).iter().map(HeaderValue::as_bytes);
            fields.contains_key(&name).then(|| self.first_untrusted(address, forwarding::hops(lines, parse)))
        };
        let x_forwarded_for = client_in(X_FORWARDED_FOR, forwarding::x_forwarded_for);
        let forwarded = client_in(FORWARDED, forwarding::forwarded);
        match (x_forwarded_for, forwarded) {
            (None, None) => Client { address, source: Source::Sender },
            (Some(one), Some(other)) if one != other => Client { address, source: Source::Contradiction },
            (Some(client), _) | (_, Some(client)) => Client { address: client, source: Source::Fields },
        }
    }

    /// Follows the hops of a request, from the nearest one on, as long as they are trusted proxies. An address that is
    /// not valid ends the walk, because only the hop before it could tell where the request came from.
    fn first_untrusted(&self, sender: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut client = sender;
        for hop in hops {
            match hop {
                Some(address) if self.is_trusted(client) => client = address,
                _ => break,
            }
        }
        client
    }
}

/// Parses an entry of `ICH_TRUSTED_PROXIES`: an address, or a network such as `10.0.0.0/8`.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the entry.
pub(crate) fn parse_network(entry: &str) -> Result<IpNet, String> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let invalid = |_| "is not an address or a network, such as 192.0.2.7, 10.0.0.0/8 or fd00::/8".to_owned();
    let network = entry.parse::<IpNet>().map_err(invalid)?;
    if network.trunc() != network {
        return Err(format!("has bits beyond its prefix: write {} for the network", network.trunc()));
    }
    Ok(canonical(network))
}

/// An IPv4 network, if the network is one mapped into IPv6: the addresses of clients are compared in this form.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let mapped = match (network.addr().to_canonical(), network.prefix_len().checked_sub(MAPPED_BITS)) {
        (IpAddr::V4(address), Some(prefix)) if matches!(network, IpNet::V6(_)) => Ipv4Net::new(address, prefix).ok(),
        _ => None,
    };
    mapped.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests;

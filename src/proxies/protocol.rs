//! Parses the header of the PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>). A proxy sends it once, before all other bytes of a
//! connection. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// The longest header that is read, in bytes. A header of version 2 has 232 bytes at most, without the additional fields
/// (TLVs) that this server skips.
pub(crate) const HEADER_BYTES_MAX: usize = 4 * 1024;

/// A header of a program that opens a connection for itself.
pub(crate) const HEADER_WITHOUT_CLIENT: &[u8] = b"PROXY UNKNOWN\r\n";

const V1_START: &[u8] = b"PROXY ";
/// With the CR LF at its end (section 2.1).
const V1_BYTES_MAX: usize = 107;
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, the version and command, the family, and the length of the rest.
const V2_FIXED_BYTES: usize = 16;

/// A complete header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProxyHeader {
    /// How many bytes the header has.
    pub(crate) bytes: usize,
    /// The client. `None`: the proxy opened the connection for itself, or does not know an IP address of its client.
    pub(crate) client: Option<IpAddr>,
}

/// Why a connection has no valid header. The text tells the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BadProxyHeader {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the PROXY header of version 1 is malformed")]
    MalformedV1,
    #[error("the PROXY header has a version, a command or an address family that does not exist")]
    UnknownV2,
    #[error("the PROXY header of version 2 is too short for its addresses")]
    ShortV2,
    #[error("the PROXY header has more than {HEADER_BYTES_MAX} bytes")]
    TooLong,
}

/// Whether `bytes` begin like a header, valid or not.
pub(crate) fn is_header_start(bytes: &[u8]) -> bool {
    bytes.starts_with(V1_START) || bytes.starts_with(V2_START)
}

/// Parses the header at the start of `bytes`. `None`: these bytes are the beginning of a header, and more are needed.
///
/// # Errors
/// The bytes are not the beginning of a valid header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    if bytes.starts_with(V2_START) {
        parse_v2(bytes)
    } else if bytes.starts_with(V1_START) {
        parse_v1(bytes)
    } else if V1_START.starts_with(bytes) || V2_START.starts_with(bytes) {
        Ok(None)
    } else {
        Err(BadProxyHeader::Missing)
    }
}

/// Such as `PROXY TCP4 192.0.2.1 192.0.2.2 51234 443`, or `PROXY UNKNOWN` and anything (section 2.1).
fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let malformed = BadProxyHeader::MalformedV1;
    let start = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = start.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX { Ok(None) } else { Err(malformed) };
    };
    let line = std::str::from_utf8(&start[V1_START.len()..end]).map_err(|_| malformed)?;
    let header = |client| Some(ProxyHeader { bytes: end + 2, client });
    let fields: Vec<&str> = line.split(' ').collect();
    let (source, destination) = match fields[..] {
        ["UNKNOWN", ..] => return Ok(header(None)),
        ["TCP4", source, destination, from, to] if is_port(from) && is_port(to) => {
            (source.parse::<Ipv4Addr>().map(IpAddr::V4), destination.parse::<Ipv4Addr>().map(IpAddr::V4))
        }
        ["TCP6", source, destination, from, to] if is_port(from) && is_port(to) => {
            (source.parse::<Ipv6Addr>().map(IpAddr::V6), destination.parse::<Ipv6Addr>().map(IpAddr::V6))
        }
        _ => return Err(malformed),
    };
    match (source, destination) {
        (Ok(client), Ok(_)) => Ok(header(Some(client.to_canonical()))),
        _ => Err(malformed),
    }
}

fn is_port(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_number && text.parse::<u16>().is_ok()
}

/// Section 2.2.
fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, BadProxyHeader> {
    let Some(&[version_and_command, family, high, low]) = bytes.get(V2_START.len()..V2_FIXED_BYTES) else {
        return Ok(None);
    };
    let has_addresses = match version_and_command {
        // LOCAL: the rest is to be ignored.
        0x20 => false,
        0x21 => true,
        _ => return Err(BadProxyHeader::UnknownV2),
    };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > HEADER_BYTES_MAX {
        return Err(BadProxyHeader::TooLong);
    }
    let Some(addresses) = bytes.get(V2_FIXED_BYTES..length) else { return Ok(None) };
    let client = if has_addresses { source_v2(family, addresses)? } else { None };
    Ok(Some(ProxyHeader { bytes: length, client: client.map(|address| address.to_canonical()) }))
}

/// The source in the addresses of a header: source, destination and two ports, and then additional fields.
fn source_v2(family: u8, addresses: &[u8]) -> Result<Option<IpAddr>, BadProxyHeader> {
    const V4_BYTES: usize = 12;
    const V6_BYTES: usize = 36;
    const UNIX_BYTES: usize = 216;
    let bytes_min = match family {
        0x00 => 0,
        0x11 | 0x12 => V4_BYTES,
        0x21 | 0x22 => V6_BYTES,
        0x31 | 0x32 => UNIX_BYTES,
        _ => return Err(BadProxyHeader::UnknownV2),
    };
    if addresses.len() < bytes_min {
        return Err(BadProxyHeader::ShortV2);
    }
    Ok(match bytes_min {
        V4_BYTES => addresses.first_chunk().map(|octets: &[u8; 4]| Ipv4Addr::from(*octets).into()),
        V6_BYTES => addresses.first_chunk().map(|octets: &[u8; 16]| Ipv6Addr::from(*octets).into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_START, &[command, family], &length, rest].concat()
    }

    fn client(bytes: &[u8]) -> Result<Option<IpAddr>, BadProxyHeader> {
        parse(bytes).map(|header| header.expect("a complete header").client)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn version_1() {
        let client = |line: &str| client(format!("{line}\r\nGET / HTTP/1.1\r\n").as_bytes());
        assert_eq!(client("PROXY TCP4 192.0.2.1 192.0.2.2 51234 443"), Ok(ip("192.0.2.1")));
        assert_eq!(client("PROXY TCP6 2001:db8::1 ::1 65535 0"), Ok(ip("2001:db8::1")));
        assert_eq!(client("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2"), Ok(ip("192.0.2.1")));
        assert_eq!(parse(HEADER_WITHOUT_CLIENT), Ok(Some(ProxyHeader { bytes: 15, client: None })));
        assert_eq!(client("PROXY UNKNOWN ffff:f...f:ffff 65535 65535"), Ok(None));
        for bad in [
            "PROXY ",
            "PROXY TCP4",
            "PROXY TCP4 192.0.2.1 192.0.2.2 51234",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2",
            "PROXY TCP4 ::1 ::1 1 2",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2",
            "PROXY tcp4 192.0.2.1 192.0.2.2 1 2",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 ",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2",
        ] {
            assert_eq!(client(bad), Err(BadProxyHeader::MalformedV1), "{bad}");
        }
    }

    #[test]
    fn a_line_of_version_1_has_at_most_107_bytes() {
        let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
        assert_eq!(parse(line(107).as_bytes()), Ok(Some(ProxyHeader { bytes: 107, client: None })));
        assert_eq!(parse(line(108).as_bytes()), Err(BadProxyHeader::MalformedV1));
    }

    #[test]
    fn version_2() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0, 80, 1, 187];
        let v6 = [&[0x20, 1, 0xd, 0xb8], [0; 11].as_slice(), &[1], &[0; 20]].concat();
        let tlvs = [&v4, [0x20, 0, 5, 1, 2, 3, 4, 5].as_slice()].concat();
        assert_eq!(client(&v2(0x21, 0x11, &v4)), Ok(ip("192.0.2.1")));
        assert_eq!(client(&v2(0x21, 0x12, &tlvs)), Ok(ip("192.0.2.1")));
        assert_eq!(client(&v2(0x21, 0x21, &v6)), Ok(ip("2001:db8::1")));
        let unnamed = [
            v2(0x20, 0, &[]),
            v2(0x20, 0x11, &v4),
            v2(0x21, 0, &tlvs),
            v2(0x21, 0x31, &[0; 216]),
            v2(0x20, 0xff, &[1]),
        ];
        for unnamed in unnamed {
            assert_eq!(client(&unnamed), Ok(None), "{unnamed:?}");
        }
        for short in [v2(0x21, 0x11, &v4[..11]), v2(0x21, 0x21, &v6[..35]), v2(0x21, 0x31, &[0; 215])] {
            assert_eq!(parse(&short), Err(BadProxyHeader::ShortV2), "{short:?}");
        }
        for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x21, 0x13), (0x21, 0x41), (0x21, 0x10)] {
            assert_eq!(parse(&v2(command, family, &v4)), Err(BadProxyHeader::UnknownV2), "{command} {family}");
        }
        let longest = HEADER_BYTES_MAX - V2_FIXED_BYTES;
        assert_eq!(client(&v2(0x21, 0, &vec![0; longest])), Ok(None));
        assert_eq!(parse(&v2(0x21, 0, &vec![0; longest + 1])), Err(BadProxyHeader::TooLong));
    }

    #[test]
    fn other_bytes_are_no_header() {
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXX", b"\r\n\r\nX", b"\x16\x03\x01"] {
            assert_eq!(parse(other), Err(BadProxyHeader::Missing), "{other:?}");
        }
    }

    /// A valid header and its client.
    fn any_header() -> impl Strategy<Value = (Vec<u8>, Option<IpAddr>)> {
        let address = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
        let tlvs = proptest::collection::vec(any::<u8>(), 0..300);
        (address, any::<[u16; 2]>(), tlvs, 0..4).prop_map(|(address, [from, to], tlvs, kind)| match (address, kind) {
            (_, 0) => (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (_, 1) => (v2(0x20, 0x11, &tlvs), None),
            (address, 2) => {
                let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
                let line = format!("PROXY {family} {address} {address} {from} {to}\r\n");
                (line.into_bytes(), Some(address.to_canonical()))
            }
            (IpAddr::V4(v4), _) => (v2(0x21, 0x11, &[&v4.octets()[..], &[0; 8], &tlvs].concat()), Some(v4.into())),
            (IpAddr::V6(v6), _) => {
                (v2(0x21, 0x21, &[&v6.octets()[..], &[0; 20], &tlvs].concat()), Some(IpAddr::V6(v6).to_canonical()))
            }
        })
    }

    proptest! {
        #[test]
        fn a_header_is_complete_with_its_last_byte(
            (header, client) in any_header(),
            after in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            for end in 0..header.len() {
                prop_assert_eq!(parse(&header[..end]), Ok(None), "{} of {} bytes", end, header.len());
            }
            let bytes = header.len();
            prop_assert_eq!(parse(&[header, after].concat()), Ok(Some(ProxyHeader { bytes, client })));
        }

        /// Also bytes that begin like a header, and headers with a changed byte.
        #[test]
        fn no_bytes_make_it_panic(
            (mut header, _) in any_header(),
            start in proptest::sample::select(vec![&b""[..], V1_START, V2_START, b"\r\n\r\n\0\r\nQUIT\n\x21"]),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            (at, byte) in (any::<proptest::sample::Index>(), any::<u8>()),
        ) {
            let at = at.index(header.len());
            header[at] = byte;
            for input in [[start, &bytes].concat(), header] {
                if let Ok(Some(ProxyHeader { bytes, .. })) = parse(&input) {
                    prop_assert!(bytes <= input.len() && bytes <= HEADER_BYTES_MAX);
                }
            }
        }
    }
}

//! Parses `X-Forwarded-For` and `Forwarded` (RFC 7239). A proxy appends the address from which it got the request, so
//! the rightmost address is the nearest hop, and everything left of the first address that is not a trusted proxy may be
//! invented by the client. Pure.
//!
//! A comma always ends an element, also within quotes. No address contains a comma. If quotes counted, a client could send
//! an opening quote, and the text would go on through the element that the proxy appends.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The hops in the lines of a field, the nearest one first. `None`: an element without a valid address.
pub(super) fn hops<'a>(
    lines: impl DoubleEndedIterator<Item = &'a [u8]>,
    parse: fn(&str) -> Option<IpAddr>,
) -> impl Iterator<Item = Option<IpAddr>> {
    let elements = lines.rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let elements = elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty());
    elements.map(move |element| parse(std::str::from_utf8(element).ok()?))
}

/// An element of `X-Forwarded-For`: an address, or one with a port, as some proxies write it.
pub(super) fn x_forwarded_for(element: &str) -> Option<IpAddr> {
    address(element)
}

/// An element of `Forwarded`: pairs such as `for="[2001:db8::1]:4711";proto=https`. The address is that of `for`. It may
/// be `unknown`, or an identifier that begins with `_`: then there is none.
pub(super) fn forwarded(element: &str) -> Option<IpAddr> {
    let mut node = None;
    let mut rest = element;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(';') {
            rest = after.trim_start();
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        let is_end = after.is_empty() || after.starts_with(';');
        if !is_end || (name.eq_ignore_ascii_case("for") && node.replace(value).is_some()) {
            return None;
        }
        rest = after;
    }
    address(&node?)
}

/// Splits `text` after its first value, a token or a quoted string (RFC 9110, section 5.6.4). Many proxies write an
/// address with a port without quotes, so a token ends only at a semicolon.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, after) = text.split_at(text.find(';').unwrap_or(text.len()));
        return Some((Cow::Borrowed(token.trim_end()), after));
    };
    let mut content = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((Cow::Owned(content), quoted[at + 1..].trim_start())),
            '\\' => content.push(chars.next()?.1),
            other => content.push(other),
        }
    }
    None
}

/// An address, which may have a port. An IPv6 address with a port is in brackets. An IPv4 address that is mapped into
/// IPv6 becomes an IPv4 address.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(IpAddr::V6(address).to_canonical());
    }
    let (address, port): (IpAddr, &str) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.into(), port)
        }
        None => {
            let (address, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (address.parse::<Ipv4Addr>().ok()?.into(), port)
        }
    };
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then(|| address.to_canonical())
}

/// A port, or an identifier that hides one (RFC 7239, section 6).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => {
            !hidden.is_empty() && hidden.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

//! The hops of a request, as `Forwarded` (RFC 7239) or `X-Forwarded-For` lists them.
//!
//! The headers are read from the right to the left. The right end was written by the proxy that
//! sent the request, so nothing that a client writes at the left can change how it is read:
//!
//! ```text
//! Forwarded: for=", for="[2001:db8::7]:4711";proto=https
//!                └── what a client sent   └── appended by the proxy, and read first
//! ```

use std::net::{IpAddr, Ipv6Addr};

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Bytes of a header's value that are read, from its end.
const BYTES_MAX: usize = 8 << 10;

/// Returns the hops of a request, the last one first. A hop is `None` if it has no address, because
/// it is unknown, hidden or malformed.
pub(super) fn hops(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let is_standard = headers.contains_key(header::FORWARDED);
    let (name, parse): (_, fn(&str) -> Option<IpAddr>) = if is_standard {
        (header::FORWARDED, parse_element)
    } else {
        (X_FORWARDED_FOR, parse_node)
    };
    let values: Vec<&HeaderValue> = headers.get_all(name).collect();
    let values = values.into_iter().rev();
    values.flat_map(move |value| {
        let value = value.as_bytes();
        let end = &value[value.len().saturating_sub(BYTES_MAX)..];
        let is_cut = end.len() < value.len();
        split_from_right(end, b',', is_standard).map(move |item| {
            // The first item of a value that was cut may be a part of a hop.
            let is_whole = !(is_cut && item.is_first);
            parse(std::str::from_utf8(item.text).ok().filter(|_| is_whole)?)
        })
    })
}

/// An item of a list.
struct Item<'a> {
    text: &'a [u8],
    /// It has no item before it.
    is_first: bool,
}

/// Splits a list at `separator`, the last item first. Within quotes there is no separator if the
/// list `has_quotes`.
fn split_from_right(
    list: &[u8],
    separator: u8,
    has_quotes: bool,
) -> impl Iterator<Item = Item<'_>> + use<'_> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let mut is_quoted = false;
        for at in (0..list.len()).rev() {
            if has_quotes && list[at] == b'"' && !is_escaped(list, at) {
                is_quoted = !is_quoted;
            } else if list[at] == separator && !is_quoted {
                rest = Some(&list[..at]);
                return Some(Item {
                    text: list[at + 1..].trim_ascii(),
                    is_first: false,
                });
            }
        }
        rest = None;
        Some(Item {
            text: list.trim_ascii(),
            is_first: true,
        })
    })
}

/// Whether an odd number of backslashes is before the byte.
fn is_escaped(list: &[u8], at: usize) -> bool {
    let before = list[..at].iter().rev();
    before.take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Returns the address in an element of `Forwarded`, such as `for=192.0.2.43;proto=http`.
fn parse_element(element: &str) -> Option<IpAddr> {
    let mut node = None;
    for pair in split_from_right(element.as_bytes(), b';', true) {
        let pair = std::str::from_utf8(pair.text).ok()?;
        let (name, value) = pair.split_once('=')?;
        if name.eq_ignore_ascii_case("for") {
            let is_first = node.replace(unquote(value)?).is_none();
            if !is_first {
                return None;
            }
        }
    }
    parse_node(&node?)
}

/// Returns the text of a token or of a quoted string.
fn unquote(value: &str) -> Option<String> {
    let Some(quoted) = value.strip_prefix('"') else {
        return Some(value.to_owned());
    };
    let mut text = String::new();
    let mut chars = quoted.strip_suffix('"')?.chars();
    while let Some(char) = chars.next() {
        text.push(if char == '\\' { chars.next()? } else { char });
    }
    Some(text)
}

/// Returns the address of a hop: `192.0.2.43`, `192.0.2.43:4711`, `2001:db8::1`, `[2001:db8::1]` or
/// `[2001:db8::1]:4711`.
fn parse_node(node: &str) -> Option<IpAddr> {
    if let Some(bracketed) = node.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let is_valid = port.is_empty() || is_port(port.strip_prefix(':')?);
        let address = address.parse::<Ipv6Addr>().ok().filter(|_| is_valid)?;
        return Some(IpAddr::from(address).to_canonical());
    }
    let address = match node.split_once(':') {
        Some((address, port)) if !port.contains(':') => is_port(port).then_some(address)?,
        _ => node,
    };
    address.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Whether this is a port, which may be obfuscated (RFC 7239, section 6).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(is_obfuscated_byte),
        None => {
            text.len() <= 5 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
        }
    }
}

fn is_obfuscated_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests;

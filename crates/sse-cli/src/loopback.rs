//! Whether an address is of this machine.
//!
//! Proxies are never used for such an address, and the server is stricter about origins if it
//! listens on one.

use std::net::IpAddr;

use url::{Host, Url};

/// Returns whether `ip` is a loopback address: `::1` or 127.0.0.0/8, also mapped to IPv6 like
/// `::ffff:127.0.0.1` (RFC 4291 §2.5.5.2).
#[must_use]
pub fn is_loopback_ip(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Returns whether the host of `url` is this machine: a loopback address, `localhost`, or a name
/// below `localhost` (RFC 6761 §6.3).
#[must_use]
pub fn is_loopback_url(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_localhost(name),
        Some(Host::Ipv4(ip)) => is_loopback_ip(ip.into()),
        Some(Host::Ipv6(ip)) => is_loopback_ip(ip.into()),
        None => false,
    }
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_this_machine_is_recognised_by_its_host() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://a.localhost", true),
            ("http://127.1.2.3", true),
            ("https://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://example.org", false),
            ("http://localhost.example.org", false),
            ("http://10.0.0.1", false),
            ("http://[::2]", false),
            ("http://[::ffff:10.0.0.1]", false),
        ] {
            let parsed = Url::parse(url).expect("a URL");
            assert_eq!(is_loopback_url(&parsed), expected, "{url}");
        }
    }
}

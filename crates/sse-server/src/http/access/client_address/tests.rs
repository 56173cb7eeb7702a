//! Which hop of a request is the client.

use actix_web::{http::header::HeaderMap, test::TestRequest};

use super::*;

fn trusted(proxies: &[&str]) -> TrustedProxies {
    let proxies = proxies.iter().map(|proxy| proxy.parse().unwrap());
    TrustedProxies::new(&proxies.collect::<Vec<_>>())
}

/// Returns the client of a request from `peer` with this `X-Forwarded-For`, as text.
fn client_of(proxies: &[&str], peer: Option<&str>, forwarded_for: &str) -> String {
    let to = match peer {
        Some(_) => "127.0.0.1:5000".parse().unwrap(),
        None => "unix:/run/sse.sock".parse().unwrap(),
    };
    let mut request = TestRequest::default().insert_header(("x-forwarded-for", forwarded_for));
    if let Some(peer) = peer {
        request = request.peer_addr(SocketAddr::new(peer.parse().unwrap(), 40_000));
    }
    let mut request = request.to_srv_request();
    let client = trusted(proxies).client_address(request.head(), &to);
    request.head_mut().peer_addr = client;
    // The result must not depend on how often the client is looked up.
    let again = trusted(proxies).client_address(request.head(), &to);
    assert_eq!(
        client.map(|client| client.ip()),
        again.map(|client| client.ip())
    );
    client.map_or_else(|| "none".to_owned(), |client| client.ip().to_string())
}

#[test]
fn the_client_is_the_first_hop_from_the_right_that_is_not_trusted() {
    let nets = ["10.0.0.0/8", "2001:db8::/32"];
    let proxy = Some("10.0.0.2");
    for (forwarded_for, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7, 2001:db8::5, 10.0.0.1", "203.0.113.7"),
        ("10.0.0.9, 10.0.0.1", "10.0.0.9"),
        ("203.0.113.7, unknown, 10.0.0.1", "10.0.0.1"),
        ("203.0.113.7, unknown", "10.0.0.2"),
        ("", "10.0.0.2"),
    ] {
        assert_eq!(
            client_of(&nets, proxy, forwarded_for),
            expected,
            "{forwarded_for}"
        );
    }
    assert_eq!(
        client_of(&nets, Some("::ffff:10.0.0.2"), "203.0.113.7"),
        "203.0.113.7"
    );
}

#[test]
fn a_peer_that_is_not_trusted_reports_nothing() {
    assert_eq!(
        client_of(&["10.0.0.0/8"], Some("11.0.0.1"), "1.1.1.1"),
        "11.0.0.1"
    );
    assert_eq!(client_of(&["10.0.0.0/8"], None, "1.1.1.1"), "none");
    assert_eq!(
        client_of(&["unix"], Some("127.0.0.1"), "1.1.1.1"),
        "127.0.0.1"
    );
    assert_eq!(client_of(&["unix"], None, "1.1.1.1"), "1.1.1.1");
    assert_eq!(client_of(&["unix"], None, "_hidden"), "none");
    assert_eq!(
        client_of(&["unix", "10.0.0.1"], None, "1.1.1.1, 10.0.0.1"),
        "1.1.1.1"
    );
}

#[test]
fn a_peer_without_an_address_is_a_unix_socket_only_at_one() {
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-forwarded-for".parse().unwrap(),
        "1.1.1.1".parse().unwrap(),
    );
    let request = TestRequest::default().insert_header(("x-forwarded-for", "1.1.1.1"));
    let request = request.to_srv_request();
    let to = "127.0.0.1:5000".parse().unwrap();
    assert_eq!(trusted(&["unix"]).client_address(request.head(), &to), None);
}

#[test]
fn a_long_chain_of_trusted_proxies_is_not_read_to_its_end() {
    let chain = vec!["10.0.0.1"; 1000].join(", ");
    let client = client_of(
        &["10.0.0.0/8"],
        Some("10.0.0.2"),
        &format!("203.0.113.7, {chain}"),
    );
    assert_eq!(client, "10.0.0.1");
}

#[test]
fn a_proxy_is_an_address_a_network_or_unix() {
    for text in ["10.0.0.1", "10.0.0.0/8", "2001:db8::/32", "::1", "unix"] {
        assert!(text.parse::<TrustedProxy>().is_ok(), "{text}");
    }
    for text in [
        "",
        "10.0.0.0/33",
        "proxy.example",
        "*",
        "::ffff:10.0.0.0/104",
        "unix:/run/x",
    ] {
        assert!(text.parse::<TrustedProxy>().is_err(), "{text}");
    }
    assert!(trusted(&[]).is_empty() && !trusted(&["unix"]).is_empty());
}

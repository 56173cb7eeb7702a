//! Addresses as texts.

use super::*;

fn parse(text: &str) -> ListenAddress {
    text.parse().unwrap()
}

#[test]
fn an_address_is_shown_as_the_flag_and_as_a_url() {
    for (text, shown, url) in [
        ("127.0.0.1:5000", "127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("[::1]:0", "[::1]:0", "http://[::1]:0"),
        ("http://[::1]:80/", "[::1]:80", "http://[::1]:80"),
        (
            "https://0.0.0.0:8443",
            "https://0.0.0.0:8443",
            "https://0.0.0.0:8443",
        ),
        (
            "https://[::]:443?proxy=v2",
            "https://[::]:443?proxy=v2",
            "https://[::]:443",
        ),
        (
            "10.0.0.1:1?proxy=v2",
            "10.0.0.1:1?proxy=v2",
            "http://10.0.0.1:1",
        ),
        ("unix:/a?proxy=v2", "unix:/a?proxy=v2", "unix:/a"),
        ("unix:/a?b", "unix:/a?b", "unix:/a?b"),
        ("unix:/run/a", "unix:/run/a", "unix:/run/a"),
        ("unix:///run/a", "unix:/run/a", "unix:/run/a"),
        ("unix:a.sock", "unix:a.sock", "unix:a.sock"),
    ] {
        let address = parse(text);
        assert_eq!((&*address.to_string(), &*address.url()), (shown, url));
    }
}

#[test]
fn text_that_is_no_address_is_rejected_with_what_to_write() {
    let at_most = format!("unix:/{}", "x".repeat(SOCKET_PATH_BYTES_MAX - 1));
    assert!(at_most.parse::<ListenAddress>().is_ok());
    for (text, hint) in [
        ("5000", "unix:/run/sse.sock"),
        ("https://example", "https://0.0.0.0:8443"),
        ("ftp://127.0.0.1:1", "127.0.0.1:5000"),
        ("127.0.0.1:1?proxy=v1", "?proxy=v2"),
        ("127.0.0.1:1?tls", "?proxy=v2"),
        ("unix:/a?proxy=v1", "?proxy=v2"),
        ("/run/sse.sock", "write unix:/run/sse.sock"),
        ("./sse.sock", "write unix:./sse.sock"),
        ("unix:", "unix:/run/sse.sock"),
        ("unix:/run/", "unix:/run/sse.sock"),
        ("unix:@sse", "abstract"),
        (&format!("{at_most}x"), "shorter"),
    ] {
        let error = text.parse::<ListenAddress>().unwrap_err();
        assert!(error.contains(hint), "{text}: {error}");
    }
}

#[test]
fn addresses_are_the_same_if_a_server_cannot_listen_on_both() {
    for (one, other, same) in [
        ("127.0.0.1:1", "127.0.0.1:1", true),
        ("127.0.0.1:1", "[::ffff:127.0.0.1]:1", true),
        ("127.0.0.1:1", "https://127.0.0.1:1?proxy=v2", true),
        ("127.0.0.1:1", "127.0.0.1:2", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("127.0.0.1:1", "[::1]:1", false),
        ("unix:/run/a", "unix:///run//a", true),
        ("unix:/run/a", "unix:/run/b", false),
        ("unix:/run/a", "127.0.0.1:1", false),
    ] {
        assert_eq!(parse(one).is_same(&parse(other)), same, "{one} {other}");
    }
}

#[test]
fn loopback_addresses_and_unix_sockets_are_local() {
    for (text, local) in [
        ("127.1.2.3:1", true),
        ("[::1]:1", true),
        ("unix:/run/sse.sock", true),
        ("0.0.0.0:1", false),
        ("[::]:1", false),
    ] {
        assert_eq!(parse(text).is_local(), local, "{text}");
    }
}

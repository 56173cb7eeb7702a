//! The forms of hops, and headers that a client has made.

use proptest::prelude::*;

use super::*;

fn of_headers(lines: &[(&'static str, &str)]) -> Vec<Option<IpAddr>> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_static(name);
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    hops(&headers).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Values of `Forwarded`, and the address of the last hop.
const FORWARDED: &[(&str, Option<&str>)] = &[
    ("for=192.0.2.43", Some("192.0.2.43")),
    ("For=192.0.2.43:47011;proto=https", Some("192.0.2.43")),
    (r#"for="192.0.2.43:47011""#, Some("192.0.2.43")),
    (
        r#"proto=http;FOR="[2001:db8:cafe::17]:4711""#,
        Some("2001:db8:cafe::17"),
    ),
    (r#"for="[2001:db8:cafe::17]""#, Some("2001:db8:cafe::17")),
    (r#"for="[::ffff:192.0.2.1]:80""#, Some("192.0.2.1")),
    (r#"for="192.0.2.43:_port""#, Some("192.0.2.43")),
    (r#"for="192.0.\2.43""#, Some("192.0.2.43")),
    (
        r#"by="a,b;for=10.0.0.1\"";for=192.0.2.43"#,
        Some("192.0.2.43"),
    ),
    ("for=1.1.1.1, for=192.0.2.43", Some("192.0.2.43")),
    (r#"for=", for=192.0.2.43"#, Some("192.0.2.43")),
    (r#"for="\", for=192.0.2.43"#, Some("192.0.2.43")),
    ("for=unknown", None),
    ("for=_hidden", None),
    (r#"for="_hidden:80""#, None),
    ("proto=https", None),
    ("for=192.0.2.43;for=192.0.2.44", None),
    ("for", None),
    ("for=", None),
    ("", None),
    ("for=192.0.2.43,", None),
    ("for = 192.0.2.43", None),
    ("for=192.0.2.43;", None),
    (r#"for="192.0.2.43"#, None),
    (r#"for="192.0.2.43" x"#, None),
    (r#"for="[192.0.2.43]""#, None),
    (r#"for="[2001:db8::1]4711""#, None),
    (r#"for="[2001:db8::1]:""#, None),
    (r#"for="[2001:db8::1%eth0]""#, None),
    ("for=192.0.2.43:123456", None),
    ("for=192.0.2", None),
    ("for=0192.0.2.43", None),
];

#[test]
fn an_element_of_forwarded_has_an_address_or_is_unknown() {
    for (value, expected) in FORWARDED {
        let expected = expected.map(address);
        let found = of_headers(&[("forwarded", value)]);
        assert_eq!(found.first(), Some(&expected), "{value}");
    }
}

#[test]
fn x_forwarded_for_has_addresses_with_and_without_ports() {
    for (value, expected) in [
        ("192.0.2.43", Some("192.0.2.43")),
        ("1.1.1.1,  192.0.2.43 ", Some("192.0.2.43")),
        ("192.0.2.43:80", Some("192.0.2.43")),
        ("2001:db8::1", Some("2001:db8::1")),
        ("[2001:db8::1]:80", Some("2001:db8::1")),
        ("::ffff:192.0.2.1", Some("192.0.2.1")),
        ("\"1.1.1.1, 192.0.2.43", Some("192.0.2.43")),
        ("unknown", None),
        ("192.0.2.43, ", None),
        ("\"192.0.2.43\"", None),
        ("localhost", None),
    ] {
        let found = of_headers(&[("x-forwarded-for", value)]);
        assert_eq!(found.first(), Some(&expected.map(address)), "{value}");
    }
}

#[test]
fn hops_of_all_lines_are_in_one_order_and_forwarded_counts_first() {
    let lines = [
        ("x-forwarded-for", "9.9.9.9"),
        ("forwarded", "for=1.1.1.1, for=2.2.2.2"),
        ("forwarded", "for=3.3.3.3"),
    ];
    let expected = ["3.3.3.3", "2.2.2.2", "1.1.1.1"].map(|text| Some(address(text)));
    assert_eq!(of_headers(&lines), expected);
    assert_eq!(of_headers(&lines[..1]), [Some(address("9.9.9.9"))]);
    assert_eq!(of_headers(&[]), []);
}

#[test]
fn only_the_end_of_a_long_value_is_read() {
    let long = format!("203.0.113.7{}, 10.0.0.1", " ".repeat(BYTES_MAX));
    assert_eq!(
        of_headers(&[("x-forwarded-for", &long)]),
        [Some(address("10.0.0.1")), None]
    );
    // The cut is within the first address.
    let text = format!(
        "203.0.113.7,{}10.0.0.1",
        " ".repeat(BYTES_MAX - "3.7,10.0.0.1".len())
    );
    assert_eq!(
        of_headers(&[("x-forwarded-for", &text)]),
        [Some(address("10.0.0.1")), None]
    );
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u16; 8]>().prop_map(|segments| IpAddr::from(segments).to_canonical()),
    ]
}

/// Text with the bytes that have a meaning in these headers.
const HOSTILE: &str = r#"(for=|"|\\|,|;|=|:|\[|\]|_|%|unknown|[0-9a-f.]{1,4}|[ -~]){0,24}"#;

proptest! {
    #[test]
    fn a_client_cannot_change_what_the_proxy_appended(
        sent in HOSTILE,
        client in any_ip(),
        port in any::<u16>(),
    ) {
        let node = std::net::SocketAddr::new(client, port);
        let value = format!(r#"{sent}, for="{node}";proto=https"#);
        prop_assert_eq!(of_headers(&[("forwarded", &value)])[0], Some(client));
        let value = format!("{sent}, {client}");
        prop_assert_eq!(of_headers(&[("x-forwarded-for", &value)])[0], Some(client));
    }

    #[test]
    fn any_value_is_read(sent in HOSTILE) {
        for name in ["forwarded", "x-forwarded-for"] {
            prop_assert!(!of_headers(&[(name, &sent)]).is_empty());
        }
    }
}

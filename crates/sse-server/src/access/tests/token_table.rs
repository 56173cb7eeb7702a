//! Tokens and what becomes of them: the lines of `token_table.txt`, and texts that are not the three
//! parts of a token.

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::Value;

use super::{
    fixture::{ALGORITHMS, API_KEY, KEYS, Token, access, now, token},
    *,
};

/// A credential and its expected result.
struct Case {
    name: String,
    text: String,
    source: CredentialSource,
    expected: String,
}

impl Case {
    fn in_header(name: &str, text: impl Into<String>, expected: &str) -> Self {
        let (name, text, expected) = (name.to_owned(), text.into(), expected.to_owned());
        Self {
            name,
            text,
            source: CredentialSource::Header,
            expected,
        }
    }

    fn parse(line: &str) -> Self {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let [name, algorithm, changes, place, expected] = columns[..] else {
            panic!("{line}");
        };
        let changes = changes.split(" ; ").filter(|change| !change.is_empty());
        let token = changes.fold(token(algorithm.parse().unwrap()), change);
        let source = match place {
            "header" => CredentialSource::Header,
            "cookie" => CredentialSource::Cookie,
            "url" => CredentialSource::Url,
            other => panic!("{other}"),
        };
        Self {
            source,
            ..Self::in_header(name, token.text(), expected)
        }
    }
}

fn change(token: Token, change: &str) -> Token {
    let (what, value) = change.split_once('=').unwrap();
    let (what, value) = (what.trim(), value.trim());
    let (part, name) = what.split_once('.').unwrap_or((what, ""));
    match (part, value) {
        ("sign", "pem") => signed_by_secret(token, KEYS.rsa_public_pem.as_bytes()),
        ("sign", "other") => signed_by_secret(token, &[1; 32]),
        ("sign", algorithm) => {
            let algorithm = algorithm.parse().unwrap();
            token.signed_by(KEYS.key(algorithm), algorithm)
        }
        (_, "absent") => token.without(part, name),
        ("header", value) => token.header(name, parse_value(value)),
        ("claim", value) => token.claim(name, parse_value(value)),
        _ => panic!("{change}"),
    }
}

fn signed_by_secret(token: Token, secret: &[u8]) -> Token {
    token.signed_by(EncodingKey::from_secret(secret).unwrap(), Algorithm::HS256)
}

fn parse_value(text: &str) -> Value {
    match text.strip_prefix("now") {
        Some(offset) => now().saturating_add_signed(offset.parse().unwrap()).into(),
        None => serde_json::from_str(text).unwrap(),
    }
}

/// Texts with another number of parts, other parts, or no Base64.
fn split_differently() -> Vec<Case> {
    let valid = token(Algorithm::ES256).text();
    let other = token(Algorithm::ES256).claim("sub", "1").text();
    let parts: Vec<_> = valid.split('.').collect();
    let others: Vec<_> = other.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("a token has three parts");
    };
    [
        ("empty", String::new(), "malformed"),
        ("a word", "token".to_owned(), "malformed"),
        ("one dot", format!("{header}.{payload}"), "malformed"),
        ("four parts", format!("{valid}.x"), "malformed"),
        (
            "five parts, as encrypted",
            "a.b.c.d.e".to_owned(),
            "malformed",
        ),
        (
            "without a signature",
            format!("{header}.{payload}."),
            "signature",
        ),
        (
            "the signature of another",
            format!("{header}.{payload}.{}", others[2]),
            "signature",
        ),
        (
            "no Base64 as signature",
            format!("{header}.{payload}.***"),
            "signature",
        ),
        (
            "the claims of another",
            format!("{header}.{}.{signature}", others[1]),
            "signature",
        ),
        ("a space at the end", format!("{valid} "), "signature"),
        (
            "padding",
            format!("{header}.{payload}=.{signature}"),
            "malformed",
        ),
        ("a line break", format!("\n{valid}"), "malformed"),
        (
            "the other alphabet",
            format!("{header}.+/+/.{signature}"),
            "malformed",
        ),
        (
            "an unknown API key",
            "sse_billing_9876543210".to_owned(),
            "unknown_key",
        ),
        (
            "a part of an API key",
            API_KEY[..API_KEY.len() - 1].to_owned(),
            "unknown_key",
        ),
        ("an API key and more", format!("{API_KEY}0"), "unknown_key"),
        ("an API key", API_KEY.to_owned(), "ok"),
    ]
    .map(|(name, text, expected)| Case::in_header(name, text, expected))
    .into()
}

/// Signed texts whose parts are not the JSON of a header and claims, or too long.
fn signed_differently() -> Vec<Case> {
    let valid = token(Algorithm::ES256);
    let (header, claims) = (valid.header.to_string(), valid.claims.to_string());
    let begin = |text: &str, addition: &str| text.replacen('{', &format!("{{{addition},"), 1);
    let deep = format!("{{\"a\":{}", "[".repeat(1000));
    [
        ("the header is no JSON", "x", claims.as_str()),
        ("the header is a list", "[]", &claims),
        ("alg twice", &begin(&header, r#""alg":"none""#), &claims),
        ("the claims are a list", &header, "[]"),
        (
            "something behind the claims",
            &header,
            &format!("{claims}x"),
        ),
        ("exp twice", &header, &begin(&claims, r#""exp":9999999999"#)),
        (
            "a right twice",
            &header,
            &begin(&claims, r#""sse":{"publish":[],"publish":["*"]}"#),
        ),
        ("nbf is NaN", &header, &begin(&claims, r#""nbf":NaN"#)),
        (
            "nbf is infinite",
            &header,
            &begin(&claims, r#""nbf":1e999"#),
        ),
        ("nested too deep", &header, &deep),
        ("no UTF-8", &header, "{\"a\":\"\\ud800\"}"),
    ]
    .map(|(name, header, claims)| Case::in_header(name, valid.text_of(header, claims), "malformed"))
    .into()
}

fn long_tokens() -> Vec<Case> {
    let valid = token(Algorithm::ES256);
    let many = serde_json::json!({"publish": vec!["a"; 257]});
    vec![
        Case::in_header(
            "8 KiB",
            valid.clone().claim("x", "x".repeat(5700)).text(),
            "ok",
        ),
        Case::in_header(
            "more than 8 KiB",
            valid.clone().claim("x", "x".repeat(6200)).text(),
            "malformed",
        ),
        Case::in_header(
            "too many patterns",
            valid.claim("sse", many).text(),
            "malformed",
        ),
    ]
}

fn each_algorithm() -> Vec<Case> {
    let cases = ALGORITHMS.into_iter().flat_map(|algorithm| {
        let (text, other) = (
            token(algorithm).text(),
            token(algorithm).claim("sub", "1").text(),
        );
        let message = text.rsplit_once('.').unwrap().0;
        let forged = format!("{message}.{}", other.rsplit_once('.').unwrap().1);
        let name = format!("{algorithm:?}");
        [
            Case::in_header(&name, text, "ok"),
            Case::in_header(&name, forged, "signature"),
        ]
    });
    let in_place = |source| Case {
        source,
        ..Case::in_header("an API key elsewhere", API_KEY, "header_only")
    };
    cases
        .chain([CredentialSource::Cookie, CredentialSource::Url].map(in_place))
        .collect()
}

#[tokio::test]
async fn every_token_is_accepted_or_rejected_for_its_reason() {
    let access = access();
    let lines = include_str!("token_table.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut cases: Vec<_> = lines.map(Case::parse).collect();
    cases.extend(split_differently());
    cases.extend(signed_differently());
    cases.extend(long_tokens());
    cases.extend(each_algorithm());
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for Case {
        name,
        text,
        source,
        expected,
    } in &cases
    {
        // The second time the result comes from the cache.
        for _ in 0..2 {
            let found = match access.identify(text, *source).await {
                Ok(_) => "ok",
                Err(CredentialError::Rejected(word)) => word.as_str(),
                Err(CredentialError::Unavailable) => "unavailable",
            };
            if found != expected {
                wrong.push(format!("{name}: {found} instead of {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

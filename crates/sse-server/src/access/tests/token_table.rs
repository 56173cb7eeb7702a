//! Tokens and what becomes of them, one line per case.

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::{
    CredentialError, CredentialSource,
    CredentialSource::{Cookie, Header, Url},
    RejectionWord,
    RejectionWord::{
        Algorithm as WrongAlgorithm, Audience, Critical, Expired, HeaderOnly, Issuer, Lifetime,
        Malformed, NotYetValid, Signature, Type, UnknownKey,
    },
    fixture::{
        ALGORITHMS, API_KEY, HUB, KEYS, PEM_ISSUER, SECRET, SECRET_ISSUER, Token, access, now,
        token,
    },
};

type Case = (
    &'static str,
    CredentialSource,
    String,
    Option<RejectionWord>,
);

fn rs() -> Token {
    token(Algorithm::RS256)
}

fn es() -> Token {
    token(Algorithm::ES256)
}

fn secret(key: &[u8]) -> EncodingKey {
    EncodingKey::from_secret(key).unwrap()
}

/// The header of a token that is accepted, with something added.
fn headers() -> Vec<Case> {
    let case = |name, token: Token, word| (name, Header, token.text(), word);
    vec![
        case("no typ", es().without("typ"), None),
        case("typ in lower case", es().header("typ", "jwt"), None),
        case("typ of an access token", es().header("typ", "at+jwt"), None),
        case(
            "typ in full",
            es().header("typ", "application/at+jwt"),
            None,
        ),
        case(
            "typ of a ticket",
            es().header("typ", "sse-ticket+jwt"),
            Some(Type),
        ),
        case(
            "typ of an id token",
            es().header("typ", "id+jwt"),
            Some(Type),
        ),
        case(
            "typ of a logout token",
            es().header("typ", "logout+jwt"),
            Some(Type),
        ),
        case(
            "typ with a prefix twice",
            es().header("typ", "application/application/jwt"),
            Some(Type),
        ),
        case("typ is empty", es().header("typ", ""), Some(Type)),
        case("typ is no text", es().header("typ", 1), Some(Malformed)),
        case("crit", es().header("crit", json!(["b64"])), Some(Critical)),
        case(
            "crit that is known",
            es().header("crit", json!(["exp"])),
            Some(Critical),
        ),
        case(
            "crit is empty",
            es().header("crit", json!([])),
            Some(Critical),
        ),
        case(
            "crit is no list",
            es().header("crit", Value::Null),
            Some(Critical),
        ),
        case(
            "jku is ignored",
            es().header("jku", "https://evil.example/keys"),
            None,
        ),
        case(
            "jwk is ignored",
            es().header("jwk", KEYS.jwk("x", Algorithm::ES384)),
            None,
        ),
        case(
            "x5u is ignored",
            es().header("x5u", "https://evil.example/cert"),
            None,
        ),
        case("x5c is ignored", es().header("x5c", json!(["MII"])), None),
        case(
            "unknown fields are ignored",
            es().header("nonce", "1"),
            None,
        ),
        case("kid is no text", es().header("kid", 1), Some(Malformed)),
        case(
            "kid is unknown",
            es().header("kid", "other"),
            Some(UnknownKey),
        ),
        case(
            "kid looks like a path",
            es().header("kid", "../../dev/null"),
            Some(UnknownKey),
        ),
        case(
            "no kid, one key of the algorithm",
            es().without("kid"),
            None,
        ),
        case("no alg", es().without("alg"), Some(Malformed)),
        case("alg none", es().header("alg", "none"), Some(WrongAlgorithm)),
        case("alg None", es().header("alg", "None"), Some(WrongAlgorithm)),
        case("alg is empty", es().header("alg", ""), Some(WrongAlgorithm)),
        case(
            "alg in lower case",
            es().header("alg", "es256"),
            Some(WrongAlgorithm),
        ),
        case(
            "alg ES512 does not exist here",
            es().header("alg", "ES512"),
            Some(WrongAlgorithm),
        ),
        case("alg is no text", es().header("alg", 1), Some(Malformed)),
    ]
}

/// Tokens that are signed with another key or algorithm than that of their `kid`.
fn confusions() -> Vec<Case> {
    let case = |name, token: Token, word| (name, Header, token.text(), Some(word));
    let pem = KEYS.rsa_public_pem.as_bytes();
    let hmac = |token: Token, key| {
        token
            .header("alg", "HS256")
            .signed_by(secret(key), Algorithm::HS256)
    };
    vec![
        case(
            "HS256 with the public RSA key in PEM",
            hmac(rs(), pem),
            WrongAlgorithm,
        ),
        case(
            "the same, without a kid",
            hmac(rs().without("kid"), pem),
            Signature,
        ),
        case(
            "the same, with the kid of the secret",
            hmac(rs().header("kid", "HS256"), pem),
            Signature,
        ),
        case(
            "the same, at an issuer with a PEM file",
            hmac(rs().claim("iss", PEM_ISSUER), pem),
            WrongAlgorithm,
        ),
        case(
            "RS512 with a key for RS256",
            rs().header("alg", "RS512")
                .signed_by(KEYS.key(Algorithm::RS512), Algorithm::RS512),
            WrongAlgorithm,
        ),
        case(
            "PS256 with a key for RS256",
            rs().header("alg", "PS256")
                .signed_by(KEYS.key(Algorithm::PS256), Algorithm::PS256),
            WrongAlgorithm,
        ),
        case(
            "alg says RS256, signed with PS256",
            rs().signed_by(KEYS.key(Algorithm::PS256), Algorithm::PS256),
            Signature,
        ),
        case(
            "ES384 with the kid of ES256",
            token(Algorithm::ES384).header("kid", "ES256"),
            WrongAlgorithm,
        ),
        case(
            "ES256 with the kid of EdDSA",
            es().header("kid", "EdDSA"),
            WrongAlgorithm,
        ),
        case(
            "EdDSA with the kid of ES256",
            token(Algorithm::EdDSA).header("kid", "ES256"),
            WrongAlgorithm,
        ),
        case(
            "another secret",
            token(Algorithm::HS256).signed_by(secret(&[1; 32]), Algorithm::HS256),
            Signature,
        ),
        case(
            "HS384 at an issuer with HS256",
            token(Algorithm::HS384).claim("iss", SECRET_ISSUER),
            WrongAlgorithm,
        ),
        case(
            "a token of one issuer in the name of another",
            rs().claim("iss", SECRET_ISSUER),
            WrongAlgorithm,
        ),
        case(
            "signed by an issuer in the name of this server",
            rs().claim("iss", HUB),
            Type,
        ),
        case(
            "a forged ticket",
            es().claim("iss", HUB).header("typ", "sse-ticket+jwt"),
            Malformed,
        ),
    ]
}

/// Claims about time, issuer and audience.
fn claims() -> Vec<Case> {
    let case = |name, token: Token, word| (name, Header, token.text(), word);
    let date = |name: &str, value: Value| es().claim(name, value);
    vec![
        case(
            "exp passed within the leeway",
            date("exp", json!(now() - 20)),
            None,
        ),
        case("exp passed", date("exp", json!(now() - 31)), Some(Expired)),
        case("exp is 0", date("exp", json!(0)), Some(Expired)),
        case(
            "exp has a fraction",
            date("exp", json!(1e9 + 1e9 + 0.5)),
            None,
        ),
        case("exp is negative", date("exp", json!(-1)), Some(Malformed)),
        case(
            "exp is in milliseconds",
            date("exp", json!(now() * 1000)),
            Some(Malformed),
        ),
        case(
            "exp is too large",
            date("exp", json!(1e300)),
            Some(Malformed),
        ),
        case(
            "exp is text",
            date("exp", json!("2000000000")),
            Some(Malformed),
        ),
        case("exp is null", date("exp", Value::Null), Some(Malformed)),
        case(
            "exp is a list",
            date("exp", json!([2_000_000_000])),
            Some(Malformed),
        ),
        case("exp is missing", es().without("exp"), Some(Malformed)),
        case(
            "nbf within the leeway",
            date("nbf", json!(now() + 20)),
            None,
        ),
        case(
            "nbf in the future",
            date("nbf", json!(now() + 60)),
            Some(NotYetValid),
        ),
        case("nbf is text", date("nbf", json!("1")), Some(Malformed)),
        case(
            "iat in the future",
            date("iat", json!(now() + 60)),
            Some(NotYetValid),
        ),
        case("iat is missing", es().without("iat"), None),
        case("iat is text", date("iat", json!("1")), Some(Malformed)),
        case("iss is missing", es().without("iss"), Some(Issuer)),
        case(
            "iss is another",
            date("iss", json!("https://evil.example")),
            Some(Issuer),
        ),
        case(
            "iss with a slash",
            date("iss", json!("https://id.example/")),
            Some(Issuer),
        ),
        case(
            "iss in upper case",
            date("iss", json!("HTTPS://ID.EXAMPLE")),
            Some(Issuer),
        ),
        case(
            "iss is a list",
            date("iss", json!(["https://id.example"])),
            Some(Malformed),
        ),
        case("aud is a list", date("aud", json!(["x", HUB])), None),
        case(
            "aud is the second audience",
            date("aud", json!("other")),
            None,
        ),
        case(
            "aud is another",
            date("aud", json!("https://hub.example.evil")),
            Some(Audience),
        ),
        case(
            "aud is an empty list",
            date("aud", json!([])),
            Some(Audience),
        ),
        case("aud is missing", es().without("aud"), Some(Audience)),
        case(
            "aud contains a number",
            date("aud", json!([HUB, 1])),
            Some(Malformed),
        ),
        case(
            "aud is an object",
            date("aud", json!({"a": HUB})),
            Some(Malformed),
        ),
        case("sub is missing", es().without("sub"), None),
        case("sub is a number", date("sub", json!(42)), None),
        case("sub is an object", date("sub", json!({})), Some(Malformed)),
        case("jti is a number", date("jti", json!(1)), Some(Malformed)),
        case(
            "rights",
            date(
                "sse",
                json!({"publish": ["a.*"], "observe": true, "new": 1}),
            ),
            None,
        ),
        case(
            "rights are text",
            date("sse", json!("publish")),
            Some(Malformed),
        ),
        case(
            "a right is text",
            date("sse", json!({"publish": "a.*"})),
            Some(Malformed),
        ),
        case(
            "a pattern is invalid",
            date("sse", json!({"publish": ["a b"]})),
            Some(Malformed),
        ),
        case(
            "a pattern is a number",
            date("sse", json!({"publish": [1]})),
            Some(Malformed),
        ),
        case(
            "too many patterns",
            date("sse", json!({"publish": vec!["a"; 257]})),
            Some(Malformed),
        ),
        case(
            "observe is text",
            date("sse", json!({"observe": "true"})),
            Some(Malformed),
        ),
    ]
}

/// Texts that are not the three parts of a token.
fn forms() -> Vec<Case> {
    let case = |name, text: String, word| (name, Header, text, word);
    let valid = es().text();
    let parts: Vec<_> = valid.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let claims = es().claims.to_string();
    let twice = claims.replacen('{', "{\"exp\":9999999999,", 1);
    let json_header = es().header.to_string();
    let other = es().claim("sub", "1").text();
    vec![
        case("empty", String::new(), Some(Malformed)),
        case("a word", "token".to_owned(), Some(Malformed)),
        case("one dot", format!("{header}.{payload}"), Some(Malformed)),
        case("four parts", format!("{valid}.x"), Some(Malformed)),
        case(
            "five parts, as encrypted",
            "a.b.c.d.e".to_owned(),
            Some(Malformed),
        ),
        case(
            "without a signature",
            format!("{header}.{payload}."),
            Some(Signature),
        ),
        case(
            "a signature of another token",
            format!("{header}.{payload}.{}", other.rsplit('.').next().unwrap()),
            Some(Signature),
        ),
        case(
            "a signature that is no Base64",
            format!("{header}.{payload}.***"),
            Some(Signature),
        ),
        case(
            "claims of another token",
            format!("{header}.{}.{signature}", other.split('.').nth(1).unwrap()),
            Some(Signature),
        ),
        case("a space at the end", format!("{valid} "), Some(Signature)),
        case(
            "padding in the payload",
            format!("{header}.{payload}=.{signature}"),
            Some(Malformed),
        ),
        case(
            "a line break in the header",
            format!("\n{valid}"),
            Some(Malformed),
        ),
        case(
            "the other alphabet",
            format!("{header}.+/+/.{signature}"),
            Some(Malformed),
        ),
        case(
            "the header is no JSON",
            es().text_of("x", &claims),
            Some(Malformed),
        ),
        case(
            "the header is a list",
            es().text_of("[]", &claims),
            Some(Malformed),
        ),
        case(
            "the claims are a list",
            es().text_of(&json_header, "[]"),
            Some(Malformed),
        ),
        case(
            "the claims have something behind them",
            es().text_of(&json_header, &format!("{claims}x")),
            Some(Malformed),
        ),
        case(
            "exp twice",
            es().text_of(&json_header, &twice),
            Some(Malformed),
        ),
        case(
            "alg twice",
            es().text_of(&json_header.replacen('{', "{\"alg\":\"none\",", 1), &claims),
            Some(Malformed),
        ),
        case(
            "a right twice",
            es().text_of(
                &json_header,
                &claims.replacen('{', r#"{"sse":{"publish":[],"publish":["*"]},"#, 1),
            ),
            Some(Malformed),
        ),
        case(
            "exp is NaN",
            es().text_of(
                &json_header,
                &twice
                    .replace("9999999999", "NaN")
                    .replacen("\"exp\":1", "\"x\":1", 1),
            ),
            Some(Malformed),
        ),
        case(
            "exp is infinite",
            es().text_of(&json_header, r#"{"exp":1e999}"#),
            Some(Malformed),
        ),
        case(
            "nested too deep",
            es().text_of(&json_header, &format!("{{\"a\":{}", "[".repeat(1000))),
            Some(Malformed),
        ),
        case("8 KiB", es().claim("x", "x".repeat(5700)).text(), None),
        case(
            "more than 8 KiB",
            es().claim("x", "x".repeat(6200)).text(),
            Some(Malformed),
        ),
        case(
            "an unknown API key",
            "sse_billing_9876543210".to_owned(),
            Some(UnknownKey),
        ),
        case(
            "the beginning of an API key",
            API_KEY[..API_KEY.len() - 1].to_owned(),
            Some(UnknownKey),
        ),
        case(
            "an API key and more",
            format!("{API_KEY}0"),
            Some(UnknownKey),
        ),
        case("an API key", API_KEY.to_owned(), None),
    ]
}

/// Where a credential was found.
fn places() -> Vec<Case> {
    let long = || es().claim("exp", now() + 3601).text();
    vec![
        (
            "an API key in a cookie",
            Cookie,
            API_KEY.to_owned(),
            Some(HeaderOnly),
        ),
        (
            "an API key in a URL",
            Url,
            API_KEY.to_owned(),
            Some(HeaderOnly),
        ),
        ("a token in a cookie", Cookie, es().text(), None),
        ("a long token in a cookie", Cookie, long(), None),
        ("a token in a URL", Url, es().text(), None),
        (
            "a token of one hour in a URL",
            Url,
            es().claim("exp", now() + 3600).text(),
            None,
        ),
        ("a longer token in a URL", Url, long(), Some(Lifetime)),
        (
            "a token without iat in a URL",
            Url,
            es().without("iat").text(),
            Some(Lifetime),
        ),
        (
            "an old token in a URL",
            Url,
            es().claim("iat", now() - 3600).text(),
            Some(Lifetime),
        ),
        (
            "a token with iat after exp in a URL",
            Url,
            es().claim("iat", now() + 20)
                .claim("exp", now() + 10)
                .text(),
            Some(Lifetime),
        ),
    ]
}

fn algorithms() -> Vec<Case> {
    let valid = ALGORITHMS.map(|algorithm| ("valid", Header, token(algorithm).text(), None));
    let forged = ALGORITHMS.map(|algorithm| {
        let (text, other) = (
            token(algorithm).text(),
            token(algorithm).claim("sub", "1").text(),
        );
        let message = text.rsplit_once('.').unwrap().0;
        (
            "forged",
            Header,
            format!("{message}.{}", other.rsplit_once('.').unwrap().1),
            Some(Signature),
        )
    });
    let by_secret = token(Algorithm::HS256).claim("iss", SECRET_ISSUER).text();
    let by_pem = rs().claim("iss", PEM_ISSUER).text();
    let no_kid = token(Algorithm::HS256)
        .claim("iss", SECRET_ISSUER)
        .without("kid")
        .text();
    let files = [
        ("a secret in a file", Header, by_secret, None),
        ("a public key in a file", Header, by_pem, None),
        ("a secret in a file, without kid", Header, no_kid, None),
    ];
    valid.into_iter().chain(forged).chain(files).collect()
}

#[tokio::test]
async fn every_token_of_the_table_is_accepted_or_rejected_for_its_reason() {
    assert_eq!(SECRET.len(), 64);
    let access = access();
    let cases = [
        headers(),
        confusions(),
        claims(),
        forms(),
        places(),
        algorithms(),
    ]
    .concat();
    assert!(cases.len() >= 120, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (name, source, text, expected) in &cases {
        // The second time the result comes from the cache.
        for _ in 0..2 {
            let found = match access.identify(text, *source).await {
                Ok(_) => None,
                Err(CredentialError::Rejected(word)) => Some(word),
                Err(CredentialError::Unavailable) => panic!("{name}: no keys are fetched here"),
            };
            if found != *expected {
                wrong.push(format!("{name}: {found:?} instead of {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Which keys of a set are used.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::fixture::{ALGORITHMS, KEYS, SECRET, full_key_set};
use crate::access::keys::{
    jwk::{SetOrigin, parse_key_set},
    pem::{parse_public_key, parse_secret},
};

fn count(keys: &[Value], origin: SetOrigin) -> usize {
    let json = json!({ "keys": keys }).to_string();
    parse_key_set(json.as_bytes(), origin, Algorithm::RS256)
        .unwrap()
        .len()
}

/// Returns the entry of an RSA key with changes; `null` removes a field.
fn changed(algorithm: Algorithm, changes: &Value) -> Value {
    let mut jwk = KEYS.jwk("1", algorithm);
    for (name, value) in changes.as_object().unwrap() {
        jwk[name] = value.clone();
        if value.is_null() {
            jwk.as_object_mut().unwrap().remove(name);
        }
    }
    jwk
}

#[test]
fn keys_that_cannot_verify_tokens_are_ignored() {
    let rsa = |changes| changed(Algorithm::RS256, changes);
    let ec = |changes| changed(Algorithm::ES256, changes);
    let ed = |changes| changed(Algorithm::EdDSA, changes);
    for (name, jwk, expected) in [
        ("rsa", rsa(&json!({})), 1),
        ("without use", rsa(&json!({"use": null})), 1),
        ("for encryption", rsa(&json!({"use": "enc"})), 0),
        ("another use", rsa(&json!({"use": "SIG"})), 0),
        ("to verify", rsa(&json!({"key_ops": ["verify"]})), 1),
        ("to wrap", rsa(&json!({"key_ops": ["wrapKey"]})), 0),
        ("rsa without alg", rsa(&json!({"alg": null})), 1),
        ("rsa for encryption", rsa(&json!({"alg": "RSA-OAEP"})), 0),
        ("rsa that says ES256", rsa(&json!({"alg": "ES256"})), 0),
        ("rsa that says HS256", rsa(&json!({"alg": "HS256"})), 0),
        ("rsa without n", rsa(&json!({"n": null})), 0),
        ("rsa with a wrong n", rsa(&json!({"n": "***"})), 0),
        ("rsa with an empty n", rsa(&json!({"n": ""})), 0),
        ("rsa of 1024 bits", KEYS.weak_jwk("1"), 0),
        (
            "rsa with zeros before",
            rsa(&json!({"n": "A".repeat(400)})),
            0,
        ),
        (
            "with a certificate",
            rsa(&json!({"x5c": ["MII"], "x5t": 1, "new": {}})),
            1,
        ),
        ("kid is a number", rsa(&json!({"kid": 1})), 0),
        ("ec without alg", ec(&json!({"alg": null})), 1),
        ("another curve", ec(&json!({"crv": "P-384"})), 0),
        ("an unknown curve", ec(&json!({"crv": "secp256k1"})), 0),
        (
            "a point that is not on the curve",
            ec(&json!({"x": "A".repeat(43)})),
            0,
        ),
        ("a short point", ec(&json!({"x": "AAAA"})), 0),
        ("ec that says ES384", ec(&json!({"alg": "ES384"})), 0),
        ("ed25519", ed(&json!({"alg": null})), 1),
        ("a short ed25519", ed(&json!({"x": "AAAA"})), 0),
        ("an empty ed25519", ed(&json!({"x": ""})), 0),
        ("a long ed25519", ed(&json!({"x": "A".repeat(64)})), 0),
        ("x25519", ed(&json!({"crv": "X25519"})), 0),
        ("a secret", changed(Algorithm::HS256, &json!({})), 0),
        ("an unknown kind", rsa(&json!({"kty": "AKP"})), 0),
        ("no object", json!(1), 0),
        ("an empty object", json!({}), 0),
    ] {
        assert_eq!(count(&[jwk], SetOrigin::Url), expected, "{name}");
    }
}

#[test]
fn a_secret_counts_only_in_a_file() {
    let secret = |k: &str| changed(Algorithm::HS256, &json!({ "k": k }));
    assert_eq!(count(&[secret(&"A".repeat(43))], SetOrigin::File), 1);
    assert_eq!(count(&[secret(&"A".repeat(42))], SetOrigin::File), 0);
    assert_eq!(count(&[secret("***")], SetOrigin::File), 0);
    let all = full_key_set();
    let all = all["keys"].as_array().unwrap();
    assert_eq!(count(all, SetOrigin::File), ALGORITHMS.len());
    assert_eq!(count(all, SetOrigin::Url), ALGORITHMS.len() - 3);
}

#[test]
fn a_set_has_at_most_32_keys() {
    let set = |keys: usize, other: usize| {
        let key = KEYS.jwk("1", Algorithm::EdDSA);
        let ignored = json!({"kty": "other"});
        let keys: Vec<_> = [vec![key; keys], vec![ignored; other]].concat();
        json!({ "keys": keys }).to_string()
    };
    let parse = |json: &str| parse_key_set(json.as_bytes(), SetOrigin::Url, Algorithm::RS256);
    assert_eq!(parse(&set(32, 10)).unwrap().len(), 32);
    assert!(parse(&set(33, 0)).unwrap_err().contains("32"));
    for bad in [
        "",
        "{}",
        "[]",
        "{\"keys\":1}",
        "{\"keys\":{}}",
        "<html>",
        "{\"keys\":[],\"keys\":[]}",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_key_file_contains_a_public_key_and_nothing_else() {
    let rsa = KEYS.rsa_public_pem.as_str();
    let ed = KEYS.signing_public_pem.as_str();
    let parse = |pem: &str, algorithm| parse_public_key(pem.as_bytes(), algorithm);
    assert_eq!(parse(rsa, None).unwrap().algorithm(), Algorithm::RS256);
    assert_eq!(
        parse(rsa, Some(Algorithm::PS512)).unwrap().algorithm(),
        Algorithm::PS512
    );
    assert_eq!(parse(ed, None).unwrap().algorithm(), Algorithm::EdDSA);
    assert!(parse(rsa, Some(Algorithm::ES256)).is_err());
    assert!(parse(rsa, Some(Algorithm::HS256)).is_err());
    assert!(
        parse(KEYS.signing_pem.expose(), None)
            .unwrap_err()
            .contains("private key")
    );
    let certificate = ed.replace("PUBLIC KEY", "CERTIFICATE");
    for bad in [
        "",
        "x",
        certificate.as_str(),
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(
            parse(bad, None).unwrap_err().contains("not a public key"),
            "{bad}"
        );
    }
}

#[test]
fn a_secret_has_at_least_32_bytes() {
    let parse = |bytes: &[u8], algorithm| parse_secret(bytes, algorithm);
    assert_eq!(parse(SECRET, None).unwrap().algorithm(), Algorithm::HS256);
    let with_line_break = [SECRET, b"\r\n"].concat();
    assert!(parse(SECRET, None).unwrap() == parse(&with_line_break, None).unwrap());
    assert!(parse(&[b'x'; 32], Some(Algorithm::HS512)).is_ok());
    let short = [&[b'x'; 31][..], b"\n"].concat();
    assert!(parse(&short, None).unwrap_err().contains("32 bytes"));
    assert!(parse(SECRET, Some(Algorithm::RS256)).is_err());
    let printed = format!("{:?}", parse(SECRET, None).unwrap());
    assert!(
        !printed.contains("0123456789") && !printed.contains("48, 49, 50"),
        "{printed}"
    );
}

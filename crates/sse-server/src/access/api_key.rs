//! API keys: `sse_<id>_<secret>`.
//!
//! The configuration contains only the SHA-256 of the whole key. The secret has 256 random bits, so
//! neither a guess nor the digest leads to it, and a slow hash would add nothing. The id is for
//! people: it says which key a text in a log or a setting is.

use rand::{TryRng as _, rngs::SysRng};
use sha2::{Digest as _, Sha256};

use super::Secret;

/// A SHA-256.
pub type Digest = [u8; 32];

/// The beginning of every API key.
const PREFIX: &str = "sse_";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// Returns the SHA-256 that identifies a credential: of a whole API key, or of a token without its
/// signature.
///
/// The holder of a token with ES256 or ES384 can write its signature in another way that is valid
/// too. A revocation by the hash of the whole text would not concern that token.
#[must_use]
pub fn digest(text: &str) -> Digest {
    text_digest(text.rsplit_once('.').map_or(text, |(signed, _)| signed))
}

/// Returns the SHA-256 of a whole text.
pub(super) fn text_digest(text: &str) -> Digest {
    Sha256::digest(text.as_bytes()).into()
}

/// Returns whether a credential is meant as an API key. A token has dots, and begins with `{` in
/// Base64.
pub(super) fn is_api_key(text: &str) -> bool {
    text.starts_with(PREFIX) && !text.contains('.')
}

/// Returns whether a text can be a credential: an API key, or a JWT with its three parts in Base64.
#[must_use]
pub fn is_credential_text(text: &str) -> bool {
    let is_base64 = |part: &str| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        !part.is_empty() && part.bytes().all(is_allowed)
    };
    let is_jwt = text.split('.').count() == 3 && text.split('.').all(is_base64);
    is_jwt || is_api_key(text) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Creates an API key.
///
/// # Errors
///
/// The system has no randomness.
pub fn create_api_key() -> Result<Secret, String> {
    let id = random_hex(ID_BYTES)?;
    let secret = random_hex(SECRET_BYTES)?;
    Ok(Secret::new(format!("{PREFIX}{id}_{secret}")))
}

/// Returns random bytes in hex, which is safe in a URL and has no `_`.
pub(super) fn random_hex(bytes: usize) -> Result<String, String> {
    Ok(to_hex(&random_bytes(bytes)?))
}

/// Returns bytes of the system's random generator.
pub(super) fn random_bytes(count: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; count];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(bytes)
}

/// Returns bytes in lower-case hex.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Parses a digest in hex.
///
/// # Errors
///
/// The text is not 64 hexadecimal digits.
pub fn parse_digest(text: &str) -> Result<Digest, &'static str> {
    const WRONG: &str = "write the SHA-256 of the whole key in 64 hexadecimal digits; \
                         sse-server key new prints it";
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(WRONG);
    }
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| WRONG)?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_an_id_and_a_secret_of_256_bits() {
        let (one, other) = (create_api_key().unwrap(), create_api_key().unwrap());
        assert_ne!(one.expose(), other.expose());
        let parts: Vec<_> = one.expose().split('_').collect();
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        assert_eq!((parts[0], lengths), ("sse", vec![3, 12, 64]));
        assert!(is_api_key(one.expose()) && !is_api_key("eyJ.e30.x") && !is_api_key("sse_a.b.c"));
    }

    #[test]
    fn a_text_with_anything_beside_a_credential_is_none() {
        let key = create_api_key().unwrap();
        for good in [key.expose(), "eyJ.e30.x-_9", "sse_a.b.c"] {
            assert!(is_credential_text(good), "{good}");
        }
        let key = key.expose();
        for bad in [
            "",
            "x",
            "a.b",
            "a..b",
            "a.b.c.d",
            "eyJ.e30.",
            "Bearer eyJ.e30.x",
            &format!("Bearer {key}"),
            &format!("{key}\n"),
            &format!("\"{key}\""),
        ] {
            assert!(!is_credential_text(bad), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let text = to_hex(&digest("sse_1_2"));
        assert_eq!(parse_digest(&text), Ok(digest("sse_1_2")));
        assert_eq!(digest("sse_1_2"), text_digest("sse_1_2"));
        assert_eq!(digest("a.b.c"), text_digest("a.b"));
        assert_eq!(parse_digest(&text.to_uppercase()), Ok(digest("sse_1_2")));
        for bad in [
            "",
            &text[1..],
            &format!("{text}0"),
            &text.replace(&text[..1], "g"),
            "+0".repeat(32).as_str(),
        ] {
            assert!(parse_digest(bad).is_err(), "{bad}");
        }
    }
}

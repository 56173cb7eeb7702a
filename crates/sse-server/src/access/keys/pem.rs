//! Keys in files: a public key in PEM, or a secret.

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::{
    key_set::KeySet,
    verifying_key::{SECRET_BYTES_MIN, VerifyingKey},
};

const NOT_PUBLIC: &str = "this is not a public key in PEM: RSA, P-256, P-384 or Ed25519, between \
                          the lines BEGIN PUBLIC KEY and END PUBLIC KEY";

/// Reads a public key. `algorithm` is needed for RSA with another algorithm than RS256.
///
/// # Errors
///
/// The text is not a public key, or not one for `algorithm`.
pub(crate) fn parse_public_key(
    pem: &[u8],
    algorithm: Option<Algorithm>,
) -> Result<VerifyingKey, String> {
    let text = std::str::from_utf8(pem).map_err(|_| NOT_PUBLIC)?;
    if text.contains("PRIVATE KEY") {
        return Err("this is a private key: name the file of the public key".to_owned());
    }
    // The library also reads certificates, but may take another part of one for the key.
    if !text.contains("PUBLIC KEY") {
        return Err(NOT_PUBLIC.to_owned());
    }
    let (key, implied) = read_public_key(pem).ok_or(NOT_PUBLIC)?;
    VerifyingKey::new(key, algorithm.unwrap_or(implied), None)
}

fn read_public_key(pem: &[u8]) -> Option<(DecodingKey, Algorithm)> {
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        return Some((key, Algorithm::RS256));
    }
    if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        return Some((key, Algorithm::EdDSA));
    }
    let key = DecodingKey::from_ec_pem(pem).ok()?;
    let algorithm = match key.try_get_as_bytes().ok()?.len() {
        65 => Algorithm::ES256,
        97 => Algorithm::ES384,
        _ => return None,
    };
    Some((key, algorithm))
}

/// Reads an Ed25519 public key, with its thumbprint as `kid`.
///
/// # Errors
///
/// The text is not such a key.
pub(crate) fn parse_ticket_key(pem: &[u8]) -> Result<VerifyingKey, String> {
    parse_public_key(pem, None).and_then(|key| {
        if key.algorithm() == Algorithm::EdDSA {
            Ok(key)
        } else {
            Err("tickets are signed with Ed25519: create a key with sse-server key signing".into())
        }
    })
}

/// Reads a secret. One line break at the end, which editors add, does not belong to it.
///
/// # Errors
///
/// The secret is too short, or `algorithm` is not one with a secret.
pub(crate) fn parse_secret(
    bytes: &[u8],
    algorithm: Option<Algorithm>,
) -> Result<VerifyingKey, String> {
    let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "a secret must have at least {SECRET_BYTES_MIN} bytes"
        ));
    }
    let algorithm = algorithm.unwrap_or(Algorithm::HS256);
    if algorithm.family() != AlgorithmFamily::Hmac {
        return Err("a secret is for HS256, HS384 or HS512".to_owned());
    }
    let key = DecodingKey::from_secret(secret).map_err(|_| "the secret is empty".to_owned())?;
    VerifyingKey::new(key, algorithm, None)
}

/// Returns a set of one key.
pub(crate) fn single_key_set(key: VerifyingKey) -> KeySet {
    KeySet::new(vec![key])
}

//! Key sets in JSON (RFC 7517).
//!
//! A set may contain keys for other purposes and of unknown kinds. They are ignored, as RFC 7517 §5
//! demands, and so are keys that are too weak. Of a set from a URL, symmetric keys are ignored too:
//! anybody can read it.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    key_set::{KEYS_MAX, KeySet},
    verifying_key::VerifyingKey,
};

/// Whether a set may contain secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOrigin {
    File,
    Url,
}

#[derive(Deserialize)]
struct JwkSet<'j> {
    #[serde(borrow)]
    keys: Vec<&'j RawValue>,
}

/// The fields of a key that count. Others, such as `x5c`, are ignored.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// Reads a key set. `rsa_algorithm` is that of RSA keys whose entry names none.
///
/// # Errors
///
/// The text is no key set, or has more than [`KEYS_MAX`] usable keys.
pub(crate) fn parse_key_set(
    json: &[u8],
    origin: SetOrigin,
    rsa_algorithm: Algorithm,
) -> Result<KeySet, String> {
    let set: JwkSet<'_> = serde_json::from_slice(json)
        .map_err(|_| "this is not a key set in JSON: {\"keys\":[…]}".to_owned())?;
    let entries = set
        .keys
        .iter()
        .filter_map(|entry| serde_json::from_str(entry.get()).ok());
    let usable = entries.filter_map(|jwk| verifying_key(jwk, origin, rsa_algorithm));
    let keys: Vec<_> = usable.take(KEYS_MAX + 1).collect();
    if keys.len() > KEYS_MAX {
        return Err(format!("the key set has more than {KEYS_MAX} keys"));
    }
    Ok(KeySet::new(keys))
}

/// Returns the key of an entry; `None` if it is not one that verifies tokens.
fn verifying_key(jwk: Jwk, origin: SetOrigin, rsa_algorithm: Algorithm) -> Option<VerifyingKey> {
    let is_for_signatures = jwk.r#use.as_deref().is_none_or(|usage| usage == "sig");
    let verifies = jwk
        .key_ops
        .as_ref()
        .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !is_for_signatures || !verifies {
        return None;
    }
    let own_algorithm = match &jwk.alg {
        Some(name) => Some(name.parse().ok()?),
        None => None,
    };
    let (key, implied) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (
            DecodingKey::from_rsa_components(&jwk.n?, &jwk.e?),
            rsa_algorithm,
        ),
        ("EC", Some("P-256")) => (ec_key(&jwk.x?, &jwk.y?), Algorithm::ES256),
        ("EC", Some("P-384")) => (ec_key(&jwk.x?, &jwk.y?), Algorithm::ES384),
        ("OKP", Some("Ed25519")) => (DecodingKey::from_ed_components(&jwk.x?), Algorithm::EdDSA),
        ("oct", _) if origin == SetOrigin::File => (secret(&jwk.k?), Algorithm::HS256),
        _ => return None,
    };
    // A curve has one algorithm. RSA keys and secrets have several.
    let is_of_curve = matches!(jwk.kty.as_str(), "EC" | "OKP");
    let algorithm = own_algorithm.unwrap_or(implied);
    if is_of_curve && algorithm != implied {
        return None;
    }
    VerifyingKey::new(key.ok()?, algorithm, jwk.kid).ok()
}

fn ec_key(x: &str, y: &str) -> jsonwebtoken::errors::Result<DecodingKey> {
    DecodingKey::from_ec_components(x, y)
}

fn secret(text: &str) -> jsonwebtoken::errors::Result<DecodingKey> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    DecodingKey::from_secret(&bytes)
}

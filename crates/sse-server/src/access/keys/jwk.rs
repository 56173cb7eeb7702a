//! Key sets in JSON (RFC 7517).
//!
//! A set may contain keys for other purposes and of unknown kinds. They are ignored, as RFC 7517 §5
//! demands, and so are keys that are too weak. Of a set from a URL, symmetric keys are ignored too:
//! anybody can read it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

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
    let usable = entries.filter_map(|jwk| read_verifying_key(jwk, origin, rsa_algorithm));
    let keys: Vec<_> = usable.take(KEYS_MAX + 1).collect();
    if keys.len() > KEYS_MAX {
        return Err(format!("the key set has more than {KEYS_MAX} keys"));
    }
    Ok(KeySet::new(keys))
}

/// Returns the key of an entry; `None` if it is not one that verifies tokens.
fn read_verifying_key(
    jwk: Jwk,
    origin: SetOrigin,
    rsa_algorithm: Algorithm,
) -> Option<VerifyingKey> {
    if !jwk.is_for_signatures() {
        return None;
    }
    let (key, implied) = decode_key(&jwk, origin, rsa_algorithm)?;
    let algorithm = match &jwk.alg {
        Some(name) => name.parse().ok()?,
        None => implied,
    };
    // A curve has one algorithm. RSA keys and secrets have several.
    let is_of_curve = matches!(key.family(), AlgorithmFamily::Ec | AlgorithmFamily::Ed);
    if is_of_curve && algorithm != implied {
        return None;
    }
    VerifyingKey::new(key, algorithm, jwk.kid).ok()
}

impl Jwk {
    fn is_for_signatures(&self) -> bool {
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        self.r#use.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(verifies)
    }
}

/// Returns the key, and the algorithm that it is for if the entry names none.
fn decode_key(
    jwk: &Jwk,
    origin: SetOrigin,
    rsa_algorithm: Algorithm,
) -> Option<(DecodingKey, Algorithm)> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => read_rsa_key(jwk).map(|key| (key, rsa_algorithm)),
        ("EC", Some("P-256")) => read_ec_key(jwk).map(|key| (key, Algorithm::ES256)),
        ("EC", Some("P-384")) => read_ec_key(jwk).map(|key| (key, Algorithm::ES384)),
        ("OKP", Some("Ed25519")) => read_ed_key(jwk).map(|key| (key, Algorithm::EdDSA)),
        ("oct", _) if origin == SetOrigin::File => {
            read_secret(jwk).map(|key| (key, Algorithm::HS256))
        }
        _ => None,
    }
}

fn read_rsa_key(jwk: &Jwk) -> Option<DecodingKey> {
    DecodingKey::from_rsa_components(jwk.n.as_ref()?, jwk.e.as_ref()?).ok()
}

fn read_ec_key(jwk: &Jwk) -> Option<DecodingKey> {
    DecodingKey::from_ec_components(jwk.x.as_ref()?, jwk.y.as_ref()?).ok()
}

fn read_ed_key(jwk: &Jwk) -> Option<DecodingKey> {
    DecodingKey::from_ed_components(jwk.x.as_ref()?).ok()
}

fn read_secret(jwk: &Jwk) -> Option<DecodingKey> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(jwk.k.as_ref()?).ok()?);
    DecodingKey::from_secret(&bytes).ok()
}

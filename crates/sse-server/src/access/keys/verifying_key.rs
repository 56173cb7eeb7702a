//! A key that verifies signatures of one algorithm.

use std::sync::Arc;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, crypto,
    jwk::{Jwk, ThumbprintHash},
};

/// What identifies a key: the thumbprint of RFC 7638 in Base64, or an HMAC for a secret.
pub(crate) type Thumbprint = Arc<str>;

/// Bytes of an Ed25519 key.
const ED25519_BYTES: usize = 32;
/// Bits of an RSA key. Below, it can be broken; above, a signature costs too much to verify.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// What the HMAC that identifies a secret is computed of. No token begins like this.
const SECRET_LABEL: &[u8] = b"sse-server: the identity of a secret";
/// Bytes of an HMAC secret.
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// A key, its algorithm, and its name in a set.
#[derive(Debug, Clone)]
pub(crate) struct VerifyingKey {
    key_id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
    thumbprint: Thumbprint,
}

impl VerifyingKey {
    /// Checks that `key` can verify signatures of `algorithm`.
    ///
    /// # Errors
    ///
    /// The text names what is wrong with the key.
    pub(crate) fn new(
        key: DecodingKey,
        algorithm: Algorithm,
        key_id: Option<String>,
    ) -> Result<Self, String> {
        if key.family() != algorithm.family() {
            return Err(format!("the key is not one for {algorithm:?}"));
        }
        check_strength(&key)?;
        // An empty signature never matches. An error means that the key is no point of the curve.
        crypto::verify("", b"", &key, algorithm).map_err(|_| "the key is invalid".to_owned())?;
        let thumbprint = thumbprint(&key, algorithm).ok_or("the key is invalid")?;
        Ok(Self {
            key_id,
            algorithm,
            key,
            thumbprint: thumbprint.into(),
        })
    }

    /// Returns the key with its thumbprint as its id.
    pub(crate) fn named_by_thumbprint(self) -> Self {
        Self {
            key_id: Some(self.thumbprint.to_string()),
            ..self
        }
    }

    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// Returns whether `signature`, in Base64, is that of `message` with this key.
    pub(crate) fn verifies(&self, message: &str, signature: &str) -> bool {
        crypto::verify(signature, message.as_bytes(), &self.key, self.algorithm).unwrap_or(false)
    }
}

/// Returns what identifies a key. Tickets contain it, so that of a secret is an HMAC with the secret
/// as its key: like any token of the issuer, it shows nothing of the secret. The thumbprint of RFC 7638
/// would be a plain hash of it.
fn thumbprint(key: &DecodingKey, algorithm: Algorithm) -> Option<String> {
    if key.family() == AlgorithmFamily::Hmac {
        let secret = EncodingKey::from_secret(key.try_get_as_bytes().ok()?).ok()?;
        return crypto::sign(SECRET_LABEL, &secret, Algorithm::HS256).ok();
    }
    let jwk = Jwk::from_decoding_key(key, Some(algorithm)).ok()?;
    jwk.thumbprint(ThumbprintHash::SHA256).ok()
}

/// Two keys are equal if they verify the same tokens.
impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.key_id, self.algorithm, &self.thumbprint)
            == (&other.key_id, other.algorithm, &other.thumbprint)
    }
}

/// The length is checked before the key is used: the library takes it for granted.
fn check_strength(key: &DecodingKey) -> Result<(), String> {
    let bytes = key.try_get_as_bytes().map_or(0, <[u8]>::len);
    match key.family() {
        AlgorithmFamily::Ed if bytes != ED25519_BYTES => Err("an Ed25519 key has 32 bytes".into()),
        AlgorithmFamily::Hmac if bytes < SECRET_BYTES_MIN => Err(format!(
            "a secret must have at least {SECRET_BYTES_MIN} bytes"
        )),
        AlgorithmFamily::Rsa if !RSA_BITS.contains(&count_rsa_bits(key)) => {
            Err("an RSA key must have 2048 to 4096 bits".into())
        }
        _ => Ok(()),
    }
}

/// Returns the number of bits of an RSA key; 0 if it is not one.
fn count_rsa_bits(key: &DecodingKey) -> usize {
    use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    match key.kind() {
        RsaModulusExponent { n, .. } => count_significant_bits(n),
        SecretOrDer(der) => {
            let utils = crypto::CryptoProvider::try_get_default().map(|found| &found.key_utils);
            let components =
                utils.and_then(|utils| (utils.rsa_pub_components_from_public_key)(der).ok());
            components.map_or(0, |(n, _)| count_significant_bits(&n))
        }
    }
}

fn count_significant_bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    match &number[zeros..] {
        [] => 0,
        digits @ [first, ..] => digits.len() * 8 - first.leading_zeros() as usize,
    }
}

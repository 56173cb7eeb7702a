//! The keys of tickets (Ed25519).
//!
//! The `kid` of a ticket is the thumbprint of its key (RFC 7638), so nodes agree on it without a
//! setting. Rotation in three steps, each on all nodes: the new public key is added to
//! `verify_files`; the new key signs; the old public key is removed after the longest life of a
//! ticket.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, crypto::CryptoProvider, jwk::EllipticCurve,
};
use zeroize::Zeroizing;

use crate::access::{
    Secret,
    api_key::random_bytes,
    keys::{key_set::KeySet, pem::parse_ticket_key, verifying_key::VerifyingKey},
};

/// What precedes the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410 §7).
const PRIVATE_DER: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];
/// What precedes the 32 bytes of an Ed25519 public key (RFC 8410 §4).
const PUBLIC_DER: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// The key that signs tickets, and those that verify them.
#[derive(Debug)]
pub(crate) struct SigningKeys {
    pub(crate) issuer: Arc<str>,
    pub(super) signer: EncodingKey,
    pub(super) key_id: String,
    pub(crate) verify: Arc<KeySet>,
    /// Whether the signing key is one of `verify_files`.
    pub(crate) is_announced: bool,
}

impl SigningKeys {
    /// Reads the private key `pem`, and the public keys `verify` of other nodes, in PEM.
    ///
    /// # Errors
    ///
    /// The private key is not an Ed25519 key in PEM.
    pub(crate) fn new(
        issuer: Arc<str>,
        pem: &[u8],
        mut verify: Vec<VerifyingKey>,
    ) -> Result<Self, String> {
        const WRONG: &str = "this is not a private Ed25519 key in PEM: create one with sse-server \
                             key signing";
        let signer = EncodingKey::from_ed_pem(pem).map_err(|_| WRONG)?;
        let public = derive_public_key(signer.as_bytes()).ok_or(WRONG)?;
        let own = VerifyingKey::new(DecodingKey::from_ed_der(&public), Algorithm::EdDSA, None)?;
        let is_announced = verify.contains(&own);
        let key_id = own.thumbprint().to_string();
        if !is_announced {
            verify.push(own);
        }
        let verify = verify
            .into_iter()
            .map(VerifyingKey::named_by_thumbprint)
            .collect();
        Ok(Self {
            issuer,
            signer,
            key_id,
            verify: Arc::new(KeySet::new(verify)),
            is_announced,
        })
    }
}

/// Returns the public key of a private one in PKCS #8.
fn derive_public_key(der: &[u8]) -> Option<Vec<u8>> {
    let utils = &CryptoProvider::try_get_default()?.key_utils;
    (utils.ed_pub_components_from_private_key)(der, &EllipticCurve::Ed25519).ok()
}

/// Creates a key for tickets; returns the private and the public key in PEM.
///
/// # Errors
///
/// The system has no randomness.
pub(crate) fn create_signing_key() -> Result<(Secret, String), String> {
    let seed = Zeroizing::new(random_bytes(32)?);
    let der = Zeroizing::new([&PRIVATE_DER[..], &seed].concat());
    let public = derive_public_key(&der).ok_or("the key cannot be created")?;
    let public_pem = encode_pem("PUBLIC KEY", &[&PUBLIC_DER[..], &public].concat());
    // What other nodes read must be readable here.
    parse_ticket_key(public_pem.as_bytes())?;
    Ok((Secret::new(encode_pem("PRIVATE KEY", &der)), public_pem))
}

/// Both keys fit in one line of PEM (RFC 7468 §2).
fn encode_pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_key_is_read_again() {
        let (private, public) = create_signing_key().unwrap();
        let issuer: Arc<str> = "hub".into();
        let alone = SigningKeys::new(issuer.clone(), private.expose().as_bytes(), vec![]).unwrap();
        assert!(!alone.is_announced && alone.verify.len() == 1);
        let announced = vec![parse_ticket_key(public.as_bytes()).unwrap()];
        let keys =
            SigningKeys::new(issuer.clone(), private.expose().as_bytes(), announced).unwrap();
        assert!(keys.is_announced && keys.verify.len() == 1);
        assert_eq!(keys.key_id, alone.key_id);
        assert!(keys.verify.contains(&keys.key_id));
        assert!(!format!("{keys:?}").contains(private.expose().lines().nth(1).unwrap()));
        for bad in [
            public.as_bytes(),
            b"",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(SigningKeys::new(issuer.clone(), bad, vec![]).is_err());
        }
        assert!(
            parse_ticket_key(private.expose().as_bytes())
                .unwrap_err()
                .contains("private")
        );
    }
}

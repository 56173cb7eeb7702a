//! Keys of every kind, tokens that are signed with them, and rules that accept them.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm};
use rsa::pkcs1::{EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use serde_json::{Value, json};

use super::*;
use crate::access::{
    keys::{
        KeySource,
        jwk::{SetOrigin, parse_key_set},
        pem::{parse_public_key, parse_secret, single_key_set},
    },
    rules::{CallerRules, Grants, IssuerRules, KeyRules, Restrictions},
    ticket::{SigningKeys, create_signing_key},
};

pub(super) const ISSUER: &str = "https://id.example";
pub(super) const SECRET_ISSUER: &str = "https://secret.example";
pub(super) const PEM_ISSUER: &str = "https://pem.example";
pub(super) const HUB: &str = "https://hub.example";
pub(super) const SECRET: &[u8] =
    b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub(super) const API_KEY: &str = "sse_billing_0123456789";

/// The keys, which are created once.
pub(super) static KEYS: LazyLock<TestKeys> = LazyLock::new(TestKeys::create);

pub(super) struct TestKeys {
    rsa: EncodingKey,
    rsa_1024: EncodingKey,
    p256: EncodingKey,
    p384: EncodingKey,
    ed25519: EncodingKey,
    pub(super) rsa_public_pem: String,
    pub(super) signing_pem: Secret,
    pub(super) signing_public_pem: String,
}

impl TestKeys {
    fn create() -> Self {
        let (rsa, rsa_public_pem) = rsa_key(2048);
        let (signing_pem, signing_public_pem) = create_signing_key().unwrap();
        let (ed25519, _) = create_signing_key().unwrap();
        Self {
            rsa,
            rsa_1024: rsa_key(1024).0,
            p256: ec_key(&PKCS_ECDSA_P256_SHA256),
            p384: ec_key(&PKCS_ECDSA_P384_SHA384),
            ed25519: EncodingKey::from_ed_pem(ed25519.expose().as_bytes()).unwrap(),
            rsa_public_pem,
            signing_pem,
            signing_public_pem,
        }
    }

    /// Returns the key that signs tokens of `algorithm`.
    pub(super) fn key(&self, algorithm: Algorithm) -> EncodingKey {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
        match algorithm {
            HS256 | HS384 | HS512 => EncodingKey::from_secret(SECRET).unwrap(),
            ES256 => self.p256.clone(),
            ES384 => self.p384.clone(),
            EdDSA => self.ed25519.clone(),
            _ => self.rsa.clone(),
        }
    }

    /// Returns the entry of a key in a set.
    pub(super) fn jwk(&self, kid: &str, algorithm: Algorithm) -> Value {
        jwk_of(&self.key(algorithm), kid, algorithm)
    }

    /// Returns the entry of an RSA key that is too short.
    pub(super) fn weak_jwk(&self, kid: &str) -> Value {
        jwk_of(&self.rsa_1024, kid, Algorithm::RS256)
    }
}

fn jwk_of(key: &EncodingKey, kid: &str, algorithm: Algorithm) -> Value {
    let jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = kid.into();
    jwk["use"] = "sig".into();
    jwk
}

fn rsa_key(bits: usize) -> (EncodingKey, String) {
    let key = rsa::PrivateKey::new(&mut rand::rng(), bits).unwrap();
    let private = key.to_pkcs1_der().unwrap();
    let public = key.to_public_key().to_pkcs1_der().unwrap();
    let text = STANDARD.encode(public.as_bytes());
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    let pem = format!(
        "-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n",
        lines.join("\n")
    );
    (EncodingKey::from_rsa_der(private.as_bytes()), pem)
}

fn ec_key(algorithm: &'static SignatureAlgorithm) -> EncodingKey {
    EncodingKey::from_ec_der(&KeyPair::generate_for(algorithm).unwrap().serialize_der())
}

/// Every algorithm. The `kid` of its key is its name.
pub(super) const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Returns a set with a key of each algorithm.
pub(super) fn full_key_set() -> Value {
    let keys = ALGORITHMS.map(|algorithm| KEYS.jwk(&format!("{algorithm:?}"), algorithm));
    json!({ "keys": keys })
}

pub(super) fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(super) fn key_source(set: &Value) -> KeySource {
    let json = set.to_string();
    let set = parse_key_set(json.as_bytes(), SetOrigin::File, Algorithm::RS256).unwrap();
    KeySource::Fixed(Arc::new(set))
}

pub(super) fn issuer(issuer: &str, keys: KeySource) -> IssuerRules {
    IssuerRules {
        issuer: issuer.into(),
        audience: vec![HUB.to_owned(), "other".to_owned()],
        keys,
        grants: Grants::default(),
        limits: crate::quota::Limits::default(),
    }
}

/// Returns rules with an API key, three issuers, and tickets.
pub(super) fn restrictions() -> Restrictions {
    let secret = single_key_set(parse_secret(SECRET, None).unwrap());
    let pem = parse_public_key(KEYS.rsa_public_pem.as_bytes(), None).unwrap();
    let grants = Grants {
        subscribe: vec![
            "users.{sub}".parse().unwrap(),
            "teams.{teams}.*".parse().unwrap(),
        ],
        ..Grants::default()
    };
    let rights = Rights {
        publish: patterns(&["orders.*"]),
        subscribe: patterns(&["orders.*", "users.*"]),
        ..Rights::default()
    };
    let signing = SigningKeys::new(HUB.into(), KEYS.signing_pem.expose().as_bytes(), vec![]);
    Restrictions {
        cookie_cross_site: false,
        revocation_strict: false,
        claim: "sse".to_owned(),
        cookie: "__Host-sse".to_owned(),
        query_token_life: Duration::from_hours(1),
        anonymous: CallerRules::default(),
        keys: vec![KeyRules {
            name: "billing".into(),
            digests: vec![digest(API_KEY)],
            caller: CallerRules {
                rights,
                limits: crate::quota::Limits::default(),
            },
        }],
        issuers: vec![
            IssuerRules {
                grants,
                ..issuer(ISSUER, key_source(&full_key_set()))
            },
            issuer(SECRET_ISSUER, KeySource::Fixed(Arc::new(secret))),
            issuer(PEM_ISSUER, KeySource::Fixed(Arc::new(single_key_set(pem)))),
        ],
        signing: Some(Arc::new(signing.unwrap())),
    }
}

pub(super) fn rules(restrictions: Restrictions) -> AccessRules {
    AccessRules {
        restrictions: Some(restrictions),
    }
}

pub(super) fn access() -> Access {
    Access::new(rules(restrictions()))
}

/// Returns the time in seconds since the Unix epoch.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A token that is valid, until something in it is changed.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) header: Value,
    pub(super) claims: Value,
    algorithm: Algorithm,
    key: EncodingKey,
}

/// A token of [`ISSUER`].
pub(super) fn token(algorithm: Algorithm) -> Token {
    let name = format!("{algorithm:?}");
    Token {
        header: json!({"alg": name, "kid": name, "typ": "JWT"}),
        claims: json!({
            "iss": ISSUER, "aud": HUB, "sub": "42", "iat": now(), "exp": now() + 600,
        }),
        algorithm,
        key: KEYS.key(algorithm),
    }
}

impl Token {
    pub(super) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    pub(super) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// Removes a field of the `header` or a `claim`.
    pub(super) fn without(mut self, part: &str, name: &str) -> Self {
        let part = match part {
            "header" => &mut self.header,
            _ => &mut self.claims,
        };
        part.as_object_mut().unwrap().remove(name);
        self
    }

    /// Signs with another key or algorithm than the header states.
    pub(super) fn signed_by(self, key: EncodingKey, algorithm: Algorithm) -> Self {
        Self {
            algorithm,
            key,
            ..self
        }
    }

    pub(super) fn text(&self) -> String {
        self.text_of(&self.header.to_string(), &self.claims.to_string())
    }

    /// Signs texts that are not the JSON of the header and the claims.
    pub(super) fn text_of(&self, header: &str, claims: &str) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{claims}");
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

//! What is known about a caller whose credential was accepted.

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::json;

use super::{
    fixture::{API_KEY, ISSUER, access, now, token},
    *,
};

async fn identify(access: &Access, text: &str) -> Arc<Identity> {
    access
        .identify(text, CredentialSource::Header)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_token_has_the_facts_that_it_states() {
    let access = access();
    let (issued, expires) = (now() - 5, now() + 60);
    let text = token(Algorithm::EdDSA)
        .claim("iat", issued)
        .claim("exp", expires)
        .claim("jti", "j1")
        .claim(
            "sse",
            json!({"publish": ["p.*"], "manage": ["m"], "admin": true}),
        )
        .text();
    let identity = identify(&access, &text).await;
    let subject = Principal::Subject {
        iss: ISSUER.into(),
        sub: "42".into(),
    };
    assert_eq!(*identity.principal(), subject);
    let seconds = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(identity.issued_at(), seconds(issued));
    assert_eq!(identity.expires(), seconds(expires));
    assert_eq!(identity.valid_until(), seconds(expires + 30));
    assert_eq!(identity.issuer().map(|iss| &**iss), Some(ISSUER));
    assert_eq!(identity.jti().map(|jti| &**jti), Some("j1"));
    let permits =
        |right, channel: &str| identity.rights().permits(right, &channel.parse().unwrap());
    assert!(permits(Right::Publish, "p.1") && permits(Right::Manage, "m"));
    assert!(permits(Right::Subscribe, "users.42") && !permits(Right::Subscribe, "p.1"));
    assert!(identity.rights().permits_server(ServerRight::Observe));
}

#[tokio::test]
async fn an_api_key_never_expires_and_is_one_identity() {
    let access = access();
    let identity = identify(&access, API_KEY).await;
    assert_eq!(
        *identity.principal(),
        Principal::Key {
            name: "billing".into()
        }
    );
    assert_eq!((identity.valid_until(), identity.issuer()), (None, None));
    assert_eq!(identity.credential_digest(), Some(&digest(API_KEY)));
    assert!(Arc::ptr_eq(&identity, &identify(&access, API_KEY).await));
    assert_eq!(access.anonymous().credential_digest(), None);
}

#[tokio::test]
async fn a_token_that_was_verified_before_is_the_same_identity() {
    let access = access();
    let text = token(Algorithm::ES256).text();
    let identity = identify(&access, &text).await;
    assert!(Arc::ptr_eq(&identity, &identify(&access, &text).await));
}

/// Returns the same token with the other valid form of its signature: `s` becomes `n - s`.
fn with_other_signature(text: &str) -> String {
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order = parse_digest(ORDER).unwrap();
    let (message, signature) = text.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (digit, order) in signature[32..].iter_mut().zip(order).rev() {
        let difference = i16::from(order) - i16::from(*digit) - borrow;
        borrow = i16::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn a_token_with_another_form_of_its_signature_is_the_same_token() {
    let access = access();
    let text = token(Algorithm::ES256).text();
    let other = with_other_signature(&text);
    assert_ne!(text, other);
    let (one, other) = (
        identify(&access, &text).await,
        identify(&access, &other).await,
    );
    assert_eq!(one.credential_digest(), other.credential_digest());
    assert_eq!(one.credential_digest(), Some(&digest(&text)));
}

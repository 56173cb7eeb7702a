//! Key sets by URL, from a scripted server.

use std::time::Duration;

use futures::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    fixture::{ISSUER, KEYS, Token, issuer, patterns, restrictions, rules, token},
    jwks_server::{JwksServer, Reply, reply, set},
    *,
};
use crate::access::{
    keys::{KeySource, remote::WAITERS_MAX},
    rules::Restrictions,
};

/// Longer than any step takes on a slow machine; only a broken test waits for it.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// Times that let a test see several fetches.
pub(super) fn fast() -> FetchTiming {
    FetchTiming {
        interval: Duration::from_millis(50),
        timeout: PATIENCE,
        fresh: PATIENCE,
        fresh_range: (Duration::from_millis(50), PATIENCE),
        retry: PATIENCE,
        keep: PATIENCE,
    }
}

pub(super) fn remote_rules(server: &JwksServer) -> AccessRules {
    let source = KeySource::Url {
        url: server.url.clone(),
        rsa_algorithm: Algorithm::RS256,
    };
    rules(Restrictions {
        issuers: vec![issuer(ISSUER, source)],
        ..restrictions()
    })
}

pub(super) async fn start(script: Vec<Reply>, timing: FetchTiming) -> (JwksServer, Access) {
    let server = JwksServer::start(script).await;
    let access = Access::with_timing(remote_rules(&server), timing);
    (server, access)
}

/// Returns a set with keys for ES256 and `EdDSA` with these ids.
pub(super) fn keys(es256: &[&str], eddsa: &[&str]) -> Value {
    let es256 = es256.iter().map(|kid| KEYS.jwk(kid, Algorithm::ES256));
    let eddsa = eddsa.iter().map(|kid| KEYS.jwk(kid, Algorithm::EdDSA));
    json!({ "keys": es256.chain(eddsa).collect::<Vec<_>>() })
}

pub(super) fn with_kid(kid: &str) -> Token {
    token(Algorithm::ES256).header("kid", kid)
}

pub(super) async fn identify(
    access: &Access,
    token: &Token,
) -> Result<Arc<Identity>, CredentialError> {
    let text = token.text();
    let identified = access.identify(&text, CredentialSource::Header);
    timeout(PATIENCE, identified).await.expect("a result")
}

const UNKNOWN_KEY: CredentialError = CredentialError::Rejected(RejectionWord::UnknownKey);

#[tokio::test]
async fn a_key_that_was_added_is_found_and_one_that_does_not_exist_is_rejected() {
    let script = vec![set(&keys(&["a"], &[])), set(&keys(&["a", "b"], &[]))];
    let (server, access) = start(script, fast()).await;
    assert!(identify(&access, &with_kid("a")).await.is_ok());
    assert_eq!(server.request_count(), 1);
    let generation = access.generation();
    assert!(identify(&access, &with_kid("b")).await.is_ok());
    assert!(access.generation() > generation);
    assert_eq!(
        identify(&access, &with_kid("c")).await.unwrap_err(),
        UNKNOWN_KEY
    );
    assert!(server.request_count() >= 3);
    // A rejection for want of a key is not remembered: the key may be added.
    server.then(set(&keys(&["c"], &[])));
    assert!(identify(&access, &with_kid("c")).await.is_ok());
}

#[tokio::test]
async fn a_key_without_an_id_does_not_spare_the_fetch_of_one_that_was_added() {
    let mut without_id = keys(&["x"], &[]);
    without_id["keys"][0].as_object_mut().unwrap().remove("kid");
    let added = json!({"keys": [without_id["keys"][0], KEYS.jwk("b", Algorithm::EdDSA)]});
    let (server, access) = start(vec![set(&without_id)], fast()).await;
    // A key without an id verifies tokens with any id.
    assert!(identify(&access, &with_kid("other")).await.is_ok());
    server.then(set(&added));
    let token = token(Algorithm::EdDSA).header("kid", "b");
    assert!(identify(&access, &token).await.is_ok());
    let forged = with_kid("c").signed_by(KEYS.key(Algorithm::EdDSA), Algorithm::EdDSA);
    assert_eq!(identify(&access, &forged).await.unwrap_err(), UNKNOWN_KEY);
}

#[tokio::test]
async fn only_a_fetch_that_begins_after_the_request_is_proof() {
    let (server, access) = start(vec![set(&keys(&["a"], &[]))], fast()).await;
    assert!(identify(&access, &with_kid("a")).await.is_ok());
    // This fetch begins before the request for b, and does not know b yet.
    server.then(Reply::Held(keys(&["a"], &[]).to_string()));
    let missing = with_kid("missing");
    let early = identify(&access, &missing);
    tokio::pin!(early);
    tokio::select! {
        _ = &mut early => panic!("the fetch is held"),
        _ = server.requests(2) => {}
    }
    let new = with_kid("b");
    let late = identify(&access, &new);
    tokio::pin!(late);
    // The late request waits when it has been polled.
    assert!(futures::poll!(&mut late).is_pending());
    server.then(set(&keys(&["a", "b"], &[])));
    server.release();
    assert!(late.await.is_ok());
    assert_eq!(early.await.unwrap_err(), UNKNOWN_KEY);
}

#[tokio::test]
async fn a_key_that_leaves_the_set_ends_what_it_verified() {
    let timing = FetchTiming {
        fresh: Duration::from_millis(50),
        ..fast()
    };
    let held = Reply::Held(keys(&[], &["e"]).to_string());
    let (server, access) = start(vec![set(&keys(&["a"], &["e"])), held], timing).await;
    let (text, other) = (with_kid("a"), token(Algorithm::EdDSA).header("kid", "e"));
    let text = text.claim("sse", json!({"subscribe": ["c"]}));
    let identity = identify(&access, &text).await.unwrap();
    let stays = identify(&access, &other).await.unwrap();
    let request = TicketRequest {
        subscribe: patterns(&["c"]),
        ttl: Duration::from_mins(1),
        sub: None,
    };
    let ticket = access.issue_ticket(&identity, request).unwrap();
    let source = CredentialSource::Header;
    let ticket = access
        .identify(ticket.token.expose(), source)
        .await
        .unwrap();
    let mut generation = access.watch_generation();
    generation.mark_unchanged();
    server.release();
    timeout(PATIENCE, generation.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(access.recheck(&identity).unwrap_err(), UNKNOWN_KEY);
    assert_eq!(access.recheck(&ticket).unwrap_err(), UNKNOWN_KEY);
    assert!(access.recheck(&stays).is_ok());
}

#[tokio::test]
async fn the_set_is_refreshed_when_it_is_no_longer_fresh_and_not_sent_again_if_unchanged() {
    let first = reply(
        "200 OK",
        "etag: \"v1\"\r\ncache-control: public, max-age=0\r\n",
        &keys(&["a"], &[]),
    );
    let unchanged = reply("304 Not Modified", "cache-control: max-age=0\r\n", &"");
    let (server, access) = start(vec![first, unchanged], fast()).await;
    let heads = timeout(PATIENCE, server.requests(4)).await.unwrap();
    assert!(!heads[0].contains("if-none-match"));
    assert!(
        heads[1..]
            .iter()
            .all(|head| head.contains("if-none-match: \"v1\""))
    );
    assert!(
        heads
            .iter()
            .all(|head| head.starts_with("get /jwks.json http/1.1"))
    );
    assert_eq!(access.generation(), 1);
    assert!(identify(&access, &with_kid("a")).await.is_ok());
}

#[tokio::test]
async fn requests_share_a_fetch_and_at_most_64_wait_for_one() {
    let script = vec![
        set(&keys(&["a"], &[])),
        Reply::Held(keys(&["a", "b"], &[]).to_string()),
    ];
    let (server, access) = start(script, fast()).await;
    assert!(identify(&access, &with_kid("a")).await.is_ok());
    // This request starts the fetch that is held. The others wait for one that begins later.
    let tokens: Vec<_> = (0..WAITERS_MAX)
        .map(|sub| with_kid("b").claim("sub", sub))
        .collect();
    let waiting = tokens.iter().map(|token| identify(&access, token));
    let waiting = join_all(waiting);
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("the fetch is held"),
        _ = server.requests(2) => {}
    }
    let one_more = identify(&access, &with_kid("b").claim("sub", "one more")).await;
    assert_eq!(one_more.unwrap_err(), CredentialError::Unavailable);
    // A token with a known key does not wait.
    assert!(
        identify(&access, &with_kid("a").claim("sub", "2"))
            .await
            .is_ok()
    );
    server.release();
    let found = timeout(PATIENCE, waiting).await.unwrap();
    assert!(found.iter().all(Result::is_ok));
    assert!(
        server.request_count() <= 3,
        "{} fetches",
        server.request_count()
    );
}

#[tokio::test]
async fn fetches_begin_at_least_an_interval_apart() {
    let timing = FetchTiming {
        interval: PATIENCE,
        ..fast()
    };
    let (server, access) = start(vec![set(&keys(&["a"], &[]))], timing).await;
    assert!(identify(&access, &with_kid("a")).await.is_ok());
    let invented = with_kid("invented");
    let waiting = identify(&access, &invented);
    tokio::pin!(waiting);
    for _ in 0..100 {
        assert!(futures::poll!(&mut waiting).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(server.request_count(), 1);
}

#[tokio::test]
async fn an_expired_or_foreign_token_causes_no_fetch() {
    let (server, access) = start(vec![set(&keys(&["a"], &[]))], fast()).await;
    assert!(identify(&access, &with_kid("a")).await.is_ok());
    for (token, word) in [
        (with_kid("x").claim("exp", 1), RejectionWord::Expired),
        (with_kid("x").claim("aud", "x"), RejectionWord::Audience),
        (
            with_kid("x").claim("iss", "https://evil.example"),
            RejectionWord::Issuer,
        ),
        (with_kid("x").header("typ", "x"), RejectionWord::Type),
        (
            token(Algorithm::HS256).header("kid", "a"),
            RejectionWord::Algorithm,
        ),
    ] {
        assert_eq!(
            identify(&access, &token).await.unwrap_err(),
            CredentialError::Rejected(word)
        );
    }
    assert_eq!(server.request_count(), 1);
}

#[tokio::test]
async fn a_reload_keeps_the_set_of_an_issuer_that_remains() {
    let (server, access) = start(vec![set(&keys(&["a"], &[]))], fast()).await;
    assert!(identify(&access, &with_kid("a")).await.is_ok());
    access.reload(remote_rules(&server));
    assert!(identify(&access, &with_kid("a")).await.is_ok());
    assert_eq!(server.request_count(), 1);
}

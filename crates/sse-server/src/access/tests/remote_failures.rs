//! Key sets that cannot be fetched.

use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::time::timeout;

use super::{
    fixture::KEYS,
    jwks_server::{JwksServer, Reply, reply, set},
    remote_keys::{PATIENCE, fast, identify, keys, remote_rules, start, with_kid},
    *,
};

#[tokio::test]
async fn an_issuer_without_a_usable_response_is_unavailable() {
    let huge = Reply::Endless((1 << 20) + 1);
    let many = json!({"keys": vec![KEYS.jwk("a", Algorithm::ES256); 33]});
    for (name, script) in [
        ("closed", Reply::Close),
        ("an error", reply("500 Internal Server Error", "", &"")),
        ("not found", reply("404 Not Found", "", &keys(&["a"], &[]))),
        ("huge", huge),
        ("no JSON", set(&"<html>")),
        ("no set", set(&"{}")),
        ("too many keys", set(&many)),
        ("not modified", reply("304 Not Modified", "", &"")),
        ("no content", reply("204 No Content", "", &"")),
    ] {
        let (_server, access) = start(vec![script], fast()).await;
        let found = identify(&access, &with_kid("a")).await;
        assert_eq!(found.unwrap_err(), CredentialError::Unavailable, "{name}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = JwksServer::start(vec![set(&keys(&["a"], &[]))]).await;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let location = format!("location: {}\r\n", target.url);
        let (_server, access) = start(vec![reply(status, &location, &"")], fast()).await;
        let found = identify(&access, &with_kid("a")).await;
        assert_eq!(found.unwrap_err(), CredentialError::Unavailable, "{status}");
    }
    assert_eq!(target.request_count(), 0);
}

#[tokio::test]
async fn a_slow_issuer_is_unavailable_after_the_time_limit() {
    let timing = FetchTiming {
        timeout: Duration::from_millis(100),
        ..fast()
    };
    let (_server, access) = start(vec![Reply::Silent], timing).await;
    let found = identify(&access, &with_kid("a")).await;
    assert_eq!(found.unwrap_err(), CredentialError::Unavailable);
}

#[tokio::test]
async fn a_set_stays_valid_while_its_issuer_is_away_and_new_keys_are_unavailable() {
    let (server, access) = start(vec![set(&keys(&["a"], &[])), Reply::Close], fast()).await;
    let identity = identify(&access, &with_kid("a")).await.unwrap();
    assert_eq!(
        identify(&access, &with_kid("b")).await.unwrap_err(),
        CredentialError::Unavailable
    );
    assert!(
        identify(&access, &with_kid("a").claim("sub", "other"))
            .await
            .is_ok()
    );
    assert!(access.recheck(&identity).is_ok());
    server.then(set(&keys(&["a", "b"], &[])));
    assert!(identify(&access, &with_kid("b")).await.is_ok());
}

#[tokio::test]
async fn a_set_that_is_too_old_is_forgotten_but_open_streams_continue() {
    let timing = FetchTiming {
        keep: Duration::ZERO,
        retry: Duration::from_millis(50),
        fresh: Duration::from_millis(50),
        ..fast()
    };
    let held = Reply::Held(keys(&["a"], &[]).to_string());
    let (server, access) = start(vec![set(&keys(&["a"], &[])), held, Reply::Close], timing).await;
    let identity = identify(&access, &with_kid("a")).await.unwrap();
    let mut generation = access.watch_generation();
    generation.mark_unchanged();
    server.release();
    timeout(PATIENCE, generation.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        access.recheck(&identity).unwrap_err(),
        CredentialError::Unavailable
    );
    assert_eq!(
        identify(&access, &with_kid("a")).await.unwrap_err(),
        CredentialError::Unavailable
    );
}

#[test]
fn without_a_runtime_the_keys_are_unavailable() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(JwksServer::start(vec![set(&keys(&["a"], &[]))]));
    let access = Access::new(remote_rules(&server));
    let found = runtime.block_on(identify(&access, &with_kid("a")));
    assert_eq!(found.unwrap_err(), CredentialError::Unavailable);
}

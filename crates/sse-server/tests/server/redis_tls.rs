//! TLS to Redis: a Redis that requires a certificate of its clients is used, and one whose own
//! certificate is not trusted or is for another name is not.

use std::path::Path;

use reqwest::StatusCode;
use tempfile::TempDir;

use crate::common::{
    RedisServer, TestServer, free_port,
    https::{paths, write_pair},
    redis_acl::{PASSWORD, USER},
    refusal,
};

/// A Redis with TLS at the second port, whose clients must present the certificate `client`.
async fn start(directory: &Path) -> (RedisServer, u16) {
    write_pair(directory, "server", &["localhost", "127.0.0.1"]);
    write_pair(directory, "client", &["sse"]);
    write_pair(directory, "stranger", &["localhost"]);
    let ([certificate, key], [client, _]) =
        (paths(directory, "server"), paths(directory, "client"));
    let port = free_port();
    let text = port.to_string();
    let redis = RedisServer::start_with(&[
        "--tls-port",
        &text,
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &client,
        "--tls-auth-clients",
        "yes",
    ])
    .await;
    (redis, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_requires_tls_and_certificates_is_used_and_any_other_is_not() {
    let directory = TempDir::new().unwrap();
    let (_redis, port) = start(directory.path()).await;
    let [ca, _] = paths(directory.path(), "server");
    let [certificate, key] = paths(directory.path(), "client");
    let [stranger, _] = paths(directory.path(), "stranger");
    let password = directory.path().join("password").display().to_string();
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let url = format!("rediss://localhost:{port}");
    let account = ["--redis-user", USER, "--redis-password-file", &password];
    let certificates = ["--redis-cert", &certificate, "--redis-key", &key];
    let node = async |ca: &str, flags: &[&str]| {
        let flags = [&account[..], &["--redis-ca", ca], flags].concat();
        TestServer::on(&["--redis-url", &url], &flags).await
    };
    let good = node(&ca, &certificates).await;
    let mut subscriber = good.subscribe("/stream").await;
    good.publish("sse", "click", "over TLS").await;
    assert_eq!(subscriber.next_event().await.data, "over TLS");
    let quick = ["--redis-timeout", "1s"];
    for (ca, flags, reason) in [
        (
            &stranger,
            [&certificates[..], &quick].concat(),
            "invalid peer certificate",
        ),
        // TLS 1.3 reports the missing certificate with the first reply.
        (&ca, quick.to_vec(), ""),
    ] {
        let bad = node(ca, &flags).await;
        let response = bad.try_publish("sse", "click", "x").await.unwrap();
        refusal(
            response,
            StatusCode::SERVICE_UNAVAILABLE,
            "broker_unavailable",
        )
        .await;
        assert!(bad.log().contains(reason), "{}", bad.log());
        assert!(!bad.log().contains(PASSWORD), "{}", bad.log());
    }
}

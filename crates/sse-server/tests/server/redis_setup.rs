//! Setup of Redis: settings that can lose events are reported, and data of other programs is left
//! alone.

use reqwest::StatusCode;
use serde_json::Value;

use crate::common::{RedisServer, Subscriber, TestServer, run, server_command, until};

/// The codes of the warnings in the response of `/health/ready`.
async fn warnings(server: &TestServer) -> Vec<String> {
    let ready = server.get("/health/ready").await.unwrap();
    assert_eq!(ready.status(), StatusCode::OK);
    let answer: Value = ready.json().await.unwrap();
    assert_eq!(answer["status"], "ready");
    let warnings = answer["warnings"].as_array().expect("warnings");
    warnings
        .iter()
        .map(|warning| {
            assert!(
                warning["message"]
                    .as_str()
                    .expect("a message")
                    .contains("Redis"),
                "{answer}"
            );
            warning["code"].as_str().expect("a code").to_owned()
        })
        .collect()
}

/// A check is repeated once per second.
async fn until_warnings_are(server: &TestServer, codes: &[&str]) {
    until("the warnings change", async || {
        (warnings(server).await == codes).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_may_lose_events_is_reported_at_start_and_by_ready() {
    let mut redis = RedisServer::start_with(&[
        "--appendonly",
        "no",
        "--maxmemory",
        "100mb",
        "--maxmemory-policy",
        "allkeys-lru",
    ])
    .await;
    let server = TestServer::node(&redis, &[]).await;
    assert_eq!(
        warnings(&server).await,
        ["appendonly_off", "evicting_policy"]
    );
    for word in ["appendonly", "maxmemory-policy allkeys-lru"] {
        assert!(server.log().contains(word), "{word} in {}", server.log());
    }
    // The warnings end once the settings are right, and return once a setting is wrong.
    redis.run("CONFIG SET appendonly yes").await;
    redis.run("CONFIG SET maxmemory-policy noeviction").await;
    until_warnings_are(&server, &[]).await;
    redis.kill();
    redis.restart().await;
    until("a reconnect logs the warning again", async || {
        server
            .get("/health/ready")
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
    until_warnings_are(&server, &["appendonly_off", "evicting_policy"]).await;
    // The warning is logged once each time the setting becomes wrong.
    assert!(
        server.log().matches("maxmemory-policy allkeys-lru").count() <= 2,
        "{}",
        server.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_safe_redis_and_the_embedded_log_cause_no_warning() {
    let redis = RedisServer::start().await;
    assert_eq!(
        warnings(&TestServer::node(&redis, &[]).await).await,
        Vec::<String>::new()
    );
    let embedded = TestServer::start(crate::common::Backend::Memory).await;
    assert_eq!(warnings(&embedded).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_the_redis_user_may_not_read_are_unknown_and_publishing_works() {
    let redis = RedisServer::start().await;
    redis
        .run("ACL SETUSER app on >secret ~* &* +@all -config -info")
        .await;
    let url = redis.admin_url().replace("://", "://app:secret@");
    let server = TestServer::on(&["--redis-url", &url], &[]).await;
    assert_eq!(
        warnings(&server).await,
        ["appendonly_unknown", "eviction_unknown"]
    );
    assert!(
        server.log().contains("is unknown") && !server.log().contains("secret"),
        "{}",
        server.log()
    );
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "x").await;
    assert_eq!(subscriber.next_event().await.data, "x");
    // `CONFIG` is forbidden more often than `INFO`, so `INFO` alone must be enough.
    redis.run("ACL SETUSER app +info").await;
    until_warnings_are(&server, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn systems_with_different_prefixes_on_one_redis_do_not_see_each_other() {
    let redis = RedisServer::start().await;
    let one = TestServer::node(&redis, &["--channels-max", "1"]).await;
    let other = TestServer::node(
        &redis,
        &["--redis-prefix", "sse:other.1:", "--channels-max", "1"],
    )
    .await;
    let same = TestServer::node(&redis, &["--redis-prefix", "sse:other.1:"]).await;
    let mut on_one: Subscriber = one.subscribe("/stream").await;
    let mut on_other = other.subscribe("/stream").await;
    one.publish("sse", "click", "of one").await;
    same.publish("sse", "click", "of the other").await;
    assert_eq!(on_one.next_event().await.data, "of one");
    assert_eq!(on_other.next_event().await.data, "of the other");
    for (server, data) in [(&one, "of one"), (&other, "of the other")] {
        let history = server.history("sse").await;
        assert_eq!((history.len(), history[0].data.as_str()), (1, data));
        // Each prefix has its own registry of channels.
        let refused = server.try_publish("more", "click", "x").await.unwrap();
        assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
    }
    let keys: Vec<String> = redis
        .command(redis::cmd("KEYS").arg("*").clone())
        .await
        .unwrap();
    assert!(keys.iter().all(|key| key.starts_with("sse:")), "{keys:?}");
    assert!(
        keys.contains(&"sse:{sse}".to_owned()) && keys.contains(&"sse:other.1:{sse}".to_owned()),
        "{keys:?}"
    );
}

#[tokio::test]
async fn a_prefix_with_other_characters_is_rejected_with_advice() {
    for prefix in ["a{b}", "a b", "ü"] {
        let output = run(server_command().args([
            "--redis-url",
            "redis://localhost",
            "--redis-prefix",
            prefix,
        ]))
        .await;
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(
            output.stderr.contains("--redis-prefix") && output.stderr.contains("A-Z a-z 0-9"),
            "{output:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_an_older_format_are_converted_on_request_only() {
    let redis = RedisServer::start().await;
    redis
        .run("XADD sse:{old} 1700000000000-0 event click data kept")
        .await;
    redis.run("ZADD sse:channels 1700000000000 old").await;
    let url = redis.url();
    let command = ["--redis-url", &url, "--bind", "127.0.0.1:0"];
    let output = run(server_command().args(command)).await;
    assert_ne!(output.code, Some(0));
    assert!(
        output.stderr.contains("--redis-upgrade"),
        "{}",
        output.stderr
    );
    let flags = ["--redis-upgrade", "--history-age", "3650d"];
    let server = TestServer::node(&redis, &flags).await;
    assert_eq!(server.history("old").await[0].data, "kept");
    let list = server.get("/channels").await.unwrap();
    let list: Value = list.json().await.unwrap();
    assert_eq!(list["channels"][0]["channel"], "old", "{list}");
    server.publish("old", "click", "added").await;
    assert_eq!(server.history("old").await.len(), 2);
    // Later starts do not need the flag, and an unknown format is left alone.
    let later = TestServer::node(&redis, &[]).await;
    later.publish("old", "click", "later").await;
    redis.run("SET sse:format 4").await;
    let output = run(server_command().args(command)).await;
    assert!(output.stderr.contains("format 4"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_of_the_previous_format_is_imported_once() {
    let redis = RedisServer::start().await;
    for command in [
        "SET sse:format 2",
        "XADD sse:{a} 1700000000000-0 event click data old",
        "XADD sse:{a} 1700000000001-0 event click data kept",
        "XADD sse:{b} 1700000000000-0 event click data kept",
        "ZADD sse:channels 1700000000000 a 1700000000000 b 1700000000000 unused",
        "ZADD sse:names 0 a 0 b 0 unused",
        "ZADD sse:due 1700000000000 a",
        "ZADD sse:tombstones 1700000000000 gone",
        "ZADD sse:{gone}:deleted 1700000000000 1-0<2-0<1700000000000-0<1<7",
        "SET sse:maintenance node",
    ] {
        let words = command.split(' ').map(|word| word.replace('<', " "));
        let mut words = words.collect::<Vec<_>>().into_iter();
        let mut command = redis::cmd(&words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        redis.command::<redis::Value>(command).await.unwrap();
    }
    let flags = ["--redis-upgrade", "--history-age", "1s"];
    let server = TestServer::node(&redis, &flags).await;
    let left = redis
        .run("EXISTS sse:channels sse:due sse:tombstones sse:maintenance")
        .await;
    assert_eq!(left, redis::Value::Int(0));
    assert_eq!(redis.count_members("sse:channels:").await, 3);
    // The converted channels are maintained, within a minute; here the test makes them due.
    let mut due = redis::cmd("EVAL");
    let script = "for _, key in ipairs(redis.call('KEYS', 'sse:due:*')) do \
                  for _, name in ipairs(redis.call('ZRANGE', key, 0, -1)) do \
                  redis.call('ZADD', key, 1, name) end end";
    due.arg(script).arg(0);
    redis.command::<()>(due).await.unwrap();
    until(
        "old events, tombstones and unused names are gone",
        async || {
            let is_trimmed = redis.run("XLEN sse:{a}").await == redis::Value::Int(1);
            let deleted = redis.run("EXISTS sse:{gone}:deleted").await;
            let is_done = is_trimmed
                && deleted == redis::Value::Int(0)
                && redis.count_members("sse:channels:").await == 2
                && redis.count_members("sse:tombstones:").await == 0;
            is_done.then_some(())
        },
    )
    .await;
    let list = server.get("/channels").await.unwrap();
    let list: Value = list.json().await.unwrap();
    let names: Vec<&str> = list["channels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|channel| channel["channel"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b"]);
    // A later start finds the new format, and needs no flag.
    let later = TestServer::node(&redis, &[]).await;
    later.publish("a", "click", "later").await;
}

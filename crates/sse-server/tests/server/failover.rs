//! A log that was wiped or lost its newest events. Each subscriber with a position in the missing
//! part gets a gap.

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Backend, RedisServer, Subscriber, TestEvent, TestServer, until};

/// A log on a broker that can be wiped.
struct Wipeable {
    server: TestServer,
    directory: TempDir,
    backend: Backend,
}

impl Wipeable {
    async fn start(backend: Backend) -> Self {
        let directory = TempDir::new().unwrap();
        let server = match backend {
            Backend::Embedded => TestServer::on_directory(&directory.path().join("log"), &[]).await,
            _ => TestServer::start(backend).await,
        };
        Self {
            server,
            directory,
            backend,
        }
    }

    async fn wipe(&mut self) {
        match self.backend {
            Backend::Redis => drop(
                self.server
                    .redis
                    .as_ref()
                    .expect("its Redis")
                    .run("FLUSHALL")
                    .await,
            ),
            Backend::Memory => self.server.kill_and_restart().await,
            Backend::Embedded => {
                self.server.kill();
                std::fs::remove_dir_all(self.directory.path().join("log")).unwrap();
                self.server.restart().await;
            }
        }
    }
}

/// The id, reason and oldest event of the next event, which must be a gap.
async fn gap(subscriber: &mut Subscriber, after: &str) -> (String, String, Option<String>) {
    let event = subscriber.next_event().await;
    assert_eq!(event.event, "gap", "after {after}");
    let reported: Value = serde_json::from_str(&event.data).expect("JSON");
    assert_eq!(reported["after"], after);
    (
        event.id,
        reported["reason"].as_str().expect("a reason").to_owned(),
        reported["oldest"].as_str().map(ToOwned::to_owned),
    )
}

/// Positions from which a subscriber may resume: those in the current log, and some that no log
/// ever had.
async fn positions(server: &TestServer) -> Vec<String> {
    let kept = server.history("sse").await;
    let after = kept.iter().map(|event| event.id.clone());
    let at = kept.iter().map(|event| format!("@{}", event.id));
    let never = ["@99999999999999-0", "99999999999999-0", "@0-1"].map(ToOwned::to_owned);
    after.chain(at).chain(never).collect()
}

crate::on_every_broker! {
    async fn a_client_that_resumes_on_a_wiped_log_gets_a_gap_and_new_events(backend: Backend) {
        let mut log = Wipeable::start(backend).await;
        log.server.publish_numbers("sse", 0..3).await;
        let positions = positions(&log.server).await;
        log.wipe().await;
        let mut subscribers = Vec::new();
        for position in &positions {
            let mut subscriber = log.server.subscribe_after("/stream", Some(position)).await;
            let (_, reason, oldest) = gap(&mut subscriber, position).await;
            assert_eq!((reason.as_str(), oldest), ("unknown", None), "after {position}");
            subscribers.push(subscriber);
        }
        let new = log.server.publish("sse", "click", "new").await;
        for (subscriber, position) in subscribers.iter_mut().zip(&positions) {
            let event = subscriber.next_event().await;
            assert_eq!((event.id.as_str(), event.data.as_str()), (new.as_str(), "new"), "after {position}");
        }
    }

    async fn a_wiped_log_that_has_new_events_is_reported_as_a_gap_too(backend: Backend) {
        let mut log = Wipeable::start(backend).await;
        log.server.publish_numbers("sse", 0..3).await;
        let positions = positions(&log.server).await;
        log.wipe().await;
        let new = log.server.publish("sse", "click", "new").await;
        for position in &positions {
            let mut subscriber = log.server.subscribe_after("/stream", Some(position)).await;
            let (id, reason, oldest) = gap(&mut subscriber, position).await;
            assert_eq!((id, oldest), (format!("@{new}"), Some(new.clone())), "after {position}");
            assert_eq!(reason, if position.contains("99999") { "lost-tail" } else { "unknown" }, "after {position}");
            assert_eq!(subscriber.next_event().await.data, "new", "after {position}");
            let answer: Value = log.server.get(&format!("/events?last_event_id={position}")).await.unwrap().json().await.unwrap();
            assert_eq!((answer["gap"]["reason"].as_str(), answer["events"].as_array().map(Vec::len)), (Some(&*reason), Some(1)));
        }
    }
}

/// Removes the newest `lost` events from a channel, like a Redis that restarts from an old file, or
/// a replica that is promoted before it has all events.
async fn lose(redis: &RedisServer, channel: &str, lost: usize) {
    const LOSE: &str = "local kept = redis.call('XRANGE', KEYS[1], '-', '+')
        redis.call('DEL', KEYS[1])
        for number = 1, #kept - ARGV[1] do
            redis.call('XADD', KEYS[1], kept[number][1], unpack(kept[number][2]))
        end";
    let mut eval = ::redis::cmd("EVAL");
    eval.arg(LOSE)
        .arg(1)
        .arg(format!("sse:{{{channel}}}"))
        .arg(lost);
    let () = redis.command(eval).await.expect("the script runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_its_newest_events_is_reported_and_no_event_is_repeated() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &["--tail-events", "50"]).await;
    let mut all = server.subscribe("/stream").await;
    let mut some = server.subscribe("/stream?event=number").await;
    // More events than fit in a page of history.
    server.publish_numbers("sse", 0..600).await;
    let numbers: Vec<String> = (0..600).map(|number| number.to_string()).collect();
    for subscriber in [&mut all, &mut some] {
        assert_eq!(subscriber.take_data(600).await, numbers);
    }
    // The second loss removes the events after the first loss, and its gap record.
    for (round, lost, survivor) in [(1, 2, 597), (2, 5, 594)] {
        lose(&redis, "sse", lost).await;
        redis.run("CLIENT KILL TYPE normal").await;
        // A node looks for a loss on each new connection before it uses the connection for anything
        // else.
        until("ready again", async || {
            server
                .get("/health/ready")
                .await
                .unwrap()
                .status()
                .is_success()
                .then_some(())
        })
        .await;
        let new = server
            .publish("sse", "number", &format!("new {round}"))
            .await;
        let survivor = server.history("sse").await.swap_remove(survivor).id;
        for subscriber in [&mut all, &mut some] {
            let (_, reason, _) = gap(subscriber, &survivor).await;
            assert_eq!(reason, "lost-tail");
            let expected = TestEvent {
                id: new.clone(),
                event: "number".to_owned(),
                data: format!("new {round}"),
            };
            assert_eq!(subscriber.next_event().await, expected);
        }
    }
    // A client that had seen only events that still exist has missed nothing else.
    let kept = server.history("sse").await;
    let mut behind = server.subscribe_after("/stream", Some(&kept[590].id)).await;
    assert_eq!(behind.take_data(4).await, ["591", "592", "593", "594"]);
    gap(&mut behind, &kept[594].id).await;
    assert_eq!(behind.next_event().await.data, "new 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_end_is_detected_without_a_new_event() {
    let redis = RedisServer::start().await;
    let server = TestServer::node(&redis, &[]).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish_numbers("sse", 0..5).await;
    assert_eq!(subscriber.take_data(5).await, ["0", "1", "2", "3", "4"]);
    let kept = server.history("sse").await.swap_remove(1).id;
    lose(&redis, "sse", 3).await;
    let (_, reason, _) = gap(&mut subscriber, &kept).await;
    assert_eq!(reason, "lost-tail");
    server.publish("sse", "click", "new").await;
    assert_eq!(subscriber.next_event().await.data, "new");
}

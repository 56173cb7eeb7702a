//! Redis loses acknowledged events: either a replica is promoted before it has received them, or
//! Redis restarts from an older file.
//!
//! Events 0 to 4 survive. Events 5 to 7 were acknowledged and are lost. Every subscriber gets a
//! gap, whatever its position, on a node that had seen the lost events and on one that had not,
//! both live and in any later replay.

use std::ops::Range;

use reqwest::StatusCode;
use serde_json::Value;
use sse_proto::{
    EventId,
    api::{Envelope, Gap, GapReason, Lost},
};

use crate::common::{Proxy, RedisServer, Subscriber, TestServer, until};

const AOF: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// The way in which the events are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Failover,
    OlderSnapshot,
}

/// Nodes that share one address, which leads to a Redis that will lose events.
struct System {
    /// Proxy at the shared address.
    redis: Proxy,
    primary: RedisServer,
    replica: Option<(RedisServer, Proxy)>,
    /// Nodes that saw the lost events: the first one published them, the second one read them.
    knew: [TestServer; 2],
    /// Ids of events 0 to 7.
    ids: Vec<String>,
}

impl System {
    /// Publishes events 0 to 4, which survive, then runs `prepare`, then publishes events 5 to 7.
    async fn start(loss: Loss, prepare: impl AsyncFnOnce(&[TestServer; 2])) -> Self {
        let primary = match loss {
            Loss::Failover => RedisServer::start_with(&AOF).await,
            Loss::OlderSnapshot => RedisServer::start_with(&["--appendonly", "no"]).await,
        };
        let redis = Proxy::start(primary.port()).await;
        let broker = ["--redis-url", &redis.redis_url()];
        let knew = [
            TestServer::on(&broker, &[]).await,
            TestServer::on(&broker, &["--tail-events", "2"]).await,
        ];
        for number in 0..5 {
            knew[0].publish("sse", "number", &number.to_string()).await;
        }
        prepare(&knew).await;
        let replica = match loss {
            Loss::Failover => {
                let line = Proxy::start(primary.port()).await;
                let replica = RedisServer::start_with(&AOF).await;
                replica
                    .run(&format!("REPLICAOF 127.0.0.1 {}", line.port()))
                    .await;
                until("the replica has the events", async || {
                    (entries(&replica).await.len() == 5).then_some(())
                })
                .await;
                // The replica receives nothing from now on, and the primary does not wait for it.
                line.silence();
                Some((replica, line))
            }
            Loss::OlderSnapshot => {
                primary.run("SAVE").await;
                None
            }
        };
        for number in 5..8 {
            knew[0].publish("sse", "number", &number.to_string()).await;
        }
        let ids = knew[1]
            .history("sse")
            .await
            .into_iter()
            .map(|event| event.id)
            .collect();
        Self {
            redis,
            primary,
            replica,
            knew,
            ids,
        }
    }

    /// Loses the events. If `early`, another client publishes before any of the nodes is back.
    async fn lose(&mut self, early: bool) {
        if let Some((replica, _)) = &self.replica {
            self.primary.kill();
            replica.run("REPLICAOF NO ONE").await;
        } else {
            // No node reaches Redis until the early event is stored.
            self.redis.switch(crate::common::free_port());
            self.primary.kill();
            self.primary.restart().await;
        }
        if early {
            self.now()
                .run("XADD sse:{sse} * event number data early")
                .await;
        }
        self.redis.switch(self.now().port());
        for node in &self.knew {
            until("Redis is ready again", async || {
                node.get("/health/ready")
                    .await
                    .unwrap()
                    .status()
                    .is_success()
                    .then_some(())
            })
            .await;
        }
    }

    /// The Redis at the address now.
    fn now(&self) -> &RedisServer {
        self.replica
            .as_ref()
            .map_or(&self.primary, |(replica, _)| replica)
    }

    /// Ids of all entries that this Redis has.
    async fn now_ids(&self) -> Vec<String> {
        entries(self.now())
            .await
            .into_iter()
            .map(|(id, _)| id)
            .collect()
    }

    /// The lost range, from the only gap record in the stream.
    async fn lost(&self) -> Lost {
        let entries = entries(self.now()).await;
        let records: Vec<&(String, Vec<String>)> = entries
            .iter()
            .filter(|(_, fields)| fields[1] == "gap")
            .collect();
        assert_eq!(records.len(), 1, "{entries:?}");
        let lost = Lost {
            after: self.ids[4].parse().unwrap(),
            before: records[0].0.parse().unwrap(),
        };
        assert!(self.ids[5..].iter().all(|id| lost.has(id.parse().unwrap())));
        // A node of an older version sends the record unchanged.
        let reported: Gap = serde_json::from_str(&records[0].1[3]).unwrap();
        assert_eq!(reported, gap_after(&self.ids[4], Some(&records[0].0), lost));
        lost
    }
}

fn gap_after(after: &str, oldest: Option<&str>, lost: Lost) -> Gap {
    Gap {
        channel: "sse".parse().unwrap(),
        after: after.to_owned(),
        oldest: oldest.map(|id| id.parse().unwrap()),
        reason: GapReason::LostTail,
        lost: Some(lost),
    }
}

/// All entries of the stream: ids, and fields with their values.
async fn entries(redis: &RedisServer) -> Vec<(String, Vec<String>)> {
    let mut range = redis::cmd("XRANGE");
    range.arg("sse:{sse}").arg("-").arg("+");
    redis.command(range).await.unwrap()
}

/// The next item of a stream: the data of an event, or a gap.
#[derive(Debug, PartialEq)]
enum Next {
    Data(String),
    Gap(Gap),
}

async fn next(subscriber: &mut Subscriber) -> Next {
    let event = subscriber.next_event().await;
    match event.event.as_str() {
        "gap" => Next::Gap(serde_json::from_str(&event.data).expect("a gap")),
        _ => match serde_json::from_str::<Envelope<'_>>(&event.data) {
            Ok(envelope) => data(&envelope.data),
            Err(_) => Next::Data(event.data),
        },
    }
}

async fn expect(subscriber: &mut Subscriber, what: &str, expected: impl IntoIterator<Item = Next>) {
    for expected in expected {
        assert_eq!(next(subscriber).await, expected, "{what}");
    }
}

fn data(text: &str) -> Next {
    Next::Data(text.to_owned())
}

fn numbers(range: Range<usize>) -> impl Iterator<Item = Next> {
    range.map(|number| data(&number.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_lost_events_is_reported_to_every_subscriber() {
    every_subscriber_gets_the_gap(Loss::Failover, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_reported_even_if_an_event_was_published_before_its_detection() {
    every_subscriber_gets_the_gap(Loss::Failover, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_snapshot_is_reported_to_every_subscriber() {
    every_subscriber_gets_the_gap(Loss::OlderSnapshot, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_snapshot_is_reported_even_if_an_event_was_published_before_its_detection() {
    every_subscriber_gets_the_gap(Loss::OlderSnapshot, true).await;
}

/// Streams that are open while the events are lost, with their queries.
type Live = Vec<(&'static str, Subscriber)>;

/// A system whose Redis lost the events 5 to 7; the event `new` is published after the loss.
struct AfterLoss {
    system: System,
    lost: Lost,
    /// The ids of the gap record, of `new` and of the event that was published before the loss was
    /// found, if there is one.
    record: String,
    new: String,
    early: Option<String>,
}

async fn every_subscriber_gets_the_gap(how: Loss, early: bool) {
    let mut live = Live::new();
    let mut system = System::start(how, async |knew| {
        for node in knew {
            for query in [
                "",
                "?event=number",
                "?event=other",
                "?envelope=json",
                "?channel=sse&channel=quiet",
            ] {
                live.push((query, node.subscribe(&format!("/stream{query}")).await));
            }
        }
    })
    .await;
    for (query, subscriber) in &mut live {
        if *query != "?event=other" {
            expect(subscriber, query, numbers(5..8)).await;
        }
    }
    system.lose(early).await;
    let after = AfterLoss::new(system, early).await;
    after.check_live(&mut live).await;

    let knew = &after.system.knew;
    let fresh = TestServer::on(&["--redis-url", &after.system.redis.redis_url()], &[]).await;
    let mut later = Vec::new();
    for node in [&knew[0], &knew[1], &fresh] {
        after.check_resumed_before(node).await;
        after.check_resumed_inside(node).await;
        later.extend(after.resume_after(node).await);
        after.check_history(node).await;
    }
    // The next event arrives as usual.
    fresh.publish("sse", "number", "later").await;
    for subscriber in &mut later {
        expect(subscriber, "after", [data("later")]).await;
    }
    let mut written = 0.0;
    for node in [&knew[0], &knew[1], &fresh] {
        written += node.metric("sse_gap_records_total").await;
    }
    assert!((written - 1.0).abs() < f64::EPSILON, "{written} records");
    for node in knew {
        assert!(node.metric("sse_failover_losses_total").await > 0.0);
    }
}

impl AfterLoss {
    async fn new(system: System, early: bool) -> Self {
        let new = system.knew[1].publish("sse", "number", "new").await;
        let lost = system.lost().await;
        let early = if early {
            Some(entries(system.now()).await[5].0.clone())
        } else {
            None
        };
        Self {
            record: lost.before.to_string(),
            system,
            lost,
            new,
            early,
        }
    }

    /// The gap at its place in the channel: after event 4, before the record.
    fn gap(&self) -> Next {
        let after = &self.system.ids[4];
        Next::Gap(gap_after(after, Some(&self.record), self.lost))
    }

    /// The data of the event that was published early, if there is one.
    fn early_event(&self) -> Option<Next> {
        self.early.as_ref().map(|_| data("early"))
    }

    /// The id of the oldest entry after event 4.
    fn first(&self) -> &str {
        self.early.as_ref().unwrap_or(&self.record)
    }

    /// Checks the streams that were open the whole time, for each kind of query.
    async fn check_live(&self, live: &mut Live) {
        for (query, subscriber) in live {
            let expected: Vec<Next> = match *query {
                "?event=other" => Vec::new(),
                _ => self
                    .early_event()
                    .into_iter()
                    .chain([data("new")])
                    .collect(),
            };
            let mut got = Vec::new();
            while got.len() <= expected.len() {
                got.push(next(subscriber).await);
            }
            let (gaps, events): (Vec<Next>, Vec<Next>) = got
                .into_iter()
                .partition(|next| matches!(next, Next::Gap(_)));
            assert_eq!(events, expected, "{query}");
            // The gap comes at its place in the order, or first if the node's tail has dropped the
            // events before the gap.
            let first = gap_after(&self.system.ids[7], Some(self.first()), self.lost);
            assert!(
                gaps == [self.gap()] || gaps == [Next::Gap(first)],
                "{query}: {gaps:?}"
            );
        }
    }

    /// Checks clients that resume before the lost range.
    async fn check_resumed_before(&self, node: &TestServer) {
        for before in [0, 3, 4] {
            let mut subscriber = node
                .subscribe_after("/stream", Some(&self.system.ids[before]))
                .await;
            let survived = numbers(before + 1..5);
            let then = self
                .early_event()
                .into_iter()
                .chain([self.gap(), data("new")]);
            expect(&mut subscriber, "before", survived.chain(then)).await;
        }
    }

    /// Checks clients that resume inside the lost range.
    async fn check_resumed_inside(&self, node: &TestServer) {
        for id in &self.system.ids[5..8] {
            for cursor in [id.clone(), format!("@{id}")] {
                let reported = gap_after(&cursor, Some(self.first()), self.lost);
                let mut subscriber = node
                    .subscribe_after("/stream?event=number", Some(&cursor))
                    .await;
                let then = self.early_event().into_iter().chain([data("new")]);
                let all = std::iter::once(Next::Gap(reported.clone())).chain(then);
                expect(&mut subscriber, "inside", all).await;
                let history = node
                    .get(&format!("/events?last_event_id={cursor}"))
                    .await
                    .unwrap();
                let history: Value = history.json().await.unwrap();
                assert_eq!(history["gap"], serde_json::to_value(&reported).unwrap());
                assert_eq!(
                    history["events"].as_array().unwrap().len(),
                    1 + usize::from(self.early.is_some()),
                    "{history}"
                );
                // The gap's own id leads to the same position.
                let mut broken = node.subscribe_after("/stream", Some(&cursor)).await;
                assert_eq!(next(&mut broken).await, Next::Gap(reported));
                let mut again = node
                    .subscribe_after("/stream", Some(&broken.last_event_id))
                    .await;
                let then = self
                    .early_event()
                    .into_iter()
                    .chain([self.gap(), data("new")]);
                expect(&mut again, "after the gap", then).await;
            }
        }
    }

    /// Returns clients that resumed after the lost range, and have received `new`.
    async fn resume_after(&self, node: &TestServer) -> [Subscriber; 2] {
        let mut record = node.subscribe_after("/stream", Some(&self.record)).await;
        expect(&mut record, "after", [data("new")]).await;
        let new = node.subscribe_after("/stream", Some(&self.new)).await;
        [record, new]
    }

    /// Checks that history contains the gap record at its position, and does not count it as an
    /// event.
    async fn check_history(&self, node: &TestServer) {
        let early = usize::from(self.early.is_some());
        let json =
            async |path: &str| -> Value { node.get(path).await.unwrap().json().await.unwrap() };
        let all = node.history("sse").await;
        let kinds: Vec<&str> = all.iter().map(|event| event.event.as_str()).collect();
        let gaps = kinds.iter().filter(|kind| **kind == "gap").count();
        assert_eq!(gaps, 1, "{kinds:?}");
        assert_eq!(all.len(), 5 + early + 2);
        let newest = json(&format!("/events?last={}", 2 + early)).await;
        assert_eq!(newest["events"][0]["data"], "4", "{newest}");
        let page = json("/events?limit=6").await;
        let events = page["events"].as_array().unwrap();
        let count = events
            .iter()
            .filter(|event| event["event"] != "gap")
            .count();
        assert_eq!(count, 6, "{page}");
    }
}

/// Everything up to the end of a stream, and the status of the response when the client reconnects.
async fn to_the_end(node: &TestServer, path: &str, after: &str) -> (Vec<Next>, StatusCode) {
    let mut subscriber = node.subscribe_after(path, Some(after)).await;
    let mut reported = Vec::new();
    while let Some(block) = subscriber.try_next_block().await {
        let field = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        match (field("event"), field("data")) {
            (Some("gap"), Some(gap)) => {
                reported.push(Next::Gap(serde_json::from_str(gap).unwrap()));
            }
            (Some(_), Some(text)) => reported.push(data(text)),
            _ => {}
        }
    }
    let again = node
        .http
        .get(node.at(path))
        .header("last-event-id", &subscriber.last_event_id)
        .send()
        .await
        .unwrap();
    (reported, again.status())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_an_end_reports_only_losses_up_to_that_end() {
    for early in [false, true] {
        let mut system = System::start(Loss::OlderSnapshot, async |_| {}).await;
        system.lose(early).await;
        system.knew[1].publish("sse", "number", "new").await;
        let lost = system.lost().await;
        let record = lost.before.to_string();
        let gap = || Next::Gap(gap_after(&system.ids[4], Some(&record), lost));
        let fresh = TestServer::on(
            &["--redis-url", &system.redis.redis_url()],
            &["--tail-events", "1"],
        )
        .await;
        let early_id = if early {
            Some(system.now_ids().await.swap_remove(5))
        } else {
            None
        };
        for node in [&system.knew[0], &fresh] {
            // Ends: before the first lost event, at that event, at the last lost event, at the gap
            // record, and at the early event if there is one.
            let mut ends = vec![
                (4, &*system.ids[4]),
                (5, &*system.ids[5]),
                (7, &*system.ids[7]),
                (9, &*record),
            ];
            ends.extend(early_id.as_deref().map(|id| (8, id)));
            for (nth, until) in ends {
                let came_instead = (early && nth >= 8).then(|| data("early"));
                let expected: Vec<Next> = numbers(3..5)
                    .chain(came_instead)
                    .chain((nth > 4).then(gap))
                    .collect();
                let path = format!("/stream?until={until}");
                let (reported, again) = to_the_end(node, &path, &system.ids[2]).await;
                assert_eq!(
                    (reported, again),
                    (expected, StatusCode::NO_CONTENT),
                    "{early} {path}"
                );
                let history = node
                    .get(&format!(
                        "/events?until={until}&last_event_id={}",
                        system.ids[4]
                    ))
                    .await
                    .unwrap();
                let history: Value = history.json().await.unwrap();
                let gaps = history["events"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|event| event["event"] == "gap")
                    .count();
                assert_eq!(gaps, usize::from(nth > 4), "{history}");
                let next = format!(
                    "/events?until={until}&last_event_id={}",
                    history["next"].as_str().unwrap()
                );
                let next: Value = node.get(&next).await.unwrap().json().await.unwrap();
                assert_eq!(
                    (&next["events"], &next["gap"]),
                    (&serde_json::json!([]), &Value::Null),
                    "the gap came twice"
                );
            }
            // A client whose position is a lost event gets the gap once. A client with a later
            // position gets none.
            let inside = to_the_end(
                node,
                &format!("/stream?until={}", system.ids[7]),
                &system.ids[5],
            )
            .await;
            assert!(
                matches!(inside, (ref reported, StatusCode::NO_CONTENT) if matches!(reported[..], [Next::Gap(_)])),
                "{inside:?}"
            );
            let behind = node
                .http
                .get(node.at(&format!("/stream?until={}", system.ids[7])));
            let behind = behind
                .header("last-event-id", &record)
                .send()
                .await
                .unwrap();
            assert_eq!(behind.status(), StatusCode::NO_CONTENT);
            // A client that continues without an end also gets the early event.
            if early {
                let path = format!("/stream?until={}", system.ids[7]);
                let mut until = node.subscribe_after(&path, Some(&system.ids[4])).await;
                assert_eq!(next(&mut until).await, gap());
                let mut on = node
                    .subscribe_after("/stream", Some(&until.last_event_id))
                    .await;
                expect(&mut on, "no end", [data("early"), gap(), data("new")]).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_came_back_empty_is_reported_even_at_the_beginning_of_a_channel() {
    let mut redis = RedisServer::start_with(&["--appendonly", "no"]).await;
    let node = TestServer::node(&redis, &[]).await;
    let start = node.subscribe("/stream").await.last_event_id;
    assert_eq!(start, "0-0");
    let lost = node.publish("sse", "number", "lost").await;
    redis.kill();
    redis.restart().await;
    until("ready", async || {
        node.get("/health/ready")
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
    node.publish("sse", "number", "new").await;
    let fresh = TestServer::node(&redis, &[]).await;
    for server in [&node, &fresh] {
        for cursor in [&start, &lost] {
            let mut subscriber = server.subscribe_after("/stream", Some(cursor)).await;
            let Next::Gap(gap) = next(&mut subscriber).await else {
                panic!("no gap after {cursor}")
            };
            assert!(
                gap.reason == GapReason::LostTail && gap.lost.unwrap().has(lost.parse().unwrap()),
                "{gap:?}"
            );
            expect(&mut subscriber, cursor, [data("new")]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_loss_that_removes_the_gap_record_is_reported_again() {
    let mut redis = RedisServer::start_with(&["--appendonly", "no"]).await;
    let node = TestServer::node(&redis, &[]).await;
    let kept = node.publish("sse", "number", "kept").await;
    redis.run("SAVE").await;
    let mut live = node.subscribe_after("/stream", Some(&kept)).await;
    let mut ids = vec![kept.clone()];
    for round in 0..3 {
        ids.push(
            node.publish("sse", "number", &format!("lost {round}"))
                .await,
        );
        expect(&mut live, "before", [data(&format!("lost {round}"))]).await;
        redis.kill();
        redis.restart().await;
        let Next::Gap(gap) = next(&mut live).await else {
            panic!("round {round}: no gap")
        };
        let lost = gap.lost.expect("a range");
        assert_eq!(lost.after.to_string(), kept);
        assert!(
            ids[1..].iter().all(|id| lost.has(id.parse().unwrap())),
            "{lost:?} {ids:?}"
        );
        ids.push(lost.before.to_string());
    }
    // A client whose position was lost in any round gets the gap, and then the new event.
    node.publish("sse", "number", "new").await;
    for id in &ids[1..6] {
        let mut subscriber = node.subscribe_after("/stream", Some(id)).await;
        assert!(
            matches!(next(&mut subscriber).await, Next::Gap(_)),
            "after {id}"
        );
        expect(&mut subscriber, id, [data("new")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_cannot_be_recorded_yet_is_recorded_as_soon_as_it_can() {
    let mut system = System::start(Loss::Failover, async |_| {}).await;
    // The address leads to the replica before its promotion. The replica can be read but rejects
    // writes, so the gap record cannot be stored.
    system.primary.kill();
    system.redis.switch(system.now().port());
    let [node, other] = &system.knew;
    for node in [node, other] {
        until("the replica is read", async || {
            let read = node.get("/events").await.unwrap();
            let read: Value = read
                .status()
                .is_success()
                .then_some(read)?
                .json()
                .await
                .unwrap();
            (read["events"].as_array().unwrap().len() == 5).then_some(())
        })
        .await;
    }
    assert_eq!(entries(system.now()).await.len(), 5);
    system.now().run("REPLICAOF NO ONE").await;
    until("the loss is recorded", async || {
        (entries(system.now()).await.len() == 6).then_some(())
    })
    .await;
    let lost = system.lost().await;
    node.publish("sse", "number", "new").await;
    for node in [node, other] {
        let mut inside = node.subscribe_after("/stream", Some(&system.ids[6])).await;
        let record = lost.before.to_string();
        let first = Next::Gap(gap_after(&system.ids[6], Some(&record), lost));
        expect(&mut inside, "inside", [first, data("new")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_ids_are_not_reused_if_the_clock_of_redis_is_behind() {
    lost_ids_are_not_reused(false).await;
}

/// The first event that the node published on its connection is lost as well.
#[tokio::test(flavor = "multi_thread")]
async fn lost_ids_are_not_reused_if_the_clock_is_behind_and_the_first_id_is_lost() {
    lost_ids_are_not_reused(true).await;
}

async fn lost_ids_are_not_reused(first_too: bool) {
    let mut redis = RedisServer::start_with(&["--appendonly", "no"]).await;
    let proxy = Proxy::start(redis.port()).await;
    let knew = TestServer::on(&["--redis-url", &proxy.redis_url()], &[]).await;
    // The stream has an id in the future, as if the clock had been set back since.
    redis
        .run("XADD sse:{sse} 99999999999999-5 event number data kept")
        .await;
    if first_too {
        redis.run("SAVE").await;
    }
    let first = knew.publish("sse", "number", "first").await;
    if !first_too {
        redis.run("SAVE").await;
    }
    let mut live = knew.subscribe_after("/stream", Some(&first)).await;
    let mut lost = if first_too { vec![first] } else { Vec::new() };
    let kept = 2 - lost.len();
    for number in 0..3 {
        lost.push(knew.publish("sse", "number", &number.to_string()).await);
    }
    assert_eq!(live.take_data(3).await, ["0", "1", "2"]);
    proxy.switch(crate::common::free_port());
    redis.kill();
    redis.restart().await;
    // A node that has not seen the lost events publishes first, in every way that exists.
    let fresh = TestServer::node(&redis, &[]).await;
    let other = TestServer::node(&redis, &[]).await;
    let keyed = other
        .http
        .post(other.at("/event/number"))
        .header("content-type", "text/plain");
    let keyed = keyed
        .header("idempotency-key", "k")
        .body("keyed")
        .send()
        .await
        .unwrap();
    assert!(keyed.status().is_success());
    fresh.publish("sse", "number", "early").await;
    fresh.publish("sse", "number", "early too").await;
    let id = |text: &str| -> EventId { text.parse().unwrap() };
    let newest_lost = lost.iter().map(|lost| id(lost)).max().unwrap();
    let early: Vec<EventId> = fresh.history("sse").await[kept..]
        .iter()
        .map(|event| id(&event.id))
        .collect();
    assert!(
        early.len() == 3 && early.iter().all(|id| *id > newest_lost),
        "{early:?} {lost:?}"
    );
    proxy.switch(redis.port());
    // A client that has seen the lost events gets a gap and the events that were published
    // afterwards.
    let mut got = Vec::new();
    while got.len() < 4 {
        got.push(next(&mut live).await);
    }
    let (gaps, events): (Vec<Next>, Vec<Next>) = got
        .into_iter()
        .partition(|next| matches!(next, Next::Gap(_)));
    assert_eq!(gaps.len(), 1);
    assert_eq!(events, ["keyed", "early", "early too"].map(data));
    for lost in &lost {
        let mut subscriber = fresh.subscribe_after("/stream", Some(lost)).await;
        let Next::Gap(gap) = next(&mut subscriber).await else {
            panic!("no gap after {lost}")
        };
        assert!(gap.lost.unwrap().has(id(lost)), "{gap:?}");
        expect(
            &mut subscriber,
            lost,
            ["keyed", "early", "early too"].map(data),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_published_after_a_loss_by_a_slow_clock_reach_every_subscriber() {
    let mut redis = RedisServer::start_with(&["--appendonly", "no"]).await;
    let proxy = Proxy::start(redis.port()).await;
    let knew = TestServer::on(&["--redis-url", &proxy.redis_url()], &[]).await;
    let kept = knew.publish("sse", "number", "kept").await;
    redis.run("SAVE").await;
    let mut live = knew.subscribe_after("/stream", Some(&kept)).await;
    // The lost id comes from a clock that is an hour ahead of the clock that assigns the next ids.
    let lost = EventId::new(kept.parse::<EventId>().unwrap().ms + 3_600_000, 0);
    redis
        .run(&format!("XADD sse:{{sse}} {lost} event number data lost"))
        .await;
    assert_eq!(live.take_data(1).await, ["lost"]);
    proxy.switch(crate::common::free_port());
    redis.kill();
    redis.restart().await;
    let fresh = TestServer::node(&redis, &[]).await;
    let early = fresh.publish("sse", "number", "early").await;
    assert!(early.parse::<EventId>().unwrap() < lost);
    proxy.switch(redis.port());
    let record = until("the loss is recorded", async || {
        let entries = entries(&redis).await;
        entries
            .iter()
            .find(|(_, fields)| fields[1] == "gap")
            .map(|(id, _)| id.clone())
    })
    .await;
    knew.publish("sse", "number", "new").await;
    let range = Lost {
        after: kept.parse().unwrap(),
        before: record.parse().unwrap(),
    };
    let inside = || {
        [
            Next::Gap(gap_after(&lost.to_string(), Some(&early), range)),
            data("early"),
            data("new"),
        ]
    };
    expect(&mut live, "live", inside()).await;
    for node in [&knew, &fresh] {
        let mut behind = node
            .subscribe_after("/stream", Some(&lost.to_string()))
            .await;
        expect(&mut behind, "inside", inside()).await;
        for cursor in [&kept, &early] {
            let mut before = node.subscribe_after("/stream", Some(cursor)).await;
            let gap = Next::Gap(gap_after(&kept, Some(&record), range));
            let early = (*cursor == kept).then(|| data("early"));
            expect(
                &mut before,
                cursor,
                early.into_iter().chain([gap, data("new")]),
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_events_are_not_reported_as_lost() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(redis.port()).await;
    let broker = ["--redis-url", &proxy.redis_url()];
    let node = TestServer::on(&broker, &[]).await;
    for channel in ["trimmed", "emptied", "forgotten", "whole"] {
        node.publish_numbers(channel, 0..10).await;
    }
    proxy.switch(crate::common::free_port());
    redis
        .run("XADD sse:{trimmed} * event number data new")
        .await;
    redis.run("XTRIM sse:{trimmed} MAXLEN 1").await;
    redis.run("XTRIM sse:{emptied} MAXLEN 0").await;
    proxy.switch(redis.port());
    until("ready", async || {
        node.get("/health/ready")
            .await
            .unwrap()
            .status()
            .is_success()
            .then_some(())
    })
    .await;
    assert!(node.metric("sse_gap_records_total").await.abs() < f64::EPSILON);
    assert_eq!(node.history("trimmed").await.len(), 1);
    assert_eq!(node.history("emptied").await.len(), 0);
    assert_eq!(node.history("whole").await.len(), 10);
}

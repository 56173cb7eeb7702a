//! Several nodes: whatever happens to the node that stores and sends, each message is stored once,
//! and each event is sent once.

use std::{collections::HashMap, time::Duration};

use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{bridged_node, count, publish_bytes, publisher, reader::FlaskReader};
use crate::common::{RedisServer, TestServer, until};

/// What happens to the leader.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    /// The process is stopped for at least this time, and continues when another node has taken
    /// over.
    Freeze(Duration),
}

/// Numbered messages, of which every third is the same text.
fn message(number: usize) -> String {
    if number.is_multiple_of(3) {
        r#"{"data": "equal"}"#.to_owned()
    } else {
        format!(r#"{{"data": {number}}}"#)
    }
}

/// Publishes messages at a steady rate, 500 per second.
async fn publish_messages(redis: &RedisServer, numbers: std::ops::Range<usize>) {
    let mut flask = publisher(redis).await;
    let mut timer = interval(Duration::from_millis(2));
    timer.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in numbers {
        timer.tick().await;
        publish_bytes(&mut flask, message(number).as_bytes()).await;
    }
}

/// Waits until exactly one of the nodes has the lease; returns its index.
async fn leader(nodes: &[TestServer], among: &[usize]) -> usize {
    until("a node leads", async || {
        let leading = among.iter().map(async |index| {
            let leads = count(&nodes[*index], "sse_flask_sse_leading").await == 1;
            leads.then_some(*index)
        });
        join_all(leading).await.into_iter().flatten().next()
    })
    .await
}

/// Runs a fault while messages and events cross, and compares both sides.
async fn cross_during(nodes: usize, fault: Fault, messages: usize) {
    let redis = RedisServer::start_with(&["--appendonly", "no"]).await;
    let mut servers = Vec::new();
    for _ in 0..nodes {
        servers.push(bridged_node(&redis).await);
    }
    let all: Vec<usize> = (0..nodes).collect();
    let first = leader(&servers, &all).await;
    let others: Vec<usize> = all.into_iter().filter(|index| *index != first).collect();
    let reader = FlaskReader::start(&redis).await;

    let publishing = publish_messages(&redis, 0..messages);
    let posting = post_events(&servers[others[0]], 30);
    let faulting = async {
        let history = async || servers[others[0]].history("sse").await.len();
        until("messages are stored", async || {
            (history().await > 50).then_some(())
        })
        .await;
        servers[first].signal(match fault {
            Fault::Kill => "KILL",
            Fault::Freeze(_) => "STOP",
        });
        leader(&servers, &others).await;
        if let Fault::Freeze(time) = fault {
            sleep(time).await;
            servers[first].signal("CONT");
        }
    };
    let ((), ids, ()) = tokio::join!(publishing, posting, faulting);
    check_history(&servers[others[0]], messages, &ids).await;
    check_reader(reader, messages, &ids).await;
}

/// Publishes events one after another; returns their ids.
async fn post_events(server: &TestServer, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(server.publish("sse", "ours", &number.to_string()).await);
    }
    ids
}

async fn check_history(server: &TestServer, messages: usize, ids: &[String]) {
    let expected = messages + ids.len();
    until("everything is stored", async || {
        (server.history("sse").await.len() >= expected).then_some(())
    })
    .await;
    let mut counts: HashMap<String, usize> = HashMap::new();
    for event in server.history("sse").await {
        if event.event == "message" {
            *counts.entry(event.data).or_default() += 1;
        } else {
            assert!(ids.contains(&event.id), "{event:?}");
        }
    }
    assert_eq!(counts.remove("equal"), Some(messages.div_ceil(3)));
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_eq!(counts.len(), messages - messages.div_ceil(3));
}

/// Of our events, the reader gets each one once and in order; of Flask's, what Flask published.
async fn check_reader(mut reader: FlaskReader, messages: usize, ids: &[String]) {
    let mut received = Vec::new();
    for _ in 0..messages + ids.len() {
        let event = reader.next_event().await;
        if let Some(id) = event.get("id") {
            received.push(id.as_str().unwrap().to_owned());
        }
    }
    assert_eq!(received, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_of_two_nodes_loses_and_repeats_nothing() {
    cross_during(2, Fault::Kill, 600).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_of_three_nodes_loses_and_repeats_nothing() {
    cross_during(3, Fault::Freeze(Duration::ZERO), 900).await;
}

/// Runs with `scripts/test --full`.
mod full {
    use std::time::Duration;

    use super::{Fault, cross_during};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_leader_of_two_or_three_nodes_is_killed_or_frozen_for_ten_seconds() {
        for nodes in [2, 3] {
            for fault in [Fault::Kill, Fault::Freeze(Duration::from_secs(10))] {
                cross_during(nodes, fault, 6000).await;
            }
        }
    }
}

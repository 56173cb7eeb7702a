//! Real sentinels with a primary and two replicas: a planned failover loses nothing, and after any
//! other one publishing continues and each loss is reported.

mod deployment;
mod load;

use reqwest::StatusCode;

use self::deployment::Sentinels;
pub(crate) use self::load::Load;
use crate::common::{Subscriber, TestServer, refusal, until};

/// The data that a stream got up to `last`, and how many gaps.
pub(crate) async fn received_until(
    subscriber: &mut Subscriber,
    last: &str,
) -> (Vec<String>, usize) {
    let (mut received, mut gaps) = (Vec::new(), 0);
    loop {
        let event = subscriber.next_event().await;
        match event.event.as_str() {
            "gap" => gaps += 1,
            _ if event.data == last => return (received, gaps),
            _ => received.push(event.data),
        }
    }
}

async fn publish_when_possible(server: &TestServer, data: &str) {
    until("publishing works", async || {
        let response = server.try_publish("sse", "click", data).await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
}

/// One deployment for all cases, because it takes seconds to start.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_follow_the_primary_of_the_sentinels() {
    let mut sentinels = Sentinels::start().await;
    let flags = sentinels.flags();
    let flags = flags.each_ref().map(String::as_str);
    let nodes = [
        TestServer::on(&flags, &[]).await,
        TestServer::on(&flags, &[]).await,
    ];
    a_planned_failover_loses_nothing(&sentinels, &nodes).await;
    a_killed_primary_costs_at_most_a_reported_gap(&mut sentinels, &nodes).await;
    an_unknown_primary_is_a_503_that_the_log_explains(&sentinels).await;
}

async fn a_planned_failover_loses_nothing(sentinels: &Sentinels, nodes: &[TestServer; 2]) {
    let old = sentinels.servers[2].port();
    publish_when_possible(&nodes[0], "first").await;
    let mut subscriber = nodes[1].subscribe("/stream").await;
    let load = Load::start(nodes);
    load.until_acknowledged(100).await;
    sentinels.fail_over().await;
    sentinels.another_than(old).await;
    let before = load.acknowledged();
    load.until_acknowledged(before + 100).await;
    let outcomes = load.stop().await;
    publish_when_possible(&nodes[0], "planned is over").await;
    let (received, gaps) = received_until(&mut subscriber, "planned is over").await;
    let unknown = outcomes.unknown;
    assert_eq!(
        (gaps, unknown),
        (0, 0),
        "{}{}",
        nodes[0].log(),
        nodes[1].log()
    );
    outcomes.assert_all_in(&received);
    for node in nodes {
        assert!(node.metric("sse_failover_losses_total").await.abs() < f64::EPSILON);
        assert!(
            node.log().contains("the sentinels promote"),
            "{}",
            node.log()
        );
    }
}

async fn a_killed_primary_costs_at_most_a_reported_gap(
    sentinels: &mut Sentinels,
    nodes: &[TestServer; 2],
) {
    let old = sentinels.servers[2].port();
    let primary = sentinels.another_than(old).await;
    let mut subscriber = nodes[1].subscribe("/stream").await;
    let load = Load::start(nodes);
    load.until_acknowledged(100).await;
    // The others decide without this one.
    sentinels.signal_sentinel(2, "-STOP");
    sentinels.server(primary).kill();
    let before = load.acknowledged();
    load.until_acknowledged(before + 200).await;
    sentinels.signal_sentinel(2, "-CONT");
    let outcomes = load.stop().await;
    publish_when_possible(&nodes[0], "the kill is over").await;
    let (received, gaps) = received_until(&mut subscriber, "the kill is over").await;
    if gaps == 0 {
        outcomes.assert_all_in(&received);
    }
    sentinels.server(primary).restart().await;
    let history = nodes[0].history("sse").await;
    assert!(history.iter().any(|event| event.data == "the kill is over"));
}

async fn an_unknown_primary_is_a_503_that_the_log_explains(sentinels: &Sentinels) {
    let flags = sentinels.flags_for("other");
    let flags = flags.each_ref().map(String::as_str);
    let node = TestServer::on(&flags, &["--redis-timeout", "500ms"]).await;
    let response = node.try_publish("sse", "click", "x").await.unwrap();
    refusal(
        response,
        StatusCode::SERVICE_UNAVAILABLE,
        "broker_unavailable",
    )
    .await;
    let log = node.log();
    assert!(
        log.contains("none of the 3 sentinels knows the primary other"),
        "{log}"
    );
    assert!(!log.contains("geheim"), "{log}");
}

//! Publishers that record the outcome of each publish.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::task::JoinHandle;

use crate::common::{TestServer, until};

const PUBLISHERS: usize = 8;

/// Publishers that run until they are stopped.
pub(crate) struct Load {
    shared: Arc<Shared>,
    publishers: Vec<JoinHandle<Outcomes>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    acknowledged: AtomicUsize,
}

/// What became of the publishes.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    acknowledged: Vec<String>,
    /// Publishes that may or may not be stored.
    pub(crate) unknown: usize,
}

impl Load {
    /// Starts publishers on all nodes, to the default channel.
    pub(crate) fn start(nodes: &[TestServer]) -> Self {
        Self::start_in(nodes, "sse")
    }

    /// Starts publishers on all nodes, to this channel.
    pub(crate) fn start_in(nodes: &[TestServer], channel: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let path = format!("/event/click?channel={channel}");
        let publishers = (0..PUBLISHERS).map(|number| {
            let node = &nodes[number % nodes.len()];
            let (http, url) = (node.http.clone(), node.at(&path));
            tokio::spawn(publish(http, url, shared.clone()))
        });
        Self {
            publishers: publishers.collect(),
            shared,
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    pub(crate) async fn until_acknowledged(&self, count: usize) {
        until("publishes are acknowledged", async || {
            (self.acknowledged() >= count).then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(self) -> Outcomes {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let mut all = Outcomes::default();
        for publisher in self.publishers {
            let outcomes = publisher.await.expect("a publisher");
            all.acknowledged.extend(outcomes.acknowledged);
            all.unknown += outcomes.unknown;
        }
        all
    }
}

impl Outcomes {
    /// Fails unless everything that was acknowledged was received.
    pub(crate) fn assert_all_in(&self, received: &[String]) {
        let received: HashSet<&String> = received.iter().collect();
        let missing = self.acknowledged.iter();
        let missing: Vec<_> = missing.filter(|data| !received.contains(data)).collect();
        assert!(missing.is_empty(), "acknowledged and missing: {missing:?}");
    }
}

async fn publish(http: reqwest::Client, url: String, shared: Arc<Shared>) -> Outcomes {
    let mut outcomes = Outcomes::default();
    while !shared.is_over.load(Ordering::SeqCst) {
        let data = uuid::Uuid::new_v4().to_string();
        let request = http.post(&url).header("content-type", "text/plain");
        let Ok(response) = request.body(data.clone()).send().await else {
            outcomes.unknown += 1;
            continue;
        };
        if response.status().is_success() {
            outcomes.acknowledged.push(data);
            shared.acknowledged.fetch_add(1, Ordering::SeqCst);
        } else if response
            .text()
            .await
            .expect("a body")
            .contains("outcome_unknown")
        {
            outcomes.unknown += 1;
        }
    }
    outcomes
}

//! The honest clients of a server that is attacked.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::common::{Client, RequestBuilder, Subscriber, TestServer, within};

/// Channel of the victims, which exists before the attack.
const CHANNEL: &str = "victims";
/// Pause between two requests of a victim.
const PACE: Duration = Duration::from_millis(20);

/// A publisher, a subscriber, a reader of history and a health check.
pub(crate) struct Victims {
    stop: watch::Sender<bool>,
    subscriber: Subscriber,
    publisher: JoinHandle<usize>,
    others: Vec<JoinHandle<()>>,
}

impl Victims {
    /// Starts the victims. The first event is published before this returns.
    pub(crate) async fn start(server: &TestServer) -> Self {
        server.publish(CHANNEL, "number", "0").await;
        let path = format!("/stream?channel={CHANNEL}&from=oldest");
        let subscriber = server.subscribe(&path).await;
        let (stop, stopped) = watch::channel(false);
        let client = Honest {
            http: server.http.clone(),
            url: server.url.clone(),
            stopped,
        };
        let others = ["/events?channel=victims&limit=1", "/health/ready"];
        Self {
            stop,
            subscriber,
            publisher: tokio::spawn(client.clone().publish()),
            others: others
                .map(|path| tokio::spawn(client.clone().read(path)))
                .into(),
        }
    }

    /// Ends the victims after one more request of each.
    ///
    /// A victim that was rejected has ended the test. The subscriber must have every event once and
    /// in order.
    pub(crate) async fn finish(mut self) {
        self.stop.send_replace(true);
        for other in self.others {
            within("the last read", other).await.unwrap();
        }
        let published = within("the last publish", self.publisher).await.unwrap();
        let received = self.subscriber.take_data(published).await;
        let expected: Vec<_> = (0..published).map(|number| number.to_string()).collect();
        assert_eq!(received, expected);
    }
}

/// What each of the victims needs.
#[derive(Clone)]
struct Honest {
    http: Client,
    url: String,
    stopped: watch::Receiver<bool>,
}

impl Honest {
    /// Publishes numbers from one; returns the number of all events of the channel.
    async fn publish(self) -> usize {
        let mut published = 1;
        let url = format!("{}/event/number?channel={CHANNEL}", self.url);
        self.repeat(|| {
            let request = self.http.post(&url).header("content-type", "text/plain");
            let request = request.body(published.to_string());
            published += 1;
            request
        })
        .await;
        published
    }

    async fn read(self, path: &str) {
        let url = format!("{}{path}", self.url);
        self.repeat(|| self.http.get(&url)).await;
    }

    /// Sends requests until the end, each of which must succeed.
    async fn repeat(&self, mut request: impl FnMut() -> RequestBuilder) {
        let mut tick = interval(PACE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = *self.stopped.borrow();
            let response = within("a response", request().send()).await.unwrap();
            let status = response.status();
            assert!(status.is_success(), "{status}: {:?}", response.text().await);
            if is_last {
                return;
            }
            tick.tick().await;
        }
    }
}

//! Wake-ups by Redis pub/sub: one connection a node, subscribed to the bells of the channels that it serves.
//!
//! A lost or doubled bell costs nothing but time. After every confirmed subscription, and so for all followed channels
//! after every connect, the channel is rung once: its feed reads on from where it stands, and that read proves whether
//! the log still continues there. [`poll_followed`] goes round all followed channels all the time.
//!
//! The connection is our own to watch: the library's would give up after some attempts, and would not notice that a
//! subscription was refused. One that gives no answer to a `PING` for [`REPLY_TIMEOUT`] is given up, so a half-open
//! one is found within three seconds, whatever the time-out of commands is.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use redis::{
    Client,
    aio::{PubSubSink, PubSubStream},
};
use sse_proto::Channel;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, interval_at},
};

use super::{
    Names,
    connection::{Backoff, with_timeout},
};
use crate::broker::notify::ChangeNotifier;

const PING_INTERVAL: Duration = Duration::from_secs(1);
/// An answer on this connection takes no longer, because it only waits for Redis itself.
const REPLY_TIMEOUT: Duration = Duration::from_millis(1500);
/// Subscriptions that are asked for at once, and rung at once when they are confirmed.
const SUBSCRIBE_BATCH: usize = 128;
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Rounds of [`POLL_INTERVAL`] in which every followed channel gets its look, if there are not too many.
const POLL_ROUNDS: usize = 50;
/// Looks a round at the most: each is a command to Redis.
const POLLS_PER_ROUND_MAX: usize = 20;

/// Listens for bells for ever.
pub(super) async fn listen(
    client: Client,
    names: Names,
    notifier: ChangeNotifier,
    followed_changed: Arc<Notify>,
    timeout: Duration,
) {
    let mut backoff = Backoff::default();
    let timeout = timeout.min(REPLY_TIMEOUT);
    let mut is_reported = false;
    loop {
        match with_timeout(timeout, client.get_async_pubsub()).await {
            Ok(raw) => {
                let (sink, stream) = raw.split();
                let mut connection = PubSubConnection {
                    sink,
                    names: &names,
                    notifier: &notifier,
                    subscribed: HashSet::new(),
                    timeout,
                    has_replied: false,
                };
                let why = connection.serve(stream, &followed_changed).await;
                if connection.has_replied {
                    (backoff, is_reported) = (Backoff::default(), false);
                }
                // Once, and not for every attempt that is refused.
                if !std::mem::replace(&mut is_reported, true) {
                    tracing::warn!(
                        why,
                        "the line for wake-ups from Redis broke; connecting again"
                    );
                }
            }
            Err(why) => tracing::debug!(why, "no line for wake-ups from Redis"),
        }
        backoff.wait().await;
    }
}

/// One connection.
struct PubSubConnection<'a> {
    sink: PubSubSink,
    names: &'a Names,
    notifier: &'a ChangeNotifier,
    /// The channels whose bell is confirmed to be heard.
    subscribed: HashSet<Channel>,
    timeout: Duration,
    /// It was there long enough to be asked for a sign of life, and gave one.
    has_replied: bool,
}

impl PubSubConnection<'_> {
    /// Serves until the connection breaks; returns why.
    async fn serve(&mut self, mut stream: PubSubStream, followed_changed: &Notify) -> String {
        let mut check = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Err(why) = self.subscribe().await {
            return why;
        }
        loop {
            let served = tokio::select! {
                message = stream.next() => match message {
                    Some(message) => {
                        if let Some(channel) = self.names.channel(message.get_channel_name()) {
                            self.notifier.notify(&channel);
                        }
                        Ok(())
                    }
                    None => Err("closed".to_owned()),
                },
                () = followed_changed.notified() => self.subscribe().await,
                _ = check.tick() => self.ping().await,
            };
            if let Err(why) = served {
                return why;
            }
        }
    }

    async fn ping(&mut self) -> Result<(), String> {
        with_timeout(self.timeout, self.sink.ping::<redis::Value>()).await?;
        self.has_replied = true;
        Ok(())
    }

    /// Brings the subscriptions in line with who follows what. Rings each new one once it is confirmed.
    async fn subscribe(&mut self) -> Result<(), String> {
        let followed: HashSet<Channel> = self.notifier.followed().into_iter().collect();
        let new: Vec<Channel> = followed.difference(&self.subscribed).cloned().collect();
        for some in new.chunks(SUBSCRIBE_BATCH) {
            let names: Vec<String> = some
                .iter()
                .map(|channel| self.names.stream(channel))
                .collect();
            with_timeout(self.timeout, self.sink.subscribe(names)).await?;
            for channel in some {
                self.subscribed.insert(channel.clone());
                self.notifier.notify(channel);
            }
        }
        let gone: Vec<Channel> = self.subscribed.difference(&followed).cloned().collect();
        for some in gone.chunks(SUBSCRIBE_BATCH) {
            let names: Vec<String> = some
                .iter()
                .map(|channel| self.names.stream(channel))
                .collect();
            with_timeout(self.timeout, self.sink.unsubscribe(names)).await?;
            for channel in some {
                self.subscribed.remove(channel);
            }
        }
        Ok(())
    }
}

/// Rings for every followed channel in turn, whatever the bells do: each about every five seconds, within a fixed
/// number of looks.
pub(super) async fn poll_followed(notifier: ChangeNotifier) {
    let mut tick = interval(POLL_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: Vec<Channel> = Vec::new();
    let mut polls = 0;
    loop {
        tick.tick().await;
        if waiting.is_empty() {
            waiting = notifier.followed();
            polls = waiting.len().div_ceil(POLL_ROUNDS).min(POLLS_PER_ROUND_MAX);
        }
        for channel in waiting.drain(waiting.len().saturating_sub(polls)..) {
            notifier.notify(&channel);
        }
    }
}

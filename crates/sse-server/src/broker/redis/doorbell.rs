//! Wake-ups by Redis pub/sub: one connection a node, subscribed to the bells of the channels that it serves.
//!
//! A lost or doubled bell costs nothing but time. After every confirmed subscription, and so for all followed channels
//! after every connect, the channel is rung once: its feed reads on from where it stands, and that read proves whether
//! the log still continues there. [`safety_looks`] goes round all followed channels all the time.
//!
//! The connection is our own to watch: the library's would give up after some attempts, and would not notice that a
//! subscription was refused. One that gives no answer to a `PING` for [`ANSWER_WITHIN`] is given up, so a half-open
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
    link::{BackOff, within},
};
use crate::broker::notify::ChangeNotifier;

const CHECK_EVERY: Duration = Duration::from_secs(1);
/// An answer on this connection takes no longer, because it only waits for Redis itself.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
/// Subscriptions that are asked for at once, and rung at once when they are confirmed.
const SUBSCRIBE_AT_ONCE: usize = 128;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rounds of [`LOOK_EVERY`] in which every followed channel gets its look, if there are not too many.
const ROUNDS: usize = 50;
/// Looks a round at the most: each is a command to Redis.
const LOOKS_PER_ROUND: usize = 20;

/// Listens for bells for ever.
pub(super) async fn listen(
    client: Client,
    names: Names,
    notifier: ChangeNotifier,
    follows_changed: Arc<Notify>,
    timeout: Duration,
) {
    let mut back_off = BackOff::default();
    let timeout = timeout.min(ANSWER_WITHIN);
    let mut said = false;
    loop {
        match within(timeout, client.get_async_pubsub()).await {
            Ok(connection) => {
                let (sink, stream) = connection.split();
                let mut line = Line {
                    sink,
                    names: &names,
                    notifier: &notifier,
                    heard: HashSet::new(),
                    timeout,
                    works: false,
                };
                let why = line.serve(stream, &follows_changed).await;
                if line.works {
                    (back_off, said) = (BackOff::default(), false);
                }
                // Once, and not for every attempt that is refused.
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(
                        why,
                        "the line for wake-ups from Redis broke; connecting again"
                    );
                }
            }
            Err(why) => tracing::debug!(why, "no line for wake-ups from Redis"),
        }
        back_off.wait().await;
    }
}

/// One connection.
struct Line<'a> {
    sink: PubSubSink,
    names: &'a Names,
    notifier: &'a ChangeNotifier,
    /// The channels whose bell is confirmed to be heard.
    heard: HashSet<Channel>,
    timeout: Duration,
    /// It was there long enough to be asked for a sign of life, and gave one.
    works: bool,
}

impl Line<'_> {
    /// Serves until the connection breaks; returns why.
    async fn serve(&mut self, mut stream: PubSubStream, follows_changed: &Notify) -> String {
        let mut check = interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY);
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
                () = follows_changed.notified() => self.subscribe().await,
                _ = check.tick() => self.ping().await,
            };
            if let Err(why) = served {
                return why;
            }
        }
    }

    async fn ping(&mut self) -> Result<(), String> {
        within(self.timeout, self.sink.ping::<redis::Value>()).await?;
        self.works = true;
        Ok(())
    }

    /// Brings the subscriptions in line with who follows what. Rings each new one once it is confirmed.
    async fn subscribe(&mut self) -> Result<(), String> {
        let followed: HashSet<Channel> = self.notifier.followed().into_iter().collect();
        let new: Vec<Channel> = followed.difference(&self.heard).cloned().collect();
        for some in new.chunks(SUBSCRIBE_AT_ONCE) {
            let names: Vec<String> = some
                .iter()
                .map(|channel| self.names.stream(channel))
                .collect();
            within(self.timeout, self.sink.subscribe(names)).await?;
            for channel in some {
                self.heard.insert(channel.clone());
                self.notifier.notify(channel);
            }
        }
        let gone: Vec<Channel> = self.heard.difference(&followed).cloned().collect();
        for some in gone.chunks(SUBSCRIBE_AT_ONCE) {
            let names: Vec<String> = some
                .iter()
                .map(|channel| self.names.stream(channel))
                .collect();
            within(self.timeout, self.sink.unsubscribe(names)).await?;
            for channel in some {
                self.heard.remove(channel);
            }
        }
        Ok(())
    }
}

/// Rings for every followed channel in turn, whatever the bells do: each about every five seconds, within a fixed
/// number of looks.
pub(super) async fn safety_looks(notifier: ChangeNotifier) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: Vec<Channel> = Vec::new();
    let mut looks = 0;
    loop {
        tick.tick().await;
        if waiting.is_empty() {
            waiting = notifier.followed();
            looks = waiting.len().div_ceil(ROUNDS).min(LOOKS_PER_ROUND);
        }
        for channel in waiting.drain(waiting.len().saturating_sub(looks)..) {
            notifier.notify(&channel);
        }
    }
}

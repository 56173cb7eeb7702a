//! Notifications by Redis pub/sub: one connection per node, subscribed to the pub/sub channels of
//! the streams that the node follows.
//!
//! A notification carries no event; it only wakes the reader of a channel. A lost or repeated one
//! costs nothing but time:
//!
//! - Each confirmed subscription notifies its channel once, and so does every reconnect for all
//!   followed channels. The channel's feed reads on from its position, and that read proves whether
//!   the log still continues there.
//! - [`poll_followed`] notifies every followed channel in turn, all the time.
//!
//! This file supervises the connection itself. The client library would give up after some
//! attempts, and would not notice that a subscription was rejected. A connection that does not
//! reply to a `PING` within [`REPLY_TIMEOUT`] is given up, so a half-open connection is found
//! within three seconds, whatever the time limit of commands is.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt as _;
use redis::{
    Msg,
    aio::{PubSub, PubSubSink, PubSubStream},
};
use sse_proto::Channel;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, interval_at},
};

use super::{
    backoff::{Backoff, with_timeout},
    dial::Dialer,
    health::Health,
    names::Names,
    outage_log::OutageLog,
    subscriptions::Subscriptions,
    target::ServerAddress,
};
use crate::broker::notify::ChangeNotifier;

const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time for a reply. It can be short, because a reply on this connection waits for Redis
/// only.
const REPLY_TIMEOUT: Duration = Duration::from_millis(1500);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Rounds of [`POLL_INTERVAL`] in which every followed channel is polled once, unless
/// [`POLLS_PER_ROUND_MAX`] is too low for that.
const POLL_ROUNDS: usize = 50;
/// Polls per round. Each poll is a command to Redis.
const POLLS_PER_ROUND_MAX: usize = 20;

/// Receives notifications for the channels that are followed.
pub(super) struct PubSubListener {
    pub(super) dialer: Dialer,
    pub(super) names: Names,
    pub(super) notifier: ChangeNotifier,
    pub(super) subscriptions: Arc<Subscriptions>,
    /// The log lines about outages of the connection.
    pub(super) outage: OutageLog,
    /// The connections for commands, which report that Redis is back.
    pub(super) commands: Arc<Health>,
    /// The address of the primary that the commands use.
    pub(super) primary: watch::Receiver<Option<ServerAddress>>,
    /// Time limit for a reply; at most [`REPLY_TIMEOUT`] is used.
    pub(super) timeout: Duration,
}

impl PubSubListener {
    /// Connects and receives notifications, for ever.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut primary = self.primary.clone();
        loop {
            // The sender lives as long as the broker.
            let Ok(address) = primary.wait_for(Option::is_some).await.map(|it| it.clone()) else {
                return;
            };
            let Some(address) = address else { continue };
            match with_timeout(self.reply_timeout(), self.dialer.open_pubsub(&address)).await {
                Ok(pubsub) => {
                    let end = self.receive_from(&address, pubsub, &mut primary).await;
                    if end.has_replied {
                        backoff.reset();
                    }
                    self.log_broken(&end.why);
                }
                Err(why) => tracing::debug!(why, "no pub/sub connection to Redis"),
            }
            backoff.wait().await;
        }
    }

    /// Receives notifications until the connection breaks, or another Redis is the primary.
    async fn receive_from(
        &self,
        address: &ServerAddress,
        pubsub: PubSub,
        primary: &mut watch::Receiver<Option<ServerAddress>>,
    ) -> ConnectionEnd {
        let (sink, stream) = pubsub.split();
        tokio::select! {
            end = self.connection(sink).run(stream) => end,
            _ = primary.wait_for(|primary| primary.as_ref() != Some(address)) => ConnectionEnd {
                why: "another Redis is the primary".to_owned(),
                has_replied: true,
            },
        }
    }

    fn connection(&self, sink: PubSubSink) -> PubSubConnection<'_> {
        PubSubConnection {
            listener: self,
            sink,
            timeout: self.reply_timeout(),
            has_replied: false,
        }
    }

    fn reply_timeout(&self) -> Duration {
        self.timeout.min(REPLY_TIMEOUT)
    }

    fn log_broken(&self, why: &str) {
        if self.outage.record_failure() {
            tracing::warn!(why, "the pub/sub connection to Redis broke; reconnecting");
        }
    }

    fn log_working(&self) {
        if !self.outage.record_success() {
            return;
        }
        let what = "the pub/sub connection to Redis works again";
        if self.commands.has_logged(&self.outage) {
            tracing::debug!("{what}");
        } else {
            tracing::info!("{what}");
        }
    }
}

struct ConnectionEnd {
    why: String,
    /// The connection lived long enough to reply to a `PING`.
    has_replied: bool,
}

/// One connection.
struct PubSubConnection<'a> {
    listener: &'a PubSubListener,
    sink: PubSubSink,
    timeout: Duration,
    has_replied: bool,
}

impl PubSubConnection<'_> {
    async fn run(mut self, stream: PubSubStream) -> ConnectionEnd {
        let Err(why) = self.serve(stream).await;
        ConnectionEnd {
            why,
            has_replied: self.has_replied,
        }
    }

    /// Serves until the connection breaks; the error is why, in words.
    async fn serve(&mut self, mut stream: PubSubStream) -> Result<Infallible, String> {
        let mut ping_timer = ping_timer();
        self.listener.subscriptions.restart();
        loop {
            tokio::select! {
                message = stream.next() => self.notify(&message.ok_or("closed")?),
                () = self.listener.subscriptions.wait_for_changes() => {
                    self.update_subscriptions().await?;
                }
                _ = ping_timer.tick() => self.ping().await?,
            }
        }
    }

    fn notify(&self, message: &Msg) {
        let PubSubListener {
            names, notifier, ..
        } = self.listener;
        if let Some(channel) = names.channel(message.get_channel_name()) {
            notifier.notify(&channel);
        }
    }

    async fn ping(&mut self) -> Result<(), String> {
        with_timeout(self.timeout, self.sink.ping::<redis::Value>()).await?;
        self.has_replied = true;
        self.listener.log_working();
        Ok(())
    }

    /// Sends a bounded number of changes, and waits until Redis confirms them.
    async fn update_subscriptions(&mut self) -> Result<(), String> {
        let batch = self.listener.subscriptions.take_batch();
        self.unsubscribe(&batch.unsubscribe).await?;
        self.subscribe(&batch.subscribe).await?;
        // Events may have been published before the subscription was confirmed.
        for channel in &batch.subscribe {
            self.listener.notifier.notify(channel);
        }
        Ok(())
    }

    async fn subscribe(&mut self, channels: &[Channel]) -> Result<(), String> {
        if channels.is_empty() {
            return Ok(());
        }
        let names = self.stream_names(channels);
        with_timeout(self.timeout, self.sink.subscribe(names)).await
    }

    async fn unsubscribe(&mut self, channels: &[Channel]) -> Result<(), String> {
        // Without a name, the command would unsubscribe from all channels.
        if channels.is_empty() {
            return Ok(());
        }
        let names = self.stream_names(channels);
        with_timeout(self.timeout, self.sink.unsubscribe(names)).await
    }

    fn stream_names(&self, channels: &[Channel]) -> Vec<String> {
        let names = &self.listener.names;
        channels
            .iter()
            .map(|channel| names.stream(channel))
            .collect()
    }
}

fn ping_timer() -> Interval {
    let start = Instant::now() + PING_INTERVAL;
    delay_missed_ticks(interval_at(start, PING_INTERVAL))
}

fn delay_missed_ticks(mut timer: Interval) -> Interval {
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// Notifies every followed channel in turn, whatever pub/sub does: each about every five seconds,
/// within a fixed number of polls per second.
pub(super) async fn poll_followed(notifier: ChangeNotifier) {
    let mut timer = delay_missed_ticks(interval(POLL_INTERVAL));
    let mut polls = Polls::default();
    loop {
        timer.tick().await;
        polls.run_round(&notifier);
    }
}

/// The polls of the followed channels, in rounds.
#[derive(Default)]
struct Polls {
    /// The followed channels that are not polled yet.
    waiting: Vec<Channel>,
    per_round: usize,
}

impl Polls {
    fn run_round(&mut self, notifier: &ChangeNotifier) {
        if self.waiting.is_empty() {
            self.restart(notifier.followed());
        }
        for channel in self.take_round() {
            notifier.notify(&channel);
        }
    }

    fn take_round(&mut self) -> impl Iterator<Item = Channel> {
        let left = self.waiting.len().saturating_sub(self.per_round);
        self.waiting.drain(left..)
    }

    fn restart(&mut self, followed: Vec<Channel>) {
        self.per_round = polls_per_round(followed.len());
        self.waiting = followed;
    }
}

fn polls_per_round(followed: usize) -> usize {
    followed.div_ceil(POLL_ROUNDS).min(POLLS_PER_ROUND_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_is_polled_in_fifty_rounds_if_there_are_not_too_many() {
        let polls: Vec<usize> = [0, 1, 50, 51, 1000, 100_000].map(polls_per_round).to_vec();
        assert_eq!(polls, [0, 1, 1, 2, 20, 20]);
    }
}

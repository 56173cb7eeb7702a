//! Wake-ups by Redis pub/sub: one connection a node, subscribed to the bells of the channels that it serves.
//!
//! A lost or doubled bell costs nothing but time. After every connect and every confirmed subscription the channel is
//! rung once, so what came before is found; and [`safety_looks`] goes round all followed channels all the time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::StreamExt as _;
use redis::{
    Client,
    aio::{PubSubSink, PubSubStream},
};
use sse_proto::Channel;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

use super::{
    Names,
    link::{BackOff, within},
};
use crate::broker::bells::Bells;

const CHECK_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Rounds of [`LOOK_EVERY`] in which every followed channel gets its look, if there are not too many.
const ROUNDS: usize = 50;
/// Looks a round at the most: each is a command to Redis.
const LOOKS_PER_ROUND: usize = 20;

/// Listens for bells for ever.
pub(super) async fn listen(
    client: Client,
    names: Names,
    bells: Bells,
    follows_changed: Arc<Notify>,
    timeout: Duration,
) {
    let mut back_off = BackOff::default();
    loop {
        match within(timeout, client.get_async_pubsub()).await {
            Ok(connection) => {
                let (sink, stream) = connection.split();
                back_off = BackOff::default();
                let mut line = Line { sink, names: &names, bells: &bells, heard: HashSet::new(), timeout };
                let why = line.serve(stream, &follows_changed).await;
                tracing::warn!(why, "the line for wake-ups from Redis broke; connecting again");
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
    bells: &'a Bells,
    /// The channels whose bell is confirmed to be heard.
    heard: HashSet<Channel>,
    timeout: Duration,
}

impl Line<'_> {
    /// Serves until the connection breaks; returns why.
    async fn serve(&mut self, mut stream: PubSubStream, follows_changed: &Notify) -> String {
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if let Err(why) = self.subscribe().await {
            return why;
        }
        loop {
            let served = tokio::select! {
                message = stream.next() => match message {
                    Some(message) => {
                        if let Some(channel) = self.names.channel(message.get_channel_name()) {
                            self.bells.ring(&channel);
                        }
                        Ok(())
                    }
                    None => Err("closed".to_owned()),
                },
                () = follows_changed.notified() => self.subscribe().await,
                _ = check.tick() => within(self.timeout, self.sink.ping::<redis::Value>()).await.map(drop),
            };
            if let Err(why) = served {
                return why;
            }
        }
    }

    /// Brings the subscriptions in line with who follows what. Rings each new one once it is confirmed.
    async fn subscribe(&mut self) -> Result<(), String> {
        let followed: HashSet<Channel> = self.bells.followed().into_iter().collect();
        for channel in followed.difference(&self.heard.clone()) {
            within(self.timeout, self.sink.subscribe(self.names.stream(channel))).await?;
            self.heard.insert(channel.clone());
            self.bells.ring(channel);
        }
        for channel in self.heard.difference(&followed) {
            within(self.timeout, self.sink.unsubscribe(self.names.stream(channel))).await?;
        }
        self.heard.retain(|channel| followed.contains(channel));
        Ok(())
    }
}

/// Rings for every followed channel in turn, whatever the bells do: each about every five seconds, within a fixed
/// number of looks.
pub(super) async fn safety_looks(bells: Bells) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: Vec<Channel> = Vec::new();
    let mut looks = 0;
    loop {
        tick.tick().await;
        if waiting.is_empty() {
            waiting = bells.followed();
            looks = waiting.len().div_ceil(ROUNDS).min(LOOKS_PER_ROUND);
        }
        for channel in waiting.drain(waiting.len().saturating_sub(looks)..) {
            bells.ring(&channel);
        }
    }
}

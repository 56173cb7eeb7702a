//! Notifications by Redis pub/sub: one connection per primary, subscribed to the pub/sub channels of
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
//! This file supervises the connection itself, and [`wire`] reads it. The client library would give up
//! after some attempts, would not notice that a subscription was rejected, and knows no subscription
//! that Redis ends by itself, as it does in a Redis Cluster when a slot moves. A connection that does
//! not reply to a `PING` within [`REPLY_TIMEOUT`] is given up, so a half-open connection is found
//! within three seconds, whatever the time limit of commands is.
//!
//! In a Redis Cluster there is one connection per primary, and subscriptions are sharded.

mod poll;
mod wire;

use std::{
    convert::Infallible,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use redis::Cmd;
use sse_proto::Channel;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

pub(super) use self::poll::poll_followed;
use self::wire::{Frame, decode};
use super::{
    backoff::{Backoff, with_timeout},
    dial::{Dialer, Login, Stream},
    health::Health,
    names::Names,
    outage_log::OutageLog,
    redirects::{Redirect, find_redirect},
    shards::Shards,
    slots::Slots,
    subscriptions::Subscriptions,
    target::ServerAddress,
};
use crate::{broker::notify::ChangeNotifier, metrics::ShardMetrics};

const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time for a reply. It can be short, because a reply on this connection waits for Redis
/// only.
const REPLY_TIMEOUT: Duration = Duration::from_millis(1500);

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
    /// Learns of slots that have moved.
    pub(super) shards: Weak<Shards>,
    pub(super) metrics: Arc<ShardMetrics>,
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
            match with_timeout(self.reply_timeout(), self.dialer.open_socket(&address)).await {
                Ok((socket, login)) => {
                    let connection = self.connection(&address, socket);
                    let end = connection.run(&login, &mut primary).await;
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

    fn connection<'a>(&'a self, address: &'a ServerAddress, socket: Stream) -> Connection<'a> {
        Connection {
            listener: self,
            address,
            socket,
            buffer: BytesMut::new(),
            reply_due: None,
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
struct Connection<'a> {
    listener: &'a PubSubListener,
    address: &'a ServerAddress,
    socket: Stream,
    buffer: BytesMut,
    /// When the reply to the last `PING` is too late; `None` if it has come.
    reply_due: Option<Instant>,
    has_replied: bool,
}

impl Connection<'_> {
    /// Receives notifications until the connection breaks, or another Redis is the primary.
    async fn run(
        mut self,
        login: &Login,
        primary: &mut watch::Receiver<Option<ServerAddress>>,
    ) -> ConnectionEnd {
        let address = self.address;
        let why = tokio::select! {
            Err(why) = self.serve(login) => why,
            _ = primary.wait_for(|primary| primary.as_ref() != Some(address)) => {
                self.has_replied = true;
                "another Redis is the primary".to_owned()
            }
        };
        ConnectionEnd {
            why,
            has_replied: self.has_replied,
        }
    }

    /// Serves until the connection breaks; the error is why, in words.
    async fn serve(&mut self, login: &Login) -> Result<Infallible, String> {
        let mut ping_timer = ping_timer();
        if let Some(login) = login.command() {
            self.send([login]).await?;
        }
        self.listener.subscriptions.restart();
        loop {
            let late = self.reply_due.unwrap_or_else(Instant::now);
            tokio::select! {
                read = self.socket.read_buf(&mut self.buffer) => {
                    if read.map_err(|error| error.to_string())? == 0 {
                        return Err("closed".to_owned());
                    }
                    self.handle_buffer()?;
                }
                () = self.listener.subscriptions.wait_for_changes() => {
                    self.update_subscriptions().await?;
                }
                () = sleep_until(late), if self.reply_due.is_some() => {
                    return Err(format!("no response within {:?}", self.listener.reply_timeout()));
                }
                _ = ping_timer.tick(), if self.reply_due.is_none() => self.ping().await?,
            }
        }
    }

    fn handle_buffer(&mut self) -> Result<(), String> {
        while let Some(frame) = decode(&mut self.buffer)? {
            match frame {
                Frame::Array(items) => self.handle_array(&items),
                Frame::Error(error) => self.handle_error(error)?,
                // Before the first subscription, this is the reply to `PING`.
                Frame::Status(text) if text == "PONG" => self.record_pong(),
                Frame::Status(_) => {}
            }
        }
        Ok(())
    }

    fn handle_array(&mut self, items: &[Bytes]) {
        let listener = self.listener;
        let channel = |name: &Bytes| listener.names.channel(std::str::from_utf8(name).ok()?);
        match items {
            [kind, name, _] => match (kind.as_ref(), channel(name)) {
                (b"message" | b"smessage", Some(channel)) => {
                    listener.metrics.record_notification();
                    listener.notifier.notify(&channel);
                }
                // Events may have been published before the subscription was confirmed.
                (b"subscribe" | b"ssubscribe", Some(channel)) => {
                    listener.notifier.notify(&channel);
                }
                (b"sunsubscribe", Some(channel)) => self.record_end(&channel),
                _ => {}
            },
            [kind, _] if kind.as_ref() == b"pong" => self.record_pong(),
            _ => {}
        }
    }

    /// Redis has ended a subscription. If this node did not ask for it, the slot has moved.
    fn record_end(&self, channel: &Channel) {
        if self.listener.subscriptions.record_end(channel)
            && let Some(shards) = self.listener.shards.upgrade()
        {
            shards.request_map();
        }
    }

    fn handle_error(&self, error: redis::ServerError) -> Result<(), String> {
        let reply = redis::Value::ServerError(error);
        if self.listener.names.slots() == Slots::Cluster
            && let Some(Redirect::Moved(slot, address)) =
                find_redirect(std::slice::from_ref(&reply))
            && let Some(address) = address.seen_from(self.address)
        {
            self.listener.subscriptions.record_moved(slot);
            if let Some(shards) = self.listener.shards.upgrade() {
                shards.note_moved(slot, address);
            }
            return Ok(());
        }
        match reply.extract_error() {
            Err(error) => Err(super::errors::describe(&error)),
            Ok(_) => Ok(()),
        }
    }

    fn record_pong(&mut self) {
        self.reply_due = None;
        self.has_replied = true;
        self.listener.log_working();
    }

    async fn ping(&mut self) -> Result<(), String> {
        self.reply_due = Some(Instant::now() + self.listener.reply_timeout());
        self.send([redis::cmd("PING")]).await
    }

    /// Sends a bounded number of changes.
    async fn update_subscriptions(&mut self) -> Result<(), String> {
        let batch = self.listener.subscriptions.take_batch();
        let (subscribe, unsubscribe) = match self.listener.names.slots() {
            Slots::One => ("SUBSCRIBE", "UNSUBSCRIBE"),
            Slots::Cluster => ("SSUBSCRIBE", "SUNSUBSCRIBE"),
        };
        let changes = [
            (unsubscribe, &batch.unsubscribe),
            (subscribe, &batch.subscribe),
        ];
        let commands = changes
            .into_iter()
            .flat_map(|(command, channels)| self.commands(command, channels));
        let commands: Vec<Cmd> = commands.collect();
        self.send(commands).await
    }

    /// The commands for some channels. In a Redis Cluster, one command concerns one slot.
    fn commands(&self, command: &str, channels: &[Channel]) -> Vec<Cmd> {
        let names = &self.listener.names;
        let size = match names.slots() {
            Slots::One => channels.len().max(1),
            Slots::Cluster => 1,
        };
        let of_chunk = |chunk: &[Channel]| {
            let mut command = redis::cmd(command);
            for channel in chunk {
                command.arg(names.stream(channel));
            }
            command
        };
        channels.chunks(size).map(of_chunk).collect()
    }

    async fn send(&mut self, commands: impl IntoIterator<Item = Cmd>) -> Result<(), String> {
        let mut bytes = Vec::new();
        for command in commands {
            bytes.extend_from_slice(&command.get_packed_command());
        }
        let write = async { Ok(self.socket.write_all(&bytes).await?) };
        with_timeout(self.listener.reply_timeout(), write).await
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

//! The bridge's own connection, on which a node receives the messages of Flask-SSE and the markers.
//!
//! A connection of its own, so that a flood of messages delays no notification. The client library
//! cannot be used here for two reasons. It keeps a message in memory whatever its size. And the
//! subscription and the first marker must happen in one step, so that every message has a marker
//! before it:
//!
//! ```text
//! MULTI ─► SUBSCRIBE sse, sse:{sse}:flask:markers ─► PUBLISH (own marker) ─► EXEC
//! ```

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::BytesMut;
use redis::Cmd;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    BridgedChannel, FlaskBridge, MARKER_MESSAGES,
    queue::Marker,
    wire::{Payload, PubSubDecoder, PubSubMessage},
};
use crate::{
    broker::redis::{
        backoff::{Backoff, with_timeout},
        dial::Login,
    },
    metrics::FlaskResult,
};

const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Pings without any reply after which the connection is given up.
const UNANSWERED_MAX: u32 = 4;

/// Connects and receives messages, for ever.
pub(super) async fn run(bridge: Arc<FlaskBridge>) {
    let mut backoff = Backoff::default();
    loop {
        let Err(why) = bridge.run_connection(&mut backoff).await;
        bridge.set_connected(false);
        bridge.reports.log_disconnected(&why);
        backoff.wait().await;
    }
}

impl FlaskBridge {
    /// Receives messages until the connection breaks, or another Redis is the primary.
    async fn run_connection(&self, backoff: &mut Backoff) -> Result<Infallible, String> {
        let mut primary = self.primary.clone();
        let ended = |_| "the server is stopping".to_owned();
        let address = primary
            .wait_for(Option::is_some)
            .await
            .map_err(ended)?
            .clone();
        let address = address.ok_or("the primary is unknown")?;
        let open = self.dialer.open_socket(&address);
        let (socket, login) = with_timeout(self.timeout, open).await?;
        let mut connection = SubscribedConnection::new(self, socket);
        connection.join(&login).await?;
        tokio::select! {
            ended = connection.receive(backoff) => ended,
            _ = primary.wait_for(|primary| primary.as_ref() != Some(&address)) => {
                Err("another Redis is the primary".to_owned())
            }
        }
    }

    fn set_connected(&self, is_connected: bool) {
        self.is_connected
            .store(is_connected, std::sync::atomic::Ordering::Relaxed);
        for channel in &self.channels {
            channel.lease_due.notify_one();
        }
    }
}

/// One connection.
struct SubscribedConnection<'a, S> {
    bridge: &'a FlaskBridge,
    socket: S,
    buffer: BytesMut,
    decoder: PubSubDecoder,
    /// The markers of this connection that have not arrived yet.
    awaited: Vec<Marker>,
    /// Pings since the last byte.
    unanswered: u32,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> SubscribedConnection<'a, S> {
    fn new(bridge: &'a FlaskBridge, socket: S) -> Self {
        Self {
            bridge,
            socket,
            buffer: BytesMut::new(),
            decoder: PubSubDecoder::new(bridge.message_bytes_max()),
            awaited: Vec::new(),
            unanswered: 0,
        }
    }

    /// Logs in, and subscribes with a marker of this connection, in one step.
    async fn join(&mut self, login: &Login) -> Result<(), String> {
        let channels = &self.bridge.channels;
        let mut commands = login.command().map_or_else(Vec::new, |auth| vec![auth]);
        commands.push(redis::cmd("MULTI"));
        commands.push(subscribe_command(channels));
        for channel in channels {
            let marker = self.bridge.new_marker();
            let mut publish = redis::cmd("PUBLISH");
            publish.arg(&channel.markers).arg(marker.as_str());
            commands.push(publish);
            self.awaited.push(marker);
            // No message comes before the marker. If one did, it must not count from a marker of an
            // earlier connection.
            channel.queue().set_marker(self.bridge.new_marker());
        }
        commands.push(redis::cmd("EXEC"));
        for command in commands {
            self.send(&command).await?;
        }
        Ok(())
    }

    async fn receive(&mut self, backoff: &mut Backoff) -> Result<Infallible, String> {
        let mut ping_timer = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        // After a pause of the process, one ping is due, and what has arrived meanwhile is read.
        ping_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                read = self.socket.read_buf(&mut self.buffer) => {
                    if read.map_err(|error| error.to_string())? == 0 {
                        return Err("closed".to_owned());
                    }
                    self.unanswered = 0;
                    self.handle_buffer()?;
                    self.report_joined(backoff);
                }
                _ = ping_timer.tick() => self.ping().await?,
            }
        }
    }

    fn report_joined(&self, backoff: &mut Backoff) {
        if self.awaited.is_empty() && !self.bridge.is_connected() {
            backoff.reset();
            self.bridge.set_connected(true);
            self.bridge.reports.log_connected();
        }
    }

    async fn ping(&mut self) -> Result<(), String> {
        if self.unanswered == UNANSWERED_MAX {
            return Err("no reply to a PING".to_owned());
        }
        self.unanswered += 1;
        self.send(&redis::cmd("PING")).await
    }

    async fn send(&mut self, command: &Cmd) -> Result<(), String> {
        let bytes = command.get_packed_command();
        let write = async { Ok(self.socket.write_all(&bytes).await?) };
        with_timeout(self.bridge.timeout, write).await
    }

    fn handle_buffer(&mut self) -> Result<(), String> {
        while let Some(message) = self.decoder.decode(&mut self.buffer)? {
            self.handle_message(message);
        }
        Ok(())
    }

    fn handle_message(&mut self, PubSubMessage { channel, payload }: PubSubMessage) {
        let name = channel.as_ref();
        let mut channels = self.bridge.channels.iter();
        let is_named = |channel: &&Arc<BridgedChannel>| {
            name == channel.name.as_str().as_bytes() || name == channel.markers.as_bytes()
        };
        let Some(channel) = channels.find(is_named) else {
            return;
        };
        if name == channel.name.as_str().as_bytes() {
            self.bridge.receive_message(channel, payload);
        } else if let Payload::Text(text) = payload
            && let Some(marker) = Marker::parse(&text)
        {
            self.awaited.retain(|awaited| *awaited != marker);
            channel.queue().set_marker(marker);
        }
    }
}

impl FlaskBridge {
    fn receive_message(&self, channel: &BridgedChannel, payload: Payload) {
        let mut queue = channel.queue();
        let dropped = queue.push(payload, std::time::Instant::now());
        let is_leader = channel.is_leader();
        if is_leader || queue.is_filling() {
            channel.received.notify_one();
        }
        if is_leader && queue.count_since_marker() == MARKER_MESSAGES {
            channel.lease_due.notify_one();
        }
        drop(queue);
        self.reports
            .count(&channel.name, FlaskResult::QueueFull, dropped);
    }
}

fn subscribe_command(channels: &[Arc<BridgedChannel>]) -> Cmd {
    let mut command = redis::cmd("SUBSCRIBE");
    for channel in channels {
        command.arg(channel.name.as_str()).arg(&channel.markers);
    }
    command
}

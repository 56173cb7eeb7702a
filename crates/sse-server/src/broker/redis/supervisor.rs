//! The task that makes the connections for commands to one primary and watches them.
//!
//! It reconnects for ever, notices a dead peer, and begins a new era of the primary's slots before a
//! connection is used:
//!
//! ```text
//! ┌──► connect ──► new era ──► Up ──► check each second ──────────────┐
//! │       │                     ▲          ▲    │    verify the known │ no reply, a write rejected
//! │       │ unusable            │          └────┘    ids of all slots │ as read-only, or another
//! │       ▼                     └─ new era: a changed replication id  │ primary takes over
//! │   Unusable                                                      Down
//! │       └──────────────────────────────┬────────────────────────────┘
//! └──────────── backoff ◄────────────────┘
//! ```

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    backoff::{Backoff, with_timeout},
    connection::State,
    dial::{CommandConnection, Dialer},
    durability::read_warnings,
    errors::Unusable,
    failover::LossDetector,
    format::FormatCheck,
    handshake::{Connected, Connections, Handshake, check_role, handshake, ping},
    health::Health,
    info::ReplicationId,
    replies::parse_time_ms,
    shard::ClockOffset,
    target::ServerAddress,
    topology::Ownership,
};
use crate::{
    broker::{Warning, clock::now_ms},
    metrics::ShardMetrics,
};

/// Pause between two checks of the connection.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The task that makes the connection and watches it.
pub(super) struct Supervisor {
    dialer: Dialer,
    format: FormatCheck,
    health: Arc<Health>,
    losses: Arc<LossDetector>,
    owned: Ownership,
    clock: Arc<ClockOffset>,
    metrics: Arc<ShardMetrics>,
    /// Notified when the connection breaks: another Redis may be the primary by now.
    broken: Arc<Notify>,
    state: watch::Sender<State>,
    /// The address of the primary that is in use, for the notifications.
    primary: watch::Sender<Option<ServerAddress>>,
    /// The warnings about the setup of Redis that were logged last.
    reported: Vec<Warning>,
}

/// What a supervisor needs to know of its primary.
pub(super) struct Supervised {
    pub(super) losses: Arc<LossDetector>,
    pub(super) owned: Ownership,
    pub(super) clock: Arc<ClockOffset>,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) broken: Arc<Notify>,
}

impl Supervisor {
    pub(super) fn new(
        (dialer, format): (Dialer, FormatCheck),
        health: Arc<Health>,
        supervised: Supervised,
        state: watch::Sender<State>,
    ) -> Self {
        let (primary, _) = watch::channel(dialer.fixed_address());
        let Supervised {
            losses,
            owned,
            clock,
            metrics,
            broken,
        } = supervised;
        Self {
            dialer,
            format,
            health,
            losses,
            owned,
            clock,
            metrics,
            broken,
            state,
            primary,
            reported: Vec::new(),
        }
    }

    /// Returns the address of the primary that is in use, as it changes.
    pub(super) fn primary(&self) -> watch::Receiver<Option<ServerAddress>> {
        self.primary.subscribe()
    }

    /// Connects and watches the connection, for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let down = self.run_connection(&mut backoff).await;
            self.metrics.set_up(false);
            self.state.send_replace(down);
            self.broken.notify_one();
            backoff.wait().await;
        }
    }

    /// Connects once and watches the connection; returns the state in which that leaves it.
    async fn run_connection(&mut self, backoff: &mut Backoff) -> State {
        match self.establish().await {
            Ok(connected) => {
                backoff.reset();
                self.watch_until_down(connected).await
            }
            Err(down) => down,
        }
    }

    async fn watch_until_down(&self, connected: Connected) -> State {
        let why = self.watch(connected).await;
        self.health.log_outage(&why);
        State::Down(why)
    }

    /// Connects, begins a new era, and publishes the connection to the sessions.
    ///
    /// The error is the state in which that leaves the connection.
    async fn establish(&mut self) -> Result<Connected, State> {
        let mut connected = self.connect().await?;
        let writes = &mut connected.connections.writes;
        // Before anything is published or read on this connection. Otherwise the ids that it
        // returns would hide that older ones are lost. Sessions verify a channel before its first use.
        self.losses.eras.begin_era(&self.owned.slots());
        self.report_durability(writes).await;
        self.state
            .send_replace(State::Up(connected.connections.clone()));
        self.metrics.set_up(true);
        self.follow_primary(&connected.address);
        Ok(connected)
    }

    /// Lets the notifications follow to the primary at `address`.
    fn follow_primary(&self, address: &ServerAddress) {
        self.primary.send_if_modified(|primary| {
            let is_another = primary.as_ref() != Some(address);
            if is_another {
                *primary = Some(address.clone());
            }
            is_another
        });
        if let Some(sentinels) = self.dialer.sentinels() {
            sentinels.confirm(address);
        }
    }

    async fn connect(&self) -> Result<Connected, State> {
        match self.try_handshake().await? {
            Handshake::Connected(connected) => Ok(connected),
            Handshake::Unusable(why) => Err(self.reject(why)),
        }
    }

    async fn try_handshake(&self) -> Result<Handshake, State> {
        let limit = self.health.timeout;
        let address = self.dialer.find_primary().await.map_err(State::Down)?;
        let shaken = handshake(&self.dialer, &self.format, address.clone(), limit);
        let shaken = with_timeout(limit, shaken).await;
        let shaken = shaken.map_err(|why| State::Down(format!("{address}: {why}")))?;
        // A primary that was frozen answers as if nothing had happened. The sentinels may have
        // promoted another one while this one was tried.
        if let Some(sentinels) = self.dialer.sentinels()
            && let Some(why) = sentinels.another_than(&address, &self.dialer).await
        {
            return Err(State::Down(why));
        }
        Ok(shaken)
    }

    fn reject(&self, why: Unusable) -> State {
        tracing::error!(address = self.health.address, %why, "this Redis cannot be used");
        State::Unusable(why)
    }

    /// Logs what is wrong with how this Redis is set up, unless the log has the same warnings.
    async fn report_durability(&mut self, connection: &mut CommandConnection) {
        // A connection that fails here is found to be broken by the next check.
        let Ok(warnings) = read_warnings(connection).await else {
            return;
        };
        if warnings != self.reported {
            self.log_warnings(&warnings);
        }
        self.reported = warnings;
    }

    fn log_warnings(&self, warnings: &[Warning]) {
        let address = &self.health.address;
        for warning in warnings {
            tracing::warn!(address, code = warning.code, "{}", warning.message);
        }
    }

    /// Watches the connection; returns why it is given up.
    async fn watch(&self, connected: Connected) -> String {
        let address = connected.address.clone();
        // A late reply on the connection before this one says nothing about this one.
        let _ = self.health.not_primary.notified().now_or_never();
        let background = connected.connections.writes.clone();
        tokio::select! {
            why = self.monitor(connected) => why,
            why = self.verify_all(background) => why,
            () = self.health.not_primary.notified() => "it is a read-only replica".to_owned(),
            why = self.dialer.wait_for_another(&address) => why,
        }
    }

    /// Checks the connection each second, and at once if a command got no reply.
    async fn monitor(&self, mut connected: Connected) -> String {
        loop {
            self.wait_for_check().await;
            if let Err(why) = self.check(&mut connected).await {
                return why;
            }
            // Not earlier: each write makes a replica known as read-only again.
            self.health.log_recovery();
        }
    }

    /// Verifies the known ids of all channels, again and again: an id stays unverified while Redis is
    /// a replica or full. Returns why the connection is given up.
    async fn verify_all(&self, mut connection: CommandConnection) -> String {
        loop {
            let slots = self.owned.slots();
            if let Err(error) = self
                .losses
                .verify_pending(&slots, &mut connection, &self.metrics)
                .await
            {
                return error.to_string();
            }
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Waits until the next check is due.
    async fn wait_for_check(&self) {
        // Both outcomes lead to the same check.
        let _ = timeout(CHECK_INTERVAL, self.health.suspect.notified()).await;
    }

    /// One check: does Redis reply, what is its time, and is it on the same history?
    async fn check(&self, connected: &mut Connected) -> Result<(), String> {
        let limit = self.health.timeout;
        let Connections { writes, reads, .. } = &mut connected.connections;
        let began = Instant::now();
        with_timeout(limit, ping(reads)).await?;
        self.metrics.set_round_trip(began.elapsed());
        if self.dialer.needs_role() {
            with_timeout(limit, check_role(reads)).await?;
        }
        self.measure_clock(reads).await;
        let replication_id = with_timeout(limit, ReplicationId::read(writes)).await?;
        if replication_id != connected.replication_id {
            // Redis may lack what it had, as on a new connection. The connections themselves stay,
            // because a primary that gets its first replica also begins a new history, and that
            // primary has lost nothing.
            connected.replication_id = replication_id;
            self.losses.eras.begin_era(&self.owned.slots());
            let up = State::Up(connected.connections.clone());
            self.state.send_replace(up);
        }
        Ok(())
    }

    /// A user who may not read the time leaves the offset unknown. A connection that fails here is
    /// found to be broken by the next command.
    async fn measure_clock(&self, connection: &mut CommandConnection) {
        let time = redis::cmd("TIME");
        let reply = with_timeout(self.health.timeout, time.query_async(connection)).await;
        let theirs = reply.ok().and_then(|reply| parse_time_ms(reply).ok());
        let ours = i64::try_from(now_ms()).ok();
        let theirs = theirs.and_then(|theirs| i64::try_from(theirs).ok());
        if let (Some(theirs), Some(ours)) = (theirs, ours) {
            self.clock.set(theirs - ours);
        }
    }
}

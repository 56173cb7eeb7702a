//! The task that makes the connections for commands and watches them.
//!
//! It reconnects for ever, notices a dead peer, and finds lost events before a connection is used
//! for anything else:
//!
//! ```text
//! ┌──► connect ──► verify all channels ──► Up ──► check each second ──┐
//! │       │                 │                          ▲    │         │ no reply, a write rejected
//! │       │ unusable        │ failed                   └────┘         │ as read-only, or another
//! │       ▼                 ▼            a changed replication id     │ primary takes over
//! │   Unusable            Down           begins a new era           Down
//! │       └─────────────────┴──────┬──────────────────────────────────┘
//! └──────────── backoff ◄──────────┘
//! ```

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{sync::watch, time::timeout};

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
    target::ServerAddress,
};
use crate::broker::Warning;

/// Pause between two checks of the connection.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The task that makes the connection and watches it.
pub(super) struct Supervisor {
    dialer: Dialer,
    format: FormatCheck,
    health: Arc<Health>,
    losses: Arc<LossDetector>,
    state: watch::Sender<State>,
    /// The address of the primary that is in use, for the notifications.
    primary: watch::Sender<Option<ServerAddress>>,
    /// The warnings about the setup of Redis that were logged last.
    reported: Vec<Warning>,
}

impl Supervisor {
    pub(super) fn new(
        (dialer, format): (Dialer, FormatCheck),
        health: Arc<Health>,
        losses: Arc<LossDetector>,
        state: watch::Sender<State>,
    ) -> Self {
        let (primary, _) = watch::channel(dialer.fixed_address());
        Self {
            dialer,
            format,
            health,
            losses,
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
            self.state.send_replace(down);
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

    /// Connects, verifies every channel, and publishes the connection to the sessions.
    ///
    /// The error is the state in which that leaves the connection.
    async fn establish(&mut self) -> Result<Connected, State> {
        let mut connected = self.connect().await?;
        let writes = &mut connected.connections.writes;
        // Before anything is published or read on this connection. Otherwise the ids that it
        // returns would hide that older ones are lost.
        let era = self.losses.mark_all_unverified();
        self.losses
            .verify_all(writes)
            .await
            .map_err(|error| State::Down(error.to_string()))?;
        self.report_durability(writes).await;
        self.state
            .send_replace(State::Up(connected.connections.clone(), era));
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
        tokio::select! {
            why = self.monitor(connected) => why,
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

    /// Waits until the next check is due.
    async fn wait_for_check(&self) {
        // Both outcomes lead to the same check.
        let _ = timeout(CHECK_INTERVAL, self.health.suspect.notified()).await;
    }

    /// One check: does Redis reply, is it on the same history, and is every channel verified?
    async fn check(&self, connected: &mut Connected) -> Result<(), String> {
        let limit = self.health.timeout;
        let Connections { writes, reads, .. } = &mut connected.connections;
        with_timeout(limit, ping(reads)).await?;
        if self.dialer.sentinels().is_some() {
            with_timeout(limit, check_role(reads)).await?;
        }
        let replication_id = with_timeout(limit, ReplicationId::read(writes)).await?;
        if replication_id != connected.replication_id {
            // Redis may lack what it had, as on a new connection. The connections themselves stay,
            // because a primary that gets its first replica also begins a new history, and that
            // primary has lost nothing.
            connected.replication_id = replication_id;
            let era = self.losses.mark_all_unverified();
            let up = State::Up(connected.connections.clone(), era);
            self.state.send_replace(up);
        }
        // Again each second: an id stays unverified while Redis is a replica or full.
        let writes = &mut connected.connections.writes;
        with_timeout(limit, self.losses.verify_all(writes)).await
    }
}

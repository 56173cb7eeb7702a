//! The connections for commands: two per node, supervised, shared by all sessions.
//!
//! The supervisor reconnects for ever, notices a dead peer, and finds lost events before the
//! connection is used for anything else:
//!
//! ```text
//! ┌──► connect ──► verify all channels ──► Up ──► check each second ──┐
//! │       │                 │                          ▲    │         │ no reply, or a write
//! │       │ too old         │ failed                   └────┘         │ rejected as read-only
//! │       ▼                 ▼            a changed replication id     ▼
//! │    Unusable             Down           begins a new era           Down
//! │       └─────────────────┴──────┬──────────────────────────────────┘
//! └──────────── backoff ◄──────────┘
//! ```
//!
//! A command that finds no connection waits for one, up to the time limit. If none comes, the
//! command was certainly not sent. The supervisor never sends a command of a session again; see
//! [`session`](super::session) for what a failure means.

use std::{sync::Arc, time::Duration};

use sse_proto::Channel;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{
    backoff::{Backoff, with_timeout},
    dial::{CommandConnection, Dialer},
    durability::read_warnings,
    errors::{RedisSetupError, Unusable},
    failover::LossDetector,
    format::FormatCheck,
    handshake::{Connected, Connections, Handshake, handshake, ping},
    info::ReplicationId,
    session::{Health, Session},
};
use crate::broker::{BrokerError, Warning};

/// Pause between two checks of the connection.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The handle of the connections. Their supervisor is a task of its own.
#[derive(Debug)]
pub(super) struct Connection {
    state: watch::Receiver<State>,
    pub(super) health: Arc<Health>,
}

#[derive(Clone)]
enum State {
    /// No connection, and the reason.
    Down(String),
    /// Connected and verified. The number is the era of commands on these connections.
    Up(Connections, u64),
    /// The Redis at the address cannot be used.
    Unusable(Unusable),
}

impl State {
    /// Why commands cannot be sent.
    fn reason(&self) -> String {
        match self {
            Self::Down(reason) => reason.clone(),
            Self::Unusable(why) => why.to_string(),
            // The state has just changed.
            Self::Up(..) => "it came back just now".to_owned(),
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Down(_) => "down",
            Self::Up(..) => "up",
            Self::Unusable(_) => "unusable",
        })
    }
}

impl Connection {
    /// Makes the handle, and the supervisor that must run for it.
    pub(super) fn new(
        dialer: Dialer,
        format: FormatCheck,
        timeout: Duration,
        losses: Arc<LossDetector>,
    ) -> (Self, Supervisor) {
        let (sender, state) = watch::channel(State::Down("not connected yet".to_owned()));
        let health = Arc::new(Health::new(dialer.address(), timeout));
        let supervisor = Supervisor {
            dialer,
            format,
            health: health.clone(),
            losses,
            state: sender,
            reported: Vec::new(),
        };
        (Self { state, health }, supervisor)
    }

    /// Returns the era of commands on the present connection; `None` while there is none.
    pub(super) fn era(&self) -> Option<u64> {
        match &*self.state.borrow() {
            State::Up(_, era) => Some(*era),
            State::Down(_) | State::Unusable(_) => None,
        }
    }

    /// Waits for the first connection, up to the time limit. A Redis that is away is only logged.
    ///
    /// # Errors
    ///
    /// `Unusable`: the version of this Redis or the format of its keys is not supported.
    pub(super) async fn wait_for_first(&self) -> Result<(), RedisSetupError> {
        let address = &self.health.address;
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Down(_)));
        let _ = timeout(self.health.timeout, settled).await;
        match &*self.state.borrow() {
            State::Up(..) => Ok(()),
            State::Unusable(why) => Err(RedisSetupError::Unusable {
                address: address.clone(),
                why: why.clone(),
            }),
            State::Down(why) => {
                self.health.log_absence(why);
                Ok(())
            }
        }
    }

    /// Begins a session for publishes, and for other commands on the keys of one channel that are
    /// few and small.
    ///
    /// There is one Redis for all channels. In a cluster, the channel would choose the node.
    ///
    /// # Errors
    ///
    /// `Unavailable`: there is no connection within the time limit.
    pub(super) async fn session(&self, _channel: &Channel) -> Result<Session<'_>, BrokerError> {
        self.common_session().await
    }

    /// Begins a session for lookups and pages of one channel, which delay no publish.
    pub(super) async fn read_session(
        &self,
        _channel: &Channel,
    ) -> Result<Session<'_>, BrokerError> {
        self.common_read_session().await
    }

    /// Begins a session for the registry, the clock and health checks, which belong to no channel.
    pub(super) async fn common_session(&self) -> Result<Session<'_>, BrokerError> {
        self.begin_session(|connections| connections.writes).await
    }

    /// Begins a session for lookups in many channels.
    pub(super) async fn common_read_session(&self) -> Result<Session<'_>, BrokerError> {
        self.begin_session(|connections| connections.reads).await
    }

    async fn begin_session(
        &self,
        choose: impl FnOnce(Connections) -> CommandConnection,
    ) -> Result<Session<'_>, BrokerError> {
        let deadline = Instant::now() + self.health.timeout;
        let (connections, era) = self.wait_until_up(deadline).await?;
        Ok(Session::new(
            &self.health,
            deadline,
            (choose(connections), era),
        ))
    }

    /// Waits for `work` up to the time limit.
    ///
    /// # Errors
    ///
    /// `Unavailable`: the time limit has passed.
    pub(super) async fn within_limit<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, BrokerError> {
        let limit = self.health.timeout;
        let result = timeout(limit, work).await;
        result.map_err(|_| {
            self.health
                .unavailable(&format!("no response within {limit:?}"))
        })
    }

    async fn wait_until_up(&self, deadline: Instant) -> Result<(Connections, u64), BrokerError> {
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, State::Up(..)));
        if let Ok(Ok(state)) = timeout_at(deadline, up).await
            && let State::Up(connections, era) = &*state
        {
            return Ok((connections.clone(), *era));
        }
        let reason = self.state.borrow().reason();
        Err(self.health.unavailable(&reason))
    }
}

/// The task that makes the connection and watches it.
pub(super) struct Supervisor {
    dialer: Dialer,
    format: FormatCheck,
    health: Arc<Health>,
    losses: Arc<LossDetector>,
    state: watch::Sender<State>,
    /// The warnings about the setup of Redis that were logged last.
    reported: Vec<Warning>,
}

impl Supervisor {
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
        Ok(connected)
    }

    async fn connect(&self) -> Result<Connected, State> {
        match self.try_handshake().await? {
            Handshake::Connected(connected) => Ok(connected),
            Handshake::Unusable(why) => Err(self.reject(why)),
        }
    }

    async fn try_handshake(&self) -> Result<Handshake, State> {
        let limit = self.health.timeout;
        let handshake = with_timeout(limit, handshake(&self.dialer, &self.format, limit)).await;
        handshake.map_err(State::Down)
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
        tokio::select! {
            why = self.monitor(connected) => why,
            () = self.health.read_only.notified() => "it is a read-only replica".to_owned(),
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
        let Connections { writes, reads } = &mut connected.connections;
        with_timeout(limit, ping(reads)).await?;
        let replication_id = with_timeout(limit, ReplicationId::read(writes)).await?;
        if replication_id != connected.replication_id {
            // Redis may lack what it had, as on a new connection. The connections themselves stay,
            // because a primary that gets its first replica also begins a new history, and that
            // primary has lost nothing.
            connected.replication_id = replication_id;
            let era = self.losses.mark_all_unverified();
            let connections = Connections {
                writes: writes.clone(),
                reads: reads.clone(),
            };
            self.state.send_replace(State::Up(connections, era));
        }
        // Again each second: an id stays unverified while Redis is a replica or full.
        with_timeout(limit, self.losses.verify_all(writes)).await
    }
}

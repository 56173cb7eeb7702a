//! The connections for commands: two per node, shared by all sessions. [`Supervisor`] makes them.
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
    dial::{CommandConnection, Dialer},
    errors::{RedisSetupError, Unusable},
    failover::LossDetector,
    format::FormatCheck,
    handshake::Connections,
    health::Health,
    session::Session,
    supervisor::Supervisor,
};
use crate::broker::BrokerError;

/// The handle of the connections. Their supervisor is a task of its own.
#[derive(Debug)]
pub(super) struct Connection {
    state: watch::Receiver<State>,
    pub(super) health: Arc<Health>,
    /// Whether a Redis that is no primary has a successor, to which commands can be sent.
    has_sentinels: bool,
}

#[derive(Clone)]
pub(super) enum State {
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
        let has_sentinels = dialer.sentinels().is_some();
        let supervisor = Supervisor::new((dialer, format), health.clone(), losses, sender);
        let connection = Self {
            state,
            health,
            has_sentinels,
        };
        (connection, supervisor)
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
        let (connections, era) = self.wait_until_up(deadline, None).await?;
        let connection = (choose(connections), era);
        Ok(Session::new(&self.health, deadline, connection))
    }

    /// Begins the attempts of one publish, which share a deadline.
    pub(super) fn attempts(&self) -> Attempts<'_> {
        Attempts {
            connection: self,
            deadline: Instant::now() + self.health.timeout,
            left_era: None,
        }
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

    /// Waits for connections of another era than `left_era`.
    async fn wait_until_up(
        &self,
        deadline: Instant,
        left_era: Option<u64>,
    ) -> Result<(Connections, u64), BrokerError> {
        let mut state = self.state.clone();
        let is_wanted =
            |state: &State| matches!(state, State::Up(_, era) if Some(*era) != left_era);
        let up = state.wait_for(is_wanted);
        if let Ok(Ok(state)) = timeout_at(deadline, up).await
            && let State::Up(connections, era) = &*state
        {
            return Ok((connections.clone(), *era));
        }
        let reason = self.state.borrow().reason();
        Err(self.health.unavailable(&reason))
    }
}

/// The attempts of one publish.
///
/// With sentinels, commands that a Redis rejected because it is no primary are sent to the new
/// primary: the rejection proves that nothing was stored.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    connection: &'a Connection,
    deadline: Instant,
    /// The era of the connection that leads to no primary.
    left_era: Option<u64>,
}

impl<'a> Attempts<'a> {
    /// Begins the next attempt.
    ///
    /// # Errors
    ///
    /// `Unavailable`: there is no connection before the deadline. Nothing was stored.
    pub(super) async fn session(&self) -> Result<Session<'a>, BrokerError> {
        let Connection { health, .. } = self.connection;
        let connected = self.connection.wait_until_up(self.deadline, self.left_era);
        let (connections, era) = connected.await?;
        let session = Session::new(health, self.deadline, (connections.writes, era));
        Ok(session.with_replicated(connections.replicated))
    }

    /// Whether the commands of `session` are to be sent again in another session.
    pub(super) fn must_repeat(&mut self, session: &Session<'_>) -> bool {
        let must_repeat = self.connection.has_sentinels && session.was_rejected_by_replica();
        if must_repeat {
            self.left_era = Some(session.era());
        }
        must_repeat
    }
}

//! The connections for commands to one primary, shared by all sessions. [`Supervisor`] makes them.
//!
//! A command that finds no connection waits for one, up to the time limit. If none comes, the
//! command was certainly not sent. The supervisor never sends a command of a session again; see
//! [`session`](super::session) for what a failure means.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use super::{
    errors::{RedisSetupError, Unusable},
    handshake::Connections,
    health::Health,
};
use crate::broker::BrokerError;

/// The handle of the connections. Their supervisor is a task of its own.
#[derive(Debug)]
pub(super) struct Connection {
    state: watch::Receiver<State>,
    pub(super) health: Arc<Health>,
}

#[derive(Clone)]
pub(super) enum State {
    /// No connection, and the reason.
    Down(String),
    /// Connected. A new era has begun in all slots of the primary.
    Up(Connections),
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
            Self::Up(_) => "it came back just now".to_owned(),
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Down(_) => "down",
            Self::Up(_) => "up",
            Self::Unusable(_) => "unusable",
        })
    }
}

impl Connection {
    /// Makes the handle, and the end of it for the supervisor.
    pub(super) fn new(health: Health) -> (Self, watch::Sender<State>) {
        let (sender, state) = watch::channel(State::Down("not connected yet".to_owned()));
        let health = Arc::new(health);
        (Self { state, health }, sender)
    }

    /// Whether commands can be sent now.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// Returns why commands cannot be sent; `None` if they can.
    pub(super) fn outage(&self) -> Option<String> {
        let state = self.state.borrow();
        (!matches!(&*state, State::Up(_))).then(|| state.reason())
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
            State::Up(_) => Ok(()),
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

    /// Waits for connections, for which `is_wanted` is asked when the state changes.
    ///
    /// # Errors
    ///
    /// `Unavailable`: there are none before the deadline.
    pub(super) async fn wait_until_up(
        &self,
        deadline: Instant,
        mut is_wanted: impl FnMut() -> bool,
    ) -> Result<Connections, BrokerError> {
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, State::Up(_)) && is_wanted());
        if let Ok(Ok(state)) = timeout_at(deadline, up).await
            && let State::Up(connections) = &*state
        {
            return Ok(connections.clone());
        }
        let reason = self.state.borrow().reason();
        Err(self.health.unavailable(&reason))
    }
}

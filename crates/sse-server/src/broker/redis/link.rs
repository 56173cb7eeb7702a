//! One connection for commands, supervised: it reconnects for ever, notices a dead peer, and never sends twice.
//!
//! A command that finds no connection waits for one, up to the time-out, and was then surely not sent. A command
//! that was sent and not answered has an unknown outcome; only the caller knows whether it may be sent again.

use std::{future::Future, sync::Arc, time::Duration};

use rand::RngExt as _;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation,
    aio::MultiplexedConnection,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::RedisSetupError;
use crate::broker::BrokerError;

const CHECK_EVERY: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// The oldest version that has exclusive ranges and trimming by id.
const VERSION_MIN: (u32, u32) = (6, 2);

/// A door to the connection.
#[derive(Debug)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    /// A command failed on the way: look at the connection.
    suspect: Arc<Notify>,
    /// A write was refused by a replica: the address may lead to another Redis by now.
    demoted: Arc<Notify>,
    timeout: Duration,
    address: String,
}

#[derive(Clone)]
enum State {
    Down(String),
    Up(MultiplexedConnection),
    TooOld(String),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Down(_) => "down",
            Self::Up(_) => "up",
            Self::TooOld(_) => "too old",
        })
    }
}

impl Link {
    /// Starts to connect.
    pub(super) fn start(client: Client, timeout: Duration, ended: CancellationToken, runtime: &Handle) -> Self {
        let (sender, state) = watch::channel(State::Down("not connected yet".to_owned()));
        let suspect = Arc::new(Notify::new());
        let address = client.get_connection_info().addr().to_string();
        let demoted = Arc::new(Notify::new());
        let doubts = (suspect.clone(), demoted.clone());
        let supervised = supervise(client, timeout, sender, doubts, address.clone());
        runtime.spawn(async move { ended.run_until_cancelled(supervised).await });
        Self { state, suspect, demoted, timeout, address }
    }

    /// Waits for the first connection, up to the time-out. That there is none is only a warning.
    pub(super) async fn first_look(&self) -> Result<(), RedisSetupError> {
        let mut state = self.state.clone();
        let known = timeout(self.timeout, state.wait_for(|state| !matches!(state, State::Down(_)))).await;
        if let Ok(Ok(state)) = known
            && let State::TooOld(found) = &*state
        {
            return Err(RedisSetupError::TooOld { address: self.address.clone(), found: found.clone() });
        }
        if let State::Down(why) = &*self.state.borrow() {
            tracing::warn!(address = self.address, why, "Redis is not there yet; publishing answers 503 until it is");
        }
        Ok(())
    }

    /// Sends commands once and waits for their answers.
    ///
    /// # Errors
    /// `Unavailable`: nothing was sent. `OutcomeUnknown`: no answer came. The inner error is an answer of Redis.
    pub(super) async fn send<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
    ) -> Result<Result<T, RedisError>, BrokerError> {
        let mut connection = self.connection().await?;
        self.answer(commands.query_async(&mut connection)).await
    }

    /// Runs a script once and waits for its answer; the same errors as of [`send`](Self::send). A Redis that does not
    /// know it is given it first.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<Result<T, RedisError>, BrokerError> {
        let mut connection = self.connection().await?;
        self.answer(script.invoke_async(&mut connection)).await
    }

    /// The answer to what is sent, if it comes in time.
    async fn answer<T>(
        &self,
        sent: impl Future<Output = RedisResult<T>>,
    ) -> Result<Result<T, RedisError>, BrokerError> {
        let Ok(answer) = timeout(self.timeout, sent).await else {
            self.suspect.notify_one();
            return Err(self.unknown(&format!("no answer within {:?}", self.timeout)));
        };
        match answer {
            Err(error) if is_transport(&error) => {
                self.suspect.notify_one();
                Err(self.unknown(&error.to_string()))
            }
            Err(error) => {
                if is_demoted(&error) {
                    self.demoted.notify_one();
                }
                Ok(Err(error))
            }
            answer => Ok(answer),
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, BrokerError> {
        let mut state = self.state.clone();
        let up = timeout(self.timeout, state.wait_for(|state| matches!(state, State::Up(_)))).await;
        if let Ok(Ok(state)) = up
            && let State::Up(connection) = &*state
        {
            return Ok(connection.clone());
        }
        let why = match &*self.state.borrow() {
            State::Down(why) => why.clone(),
            State::TooOld(found) => format!("its version {found} is too old"),
            State::Up(_) => "it came back just now".to_owned(),
        };
        Err(BrokerError::Unavailable(format!("Redis at {}: {why}", self.address)))
    }

    fn unknown(&self, why: &str) -> BrokerError {
        BrokerError::OutcomeUnknown(format!("Redis at {}: {why}", self.address))
    }
}

/// Whether Redis does not take writes, because it is a replica (now).
fn is_demoted(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "READONLY"))
}

/// Whether the connection failed, as opposed to Redis answering with an error.
fn is_transport(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

async fn supervise(
    client: Client,
    limit: Duration,
    state: watch::Sender<State>,
    (suspect, demoted): (Arc<Notify>, Arc<Notify>),
    address: String,
) {
    let mut back_off = BackOff::default();
    let mut was_up = false;
    loop {
        match within(limit, connect(&client, limit)).await {
            Ok(Connected::TooOld(found)) => {
                tracing::error!(address, found, "this Redis is too old: 6.2 is the oldest that will do");
                state.send_replace(State::TooOld(found));
            }
            Ok(Connected::Ready(connection)) => {
                if was_up {
                    tracing::info!(address, "Redis is back");
                }
                was_up = true;
                back_off = BackOff::default();
                state.send_replace(State::Up(connection.clone()));
                let why = tokio::select! {
                    why = watch_over(connection, limit, &suspect) => why,
                    () = demoted.notified() => "it is a read-only replica".to_owned(),
                };
                tracing::warn!(address, why, "the connection to Redis broke; connecting again");
                state.send_replace(State::Down(why));
            }
            Err(why) => {
                state.send_replace(State::Down(why));
            }
        }
        back_off.wait().await;
    }
}

enum Connected {
    Ready(MultiplexedConnection),
    TooOld(String),
}

async fn connect(client: &Client, limit: Duration) -> Result<Connected, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default().trim();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < VERSION_MIN { Ok(Connected::TooOld(version.to_owned())) } else { Ok(Connected::Ready(connection)) }
}

/// Asks for a sign of life each second, and at once when a command failed; returns why the connection is given up.
async fn watch_over(mut connection: MultiplexedConnection, limit: Duration, suspect: &Notify) -> String {
    loop {
        // Whichever comes first; both lead to the same question.
        let _ = timeout(CHECK_EVERY, suspect.notified()).await;
        let ping = redis::cmd("PING");
        let answer = within(limit, ping.query_async::<String>(&mut connection)).await;
        if let Err(why) = answer {
            return why;
        }
    }
}

/// The result of `work`, or why there is none, in words.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// Waits between attempts to connect: doubling from 20 ms to a second, each wait a random part of it.
#[derive(Debug)]
pub(super) struct BackOff(Duration);

impl Default for BackOff {
    fn default() -> Self {
        Self(Duration::from_millis(20))
    }
}

impl BackOff {
    pub(super) async fn wait(&mut self) {
        let jitter = rand::rng().random_range(0.5..1.0);
        sleep(self.0.mul_f64(jitter)).await;
        self.0 = (self.0 * 2).min(BACK_OFF_MAX);
    }
}

//! One connection for commands, supervised: it reconnects for ever, notices a dead peer, and never sends twice.
//!
//! A command that finds no connection waits for one, up to the time-out, and was then surely not sent. A command
//! that was sent and not answered has an unknown outcome; only the caller knows whether it may be sent again.

use std::{future::Future, sync::Arc, time::Duration};

use rand::RngExt as _;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, Pipeline, RedisError, RedisResult,
    ScriptInvocation, Value, aio::MultiplexedConnection,
};
use sse_proto::Channel;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{RedisSetupError, durability, failover::LossDetector, streams::refused};
use crate::broker::BrokerError;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The oldest version that has exclusive ranges and trimming by id.
const VERSION_MIN: (u32, u32) = (6, 2);

/// A door to the connection.
#[derive(Debug)]
pub(super) struct Connection {
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
    /// With the era of what is sent on it; see [`LossDetector::era`].
    Up(MultiplexedConnection, u64),
    TooOld(String),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Down(_) => "down",
            Self::Up(..) => "up",
            Self::TooOld(_) => "too old",
        })
    }
}

impl Connection {
    /// Starts to connect.
    pub(super) fn start(
        client: Client,
        timeout: Duration,
        losses: Arc<LossDetector>,
        ended: CancellationToken,
        runtime: &Handle,
    ) -> Self {
        let (sender, state) = watch::channel(State::Down("not connected yet".to_owned()));
        let suspect = Arc::new(Notify::new());
        let address = client.get_connection_info().addr().to_string();
        let demoted = Arc::new(Notify::new());
        let doubts = (suspect.clone(), demoted.clone());
        let supervised = supervise(client, timeout, sender, doubts, address.clone(), losses);
        runtime.spawn(async move { ended.run_until_cancelled(supervised).await });
        Self {
            state,
            suspect,
            demoted,
            timeout,
            address,
        }
    }

    /// Waits for the first connection, up to the time-out. That there is none is only a warning.
    pub(super) async fn wait_until_known(&self) -> Result<(), RedisSetupError> {
        let mut state = self.state.clone();
        let known = timeout(
            self.timeout,
            state.wait_for(|state| !matches!(state, State::Down(_))),
        )
        .await;
        if let Ok(Ok(state)) = known
            && let State::TooOld(found) = &*state
        {
            return Err(RedisSetupError::TooOld {
                address: self.address.clone(),
                found: found.clone(),
            });
        }
        if let State::Down(why) = &*self.state.borrow() {
            tracing::warn!(
                address = self.address,
                why,
                "Redis is not there yet; publishing answers 503 until it is"
            );
        }
        Ok(())
    }

    /// Begins with something that may take several commands, and waits for a connection.
    ///
    /// # Errors
    /// `Unavailable`: there is none in time.
    pub(super) async fn session(&self) -> Result<Session<'_>, BrokerError> {
        let deadline = Instant::now() + self.timeout;
        let (connection, era) = self.connection(deadline).await?;
        Ok(Session {
            owner: self,
            deadline,
            connection,
            era,
        })
    }

    /// The answer to what is sent, if it comes in time.
    async fn answer<T>(
        &self,
        deadline: Instant,
        sent: impl Future<Output = RedisResult<T>>,
    ) -> Result<Result<T, RedisError>, BrokerError> {
        let Ok(answer) = timeout_at(deadline, sent).await else {
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

    async fn connection(
        &self,
        deadline: Instant,
    ) -> Result<(MultiplexedConnection, u64), BrokerError> {
        let mut state = self.state.clone();
        let up = timeout_at(
            deadline,
            state.wait_for(|state| matches!(state, State::Up(..))),
        )
        .await;
        if let Ok(Ok(state)) = up
            && let State::Up(connection, era) = &*state
        {
            return Ok((connection.clone(), *era));
        }
        let why = match &*self.state.borrow() {
            State::Down(why) => why.clone(),
            State::TooOld(found) => format!("its version {found} is too old"),
            State::Up(..) => "it came back just now".to_owned(),
        };
        Err(BrokerError::Unavailable(format!(
            "Redis at {}: {why}",
            self.address
        )))
    }

    fn unknown(&self, why: &str) -> BrokerError {
        BrokerError::OutcomeUnknown(format!("Redis at {}: {why}", self.address))
    }
}

/// Commands that belong together: all on one connection, and all together for the time-out at the most.
#[derive(Debug)]
pub(super) struct Session<'a> {
    owner: &'a Connection,
    deadline: Instant,
    connection: MultiplexedConnection,
    era: u64,
}

impl Session<'_> {
    /// That of its connection; see [`LossDetector::era`].
    pub(super) const fn era(&self) -> u64 {
        self.era
    }

    /// Sends commands once and waits for their answers.
    ///
    /// # Errors
    /// `Unavailable`: nothing was sent. `OutcomeUnknown`: no answer came. The inner error is an answer of Redis.
    pub(super) async fn send<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
    ) -> Result<Result<T, RedisError>, BrokerError> {
        self.check_deadline()?;
        self.owner
            .answer(self.deadline, commands.query_async(&mut self.connection))
            .await
    }

    /// Sends what changes no event: without an answer, nothing is unknown.
    ///
    /// # Errors
    /// `Unavailable`, and whatever an answer of Redis means.
    pub(super) async fn query<T: FromRedisValue>(
        &mut self,
        commands: &Pipeline,
    ) -> Result<T, BrokerError> {
        match self.send(commands).await {
            Ok(answer) => answer.map_err(|error| refused(&error)),
            Err(BrokerError::OutcomeUnknown(why)) => Err(BrokerError::Unavailable(why)),
            Err(error) => Err(error),
        }
    }

    /// Runs a script once and waits for its answer; the same errors as of [`send`](Self::send). A Redis that does not
    /// know it is given it first.
    pub(super) async fn run<T: FromRedisValue>(
        &mut self,
        script: &ScriptInvocation<'_>,
    ) -> Result<Result<T, RedisError>, BrokerError> {
        self.check_deadline()?;
        self.owner
            .answer(self.deadline, script.invoke_async(&mut self.connection))
            .await
    }

    /// Looks whether a channel has lost its end; see [`LossDetector`].
    pub(super) async fn verify(
        &mut self,
        channel: &Channel,
        losses: &LossDetector,
    ) -> Result<(), BrokerError> {
        let address = &self.owner.address;
        match timeout_at(self.deadline, losses.verify(channel, &mut self.connection)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BrokerError::Unavailable(format!(
                "Redis at {address}: {error}"
            ))),
            Err(_) => Err(BrokerError::Unavailable(format!(
                "Redis at {address}: no answer in time"
            ))),
        }
    }

    /// What is surely not sent has no unknown outcome.
    fn check_deadline(&self) -> Result<(), BrokerError> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let Connection {
            address, timeout, ..
        } = self.owner;
        Err(BrokerError::Unavailable(format!(
            "Redis at {address}: no answer within {timeout:?}"
        )))
    }
}

/// Whether Redis does not take writes, because it is a replica (now).
fn is_demoted(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "READONLY"))
}

/// Whether the connection failed, as opposed to Redis answering with an error.
fn is_transport(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
}

async fn supervise(
    client: Client,
    limit: Duration,
    state: watch::Sender<State>,
    (suspect, demoted): (Arc<Notify>, Arc<Notify>),
    address: String,
    losses: Arc<LossDetector>,
) {
    let mut backoff = Backoff::default();
    let mut was_up = false;
    let mut said = Vec::new();
    loop {
        match with_timeout(limit, connect(&client, limit)).await {
            Ok(ConnectOutcome::TooOld(found)) => {
                tracing::error!(
                    address,
                    found,
                    "this Redis is too old: 6.2 is the oldest that will do"
                );
                state.send_replace(State::TooOld(found));
            }
            Ok(ConnectOutcome::Ready(mut connection, replication_id)) => {
                // Before anything else is published or read, so that what was known is not taken for what is there.
                let era = losses.mark_all_unverified();
                if let Err(error) = losses.verify_all(&mut connection).await {
                    state.send_replace(State::Down(error.to_string()));
                    backoff.wait().await;
                    continue;
                }
                durability::warn(&mut connection, &address, &mut said).await;
                if was_up {
                    tracing::info!(address, "Redis is back");
                }
                was_up = true;
                backoff = Backoff::default();
                state.send_replace(State::Up(connection.clone(), era));
                let why = tokio::select! {
                    why = monitor(connection, limit, &suspect, &losses, replication_id, &state) => why,
                    () = demoted.notified() => "it is a read-only replica".to_owned(),
                };
                tracing::warn!(
                    address,
                    why,
                    "the connection to Redis broke; connecting again"
                );
                state.send_replace(State::Down(why));
            }
            Err(why) => {
                state.send_replace(State::Down(why));
            }
        }
        backoff.wait().await;
    }
}

enum ConnectOutcome {
    Ready(MultiplexedConnection, ReplicationId),
    TooOld(String),
}

async fn connect(client: &Client, limit: Duration) -> Result<ConnectOutcome, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(limit));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    // One that is still reading its file says so here.
    let _: Value = redis::cmd("PING").query_async(&mut connection).await?;
    let info = info(&mut connection, "server").await?;
    let version = info_value(&info, "redis_version").unwrap_or("?");
    let mut numbers = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < VERSION_MIN && version != "?" {
        return Ok(ConnectOutcome::TooOld(version.to_owned()));
    }
    let replication_id = ReplicationId::of(&mut connection).await?;
    Ok(ConnectOutcome::Ready(connection, replication_id))
}

/// A section of `INFO`; nothing where this user may not read it.
async fn info(connection: &mut MultiplexedConnection, section: &str) -> Result<String, RedisError> {
    match redis::cmd("INFO")
        .arg(section)
        .query_async(connection)
        .await
    {
        Err(error) if is_transport(&error) => Err(error),
        answer => Ok(answer.unwrap_or_default()),
    }
}

/// A line of an `INFO`.
pub(super) fn info_value<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

/// Which history of the data a Redis is on. A replica takes that of its primary, and begins one when it is promoted: then
/// it may lack what it had.
#[derive(Debug, PartialEq, Eq)]
struct ReplicationId(Option<String>);

impl ReplicationId {
    async fn of(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let info = info(connection, "replication").await?;
        Ok(Self(
            info_value(&info, "master_replid").map(ToOwned::to_owned),
        ))
    }
}

/// Asks for a sign of life each second, and at once when a command failed; returns why the connection is given up.
async fn monitor(
    mut connection: MultiplexedConnection,
    limit: Duration,
    suspect: &Notify,
    losses: &LossDetector,
    mut replication_id: ReplicationId,
    state: &watch::Sender<State>,
) -> String {
    loop {
        // Whichever comes first; both lead to the same question.
        let _ = timeout(CHECK_INTERVAL, suspect.notified()).await;
        match with_timeout(limit, ReplicationId::of(&mut connection)).await {
            Ok(now) if now == replication_id => {}
            Ok(now) => {
                // As on a new connection. (It is no reason to break this one: a primary that gets its first replica begins
                // another history as well, and has all it had.)
                replication_id = now;
                state.send_replace(State::Up(connection.clone(), losses.mark_all_unverified()));
            }
            Err(why) => return why,
        }
        // What could not be settled when the connection was made.
        if let Err(why) = with_timeout(limit, losses.verify_all(&mut connection)).await {
            return why;
        }
    }
}

/// The result of `work`, or why there is none, in words.
pub(super) async fn with_timeout<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// Waits between attempts to connect: doubling from 20 ms to a second, each wait a random part of it.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(20))
    }
}

impl Backoff {
    pub(super) async fn wait(&mut self) {
        let jitter = rand::rng().random_range(0.5..1.0);
        sleep(self.0.mul_f64(jitter)).await;
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
    }
}

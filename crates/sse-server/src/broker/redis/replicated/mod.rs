//! Appends that replicas confirm before they are acknowledged (`--redis-wait`).
//!
//! `WAIT` covers the writes of its own connection, and blocks that connection. So these appends have
//! a connection of their own, on which a task sends them in groups, one at a time:
//!
//! ```text
//! group   append, append, … WAIT n ms ──► replies ──► publishers, notifications
//! group                                               append, append, … WAIT n ms ──► …
//! ```
//!
//! The appends that arrive while a group waits are the next group. The time limit of `WAIT` is four
//! fifths of `--redis-timeout`. If fewer replicas confirm in that time, the outcome is unknown: the
//! events stay in the log, but a failover may lose them. Notifications are sent after the wait.

mod group;

use redis::{Cmd, Value};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

pub(super) use self::group::run;

/// Appends that may wait for their group. A group takes up to [`GROUP_MAX`] of them.
const WAITING_MAX: usize = 16_384;
/// Appends in one group.
const GROUP_MAX: usize = 512;

/// The commands of an append, and the stream whose followers are notified.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) stream: String,
    pub(super) commands: Vec<Cmd>,
    /// Whether the commands are one transaction.
    pub(super) is_atomic: bool,
}

/// Why an append is not acknowledged. The text is the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotConfirmed {
    /// Nothing was sent.
    NotSent(&'static str),
    /// The events may be stored, or may be lost in a failover.
    Unknown(String),
}

/// The replies to the commands of an append; those of a transaction are those of its `EXEC`.
type Confirmed = Result<Vec<Value>, NotConfirmed>;

/// An append on its way, until `deadline`.
#[derive(Debug)]
struct Job {
    append: Append,
    deadline: Instant,
    reply: oneshot::Sender<Confirmed>,
}

/// Sends appends to the task of one connection, which ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct ReplicatedWrites(mpsc::Sender<Job>);

/// The appends that a task receives.
#[derive(Debug)]
pub(super) struct Jobs(mpsc::Receiver<Job>);

impl ReplicatedWrites {
    /// Makes a queue, and the end of it for [`run`].
    pub(super) fn new() -> (Self, Jobs) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), Jobs(receiver))
    }

    /// Sends an append once and waits until replicas confirm it.
    ///
    /// # Errors
    ///
    /// It is not confirmed before `deadline`, or too many appends wait.
    pub(super) async fn send(&self, append: Append, deadline: Instant) -> Confirmed {
        let (reply, confirmed) = oneshot::channel();
        let job = Job {
            append,
            deadline,
            reply,
        };
        if self.0.try_send(job).is_err() {
            return Err(NotConfirmed::NotSent(
                "too many publishes wait for replicas",
            ));
        }
        match timeout_at(deadline, confirmed).await {
            Ok(Ok(confirmed)) => confirmed,
            Ok(Err(_)) => Err(NotConfirmed::Unknown(
                "the connection was closed".to_owned(),
            )),
            Err(_) => Err(NotConfirmed::Unknown("no response in time".to_owned())),
        }
    }
}

impl Jobs {
    /// Waits for appends, and takes those of one group that can still be sent.
    async fn next_group(&mut self) -> Option<Vec<Job>> {
        let mut group = vec![self.0.recv().await?];
        while group.len() < GROUP_MAX
            && let Ok(job) = self.0.try_recv()
        {
            group.push(job);
        }
        let now = Instant::now();
        group.retain(|job| job.deadline > now && !job.reply.is_closed());
        Some(group)
    }
}

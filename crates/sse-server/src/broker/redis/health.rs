//! What the sessions of a connection share with its supervisor: what failures show about it, and the
//! log lines of an outage.

use std::time::Duration;

use redis::RedisError;
use tokio::sync::Notify;

use super::{
    errors::{CommandError, is_connection_failure, needs_check, needs_primary},
    outage_log::OutageLog,
};
use crate::broker::BrokerError;

/// What the sessions of a connection share with its supervisor.
#[derive(Debug)]
pub(super) struct Health {
    /// Address of the Redis, for messages.
    pub(super) address: String,
    /// Time limit of a session.
    pub(super) timeout: Duration,
    outage: OutageLog,
    /// Notified when a command got no reply: the supervisor checks the connection at once.
    pub(super) suspect: Notify,
    /// Notified when Redis rejected a command because it is no primary. The supervisor reconnects,
    /// because another Redis may be the primary by now.
    pub(super) not_primary: Notify,
}

impl Health {
    /// The health of a connection about which nothing is known yet.
    pub(super) fn new(address: String, timeout: Duration) -> Self {
        Self {
            address,
            timeout,
            outage: OutageLog::default(),
            suspect: Notify::new(),
            not_primary: Notify::new(),
        }
    }

    /// Logs that there is no connection at the start.
    pub(super) fn log_absence(&self, why: &str) {
        if self.outage.record_failure() {
            tracing::warn!(
                address = self.address,
                why,
                "Redis is not reachable yet; publishes get a 503 until it is"
            );
        }
    }

    /// Logs that the connection broke.
    pub(super) fn log_outage(&self, why: &str) {
        if self.outage.record_failure() {
            tracing::warn!(
                address = self.address,
                why,
                "the connection to Redis broke; reconnecting"
            );
        }
    }

    /// Logs that there is a connection, if its absence was logged.
    pub(super) fn log_recovery(&self) {
        if self.outage.record_success() {
            tracing::info!(address = self.address, "Redis is back");
        }
    }

    /// Whether `other`, the outage of another connection, was most likely logged here too.
    pub(super) fn has_logged(&self, other: &OutageLog) -> bool {
        self.outage.is_same_outage(other)
    }

    pub(super) fn unavailable(&self, reason: &str) -> BrokerError {
        BrokerError::Unavailable(format!("Redis at {}: {reason}", self.address))
    }

    pub(super) fn timed_out(&self) -> String {
        format!("no response within {:?}", self.timeout)
    }

    /// The error for commands whose deadline passed before they were sent.
    ///
    /// The outcome is known, because the command was not sent.
    pub(super) fn not_sent(&self) -> CommandError {
        CommandError::NoReply(self.unavailable(&self.timed_out()))
    }

    /// Notifies the supervisor of what `error` shows about the connection, and returns the error
    /// for the caller.
    pub(super) fn command_error(&self, error: RedisError) -> CommandError {
        if is_connection_failure(&error) {
            return self.no_reply(&error.to_string());
        }
        if needs_primary(&error) {
            self.not_primary.notify_one();
        }
        if needs_check(&error) {
            self.suspect.notify_one();
        }
        CommandError::Rejected(error)
    }

    /// Marks the connection as suspect and returns the error for commands without a reply.
    pub(super) fn no_reply(&self, reason: &str) -> CommandError {
        self.suspect.notify_one();
        CommandError::NoReply(BrokerError::OutcomeUnknown(format!(
            "Redis at {}: {reason}",
            self.address
        )))
    }
}

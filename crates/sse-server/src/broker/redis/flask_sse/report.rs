//! What operators learn about the bridge: metrics, log lines, and the warning of health checks.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sse_proto::Channel;
use tokio::time::sleep;

use super::{BridgedChannel, FlaskBridge, queue::QueueSize};
use crate::{
    broker::{BrokerError, Warning, redis::outage_log::OutageLog},
    metrics::{FlaskResult, FlaskState, Metrics},
};

/// Pause between two updates of the gauges.
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// The warning while the bridge is not connected.
pub(super) fn disconnected_warning() -> Warning {
    Warning {
        code: "flask_sse_disconnected",
        message: "this node does not receive the messages of Flask-SSE: if no other node does, \
                  messages that Flask publishes now are lost"
            .to_owned(),
    }
}

/// Counts messages, and logs each reason once.
#[derive(Debug)]
pub(super) struct Reports {
    metrics: Metrics,
    logged: Mutex<HashSet<&'static str>>,
    connection: OutageLog,
}

impl Reports {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            logged: Mutex::default(),
            connection: OutageLog::default(),
        }
    }

    /// Counts `messages` of `channel`, and logs the first message that was not stored for a reason.
    pub(super) fn count(&self, channel: &Channel, result: FlaskResult, messages: usize) {
        if messages == 0 {
            return;
        }
        self.metrics.flask_received(result, messages);
        let is_normal = matches!(
            result,
            FlaskResult::Stored | FlaskResult::Duplicate | FlaskResult::Echo
        );
        if !is_normal && self.is_new_reason(result.as_str()) {
            tracing::warn!(
                %channel,
                reason = result.as_str(),
                "a message of Flask-SSE was not stored (logged once per reason; \
                 sse_flask_sse_received_total counts all)"
            );
        }
    }

    fn is_new_reason(&self, reason: &'static str) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.insert(reason)
    }

    /// Counts `events` that were stored together.
    pub(super) fn count_stored(&self, events: usize) {
        if events > 0 {
            self.metrics.batch_committed(events);
        }
    }

    /// Counts `events` that were sent to Flask-SSE.
    pub(super) fn count_sent(&self, events: usize) {
        self.metrics.flask_sent(events);
    }

    pub(super) fn log_disconnected(&self, why: &str) {
        if self.connection.record_failure() {
            tracing::warn!(
                why,
                "the connection for messages of Flask-SSE broke; reconnecting"
            );
        }
    }

    pub(super) fn log_connected(&self) {
        if self.connection.record_success() {
            tracing::info!("the connection for messages of Flask-SSE works again");
        }
    }
}

/// Updates the gauges, for ever.
pub(super) async fn run(bridge: Arc<FlaskBridge>) {
    loop {
        bridge.reports.metrics.set_flask_state(bridge.state());
        sleep(GAUGE_INTERVAL).await;
    }
}

impl FlaskBridge {
    fn state(&self) -> FlaskState {
        let mut state = FlaskState {
            is_connected: self.is_connected(),
            ..FlaskState::default()
        };
        for channel in &self.channels {
            channel.add_to(&mut state);
        }
        state
    }
}

impl BridgedChannel {
    pub(super) fn log_not_stored(&self, error: &BrokerError) {
        if self.storing.record_failure() {
            tracing::warn!(
                channel = %self.name, %error,
                "messages of Flask-SSE cannot be stored now; they wait in memory"
            );
        }
    }

    pub(super) fn log_stored(&self) {
        if self.storing.record_success() {
            tracing::info!(channel = %self.name, "messages of Flask-SSE are stored again");
        }
    }

    pub(super) fn log_not_sent(&self, error: &BrokerError) {
        if self.sending.record_failure() {
            tracing::warn!(
                channel = %self.name, %error,
                "events cannot be sent to Flask-SSE now; they are sent later"
            );
        }
    }

    pub(super) fn log_sent(&self) {
        if self.sending.record_success() {
            tracing::info!(channel = %self.name, "events are sent to Flask-SSE again");
        }
    }

    fn add_to(&self, state: &mut FlaskState) {
        let QueueSize {
            messages,
            bytes,
            oldest,
        } = self.queue().size();
        let unsent_since = *self.unsent_since();
        state.leading += usize::from(self.is_leader());
        state.queue_messages += messages;
        state.queue_bytes += bytes;
        state.lag_from_flask = state.lag_from_flask.max(age_s(oldest));
        state.lag_to_flask = state.lag_to_flask.max(age_s(unsent_since));
    }
}

fn age_s(since: Option<Instant>) -> f64 {
    since.map_or(0.0, |since| since.elapsed().as_secs_f64())
}

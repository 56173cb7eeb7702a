//! Metrics of the bridge to Flask-SSE.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Count, Level, Metrics};

type Seconds = Gauge<f64, AtomicU64>;

/// What became of a message of Flask-SSE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FlaskResult {
    /// The message is in the log.
    Stored,
    /// Another run had stored the message before.
    Duplicate,
    /// The message is an event that this system sent.
    Echo,
    /// The message has an id that is older than all kept events.
    OldId,
    /// The channel is closed, or a message may not create it.
    Refused,
    /// There was no room for the message.
    QueueFull,
    /// Redis did not store the message for too long.
    Expired,
    /// The message cannot be an event, for this reason.
    Rejected(&'static str),
}

impl FlaskResult {
    /// The reasons for which a message is rejected.
    const REJECTIONS: [&'static str; 9] = [
        "too_large",
        "not_utf8",
        "not_json",
        "not_an_object",
        "unknown_key",
        "no_data",
        "invalid_type",
        "reserved_type",
        "too_deep",
    ];

    /// Value of the label `result`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::Echo => "echo",
            Self::OldId => "old_id",
            Self::Refused => "refused",
            Self::QueueFull => "queue_full",
            Self::Expired => "expired",
            Self::Rejected(reason) => reason,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::Stored,
            Self::Duplicate,
            Self::Echo,
            Self::OldId,
            Self::Refused,
            Self::QueueFull,
            Self::Expired,
        ];
        let rejections = Self::REJECTIONS.into_iter().map(Self::Rejected);
        others.into_iter().chain(rejections)
    }
}

/// How much the bridge of a node holds, and how late it is.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FlaskState {
    pub(crate) is_connected: bool,
    /// Channels of which this node has the lease.
    pub(crate) leading: usize,
    pub(crate) queue_messages: usize,
    pub(crate) queue_bytes: usize,
    /// Age in seconds of the oldest message that is not known to be in the log.
    pub(crate) lag_from_flask: f64,
    /// For how many seconds there have been events that were not sent to Flask-SSE.
    pub(crate) lag_to_flask: f64,
}

/// The metrics.
#[derive(Debug, Default)]
pub(super) struct FlaskMetrics {
    received: Family<ResultLabel, Count>,
    sent: Count,
    connected: Level,
    leading: Level,
    queue_messages: Level,
    queue_bytes: Level,
    lag: Family<DirectionLabel, Seconds>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

impl FlaskMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "flask_sse_received",
            "Messages of Flask-SSE, by what this node did with them",
            self.received.clone(),
        );
        registry.register(
            "flask_sse_sent",
            "Events that this node sent to Flask-SSE",
            self.sent.clone(),
        );
        self.register_state(registry);
        for result in FlaskResult::all() {
            drop(self.received(result));
        }
        self.set_state(FlaskState::default());
    }

    fn register_state(&self, registry: &mut Registry) {
        registry.register(
            "flask_sse_connected",
            "1 if this node receives messages of Flask-SSE",
            self.connected.clone(),
        );
        registry.register(
            "flask_sse_leading",
            "Channels whose messages of Flask-SSE this node stores and sends",
            self.leading.clone(),
        );
        registry.register(
            "flask_sse_queue_messages",
            "Messages of Flask-SSE that this node has not seen in the log",
            self.queue_messages.clone(),
        );
        registry.register_with_unit(
            "flask_sse_queue",
            "Memory of the messages of Flask-SSE that this node has not seen in the log",
            Unit::Bytes,
            self.queue_bytes.clone(),
        );
        registry.register_with_unit(
            "flask_sse_lag",
            "How long the oldest message or event waits for the bridge to Flask-SSE, by direction",
            Unit::Seconds,
            self.lag.clone(),
        );
    }

    fn set_state(&self, state: FlaskState) {
        let level = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.connected.set(i64::from(state.is_connected));
        self.leading.set(level(state.leading));
        self.queue_messages.set(level(state.queue_messages));
        self.queue_bytes.set(level(state.queue_bytes));
        self.lag("from_flask").set(state.lag_from_flask);
        self.lag("to_flask").set(state.lag_to_flask);
    }

    fn received(&self, result: FlaskResult) -> Count {
        let result = result.as_str();
        self.received.get_or_create_owned(&ResultLabel { result })
    }

    fn lag(&self, direction: &'static str) -> Seconds {
        self.lag.get_or_create_owned(&DirectionLabel { direction })
    }
}

impl Metrics {
    /// Counts `messages` of Flask-SSE.
    pub(crate) fn flask_received(&self, result: FlaskResult, messages: usize) {
        self.0.flask_sse.received(result).inc_by(messages as u64);
    }

    /// Counts `events` that were sent to Flask-SSE.
    pub(crate) fn flask_sent(&self, events: usize) {
        self.0.flask_sse.sent.inc_by(events as u64);
    }

    /// Sets how much the bridge holds, and how late it is.
    pub(crate) fn set_flask_state(&self, state: FlaskState) {
        self.0.flask_sse.set_state(state);
    }
}

//! What all open dashboards share.
//!
//! One task builds one block per second for all dashboards, and nothing while there is none. It also
//! takes a sample every five seconds, so that a new dashboard shows the last 15 minutes. Whether the
//! broker works is checked only for open dashboards, because a check writes to the log.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::broadcast,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    feed_places::FeedPlaces,
    lag::measure_lag,
    nodes::NodeAddress,
    printed_settings::PrintedSettings,
    problems::Facts,
    samples::{INTERVAL_S, Samples},
    stats::{Budget, Failure, Health, Stats},
};
use crate::{
    epoch::milliseconds,
    http::{HistoryBudget, error::ApiError, error_status::ErrorCode, state::AppState},
    metrics::{recent::Incident, totals::Totals},
};

/// Blocks that wait for a slow client. It misses the older ones.
const BLOCKS_KEPT: usize = 8;

/// The limits of which the overview shows the use.
#[derive(Debug, Clone, Copy)]
pub struct BudgetLimits {
    /// Open connections.
    pub connections: usize,
    /// Bytes of the bodies of publishes.
    pub publish_memory: u64,
    /// Bytes of blocked streams.
    pub blocked: usize,
    /// Bytes of all tails.
    pub tails: usize,
    /// Bytes of the log.
    pub log: u64,
    /// Channels.
    pub channels: u64,
}

/// What all dashboards of a node share; clones share it.
#[derive(Debug, Clone)]
pub struct Dashboard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    started_ms: u64,
    limits: BudgetLimits,
    settings: PrintedSettings,
    address: NodeAddress,
    blocks: broadcast::Sender<Bytes>,
    places: FeedPlaces,
    trace_places: FeedPlaces,
    found: Mutex<Found>,
}

/// What was found at the last look.
#[derive(Debug, Default)]
struct Found {
    samples: Samples,
    health: Health,
    slow_streams: usize,
    /// Incidents that the feed contains.
    incidents_seen: u64,
}

impl Dashboard {
    /// Creates what the dashboards of a node with these settings share.
    #[must_use]
    pub fn new(limits: BudgetLimits, settings: PrintedSettings, address: NodeAddress) -> Self {
        Self(Arc::new(Shared {
            started_ms: now_ms(),
            limits,
            settings,
            address,
            blocks: broadcast::Sender::new(BLOCKS_KEPT),
            places: FeedPlaces::of_dashboards(),
            trace_places: FeedPlaces::of_traces(),
            found: Mutex::default(),
        }))
    }

    pub(super) fn settings(&self) -> &PrintedSettings {
        &self.0.settings
    }

    pub(super) fn address(&self) -> &NodeAddress {
        &self.0.address
    }

    /// Returns when the process started, in milliseconds since the Unix epoch.
    pub(super) fn started_ms(&self) -> u64 {
        self.0.started_ms
    }

    /// The places of dashboards.
    pub(super) fn places(&self) -> &FeedPlaces {
        &self.0.places
    }

    /// The places of traces.
    pub(super) fn trace_places(&self) -> &FeedPlaces {
        &self.0.trace_places
    }

    /// Returns the blocks that a feed is sent from now on.
    pub(super) fn blocks(&self) -> broadcast::Receiver<Bytes> {
        self.0.blocks.subscribe()
    }

    /// Checks the broker, and counts the streams that are far behind.
    pub(super) async fn inspect(&self, state: &AppState) {
        let checked = state.readiness.check(state.hub.broker()).await;
        let slow_streams = measure_lag(state).await.slow_streams;
        let mut found = self.lock();
        let since_ms = found
            .health
            .failure
            .as_ref()
            .map(|failure| failure.since_ms);
        found.health = match checked {
            Ok(mut warnings) => {
                warnings.extend(state.access_warning());
                Health {
                    failure: None,
                    warnings,
                }
            }
            Err(error) => {
                let failure = Failure {
                    since_ms: since_ms.unwrap_or_else(now_ms),
                    message: ApiError::from(error).to_string(),
                };
                Health {
                    failure: Some(failure),
                    warnings: Vec::new(),
                }
            }
        };
        found.slow_streams = slow_streams;
    }

    /// Returns what the node does now.
    pub(super) fn stats(&self, state: &AppState) -> Stats {
        let totals = totals(state);
        let budgets = self.budgets(state, &totals);
        let found = self.lock();
        let facts = Facts {
            health: &found.health,
            budgets: &budgets,
            slow_streams: found.slow_streams,
            is_draining: state.streams.drain.plan().is_some(),
            now: &totals,
            before: found.samples.minute_ago(),
            broker: state.broker_name,
        };
        Stats {
            problems: facts.problems(),
            time_ms: now_ms(),
            started_ms: self.0.started_ms,
            version: env!("CARGO_PKG_VERSION"),
            broker: state.broker_name,
            ready: found.health.failure.is_none() && !facts.is_draining,
            delivery_us: found.samples.percentiles(&totals.latency, 2),
            slow_streams: found.slow_streams,
            budgets,
            streams: totals.streams,
            behind_tail: totals.behind_tail,
            published_total: totals.published,
            deliveries_total: totals.deliveries,
            sent_bytes_total: totals.sent_bytes,
            channels: totals.channels,
            log_events: totals.log_events,
            log_bytes: totals.log_bytes,
            dropped_total: state.metrics.recent().dropped(),
            gaps_total: totals.gaps,
            rejected_total: totals.rejected,
        }
    }

    /// Returns the first block of a feed: everything that is known.
    pub(super) fn opening(&self, state: &AppState) -> Bytes {
        let (incidents, _) = state.metrics.recent().problems_after(0);
        let mut block = event("history", &self.lock().samples.history());
        block.push_str(&event("incidents", &incidents));
        block.push_str(&event("stats", &self.stats(state)));
        block.into()
    }

    /// Returns the block of this second.
    fn block(&self, state: &AppState) -> Bytes {
        let recent = state.metrics.recent();
        let (incidents, seen) = recent.problems_after(self.lock().incidents_seen);
        self.lock().incidents_seen = seen;
        let mut block = event("stats", &self.stats(state));
        for (name, incidents) in [("incidents", incidents), ("streams", recent.take_streams())] {
            if !incidents.is_empty() {
                block.push_str(&event::<[Incident]>(name, &incidents));
            }
        }
        block.into()
    }

    fn take_sample(&self, state: &AppState) {
        let totals = totals(state);
        let part = |budget: &Budget| {
            let thousandths = budget.used.saturating_mul(1000);
            thousandths.checked_div(budget.max).unwrap_or(0)
        };
        let budgets = self.budgets(state, &totals).iter().map(part).collect();
        self.lock().samples.push(now_ms(), totals, budgets);
    }

    fn budgets(&self, state: &AppState, totals: &Totals) -> Vec<Budget> {
        let limits = &self.0.limits;
        let streams_max = state.streams.admission.streams_max();
        let budgets = [
            ("streams", totals.streams, streams_max as u64),
            ("connections", totals.connections, limits.connections as u64),
            (
                "publish memory",
                totals.publish_memory,
                limits.publish_memory,
            ),
            (
                "history memory",
                totals.history_memory,
                HistoryBudget::BYTES_MAX,
            ),
            (
                "blocked streams",
                totals.blocked_bytes,
                limits.blocked as u64,
            ),
            ("tails", totals.tails_bytes, limits.tails as u64),
            ("log", totals.log_bytes, limits.log),
            ("channels", totals.channels, limits.channels),
        ];
        let budgets = budgets.into_iter();
        budgets
            .map(|(name, used, max)| Budget { name, used, max })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        // No code panics while it holds this lock.
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Feeds the dashboards until `stopping` is cancelled.
pub async fn run_dashboard(state: AppState, stopping: CancellationToken) {
    let dashboard = state.dashboard.clone();
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut inspection: Option<tokio::task::JoinHandle<()>> = None;
    let mut second = 0_u64;
    while stopping.run_until_cancelled(tick.tick()).await.is_some() {
        let is_open = dashboard.0.blocks.receiver_count() > 0;
        state.metrics.recent().set_watched(is_open);
        let is_due = second.is_multiple_of(INTERVAL_S);
        second += 1;
        if is_due {
            dashboard.take_sample(&state);
            state
                .metrics
                .busiest()
                .decay(Duration::from_secs(INTERVAL_S));
        }
        if !is_open {
            continue;
        }
        // An inspection may take as long as a timeout of Redis.
        if is_due
            && inspection
                .as_ref()
                .is_none_or(tokio::task::JoinHandle::is_finished)
        {
            let (dashboard, state) = (dashboard.clone(), state.clone());
            inspection = Some(tokio::spawn(async move { dashboard.inspect(&state).await }));
        }
        // If the last dashboard was just closed, the block is of no use.
        let _ = dashboard.0.blocks.send(dashboard.block(&state));
    }
}

fn totals(state: &AppState) -> Totals {
    let codes = ErrorCode::ALL.iter().map(|code| code.row().0);
    state.metrics.totals(codes)
}

/// Returns an event of the feed. JSON has no line breaks.
fn event<T: Serialize + ?Sized>(name: &str, data: &T) -> String {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}

fn now_ms() -> u64 {
    milliseconds(SystemTime::now())
}

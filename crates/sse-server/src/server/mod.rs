//! Wires the parts of the server together.
//!
//! | file | contents |
//! |---|---|
//! | `open_broker` | opens the broker that the settings choose |
//! | `listen` | the listening sockets |
//! | `unix_socket` | one of them, and its file |
//! | `accept` | from an accepted socket to a connection that is ready for HTTP |
//! | `proxy_header` | the header with which a load balancer names its client |
//! | `start_tls` | loads the certificates |
//! | `handshake`, `handshake_turns` | TLS handshakes, and which of them run at a time |
//! | `transport` | serves HTTP over accepted connections |
//! | `app` | the routes and the middlewares |
//! | `http2` | HTTP/2 |
//! | `track_requests` | reports requests to their connection |
//! | `protocol_errors` | logs clients that do not speak HTTP |
//! | `announce` | the log lines and the URL at start |
//! | `shutdown` | the order in which the parts end |

mod accept;
mod announce;
mod app;
mod handshake;
mod handshake_turns;
mod http2;
mod listen;
mod open_broker;
mod protocol_errors;
mod proxy_header;
mod shutdown;
mod start_tls;
mod track_requests;
mod transport;
mod unix_socket;

#[cfg(target_os = "linux")]
use std::time::Duration;
use std::{future::Future, num::NonZeroUsize, sync::Arc};

use anyhow::Context as _;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;

pub use self::shutdown::StopReason;
use self::{
    accept::Acceptor, listen::Listening, protocol_errors::ProtocolErrorLog, shutdown::Running,
};
#[cfg(target_os = "linux")]
use crate::{
    ListenAddress,
    fanout::reachability::{SweepTargets, Sweeper},
};
use crate::{
    access_log::AccessLog,
    broker::{Broker, BrokerError},
    channel::Hub,
    config::Config,
    connections::{ConnectionLimits, ConnectionTable, sweep},
    fanout::{
        admission::Admission, attached_list::AttachedList, attached_sockets::AttachedSockets,
        blocked::BlockedBytes, page_cache::PageCache, streams::Streams, thread::Fanout,
    },
    http::{AppState, BodyMemory, HistoryBudget, Origins, Readiness, Rejections},
    metrics::Metrics,
    open_files::{OpenFiles, raise_open_files},
    supervised::supervised_task,
};

/// Connections that are reserved for publishers and health checks.
const CONNECTIONS_RESERVE: usize = 16;

/// Serves until `stop` is ready, and then shuts down in order.
///
/// Must run inside a tokio runtime, which carries the broker and the feeds.
///
/// # Errors
///
/// The broker cannot be opened, an address is not available, the log can no longer be written, or a
/// supervised part of the server panicked.
pub async fn run(config: Config, stop: impl Future<Output = StopReason>) -> anyhow::Result<()> {
    let (failed, log_failed) = oneshot::channel();
    let running = start(&config, failed).await?;
    let reason = tokio::select! {
        reason = stop => reason,
        Ok(error) = log_failed => StopReason::LogFailed(error),
    };
    running.shut_down(&reason).await?;
    reason.into_result()
}

/// Opens the broker, listens, and serves.
///
/// `failed` receives the error after which the log no longer accepts events.
async fn start(config: &Config, failed: oneshot::Sender<BrokerError>) -> anyhow::Result<Running> {
    let metrics = Metrics::new();
    let access_log = open_access_log(config, &metrics)?;
    let broker = open_broker::open(config, metrics.clone(), failed).await?;
    let files = raise_open_files();
    let Listening {
        listeners,
        files: socket_files,
    } = listen::bind_all(&config.addresses, config.socket_mode).await?;
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| listener.address.clone())
        .collect();

    let stopping = CancellationToken::new();
    let resources = Resources {
        broker: broker.clone(),
        metrics,
        access_log: access_log.clone(),
        connections_max: files.connections_max,
        stopping: stopping.clone(),
    };
    let tls = start_tls::start(config, &resources.metrics, &stopping)?;
    let acceptor = acceptor(config, files, tls, &resources);
    let state = resources.app_state(config)?;
    let fanout = state.streams.fanout.clone();
    #[cfg(target_os = "linux")]
    let sweeper = start_sweeper(&addresses, config.fanout.write_timeout, &state.streams)
        .context("cannot start the thread that finds unreachable clients")?;
    let server = transport::serve(listeners, &state, &acceptor).context("cannot serve HTTP")?;
    tokio::spawn(supervised_task(
        "the sweep of connections",
        sweep(acceptor.connections, stopping.clone()),
    ));
    announce::announce(config, &addresses, files.connections_max);
    Ok(Running {
        handle: server.handle(),
        serving: tokio::spawn(server),
        socket_files,
        stopping,
        fanout,
        #[cfg(target_os = "linux")]
        _sweeper: sweeper,
        broker,
        access_log,
    })
}

/// What decides on accepted connections.
fn acceptor(
    config: &Config,
    files: OpenFiles,
    tls: Option<Arc<rustls::ServerConfig>>,
    resources: &Resources,
) -> Acceptor {
    let open_max = files.connections_max;
    let reserve = reserve(config.streams_max, open_max);
    let limits = ConnectionLimits {
        open_max,
        reserve,
        client_max: client_max(
            config.client_connections_max,
            open_max - reserve,
            most_streams(config.streams_max, open_max),
        ),
    };
    Acceptor {
        connections: ConnectionTable::new(limits, resources.metrics.clone()),
        connections_max: open_max,
        files_max: files.files_max,
        write_timeout: config.fanout.write_timeout,
        tls,
        stopping: resources.stopping.clone(),
        log: ProtocolErrorLog::default(),
        metrics: resources.metrics.clone(),
    }
}

/// Starts to close the streams of clients that vanished from the network.
#[cfg(target_os = "linux")]
fn start_sweeper(
    addresses: &[ListenAddress],
    write_timeout: Duration,
    streams: &Streams,
) -> std::io::Result<Sweeper> {
    let listeners = addresses.iter().filter_map(ListenAddress::tcp).collect();
    let targets = SweepTargets {
        fanout: streams.fanout.clone(),
        attached: streams.attached_sockets.clone(),
    };
    Sweeper::start(listeners, write_timeout, targets)
}

/// Opens the access log; returns `None` if it is off.
fn open_access_log(config: &Config, metrics: &Metrics) -> anyhow::Result<Option<AccessLog>> {
    let target = config.access_log.as_ref();
    target
        .map(|target| AccessLog::open(target, config.log_format, metrics.clone()))
        .transpose()
}

/// What the parts of a server share, before they are wired.
struct Resources {
    broker: Broker,
    metrics: Metrics,
    access_log: Option<AccessLog>,
    connections_max: usize,
    stopping: CancellationToken,
}

impl Resources {
    /// Starts the fan-out threads and returns what request handlers need.
    fn app_state(self, config: &Config) -> anyhow::Result<AppState> {
        let hub = Hub::new(
            self.broker.clone(),
            config.tail,
            config.tails_bytes_max,
            self.metrics.clone(),
            Handle::current(),
        );
        let pages = PageCache::new(
            self.broker,
            config.requests.event_bytes_max,
            self.metrics.clone(),
            Handle::current(),
        );
        let blocked = BlockedBytes::new(config.blocked_bytes_max, self.metrics.clone());
        let fanout = start_fanout(config, &hub, &pages, &blocked, &self.metrics)
            .context("cannot start the fan-out threads")?;
        let streams_max = streams_max(config.streams_max, self.connections_max);
        let admission = Admission::new(streams_max, self.metrics.clone());
        Ok(AppState {
            limits: config.requests,
            body_memory: Arc::new(BodyMemory::new(
                config.publish_memory_bytes,
                config
                    .requests
                    .batch_bytes_max
                    .max(config.requests.event_bytes_max),
                self.metrics.clone(),
            )),
            history_budget: HistoryBudget::new(self.metrics.clone()),
            rejections: Rejections::new(self.metrics.clone()),
            origins: Origins::new(&config.origins),
            streams: Streams {
                hub: hub.clone(),
                pages,
                blocked,
                settings: config.streams,
                fanout,
                attached: AttachedList::default(),
                attached_sockets: AttachedSockets::default(),
                admission,
                stopping: self.stopping,
            },
            access_log: self.access_log,
            readiness: Readiness::default(),
            broker_name: config.broker.kind.name(),
            hub,
            metrics: self.metrics,
        })
    }
}

/// Starts the fan-out threads; returns `None` if the settings want none.
fn start_fanout(
    config: &Config,
    hub: &Hub,
    pages: &PageCache,
    blocked: &BlockedBytes,
    metrics: &Metrics,
) -> std::io::Result<Option<Fanout>> {
    let threads = config
        .fanout_threads
        .unwrap_or_else(|| (cores() / 2).max(1));
    NonZeroUsize::new(threads)
        .map(|threads| {
            Fanout::start(
                threads,
                config.fanout,
                hub.clone(),
                pages.clone(),
                blocked.clone(),
                metrics.clone(),
                Handle::current(),
            )
        })
        .transpose()
}

/// Returns how many connections are reserved for publishers and health checks.
fn reserve(streams_max: Option<NonZeroUsize>, connections_max: usize) -> usize {
    let streams_max = most_streams(streams_max, connections_max);
    let wanted = (connections_max / 10).max(CONNECTIONS_RESERVE);
    wanted.min(connections_max.saturating_sub(streams_max))
}

/// Returns how many connections one client may have, so that no client can keep all others from
/// streams: by default nine tenths of the `general` ones, and of the `streams` if these are fewer.
/// Other requests of the client need a few connections more.
fn client_max(chosen: Option<NonZeroUsize>, general: usize, streams: usize) -> usize {
    let nine_tenths = |all: usize| (all - all / 10).max(1);
    let most = nine_tenths(general).min(nine_tenths(streams).saturating_add(CONNECTIONS_RESERVE));
    chosen.map_or(most, NonZeroUsize::get)
}

/// Returns how many streams may be open.
///
/// By default a tenth of the connections, at least [`CONNECTIONS_RESERVE`], is reserved for
/// publishers and health checks. A number that the operator chose is lowered only if fewer than
/// [`CONNECTIONS_RESERVE`] connections would be left.
fn streams_max(chosen: Option<NonZeroUsize>, connections_max: usize) -> usize {
    let streams_max = most_streams(chosen, connections_max);
    if let Some(wanted) = chosen.map(NonZeroUsize::get)
        && wanted > streams_max
    {
        tracing::warn!(
            "the limit of open files allows only {streams_max} streams; --streams-max {wanted} is lowered to that"
        );
    }
    streams_max
}

fn most_streams(chosen: Option<NonZeroUsize>, connections_max: usize) -> usize {
    let without = |reserve| connections_max.saturating_sub(reserve).max(1);
    match chosen.map(NonZeroUsize::get) {
        None => without((connections_max / 10).max(CONNECTIONS_RESERVE)),
        Some(wanted) => wanted.min(without(CONNECTIONS_RESERVE)),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_reserved_for_publishers() {
        assert_eq!(streams_max(None, 1000), 900);
        assert_eq!(streams_max(None, 100), 84);
        assert_eq!(streams_max(None, 10), 1);
        assert_eq!(streams_max(NonZeroUsize::new(990), 1000), 984);
        assert_eq!(streams_max(NonZeroUsize::new(5), 1000), 5);
        assert_eq!(client_max(None, 900, 900), 810);
        assert_eq!(client_max(None, 900, 500), 466);
        assert_eq!(client_max(None, 900, 1), 17);
        assert_eq!(client_max(NonZeroUsize::new(5), 900, 900), 5);
        assert_eq!(reserve(None, 1000), 100);
        assert_eq!(reserve(None, 16), 15);
        assert_eq!(reserve(NonZeroUsize::new(990), 1000), 16);
        assert_eq!(reserve(NonZeroUsize::new(5), 1000), 100);
    }
}

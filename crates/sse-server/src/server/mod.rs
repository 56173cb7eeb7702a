//! Wires the parts of the server together.
//!
//! | file | contents |
//! |---|---|
//! | `open_broker` | opens the broker that the settings choose |
//! | `listen` | the listening sockets |
//! | `passed_sockets` | those that the service manager passes |
//! | `service_manager` | reports to systemd |
//! | `unix_socket` | one of them, and its file |
//! | `logs` | the access log and the audit log |
//! | `connection_limits` | how the connections are divided |
//! | `accept` | from an accepted socket to a connection that is ready for HTTP |
//! | `proxy_header` | the header with which a load balancer names its client |
//! | `start_tls` | loads the certificates |
//! | `start_fanout` | starts the threads that write to streams |
//! | `handshake`, `handshake_turns`, `handshake_threads` | TLS handshakes, which of them run at a time, and the threads that compute them |
//! | `transport` | serves HTTP over accepted connections |
//! | `app` | the routes and the middlewares |
//! | `dashboard` | what the dashboard knows of the settings |
//! | `http2` | HTTP/2 |
//! | `track_requests` | reports requests to their connection |
//! | `protocol_errors` | logs clients that do not speak HTTP |
//! | `reload` | replaces access rules, classes of channels, limits and certificates |
//! | `announce` | the log lines and the URL at start |
//! | `shutdown` | the order in which the parts end |

mod accept;
mod announce;
mod app;
mod connection_limits;
mod dashboard;
mod handshake;
mod handshake_threads;
mod handshake_turns;
mod http2;
mod listen;
mod logs;
mod open_broker;
mod passed_sockets;
mod protocol_errors;
mod proxy_header;
mod reload;
mod service_manager;
mod shutdown;
mod start_fanout;
mod start_tls;
mod track_requests;
mod transport;
mod unix_socket;

use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt as _;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

#[cfg(target_os = "linux")]
use self::start_fanout::start_sweeper;
use self::{
    accept::Acceptor,
    connection_limits::{connection_limits, streams_max},
    dashboard::dashboard,
    listen::Listening,
    logs::Logs,
    protocol_errors::ProtocolErrorLog,
    reload::{Reloader, follow_reloads},
    service_manager::{Parts, ServiceManager, WorkerRegistry},
    shutdown::Running,
    start_fanout::start_fanout,
    start_tls::Tls,
};
pub use self::{passed_sockets::PassedSockets, shutdown::StopReason};
use crate::{
    ListenAddress,
    access::{Access, AccessControl, revocations::Revocations},
    broker::{Broker, BrokerError},
    channel::Hub,
    config::Config,
    connections::{ConnectionTable, sweep},
    fanout::{
        admission::Admission, attached_list::AttachedList, attached_sockets::AttachedSockets,
        blocked::BlockedBytes, drain::Drain, live_list::ListTurns, page_cache::PageCache,
        publish_list::PublishList, stream_life::StreamLife, streams::Streams,
    },
    http::{
        self, AppState, BodyMemory, CommonHeaders, HistoryBudget, KeepAliveRate, Origins,
        Readiness, Rejections, TrustedProxies,
    },
    metrics::Metrics,
    open_files::{OpenFiles, raise_open_files},
    quota::CallerQuotas,
    supervised::supervised_task,
    tls::Certificates,
    trace::Traces,
};

/// Serves until the first call of `next_stop` is ready, and then shuts down in order. If the server
/// drains before that, the result of the second call ends the drain.
///
/// Must run inside a tokio runtime, which carries the broker and the feeds. After each
/// message of `reloads` the configuration and the certificates are read again. The service manager
/// that the environment names is informed, and the sockets that it `passed` are used.
///
/// # Errors
///
/// The broker cannot be opened, an address is not available, the log can no longer be written, or a
/// supervised part of the server panicked.
pub async fn run(
    config: Config,
    passed: PassedSockets,
    next_stop: impl AsyncFnMut() -> StopReason,
    reloads: mpsc::Receiver<()>,
) -> anyhow::Result<()> {
    let manager = ServiceManager::from_environment();
    let result = serve(config, passed, &manager, next_stop, reloads).await;
    result.inspect_err(|error| manager.failed(error))
}

async fn serve(
    config: Config,
    passed: PassedSockets,
    manager: &ServiceManager,
    mut next_stop: impl AsyncFnMut() -> StopReason,
    reloads: mpsc::Receiver<()>,
) -> anyhow::Result<()> {
    let (failed, log_failed) = oneshot::channel();
    // Brokers that cannot fail drop the sender.
    let mut log_failed = log_failed.fuse();
    let access = AccessControl::new(Access::new(config.access.clone()), Revocations::default());
    let (running, reloader) = start(&config, passed, manager, access, failed).await?;
    tokio::spawn(supervised_task(
        "the reload",
        follow_reloads(config.clone(), reloader, reloads),
    ));
    let mut stop = async || {
        tokio::select! {
            reason = next_stop() => reason,
            Ok(error) = &mut log_failed => StopReason::LogFailed(error),
        }
    };
    let mut reason = stop().await;
    if reason.drains() && !config.drain.is_zero() {
        reason = running.drain(config.drain, stop()).await.unwrap_or(reason);
    }
    running.shut_down(&reason).await?;
    reason.into_result()
}

/// Opens the broker, listens, and serves. Returns what can change while the server runs, too.
///
/// `failed` receives the error after which the log no longer accepts events.
async fn start(
    config: &Config,
    passed: PassedSockets,
    manager: &ServiceManager,
    access: AccessControl,
    failed: oneshot::Sender<BrokerError>,
) -> anyhow::Result<(Running, Reloader)> {
    let metrics = Metrics::new();
    let logs = Logs::open(config, &metrics)?;
    let opening = manager.log_opens();
    let broker = open_broker::open(config, metrics.clone(), failed).await?;
    drop(opening);
    let files = raise_open_files();
    let Listening {
        listeners,
        files: socket_files,
    } = listen::bind_all(&config.addresses, config.socket_mode, passed).await?;
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| listener.address.clone())
        .collect();

    let stopping = CancellationToken::new();
    let mut resources = Resources {
        broker: broker.clone(),
        metrics,
        logs: logs.clone(),
        connections_max: files.connections_max,
        certificates: None,
        stopping: stopping.clone(),
    };
    let tls = start_tls::start(config, &resources.metrics, &stopping)?;
    resources.certificates = tls.as_ref().map(|tls| tls.certificates.clone());
    let acceptor = acceptor(config, files, tls, &resources);
    let state = resources.app_state(config, access, &addresses)?;
    let reloader = Reloader::new(&state, &acceptor);
    let fanout = state.streams.fanout.clone();
    #[cfg(target_os = "linux")]
    let sweeper = start_sweeper(&addresses, config.fanout.write_timeout, &state.streams)
        .context("cannot start the thread that finds unreachable clients")?;
    let workers = WorkerRegistry::default();
    let server =
        transport::serve(listeners, &state, &acceptor, &workers).context("cannot serve HTTP")?;
    tokio::spawn(supervised_task(
        "the sweep of connections",
        sweep(acceptor.connections, stopping.clone()),
    ));
    let access = state.access.clone();
    let revocations = http::follow_revocations(broker.clone(), access, stopping.clone());
    tokio::spawn(supervised_task("the revocations", revocations));
    let feed = http::run_dashboard(state.clone(), stopping.clone());
    tokio::spawn(supervised_task("the dashboard's feed", feed));
    let reports = http::report_node(state.clone(), stopping.clone());
    tokio::spawn(supervised_task("the reports of this node", reports));
    announce::announce(config, &addresses, files.connections_max);
    let parts = Parts {
        broker: broker.clone(),
        fanout: fanout.clone(),
        workers,
    };
    manager.ready(&broker, parts, &stopping);
    let running = Running {
        manager: manager.clone(),
        handle: server.handle(),
        serving: tokio::spawn(server),
        socket_files,
        stopping,
        fanout,
        #[cfg(target_os = "linux")]
        _sweeper: sweeper,
        broker,
        logs,
        drain: state.streams.drain,
        retry: config.streams.retry,
    };
    Ok((running, reloader))
}

/// What decides on accepted connections.
fn acceptor(
    config: &Config,
    files: OpenFiles,
    tls: Option<Tls>,
    resources: &Resources,
) -> Acceptor {
    let open_max = files.connections_max;
    let limits = connection_limits(config.streams_max, config.client_connections_max, open_max);
    Acceptor {
        connections: ConnectionTable::new(limits, resources.metrics.clone()),
        connections_max: open_max,
        files_max: files.files_max,
        trusted_proxies: TrustedProxies::new(&config.trusted_proxies),
        write_timeout: config.fanout.write_timeout,
        tls: tls.map(|tls| (tls.settings, tls.handshake_threads)),
        stopping: resources.stopping.clone(),
        log: ProtocolErrorLog::default(),
        metrics: resources.metrics.clone(),
    }
}

/// What the parts of a server share, before they are wired.
struct Resources {
    broker: Broker,
    metrics: Metrics,
    logs: Logs,
    /// `None` without TLS.
    certificates: Option<Certificates>,
    connections_max: usize,
    stopping: CancellationToken,
}

impl Resources {
    /// Starts the fan-out threads and returns what request handlers need.
    fn app_state(
        self,
        config: &Config,
        access: AccessControl,
        addresses: &[ListenAddress],
    ) -> anyhow::Result<AppState> {
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
        let drain = Drain::default();
        let fanout = start_fanout(config, &hub, &pages, &blocked, &drain, &self.metrics)
            .context("cannot start the fan-out threads")?;
        let streams_max = streams_max(config.streams_max, self.connections_max);
        let admission = Admission::new(streams_max, self.metrics.clone());
        let life = StreamLife::default();
        life.set(config.stream_life);
        let origins = Origins::new(&config.origins);
        Ok(AppState {
            traces: Traces::default(),
            dashboard: dashboard(config, self.connections_max, addresses),
            access,
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
            keep_alives: KeepAliveRate::default(),
            rejections: Rejections::new(self.metrics.clone()),
            quotas: Arc::new(CallerQuotas::new(config.limits, self.metrics.clone())),
            trusted_proxies: TrustedProxies::new(&config.trusted_proxies),
            common_headers: CommonHeaders::new(&origins, config.hsts),
            origins,
            streams: Streams {
                hub: hub.clone(),
                pages,
                blocked,
                settings: config.streams,
                fanout,
                attached: AttachedList::default(),
                attached_sockets: AttachedSockets::default(),
                publishes: PublishList::default(),
                list_turns: ListTurns::default(),
                life,
                admission,
                drain,
                stopping: self.stopping,
            },
            access_log: self.logs.access,
            audit_log: self.logs.audit,
            certificates: self.certificates,
            readiness: Readiness::default(),
            backups: Arc::new(config.backups.clone()),
            broker_name: config.broker.kind.name(),
            hub,
            metrics: self.metrics,
        })
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

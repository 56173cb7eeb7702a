//! Puts the parts together: opens the broker, listens, serves until told to stop, and stops cleanly.

use std::{
    future::{Future, ready},
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use actix_http::{Extensions, HttpService, error::DispatchError};
use actix_server::{Server, ServerHandle};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{App, dev::AppConfig, middleware::from_fn, rt::net::TcpStream};
use actix_web_lab::middleware::ConditionOption;
use anyhow::Context as _;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{
        Broker, BrokerError, Retention, embedded, embedded::Embedded, idempotency::KeyLimits,
        memory::Memory, redis, redis::RedisBroker, redis::without_password,
    },
    channel::{Hub, TailLimits},
    fanout::{
        detach::{Connection, Open},
        page_cache::PageCache,
        stall::{self, stall_timeout_max},
        stream_body::{StreamSettings, Streams},
        thread::{Fanout, FanoutSettings},
    },
    http::{self, AppState, BodyMemory, HistoryBudget, RequestLimits},
    limits::raise_open_files,
    metrics::Metrics,
    settings::{BrokerKind, Settings, unknown_variables},
};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// Connections that subscribers never get.
const CONNECTIONS_RESERVE: usize = 16;
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const REQUEST_HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection lingers whose request body was not read to its end.
const DISCONNECT_WITHIN: Duration = Duration::from_secs(1);
/// What publishes in flight get at the end; streams end at once.
const SHUTDOWN_WITHIN_S: u64 = 3;
/// A peer that acknowledges nothing for this long beyond our own patience is gone. (Linux takes one with no room for such
/// a peer.)
const USER_TIMEOUT: Duration = Duration::from_mins(1);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// What may be on its way to a subscriber, or wait for it in the kernel.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// What actix buffers for a connection before it stops asking for more.
const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// Serves until `stop` is ready. Must run inside a tokio runtime, which carries the broker and the feeds.
///
/// # Errors
/// The broker cannot be opened, the address cannot be had, or the log can no longer be written.
pub async fn run(
    settings: Settings,
    stop: impl Future<Output = &'static str>,
) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let (gave_up, log_lost) = oneshot::channel();
    let broker = open_broker(&settings, metrics.clone(), gave_up).await?;
    let connections_max = raise_open_files();
    let listener = listen(&settings)?;
    let address = listener.local_addr().context("the address of the socket")?;

    let stopping = CancellationToken::new();
    let state = state(
        &settings,
        broker.clone(),
        metrics,
        address,
        connections_max,
        stopping.clone(),
    )?;
    let fanout = state.streams.fanout.clone();
    let server = serve_http(listener, state, connections_max, settings.write_timeout)
        .with_context(|| format!("cannot serve on {address}"))?;

    announce(&settings, address, connections_max);
    let handle = server.handle();
    let serving = tokio::spawn(server);
    let reason = tokio::select! {
        reason = stop => Ok(reason),
        Ok(error) = log_lost => Err(error),
    };
    stop_serving(&handle, &stopping, fanout.as_ref(), &reason).await;
    serving
        .await
        .context("the server's task")?
        .context("serving")?;
    if let Some(fanout) = fanout {
        tokio::task::spawn_blocking(move || fanout.close())
            .await
            .context("the end of the fan-out threads")?;
    }
    if let Broker::Embedded(log) = &broker {
        log.close();
    }
    tracing::info!("stopped");
    reason
        .map(drop)
        .map_err(|error| anyhow::Error::new(error).context("the log was given up"))
}

/// Puts together what request handlers need.
fn state(
    settings: &Settings,
    broker: Broker,
    metrics: Metrics,
    address: SocketAddr,
    connections_max: usize,
    stopping: CancellationToken,
) -> anyhow::Result<AppState> {
    let tail = TailLimits {
        events_max: settings.tail_events,
        bytes_max: bytes(settings.tail_bytes),
    };
    let hub = Hub::new(broker.clone(), tail, Handle::current());
    let pages = PageCache::new(
        broker,
        bytes(settings.event_bytes_max),
        metrics.clone(),
        Handle::current(),
    );
    let how = FanoutSettings {
        coalesce: settings.coalesce,
        heartbeat: settings.heartbeat,
        write_timeout: settings.write_timeout,
    };
    let threads = settings
        .fanout_threads
        .unwrap_or_else(|| (cores() / 2).max(1));
    let fanout = NonZeroUsize::new(threads)
        .map(|threads| {
            Fanout::start(
                threads,
                how,
                hub.clone(),
                pages.clone(),
                metrics.clone(),
                Handle::current(),
            )
        })
        .transpose()
        .context("cannot start the fan-out threads")?;
    let stream = StreamSettings {
        heartbeat: settings.heartbeat,
        retry: settings.retry,
    };
    Ok(AppState {
        limits: RequestLimits {
            event_bytes_max: bytes(settings.event_bytes_max),
            batch_bytes_max: bytes(settings.batch_bytes_max),
            batch_events_max: settings.batch_events_max.get(),
            keys_max: settings.idempotency_keys.get(),
            subscribers_max: subscribers_max(settings, connections_max),
        },
        body_memory: Arc::new(BodyMemory::new(settings.publish_memory.0)),
        history_budget: HistoryBudget::default(),
        origins: settings.origins(),
        streams: Streams {
            hub: hub.clone(),
            pages,
            settings: stream,
            fanout,
            stopping,
        },
        address,
        broker_name: broker_name(&settings.broker.kind),
        hub,
        metrics,
    })
}

/// How many streams may be open: unless the settings say it, a tenth of the connections, and not too few, are for
/// publishers and health checks.
fn subscribers_max(settings: &Settings, connections_max: usize) -> usize {
    let without = |reserve| connections_max.saturating_sub(reserve).max(1);
    let Some(wanted) = settings.max_subscribers.map(NonZeroUsize::get) else {
        return without((connections_max / 10).max(CONNECTIONS_RESERVE));
    };
    let most = without(CONNECTIONS_RESERVE);
    if wanted > most {
        tracing::warn!(
            "--max-subscribers {wanted} is more than this system's open files allow: it is {most}"
        );
    }
    wanted.min(most)
}

/// Starts to answer. As actix-web's `HttpServer` does it, but over connections whose socket a stream can take with it.
fn serve_http(
    listener: TcpListener,
    state: AppState,
    connections_max: usize,
    write_timeout: Duration,
) -> std::io::Result<Server> {
    let workers = cores();
    let user_timeout = stall_timeout_max(write_timeout).saturating_add(USER_TIMEOUT);
    let open = Open::default();
    let builder = Server::build();
    let shutdown = builder.graceful_shutdown_signal();
    let builder = builder
        .workers(workers)
        .max_concurrent_connections((connections_max / workers).max(1))
        .shutdown_timeout(SHUTDOWN_WITHIN_S)
        .disable_signals();
    let builder = builder.listen("sse-server", listener, move || {
        let (state, open, shutdown) = (state.clone(), open.clone(), shutdown.clone());
        let local = state.address;
        let app = App::new()
            .wrap(ConditionOption::from(state.origins.cors()))
            .wrap(from_fn(http::say_why_refused))
            .configure(move |config| http::routes(config, state))
            .into_factory()
            .map_err(|error: actix_web::Error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let shutdown = shutdown.clone();
                async move { shutdown.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(REQUEST_HEAD_WITHIN)
            .client_disconnect_timeout(DISCONNECT_WITHIN)
            // Otherwise a subscriber that closes its side is noticed only when the next event fails to reach it.
            .h1_allow_half_closed(false)
            .h1_write_buffer_size(WRITE_BUFFER_BYTES)
            .local_addr(local)
            .on_connect_ext(|connection: &Connection, data: &mut Extensions| {
                data.insert(connection.clone());
            })
            .h1(map_config(app, |()| AppConfig::default()));
        fn_service(move |socket: TcpStream| {
            // actix does not count the sockets that have left it.
            let is_full = open.count() >= connections_max;
            let connection = (!is_full).then(|| {
                tune(&socket, user_timeout);
                let peer = socket.peer_addr().ok();
                (Connection::new(socket, &open, write_timeout), peer)
            });
            ready(connection.ok_or(DispatchError::DisconnectTimeout))
        })
        .and_then(http)
    })?;
    Ok(builder.run())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

async fn stop_serving(
    handle: &ServerHandle,
    stopping: &CancellationToken,
    fanout: Option<&Fanout>,
    reason: &Result<&str, BrokerError>,
) {
    match reason {
        Ok(signal) => tracing::info!(
            signal,
            "stopping: no new connections, streams end, publishes finish"
        ),
        Err(error) => tracing::error!(%error, "stopping: the log can no longer be written"),
    }
    stopping.cancel();
    if let Some(fanout) = fanout {
        fanout.end_streams();
    }
    handle.stop(true).await;
}

async fn open_broker(
    settings: &Settings,
    metrics: Metrics,
    gave_up: oneshot::Sender<BrokerError>,
) -> anyhow::Result<Broker> {
    let retention = Retention {
        events_max: settings.history_events,
        age_max: settings.history_age,
        bytes_max: settings.history_bytes.0,
        channels_max: settings.channels_max.get(),
        keys: KeyLimits {
            window: settings.idempotency_window,
            keys_max: settings.idempotency_keys.get(),
        },
    };
    match &settings.broker.kind {
        BrokerKind::Redis(url) => {
            tracing::info!(
                "broker: Redis at {} (chosen by {})",
                without_password(url),
                settings.broker.chosen_by
            );
            let runtime = Handle::current();
            let place = redis::Place {
                url,
                prefix: &settings.redis_prefix,
                timeout: settings.redis_timeout,
            };
            Ok(Broker::Redis(
                RedisBroker::connect(place, retention, metrics, &runtime).await?,
            ))
        }
        BrokerKind::Memory => {
            tracing::info!(
                "broker: embedded log in memory (chosen by {})",
                settings.broker.chosen_by
            );
            Ok(Broker::Memory(Memory::new(
                retention,
                metrics,
                &Handle::current(),
            )))
        }
        BrokerKind::Directory => {
            let directory = settings.data_dir.display();
            tracing::info!(
                "broker: embedded log in {directory} (chosen by {})",
                settings.broker.chosen_by
            );
            let location = embedded::Location::Directory(settings.data_dir.clone());
            let reserve = settings.disk_reserve.0;
            Ok(Broker::Embedded(Embedded::open(
                location,
                retention,
                reserve,
                metrics,
                Handle::current(),
                gave_up,
            )?))
        }
    }
}

const fn broker_name(kind: &BrokerKind) -> &'static str {
    match kind {
        BrokerKind::Directory => "embedded log",
        BrokerKind::Memory => "embedded log in memory",
        BrokerKind::Redis(_) => "Redis",
    }
}

fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = settings.bind;
    let bind = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        // So that a restart need not wait for the connections of the last run to be forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    bind().map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "is another server running there? --bind 127.0.0.1:0 takes a free port"
            }
            ErrorKind::AddrNotAvailable => {
                "this machine does not have that address; --bind 127.0.0.1:5000 is the default"
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 need permission; choose a higher one with --bind"
            }
            _ => "choose another address with --bind",
        };
        anyhow::Error::new(error).context(format!("cannot listen on {address}: {advice}"))
    })
}

/// Socket options of a connection. One that cannot be set is no reason to refuse the connection.
fn tune(stream: &TcpStream, user_timeout: Duration) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(TCP_KEEPALIVE)
        .with_interval(TCP_KEEPALIVE);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_notsent_lowat(stall::UNSENT_BYTES);
        let _ = socket.set_tcp_user_timeout(Some(user_timeout));
    }
}

/// Says where the server is, and the settings in force.
fn announce(settings: &Settings, address: std::net::SocketAddr, connections_max: usize) {
    for variable in unknown_variables() {
        tracing::warn!("there is no setting {variable}; `sse-server --help` lists them all");
    }
    tracing::info!("listening on http://{address}");
    tracing::info!(
        history_events = settings.history_events,
        history_age = ?settings.history_age,
        history_bytes = %settings.history_bytes,
        channels_max = settings.channels_max,
        heartbeat = ?settings.heartbeat,
        connections_max,
        "settings"
    );
    if settings.bind.port() == 0 {
        use std::io::Write as _;
        // Nobody may be reading, and that is fine.
        let _ = writeln!(std::io::stdout(), "http://{address}");
    }
}

fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

//! Opens the broker that the settings choose. A third kind of broker is added here.

use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    broker::{
        Broker, BrokerError, embedded,
        embedded::Embedded,
        memory::Memory,
        redis::{self, RedisBroker, without_password},
    },
    config::{BrokerKind, Config},
    metrics::Metrics,
};

/// Opens the broker.
///
/// `failed` is sent the error after which the embedded log no longer accepts events.
///
/// # Errors
///
/// The directory is in use or cannot be read, or the Redis is too old. A Redis that cannot be
/// reached is no error: the server waits for it.
pub(super) async fn open(
    config: &Config,
    metrics: Metrics,
    failed: oneshot::Sender<BrokerError>,
) -> anyhow::Result<Broker> {
    let retention = config.retention;
    let runtime = Handle::current();
    log_choice(config);
    Ok(match &config.broker.kind {
        BrokerKind::Redis {
            url,
            prefix,
            timeout,
        } => {
            let options = redis::RedisOptions {
                url,
                prefix,
                timeout: *timeout,
            };
            Broker::Redis(RedisBroker::connect(options, retention, metrics, &runtime).await?)
        }
        BrokerKind::Memory => Broker::Memory(Memory::new(retention, metrics, &runtime)),
        BrokerKind::Directory { path, disk_reserve } => Broker::Embedded(Embedded::open(
            embedded::Location::Directory(path.clone()),
            retention,
            *disk_reserve,
            metrics,
            runtime,
            failed,
        )?),
    })
}

fn log_choice(config: &Config) {
    let description = match &config.broker.kind {
        BrokerKind::Redis { url, .. } => format!("Redis at {}", without_password(url)),
        BrokerKind::Memory => "embedded log in memory".to_owned(),
        BrokerKind::Directory { path, .. } => format!("embedded log in {}", path.display()),
    };
    tracing::info!(
        "broker: {description} (chosen by {})",
        config.broker.chosen_by
    );
}

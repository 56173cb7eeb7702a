//! Opens the broker that the settings choose.
//!
//! Another kind of broker would be opened here. The contract of brokers, the enum [`Broker`] and
//! its `match`es are in `broker/mod.rs`.

use tokio::{runtime::Handle, sync::oneshot};

use super::announce::announce_broker;
use crate::{
    broker::{
        Broker, BrokerError, embedded,
        embedded::Embedded,
        memory::Memory,
        redis::{self, RedisBroker},
    },
    config::{BrokerKind, Config},
    metrics::Metrics,
};

/// Opens the broker.
///
/// `failed` receives the error after which the embedded log no longer accepts events.
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
    announce_broker(&config.broker);
    let broker = match &config.broker.kind {
        BrokerKind::Redis {
            url,
            login,
            prefix,
            timeout,
            upgrades,
            wait,
            followed_max,
            flask_sse,
        } => {
            let options = redis::RedisOptions {
                url,
                login,
                prefix,
                timeout: *timeout,
                upgrades: *upgrades,
                replicas_to_wait_for: *wait,
                followed_max: *followed_max,
                flask_sse,
                event_bytes_max: config.requests.event_bytes_max,
            };
            Broker::Redis(RedisBroker::connect(options, retention, metrics, &runtime).await?)
        }
        BrokerKind::Memory => Broker::Memory(Memory::new(retention, metrics, &runtime)),
        BrokerKind::Directory {
            path,
            mode,
            disk_reserve,
        } => Broker::Embedded(Embedded::open(
            embedded::Location::Directory(path.clone(), *mode),
            retention,
            *disk_reserve,
            metrics,
            runtime,
            failed,
        )?),
    };
    broker.classes().replace(config.classes.clone());
    Ok(broker)
}

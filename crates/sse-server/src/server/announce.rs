//! What the server reports when it starts: the broker, where it listens, and the settings in force.

use std::io::Write as _;

use bytesize::ByteSize;

use crate::{
    ListenAddress,
    access_log::AccessLogTarget,
    broker::redis::without_password,
    config::{BrokerConfig, BrokerKind, Config, unknown_variables},
    http::{NamedOrigins, OriginPattern},
};

/// Logs the broker and what chose it, as the first line of the log.
pub(super) fn announce_broker(broker: &BrokerConfig) {
    let description = describe_broker(&broker.kind);
    tracing::info!("broker: {description} (chosen by {})", broker.chosen_by);
    warn_about_secret_argument(broker);
}

/// Every user of a machine can list the arguments of its processes.
fn warn_about_secret_argument(broker: &BrokerConfig) {
    if let BrokerKind::Redis { url, .. } = &broker.kind
        && broker.chosen_by == "--redis-url"
        && without_password(url) != *url
    {
        tracing::warn!(
            "the password in --redis-url is visible to every user of this machine; use the \
             variable SSE_REDIS_URL"
        );
    }
}

fn describe_broker(kind: &BrokerKind) -> String {
    match kind {
        BrokerKind::Redis { url, .. } => format!("Redis at {}", without_password(url)),
        BrokerKind::Memory => "memory".to_owned(),
        BrokerKind::Directory { path, .. } => format!("embedded log in {}", path.display()),
    }
}

/// Logs the addresses and the main settings. Also prints the URLs of free ports on stdout, unless
/// the access log is there.
///
/// `addresses` has the chosen ports, in the order of the flags.
pub(super) fn announce(config: &Config, addresses: &[ListenAddress], connections_max: usize) {
    warn_about_unknown_variables();
    warn_about_null_origin(&config.origins);
    for address in addresses {
        tracing::info!("listening on {}", address.url());
    }
    print_free_ports(config, addresses);
    log_settings(config, connections_max);
}

fn print_free_ports(config: &Config, addresses: &[ListenAddress]) {
    if config.access_log == Some(AccessLogTarget::Stdout) {
        return;
    }
    for (wanted, address) in config.addresses.iter().zip(addresses) {
        if wanted.takes_free_port() {
            // A closed stdout is no error: the URL is in the log as well.
            let _ = writeln!(std::io::stdout(), "{}", address.url());
        }
    }
}

fn warn_about_unknown_variables() {
    for variable in unknown_variables() {
        tracing::warn!("unknown setting {variable}; `sse-server --help` lists all settings");
    }
}

fn warn_about_null_origin(origins: &NamedOrigins) {
    for (flag, named) in [
        ("--cors-origin", &origins.readers),
        ("--publish-origin", &origins.publishers),
    ] {
        if named.contains(&OriginPattern::Null) {
            tracing::warn!("{flag} null covers every sandboxed page of any site, and local files");
        }
    }
}

fn log_settings(config: &Config, connections_max: usize) {
    let file = config.file.as_ref().map(|path| path.display().to_string());
    tracing::info!(
        file,
        history_events = config.retention.events_max,
        history_age = ?config.retention.age_max,
        history_bytes = %ByteSize(config.retention.bytes_max),
        channels_max = config.retention.channels_max,
        heartbeat = ?config.streams.heartbeat,
        connections_max,
        "settings"
    );
}

//! Rules that concern several settings, or that a single value's form does not express.

use std::{collections::HashSet, time::Duration};

use bytesize::ByteSize;
use sse_proto::Channel;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    broker_choice::BrokerKind, cli::Args, network_args::NetworkArgs, publish_args::PublishArgs,
};
use crate::{
    ListenAddress,
    access::{AccessRules, Right, Rights, ServerRight},
    broker::{idempotency::KEY_BYTES, lifecycle::ChannelClass, redis::check_target},
    budget::{free_needed, largest_share},
    http::OriginPattern,
};

/// Channels that can be bridged to Flask-SSE. A node keeps up to 8 MiB of each.
const FLASK_CHANNELS_MAX: usize = 32;
const IDEMPOTENCY_WINDOW_MAX: Duration = Duration::from_hours(365 * 24);

/// Checks what the grammar cannot.
///
/// # Errors
///
/// A message for the operator, which states what is wrong and what to write instead.
pub(super) fn validate(
    args: &Args,
    access: &AccessRules,
    broker: &BrokerKind,
) -> Result<(), String> {
    let addresses = args.network.all_addresses();
    check_exposure(&addresses, args.network.allow_anonymous, access)?;
    check_duplicates(&addresses)?;
    check_credentials(&args.network)?;
    check_sizes(args)?;
    check_idempotency_window(args.publishing.idempotency_window)?;
    check_idempotency_bytes(&args.publishing)?;
    check_log(&args.logging.log)?;
    check_history_bytes(args.history_bytes)?;
    check_broker(broker)?;
    check_flask_sse(&args.redis.flask_sse, broker)
}

fn check_idempotency_window(window: Duration) -> Result<(), String> {
    if window > IDEMPOTENCY_WINDOW_MAX {
        return Err("--idempotency-window must be at most 365d".to_owned());
    }
    Ok(())
}

/// The keys of the largest batch must fit in the part of one client.
fn check_idempotency_bytes(args: &PublishArgs) -> Result<(), String> {
    let keys_of_client = largest_share(args.idempotency_keys.get());
    let keys = args.batch_events_max.get().min(keys_of_client) as u64;
    let needed = ByteSize(free_needed(0, keys).saturating_mul(KEY_BYTES));
    if args.idempotency_bytes >= needed {
        return Ok(());
    }
    Err(format!(
        "--idempotency-bytes must be at least {}, so that the keys of a batch of \
         --batch-events-max fit",
        needed.0
    ))
}

fn check_history_bytes(size: ByteSize) -> Result<(), String> {
    if size.0 == 0 {
        return Err("--history-bytes must be more than zero: nothing would be kept".to_owned());
    }
    Ok(())
}

/// Checks that the broker can do what the classes of channels demand.
pub(super) fn check_classes(classes: &[ChannelClass], broker: &BrokerKind) -> Result<(), String> {
    let is_redis = matches!(broker, BrokerKind::Redis { .. });
    let with_bytes = classes
        .iter()
        .find(|class| class.defaults.history_bytes.is_some());
    match with_bytes {
        Some(class) if is_redis => Err(format!(
            "history_bytes of the channels {} has no effect over Redis: use history_events or \
             history_age",
            class.pattern
        )),
        _ => Ok(()),
    }
}

/// At an address that other machines can reach, callers without a credential may subscribe by rules.
/// More needs consent.
pub(super) fn check_exposure(
    addresses: &[ListenAddress],
    allow_anonymous: bool,
    access: &AccessRules,
) -> Result<(), String> {
    let mut reachable = addresses.iter().filter(|address| !address.is_local());
    let Some(address) = reachable.next().filter(|_| !allow_anonymous) else {
        return Ok(());
    };
    if !access.is_restricted() {
        return Err(format!(
            "{} {address} can be reached from other machines, and there are no access rules: anyone \
             could publish and read. Add the table [access] to the configuration file, use 127.0.0.1 \
             behind a proxy that authenticates, or add --allow-anonymous",
            address.flag()
        ));
    }
    match dangerous_right(&access.anonymous_rights()) {
        None => Ok(()),
        Some(right) => Err(format!(
            "{} {address} can be reached from other machines, and [access.anonymous] grants {right}: \
             remove it, or add --allow-anonymous",
            address.flag()
        )),
    }
}

/// Returns a right that a caller without a credential should not have.
fn dangerous_right(rights: &Rights) -> Option<&'static str> {
    let channels = [Right::Publish, Right::Manage].into_iter();
    let mut channels = channels.filter(|right| !rights.patterns(*right).is_empty());
    let mut server = [ServerRight::Admin, ServerRight::Observe].into_iter();
    let of_channels = channels.next().map(Right::as_str);
    of_channels.or_else(|| {
        server
            .find(|right| rights.permits_server(*right))
            .map(ServerRight::as_str)
    })
}

fn check_duplicates(addresses: &[ListenAddress]) -> Result<(), String> {
    for (nth, address) in addresses.iter().enumerate() {
        let mut earlier = addresses[..nth].iter();
        if earlier.any(|earlier| earlier.is_same(address)) {
            let flag = address.flag();
            return Err(format!(
                "{flag} {address} is given twice: remove one of them"
            ));
        }
    }
    Ok(())
}

/// With credentials, every page of an allowed origin acts as the user of the browser. So each
/// origin must be one that the operator knows.
fn check_credentials(args: &NetworkArgs) -> Result<(), String> {
    if !args.cors_credentials {
        return Ok(());
    }
    let mut named = args.cors_origins.iter().chain(&args.publish_origins);
    if args.cors_origins.is_empty() && args.publish_origins.is_empty() {
        return Err(
            "--cors-credentials needs an origin: add --cors-origin or --publish-origin".to_owned(),
        );
    }
    if named.any(|origin| matches!(origin, OriginPattern::Any | OriginPattern::Null)) {
        return Err(
            "--cors-credentials cannot be combined with the origins * and null: name the origins \
             whose pages may act for a user"
                .to_owned(),
        );
    }
    Ok(())
}

/// An event must fit in a batch, a batch in the memory for bodies, an event in the memory of blocked
/// streams, and a tail in the memory of all tails.
fn check_sizes(args: &Args) -> Result<(), String> {
    let event = ("--event-bytes-max", args.publishing.event_bytes_max);
    let batch = ("--batch-bytes-max", args.publishing.batch_bytes_max);
    let memory = ("--publish-memory", args.publishing.publish_memory);
    let blocked = ("--blocked-bytes", args.streams.blocked_bytes);
    let tail = ("--tail-bytes", args.streams.tail_bytes);
    let tails = ("--tails-bytes", args.streams.tails_bytes);
    let pairs = [
        (event, batch),
        (batch, memory),
        (event, blocked),
        (tail, tails),
    ];
    for ((small, small_size), (large, large_size)) in pairs {
        if small_size > large_size {
            return Err(format!(
                "{small} {small_size} is more than {large} {large_size}: one would never fit"
            ));
        }
    }
    check_size_range(args)
}

fn check_size_range(args: &Args) -> Result<(), String> {
    if args.publishing.event_bytes_max.0 == 0 {
        return Err("--event-bytes-max must be more than zero".to_owned());
    }
    if args.publishing.publish_memory > ByteSize::tib(1) {
        return Err("--publish-memory must be at most 1TiB".to_owned());
    }
    Ok(())
}

fn check_log(filter: &str) -> Result<(), String> {
    if filter.split(',').all(has_level) && EnvFilter::try_new(filter).is_ok() {
        return Ok(());
    }
    Err(format!(
        "--log {filter:?} is not a level: use error, warn, info, debug or trace"
    ))
}

/// Whether one part of a filter names a level. A word that is not a level would be taken for a
/// module, and nothing would be logged.
fn has_level(directive: &str) -> bool {
    directive.contains('=') || directive.parse::<LevelFilter>().is_ok()
}

fn check_broker(broker: &BrokerKind) -> Result<(), String> {
    match broker {
        BrokerKind::Redis { url, login, .. } => check_target(url, login),
        BrokerKind::Directory { .. } | BrokerKind::Memory => Ok(()),
    }
}

/// The bridge to Flask-SSE needs the one Redis that Flask-SSE uses.
fn check_flask_sse(channels: &[Channel], broker: &BrokerKind) -> Result<(), String> {
    let Some(first) = channels.first() else {
        return Ok(());
    };
    let BrokerKind::Redis { url, .. } = broker else {
        return Err(format!(
            "--flask-sse {first} needs --redis-url: give the URL of the Redis that Flask-SSE uses"
        ));
    };
    if url.contains("+cluster://") {
        return Err(format!(
            "--flask-sse {first} cannot be used with a Redis Cluster: Flask-SSE knows one server"
        ));
    }
    if channels.len() > FLASK_CHANNELS_MAX {
        return Err(format!(
            "--flask-sse names {} channels: at most {FLASK_CHANNELS_MAX} can be bridged",
            channels.len()
        ));
    }
    match repeated(channels) {
        Some(channel) => Err(format!(
            "--flask-sse {channel} is given twice: remove one of them"
        )),
        None => Ok(()),
    }
}

fn repeated(channels: &[Channel]) -> Option<&Channel> {
    let mut seen = HashSet::new();
    channels.iter().find(|channel| !seen.insert(*channel))
}

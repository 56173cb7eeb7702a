//! How the connections are divided between streams, other requests, and clients.

use std::num::NonZeroUsize;

use crate::connections::ConnectionLimits;

/// Connections that are reserved for publishers and health checks.
const CONNECTIONS_RESERVE: usize = 16;

/// Returns the limits of connections. `open_max` are those that the limit of open files allows.
pub(super) fn connection_limits(
    streams: Option<NonZeroUsize>,
    of_client: Option<NonZeroUsize>,
    open_max: usize,
) -> ConnectionLimits {
    let reserve = reserve(streams, open_max);
    let most_streams = most_streams(streams, open_max);
    ConnectionLimits {
        open_max,
        reserve,
        client_max: client_max(of_client, open_max - reserve, most_streams),
        // Over HTTP/2, many streams need only a few connections.
        client_streams_max: client_max(None, open_max - reserve, most_streams),
    }
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
pub(super) fn streams_max(chosen: Option<NonZeroUsize>, connections_max: usize) -> usize {
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

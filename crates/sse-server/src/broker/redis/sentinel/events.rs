//! What sentinels announce on their pub/sub channels, as untrusted text.

use crate::broker::redis::target::ServerAddress;

/// The pub/sub channels to subscribe to at each sentinel.
///
/// A sentinel announces `+selected-slave` a tenth of a second before it promotes the replica. A
/// node that stops publishing at that moment loses nothing in a planned failover.
pub(super) const CHANNELS: [&str; 8] = [
    "+selected-slave",
    "+promoted-slave",
    "+switch-master",
    "+failover-end",
    "-failover-abort-not-elected",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "-failover-abort-master-is-back",
];

/// What an announcement means for the primary of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SentinelEvent {
    /// This replica is about to be promoted.
    Selected(ServerAddress),
    /// The primary may have changed.
    Changed,
    /// The failover ended without a promotion.
    Aborted,
}

/// Parses an announcement; returns `None` if it concerns another primary than `primary`.
///
/// ```text
/// +selected-slave   slave ip:port ip port @ primary old-ip old-port
/// +switch-master    primary old-ip old-port new-ip new-port
/// -failover-abort…  master primary ip port
/// ```
pub(super) fn parse_event(channel: &str, payload: &str, primary: &str) -> Option<SentinelEvent> {
    let words: Vec<&str> = payload.split(' ').collect();
    let named = match words.as_slice() {
        ["slave", _, _, _, "@", named, ..] | ["master", named, ..] | [named, ..] => *named,
        [] => return None,
    };
    if named != primary {
        return None;
    }
    Some(match (channel, words.as_slice()) {
        ("+selected-slave", ["slave", _, host, port, ..]) => {
            SentinelEvent::Selected(ServerAddress::reported(host, port)?)
        }
        (channel, _) if channel.starts_with('-') => SentinelEvent::Aborted,
        _ => SentinelEvent::Changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_about_another_primary_means_nothing() {
        let selected = "slave 10.0.0.2:7 10.0.0.2 7 @ mine 10.0.0.1 6";
        let address = ServerAddress::reported("10.0.0.2", "7").unwrap();
        for (channel, payload, event) in [
            (
                "+selected-slave",
                selected,
                SentinelEvent::Selected(address),
            ),
            ("+promoted-slave", selected, SentinelEvent::Changed),
            (
                "+switch-master",
                "mine 10.0.0.1 6 10.0.0.2 7",
                SentinelEvent::Changed,
            ),
            (
                "+failover-end",
                "master mine 10.0.0.1 6",
                SentinelEvent::Changed,
            ),
            (
                "-failover-abort-no-good-slave",
                "master mine 10.0.0.1 6",
                SentinelEvent::Aborted,
            ),
        ] {
            assert_eq!(
                parse_event(channel, payload, "mine"),
                Some(event),
                "{channel}"
            );
            assert_eq!(parse_event(channel, payload, "other"), None, "{channel}");
        }
        for hostile in [
            "",
            " ",
            "slave",
            "slave a b x @ mine",
            "slave a b 99999999 @ mine c 1",
        ] {
            let event = parse_event("+selected-slave", hostile, "mine");
            assert_eq!(event, None, "{hostile:?}");
        }
    }
}

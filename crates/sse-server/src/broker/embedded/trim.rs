//! Trimming: removes the oldest events beyond the limits of the history.
//!
//! | limit | scope | which events go |
//! |---|---|---|
//! | count, bytes | channel | the oldest of the channel |
//! | age   | channel | those older than the limit, but never the newest of the channel |
//! | bytes | log     | the oldest of all channels |
//!
//! The limits of a channel's count and bytes apply to every append. A sweep applies all limits, and
//! only to the channels that may be due: an index has the time from which the oldest event of a
//! channel is too old. One commit removes a limited number of events, so that a lowered limit does
//! not block the writer; the next commits continue.

use sse_proto::Channel;

use super::{
    committed_channels::Channels, error::StoreError, record::ChannelRow,
    staged_channels::DueChange, staged_log::StagedLog,
};
use crate::broker::lifecycle::Effective;

/// Events that are removed from one channel before the oldest event of all channels is searched
/// again.
const TRIM_BATCH: u64 = 64;
/// Events whose age is checked at once.
const AGE_BATCH: usize = 1024;

/// Channels that one commit examines at most.
const EXAMINED_MAX: usize = 10_000;

/// Returns true if channels may have events that are too old or too many, or have keys that have
/// expired.
pub(super) fn is_sweep_needed(channels: &Channels, log_ms: u64) -> bool {
    !channels.deleted().is_empty()
        || channels.trims().is_any_due(log_ms)
        || channels.keys().expired(log_ms).next().is_some()
}

/// Whether a channel has events beyond its limits of count and bytes.
fn has_excess(row: &ChannelRow, limits: &Effective) -> bool {
    let bytes_max = limits.settings.history_bytes.unwrap_or(u64::MAX);
    row.count > limits.events_max() || row.count > 1 && row.bytes > bytes_max
}

/// Returns from when on a channel may have events to trim; `None` before its next write.
pub(super) fn next_trim_ms(row: &ChannelRow, limits: &Effective) -> Option<u64> {
    match row.count {
        0 | 1 => None,
        _ if has_excess(row, limits) => Some(0),
        _ => limits.too_old_from_ms(row.oldest.ms),
    }
}

/// Applies all limits to the channels that may have events to trim.
pub(super) fn trim_due(log: &mut StagedLog<'_>) -> Result<(), StoreError> {
    let log_ms = log.log_ms();
    let (channels, has_more) = log.channels.due_for_trimming(log_ms, EXAMINED_MAX);
    if has_more {
        log.defer_trimming();
    }
    for channel in channels {
        if !log.may_trim() {
            log.defer_trimming();
            break;
        }
        let limits = log.effective(&channel);
        trim_to_limits(log, &channel, &limits)?;
        trim_to_age(log, &channel, limits.cutoff_ms(log_ms))?;
        let row = log.channels.row(&channel);
        let next_ms = row.and_then(|row| next_trim_ms(&row, &limits));
        log.channels.change_trim(&channel, DueChange::Set(next_ms));
    }
    trim_to_bytes(log)
}

/// Removes the events of `channel` beyond its limits of count and bytes, after a write. `was_busy`
/// states that the channel had more than one event before.
pub(super) fn trim_channel(
    log: &mut StagedLog<'_>,
    channel: &Channel,
    was_busy: bool,
) -> Result<(), StoreError> {
    let limits = log.effective(channel);
    trim_to_limits(log, channel, &limits)?;
    // A channel with more than one event is in the index already.
    if !was_busy
        && let Some(row) = log.channels.row(channel)
        && let Some(next_ms) = next_trim_ms(&row, &limits)
    {
        log.channels
            .change_trim(channel, DueChange::AtLatest(next_ms));
    }
    Ok(())
}

fn trim_to_limits(
    log: &mut StagedLog<'_>,
    channel: &Channel,
    limits: &Effective,
) -> Result<(), StoreError> {
    let Some(row) = log.channels.row(channel) else {
        return Ok(());
    };
    let excess = row.count.saturating_sub(limits.events_max());
    if excess > 0 {
        log.remove_oldest(channel, excess)?;
    }
    let bytes_max = limits.settings.history_bytes.unwrap_or(u64::MAX);
    if row.bytes > bytes_max
        && let Some(row) = log.channels.row(channel)
    {
        let excess = log.count_beyond_bytes(&row, bytes_max)?;
        log.remove_oldest(channel, excess)?;
    }
    Ok(())
}

fn trim_to_age(
    log: &mut StagedLog<'_>,
    channel: &Channel,
    cutoff_ms: u64,
) -> Result<(), StoreError> {
    while let Some(row) = log.channels.row(channel)
        && row.has_events_before(cutoff_ms)
    {
        let aged = log.count_older(&row, cutoff_ms, AGE_BATCH)?;
        if log.remove_oldest(channel, aged)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Removes the oldest events of all channels until the log has no more bytes than it may.
pub(super) fn trim_to_bytes(log: &mut StagedLog<'_>) -> Result<(), StoreError> {
    while log.bytes() > log.retention().bytes_max {
        let Some(channel) = log.channels.with_oldest_event() else {
            break;
        };
        if log.remove_oldest(&channel, TRIM_BATCH)? == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::super::test_log::TestLog;

    #[test]
    fn a_commit_trims_a_bounded_number_of_events_and_reports_that_more_is_left() {
        let mut log = TestLog::new();
        log.retention.events_max = NonZeroUsize::new(1000).unwrap();
        log.append("a", 900, 1000, 0).unwrap();
        assert!(log.append("a", 0, 5000, 300).unwrap());
        assert_eq!(log.count("a"), 600);
        while log.append("a", 0, 5000, 300).unwrap() {}
        assert_eq!(log.count("a"), 1, "the newest stays");
        log.retention.events_max = NonZeroUsize::new(5).unwrap();
        log.append("b", 50, 5000, 0).unwrap();
        assert_eq!(log.count("b"), 5);
    }

    #[test]
    fn too_many_bytes_remove_the_oldest_events_of_all_channels() {
        let mut log = TestLog::new();
        log.retention.events_max = NonZeroUsize::new(1000).unwrap();
        log.append("a", 100, 1000, 1000).unwrap();
        let each = log.state.bytes / 100;
        log.append("b", 100, 1001, 1000).unwrap();
        log.retention.bytes_max = each * 100;
        log.append("b", 0, 1001, 1000).unwrap();
        assert_eq!((log.count("a"), log.count("b")), (0, 100));
        // A channel is trimmed in batches of 64 events.
        log.retention.bytes_max = each * 99;
        log.append("b", 0, 1001, 1000).unwrap();
        assert_eq!(log.count("b"), 36);
    }
}

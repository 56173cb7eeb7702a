//! Trimming: removes the oldest events beyond the limits of the history.
//!
//! | limit | scope | which events go |
//! |---|---|---|
//! | count | channel | the oldest of the channel |
//! | age   | channel | those older than the limit, but never the newest of the channel |
//! | bytes | log     | the oldest of all channels |
//!
//! The count applies to every append. A sweep applies all three limits. One commit removes a
//! limited number of events, so that a lowered limit does not block the writer; the next commits
//! continue.

use sse_proto::Channel;

use super::{
    committed_state::CommittedState, error::StoreError, record::ChannelRow, staged_log::StagedLog,
};
use crate::broker::Retention;

/// Events that are removed from one channel before the oldest event of all channels is searched
/// again.
const TRIM_BATCH: u64 = 64;
/// Events whose age is checked at once.
const AGE_BATCH: usize = 1024;

/// Returns true if a channel has events that are too old or too many, or keys that have expired.
pub(super) fn is_sweep_needed(state: &CommittedState, retention: &Retention, now_ms: u64) -> bool {
    let log_ms = state.clock.log_ms(now_ms);
    let cutoff_ms = retention.cutoff_ms(log_ms);
    let events_max = retention.events_max.get() as u64;
    let mut rows = state.channels.rows().values();
    let mut key_counts = state.channels.key_counts().values();
    rows.any(|row| row.count > events_max || row.has_events_before(cutoff_ms))
        || key_counts.any(|key_count| key_count.has_expired(log_ms))
}

/// Applies all limits to all channels.
pub(super) fn trim_all(log: &mut StagedLog<'_>) -> Result<(), StoreError> {
    let events_max = events_max(log);
    for channel in select_channels(log, |row| row.count > events_max) {
        trim_to_count(log, &channel)?;
    }
    let cutoff_ms = log.cutoff_ms();
    for channel in select_channels(log, |row| row.has_events_before(cutoff_ms)) {
        trim_to_age(log, &channel, cutoff_ms)?;
    }
    trim_to_bytes(log)
}

fn select_channels(log: &StagedLog<'_>, is_selected: impl Fn(&ChannelRow) -> bool) -> Vec<Channel> {
    log.channels
        .rows()
        .filter(|(_, row)| is_selected(row))
        .map(|(channel, _)| channel.clone())
        .collect()
}

/// Removes the events of `channel` beyond the limit of events per channel.
pub(super) fn trim_to_count(log: &mut StagedLog<'_>, channel: &Channel) -> Result<(), StoreError> {
    let excess = count_excess(log, channel);
    if excess > 0 {
        log.remove_oldest(channel, excess)?;
    }
    Ok(())
}

/// Returns how many events `channel` has beyond the limit of events per channel.
fn count_excess(log: &StagedLog<'_>, channel: &Channel) -> u64 {
    let count = log.channels.row(channel).map_or(0, |row| row.count);
    count.saturating_sub(events_max(log))
}

fn events_max(log: &StagedLog<'_>) -> u64 {
    log.retention().events_max.get() as u64
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

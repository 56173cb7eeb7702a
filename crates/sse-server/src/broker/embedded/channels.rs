//! Creates channels, and forgets idle ones to make room.
//!
//! If the log has as many channels as it may, a channel whose events are all too old makes room for
//! a new one. The log then notes only the last id of the forgotten channel:
//!
//! ```text
//! channels_max = 2     channels              forgotten        origin
//! append to c          a (idle), b           –                0-0
//!                      b, c                  a: last 1000-2   0-0
//! ```
//!
//! A subscriber that resumes from `1000-2` in `a` gets no gap, and every older position gets one.
//! The number of notes is limited as well. If the oldest note is dropped, the origin rises to its
//! id: all channels without a row or note begin there, and no older position passes as proved.

use sse_proto::Channel;

use super::{
    error::{AppendError, StoreError},
    life::delete_channel,
    record::ChannelRow,
    staged_log::StagedLog,
};
use crate::broker::{BrokerError, Publisher, client_shares::ClientShares};

/// Creates the row of a new channel, if there is room for one more.
///
/// # Errors
///
/// - [`BrokerError::TooManyChannels`] if no channel can be forgotten.
/// - [`BrokerError::TooManyNewChannels`] if the publisher has its part.
pub(super) fn create_channel(
    log: &mut StagedLog<'_>,
    shares: &ClientShares,
    publisher: Publisher,
    new: &Channel,
) -> Result<ChannelRow, AppendError> {
    let (count, cutoff_ms) = (log.channels.count(), log.cutoff_ms());
    let idle = if count < log.retention().channels_max {
        None
    } else {
        let idle = log.channels.idlest(cutoff_ms);
        Some(idle.ok_or(BrokerError::TooManyChannels(count))?)
    };
    shares.check_new_channel(publisher, log.log_ms(), |needed| has_free(log, needed))?;
    if let Some((idle, row)) = idle {
        forget_channel(log, &idle, row)?;
    }
    shares.record_new_channel(publisher, log.log_ms());
    Ok(log.new_row(new)?)
}

/// Whether `needed` channels are free, or idle and so can be forgotten.
fn has_free(log: &StagedLog<'_>, needed: usize) -> bool {
    let channels_max = log.retention().channels_max;
    let idle = needed.saturating_sub(channels_max.saturating_sub(log.channels.count()));
    log.channels.has_idle(idle, log.cutoff_ms())
}

/// Removes a channel and its events, and notes its last id.
fn forget_channel(
    log: &mut StagedLog<'_>,
    channel: &Channel,
    row: ChannelRow,
) -> Result<(), StoreError> {
    let life = log.channels.life(channel);
    if life.is_some_and(|life| life.end.is_some()) {
        // A forgotten channel would be open again. A deleted one is not.
        delete_channel(log, channel);
        return Ok(());
    }
    log.replace_by_last_id(channel, row)?;
    if log.channels.forgotten_count() > log.retention().channels_max {
        log.drop_oldest_last_id();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sse_proto::EventId;

    use super::{
        super::test_log::{TestLog, item},
        *,
    };
    use crate::broker::Continuity;

    #[test]
    fn an_idle_channel_makes_room_and_continues_from_its_last_id() {
        let mut log = TestLog::new();
        log.append("a", 3, 1000, 100).unwrap();
        log.append("b", 3, 1500, 100).unwrap();
        let rejected = log.append("c", 1, 1900, 100);
        assert!(
            matches!(rejected, Err(BrokerError::TooManyChannels(_))),
            "{rejected:?}"
        );
        // The events of `a` are too old now, so `c` replaces it.
        log.append("b", 1, 2100, 100).unwrap();
        log.append("c", 1, 2200, 100).unwrap();
        assert_eq!((log.count("a"), log.count("c")), (0, 1));
        let last_of_a = EventId::new(1000, 2);
        assert_eq!(log.start("a", last_of_a), Continuity::Contiguous);
        assert_ne!(
            log.start("a", EventId::new(1000, 1)),
            Continuity::Contiguous
        );
        assert_eq!(log.start("never", EventId::ZERO), Continuity::Contiguous);
        log.append("a", 1, 4000, 100).unwrap();
        assert_eq!(log.start("a", last_of_a), Continuity::Contiguous);
        assert_ne!(log.start("a", EventId::ZERO), Continuity::Contiguous);
    }

    #[test]
    fn a_client_leaves_channels_free_for_others_and_idle_ones_count_as_free() {
        let client = |last: u8| Publisher::at([127, 0, 0, last].into());
        let mut log = TestLog::new();
        log.retention.channels_max = 200;
        log.publisher = client(1);
        let mut created = 0;
        while log.append(&format!("a{created}"), 1, 1000, 100).is_ok() {
            created += 1;
        }
        assert_eq!(created, 188);
        let rejected = log.append("more", 1, 1000, 100);
        assert!(
            matches!(
                rejected,
                Err(BrokerError::TooManyNewChannels { created: 188, .. })
            ),
            "{rejected:?}"
        );
        log.append("a1", 1, 1000, 100).unwrap();
        log.publisher = client(2);
        log.append("b1", 1, 1000, 100).unwrap();
        log.append("b2", 1, 1000, 100).unwrap();
        // All channels are idle now, and nothing that was created counts any more.
        log.publisher = client(1);
        for number in 0..188 {
            log.append(&format!("c{number}"), 1, 9000, 100).unwrap();
        }
        let rejected = log.append("more", 1, 9000, 100);
        assert!(
            matches!(rejected, Err(BrokerError::TooManyNewChannels { .. })),
            "{rejected:?}"
        );
    }

    #[test]
    fn a_position_in_a_channel_whose_last_id_was_dropped_is_not_proved() {
        let mut log = TestLog::new();
        for (number, channel) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
            log.append(channel, 1, 10_000 * (number as u64 + 1), 100)
                .unwrap();
        }
        assert_eq!(
            (
                log.state.channels.count(),
                log.state.channels.forgotten().len()
            ),
            (2, 2)
        );
        assert_ne!(
            log.start("a", EventId::new(10_000, 0)),
            Continuity::Contiguous
        );
        assert_eq!(
            log.start("d", EventId::new(40_000, 0)),
            Continuity::Contiguous
        );
        assert_ne!(log.start("never", EventId::ZERO), Continuity::Contiguous);
    }

    #[test]
    fn a_channel_with_keys_is_not_idle() {
        let mut log = TestLog::new();
        log.retention.keys.window = Duration::from_secs(10);
        log.append_item("a", item(1, "x"), 1000).unwrap();
        log.append("b", 1, 1500, 100).unwrap();
        log.append("c", 1, 5000, 100).unwrap();
        assert_eq!((log.count("a"), log.count("b"), log.count("c")), (1, 0, 1));
        assert!(matches!(
            log.append("d", 1, 5001, 100),
            Err(BrokerError::TooManyChannels(_))
        ));
        assert_eq!(
            log.append_item("a", item(1, "x"), 10_999).unwrap(),
            (1000, true)
        );
        // Once the key has expired, the channel is idle.
        log.append("c", 0, 11_000, 100).unwrap();
        log.append("d", 1, 11_001, 100).unwrap();
        assert_eq!(log.count("d"), 1);
    }
}

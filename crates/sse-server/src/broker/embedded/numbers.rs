//! The numbers that new channels get.
//!
//! A number has 32 bits, because it is in the key of every event. A log that creates a thousand
//! channels per second has used all numbers after 50 days. So a number is free again once the file
//! has nothing of its channel any more: no row, no events and no idempotency keys.
//!
//! ```text
//! used   1 2 3 900        free   4..900, then 901.., then the largest range that is free by then
//! ```
//!
//! Numbers are taken from one free range in ascending order. Only the search for the next range looks
//! at every channel. It comes once per range, and a range usually has billions of numbers.

use std::ops::Range;

use redb::ReadableTable;

use super::{error::StoreError, record::Key};

/// No channel has a lower number. Readers use zero for a channel without a row.
const FIRST: u32 = 1;

/// Returns a free range: that which begins with `next`, or otherwise the largest one.
///
/// `used` are the numbers that the small tables name. In a damaged file, events can have other
/// numbers. Such a number is used as well: its events would belong to the next channel that gets it.
///
/// # Errors
///
/// [`StoreError::Damaged`] if the events cannot be read, or every number is used.
pub(super) fn free_numbers(
    events: &impl ReadableTable<Key, &'static [u8]>,
    used: impl Iterator<Item = u32>,
    next: u32,
) -> Result<Range<u32>, StoreError> {
    let mut used: Vec<u32> = used.collect();
    loop {
        used.sort_unstable();
        let range = free_range(&used, next);
        if range.is_empty() {
            return Err(StoreError::Damaged(
                "every channel number is used".to_owned(),
            ));
        }
        let keys = (range.start, 0, 0)..(range.end, 0, 0);
        let stray = match events.range(keys)?.next().transpose()? {
            Some((key, _)) => key.value().0,
            None => return Ok(range),
        };
        if stray > range.start {
            return Ok(range.start..stray);
        }
        used.push(stray);
    }
}

/// Returns the free range that begins with `next`, or otherwise the largest one. `used` is sorted.
fn free_range(used: &[u32], next: u32) -> Range<u32> {
    let next = next.max(FIRST);
    let after = used.partition_point(|number| *number < next);
    let end = used.get(after).copied().unwrap_or(u32::MAX);
    if next < end {
        return next..end;
    }
    let starts = std::iter::once(FIRST).chain(used.iter().map(|number| number.saturating_add(1)));
    let ends = used.iter().copied().chain([u32::MAX]);
    let ranges = starts.zip(ends).map(|(start, end)| start..end);
    ranges.max_by_key(ExactSizeIterator::len).unwrap_or(0..0)
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::{
        super::{record::event_key, tables::EVENTS, test_log::TestLog},
        *,
    };

    #[test]
    fn a_range_begins_with_the_next_number_or_is_the_largest() {
        assert_eq!(free_range(&[], 0), 1..u32::MAX);
        assert_eq!(free_range(&[], 1), 1..u32::MAX);
        assert_eq!(free_range(&[1, 2, 3, 3, 900], 4), 4..900);
        assert_eq!(free_range(&[1, 2, 3, 900], 900), 901..u32::MAX);
        assert_eq!(
            free_range(&[1, 3, u32::MAX - 1], u32::MAX - 1),
            4..u32::MAX - 1
        );
        assert_eq!(free_range(&[7], u32::MAX), 8..u32::MAX);
        assert_eq!(free_range(&[2, u32::MAX - 1], u32::MAX), 3..u32::MAX - 1);
    }

    #[test]
    fn after_the_last_number_a_log_uses_free_ones_and_none_that_has_events() {
        let mut log = TestLog::new();
        log.retention.channels_max = 10;
        for channel in ["a", "b", "c"] {
            log.append(channel, 1, 1000, 100).unwrap();
        }
        log.store
            .write(|transaction| {
                let mut events = transaction.open_table(EVENTS)?;
                events.insert(event_key(6, EventId::new(1, 1)), [0].as_slice())?;
                Ok(())
            })
            .unwrap();
        log.state.numbers = u32::MAX - 1..u32::MAX;
        let numbers = ["d", "e", "f", "g", "h"].map(|channel| {
            log.append(channel, 1, 1000, 100).unwrap();
            log.row(channel).unwrap().number
        });
        assert_eq!(numbers, [u32::MAX - 1, 4, 5, 7, 8]);
    }
}

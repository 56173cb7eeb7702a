//! When no event up to an id can be added any more.

use std::time::Duration;

use sse_proto::EventId;

use crate::broker::Settled;

/// How far Redis' clock must be past an id before no event up to that id is expected any more.
///
/// The clock may be set back a little, or a replica whose clock is behind may be promoted.
const SETTLED_AFTER_MS: u64 = 1000;

/// Whether events up to `bound` can still be added, if it is `now_ms` and `last` is the newest id.
pub(super) fn judge_settled(bound: EventId, now_ms: u64, last: EventId) -> Settled {
    match time_until_settled(bound, now_ms) {
        Some(wait) if last < bound => Settled::NotFor(wait),
        _ => Settled::Through(last),
    }
}

/// How long it takes until Redis' clock is past `bound`; returns `None` if it is already.
fn time_until_settled(bound: EventId, now_ms: u64) -> Option<Duration> {
    let settled_ms = bound.ms.saturating_add(SETTLED_AFTER_MS);
    let wait_ms = settled_ms.checked_sub(now_ms)?.saturating_add(1);
    Some(Duration::from_millis(wait_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_settled_a_second_later_or_by_a_newer_id() {
        let (bound, older) = (EventId::new(5000, 3), EventId::new(4000, 0));
        let settled = |now_ms, last| judge_settled(bound, now_ms, last);
        assert_eq!(settled(6001, older), Settled::Through(older));
        assert_eq!(
            settled(6000, older),
            Settled::NotFor(Duration::from_millis(1))
        );
        assert_eq!(
            settled(4000, older),
            Settled::NotFor(Duration::from_millis(2001))
        );
        let newer = EventId::new(5000, 4);
        assert_eq!(settled(4000, bound), Settled::Through(bound));
        assert_eq!(settled(4000, newer), Settled::Through(newer));
        let end = EventId::new(u64::MAX, 0);
        assert!(matches!(judge_settled(end, 0, older), Settled::NotFor(_)));
    }
}

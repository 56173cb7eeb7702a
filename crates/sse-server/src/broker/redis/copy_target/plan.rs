//! What must be done with a channel of the target, from what the log and the target have of it.
//!
//! Nothing is remembered between two runs of a copy. The last id of the target says how far it is.

use sse_proto::EventId;

use crate::broker::{lifecycle::Tombstone, transfer::SourceChannel};

/// What the target has of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The last id before the end; `None` if the channel does not exist.
    pub(crate) last: Option<EventId>,
    pub(crate) tombstone: Option<Tombstone>,
    /// Whether a copy has written all of it.
    pub(crate) is_copied: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyWork {
    /// Nothing: the channel was deleted in both.
    Nothing,
    /// Delete the copy of a channel that was deleted, and write its tombstone.
    Delete,
    /// Copy everything after this id.
    Copy { after: EventId, replaces: bool },
}

/// Why a channel cannot be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The target has a channel or a tombstone of this name that is no copy.
    NotEmpty,
    /// The copy has records that the log does not have.
    OtherLog,
}

/// Decides what to do with a channel.
pub(crate) fn plan_work(source: &SourceChannel, found: &Found) -> Result<CopyWork, Refusal> {
    let exists = found.last.is_some() || found.tombstone.is_some();
    if exists && !found.is_copied {
        return Err(Refusal::NotEmpty);
    }
    let deleted_at = source.deletion.map(|deletion| deletion.at);
    let Some(state) = &source.state else {
        let is_done = found.last.is_none() && found.tombstone.map(|of| of.at) == deleted_at;
        return Ok(if is_done {
            CopyWork::Nothing
        } else {
            CopyWork::Delete
        });
    };
    let fresh = |replaces| CopyWork::Copy {
        after: state.start,
        replaces,
    };
    match found.last {
        None => Ok(fresh(false)),
        // The present incarnation begins after the deletion.
        Some(last) if deleted_at.is_some_and(|at| last < at) => Ok(fresh(true)),
        Some(last) if last > state.last => Err(Refusal::OtherLog),
        Some(last) => Ok(CopyWork::Copy {
            after: last,
            replaces: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::transfer::{SourceDeletion, SourceState};

    const fn id(ms: u64) -> EventId {
        EventId::new(ms, 0)
    }

    fn source(last: Option<u64>, deleted_at: Option<u64>) -> SourceChannel {
        SourceChannel {
            channel: "a".parse().unwrap(),
            state: last.map(|last| SourceState {
                start: id(deleted_at.unwrap_or(0)),
                last: id(last),
                trimmed: None,
                oldest: None,
                records: 0,
                settings: [None; 5],
                alive_ms: 0,
                end: None,
            }),
            deletion: deleted_at.map(|at| SourceDeletion {
                last: id(at - 2),
                end: id(at - 1),
                at: id(at),
                has_events: true,
            }),
        }
    }

    fn found(last: Option<u64>, deleted_at: Option<u64>) -> Found {
        Found {
            last: last.map(id),
            tombstone: deleted_at.map(|at| Tombstone {
                last: id(at - 2),
                end: id(at - 1),
                at: id(at),
                has_events: true,
            }),
            is_copied: true,
        }
    }

    const fn copy(after: u64, replaces: bool) -> CopyWork {
        CopyWork::Copy {
            after: id(after),
            replaces,
        }
    }

    #[test]
    fn a_copy_continues_after_its_last_id() {
        let log = source(Some(9), None);
        assert_eq!(plan_work(&log, &Found::default()), Ok(copy(0, false)));
        assert_eq!(plan_work(&log, &found(Some(5), None)), Ok(copy(5, false)));
        assert_eq!(plan_work(&log, &found(Some(9), None)), Ok(copy(9, false)));
        assert_eq!(
            plan_work(&log, &found(Some(10), None)),
            Err(Refusal::OtherLog)
        );
    }

    #[test]
    fn what_is_no_copy_is_left_alone() {
        for (last, deleted_at) in [(Some(5), None), (None, Some(5)), (Some(9), Some(5))] {
            let other = Found {
                is_copied: false,
                ..found(last, deleted_at)
            };
            assert_eq!(
                plan_work(&source(Some(9), None), &other),
                Err(Refusal::NotEmpty)
            );
        }
    }

    #[test]
    fn a_channel_that_was_deleted_meanwhile_is_deleted_and_begins_again() {
        let gone = source(None, Some(9));
        assert_eq!(
            plan_work(&gone, &found(Some(5), None)),
            Ok(CopyWork::Delete)
        );
        assert_eq!(plan_work(&gone, &Found::default()), Ok(CopyWork::Delete));
        assert_eq!(
            plan_work(&gone, &found(None, Some(7))),
            Ok(CopyWork::Delete)
        );
        assert_eq!(
            plan_work(&gone, &found(None, Some(9))),
            Ok(CopyWork::Nothing)
        );
        let next = source(Some(12), Some(9));
        assert_eq!(plan_work(&next, &found(Some(5), None)), Ok(copy(9, true)));
        assert_eq!(plan_work(&next, &found(None, Some(9))), Ok(copy(9, false)));
        assert_eq!(
            plan_work(&next, &found(Some(10), Some(9))),
            Ok(copy(10, false))
        );
    }
}

//! The decisions of a write before its items are stored, in the order of the contract.

use sse_proto::EventId;

use super::{AfterDelete, Condition, CreateRule, EndMark, Incarnation, Tombstone, Write, Written};
use crate::broker::{BrokerError, idempotency::AppendOutcome};

/// A channel that exists.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct Existing<'a> {
    pub(in crate::broker) incarnation: Incarnation,
    /// The last id before the end.
    pub(in crate::broker) last: EventId,
    /// Whether an event was ever appended.
    pub(in crate::broker) has_events: bool,
    pub(in crate::broker) end: Option<&'a EndMark>,
}

/// What a write finds.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct Gate<'a> {
    /// The channel; `None` if it does not exist.
    pub(in crate::broker) existing: Option<Existing<'a>>,
    /// The last id of a channel that was forgotten to make room.
    pub(in crate::broker) noted_id: Option<EventId>,
    /// The tombstone of the last incarnation before this one.
    pub(in crate::broker) tombstone: Option<Tombstone>,
    /// The id after which a new channel begins.
    pub(in crate::broker) origin: EventId,
    pub(in crate::broker) create: CreateRule,
    pub(in crate::broker) after_delete: AfterDelete,
}

impl Gate<'_> {
    /// Checks that the channel still has the incarnation that the write belongs to.
    pub(in crate::broker) fn check_incarnation(&self, write: &Write) -> Result<(), BrokerError> {
        let present = self.existing.map(|existing| existing.incarnation);
        match write.incarnation {
            Some(wanted) if present != Some(wanted) => Err(BrokerError::ChannelDeleted),
            _ => Ok(()),
        }
    }

    /// Returns the result of a write whose items are all known; `None` if the write must still close
    /// the channel.
    pub(in crate::broker) fn repeat(
        &self,
        write: &Write,
        outcomes: &[AppendOutcome],
    ) -> Option<Written> {
        let existing = self.existing?;
        let end = match (&write.close, existing.end) {
            (Some(_), None) => return None,
            (Some(reason), Some(end)) if *reason == end.reason => Some(end.id),
            _ => None,
        };
        let last = outcomes.last().map(|outcome| outcome.ids.last);
        Some(Written {
            outcomes: outcomes.to_vec(),
            end,
            newest: end.or(last).unwrap_or(existing.last),
            incarnation: existing.incarnation,
        })
    }

    /// Checks the state of the channel and the condition of the write.
    ///
    /// Returns the result of a write that only closes and finds the channel closed with the same
    /// reason; `None` if the write must be carried out.
    pub(in crate::broker) fn check(&self, write: &Write) -> Result<Option<Written>, BrokerError> {
        if let Some(existing) = self.existing
            && let Some(end) = existing.end
        {
            return close_again(write, existing, end).map(Some);
        }
        self.check_creation()?;
        self.check_condition(write)?;
        Ok(None)
    }

    fn check_creation(&self) -> Result<(), BrokerError> {
        if self.existing.is_some() {
            return Ok(());
        }
        if self.tombstone.is_some() && self.after_delete == AfterDelete::Refuse {
            return Err(BrokerError::DeletedRecently);
        }
        if self.create == CreateRule::Explicit {
            return Err(BrokerError::NoSuchChannel);
        }
        Ok(())
    }

    fn check_condition(&self, write: &Write) -> Result<(), BrokerError> {
        let holds = match write.condition {
            None => true,
            Some(Condition::Newest(id)) => self.known_newest() == Some(id),
            Some(Condition::NoEvent) => match self.existing {
                Some(existing) => !existing.has_events,
                None => self.noted_id.is_none(),
            },
        };
        if holds {
            return Ok(());
        }
        let newest = self.known_newest().unwrap_or(self.origin);
        Err(BrokerError::ConditionFailed { newest })
    }

    /// Returns the newest id that a condition can name.
    fn known_newest(&self) -> Option<EventId> {
        match self.existing {
            Some(existing) => Some(existing.end.map_or(existing.last, |end| end.id)),
            None => self.noted_id,
        }
    }
}

/// Answers a write to a closed channel.
fn close_again(
    write: &Write,
    existing: Existing<'_>,
    end: &EndMark,
) -> Result<Written, BrokerError> {
    if write.items.is_empty() && write.close.as_ref() == Some(&end.reason) {
        return Ok(Written {
            outcomes: Vec::new(),
            end: Some(end.id),
            newest: end.id,
            incarnation: existing.incarnation,
        });
    }
    Err(BrokerError::ChannelClosed {
        reason: end.reason.clone(),
        end: end.id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: EventId = EventId::new(7, 0);

    fn existing(end: Option<&EndMark>) -> Existing<'_> {
        Existing {
            incarnation: Incarnation(3),
            last: NEWEST,
            has_events: true,
            end,
        }
    }

    fn gate(existing: Option<Existing<'_>>) -> Gate<'_> {
        Gate {
            existing,
            noted_id: None,
            tombstone: None,
            origin: EventId::new(1, 0),
            create: CreateRule::Publish,
            after_delete: AfterDelete::Create,
        }
    }

    fn with(condition: Condition) -> Write {
        Write {
            condition: Some(condition),
            ..Write::default()
        }
    }

    fn closing(reason: &str) -> Write {
        Write {
            close: Some(reason.parse().unwrap()),
            ..with(Condition::Newest(EventId::ZERO))
        }
    }

    #[test]
    fn a_condition_names_the_newest_id_or_no_event() {
        let open = gate(Some(existing(None)));
        assert!(matches!(
            open.check(&with(Condition::Newest(NEWEST))),
            Ok(None)
        ));
        for wrong in [Condition::Newest(EventId::new(6, 0)), Condition::NoEvent] {
            let failed = open.check(&with(wrong));
            let is_right =
                matches!(failed, Err(BrokerError::ConditionFailed { newest }) if newest == NEWEST);
            assert!(is_right, "{failed:?}");
        }
        let missing = gate(None);
        assert!(matches!(missing.check(&with(Condition::NoEvent)), Ok(None)));
        assert!(
            missing
                .check(&with(Condition::Newest(EventId::new(1, 0))))
                .is_err()
        );
        let forgotten = Gate {
            noted_id: Some(NEWEST),
            ..missing
        };
        assert!(matches!(
            forgotten.check(&with(Condition::Newest(NEWEST))),
            Ok(None)
        ));
        assert!(forgotten.check(&with(Condition::NoEvent)).is_err());
    }

    #[test]
    fn a_closed_channel_is_closed_before_any_condition_is_checked() {
        let end = EndMark {
            id: EventId::new(8, 0),
            after: NEWEST,
            has_events: true,
            reason: "completed".parse().unwrap(),
        };
        let closed = gate(Some(existing(Some(&end))));
        let again = closed.check(&closing("completed")).unwrap().unwrap();
        assert_eq!((again.end, again.newest), (Some(end.id), end.id));
        for write in [closing("failed"), with(Condition::NoEvent)] {
            let failed = closed.check(&write);
            assert!(
                matches!(failed, Err(BrokerError::ChannelClosed { .. })),
                "{failed:?}"
            );
        }
    }

    #[test]
    fn a_class_decides_about_missing_and_deleted_channels() {
        let tombstone = Tombstone {
            last: NEWEST,
            end: EventId::new(8, 0),
            at: EventId::new(8, 1),
            has_events: true,
        };
        let deleted = Gate {
            tombstone: Some(tombstone),
            ..gate(None)
        };
        assert!(matches!(deleted.check(&Write::default()), Ok(None)));
        let refusing = Gate {
            after_delete: AfterDelete::Refuse,
            ..deleted
        };
        let refused = refusing.check(&Write::default());
        assert!(
            matches!(refused, Err(BrokerError::DeletedRecently)),
            "{refused:?}"
        );
        let explicit = Gate {
            create: CreateRule::Explicit,
            ..gate(None)
        };
        let refused = explicit.check(&Write::default());
        assert!(
            matches!(refused, Err(BrokerError::NoSuchChannel)),
            "{refused:?}"
        );
    }

    #[test]
    fn a_write_belongs_to_one_incarnation() {
        let write = Write {
            incarnation: Some(Incarnation(3)),
            ..Write::default()
        };
        assert!(gate(Some(existing(None))).check_incarnation(&write).is_ok());
        let other = Existing {
            incarnation: Incarnation(4),
            ..existing(None)
        };
        for gate in [gate(None), gate(Some(other))] {
            let refused = gate.check_incarnation(&write);
            assert!(
                matches!(refused, Err(BrokerError::ChannelDeleted)),
                "{refused:?}"
            );
        }
    }
}

//! The row of a channel as memory has it.
//!
//! Most channels are quiet: they have one event or none, so their oldest event is the last one. Such
//! a row takes half the space. Packing loses nothing: a row that is not exactly of this form is kept
//! as it is.

use sse_proto::EventId;

use super::record::ChannelRow;

/// A [`ChannelRow`] in little space.
#[derive(Debug)]
pub(super) struct PackedRow(Form);

#[derive(Debug)]
enum Form {
    Quiet(QuietRow),
    Other(Box<ChannelRow>),
}

#[derive(Debug, Clone, Copy)]
struct QuietRow {
    number: u32,
    bytes: u32,
    /// The newest trimmed id, or the origin if nothing was trimmed.
    trimmed: EventId,
    last: EventId,
    is_trimmed: bool,
    has_event: bool,
}

impl From<ChannelRow> for PackedRow {
    fn from(row: ChannelRow) -> Self {
        let quiet = QuietRow {
            number: row.number,
            bytes: u32::try_from(row.bytes).unwrap_or(u32::MAX),
            trimmed: row.trimmed,
            last: row.last,
            is_trimmed: row.trimmed != row.origin,
            has_event: row.count > 0,
        };
        Self(if quiet.unpack() == row {
            Form::Quiet(quiet)
        } else {
            Form::Other(Box::new(row))
        })
    }
}

impl PackedRow {
    pub(super) fn unpack(&self) -> ChannelRow {
        match &self.0 {
            Form::Quiet(row) => row.unpack(),
            Form::Other(row) => **row,
        }
    }
}

impl QuietRow {
    fn unpack(self) -> ChannelRow {
        ChannelRow {
            number: self.number,
            origin: if self.is_trimmed {
                EventId::ZERO
            } else {
                self.trimmed
            },
            last: self.last,
            trimmed: self.trimmed,
            oldest: if self.has_event {
                self.last
            } else {
                EventId::ZERO
            },
            count: self.has_event.into(),
            bytes: self.bytes.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_quiet(row: ChannelRow) -> bool {
        let packed = PackedRow::from(row);
        assert_eq!(packed.unpack(), row);
        matches!(packed.0, Form::Quiet(_))
    }

    #[test]
    fn a_row_with_at_most_one_event_is_packed_and_every_row_reads_back() {
        assert_eq!(size_of::<PackedRow>(), 48);
        let mut row = ChannelRow::new(7, EventId::new(1, 1));
        assert!(is_quiet(row));
        row.add(EventId::new(2, 0), 100);
        assert!(is_quiet(row));
        let large = ChannelRow {
            bytes: 1 << 40,
            ..row
        };
        assert!(!is_quiet(large));
        row.add(EventId::new(3, 0), 100);
        assert!(!is_quiet(row));
        row.subtract(EventId::new(2, 0), 100);
        row.oldest = EventId::new(3, 0);
        assert!(is_quiet(row) && row.has_had_events());
        row.subtract(EventId::new(3, 0), 100);
        row.oldest = EventId::ZERO;
        assert!(is_quiet(row));
    }
}

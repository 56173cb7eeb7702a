//! An event that a payload produces, and the slot of the schedule that it is produced for.

use super::{event_type::AnyEventType, lane::Lane};

/// Which event it is, and when it was due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventSlot {
    /// Its lane, and its number there.
    pub(crate) lane: Lane,
    /// Microseconds since the Unix epoch.
    pub(crate) due_us: u64,
}

/// An event without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextEvent {
    /// Its type.
    pub(crate) event_type: AnyEventType,
    /// What its data is.
    pub(crate) format: DataFormat,
}

/// What the data of an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataFormat {
    /// JSON on one line.
    Json,
    /// Any text.
    Text,
}

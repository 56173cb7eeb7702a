//! The next event of a payload, and the slot of the schedule that it fills.

use super::{event_type::AnyEventType, lane::Lane};

/// Position of an event in the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventSlot {
    /// Lane of the event, and its number in the lane.
    pub(crate) lane: Lane,
    /// When the event was due, in microseconds since the Unix epoch.
    pub(crate) due_us: u64,
}

/// An event without its data, which is in a buffer of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NextEvent {
    /// Type of the event.
    pub(crate) event_type: AnyEventType,
    /// Format of the data.
    pub(crate) format: DataFormat,
}

/// Format of the data of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataFormat {
    /// JSON on one line.
    Json,
    /// Any text.
    Text,
}

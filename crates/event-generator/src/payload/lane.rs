//! Position of an event within its lane: what a stamp and a record name the event by.
//!
//! The run decides when a lane is free (`run::lanes`).

/// The numbers of the events of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Counts the lanes of a run, from 0.
    pub(crate) number: u32,
    /// The number of the next event in it, or of the first one of a request.
    pub(crate) next: u64,
}

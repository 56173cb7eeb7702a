//! Position of an event in its lane, by which stamps and records name the event.
//!
//! The run decides which lanes are free (`run::lanes`).

/// A lane, and a number in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    /// Number of the lane in the run, from 0.
    pub(crate) number: u32,
    /// Number of the next event in the lane, or of the first event of a request.
    pub(crate) next: u64,
}

//! Counts what waits.

use super::Level;

/// Counts one request in a level while it waits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Level);

impl<'a> Waiting<'a> {
    pub(crate) fn new(level: &'a Level) -> Self {
        level.inc();
        Self(level)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

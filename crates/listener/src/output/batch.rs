//! Events that are written to stdout together, and the position that is stored after them.

use std::io::{self, Write};

use super::{
    state_file::{StateError, StateFile},
    stdout,
};

/// The bytes to write, and the state file.
///
/// A batch is moved to a thread that may block, and is returned empty.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) state: Option<StateFile>,
}

/// An event cannot be printed, or its position cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// stdout cannot be written.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// The events were printed, but their position cannot be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Batch {
    /// Returns `true` if there is a state file and it contains another id.
    pub(super) fn needs_save(&self, last_event_id: &str) -> bool {
        self.state
            .as_ref()
            .is_some_and(|state| state.last_event_id() != Some(last_event_id))
    }

    /// Writes the bytes, then stores the id. Returns the batch, empty, with its memory.
    pub(super) fn write_and_save(
        mut self,
        last_event_id: Option<&str>,
    ) -> Result<Self, OutputError> {
        if !self.bytes.is_empty() {
            self.write_bytes()?;
        }
        if let (Some(state), Some(id)) = (&mut self.state, last_event_id) {
            state.save_id(id)?;
        }
        self.bytes.clear();
        Ok(self)
    }

    fn write_bytes(&mut self) -> Result<(), OutputError> {
        if let Some(state) = &mut self.state {
            state.begin_write()?;
        }
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(&self.bytes)
            .and_then(|()| stdout.flush())
            .map_err(OutputError::Stdout)?;
        if self.state.is_some() {
            stdout::sync_to_disk().map_err(OutputError::Stdout)?;
        }
        Ok(())
    }
}

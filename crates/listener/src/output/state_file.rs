//! The file of `--state`: the last event id, stored between runs of the listener.
//!
//! The file is replaced as a whole (a new file is written, synced and renamed), so that a crash
//! leaves the old or the new content. The id is stored after its event was written to stdout: a
//! crash can repeat an event, but not lose one.
//!
//! The file also contains whether the output may be torn (`clean: false`), because the last run did
//! not end properly. Then the next run ends the unfinished line before it prints its first event.
//!
//! The stream's URLs and channels are part of the file, because the position of one stream means
//! nothing in another one: `state_stream` compares them.
//!
//! ```text
//! {"last_event_id":"1700000000000-0","clean":true,"urls":["http://127.0.0.1:5000/stream"],"channels":["orders"]}
//! ```

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sse_cli::private_file;

use super::state_stream::StateStream;

/// Limit of the size of a state file; no id is that long.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A state file and its content.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// The stream of this run.
    stream: StateStream,
    state: Option<State>,
    /// Held until the end, because two listeners would overwrite each other's position.
    _lock: File,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    last_event_id: String,
    /// The output is complete: no write was interrupted.
    #[serde(default = "default_true")]
    clean: bool,
    /// Files of earlier versions do not have it.
    #[serde(flatten)]
    stream: StateStream,
}

fn default_true() -> bool {
    true
}

/// The position cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file exists but cannot be read.
    #[error("cannot read the state file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file exists but has other content.
    #[error("{} is no state file of the listener: name another file by --state, or remove this one to start without a position", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file has the position of another stream.
    #[error("the state file {} is for {stored}, not for {given}: each stream needs a file of its own; name another file by --state, \
             or remove this one to start without a position", path.display())]
    OtherStream {
        /// The file.
        path: PathBuf,
        /// The stream of the file.
        stored: StateStream,
        /// The stream of this run.
        given: StateStream,
    },
    /// Another listener uses the file.
    #[error("another listener uses the state file {}: each listener needs a file of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot write the state file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl StateFile {
    /// Locks the file, and reads it if it exists.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path, stream: StateStream) -> Result<Self, StateError> {
        let path = path.to_owned();
        let unwritable = |source| StateError::Write {
            path: path.clone(),
            source,
        };
        let lock = create_private(&sibling_path(&path, ".lock")).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::InUse { path }),
            Err(fs::TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        let state = read_state(&path)?;
        if let Some(State { stream: stored, .. }) = &state
            && !stored.may_be(&stream)
        {
            return Err(StateError::OtherStream {
                path,
                stored: stored.clone(),
                given: stream,
            });
        }
        Ok(Self {
            path,
            stream,
            state,
            _lock: lock,
        })
    }

    /// The id in the file. Returns `None` if there is no file yet.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.state
            .as_ref()
            .map(|state| state.last_event_id.as_str())
    }

    /// Returns `true` if the output may be torn, because a write was interrupted.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.state.as_ref().is_some_and(|state| !state.clean)
    }

    /// Marks the output as possibly torn, until [`mark_complete`](Self::mark_complete).
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is unchanged.
    pub fn begin_write(&mut self) -> Result<(), StateError> {
        if self.is_torn() {
            return Ok(());
        }
        let last_event_id = self.last_event_id().unwrap_or_default().to_owned();
        self.replace_file(last_event_id, false)
    }

    /// Stores an id.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is unchanged.
    pub fn save_id(&mut self, last_event_id: &str) -> Result<(), StateError> {
        let clean = !self.is_torn();
        self.replace_file(last_event_id.to_owned(), clean)
    }

    /// Marks the output as complete.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is unchanged.
    pub fn mark_complete(&mut self) -> Result<(), StateError> {
        match self.state.clone() {
            Some(state) if !state.clean => self.replace_file(state.last_event_id, true),
            _ => Ok(()),
        }
    }

    fn replace_file(&mut self, last_event_id: String, clean: bool) -> Result<(), StateError> {
        let state = State {
            last_event_id,
            clean,
            stream: self.stream.clone(),
        };
        let mut text = serde_json::to_vec(&state).expect("strings and a boolean are always JSON");
        text.push(b'\n');
        self.write_file(&text).map_err(|source| StateError::Write {
            path: self.path.clone(),
            source,
        })?;
        self.state = Some(state);
        Ok(())
    }

    fn write_file(&self, text: &[u8]) -> io::Result<()> {
        // A file in the same directory can be renamed.
        let new = sibling_path(&self.path, ".new");
        let mut file = create_private(&new)?;
        if let Ok(old) = fs::metadata(&self.path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text)?;
        // Sync before the rename: otherwise the name could refer to an empty file after a power
        // failure.
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }
}

fn read_state(path: &Path) -> Result<Option<State>, StateError> {
    let bytes = match read_private(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| StateError::Read {
            path: path.to_owned(),
            source,
        })?,
    };
    let state = serde_json::from_slice(&bytes).map_err(|_| StateError::Foreign {
        path: path.to_owned(),
    })?;
    Ok(Some(state))
}

/// Creates the file for its owner only, or empties it. A symbolic link is not followed.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = private_file::options(private_file::PRIVATE);
    let file = options.write(true).create(true).truncate(true).open(path);
    file.map_err(private_file::explain)
}

/// Reads the file. A symbolic link is not followed, and a file that is too large counts as empty.
fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = private_file::options(private_file::PRIVATE);
    let mut file = options
        .read(true)
        .open(path)
        .map_err(private_file::explain)?;
    let mut bytes = Vec::new();
    if file.metadata()?.len() <= FILE_BYTES_MAX {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(ending);
    path.into()
}

#[cfg(test)]
mod tests;

//! The file of `--state`: the last event id, kept from one run of the listener to the next.
//!
//! It is replaced whole (written beside, made durable, renamed), so that a crash leaves the old one or the new one. It
//! is written after the events up to that id have been written to stdout: what a crash loses is the note, not the event.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A larger file is not ours; ids are not that long.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The file, and what is in it.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    saved: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct State {
    last_event_id: String,
}

/// The position cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is a file, but it cannot be read.
    #[error("cannot read the state file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a file, but with something else in it.
    #[error("{} is no state file of the listener: name another one by --state, or move it away to begin anew", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be replaced.
    #[error("cannot write the state file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StateFile {
    /// Reads the file, if there is one, and makes sure that it can be replaced.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let mut file = Self { path: path.to_owned(), saved: None };
        let bytes = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => return Err(StateError::Foreign { path: file.path }),
            Ok(_) => fs::read(path).map_err(|source| file.unreadable(source))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // At once, not after an hour of events.
                File::create(file.beside()).map_err(|source| file.unwritable(source))?;
                return Ok(file);
            }
            Err(source) => return Err(file.unreadable(source)),
        };
        let Ok(state) = serde_json::from_slice::<State>(&bytes) else {
            return Err(StateError::Foreign { path: file.path });
        };
        file.saved = Some(state.last_event_id);
        Ok(file)
    }

    /// The id that is in the file; none if there is no file yet.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.saved.as_deref()
    }

    /// Keeps this id.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is as it was.
    pub fn save(&mut self, last_event_id: &str) -> Result<(), StateError> {
        self.replace(last_event_id).map_err(|source| self.unwritable(source))?;
        self.saved = Some(last_event_id.to_owned());
        Ok(())
    }

    fn replace(&self, last_event_id: &str) -> io::Result<()> {
        let state = State { last_event_id: last_event_id.to_owned() };
        let mut text = serde_json::to_vec(&state).expect("a string is always JSON");
        text.push(b'\n');
        let beside = self.beside();
        let mut file = File::create(&beside)?;
        file.write_all(&text)?;
        // Before the renaming: after a power cut the name could otherwise stand for an empty file.
        file.sync_data()?;
        fs::rename(&beside, &self.path)
    }

    /// In the same directory, so that it can be renamed.
    fn beside(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".new");
        path.into()
    }

    fn unreadable(&self, source: io::Error) -> StateError {
        StateError::Read { path: self.path.clone(), source }
    }

    fn unwritable(&self, source: io::Error) -> StateError {
        StateError::Write { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.state");
        let mut state = StateFile::open(&path).unwrap();
        assert_eq!(state.last_event_id(), None);
        for id in ["", "1700-0", "a \"b\" é"] {
            state.save(id).unwrap();
            assert_eq!(StateFile::open(&path).unwrap().last_event_id(), Some(id));
        }
        let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["orders.state"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"last_event_id\":\"a \\\"b\\\" é\"}\n");
    }

    #[test]
    fn what_is_no_state_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for foreign in ["", "1700-0\n", "{}", "[1]"] {
            fs::write(&path, foreign).unwrap();
            let error = StateFile::open(&path).unwrap_err();
            assert!(matches!(error, StateError::Foreign { .. }), "{foreign:?}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_known_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let error = StateFile::open(&directory.path().join("absent").join("state")).unwrap_err();
        assert!(matches!(error, StateError::Write { .. }), "{error}");
        assert!(matches!(StateFile::open(directory.path()), Err(StateError::Read { .. })));
    }
}

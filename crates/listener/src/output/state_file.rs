//! The file of `--state`: the last event id, kept from one run of the listener to the next.
//!
//! It is replaced whole (written beside, made durable, renamed), so that a crash leaves the old one or the new one. It
//! is written after the events up to that id have been written to stdout: what a crash loses is the note, not the event.
//! It also notes whether what was written may be torn, because the listener did not come to its end: then the next run
//! must not begin its first line where the last one broke off.

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
    state: Option<State>,
    /// Held as long as this listener lives: two would overwrite each other's position.
    _lock: File,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    last_event_id: String,
    /// The listener ended when all that it had begun to write was written.
    #[serde(default = "default_true")]
    clean: bool,
}

fn default_true() -> bool {
    true
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
    /// Somebody else keeps his position in it.
    #[error("another listener uses the state file {}: give each its own", path.display())]
    InUse {
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
    /// Reads the file, if there is one, and makes sure that it is ours alone.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        // Where a link leads, so that it stays a link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let unwritable = |source| StateError::Write {
            path: path.clone(),
            source,
        };
        let lock = File::create(sibling_path(&path, ".lock")).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::InUse { path }),
            Err(fs::TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        let state = read_state(&path)?;
        Ok(Self {
            path,
            state,
            _lock: lock,
        })
    }

    /// The id that is in the file; none if there is no file yet.
    #[must_use]
    pub fn last_event_id(&self) -> Option<&str> {
        self.state
            .as_ref()
            .map(|state| state.last_event_id.as_str())
    }

    /// Whether what was written last may be torn: whoever wrote it did not come to its end.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.state.as_ref().is_some_and(|state| !state.clean)
    }

    /// From now on what is written may be torn, until [`mark_complete`](Self::mark_complete).
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is as it was.
    pub fn begin_write(&mut self) -> Result<(), StateError> {
        if self.is_torn() {
            return Ok(());
        }
        let last_event_id = self.last_event_id().unwrap_or_default().to_owned();
        self.replace_file(State {
            last_event_id,
            clean: false,
        })
    }

    /// Keeps this id.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is as it was.
    pub fn save_id(&mut self, last_event_id: &str) -> Result<(), StateError> {
        let clean = !self.is_torn();
        self.replace_file(State {
            last_event_id: last_event_id.to_owned(),
            clean,
        })
    }

    /// All that was begun is written.
    ///
    /// # Errors
    /// [`StateError::Write`]; the file is as it was.
    pub fn mark_complete(&mut self) -> Result<(), StateError> {
        match self.state.clone() {
            Some(state) if !state.clean => self.replace_file(State {
                clean: true,
                ..state
            }),
            _ => Ok(()),
        }
    }

    fn replace_file(&mut self, state: State) -> Result<(), StateError> {
        let mut text = serde_json::to_vec(&state).expect("a string and a truth are always JSON");
        text.push(b'\n');
        self.write_file(&text).map_err(|source| StateError::Write {
            path: self.path.clone(),
            source,
        })?;
        self.state = Some(state);
        Ok(())
    }

    fn write_file(&self, text: &[u8]) -> io::Result<()> {
        // In the same directory, so that it can be renamed.
        let new = sibling_path(&self.path, ".new");
        let mut file = File::create(&new)?;
        if let Ok(old) = fs::metadata(&self.path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(text)?;
        // Before the renaming: after a power cut the name could otherwise stand for an empty file.
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }
}

fn read_state(path: &Path) -> Result<Option<State>, StateError> {
    let bytes = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => Ok(Vec::new()),
        Ok(_) => fs::read(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    };
    let bytes = bytes.map_err(|source| StateError::Read {
        path: path.to_owned(),
        source,
    })?;
    let state = serde_json::from_slice(&bytes).map_err(|_| StateError::Foreign {
        path: path.to_owned(),
    })?;
    Ok(Some(state))
}

fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(ending);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.state");
        assert_eq!(StateFile::open(&path).unwrap().last_event_id(), None);
        for id in ["", "1700-0", "a \"b\" é"] {
            StateFile::open(&path).unwrap().save_id(id).unwrap();
            assert_eq!(StateFile::open(&path).unwrap().last_event_id(), Some(id));
        }
        assert!(!directory.path().join("orders.state.new").exists());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"last_event_id\":\"a \\\"b\\\" é\",\"clean\":true}\n"
        );
    }

    #[test]
    fn what_was_begun_may_be_torn_until_it_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::write(&path, "{\"last_event_id\":\"1-0\"}").unwrap();
        let mut state = StateFile::open(&path).unwrap();
        assert!(!state.is_torn());
        state.begin_write().unwrap();
        state.save_id("2-0").unwrap();
        drop(state);
        let mut state = StateFile::open(&path).unwrap();
        assert!(state.is_torn() && state.last_event_id() == Some("2-0"));
        state.mark_complete().unwrap();
        drop(state);
        assert!(!StateFile::open(&path).unwrap().is_torn());
    }

    #[test]
    fn a_file_is_one_listeners_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = StateFile::open(&path).unwrap();
        assert!(matches!(
            StateFile::open(&path),
            Err(StateError::InUse { .. })
        ));
        drop(first);
        assert!(StateFile::open(&path).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_and_the_rights_of_a_file_stay_what_they_are() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        fs::write(&real, "{\"last_event_id\":\"1-0\"}").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        StateFile::open(&link).unwrap().save_id("2-0").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&real).unwrap().contains("2-0"));
        assert_eq!(
            fs::metadata(&real).unwrap().permissions().mode() & 0o777,
            0o640
        );
    }

    #[test]
    fn what_is_no_state_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        for foreign in ["", "1700-0\n", "{}", "[1]"] {
            fs::write(&path, foreign).unwrap();
            let error = StateFile::open(&path).unwrap_err();
            assert!(
                matches!(error, StateError::Foreign { .. }),
                "{foreign:?}: {error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_known_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let error = StateFile::open(&directory.path().join("absent").join("state")).unwrap_err();
        assert!(matches!(error, StateError::Write { .. }), "{error}");
        assert!(matches!(
            StateFile::open(directory.path()),
            Err(StateError::Read { .. })
        ));
        fs::remove_file(sibling_path(
            &fs::canonicalize(directory.path()).unwrap(),
            ".lock",
        ))
        .unwrap();
    }
}

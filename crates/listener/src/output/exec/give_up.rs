//! The file of `--exec-give-up`, to which events are appended that the command cannot handle.

use std::{
    fs::File,
    io::{self, Write as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use sse_cli::private_file::{self, PRIVATE};

use crate::{decode::decoder::Event, output::printer::to_json, settings::exec::GiveUpSettings};

/// The file cannot be opened or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the event to {}", path.display())]
pub struct GiveUpError {
    path: PathBuf,
    source: io::Error,
}

/// The open file.
#[derive(Debug)]
pub struct GiveUp {
    attempts: NonZeroU32,
    path: PathBuf,
    file: File,
}

impl GiveUp {
    /// Opens the file, and creates it if it does not exist.
    pub(super) fn open(settings: GiveUpSettings) -> Result<Self, GiveUpError> {
        let GiveUpSettings { attempts, file } = settings;
        let mut options = private_file::options(PRIVATE);
        let opened = options.append(true).create(true).open(&file);
        match opened.map_err(private_file::explain) {
            Ok(opened) => Ok(Self {
                attempts,
                path: file,
                file: opened,
            }),
            Err(source) => Err(GiveUpError { path: file, source }),
        }
    }

    /// Attempts per event.
    pub(super) const fn attempts(&self) -> u32 {
        self.attempts.get()
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an event. It is on disk when this returns.
    pub(super) fn append(&mut self, event: &Event) -> Result<(), GiveUpError> {
        let mut line = to_json(event);
        line.push('\n');
        let written = self.file.write_all(line.as_bytes());
        let synced = written.and_then(|()| match self.file.sync_all() {
            // A pipe and a terminal cannot be synced.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        });
        synced.map_err(|source| GiveUpError {
            path: self.path.clone(),
            source,
        })
    }
}

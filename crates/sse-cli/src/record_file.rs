//! A record file: one JSON object per line (`sse_proto::record`).
//!
//! Lines go to the operating system as soon as they are complete, so that a program that is killed
//! leaves whole lines of everything that it knew.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::private_file;

/// An open record file.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    file: File,
    lines: Vec<u8>,
}

/// Why the record is incomplete: it must not be used to count loss.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be created.
    #[error("cannot create the record file {}", path.display())]
    Create {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A line could not be written, for example because the disk is full.
    #[error("cannot write to the record file {}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

impl RecordFile {
    /// Creates the file for its owner only, or empties it. A symbolic link is not followed.
    ///
    /// # Errors
    ///
    /// [`RecordError::Create`].
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let (path, lines) = (path.to_owned(), Vec::new());
        let mut options = private_file::options(private_file::PRIVATE);
        match options.write(true).create(true).truncate(true).open(&path) {
            Ok(file) => Ok(Self { path, file, lines }),
            Err(error) => Err(RecordError::Create {
                path,
                source: private_file::explain(error),
            }),
        }
    }

    /// Adds a line, which [`write_lines`](Self::write_lines) writes.
    ///
    /// # Panics
    ///
    /// If `line` cannot be represented as JSON: the lines of `sse_proto::record` always can.
    pub fn push_line(&mut self, line: &impl Serialize) {
        serde_json::to_writer(&mut self.lines, line).expect("strings and numbers are always JSON");
        self.lines.push(b'\n');
    }

    /// Writes the lines that were added, as one write: a reader of the file sees whole lines.
    ///
    /// # Errors
    ///
    /// [`RecordError::Write`].
    pub fn write_lines(&mut self) -> Result<(), RecordError> {
        let written = self.file.write_all(&self.lines);
        self.lines.clear();
        written.map_err(|source| RecordError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_in_the_file_as_soon_as_they_are_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("record");
        std::fs::write(&path, "of an earlier run\n").expect("a file");
        let mut record = RecordFile::create(&path).expect("a file");
        record.push_line(&1);
        record.push_line(&"a\nb");
        record.write_lines().expect("written");
        record.push_line(&2);
        record.write_lines().expect("written");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(text, "1\n\"a\\nb\"\n2\n");
    }

    #[test]
    fn a_file_that_cannot_be_created_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = RecordFile::create(&directory.path().join("absent").join("record"))
            .expect_err("no such directory");
        assert!(error.to_string().contains("absent/record"), "{error}");
    }
}

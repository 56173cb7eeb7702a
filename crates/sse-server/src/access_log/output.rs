//! The file or stdout that the access log is written to.
//!
//! Lines are appended whole. If a write fails in the middle of a line, the rest of that line is the
//! first thing that the next write writes, so a full disk leaves no torn line behind.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};

use super::AccessLogTarget;

/// Time between two checks whether the file was moved.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before the next write to a pipe that has no room and does not block.
const PIPE_PAUSE: Duration = Duration::from_millis(10);

/// An open access log.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    /// `None` for stdout.
    watched: Option<WatchedPath>,
    /// The lines to write next.
    pub(super) buffer: Vec<u8>,
    /// The buffer begins with the rest of a line.
    is_line_begun: bool,
}

/// The path of the file, which a rotation may give to another file.
#[derive(Debug)]
struct WatchedPath {
    path: PathBuf,
    next_check: Instant,
}

/// Lines that could not be written.
#[derive(Debug)]
pub(super) struct DroppedLines {
    pub(super) lines: usize,
    pub(super) error: io::Error,
}

impl Output {
    /// Opens `target` for appending; a new file can be read by its owner only.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or created; the message contains advice.
    pub(super) fn open(target: &AccessLogTarget) -> anyhow::Result<Self> {
        Ok(match target {
            AccessLogTarget::Stdout => {
                Self::new(open_stdout().context("cannot open stdout")?, None)
            }
            AccessLogTarget::File(path) => {
                let file = open_file(path).map_err(|error| {
                    let advice = advice(&error);
                    let path = path.display();
                    let context = format!("cannot open the access log {path}: {advice}");
                    anyhow::Error::new(error).context(context)
                })?;
                Self::new(file, Some(path.clone()))
            }
        })
    }

    fn new(file: File, path: Option<PathBuf>) -> Self {
        let next_check = Instant::now() + CHECK_INTERVAL;
        Self {
            file,
            watched: path.map(|path| WatchedPath { path, next_check }),
            buffer: Vec::new(),
            is_line_begun: false,
        }
    }

    /// Opens the path again if the file was moved or removed, at most once per
    /// [`CHECK_INTERVAL`].
    ///
    /// # Errors
    ///
    /// The path cannot be opened. The old file remains open.
    pub(super) fn reopen_if_moved(&mut self) -> io::Result<()> {
        let Some(watched) = &mut self.watched else {
            return Ok(());
        };
        let now = Instant::now();
        if now < watched.next_check {
            return Ok(());
        }
        watched.next_check = now + CHECK_INTERVAL;
        if is_same_file(&self.file, &watched.path) {
            return Ok(());
        }
        self.file = open_file(&watched.path)?;
        // The rest of a begun line belongs to the old file.
        self.buffer.clear();
        self.is_line_begun = false;
        Ok(())
    }

    /// Writes the buffer.
    ///
    /// # Errors
    ///
    /// The lines that were dropped, and why.
    pub(super) fn flush(&mut self) -> Result<(), DroppedLines> {
        let mut written = 0;
        while written < self.buffer.len() {
            match self.file.write(&self.buffer[written..]) {
                Ok(0) => return Err(self.drop_unwritten(written, ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PIPE_PAUSE),
                Err(error) => return Err(self.drop_unwritten(written, error)),
            }
        }
        self.buffer.clear();
        self.is_line_begun = false;
        Ok(())
    }

    /// Makes the next check due.
    #[cfg(test)]
    pub(super) fn check_now(&mut self) {
        if let Some(watched) = &mut self.watched {
            watched.next_check = Instant::now();
        }
    }

    /// Drops all lines except the rest of a line that is written in part.
    pub(super) fn drop_unwritten(&mut self, written: usize, error: io::Error) -> DroppedLines {
        if written > 0 {
            self.is_line_begun = self.buffer[written - 1] != b'\n';
        }
        self.buffer.drain(..written);
        let rest = if self.is_line_begun {
            memchr::memchr(b'\n', &self.buffer).map_or(self.buffer.len(), |end| end + 1)
        } else {
            0
        };
        let lines = memchr::memchr_iter(b'\n', &self.buffer[rest..]).count();
        self.buffer.truncate(rest);
        DroppedLines { lines, error }
    }
}

/// Opens stdout without the buffer of the standard library.
fn open_stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(0o600);
    // Without this flag, the open waits for a program that reads the named pipe.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.custom_flags(flags).open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)?.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

fn advice(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
        return "no program reads this pipe; start the reader first";
    }
    match error.kind() {
        ErrorKind::NotFound => "create its directory, or choose another file with --access-log",
        ErrorKind::IsADirectory => "name a file in this directory with --access-log",
        _ => "let the server write to it, or choose another file with --access-log",
    }
}

/// Whether `path` still leads to `file`. Returns `true` if that is unknown.
fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(found)) => (open.dev(), open.ino()) == (found.dev(), found.ino()),
        (_, Err(error)) => error.kind() != ErrorKind::NotFound,
        (Err(_), Ok(_)) => true,
    }
}

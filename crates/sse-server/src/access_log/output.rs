//! The file or stdout that the access log is written to, and the file of the audit log.
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

/// Which log an output belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogName {
    /// The name in messages.
    pub(crate) name: &'static str,
    /// The flag that names the file.
    pub(crate) flag: &'static str,
    /// Whether the path may be a symbolic link.
    pub(crate) follows_links: bool,
}

/// The log of requests.
pub(super) const ACCESS_LOG: LogName = LogName {
    name: "access log",
    flag: "--access-log",
    follows_links: true,
};

/// An open log.
#[derive(Debug)]
pub(crate) struct Output {
    log: LogName,
    file: File,
    /// `None` for stdout.
    watched: Option<WatchedPath>,
    /// The lines to write next.
    pub(crate) buffer: Vec<u8>,
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
pub(crate) struct DroppedLines {
    pub(crate) lines: usize,
    pub(crate) error: io::Error,
}

impl Output {
    /// Opens `target` for appending; a new file can be read by its owner only.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or created; the message contains advice.
    pub(super) fn open(target: &AccessLogTarget) -> anyhow::Result<Self> {
        match target {
            AccessLogTarget::Stdout => {
                let stdout = open_stdout().context("cannot open stdout")?;
                Ok(Self::new(ACCESS_LOG, stdout, None))
            }
            AccessLogTarget::File(path) => Self::open_file(ACCESS_LOG, path),
        }
    }

    /// Opens a file for appending; a new one can be read by its owner only.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or created; the message contains advice.
    pub(crate) fn open_file(log: LogName, path: &Path) -> anyhow::Result<Self> {
        let file = open_file(path, log.follows_links).map_err(|error| {
            let context = format!(
                "cannot open the {} {}: {}",
                log.name,
                path.display(),
                advice(&error, log.flag)
            );
            anyhow::Error::new(error).context(context)
        })?;
        Ok(Self::new(log, file, Some(path.to_owned())))
    }

    /// Whether users other than its owner can read the file.
    pub(crate) fn is_open_to_others(&self) -> bool {
        let metadata = self.file.metadata();
        metadata.is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
    }

    fn new(log: LogName, file: File, path: Option<PathBuf>) -> Self {
        let next_check = Instant::now() + CHECK_INTERVAL;
        Self {
            log,
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
    pub(crate) fn reopen_if_moved(&mut self) -> io::Result<()> {
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
        self.file = open_file(&watched.path, self.log.follows_links)?;
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
    pub(crate) fn flush(&mut self) -> Result<(), DroppedLines> {
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
    pub(crate) fn check_now(&mut self) {
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

fn open_file(path: &Path, follows_links: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(0o600);
    // Without this flag, the open waits for a program that reads the named pipe.
    let mut flags = OFlags::NONBLOCK;
    flags.set(OFlags::NOFOLLOW, !follows_links);
    let flags = flags.bits().cast_signed();
    let file = options.custom_flags(flags).open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)?.difference(OFlags::NONBLOCK))?;
    Ok(file)
}

fn advice(error: &io::Error, flag: &str) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NXIO) => {
            return "no program reads this pipe; start the reader first".to_owned();
        }
        Some(Errno::LOOP) => {
            return format!("this is a symbolic link; name the file itself with {flag}");
        }
        _ => {}
    }
    match error.kind() {
        ErrorKind::NotFound => {
            format!("create its directory, or choose another file with {flag}")
        }
        ErrorKind::IsADirectory => format!("name a file in this directory with {flag}"),
        _ => format!("let the server write to it, or choose another file with {flag}"),
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

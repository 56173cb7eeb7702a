//! stderr as the destination of the log: a line that cannot be written at once is dropped.
//!
//! Every thread logs, also one on which all clients depend. So a log line must not wait: a pipe
//! whose reader has stopped would block its writer for ever. Nor may it fail: stderr can be closed,
//! or its disk full. A line is written only if stderr has room for it, and a metric counts the
//! lines that are dropped.

use std::{
    io::{self, Write},
    sync::{LazyLock, Mutex, PoisonError, atomic::AtomicU64},
};

use prometheus_client::metrics::counter::Counter;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
};

/// Bytes that fit into a pipe or a socket that is ready for writing (`PIPE_BUF` of Linux).
const PART_BYTES: usize = 4096;

/// Returns the counter of dropped lines. There is one, because the process has one stderr.
pub(crate) fn dropped_lines() -> Counter<u64, AtomicU64> {
    static DROPPED: LazyLock<Counter<u64, AtomicU64>> = LazyLock::new(Counter::default);
    DROPPED.clone()
}

/// Writes lines to stderr.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    /// Writes one line. Never fails, and never waits for the reader of a pipe.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        static STDERR: Mutex<Lines> = Mutex::new(Lines::new());
        let mut lines = STDERR.lock().unwrap_or_else(PoisonError::into_inner);
        if !lines.write(&io::stderr(), line) {
            dropped_lines().inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that were written so far.
#[derive(Debug)]
struct Lines {
    /// The last line was written in part.
    is_torn: bool,
}

impl Lines {
    const fn new() -> Self {
        Self { is_torn: false }
    }

    /// Returns whether the whole line was written.
    fn write<F: AsFd>(&mut self, file: &F, line: &[u8]) -> bool {
        if self.is_torn && !write_part(file, b"\n") {
            return false;
        }
        self.is_torn = false;
        for (nth, part) in line.chunks(PART_BYTES).enumerate() {
            if !write_part(file, part) {
                self.is_torn = nth > 0;
                return false;
            }
        }
        true
    }
}

/// Writes at most [`PART_BYTES`] without waiting.
fn write_part<F: AsFd>(file: &F, mut part: &[u8]) -> bool {
    while !part.is_empty() {
        if !has_room(file) {
            return false;
        }
        match rustix::io::write(file, part) {
            Ok(count) if count > 0 => part = &part[count..],
            Err(rustix::io::Errno::INTR) => {}
            _ => return false,
        }
    }
    true
}

/// Whether a write does not wait. A file is always ready.
fn has_room<F: AsFd>(file: &F) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(file, PollFlags::OUT)];
    match poll(&mut polled, Some(&now)) {
        Ok(_) => polled[0].revents().contains(PollFlags::OUT),
        // Some files cannot be polled.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_pipe_that_is_not_read_takes_what_fits_and_no_write_waits() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut lines = Lines::new();
        let line = [b"x".repeat(10_000), b"\n".to_vec()].concat();
        let mut written = 0;
        while lines.write(&writer, &line) {
            written += 1;
        }
        assert!(written > 0);
        assert!(!lines.write(&writer, b"dropped\n"));
        // The reader continues, and so does the log, with a new line.
        let mut read = vec![0; written * line.len()];
        reader.read_exact(&mut read).expect("the lines so far");
        assert!(lines.write(&writer, b"after\n"));
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        assert!(
            rest.ends_with("after\n") && !rest.contains("dropped"),
            "{rest}"
        );
        let before = rest.trim_end_matches("after\n");
        assert!(before.is_empty() || before.ends_with("x\n"), "{rest}");
    }

    #[test]
    fn a_closed_pipe_and_a_full_disk_drop_lines() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        assert!(!Lines::new().write(&writer, b"line\n"));
        if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
            assert!(!Lines::new().write(&full, b"line\n"));
        }
    }
}

//! stdout: the status code of each response, one per line, as the tutorial's `events.py` prints them.
//!
//! A thread of its own writes the lines, so that a pipe that is not read cannot delay the schedule:
//! lines that do not fit the queue are dropped and counted. A closed pipe ends the run without an
//! error.

use std::{
    future,
    io::{self, BufWriter, Write as _},
    thread,
};

use hyper::StatusCode;
use tokio::sync::{
    mpsc::{self, Receiver, Sender},
    oneshot,
};

/// Highest number of lines in the queue.
const LINES_MAX: usize = 10_000;

/// Prints status codes, or does nothing.
#[derive(Debug)]
pub(crate) struct StatusLines {
    printer: Option<Printer>,
    dropped: u64,
}

#[derive(Debug)]
struct Printer {
    lines: Sender<StatusCode>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Printer {
    fn start() -> Self {
        let (lines, to_print) = mpsc::channel(LINES_MAX);
        let (end, ended) = oneshot::channel();
        // Sending fails if the run has given up on stdout.
        thread::spawn(move || end.send(print_lines(to_print)));
        Self { lines, ended }
    }
}

impl StatusLines {
    /// Starts the thread if `enabled`.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            printer: enabled.then(Printer::start),
            dropped: 0,
        }
    }

    /// Queues a line. Never waits.
    pub(crate) fn push(&mut self, status: StatusCode) {
        if let Some(printer) = &self.printer
            && let Err(mpsc::error::TrySendError::Full(_)) = printer.lines.try_send(status)
        {
            self.dropped += 1;
        }
    }

    /// Waits until stdout is closed or fails.
    pub(crate) async fn closed(&self) {
        match &self.printer {
            Some(printer) => printer.lines.closed().await,
            None => future::pending().await,
        }
    }

    /// Waits until all lines are written: for ever, if stdout is not read.
    ///
    /// # Errors
    ///
    /// stdout failed in another way than being closed.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        let Some(Printer { lines, ended }) = self.printer.take() else {
            return Ok(());
        };
        drop(lines);
        match ended.await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns the number of dropped lines.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn print_lines(mut lines: Receiver<StatusCode>) -> io::Result<()> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    while let Some(status) = lines.blocking_recv() {
        writeln!(stdout, "{}", status.as_str())?;
        while let Ok(status) = lines.try_recv() {
            writeln!(stdout, "{}", status.as_str())?;
        }
        stdout.flush()?;
    }
    Ok(())
}

//! stdout: the status code of each answer, a line each, as the tutorial's `events.py` prints them.
//!
//! A thread of its own writes them, so that a pipe that nobody empties cannot hold up the schedule: lines beyond the
//! queue are left out and counted. A closed pipe is an end, not a failure.

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

/// Lines that may wait for whoever reads stdout.
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

impl StatusLines {
    /// Does nothing unless `enabled`.
    pub(crate) fn new(enabled: bool) -> Self {
        let start = || {
            let (lines, to_print) = mpsc::channel(LINES_MAX);
            let (end, ended) = oneshot::channel();
            // Nobody waits for the receiver if this fails: the run has given up on stdout.
            thread::spawn(move || end.send(print_lines(to_print)));
            Printer { lines, ended }
        };
        Self {
            printer: enabled.then(start),
            dropped: 0,
        }
    }

    /// Prints a line soon. Never waits.
    pub(crate) fn push(&mut self, status: StatusCode) {
        if let Some(printer) = &self.printer
            && let Err(mpsc::error::TrySendError::Full(_)) = printer.lines.try_send(status)
        {
            self.dropped += 1;
        }
    }

    /// Ends when stdout takes no more lines.
    pub(crate) async fn closed(&self) {
        match &self.printer {
            Some(printer) => printer.lines.closed().await,
            None => future::pending().await,
        }
    }

    /// Waits until all lines are written. Can take for ever, if nobody reads them.
    ///
    /// # Errors
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

    /// How many lines were not printed because too many were waiting.
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

//! A copy of the log of a running server, which catches up until the switch.
//!
//! ```text
//! pass 1   all channels                      everything up to id A is copied
//! pass 2   channels that changed after A     everything up to id B is copied
//! …        until a signal, or until the server has stopped
//! the last pass: all channels, with what has no id (settings), and each is compared
//! ```

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use sse_proto::EventId;
use tokio::time::sleep;

use super::{CopyError, Copying, Source, report, signals::Signals};

/// Shortest pause between two passes.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// A pause is this many times as long as the list of the pass before, so that a log of very many
/// channels is not searched all the time.
const PAUSE_FACTOR: u32 = 4;
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a server may not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a copy ended its passes.
pub(super) enum Followed {
    /// A signal has come, because the operator switches now. The server still runs.
    Switch,
    /// The server has stopped, and this is its log.
    ServerStopped(Source),
}

/// Copies what is published, until there is a reason for the last pass.
pub(super) async fn follow(
    copying: &Copying,
    data_dir: Option<&Path>,
    signals: &mut Signals,
) -> Result<Followed, CopyError> {
    let mut progress = Progress::new();
    loop {
        let started = Instant::now();
        // A pass that is dropped has copied some pages more, which is no harm.
        let pass = tokio::select! {
            pass = copying.pass(progress.copied) => pass,
            () = signals.next() => return progress.switch(),
        };
        let pause = match pass {
            Ok(highest) => {
                progress.record(highest, started.elapsed());
                (started.elapsed() * PAUSE_FACTOR).clamp(PAUSE_MIN, PAUSE_MAX)
            }
            Err(CopyError::Unreachable(why)) => {
                if let Some(log) = data_dir.map(Source::open) {
                    match log {
                        Ok(log) => return Ok(Followed::ServerStopped(log)),
                        Err(CopyError::InUse(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                progress.check_patience(why, started)?;
                PAUSE_MIN
            }
            Err(error) => return Err(error),
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = signals.next() => return progress.switch(),
        }
    }
}

/// How far the copy is.
struct Progress {
    /// Everything up to this id is copied.
    copied: Option<EventId>,
    /// Since when no pass gets an answer.
    silent_since: Option<Instant>,
    reported: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self {
            copied: None,
            silent_since: None,
            reported: None,
        }
    }

    /// Records that everything up to `highest` is copied, by a pass that took `took`.
    fn record(&mut self, highest: EventId, took: Duration) {
        self.copied = Some(highest);
        self.silent_since = None;
        if self
            .reported
            .is_none_or(|reported| reported.elapsed() >= report::INTERVAL)
        {
            self.reported = Some(Instant::now());
            // Progress is not needed to know the result.
            let _ = writeln!(
                std::io::stderr(),
                "caught up: everything up to the id {highest} is copied, and the copy is {} ms behind",
                took.as_millis()
            );
        }
    }

    /// A signal before the first pass has ended is no switch: too much is missing.
    const fn switch(&self) -> Result<Followed, CopyError> {
        match self.copied {
            Some(_) => Ok(Followed::Switch),
            None => Err(CopyError::Interrupted),
        }
    }

    /// Returns the error with which a copy ends if the server is silent for too long. `started` is the
    /// start of the pass that failed.
    fn check_patience(&mut self, why: String, started: Instant) -> Result<(), CopyError> {
        // A long pass had answers before.
        if started.elapsed() > PAUSE_MIN {
            self.silent_since = None;
        }
        if self.silent_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            return Ok(());
        }
        let copied = self
            .copied
            .map_or_else(|| "nothing".to_owned(), |id| format!("up to the id {id}"));
        Err(CopyError::ServerGone { why, copied })
    }
}

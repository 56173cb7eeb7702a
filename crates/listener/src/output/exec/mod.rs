//! `--exec`: a command handles each event, one at a time.
//!
//! An event is done when its command ends with exit code 0, or when it was written to the file of
//! `--exec-give-up`. Only then is its position stored, and the next event handled. Meanwhile the
//! listener reads nothing from the server, which keeps the events.
//!
//! | module | holds |
//! |---|---|
//! | [`process`] | one run of the command |
//! | [`give_up`] | the file for events that the command cannot handle |

pub mod give_up;
pub mod process;

use std::time::Duration;

use sse_cli::backoff::Backoff;
use tokio::time::sleep;

use self::{
    give_up::{GiveUp, GiveUpError},
    process::{ExecFailure, Run},
};
use crate::{decode::decoder::Event, output::stderr, settings::exec::ExecSettings};

/// Pauses between attempts. The command may depend on another service, which is back soon.
const BACKOFF: Backoff = Backoff {
    pause_min: Duration::from_secs(1),
    pause_max: Duration::from_mins(1),
};

/// Runs the command.
#[derive(Debug)]
pub struct Exec {
    command: String,
    timeout: Duration,
    /// The channel of all events; `None` if there are several, or if the server has others.
    channel: Option<String>,
    give_up: Option<GiveUp>,
}

impl Exec {
    /// Opens the file of `--exec-give-up`. Returns `None` without `--exec`.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn new(
        settings: &ExecSettings,
        channel: Option<String>,
    ) -> Result<Option<Self>, GiveUpError> {
        let Some(command) = &settings.exec else {
            return Ok(None);
        };
        // The settings were checked when they were read.
        let give_up = settings.give_up().unwrap_or_default();
        Ok(Some(Self {
            command: command.clone(),
            timeout: settings.exec_timeout,
            channel,
            give_up: give_up.map(GiveUp::open).transpose()?,
        }))
    }

    /// Handles an event. Returns when the event is done.
    ///
    /// # Errors
    ///
    /// The file of `--exec-give-up` cannot be written.
    pub async fn handle(&mut self, event: &Event) -> Result<(), GiveUpError> {
        for failures in 0_u32.. {
            let Err(failure) = self.run(event).await else {
                return Ok(());
            };
            let attempts = failures.saturating_add(1);
            if let Some(give_up) = &mut self.give_up
                && attempts >= give_up.attempts()
            {
                give_up.append(event)?;
                report_given_up(event, &failure, attempts, give_up);
                return Ok(());
            }
            let pause = BACKOFF.pause_after(failures);
            report_failure(event, &failure, attempts, pause);
            sleep(pause).await;
        }
        Ok(())
    }

    async fn run(&self, event: &Event) -> Result<(), ExecFailure> {
        let run = Run {
            command: &self.command,
            channel: self.channel.as_deref(),
            timeout: self.timeout,
        };
        run.run(event).await
    }
}

fn report_failure(event: &Event, failure: &ExecFailure, attempts: u32, pause: Duration) {
    stderr::log_line(format_args!(
        "event {}: the command {failure} (attempt {attempts}); next attempt in {pause:?}",
        event.id
    ));
}

fn report_given_up(event: &Event, failure: &ExecFailure, attempts: u32, give_up: &GiveUp) {
    stderr::log_line(format_args!(
        "event {}: the command {failure} (attempt {attempts}); the event is in {}",
        event.id,
        give_up.path().display()
    ));
}

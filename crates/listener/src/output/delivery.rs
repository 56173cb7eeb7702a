//! Delivery of received events: an event is recorded, printed or handled by a command, and counted;
//! a gap is recorded and reported.

use std::{io, ops::ControlFlow};

use sse_cli::record_file::RecordError;

use crate::{
    decode::{decoder::Event, gap},
    output::{
        batch::OutputError,
        exec::{Exec, give_up::GiveUpError},
        printer::Printer,
        record::Record,
        state_file::StateFile,
        stderr,
        until_end::UntilEnd,
    },
    settings::follow::FollowSettings,
};

/// The destinations of events.
#[derive(Debug)]
pub struct Delivery {
    pub(crate) printer: Printer,
    record: Option<Record>,
    /// Handles events instead of the printer.
    exec: Option<Exec>,
    until_end: Option<UntilEnd>,
    /// Number of events until the end; `None` if there is no limit.
    remaining: Option<u64>,
}

/// An event cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The record file cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The event cannot be printed, or its position cannot be stored.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The file of `--exec-give-up` cannot be written.
    #[error(transparent)]
    GiveUp(#[from] GiveUpError),
}

impl DeliveryError {
    /// Returns `true` if stdout is a closed pipe, as after `listener | head -2`.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(OutputError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Delivery {
    /// Opens the destinations of the settings. `state` stores the position.
    ///
    /// # Errors
    /// [`RecordError::Create`], or the file of `--exec-give-up` cannot be opened.
    pub fn new(settings: &FollowSettings, state: Option<StateFile>) -> Result<Self, DeliveryError> {
        let channels = &settings.target.channels;
        let only_channel = match &**channels {
            [channel] => Some(channel.to_string()),
            _ => None,
        };
        Ok(Self {
            exec: Exec::new(&settings.exec, only_channel)?,
            until_end: settings.until_end.then(|| UntilEnd::new(channels.len())),
            printer: Printer::new(settings.format, state),
            record: settings.record.as_deref().map(Record::create).transpose()?,
            remaining: settings.count.map(u64::from),
        })
    }

    /// Delivers an event, which the next [`flush`](Self::flush) prints, or runs the command for it.
    /// Breaks after the last event of `--count` or `--until-end`.
    ///
    /// # Errors
    /// The record file or stdout cannot be written.
    pub async fn deliver_event(&mut self, event: &Event) -> Result<ControlFlow<()>, DeliveryError> {
        if let Some(gap) = gap::parse_gap(event.kind.as_bytes(), event.data.as_bytes()) {
            if let Some(record) = &mut self.record {
                record.record_gap(event, &gap)?;
            }
            // Print the events before the gap first, so that a terminal shows both in order.
            self.flush(None).await?;
            stderr::log_line(gap::describe_gap(&gap));
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(record) = &mut self.record {
            record.record_event(event)?;
        }
        match &mut self.exec {
            Some(exec) => {
                exec.handle(event).await?;
                self.printer.flush(Some(&event.id)).await?;
            }
            None => self.printer.add_event(event),
        }
        if let Some(until_end) = &mut self.until_end
            && until_end.record(event)
        {
            return Ok(ControlFlow::Break(()));
        }
        if let Some(remaining) = &mut self.remaining {
            *remaining -= 1;
        }
        Ok(if self.remaining == Some(0) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    /// Prints the delivered events, then stores `last_event_id`.
    ///
    /// # Errors
    /// stdout or the state file cannot be written.
    pub async fn flush(&mut self, last_event_id: Option<&str>) -> Result<(), DeliveryError> {
        Ok(self.printer.flush(last_event_id).await?)
    }
}

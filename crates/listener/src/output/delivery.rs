//! What is done with what a stream says: an event is recorded, printed and counted; a gap is recorded and told.

use std::{io, ops::ControlFlow};

use sse_cli::record_file::RecordError;

use crate::{
    decode::{decoder::Event, gap},
    output::{
        printer::{OutputError, Printer},
        record::Record,
        state_file::StateFile,
        stderr,
    },
    settings::follow::FollowSettings,
};

/// Where events go.
#[derive(Debug)]
pub struct Delivery {
    pub(crate) printer: Printer,
    record: Option<Record>,
    /// Events still wanted; none for all.
    wanted: Option<u64>,
}

/// An event cannot be handed on.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The record cannot be kept.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It cannot be printed, or it cannot be kept how far that is.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl DeliveryError {
    /// Nobody reads stdout any more: `listener | head -2` has what it wanted.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(OutputError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Delivery {
    /// Opens what the settings ask for. `state` is the file that keeps how far it is, if there is to be one.
    ///
    /// # Errors
    /// [`RecordError::Create`].
    pub fn new(settings: &FollowSettings, state: Option<StateFile>) -> Result<Self, RecordError> {
        Ok(Self {
            printer: Printer::new(settings.format, state),
            record: settings.record.as_deref().map(Record::create).transpose()?,
            wanted: settings.count.map(u64::from),
        })
    }

    /// Takes an event; it is printed by the next [`flush`](Self::flush). Breaks after the last one that is wanted.
    ///
    /// # Errors
    /// The record file cannot be written, or stdout.
    pub async fn deliver_event(&mut self, event: &Event) -> Result<ControlFlow<()>, DeliveryError> {
        if let Some(gap) = gap::parse_gap(event) {
            if let Some(record) = &mut self.record {
                record.gap(event, &gap)?;
            }
            // On a terminal the gap stands where it belongs, after what came before it.
            self.flush(None).await?;
            stderr::log_line(gap::describe_gap(&gap));
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(record) = &mut self.record {
            record.event(event)?;
        }
        self.printer.add_event(event);
        if let Some(wanted) = &mut self.wanted {
            *wanted -= 1;
        }
        Ok(if self.wanted == Some(0) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    /// Prints what was taken, and then keeps the last event id, if it is given.
    ///
    /// # Errors
    /// stdout does not take it, or the state file.
    pub async fn flush(&mut self, last_event_id: Option<&str>) -> Result<(), DeliveryError> {
        Ok(self.printer.flush(last_event_id).await?)
    }
}

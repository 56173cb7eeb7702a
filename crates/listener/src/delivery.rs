//! What is done with an event: it is recorded, printed and counted; a gap is recorded and told.

use std::{io, ops::ControlFlow};

use crate::{
    gap,
    output::Output,
    record::{Record, RecordError},
    settings::Settings,
    stream::Event,
    talk,
};

/// Where events go.
#[derive(Debug)]
pub struct Delivery {
    output: Output,
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
    /// stdout does not take what is printed.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl DeliveryError {
    /// Nobody reads stdout any more: `listener | head -2` has what it wanted.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Delivery {
    /// Opens what the settings ask for.
    ///
    /// # Errors
    /// [`RecordError::Create`].
    pub fn new(settings: &Settings) -> Result<Self, RecordError> {
        Ok(Self {
            output: Output::new(settings.format),
            record: settings.record.as_deref().map(Record::create).transpose()?,
            wanted: settings.count.map(u64::from),
        })
    }

    /// Takes an event; it is printed by the next [`flush`](Self::flush). Breaks after the last one that is wanted.
    ///
    /// # Errors
    /// The record file cannot be written, or stdout.
    pub async fn take(&mut self, event: &Event) -> Result<ControlFlow<()>, DeliveryError> {
        if let Some(gap) = gap::told_by(event) {
            if let Some(record) = &mut self.record {
                record.gap(event, &gap)?;
            }
            // On a terminal the gap stands where it belongs, after what came before it.
            self.flush().await?;
            talk::say(gap::sentence(&gap));
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(record) = &mut self.record {
            record.event(event)?;
        }
        self.output.add(event);
        if let Some(wanted) = &mut self.wanted {
            *wanted -= 1;
        }
        Ok(if self.wanted == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// Prints what was taken.
    ///
    /// # Errors
    /// stdout does not take it.
    pub async fn flush(&mut self) -> Result<(), DeliveryError> {
        self.output.flush().await.map_err(DeliveryError::Output)
    }
}

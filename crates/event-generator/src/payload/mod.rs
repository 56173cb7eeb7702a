//! What is sent: the type and the data of each event.
//!
//! | payload | is |
//! |---|---|
//! | [`tutorial`] | the tutorial's JSON string; with a record an object that carries it |
//! | [`sequenced`] | the least that loss and latency can be measured with |
//! | [`session`] | simulated users with sessions |
//! | [`replay`] | recorded events |
//!
//! The first three never end and never wait. They draw from a seeded generator, so that the same seed gives the same
//! events again.

pub(crate) mod actions;
mod event;
mod event_type;
pub(crate) mod lane;
pub(crate) mod replay;
mod rng;
mod sequenced;
mod session;
mod stamper;
mod tutorial;

pub(crate) use self::{
    actions::Actions,
    event::{DataFormat, EventSlot, NextEvent},
    replay::{AllowedTypes, Replay, ReplayError},
    sequenced::Sequenced,
    session::{Session, USERS_MAX},
    stamper::Stamper,
    tutorial::Tutorial,
};

/// The source of the events of a run.
#[derive(Debug)]
pub(crate) enum Payload {
    Tutorial(Tutorial),
    Sequenced(Sequenced),
    Session(Box<Session>),
    Replay(Replay),
}

impl Payload {
    /// Waits until there is an event to draw: false if there are no more. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub(crate) async fn ready(&mut self) -> Result<bool, ReplayError> {
        match self {
            Self::Tutorial(_) | Self::Sequenced(_) | Self::Session(_) => Ok(true),
            Self::Replay(replay) => replay.ready().await,
        }
    }

    /// Whether [`ready`](Self::ready) would answer at once that there is one.
    pub(crate) fn is_ready(&mut self) -> bool {
        match self {
            Self::Tutorial(_) | Self::Sequenced(_) | Self::Session(_) => true,
            Self::Replay(replay) => replay.is_ready(),
        }
    }

    /// Draws the next event, and replaces what is in `data` by its data. None if there is none ready.
    pub(crate) fn next_event(&mut self, slot: EventSlot, data: &mut String) -> Option<NextEvent> {
        data.clear();
        match self {
            Self::Tutorial(tutorial) => Some(tutorial.next_event(slot, data)),
            Self::Sequenced(sequenced) => Some(sequenced.next_event(slot, data)),
            Self::Session(session) => Some(session.next_event(slot, data)),
            Self::Replay(replay) => replay.next_event(data),
        }
    }
}

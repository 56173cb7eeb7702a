//! The events of a run: their types and their data.
//!
//! | payload | events |
//! |---|---|
//! | [`tutorial`] | the tutorial's JSON string; with `--stamp`, an object that contains it |
//! | [`sequenced`] | the smallest data with which loss and latency can be measured |
//! | [`session`] | simulated users with sessions |
//! | [`replay`] | recorded events |
//!
//! The first three never end and never wait. Their random numbers have a seed: the same seed gives
//! the same events.

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

use std::time::Instant;

pub(crate) use self::{
    actions::Actions,
    event::{DataFormat, EventSlot, NextEvent},
    replay::{AllowedTypes, Replay, ReplayError},
    sequenced::Sequenced,
    session::{Session, USERS_MAX},
    stamper::Stamper,
    tutorial::Tutorial,
};

/// Source of the events of a run.
#[derive(Debug)]
pub(crate) enum Payload {
    Tutorial(Tutorial),
    Sequenced(Sequenced),
    Session(Box<Session>),
    Replay(Replay),
}

impl Payload {
    /// Waits until an event is ready. Returns `false` at the end of the payload. Cancel safe.
    ///
    /// # Errors
    ///
    /// The recording cannot be read.
    pub(crate) async fn ready(&mut self) -> Result<bool, ReplayError> {
        match self.replay_mut() {
            Some(replay) => replay.ready().await,
            None => Ok(true),
        }
    }

    /// Returns whether an event is ready now.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.replay_mut().is_none_or(Replay::is_ready)
    }

    /// Replaces `data` by the data of the next event. Returns `None` if no event is ready.
    pub(crate) fn next_event(&mut self, slot: EventSlot, data: &mut String) -> Option<NextEvent> {
        data.clear();
        match self {
            Self::Tutorial(tutorial) => Some(tutorial.next_event(slot, data)),
            Self::Sequenced(sequenced) => Some(sequenced.next_event(slot, data)),
            Self::Session(session) => Some(session.next_event(slot, data)),
            Self::Replay(replay) => replay.next_event(data),
        }
    }

    /// Returns when the next event was read from a recording; `None` without a recording.
    pub(crate) fn read_at(&self) -> Option<Instant> {
        self.replay().map(Replay::read_at)
    }

    /// Returns the number of recorded events that were skipped because their types are reserved.
    pub(crate) fn skipped(&self) -> u64 {
        self.replay().map_or(0, Replay::skipped)
    }

    fn replay(&self) -> Option<&Replay> {
        match self {
            Self::Replay(replay) => Some(replay),
            _ => None,
        }
    }

    fn replay_mut(&mut self) -> Option<&mut Replay> {
        match self {
            Self::Replay(replay) => Some(replay),
            _ => None,
        }
    }
}

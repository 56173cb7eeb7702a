//! Ends a blocked stream, whose body is not polled.
//!
//! A body notices by itself that its stream must end. While the connection accepts no data, nothing
//! asks the body, so the connection waits for the end instead: that of the caller's right, and the
//! moment at which the stream ends by its guard.

use std::{future::pending, sync::Arc, time::Instant};

use sse_proto::Channel;
use tokio::time::sleep_until;

use super::{
    stream_caller::StreamCaller,
    stream_guard::{CloseReason, StreamGuard},
};

/// What can end a blocked stream.
#[derive(Debug)]
pub(super) struct BlockedEnd {
    /// `None` without access rules.
    caller: Option<Arc<StreamCaller>>,
    channels: Box<[Channel]>,
    /// `None` if the stream has no such moment.
    moment: Option<(Instant, CloseReason)>,
}

impl BlockedEnd {
    /// Returns what can end the stream of this guard; `None` if nothing can. `channels` are empty
    /// while they are unknown.
    pub(super) fn new(guard: &StreamGuard, channels: Vec<Channel>) -> Option<Self> {
        let (caller, moment) = (guard.caller().cloned(), guard.end());
        (caller.is_some() || moment.is_some()).then(|| Self {
            caller,
            channels: channels.into(),
            moment,
        })
    }

    /// Returns why the stream must end now; `None` if it may continue.
    pub(super) fn reason(&self) -> Option<CloseReason> {
        let is_over = |(at, _): &(Instant, CloseReason)| *at <= Instant::now();
        let moment = self.moment.filter(is_over).map(|(_, reason)| reason);
        let channels = self.channels.iter();
        moment.or_else(|| self.caller.as_ref()?.end_reason(channels))
    }

    /// Waits until the stream must end, and returns why.
    pub(super) async fn wait(&self) -> CloseReason {
        let caller_ends = async {
            match &self.caller {
                Some(caller) => caller.wait_until_ended(&self.channels).await,
                None => pending().await,
            }
        };
        let moment_comes = async {
            match self.moment {
                Some((at, reason)) => {
                    sleep_until(at.into()).await;
                    reason
                }
                None => pending().await,
            }
        };
        tokio::select! {
            reason = caller_ends => reason,
            reason = moment_comes => reason,
        }
    }
}

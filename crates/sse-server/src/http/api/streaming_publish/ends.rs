//! When the server ends a streaming publish: as it would end a stream of the same caller.

use std::{slice, sync::Arc};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    fanout::{
        drain::Drain, publish_list::OpenPublish, stream_caller::StreamCaller,
        stream_guard::CloseReason,
    },
    http::{access::caller::Caller, state::AppState},
};

/// What ends a streaming publish.
pub(super) struct Ends {
    publish: Arc<OpenPublish>,
    /// `None` if the credential does not expire.
    expires_at: Option<Instant>,
    drain: Drain,
    stopping: CancellationToken,
}

impl Ends {
    pub(super) fn new(state: &AppState, caller: &Caller, publish: Arc<OpenPublish>) -> Self {
        Self {
            publish,
            expires_at: StreamCaller::expiry(caller.identity()).map(Instant::from_std),
            drain: state.streams.drain.clone(),
            stopping: state.streams.stopping.clone(),
        }
    }

    /// Waits for the end, and returns its reason as the response has it.
    pub(super) async fn wait(self) -> &'static str {
        let reason = tokio::select! {
            () = wait_until(self.expires_at) => CloseReason::Expired,
            reason = lost_right(&self.publish) => reason,
            () = self.publish.closed() => CloseReason::Closed,
            () = self.drain.next_end_reached() => CloseReason::Drain,
            () = self.stopping.cancelled() => CloseReason::Shutdown,
        };
        reason.as_str()
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn lost_right(publish: &OpenPublish) -> CloseReason {
    match publish.caller() {
        Some(caller) => {
            let channel = slice::from_ref(publish.channel());
            caller.wait_until_ended(channel).await
        }
        None => std::future::pending().await,
    }
}

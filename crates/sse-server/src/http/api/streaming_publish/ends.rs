//! When the server ends a streaming publish: as it would end a stream of the same caller.

use std::slice;

use actix_web::HttpRequest;
use sse_proto::Channel;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Right,
    fanout::{drain::Drain, stream_caller::StreamCaller, stream_guard::CloseReason},
    http::{access::caller::Caller, state::AppState},
};

/// What ends a streaming publish.
pub(super) struct Ends {
    channel: Channel,
    /// `None` if the credential does not expire.
    expires_at: Option<Instant>,
    /// `None` without access rules.
    caller: Option<StreamCaller>,
    drain: Drain,
    stopping: CancellationToken,
}

impl Ends {
    pub(super) fn new(
        request: &HttpRequest,
        state: &AppState,
        caller: &Caller,
        channel: &Channel,
    ) -> Self {
        let address = request.peer_addr().map(|peer| peer.ip());
        Self {
            channel: channel.clone(),
            expires_at: StreamCaller::expiry(caller.identity()).map(Instant::from_std),
            caller: caller.stream_caller(address, Right::Publish),
            drain: state.streams.drain.clone(),
            stopping: state.streams.stopping.clone(),
        }
    }

    /// Waits for the end, and returns its reason as the response has it.
    pub(super) async fn wait(self) -> &'static str {
        let reason = tokio::select! {
            () = wait_until(self.expires_at) => CloseReason::Expired,
            reason = lost_right(self.caller.as_ref(), &self.channel) => reason,
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

async fn lost_right(caller: Option<&StreamCaller>, channel: &Channel) -> CloseReason {
    match caller {
        Some(caller) => caller.wait_until_ended(slice::from_ref(channel)).await,
        None => std::future::pending().await,
    }
}

//! `POST /events?mode=stream`: stores each line of a body as it arrives, for as long as the client
//! sends lines.
//!
//! ```text
//! body ─► LineBody ─► lines ─► group ─► append ─► subscribers
//!            ▲                           │
//!            └── reads on when it is stored
//! ```
//!
//! Everything that arrives while a group is being stored is the next group. So a slow client has one
//! append per line, and a fast one few appends with many lines.
//!
//! The publish is not all or none. Its response has the number of lines that are stored, whatever
//! ended it, so that a client can send the rest again. If the connection breaks, the complete lines
//! that have arrived are stored all the same.

mod ends;
mod groups;
mod response;

use std::{pin::pin, time::Duration};

use actix_web::{HttpRequest, HttpResponse, error::PayloadError, web::Payload};
use bytes::Bytes;
use futures::{FutureExt as _, Stream};
use sse_proto::api::BatchPublished;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
    time::sleep_until,
};

use self::{
    ends::Ends,
    groups::{Group, LineGroups},
    response::{Ending, Progress},
};
use super::{
    batch::{Batch, BatchFormat, unsupported_lines},
    idempotency::Target,
    publish_quota::PublishQuota,
    stream::may_stream,
};
use crate::{
    broker::{
        BrokerError,
        lifecycle::{CloseReason, Write, Written},
    },
    budget::ClientNet,
    fanout::publish_permit::PublishPermit,
    http::{
        access::{caller::Caller, caller_quota::quota_of, channel_query::BatchQuery},
        error::{ApiError, ApiResult, RETRY_AFTER},
        request::{batch_body::BatchEvent, line_body::LineBody},
        state::AppState,
    },
    quota::{QuotaExceeded, Remedy, StreamPermit},
};

/// Time without a line after which the publish ends. A blank line counts.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// The word for that end.
const SILENT: &str = "silent";

/// Publishes the lines of a body to one channel.
pub(super) async fn publish(
    request: &HttpRequest,
    payload: Payload,
    state: &AppState,
    caller: &Caller,
    query: BatchQuery,
) -> ApiResult<HttpResponse> {
    let lifecycle = query.lifecycle.clone();
    let channel = query.into_channel()?;
    lifecycle.check(state, caller, &channel)?;
    let mut target = Target::new(request, caller, channel, &lifecycle)?;
    check_request(request, &target)?;
    let permits = take_permits(request, state, caller)?;
    let quota = PublishQuota::of_lines(request, state, caller);
    quota.take_channel(state, &target).await?;
    let ends = Ends::new(request, state, caller, &target.channel);
    let client = ClientNet::of_request(request);
    let limit = state.limits.event_bytes();
    let body = LineBody::new(payload, limit, &state.body_memory, client);
    let publish = StreamingPublish {
        state: state.clone(),
        groups: LineGroups::new(body, quota, state.limits, target.principal),
        // The channel is closed when the whole body is stored.
        close: target.close.take(),
        target,
        progress: Progress::default(),
        in_flight: None,
        is_over: false,
        _permits: permits,
    };
    Ok(publish.run(ends.wait()).await)
}

fn check_request(request: &HttpRequest, target: &Target) -> ApiResult<()> {
    if target.key.is_some() {
        return Err(ApiError::InvalidIdempotencyKey(
            "a streaming publish has no key of its own: use the key \"key\" of its lines",
        ));
    }
    match BatchFormat::of(request)? {
        BatchFormat::Lines => Ok(()),
        BatchFormat::Array => Err(unsupported_lines(request)),
    }
}

/// What a streaming publish holds while it is open.
struct Permits {
    _of_all: PublishPermit,
    _of_caller: Option<StreamPermit>,
}

/// Takes what the publish needs of the limits of streams.
fn take_permits(request: &HttpRequest, state: &AppState, caller: &Caller) -> ApiResult<Permits> {
    if state.streams.drain.plan().is_some() {
        return Err(ApiError::Draining);
    }
    if !may_stream(request) {
        return Err(ApiError::TooManyStreamingPublishes);
    }
    let of_caller = quota_of(request, state, caller).open_stream();
    let client = ClientNet::of_request(request);
    let of_all = state.streams.admission.admit_publish(client);
    Ok(Permits {
        _of_all: of_all.ok_or(ApiError::TooManyStreamingPublishes)?,
        _of_caller: of_caller.map_err(quota_exceeded)?,
    })
}

/// A limit of open streams is one for the moment, not one of the request.
fn quota_exceeded(exceeded: QuotaExceeded) -> ApiError {
    let retry_in = match exceeded.remedy {
        Remedy::WaitFor(retry_in) => retry_in,
        Remedy::AtMost(_) => RETRY_AFTER,
    };
    ApiError::RateLimited {
        limit: exceeded.setting(),
        retry_in,
    }
}

/// A streaming publish that has begun.
struct StreamingPublish<'a, S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    state: AppState,
    target: Target,
    /// The end that follows the last line of a complete body.
    close: Option<CloseReason>,
    groups: LineGroups<'a, S>,
    progress: Progress,
    /// The append in progress. A client that is gone does not cancel it.
    in_flight: Option<JoinHandle<ApiResult<(BatchPublished, Written)>>>,
    /// The publish has a response.
    is_over: bool,
    _permits: Permits,
}

impl<S> StreamingPublish<'_, S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    /// Publishes lines until the body or `ends` does, and returns the response.
    async fn run(mut self, ends: impl Future<Output = &'static str>) -> HttpResponse {
        let ending = self.publish_lines(ends).await;
        self.is_over = true;
        self.progress.response(&ending)
    }

    async fn publish_lines(&mut self, ends: impl Future<Output = &'static str>) -> Ending {
        let mut ends = pin!(ends);
        loop {
            let Group {
                events,
                error,
                is_full,
            } = self.groups.take();
            let stored = self.store(events).await;
            if let Some(error) = stored.err().or(error) {
                return Ending::Failed(error);
            }
            if let Some(reason) = ends.as_mut().now_or_never() {
                return Ending::Ended(reason);
            }
            if is_full {
                continue;
            }
            if self.groups.body().is_complete() {
                return match self.close_channel().await {
                    Ok(()) => Ending::Complete,
                    Err(error) => Ending::Failed(error),
                };
            }
            let silent_at = self.groups.last_line() + SILENCE_MAX;
            tokio::select! {
                biased;
                reason = &mut ends => return Ending::Ended(reason),
                read = self.groups.body().read() => {
                    if let Err(error) = read {
                        return Ending::Failed(error);
                    }
                }
                () = sleep_until(silent_at) => return Ending::Ended(SILENT),
            }
        }
    }

    /// Closes the channel after a complete body, if the publish does so.
    async fn close_channel(&mut self) -> ApiResult<()> {
        if let Some(reason) = self.close.take() {
            let write = closing_write(&self.target, reason);
            let Target {
                publisher, channel, ..
            } = &self.target;
            let broker = self.state.hub.broker();
            broker.write(*publisher, channel, write).await?;
        }
        Ok(())
    }

    async fn store(&mut self, events: Vec<BatchEvent>) -> ApiResult<()> {
        if events.is_empty() {
            return Ok(());
        }
        let append = append(self.state.clone(), self.target.clone(), events);
        let in_flight = self.in_flight.insert(tokio::spawn(append));
        let published = in_flight.await;
        self.in_flight = None;
        let (published, written) = published.map_err(|error| append_ended(&error))??;
        self.progress.add(&published);
        self.target.follow(&written);
        self.groups.body().release();
        Ok(())
    }
}

async fn append(
    state: AppState,
    target: Target,
    events: Vec<BatchEvent>,
) -> ApiResult<(BatchPublished, Written)> {
    let batch = Batch::new(events, None, &state.limits)?;
    batch.append(&state, &target).await
}

/// Returns the write that closes the channel.
fn closing_write(target: &Target, reason: CloseReason) -> Write {
    Write {
        close: Some(reason),
        condition: target.condition,
        incarnation: target.incarnation,
        settings: target.settings,
        items: Vec::new(),
    }
}

/// The task of an append ends early only if the server ends.
fn append_ended(error: &JoinError) -> ApiError {
    BrokerError::OutcomeUnknown(error.to_string()).into()
}

impl<S> Drop for StreamingPublish<'_, S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    /// Stores what arrived of a client that is gone.
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.is_over {
            return;
        }
        let groups = self.groups.take_arrived();
        let (state, mut target) = (self.state.clone(), self.target.clone());
        let in_flight = self.in_flight.take();
        // The permits are free already: the task is short.
        drop(runtime.spawn(async move {
            if let Some(in_flight) = in_flight {
                match in_flight.await {
                    Ok(Ok((_, written))) => target.follow(&written),
                    _ => return,
                }
            }
            for events in groups {
                match append(state.clone(), target.clone(), events).await {
                    Ok((_, written)) => target.follow(&written),
                    Err(_) => return,
                }
            }
        }));
    }
}

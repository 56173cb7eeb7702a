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
//!
//! All groups belong to the incarnation of the channel that the first one finds or creates. With a
//! condition, each group is stored only if nothing was stored since the one before. `close=` applies
//! when the body ends properly, in one step with the last lines.

mod chain;
mod ends;
mod groups;
mod keep_alive;
mod response;

use std::{pin::pin, time::Duration};

use actix_web::{HttpRequest, HttpResponse, error::PayloadError, web::Payload};
use bytes::Bytes;
use futures::{FutureExt as _, Stream};
use sse_proto::EventId;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
    time::sleep_until,
};

pub use self::keep_alive::KeepAliveRate;
use self::{
    chain::Chain,
    ends::Ends,
    groups::{Group, LineGroups},
    keep_alive::KeepAlive,
    response::{Ending, Progress},
};
use super::{
    batch::{Batch, BatchFormat, unsupported_lines},
    idempotency::{self, Target},
    publish_quota::PublishQuota,
    stream::may_stream,
};
use crate::{
    access::Right,
    broker::{BrokerError, lifecycle::Written},
    budget::ClientNet,
    fanout::{publish_list::PublishEntry, publish_permit::PublishPermit},
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
    let target = Target::new(request, caller, channel, &lifecycle)?;
    check_request(request, &target)?;
    let permits = take_permits(request, state, caller)?;
    let quota = PublishQuota::of_lines(request, state, caller);
    quota.take_channel(state, &target).await?;
    let address = request.peer_addr().map(|peer| peer.ip());
    let stream_caller = caller.stream_caller(address, Right::Publish);
    let publishes = &state.streams.publishes;
    let entry = publishes.add(target.channel.clone(), address, stream_caller);
    let ends = Ends::new(state, caller, entry.publish().clone());
    let client = ClientNet::of_request(request);
    let limit = state.limits.event_bytes();
    let body = LineBody::new(payload, limit, &state.body_memory, client);
    let publish = StreamingPublish {
        state: state.clone(),
        groups: LineGroups::new(body, quota, state.limits, target.principal),
        chain: Chain::new(target),
        progress: Progress::default(),
        client,
        keep_alive: None,
        in_flight: None,
        is_over: false,
        entry,
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
    chain: Chain,
    groups: LineGroups<'a, S>,
    progress: Progress,
    client: Option<ClientNet>,
    /// How the channel is kept alive; `None` if it has no time to live, or does not exist yet.
    keep_alive: Option<KeepAlive>,
    /// The append in progress. A client that is gone does not cancel it.
    in_flight: Option<JoinHandle<ApiResult<Stored>>>,
    /// The publish has a response.
    is_over: bool,
    /// Lists the publish for operators.
    entry: PublishEntry,
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
            let is_last = !is_full && error.is_none() && self.groups.body().is_complete();
            let stored = self.store(events, is_last).await;
            if let Some(error) = stored.err().or(error) {
                return Ending::Failed(error);
            }
            if is_last {
                return Ending::Complete;
            }
            if let Some(reason) = ends.as_mut().now_or_never() {
                return Ending::Ended(reason);
            }
            if is_full {
                continue;
            }
            let silent_at = self.groups.last_line() + SILENCE_MAX;
            tokio::select! {
                biased;
                reason = &mut ends => return Ending::Ended(reason),
                read = self.groups.body().read() => {
                    self.entry.publish().set_bytes(self.groups.body().received());
                    if let Err(error) = read {
                        return Ending::Failed(error);
                    }
                }
                () = sleep_until(silent_at) => return Ending::Ended(SILENT),
                kept = KeepAlive::next(self.keep_alive.as_mut(), &self.state) => {
                    if let Err(error) = kept {
                        return Ending::Failed(error);
                    }
                }
            }
        }
    }

    /// Stores a group, and the end of the channel after the last one.
    async fn store(&mut self, events: Vec<BatchEvent>, is_last: bool) -> ApiResult<()> {
        let target = self.chain.target(is_last);
        if events.is_empty() && target.close.is_none() {
            return Ok(());
        }
        let append = append(self.state.clone(), target, events);
        let in_flight = self.in_flight.insert(tokio::spawn(append));
        let stored = in_flight.await;
        self.in_flight = None;
        let stored = stored.map_err(|error| append_ended(&error))??;
        let is_first = self.chain.record(&stored.written);
        self.progress.add(&stored);
        self.groups.body().release();
        if is_first && !is_last {
            self.keep_alive = KeepAlive::of(&self.state, &self.chain, self.client).await?;
        }
        Ok(())
    }
}

/// What an append has stored.
pub(super) struct Stored {
    /// Lines, also those with known keys.
    count: usize,
    last_id: Option<EventId>,
    written: Written,
}

async fn append(state: AppState, target: Target, events: Vec<BatchEvent>) -> ApiResult<Stored> {
    if events.is_empty() {
        let no_key = |_| String::new();
        let written = idempotency::append(&state, &target, Vec::new(), no_key).await?;
        return Ok(Stored {
            count: 0,
            last_id: None,
            written,
        });
    }
    let batch = Batch::new(events, None, &state.limits)?;
    let (published, written) = batch.append(&state, &target).await?;
    Ok(Stored {
        count: published.count,
        last_id: Some(published.last_id),
        written,
    })
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
        let (state, mut chain) = (self.state.clone(), self.chain.clone());
        let in_flight = self.in_flight.take();
        // The permits are free already: the task is short.
        drop(runtime.spawn(async move {
            if let Some(in_flight) = in_flight {
                let Ok(Ok(stored)) = in_flight.await else {
                    return;
                };
                chain.record(&stored.written);
            }
            for events in groups {
                let Ok(stored) = append(state.clone(), chain.target(false), events).await else {
                    return;
                };
                chain.record(&stored.written);
            }
        }));
    }
}

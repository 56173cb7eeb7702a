//! `GET /admin/trace`: what one channel, one caller or one address does, as `text/event-stream`.
//!
//! | event | data |
//! |---|---|
//! | `entry` | what happened, see `trace::entry` |
//! | `streams` | the open streams that belong to the trace, every five seconds |
//! | `status` | how many entries were left out, and when the trace ends, once per second |
//! | `end` | the time of the trace is over |
//!
//! A trace contains no data of events, which needs `subscribe`: `GET /stream` sends it. The trace ends
//! after the time of `for`, and within a second after its caller has lost the right `observe`.

use std::{
    convert::Infallible,
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use actix_web::{HttpRequest, HttpResponse, body::BodyStream};
use actix_web_lab::extract::LocalData;
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::{
    feed_places::FeedPlace,
    permission::check_permission,
    streams::{describe, lag_ms, named_caller},
};
use crate::{
    access::ServerRight,
    epoch::milliseconds,
    fanout::streams::StreamInfo,
    http::{
        access::caller::Caller,
        api::stream_response::event_stream,
        error::{ApiError, ApiResult},
        request::{
            channel_settings::parse_ms,
            query::{Params, parse_channel},
        },
        state::AppState,
    },
    trace::{Actor, OpenTrace, Subject},
};

/// The longest trace, which is also the one without `for`, in milliseconds.
const FOR_MAX_MS: u64 = 600_000;
/// Entries that are sent at once.
const ENTRIES_PER_BLOCK: usize = 100;
/// Streams that are listed, those with the largest lag.
const STREAMS_MAX: usize = 100;
/// Seconds between two lists of streams, which examine all streams of the node.
const STREAMS_INTERVAL: u64 = 5;

/// One open trace and its client.
struct Feed {
    trace: OpenTrace,
    _place: FeedPlace,
    caller: Caller,
    state: AppState,
    ends: Instant,
    ends_ms: u64,
    ticks: Interval,
    second: u64,
    is_over: bool,
}

/// Opens a trace.
pub(crate) async fn trace(
    request: HttpRequest,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    check_permission(&request, &state, &caller, ServerRight::Observe)?;
    let params = Params::parse_any(request.query_string())?;
    params.check_known(&["channel", "key", "iss", "sub", "address", "for"])?;
    let subject = parse_subject(&params)?;
    let lasts_ms = params.parsed("for", parse_duration)?.unwrap_or(FOR_MAX_MS);
    caller.note_target(|| request.query_string().to_owned());
    let place = state.dashboard.trace_places().take(&request)?;
    let trace = state.traces.open(subject);
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feed = Feed {
        trace,
        _place: place,
        caller,
        state: (*state).clone(),
        ends: Instant::now() + Duration::from_millis(lasts_ms),
        ends_ms: milliseconds(SystemTime::now()) + lasts_ms,
        ticks,
        second: 0,
        is_over: false,
    };
    let blocks = stream::unfold(feed, async |mut feed| {
        let block = feed.next_block().await?;
        Some((Ok::<_, Infallible>(block), feed))
    });
    Ok(event_stream(&request, BodyStream::new(Box::pin(blocks))))
}

fn parse_subject(params: &Params) -> ApiResult<Subject> {
    let channel = params.one("channel")?.map(parse_channel).transpose()?;
    let address = params.parsed("address", |text| {
        text.parse()
            .map_err(|_| format!("{text:?} is no IP address"))
    })?;
    match (channel, address, named_caller(params)) {
        (Some(channel), None, Ok(None)) => Ok(Subject::Channel(channel)),
        (None, Some(address), Ok(None)) => Ok(Subject::Address(address)),
        (None, None, Ok(Some(named))) => Ok(Subject::Caller(named)),
        _ => Err(ApiError::invalid_parameter(
            "channel",
            "must be given alone, or one of address, key, or iss and sub instead of it",
        )),
    }
}

fn parse_duration(text: &str) -> Result<u64, String> {
    let ms = parse_ms(text)?;
    if ms > FOR_MAX_MS {
        return Err(format!("{text:?} is more than 10m, the longest trace"));
    }
    Ok(ms)
}

impl Feed {
    /// Waits for the next block; returns `None` at the end of the trace.
    async fn next_block(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let stopping = self.state.streams.stopping.clone();
        tokio::select! {
            entry = self.trace.entries.recv() => Some(self.entries(&entry?)),
            _ = self.ticks.tick() => self.tick().await,
            () = sleep_until(self.ends) => {
                self.is_over = true;
                Some(format!("{}event: end\ndata: {{}}\n\n", self.status()).into())
            }
            () = stopping.cancelled() => None,
        }
    }

    /// Returns a block with this entry and those that wait.
    fn entries(&mut self, first: &str) -> Bytes {
        let mut block = String::new();
        // Writing to a string cannot fail.
        let _ = write!(block, "event: entry\ndata: {first}\n\n");
        for _ in 1..ENTRIES_PER_BLOCK {
            let Ok(entry) = self.trace.entries.try_recv() else {
                break;
            };
            let _ = write!(block, "event: entry\ndata: {entry}\n\n");
        }
        block.into()
    }

    async fn tick(&mut self) -> Option<Bytes> {
        if !self.caller.still_has(ServerRight::Observe) {
            return None;
        }
        let mut block = self.status();
        if self.second.is_multiple_of(STREAMS_INTERVAL) {
            let streams = self.streams().await;
            let _ = write!(block, "event: streams\ndata: {streams}\n\n");
        }
        self.second += 1;
        Some(block.into())
    }

    fn status(&self) -> String {
        let status = json!({ "dropped": self.trace.dropped(), "ends_ms": self.ends_ms });
        format!("event: status\ndata: {status}\n\n")
    }

    /// Returns the open streams that belong to the trace. Without access rules a stream keeps nothing
    /// of its caller, so only the trace of a channel has streams.
    async fn streams(&self) -> Value {
        let now_ms = milliseconds(SystemTime::now());
        let live = self.state.streams.list().await;
        let mut streams: Vec<_> = live
            .streams
            .iter()
            .filter(|stream| self.contains(stream))
            .collect();
        streams.sort_by_key(|stream| std::cmp::Reverse(lag_ms(stream, now_ms)));
        let listed = streams.iter().take(STREAMS_MAX);
        let listed: Vec<_> = listed.map(|stream| describe(stream, now_ms)).collect();
        json!({ "total": streams.len(), "streams": listed })
    }

    fn contains(&self, stream: &StreamInfo) -> bool {
        let identity = stream.caller.as_ref().map(|caller| caller.identity());
        self.trace.matches(&Actor {
            address: stream.caller.as_ref().and_then(|caller| caller.address()),
            identity: identity.as_deref(),
            channels: &stream.channels,
        })
    }
}

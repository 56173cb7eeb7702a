//! A batch whose lines name several channels.
//!
//! The events of each channel are stored all or none, and each channel has a result. Nothing is
//! stored before the whole body is checked and the caller's rights for all channels are known.
//!
//! ```text
//! {"event":"a","data":1,"channel":"x"} ──┐
//! {"event":"b","data":2,"channel":"y"} ──┼─► x: a, c     one append, one result
//! {"event":"c","data":3,"channel":"x"} ──┘   y: b        one append, one result
//! ```
//!
//! If a channel fails, the response has the status of its error, so that a publisher which only
//! checks the status does not take the batch for stored.

use std::collections::HashMap;

use actix_web::HttpResponse;
use futures::{StreamExt as _, stream};
use serde::Serialize;
use sse_proto::{
    Channel,
    api::{BatchPublished, ErrorDetail},
};

use super::{batch::Batch, idempotency::Target, publish_quota::PublishQuota};
use crate::{
    access::Right,
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        request::batch_body::BatchEvent,
        state::AppState,
    },
};

/// Appends of one request that are in progress at a time.
const APPENDS_MAX: usize = 64;

/// Stores the events of each channel, and returns the results in the order in which the channels
/// first occur.
pub(super) async fn publish(
    state: &AppState,
    caller: &Caller,
    target: &Target,
    quota: &PublishQuota,
    events: Vec<BatchEvent>,
) -> ApiResult<HttpResponse> {
    if target.has_lifecycle() {
        return Err(ApiError::InvalidRequest(
            "close=, settings and conditions concern one channel: send a batch whose lines name no \
             channel"
                .to_owned(),
        ));
    }
    let parts = split_by_channel(events, &target.channel);
    let channels: Vec<Channel> = parts.iter().map(|(channel, _)| channel.clone()).collect();
    caller.require(Right::Publish, &channels)?;
    let publisher = target.publisher;
    quota.take_channels(state, publisher, &channels).await?;
    let mut batches = Vec::with_capacity(parts.len());
    for (channel, events) in parts {
        let target = target.with_channel(channel);
        let batch = Batch::new(events, target.key, &state.limits)?;
        batches.push((target, batch));
    }
    let append = async |(target, batch): (Target, Batch)| {
        let result = batch.append(state, &target).await;
        (target.channel, result.map(|(published, _)| published))
    };
    let results = stream::iter(batches).map(append).buffered(APPENDS_MAX);
    Ok(respond(results.collect().await))
}

/// Returns the events of each channel; those that name none belong to `default`.
fn split_by_channel(events: Vec<BatchEvent>, default: &Channel) -> Vec<(Channel, Vec<BatchEvent>)> {
    let mut parts: Vec<(Channel, Vec<BatchEvent>)> = Vec::new();
    let mut places: HashMap<Channel, usize> = HashMap::new();
    for mut event in events {
        let channel = event.channel.take().unwrap_or_else(|| default.clone());
        let place = *places.entry(channel.clone()).or_insert_with(|| {
            parts.push((channel, Vec::new()));
            parts.len() - 1
        });
        parts[place].1.push(event);
    }
    parts
}

/// The results of all channels.
#[derive(Serialize)]
struct Results {
    channels: Vec<ChannelResult>,
}

#[derive(Serialize)]
struct ChannelResult {
    channel: Channel,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Published(BatchPublished),
    Failed { error: ErrorDetail },
}

fn respond(results: Vec<(Channel, ApiResult<BatchPublished>)>) -> HttpResponse {
    let mut first_error: Option<ApiError> = None;
    let mut channels = Vec::with_capacity(results.len());
    for (channel, result) in results {
        let outcome = match result {
            Ok(published) => Outcome::Published(published),
            Err(error) => {
                let detail = error.detail();
                first_error.get_or_insert(error);
                Outcome::Failed { error: detail }
            }
        };
        channels.push(ChannelResult { channel, outcome });
    }
    let results = Results { channels };
    match first_error {
        Some(error) => error.response_with(results),
        None => HttpResponse::Ok().json(results),
    }
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;

    use super::*;
    use crate::http::{request::batch_body::parse_lines, request_limits::RequestLimits};

    const LIMITS: RequestLimits = RequestLimits {
        event_bytes_max: 20,
        batch_bytes_max: 1000,
        batch_events_max: 9,
        keys_max: 2,
    };

    #[test]
    fn the_events_of_a_channel_stay_in_their_order() {
        let line = |number: u32, channel: &str| {
            let channel = match channel {
                "" => String::new(),
                name => format!(r#","channel":"{name}""#),
            };
            format!(r#"{{"event":"a","data":{number}{channel}}}"#)
        };
        let lines = [line(1, "x"), line(2, ""), line(3, "y"), line(4, "x")].join("\n");
        let Ok(events) = parse_lines(&ByteString::from(lines), &LIMITS) else {
            panic!("the lines are valid")
        };
        let parts = split_by_channel(events, &"d".parse().unwrap());
        let data = |events: &[BatchEvent]| {
            let data = events.iter().map(|event| event.event.data.to_string());
            data.collect::<Vec<_>>().join(" ")
        };
        let found: Vec<_> = parts
            .iter()
            .map(|(channel, events)| (channel.as_str(), data(events)))
            .collect();
        let expected = [("x", "1 4"), ("d", "2"), ("y", "3")];
        assert_eq!(found, expected.map(|(name, data)| (name, data.to_owned())));
    }
}

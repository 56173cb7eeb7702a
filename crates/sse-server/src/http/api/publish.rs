//! `GET` and `POST /event/{action}`: publishes one event and responds when it is durable.

use actix_web::{HttpRequest, HttpResponse, http::Method, web::Payload};
use actix_web_lab::extract::LocalData;
use bytes::Bytes;
use bytestring::ByteString;
use chrono::Local;
use sse_proto::{Event, EventType, api::Published, json, json_depth::is_too_deep};
use uuid::Uuid;

use super::{
    channels::etag,
    idempotency::{self, HEADER_KEY, Target},
    publish_quota::PublishQuota,
};
use crate::{
    access::Right,
    broker::{
        idempotency::{AppendItem, Fingerprint, IdempotencyKey},
        lifecycle::Written,
    },
    http::{
        access::caller::Caller,
        error::{ApiError, ApiResult},
        request::{
            body::{self, Body},
            content_type::{self, ContentType},
            curl_line::curl_line,
            query::percent_decode,
        },
        state::AppState,
    },
};

/// Publishes one event.
///
/// The action in the path is the type of the event. The body of a `POST` is its data. Only for a
/// `GET`, which has no body, the server generates the data of the tutorial.
pub(crate) async fn event(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
    caller: Caller,
) -> ApiResult<HttpResponse> {
    state.origins.check_publish(&request)?;
    let target = Target::parse(&request, &state, &caller)?;
    let kind = action(&request)?;
    let quota = PublishQuota::take(&request, &state, &caller, 1)?;
    quota.take_channel(&state, &target).await?;
    if request.method() != Method::POST {
        let written = append(&state, &target, append_item(kind, None, target.key)).await?;
        // The response that the tutorial's clients expect.
        return Ok(HttpResponse::Ok()
            .insert_header(etag(written.newest))
            .json(serde_json::json!({})));
    }
    // `body` holds its memory until the event is stored.
    let limit = state.limits.event_bytes();
    let body = body::read(&request, payload, limit, &state.body_memory).await?;
    let caller = caller.after_wait()?;
    caller.require(Right::Publish, std::slice::from_ref(&target.channel))?;
    quota.take_body(body.bytes.len())?;
    let data = data_of(&request, &body)?;
    let what = || "the data of the event".to_owned();
    state.limits.check_data(&data, what)?;
    let written = append(&state, &target, append_item(kind, Some(data), target.key)).await?;
    let id = idempotency::first_and_last_id(&written.outcomes)?.first;
    let end = written.end;
    Ok(HttpResponse::Ok()
        .insert_header(etag(written.newest))
        .json(Published { id, end }))
}

async fn append(state: &AppState, target: &Target, item: AppendItem) -> ApiResult<Written> {
    let describe_key = |_| HEADER_KEY.to_owned();
    idempotency::append(state, target, vec![item], describe_key).await
}

/// Returns the action: what follows `/event/` in the path, decoded.
fn action(request: &HttpRequest) -> ApiResult<EventType> {
    let text = percent_decode(encoded_action(request), "path")?;
    text.parse()
        .map_err(|why| ApiError::invalid_name("action", &text, why))
}

fn encoded_action(request: &HttpRequest) -> &str {
    // Split at the slash, not after the text `/event/`: the router accepts `/%65vent/` as well.
    let (_, encoded) = request.uri().path()[1..]
        .split_once('/')
        .unwrap_or_default();
    encoded
}

/// Returns the data in a body. A body without bytes is empty data, whatever its type.
fn data_of(request: &HttpRequest, body: &Body<'_>) -> ApiResult<ByteString> {
    let bytes = body.bytes.clone();
    if bytes.is_empty() {
        return Ok(ByteString::new());
    }
    match content_type::parse(request) {
        Ok(ContentType::Json) => compact_json(bytes),
        Ok(ContentType::Text) => content_type::text(bytes),
        other => Err(unsupported(describe_type(other), request)),
    }
}

/// Describes the type of a body that cannot be the data of an event.
fn describe_type(content_type: Result<ContentType, String>) -> String {
    match content_type {
        Ok(ContentType::NdJson) => {
            "lines of JSON are a batch, which POST /events accepts".to_owned()
        }
        Ok(_) => "the body has no type, or that of an HTML form".to_owned(),
        Err(found) => found,
    }
}

fn compact_json(body: Bytes) -> ApiResult<ByteString> {
    let json = json::compact(&content_type::json_text(body)?)
        .map_err(|error| ApiError::InvalidJson(error.to_string()))?;
    if is_too_deep(&json) {
        return Err(ApiError::JsonTooDeep);
    }
    Ok(json)
}

/// The event and its key. The server generates the data if it is `None`.
fn append_item(kind: EventType, data: Option<ByteString>, key: Option<Fingerprint>) -> AppendItem {
    // Hash what the client sent, because the generated text differs on every request.
    let idempotency = key.map(|key| IdempotencyKey {
        key,
        content: Fingerprint::of_sent(&kind, data.as_ref()),
    });
    let event = Event {
        kind,
        data: data.unwrap_or_else(tutorial_data),
    };
    AppendItem {
        events: vec![event],
        idempotency,
    }
}

/// Generates what the tutorial's application sends: a JSON string with a random user and the local
/// time.
fn tutorial_data() -> ByteString {
    let timestamp = Local::now().format("%d-%b-%Y (%H:%M:%S%.6f)");
    let text = format!("user_id: {}, timestamp: {timestamp}", Uuid::new_v4());
    serde_json::Value::String(text).to_string().into()
}

fn unsupported(found: String, request: &HttpRequest) -> ApiError {
    ApiError::UnsupportedMediaType {
        found,
        expected: "application/json or text/plain",
        example: curl_line(request, "application/json", r#"{"page":"/"}"#),
    }
}

//! `GET` and `POST /event/{action}`: one event in. Answered when it is durable.

use actix_web::{HttpRequest, HttpResponse, http::Method, web::Payload};
use actix_web_lab::extract::LocalData;
use bytes::Bytes;
use bytestring::ByteString;
use chrono::Local;
use sse_proto::{Event, EventType, api::Published, event::InvalidName, json};
use uuid::Uuid;

use super::idempotency;
use crate::{
    broker::idempotency::{AppendItem, Fingerprint, IdempotencyKey},
    http::{
        error::{ApiError, shortened},
        request::{
            body::{self, Body, BodyLimit},
            content_type::{self, ContentType},
            query::{Params, decoded},
        },
        state::AppState,
    },
};

/// Publishes one event. Its type is the action; its data the body, or the tutorial's text if there is no body.
pub(crate) async fn event(
    request: HttpRequest,
    payload: Payload,
    state: LocalData<AppState>,
) -> Result<HttpResponse, ApiError> {
    state.origins.check_publish(&request)?;
    let kind = action(&request)?;
    let channel = Params::parse(request.query_string(), &["channel"])?.channel()?;
    let key = idempotency::header(&request)?;
    let posted = request.method() == Method::POST;
    // The body's share of the memory is held until the event is stored.
    let (data, _body) = if posted {
        let body = posted_body(&request, payload, &state).await?;
        (posted_data(&request, &body)?, Some(body))
    } else {
        (None, None)
    };

    // Of what was sent: the tutorial's text is another each time.
    let idempotency = key.map(|key| IdempotencyKey {
        key,
        content: Fingerprint::of_sent(&kind, data.as_ref()),
    });
    let event = Event {
        kind,
        data: data.unwrap_or_else(tutorial_data),
    };
    let items = vec![AppendItem {
        events: vec![event],
        idempotency,
    }];
    let placed = idempotency::publish(&state, &channel, items, |_| {
        "the Idempotency-Key".to_owned()
    })
    .await?;
    Ok(if posted {
        HttpResponse::Ok().json(Published {
            id: idempotency::ends(&placed)?.first,
        })
    } else {
        HttpResponse::Ok().json(serde_json::json!({}))
    })
}

/// The action in the path, decoded: what follows `/event/`.
fn action(request: &HttpRequest) -> Result<EventType, ApiError> {
    // Not by its name: the router takes `/%65vent/` for the same route.
    let (_, raw) = request.uri().path()[1..]
        .split_once('/')
        .unwrap_or_default();
    let text = ByteString::from(decoded(raw, "path")?);
    let wrong = |why: InvalidName| ApiError::InvalidName {
        what: "action",
        value: shortened(&text),
        why,
    };
    text.clone().try_into().map_err(wrong)
}

async fn posted_body<'a>(
    request: &HttpRequest,
    payload: Payload,
    state: &'a AppState,
) -> Result<Body<'a>, ApiError> {
    let limit = BodyLimit {
        bytes_max: state.limits.event_bytes_max,
        what: "the event",
        flag: "--event-bytes-max",
    };
    body::read(request, payload, limit, &state.body_memory).await
}

/// The data in a body; none if there is no body.
fn posted_data(request: &HttpRequest, body: &Body<'_>) -> Result<Option<ByteString>, ApiError> {
    let bytes = body.bytes.clone();
    match content_type::of(request) {
        Ok(ContentType::Json) => compact(bytes).map(Some),
        Ok(ContentType::Text) => content_type::text(bytes).map(Some),
        _ if bytes.is_empty() => Ok(None),
        Ok(ContentType::Unspecified) => Err(unsupported(
            "the body has no type, or that of an HTML form".to_owned(),
            request,
        )),
        Ok(ContentType::NdJson) => Err(unsupported(
            "lines of JSON are a batch, and go to POST /events".to_owned(),
            request,
        )),
        Err(found) => Err(unsupported(found, request)),
    }
}

fn compact(body: Bytes) -> Result<ByteString, ApiError> {
    json::compact(&content_type::json_text(body)?)
        .map_err(|error| ApiError::InvalidJson(error.to_string()))
}

/// What the tutorial's app sends: a JSON string with a random user and the local time.
fn tutorial_data() -> ByteString {
    let timestamp = Local::now().format("%d-%b-%Y (%H:%M:%S%.6f)");
    serde_json::Value::String(format!(
        "user_id: {}, timestamp: {timestamp}",
        Uuid::new_v4()
    ))
    .to_string()
    .into()
}

fn unsupported(found: String, request: &HttpRequest) -> ApiError {
    ApiError::UnsupportedMediaType {
        found,
        expected: "application/json or text/plain",
        example: content_type::curl_line(request, "application/json", r#"{"page":"/"}"#),
    }
}

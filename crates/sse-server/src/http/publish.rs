//! `GET` and `POST /event/{action}`: one event in. Answered when it is durable.

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, http::Method, web::Payload};
use actix_web_lab::extract::LocalData;
use bytes::Bytes;
use bytestring::ByteString;
use chrono::Local;
use sse_proto::{Event, EventType, api::Published, event::InvalidName, json};
use uuid::Uuid;

use super::{
    Edge,
    body::{self, BodyLimit},
    error::{ApiError, shortened},
    media::{self, Media},
    query::{Params, decoded},
};

/// Publishes one event. Its type is the action; its data the body, or the tutorial's text if there is no body.
pub(super) async fn event(
    request: HttpRequest,
    payload: Payload,
    edge: LocalData<Edge>,
) -> Result<HttpResponse, ApiError> {
    edge.origins.check_publish(&request)?;
    let kind = action(&request)?;
    let channel = Params::parse(request.query_string(), &["channel"])?.channel()?;
    let posted = request.method() == Method::POST;
    let data = if posted { posted_data(&request, payload, &edge).await? } else { tutorial_data() };

    let started = Instant::now();
    let bytes = data.len();
    let appended = edge.hub.broker().append(&channel, vec![Event { kind, data }]).await?;
    edge.metrics.published(1, bytes, started.elapsed());
    Ok(if posted {
        HttpResponse::Ok().json(Published { id: appended.first })
    } else {
        HttpResponse::Ok().json(serde_json::json!({}))
    })
}

/// The action in the path, decoded: what follows `/event/`.
fn action(request: &HttpRequest) -> Result<EventType, ApiError> {
    let raw = request.uri().path().strip_prefix("/event/").unwrap_or_default();
    let text = decoded(raw, "path")?;
    let value = shortened(&text);
    ByteString::from(text).try_into().map_err(|why: InvalidName| ApiError::InvalidName { what: "action", value, why })
}

async fn posted_data(request: &HttpRequest, payload: Payload, edge: &Edge) -> Result<ByteString, ApiError> {
    let media = media::of(request);
    let limit = BodyLimit { bytes_max: edge.limits.event_bytes_max, what: "the event", flag: "--event-bytes-max" };
    let body = body::read(request, payload, limit, &edge.body_memory).await?;
    match media {
        Ok(Media::Json) => compact(body.bytes),
        Ok(Media::Text) => media::text(body.bytes),
        _ if body.bytes.is_empty() => Ok(tutorial_data()),
        Ok(Media::Unsaid) => Err(unsupported("the body has no type, or that of an HTML form".to_owned(), request)),
        Ok(Media::NdJson) => Err(unsupported("lines of JSON are a batch, and go to POST /events".to_owned(), request)),
        Err(found) => Err(unsupported(found, request)),
    }
}

fn compact(body: Bytes) -> Result<ByteString, ApiError> {
    json::compact(&media::text(body)?).map_err(|error| ApiError::InvalidJson(error.to_string()))
}

/// What the tutorial's app sends: a JSON string with a random user and the local time.
fn tutorial_data() -> ByteString {
    let timestamp = Local::now().format("%d-%b-%Y (%H:%M:%S%.6f)");
    serde_json::Value::String(format!("user_id: {}, timestamp: {timestamp}", Uuid::new_v4())).to_string().into()
}

fn unsupported(found: String, request: &HttpRequest) -> ApiError {
    let host = request.connection_info().host().to_owned();
    let path = shortened(request.uri().path());
    ApiError::UnsupportedType {
        found,
        expected: "application/json or text/plain",
        example: format!(r#"curl -H 'content-type: application/json' -d '{{"page":"/"}}' 'http://{host}{path}'"#),
    }
}

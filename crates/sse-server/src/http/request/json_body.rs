//! The body of a route that takes a small JSON object.

use actix_web::{HttpRequest, web::Payload};
use serde::de::DeserializeOwned;

use super::{
    body,
    content_type::{self, ContentType},
    curl_line::curl_line,
};
use crate::http::{
    error::{ApiError, ApiResult},
    request_limits::Limit,
    state::AppState,
};

/// Reads the body as JSON. `example` is a body that would work.
///
/// # Errors
///
/// - Those of [`body::read`].
/// - `UnsupportedMediaType`: the type is not JSON. A page of another origin can send other types
///   without a preflight.
/// - `InvalidRequest`: the JSON is not what the route expects.
pub(in crate::http) async fn read_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    state: &AppState,
    example: &str,
) -> ApiResult<T> {
    let found = match content_type::parse(request) {
        Ok(ContentType::Json) => None,
        Ok(_) => Some("the type of the body is not JSON".to_owned()),
        Err(found) => Some(found),
    };
    if let Some(found) = found {
        return Err(ApiError::UnsupportedMediaType {
            found,
            expected: "application/json",
            example: curl_line(request, "application/json", example),
        });
    }
    let body = body::read(request, payload, Limit::JSON_BODY, &state.body_memory).await?;
    serde_json::from_slice(&body.bytes).map_err(|error| ApiError::InvalidRequest(error.to_string()))
}

//! `GET /client.js`: the client for pages, as an ES module, and its types.
//!
//! Pages of every origin may load it, because it contains nothing of this server. Its `ETag` changes
//! with its content, and a browser asks at most once per hour.

use std::{fmt::Write as _, sync::LazyLock};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, EntityTag, Header as _, IfNoneMatch},
    },
};
use sha2::{Digest as _, Sha256};

use super::error::ApiResult;

const MODULE: &str = include_str!("client.js");
const TYPES: &str = include_str!("client.d.ts");
const CACHE_CONTROL: &str = "public, max-age=3600";
/// Bytes of the digest in a tag.
const TAG_BYTES: usize = 12;

static MODULE_TAG: LazyLock<EntityTag> = LazyLock::new(|| tag(MODULE));
static TYPES_TAG: LazyLock<EntityTag> = LazyLock::new(|| tag(TYPES));

/// `GET /client.js`.
pub(super) async fn module(request: HttpRequest) -> ApiResult<HttpResponse> {
    let content_type = "text/javascript; charset=utf-8";
    Ok(file(&request, content_type, MODULE, &MODULE_TAG))
}

/// `GET /client.d.ts`.
pub(super) async fn types(request: HttpRequest) -> ApiResult<HttpResponse> {
    let content_type = "text/plain; charset=utf-8";
    Ok(file(&request, content_type, TYPES, &TYPES_TAG))
}

fn tag(text: &str) -> EntityTag {
    let digest = Sha256::digest(text.as_bytes());
    let mut tag = String::new();
    for byte in digest.iter().take(TAG_BYTES) {
        // Writing to a string never fails.
        let _ = write!(tag, "{byte:02x}");
    }
    EntityTag::new_strong(tag)
}

fn file(
    request: &HttpRequest,
    content_type: &'static str,
    text: &'static str,
    tag: &EntityTag,
) -> HttpResponse {
    let is_known = is_known(request, tag);
    let status = if is_known {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    };
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::ETAG, tag.to_string()))
        .insert_header((header::CACHE_CONTROL, CACHE_CONTROL))
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"));
    if is_known {
        return response.finish();
    }
    response.content_type(content_type).body(text)
}

/// Whether the client has the file already (RFC 9110 §13.1.2).
fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => request.headers().contains_key(header::IF_NONE_MATCH),
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_short_and_has_the_version_of_the_server() {
        assert!(MODULE.lines().count() <= 600);
        let version = format!("VERSION = '{}';", env!("CARGO_PKG_VERSION"));
        assert!(MODULE.contains(&version), "{version}");
        assert!(!MODULE.contains("import "), "it has no dependencies");
    }
}

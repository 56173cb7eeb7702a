//! Files that everyone may load: `/client.js`, the client for pages, its types, and
//! `/openapi.yaml`, the description of the routes.
//!
//! Pages of every origin may read them, because they contain nothing of this server. The `ETag`
//! changes with the content, and a browser asks at most once per hour.

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

const MODULE: &str = include_str!("public_files/client.js");
const TYPES: &str = include_str!("public_files/client_types.ts");
const DESCRIPTION: &str = include_str!("public_files/openapi.yaml");
const CACHE_CONTROL: &str = "public, max-age=3600";
/// Bytes of the digest in a tag.
const TAG_BYTES: usize = 12;

static MODULE_TAG: LazyLock<EntityTag> = LazyLock::new(|| tag(MODULE));
static TYPES_TAG: LazyLock<EntityTag> = LazyLock::new(|| tag(TYPES));
static DESCRIPTION_TAG: LazyLock<EntityTag> = LazyLock::new(|| tag(DESCRIPTION));

/// `GET /client.js`.
pub(super) async fn client_module(request: HttpRequest) -> ApiResult<HttpResponse> {
    let content_type = "text/javascript; charset=utf-8";
    Ok(file(&request, content_type, MODULE, &MODULE_TAG))
}

/// `GET /client.d.ts`.
pub(super) async fn client_types(request: HttpRequest) -> ApiResult<HttpResponse> {
    let content_type = "text/plain; charset=utf-8";
    Ok(file(&request, content_type, TYPES, &TYPES_TAG))
}

/// `GET /openapi.yaml`.
pub(super) async fn description(request: HttpRequest) -> ApiResult<HttpResponse> {
    let content_type = "application/yaml";
    Ok(file(&request, content_type, DESCRIPTION, &DESCRIPTION_TAG))
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
    use std::collections::BTreeSet;

    use serde_json::Value;
    use sse_proto::api::GapReason;

    use super::*;
    use crate::http::{error::ROUTES, error_status::ErrorCode};

    #[test]
    fn the_client_is_short_and_has_the_version_of_the_server() {
        assert!(MODULE.lines().count() <= 600);
        let version = format!("VERSION = '{}';", env!("CARGO_PKG_VERSION"));
        assert!(MODULE.contains(&version), "{version}");
        assert!(!MODULE.contains("\nimport "), "it has no dependencies");
    }

    fn described() -> Value {
        serde_saphyr::from_str(DESCRIPTION).unwrap()
    }

    /// The routes of the description, such as `GET /stream`. Errors do not list the dashboard, nor
    /// methods without a body.
    fn described_routes() -> BTreeSet<String> {
        let described = described();
        let paths = described["paths"].as_object().unwrap().iter();
        let is_page = |path: &str| path == "/" || path.starts_with("/dashboard.");
        let paths = paths.filter(|(path, _)| !is_page(path));
        let routes = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        let methods = ["GET ", "POST ", "PUT ", "DELETE "];
        routes
            .filter(|route| methods.iter().any(|method| route.starts_with(method)))
            .collect()
    }

    #[test]
    fn the_description_has_the_routes_that_errors_list() {
        let mut listed = BTreeSet::new();
        let mut methods = Vec::new();
        for item in ROUTES.split([' ', ',']).filter(|word| !word.is_empty()) {
            match item {
                "or" => {}
                path if path.starts_with('/') => {
                    let routes = methods.drain(..).map(|method| format!("{method} {path}"));
                    listed.extend(routes);
                }
                method => methods.push(method),
            }
        }
        assert_eq!(listed, described_routes());
    }

    #[test]
    fn the_description_has_every_error_code_under_its_status() {
        let described = described();
        let responses = described["components"]["responses"].as_object().unwrap();
        let mut found = BTreeSet::new();
        for (status, response) in responses {
            let schema = &response["content"]["application/json"]["schema"];
            let codes = &schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"];
            for code in codes.as_array().into_iter().flatten() {
                found.insert(format!("{status} {}", code.as_str().unwrap()));
            }
        }
        let rows = ErrorCode::ALL.iter().map(|code| code.row());
        let expected = rows.map(|(code, status)| format!("{} {code}", status.as_u16()));
        assert_eq!(found, expected.collect());
    }

    #[test]
    fn the_description_has_every_reason_of_a_gap_and_the_version() {
        let described = described();
        let reasons = &described["components"]["schemas"]["gap"]["properties"]["reason"]["enum"];
        let reasons = reasons.as_array().unwrap().iter();
        let found: BTreeSet<_> = reasons.map(|reason| reason.as_str().unwrap()).collect();
        assert_eq!(found, GapReason::ALL.map(GapReason::as_str).into());
        assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}

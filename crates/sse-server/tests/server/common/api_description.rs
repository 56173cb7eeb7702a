//! Checks responses against `openapi.yaml`.
//!
//! A status, a content type, a header or a member of a JSON object that the description lacks is an
//! error, so the tests that exist keep the description complete.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use http::{HeaderMap, Method, StatusCode, header};
use jsonschema::{Draft, Validator};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

static DESCRIPTION: LazyLock<ApiDescription> = LazyLock::new(|| {
    ApiDescription::parse(include_str!("../../../src/http/public_files/openapi.yaml"))
});

/// Statuses that do not depend on the path: a header is wrong, or the request is for another host.
const ANYWHERE: [StatusCode; 2] = [StatusCode::BAD_REQUEST, StatusCode::MISDIRECTED_REQUEST];
/// Statuses of CORS preflights, which are answered before the path is looked at.
const PREFLIGHT: [StatusCode; 2] = [StatusCode::OK, StatusCode::FORBIDDEN];

/// Statuses without a body, for input that is barely HTTP.
const BARELY_HTTP: [StatusCode; 3] = [
    StatusCode::BAD_REQUEST,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
];

/// A request and the response to it.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'a> {
    pub(crate) method: &'a Method,
    /// The path as sent, without the query.
    pub(crate) path: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    /// `None` if the body was not read, or is not JSON.
    pub(crate) body: Option<&'a [u8]>,
}

impl Exchange<'_> {
    /// Returns what the description lacks.
    pub(crate) fn check(&self) -> Result<(), String> {
        let what = format!("{} {}: {}", self.method, self.path, self.status);
        DESCRIPTION
            .check(self)
            .map_err(|why| format!("{what} is not as openapi.yaml describes it: {why}"))
    }

    fn content_type(&self) -> Option<&str> {
        let value = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        value.split(';').next().map(str::trim)
    }

    fn is_preflight(&self) -> bool {
        self.method == Method::OPTIONS && PREFLIGHT.contains(&self.status)
    }
}

/// The description, with a validator for each schema that was needed.
struct ApiDescription {
    document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl ApiDescription {
    fn parse(yaml: &str) -> Self {
        let mut document: Value = serde_saphyr::from_str(yaml).expect("openapi.yaml is YAML");
        close_objects(&mut document);
        Self {
            document,
            validators: Mutex::default(),
        }
    }

    fn check(&self, exchange: &Exchange<'_>) -> Result<(), String> {
        if exchange.content_type().is_none() && BARELY_HTTP.contains(&exchange.status) {
            return Ok(());
        }
        if ANYWHERE.contains(&exchange.status) || exchange.is_preflight() {
            return self.check_response(exchange, &response_pointer(exchange.status));
        }
        let Some(path) = self.find_path(exchange.path) else {
            return expect_status(exchange, StatusCode::NOT_FOUND);
        };
        let method = exchange.method.as_str().to_ascii_lowercase();
        let operation = format!("/paths/{}/{method}", escape(&path));
        if self.document.pointer(&operation).is_none() {
            return match exchange.status {
                // `/admin` has an address of its own, or `/` was requested by a program.
                StatusCode::NOT_FOUND => Ok(()),
                _ => expect_status(exchange, StatusCode::METHOD_NOT_ALLOWED),
            };
        }
        let status = exchange.status.as_u16();
        self.check_response(exchange, &format!("{operation}/responses/{status}"))
    }

    /// Returns the described path that `path` is an instance of.
    fn find_path(&self, path: &str) -> Option<String> {
        let path = percent_decode_str(path).decode_utf8_lossy();
        let described = self.document["paths"].as_object()?.keys();
        // A path without parameters takes precedence.
        let mut found: Vec<_> = described
            .filter(|described| is_instance(&path, described))
            .collect();
        found.sort_by_key(|described| described.matches('{').count());
        found.first().map(|described| (*described).clone())
    }

    fn check_response(&self, exchange: &Exchange<'_>, pointer: &str) -> Result<(), String> {
        let missing = || "no such status".to_owned();
        let response = self.document.pointer(pointer).ok_or_else(missing)?;
        if let Some(reference) = response["$ref"].as_str() {
            return self.check_response(exchange, reference.trim_start_matches('#'));
        }
        self.check_headers(exchange, response)?;
        // A response to `HEAD` has the headers of a body, and no body.
        if exchange.method == Method::HEAD || exchange.is_preflight() {
            return Ok(());
        }
        let Some(content) = response["content"].as_object() else {
            return match exchange.content_type() {
                Some(found) => Err(format!("it has a body of the type {found}")),
                None => Ok(()),
            };
        };
        let found = exchange.content_type().unwrap_or_default();
        if !content.contains_key(found) {
            return Err(format!("content type {found:?}"));
        }
        let schema = format!("{pointer}/content/{}/schema", escape(found));
        match exchange.body {
            Some(body) => self.check_body(body, found, &schema),
            None => Ok(()),
        }
    }

    /// Checks that the headers are there that the description requires.
    fn check_headers(&self, exchange: &Exchange<'_>, response: &Value) -> Result<(), String> {
        let described = response["headers"].as_object().into_iter().flatten();
        for (name, header) in described {
            let header = match header["$ref"].as_str() {
                Some(reference) => self.document.pointer(&reference[1..]).expect("a header"),
                None => header,
            };
            if header["required"] == true && !exchange.headers.contains_key(name) {
                return Err(format!("the header {name} is missing"));
            }
        }
        Ok(())
    }

    fn check_body(&self, body: &[u8], content_type: &str, schema: &str) -> Result<(), String> {
        let values: Vec<&[u8]> = match content_type {
            "application/json" => vec![body],
            "application/x-ndjson" => body.split_inclusive(|byte| *byte == b'\n').collect(),
            _ => return Ok(()),
        };
        let validator = self.validator(schema);
        for value in values {
            let value: Value = serde_json::from_slice(value).map_err(|why| why.to_string())?;
            let mut errors = String::new();
            for error in validator.iter_errors(&value) {
                let _ = write!(errors, "\n  {error}");
            }
            if !errors.is_empty() {
                return Err(format!("{errors}\n  in {value}"));
            }
        }
        Ok(())
    }

    /// Returns the validator of the schema at `pointer`.
    fn validator(&self, pointer: &str) -> Arc<Validator> {
        let lock = || {
            self.validators
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(validator) = lock().get(pointer) {
            return validator.clone();
        }
        let mut schema = self.document.pointer(pointer).expect("a schema").clone();
        // Its references begin at the root.
        schema["components"] = self.document["components"].clone();
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|why| panic!("the schema {pointer}: {why}"));
        let validator = Arc::new(validator);
        lock().insert(pointer.to_owned(), validator.clone());
        validator
    }
}

/// The pointer to the response that all operations share.
fn response_pointer(status: StatusCode) -> String {
    match status {
        StatusCode::OK => "/components/responses/options".to_owned(),
        status => format!("/components/responses/{}", status.as_u16()),
    }
}

fn expect_status(exchange: &Exchange<'_>, expected: StatusCode) -> Result<(), String> {
    if exchange.status != expected {
        return Err(format!(
            "the status must be {expected}, because there is no such operation"
        ));
    }
    DESCRIPTION.check_response(exchange, &response_pointer(expected))
}

/// Escapes a part of a JSON pointer (RFC 6901).
fn escape(part: &str) -> String {
    part.replace('~', "~0").replace('/', "~1")
}

/// Whether `path` is an instance of a described path. An action takes the rest of the path.
fn is_instance(path: &str, described: &str) -> bool {
    if let Some((prefix, "{action}")) = described.rsplit_once('/') {
        return path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with('/'));
    }
    let (parts, described) = (path.split('/'), described.split('/'));
    parts.clone().count() == described.clone().count()
        && parts.zip(described).all(|(part, described)| {
            part == described || (described.starts_with('{') && !part.is_empty())
        })
}

/// Forbids members that a schema does not name.
fn close_objects(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(close_objects),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                // These add to a schema of a name, which has all members.
                if name != "allOf" {
                    close_objects(member);
                }
            }
            if is_object_schema(members) {
                members
                    .entry("additionalProperties")
                    .or_insert(Value::Bool(false));
            }
        }
        _ => {}
    }
}

fn is_object_schema(schema: &Map<String, Value>) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object") && schema.contains_key("properties")
}

#[test]
fn what_the_description_lacks_is_found() {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        "application/json; charset=utf-8".parse().unwrap(),
    );
    headers.insert(header::ALLOW, "GET".parse().unwrap());
    let check = |method: Method, path: &str, status: u16, body: &str| {
        let exchange = Exchange {
            method: &method,
            path,
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            body: Some(body.as_bytes()),
        };
        exchange.check()
    };
    let error = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
    let live = r#"{"status":"live"}"#;
    for (method, path, status, body) in [
        (Method::GET, "/health/live", 200, live),
        (
            Method::GET,
            "/admin/streams",
            200,
            r#"{"total":0,"streams":[]}"#,
        ),
        (Method::GET, "/none", 404, &error("not_found")),
        (Method::PUT, "/stream", 405, &error("method_not_allowed")),
        (Method::POST, "/event/a/b", 400, &error("invalid_action")),
        (Method::POST, "/%65vent/a", 413, &error("too_large")),
    ] {
        assert_eq!(check(method, path, status, body), Ok(()), "{path}");
    }
    for (method, path, status, body, why) in [
        (
            Method::GET,
            "/health/live",
            200,
            r#"{"status":"live","x":1}"#,
            "'x'",
        ),
        (Method::GET, "/health/live", 200, r#"{"status":1}"#, "live"),
        (Method::GET, "/health/live", 503, live, "no such status"),
        (Method::GET, "/stream", 200, live, "content type"),
        (Method::GET, "/none", 200, live, "must be 404"),
        (Method::PUT, "/stream", 200, live, "must be 405"),
        (
            Method::GET,
            "/events",
            400,
            &error("too_large"),
            "too_large",
        ),
        (
            Method::GET,
            "/health/ready",
            503,
            &error("busy"),
            "retry-after",
        ),
    ] {
        let found = check(method, path, status, body).unwrap_err();
        assert!(found.to_lowercase().contains(why), "{found}");
    }
}

//! The condition of a publish: `If-Match` and `If-None-Match` (RFC 9110, section 13).
//!
//! Only the forms that can hold are accepted. A weak tag never matches, and a list of tags would
//! mean that a publisher does not know what it has seen.

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderName},
};
use sse_proto::EventId;

use crate::{
    broker::lifecycle::Condition,
    http::error::{ApiError, ApiResult},
};

/// Reads the condition of a request; returns `None` if it has none.
pub(in crate::http) fn parse(request: &HttpRequest) -> ApiResult<Option<Condition>> {
    let newest = one_value(request, &header::IF_MATCH)?;
    let none = one_value(request, &header::IF_NONE_MATCH)?;
    match (newest, none) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(ApiError::InvalidCondition(
            "If-Match and If-None-Match exclude each other: send one of them",
        )),
        (Some(tag), None) => parse_tag(&tag).map(|id| Some(Condition::Newest(id))),
        (None, Some(star)) if star == "*" => Ok(Some(Condition::NoEvent)),
        (None, Some(_)) => Err(ApiError::InvalidCondition(
            "If-None-Match can only be *, which means that the channel has never had an event",
        )),
    }
}

fn one_value(request: &HttpRequest, name: &HeaderName) -> ApiResult<Option<String>> {
    let mut values = request.headers().get_all(name);
    let first = values.next();
    if values.next().is_some() {
        return Err(ApiError::InvalidCondition(
            "If-Match and If-None-Match can be given once",
        ));
    }
    Ok(first.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned()))
}

fn parse_tag(text: &str) -> ApiResult<EventId> {
    let quoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    quoted
        .and_then(|id| id.parse().ok())
        .ok_or(ApiError::InvalidCondition(
            "If-Match must be one id in quotes, as in the ETag of a response",
        ))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn parse_headers(headers: &[(&'static str, &str)]) -> Result<Option<Condition>, String> {
        let mut request = TestRequest::default();
        for header in headers {
            request = request.append_header(*header);
        }
        parse(&request.to_http_request()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_strong_tag_or_a_star_is_a_condition() {
        assert_eq!(parse_headers(&[]), Ok(None));
        let newest = Condition::Newest(EventId::new(5, 1));
        assert_eq!(parse_headers(&[("if-match", "\"5-1\"")]), Ok(Some(newest)));
        assert_eq!(
            parse_headers(&[("if-none-match", "*")]),
            Ok(Some(Condition::NoEvent))
        );
        for bad in [
            &[("if-match", "5-1")][..],
            &[("if-match", "W/\"5-1\"")],
            &[("if-match", "\"5-1\", \"6-1\"")],
            &[("if-match", "*")],
            &[("if-match", "\"x\"")],
            &[("if-none-match", "\"5-1\"")],
            &[("if-match", "\"5-1\""), ("if-match", "\"6-1\"")],
            &[("if-match", "\"5-1\""), ("if-none-match", "*")],
        ] {
            assert!(parse_headers(bad).is_err(), "{bad:?}");
        }
    }
}

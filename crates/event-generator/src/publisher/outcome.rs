//! Outcome of a request: its events were stored, were certainly not stored, or may have been
//! stored.
//!
//! Pure. In doubt the outcome is unknown: a counted loss must be a loss, and every loss must be
//! counted.

use hyper::StatusCode;
use sse_proto::api::{ErrorBody, ErrorDetail, Published};

use super::{
    failure::Failure,
    ids::{ExpectedResponse, Ids, parse_ids},
    response::{NoResponse, Response},
};

/// Error code of a 503 for an event that may have been stored.
const OUTCOME_UNKNOWN: &str = "outcome_unknown";
/// Longest message of a server that is shown, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// Outcome of a request, which is the same for all of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server has stored the events.
    Acknowledged(Ids),
    /// The events were certainly not stored.
    NotStored(Failure),
    /// The events may have been stored, or may still be stored.
    Unknown(Failure),
}

impl Outcome {
    /// Interprets a response, or its absence.
    pub(crate) fn from_result(
        expected: ExpectedResponse,
        response: Result<Response, NoResponse>,
    ) -> Self {
        match response {
            Ok(Response { status, body, .. }) => Self::from_response(expected, status, &body),
            Err(NoResponse::Connect(why)) => Self::NotStored(Failure::Connect(why)),
            Err(NoResponse::Timeout) => Self::Unknown(Failure::Timeout),
            Err(NoResponse::Broken(why)) => Self::Unknown(Failure::Broken(why)),
        }
    }

    fn from_response(expected: ExpectedResponse, status: StatusCode, body: &[u8]) -> Self {
        if expected == ExpectedResponse::AnySuccess && status.is_success() {
            Self::Acknowledged(optional_id(body))
        } else if status == StatusCode::OK {
            parse_ids(expected, body).map_or(Self::Unknown(Failure::Unreadable), Self::Acknowledged)
        } else {
            Self::from_error(status, body)
        }
    }

    fn from_error(status: StatusCode, body: &[u8]) -> Self {
        let body = serde_json::from_slice::<ErrorBody>(body).ok();
        let error = body.as_ref().map(|body| &body.error);
        let failure = Failure::Status {
            status,
            message: describe_error(status, error),
        };
        if is_certainly_not_stored(status, error) {
            Self::NotStored(failure)
        } else {
            Self::Unknown(failure)
        }
    }
}

/// Returns the id in the response of any server, if it has one like sse-server.
fn optional_id(body: &[u8]) -> Ids {
    serde_json::from_slice::<Published>(body)
        .map_or(Ids::NotReported, |published| Ids::Event(published.id))
}

fn is_certainly_not_stored(status: StatusCode, error: Option<&ErrorDetail>) -> bool {
    match status {
        // Only an error of sse-server proves it: a 503 of a proxy may hide an event that was
        // stored.
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => {
            error.is_some_and(|error| error.code != OUTCOME_UNKNOWN)
        }
        _ => status.is_redirection() || status.is_client_error(),
    }
}

fn describe_error(status: StatusCode, error: Option<&ErrorDetail>) -> String {
    match error {
        Some(error) => printable(&format!("{} ({})", error.message, error.code)),
        None if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "the proxy asks for a user name and a password: add them to its variable, like \
             HTTP_PROXY=http://user:password@host:port"
                .to_owned()
        }
        None if status.is_redirection() => {
            "redirects are not followed: set the new address with --url".to_owned()
        }
        None => String::new(),
    }
}

/// Returns a text of the server that is limited in length and cannot control a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .take(MESSAGE_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use sse_proto::EventId;

    use super::*;

    fn outcome(status: u16, body: &str) -> Outcome {
        outcome_of(ExpectedResponse::Event, status, body)
    }

    fn outcome_of(expected: ExpectedResponse, status: u16, body: &str) -> Outcome {
        Outcome::from_response(
            expected,
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
        )
    }

    fn error(code: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"do better"}}}}"#)
    }

    #[test]
    fn an_id_is_an_acknowledgement() {
        assert_eq!(
            outcome(200, r#"{"id":"5-1"}"#),
            Outcome::Acknowledged(Ids::Event(EventId::new(5, 1)))
        );
    }

    #[test]
    fn a_batch_is_acknowledged_only_as_a_whole() {
        let answer = r#"{"first_id":"5-1","last_id":"5-3","count":3}"#;
        let ids = Ids::Batch {
            first: EventId::new(5, 1),
            last: EventId::new(5, 3),
            count: 3,
        };
        assert_eq!(
            outcome_of(ExpectedResponse::Batch(3), 200, answer),
            Outcome::Acknowledged(ids)
        );
        for (count, body) in [(4, answer), (1, r#"{"id":"5-1"}"#), (3, "")] {
            assert_eq!(
                outcome_of(ExpectedResponse::Batch(count), 200, body),
                Outcome::Unknown(Failure::Unreadable),
                "{body}"
            );
        }
    }

    #[test]
    fn any_success_of_any_server_is_an_acknowledgement() {
        for (status, body) in [(200, "urn:uuid:1"), (201, ""), (202, "{}"), (204, "")] {
            assert_eq!(
                outcome_of(ExpectedResponse::AnySuccess, status, body),
                Outcome::Acknowledged(Ids::NotReported),
                "{status}"
            );
        }
        let own = outcome_of(ExpectedResponse::AnySuccess, 200, r#"{"id":"5-1"}"#);
        assert_eq!(own, Outcome::Acknowledged(Ids::Event(EventId::new(5, 1))));
        assert!(matches!(
            outcome_of(ExpectedResponse::AnySuccess, 403, ""),
            Outcome::NotStored(_)
        ));
        assert!(matches!(
            outcome_of(ExpectedResponse::AnySuccess, 500, ""),
            Outcome::Unknown(_)
        ));
    }

    #[test]
    fn an_event_counts_as_not_stored_only_if_that_is_certain() {
        for (status, body) in [
            (301, String::new()),
            (400, error("invalid_channel")),
            (404, "<html>".to_owned()),
            (429, String::new()),
            (503, error("broker_unavailable")),
        ] {
            assert!(
                matches!(outcome(status, &body), Outcome::NotStored(_)),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn in_doubt_the_outcome_is_unknown() {
        for (status, body) in [
            (200, ""),
            (200, "{}"),
            (200, r#"{"id":"five"}"#),
            (202, r#"{"id":"5-1"}"#),
            (204, ""),
            (500, &error("internal")),
            (502, ""),
            (503, ""),
            (503, "<html>"),
            (503, &error(OUTCOME_UNKNOWN)),
            (504, ""),
        ] {
            assert!(
                matches!(outcome(status, body), Outcome::Unknown(_)),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn the_message_of_the_server_is_shown_but_cannot_control_a_terminal() {
        let shown = |outcome| match outcome {
            Outcome::NotStored(failure) | Outcome::Unknown(failure) => failure.to_string(),
            Outcome::Acknowledged(_) => String::new(),
        };
        assert_eq!(
            shown(outcome(400, &error("bad"))),
            "400 Bad Request: do better (bad)"
        );
        assert_eq!(shown(outcome(502, "<html>")), "502 Bad Gateway");
        assert_eq!(
            shown(outcome(400, &error(r"\u001b[2J"))),
            "400 Bad Request: do better (\u{fffd}[2J)"
        );
        assert!(shown(outcome(400, &error(&"x".repeat(5000)))).len() < 400);
    }
}

//! What an answer, or its absence, says about an event: stored, certainly not stored, or nobody knows.
//!
//! Pure. In doubt it is unknown: a loss that is counted where there was none would be a lie, and so would the reverse.

use reqwest::StatusCode;
use sse_proto::{
    EventId,
    api::{ErrorBody, Published},
};

/// The code of a 503 for an event that may have been stored.
const OUTCOME_UNKNOWN: &str = "outcome_unknown";
/// Longest text of a server that is shown, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server stored it under this id.
    Acknowledged(EventId),
    /// It was certainly not stored.
    Refused(Failure),
    /// It may have been stored, or may still be.
    Unknown(Failure),
}

/// Why an event was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no answer in time")]
    Timeout,
    #[error("the connection broke before the answer: {0}")]
    Broken(String),
    #[error("{status}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Status { status: StatusCode, message: String },
    #[error("200 OK, but the answer is not {{\"id\":\"…\"}}")]
    Unreadable,
    #[error("the run stopped before the answer came")]
    Stopped,
}

/// What counts as the same trouble when messages are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Connect,
    Timeout,
    Broken,
    Status(u16),
    Unreadable,
    Stopped,
}

impl Outcome {
    /// What the status and the body of an answer say.
    pub(crate) fn of_answer(status: StatusCode, body: &[u8]) -> Self {
        if status == StatusCode::OK {
            return serde_json::from_slice::<Published>(body)
                .map_or(Self::Unknown(Failure::Unreadable), |published| Self::Acknowledged(published.id));
        }
        let error = serde_json::from_slice::<ErrorBody>(body).ok().map(|body| body.error);
        let refused = match status {
            // Only our server's word proves it: a 503 of a proxy may hide an event that was stored.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => {
                error.as_ref().is_some_and(|error| error.code != OUTCOME_UNKNOWN)
            }
            _ => status.is_redirection() || status.is_client_error(),
        };
        let message = match error {
            Some(error) => printable(&format!("{} ({})", error.message, error.code)),
            None if status.is_redirection() => "redirects are not followed, give the new address by --url".to_owned(),
            None => String::new(),
        };
        let failure = Failure::Status { status, message };
        if refused { Self::Refused(failure) } else { Self::Unknown(failure) }
    }

    /// The status that was answered, if any was.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Acknowledged(_) | Self::Unknown(Failure::Unreadable) => Some(StatusCode::OK),
            Self::Refused(Failure::Status { status, .. }) | Self::Unknown(Failure::Status { status, .. }) => {
                Some(*status)
            }
            Self::Refused(_) | Self::Unknown(_) => None,
        }
    }
}

impl Failure {
    /// Its kind, of which there are few.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Connect(_) => Kind::Connect,
            Self::Timeout => Kind::Timeout,
            Self::Broken(_) => Kind::Broken,
            Self::Status { status, .. } => Kind::Status(status.as_u16()),
            Self::Unreadable => Kind::Unreadable,
            Self::Stopped => Kind::Stopped,
        }
    }
}

/// A server's text, cut, and unable to move the cursor of a terminal.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(MESSAGE_CHARS_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, body: &str) -> Outcome {
        Outcome::of_answer(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    fn error(code: &str) -> String {
        format!(r#"{{"error":{{"code":"{code}","message":"do better"}}}}"#)
    }

    #[test]
    fn an_id_is_an_acknowledgement() {
        assert_eq!(outcome(200, r#"{"id":"5-1"}"#), Outcome::Acknowledged(EventId::new(5, 1)));
    }

    #[test]
    fn an_event_is_refused_only_when_that_is_certain() {
        for (status, body) in [
            (301, String::new()),
            (400, error("invalid_channel")),
            (404, "<html>".to_owned()),
            (429, String::new()),
            (503, error("broker_unavailable")),
        ] {
            assert!(matches!(outcome(status, &body), Outcome::Refused(_)), "{status} {body}");
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
            assert!(matches!(outcome(status, body), Outcome::Unknown(_)), "{status} {body}");
        }
    }

    #[test]
    fn every_answer_has_its_status_and_no_answer_has_none() {
        for status in [200, 202, 301, 400, 500, 503] {
            assert_eq!(outcome(status, "{}").status().map(|status| status.as_u16()), Some(status));
        }
        assert_eq!(Outcome::Refused(Failure::Connect(String::new())).status(), None);
        assert_eq!(Outcome::Unknown(Failure::Timeout).status(), None);
    }

    #[test]
    fn the_servers_message_is_shown_but_cannot_command_a_terminal() {
        let shown = |outcome| match outcome {
            Outcome::Refused(failure) | Outcome::Unknown(failure) => failure.to_string(),
            Outcome::Acknowledged(_) => String::new(),
        };
        assert_eq!(shown(outcome(400, &error("bad"))), "400 Bad Request: do better (bad)");
        assert_eq!(shown(outcome(502, "<html>")), "502 Bad Gateway");
        assert_eq!(shown(outcome(400, &error(r"\u001b[2J"))), "400 Bad Request: do better (\u{fffd}[2J)");
        assert!(shown(outcome(400, &error(&"x".repeat(5000)))).len() < 400);
    }
}

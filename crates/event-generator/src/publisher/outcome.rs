//! What an answer, or its absence, says about events: stored, certainly not stored, or nobody knows.
//!
//! Pure. In doubt it is unknown: a loss that is counted where there was none would be a lie, and so would the reverse.

use hyper::StatusCode;
use sse_proto::{
    EventId,
    api::{BatchPublished, ErrorBody, Published},
};

use super::reply::{NoReply, Reply};

/// The code of a 503 for an event that may have been stored.
const OUTCOME_UNKNOWN: &str = "outcome_unknown";
/// Longest text of a server that is shown, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// What is asked for, and so which answer says that it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedReply {
    /// One event, of our API.
    Event,
    /// So many events, of our API.
    Batch(u64),
    /// One event, of any server: each 2xx will do.
    AnySuccess,
}

/// What became of the events of a request: all of them have the same fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server has taken them.
    Acknowledged(Ids),
    /// They were certainly not stored.
    NotStored(Failure),
    /// They may have been stored, or may still be.
    Unknown(Failure),
}

/// The ids that events got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ids {
    /// The server did not say.
    NotReported,
    /// Of one event.
    Event(EventId),
    /// Of the first and the last event of a batch of so many.
    Batch {
        first: EventId,
        last: EventId,
        count: u64,
    },
}

impl Ids {
    /// The id of the event at this place, from 0, if it is known.
    ///
    /// Between the first and the last id of a batch lie only events of it, and ids grow. So where there are just as many
    /// ids between the two as events, each event's id is known; else only those of the first and the last one.
    pub(crate) fn id_at(&self, place: u64) -> Option<EventId> {
        match *self {
            Self::NotReported => None,
            Self::Event(id) => (place == 0).then_some(id),
            Self::Batch { first, .. } if place == 0 => Some(first),
            Self::Batch { last, count, .. } if place + 1 == count => Some(last),
            Self::Batch { first, last, count } => {
                let leaves_no_gap =
                    first.ms == last.ms && last.seq.checked_sub(first.seq) == Some(count - 1);
                (leaves_no_gap && place < count).then(|| EventId::new(first.ms, first.seq + place))
            }
        }
    }
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
    #[error("200 OK, but the answer is not that of sse-server (for another one, say --path)")]
    Unreadable,
    #[error("not sent: {0}")]
    Unsendable(String),
    #[error("the run stopped before the answer came")]
    Stopped,
}

/// What counts as the same trouble when messages are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureKind {
    Connect,
    Timeout,
    Broken,
    Status(u16),
    Unreadable,
    Unsendable,
    Stopped,
}

impl Outcome {
    /// What an answer says, or that none came.
    pub(crate) fn from_reply(expected: ExpectedReply, reply: Result<Reply, NoReply>) -> Self {
        match reply {
            Ok(Reply { status, body }) => Self::from_response(expected, status, &body),
            Err(NoReply::Connect(why)) => Self::NotStored(Failure::Connect(why)),
            Err(NoReply::Timeout) => Self::Unknown(Failure::Timeout),
            Err(NoReply::Broken(why)) => Self::Unknown(Failure::Broken(why)),
        }
    }

    fn from_response(expected: ExpectedReply, status: StatusCode, body: &[u8]) -> Self {
        if expected == ExpectedReply::AnySuccess && status.is_success() {
            let published = serde_json::from_slice::<Published>(body);
            return Self::Acknowledged(
                published.map_or(Ids::NotReported, |published| Ids::Event(published.id)),
            );
        }
        if status == StatusCode::OK {
            return parse_ids(expected, body)
                .map_or(Self::Unknown(Failure::Unreadable), Self::Acknowledged);
        }
        let error = serde_json::from_slice::<ErrorBody>(body)
            .ok()
            .map(|body| body.error);
        let refused = match status {
            // Only our server's word proves it: a 503 of a proxy may hide an event that was stored.
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::INSUFFICIENT_STORAGE => error
                .as_ref()
                .is_some_and(|error| error.code != OUTCOME_UNKNOWN),
            _ => status.is_redirection() || status.is_client_error(),
        };
        let message = match error {
            Some(error) => printable(&format!("{} ({})", error.message, error.code)),
            None if status.is_redirection() => {
                "redirects are not followed, give the new address by --url".to_owned()
            }
            None => String::new(),
        };
        let failure = Failure::Status { status, message };
        if refused {
            Self::NotStored(failure)
        } else {
            Self::Unknown(failure)
        }
    }
}

/// The ids in an answer of our API, if it is one.
fn parse_ids(expected: ExpectedReply, body: &[u8]) -> Option<Ids> {
    match expected {
        ExpectedReply::Event | ExpectedReply::AnySuccess => Some(Ids::Event(
            serde_json::from_slice::<Published>(body).ok()?.id,
        )),
        ExpectedReply::Batch(count) => {
            let BatchPublished {
                first_id: first,
                last_id: last,
                count: stored,
                ..
            } = serde_json::from_slice(body).ok()?;
            (u64::try_from(stored) == Ok(count)).then_some(Ids::Batch { first, last, count })
        }
    }
}

impl Failure {
    /// Its kind, of which there are few.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Connect(_) => FailureKind::Connect,
            Self::Timeout => FailureKind::Timeout,
            Self::Broken(_) => FailureKind::Broken,
            Self::Status { status, .. } => FailureKind::Status(status.as_u16()),
            Self::Unreadable => FailureKind::Unreadable,
            Self::Unsendable(_) => FailureKind::Unsendable,
            Self::Stopped => FailureKind::Stopped,
        }
    }
}

/// A server's text, cut, and unable to move the cursor of a terminal.
fn printable(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().take(MESSAGE_CHARS_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u16, body: &str) -> Outcome {
        outcome_of(ExpectedReply::Event, status, body)
    }

    fn outcome_of(expected: ExpectedReply, status: u16, body: &str) -> Outcome {
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
            outcome_of(ExpectedReply::Batch(3), 200, answer),
            Outcome::Acknowledged(ids)
        );
        for (count, body) in [(4, answer), (1, r#"{"id":"5-1"}"#), (3, "")] {
            assert_eq!(
                outcome_of(ExpectedReply::Batch(count), 200, body),
                Outcome::Unknown(Failure::Unreadable),
                "{body}"
            );
        }
    }

    #[test]
    fn an_id_within_a_batch_is_known_where_no_other_is_possible() {
        let known = |first, last: (u64, u64), count| {
            let ids = Ids::Batch {
                first,
                last: EventId::new(last.0, last.1),
                count,
            };
            (0..=count)
                .map(|place| ids.id_at(place).map(|id| (id.ms, id.seq)))
                .collect::<Vec<_>>()
        };
        let first = EventId::new(5, 1);
        assert_eq!(
            known(first, (5, 3), 3),
            [Some((5, 1)), Some((5, 2)), Some((5, 3)), None]
        );
        assert_eq!(
            known(first, (5, 4), 3),
            [Some((5, 1)), None, Some((5, 4)), None]
        );
        assert_eq!(
            known(first, (6, 2), 3),
            [Some((5, 1)), None, Some((6, 2)), None]
        );
        assert_eq!(known(first, (5, 1), 1), [Some((5, 1)), None]);
        assert_eq!(
            (Ids::Event(first).id_at(0), Ids::NotReported.id_at(0)),
            (Some(first), None)
        );
    }

    #[test]
    fn of_any_server_each_success_will_do() {
        for (status, body) in [(200, "urn:uuid:1"), (201, ""), (202, "{}"), (204, "")] {
            assert_eq!(
                outcome_of(ExpectedReply::AnySuccess, status, body),
                Outcome::Acknowledged(Ids::NotReported),
                "{status}"
            );
        }
        let own = outcome_of(ExpectedReply::AnySuccess, 200, r#"{"id":"5-1"}"#);
        assert_eq!(own, Outcome::Acknowledged(Ids::Event(EventId::new(5, 1))));
        assert!(matches!(
            outcome_of(ExpectedReply::AnySuccess, 403, ""),
            Outcome::NotStored(_)
        ));
        assert!(matches!(
            outcome_of(ExpectedReply::AnySuccess, 500, ""),
            Outcome::Unknown(_)
        ));
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
    fn the_servers_message_is_shown_but_cannot_command_a_terminal() {
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

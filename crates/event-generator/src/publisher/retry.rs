//! Repeats a request with the same idempotency key while its outcome is uncertain or the server is
//! unavailable.
//!
//! The key makes this safe: sse-server stores the events of a key once, and responds with the first
//! ids every time. The number of retries and their total time are limited. The lane of the request
//! waits meanwhile, so that the order is kept.

use std::{cell::Cell, time::Duration};

use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use sse_cli::backoff::Backoff;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Publisher,
    failure::FailureKind,
    ids::ExpectedResponse,
    outcome::Outcome,
    response::{NoResponse, Response},
};
use crate::request::OutgoingRequest;

/// Header of the key.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Pauses before a retry. Each is shortened by a random share of up to one half.
const BACKOFF: Backoff = Backoff {
    pause_min: Duration::from_millis(100),
    pause_max: Duration::from_secs(5),
};
/// A request is not repeated after this time since it was first sent. Servers keep a key for
/// longer.
const RETRY_TIME_MAX: Duration = Duration::from_mins(1);

/// Repeats requests.
#[derive(Debug)]
pub(crate) struct Retry {
    retries_max: u32,
    sent_again: Cell<u64>,
}

impl Retry {
    /// Repeats each request at most `retries_max` times.
    pub(crate) fn new(retries_max: u32) -> Self {
        Self {
            retries_max,
            sent_again: Cell::new(0),
        }
    }

    /// Returns the number of retries of all requests.
    pub(crate) fn sent_again(&self) -> u64 {
        self.sent_again.get()
    }

    /// Sends a request, and repeats it as long as that helps. Returns the last status and the
    /// outcome of all attempts.
    pub(crate) async fn send_with_retries(
        &self,
        publisher: &Publisher,
        expected: ExpectedResponse,
        mut outgoing: OutgoingRequest,
    ) -> (Option<StatusCode>, Outcome) {
        outgoing.headers.insert(IDEMPOTENCY_KEY, random_key());
        let deadline = Instant::now() + RETRY_TIME_MAX;
        let (mut tries, mut may_be_stored) = (0, false);
        loop {
            let response = publisher.send(outgoing.clone()).await;
            let status = response.as_ref().ok().map(|response| response.status);
            let pause = pause_before_retry(tries, &response);
            let outcome = Outcome::from_result(expected, response);
            let is_over = tries >= self.retries_max || ends_after(pause, deadline);
            if is_over || !is_retryable(&outcome) {
                return (status, combine_outcome(may_be_stored, outcome));
            }
            may_be_stored |= matches!(outcome, Outcome::Unknown(_));
            tries += 1;
            self.sent_again.set(self.sent_again.get() + 1);
            sleep(pause).await;
        }
    }
}

/// Returns the pause after this response: at least what the server asks for.
fn pause_before_retry(tries: u32, response: &Result<Response, NoResponse>) -> Duration {
    let asked = response
        .as_ref()
        .ok()
        .and_then(|response| response.retry_after);
    random_pause(tries).max(asked.unwrap_or_default())
}

/// Returns whether a pause that begins now ends after `deadline`.
fn ends_after(pause: Duration, deadline: Instant) -> bool {
    Instant::now()
        .checked_add(pause)
        .is_none_or(|end| end > deadline)
}

fn random_pause(tries: u32) -> Duration {
    BACKOFF
        .pause_after(tries)
        .mul_f64(rand::random_range(0.5..=1.0))
}

fn random_key() -> HeaderValue {
    HeaderValue::try_from(Uuid::new_v4().to_string()).expect("a UUID is plain text")
}

/// Returns whether a retry may succeed.
fn is_retryable(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Acknowledged(_) => false,
        Outcome::NotStored(failure) => matches!(
            failure.kind(),
            FailureKind::Connect | FailureKind::Status(429 | 503)
        ),
        Outcome::Unknown(failure) => matches!(
            failure.kind(),
            FailureKind::Timeout | FailureKind::Broken | FailureKind::Status(_)
        ),
    }
}

/// Returns the outcome of all attempts. If the last attempt was rejected, an earlier one may have
/// been stored.
fn combine_outcome(may_be_stored: bool, last: Outcome) -> Outcome {
    match last {
        Outcome::NotStored(failure) if may_be_stored => Outcome::Unknown(failure),
        last => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::{Failure, Ids};

    fn status(code: u16) -> Failure {
        Failure::Status {
            status: StatusCode::from_u16(code).unwrap(),
            message: String::new(),
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        assert_eq!(
            [0, 1, 2, 5, 6, 90].map(|tries| BACKOFF.pause_after(tries).as_millis()),
            [100, 200, 400, 3200, 5000, 5000]
        );
    }

    #[test]
    fn the_pause_is_at_least_what_the_server_asks_for() {
        let pause = |seconds: Option<u64>| {
            let response = Response {
                status: StatusCode::TOO_MANY_REQUESTS,
                retry_after: seconds.map(Duration::from_secs),
                body: bytes::Bytes::new(),
            };
            pause_before_retry(0, &Ok(response))
        };
        assert_eq!(pause(Some(7)), Duration::from_secs(7));
        for short in [
            pause(Some(0)),
            pause(None),
            pause_before_retry(0, &Err(NoResponse::Timeout)),
        ] {
            assert!(
                short > Duration::ZERO && short <= BACKOFF.pause_min,
                "{short:?}"
            );
        }
        let deadline = Instant::now() + RETRY_TIME_MAX;
        assert!(ends_after(pause(Some(u64::MAX)), deadline));
        assert!(!ends_after(Duration::ZERO, deadline));
    }

    #[test]
    fn a_request_that_cannot_succeed_is_not_repeated() {
        for again in [
            Outcome::Unknown(Failure::Timeout),
            Outcome::Unknown(Failure::Broken("reset".to_owned())),
            Outcome::Unknown(status(503)),
            Outcome::NotStored(status(503)),
            Outcome::NotStored(status(429)),
            Outcome::NotStored(Failure::Connect("refused".to_owned())),
        ] {
            assert!(is_retryable(&again), "{again:?}");
        }
        for over in [
            Outcome::Acknowledged(Ids::NotReported),
            Outcome::NotStored(status(422)),
            Outcome::NotStored(status(507)),
            Outcome::Unknown(Failure::Unreadable),
        ] {
            assert!(!is_retryable(&over), "{over:?}");
        }
    }

    #[test]
    fn after_an_unknown_outcome_only_an_acknowledgement_is_certain() {
        assert_eq!(
            combine_outcome(true, Outcome::NotStored(status(503))),
            Outcome::Unknown(status(503))
        );
        assert_eq!(
            combine_outcome(false, Outcome::NotStored(status(503))),
            Outcome::NotStored(status(503))
        );
        assert_eq!(
            combine_outcome(true, Outcome::Acknowledged(Ids::NotReported)),
            Outcome::Acknowledged(Ids::NotReported)
        );
    }
}

//! Retries with an idempotency key.

use std::sync::Mutex;

use crate::{
    program::{Ended, Program},
    server::{Request, Response, Server},
};

/// Sends these responses in turn, and then acknowledges.
fn scripted(responses: Vec<Response>) -> Server {
    let responses = Mutex::new(responses.into_iter());
    Server::start(move |_| {
        let next = responses.lock().expect("no test panics with it").next();
        next.unwrap_or_else(Response::acknowledge)
    })
}

fn publish(server: &Server, extra: &[&str]) -> Ended {
    let url = server.url();
    let arguments = ["--url", &url, "--rate", "1000", "--concurrency", "1"];
    Program::run(arguments.into_iter().chain(extra.iter().copied()))
}

fn key(request: &Request) -> &str {
    request.header("idempotency-key").expect("a key")
}

#[test]
fn an_event_is_repeated_with_its_key_until_it_is_acknowledged() {
    let refusal = Response::error(503, "broker_unavailable", "later");
    let server = scripted(vec![
        Response::Break,
        Response::Status(503, String::new()),
        refusal,
    ]);
    let ended = publish(
        &server,
        &["--count", "2", "--retry", "5", "--payload", "sequenced"],
    );
    assert!(
        ended
            .stderr_text()
            .contains("sent 2, acknowledged 2, failed 0, unknown 0"),
        "{ended:?}"
    );
    assert!(
        ended.stderr_text().contains("3 requests were repeated"),
        "{ended:?}"
    );
    let requests = server.requests(5);
    for request in &requests[1..4] {
        assert_eq!(
            (key(request), &request.body),
            (key(&requests[0]), &requests[0].body)
        );
    }
    // The lane has waited, and continues with another key.
    assert!(
        key(&requests[4]) != key(&requests[0]) && requests[4].body.contains("\"sequence\":1"),
        "{requests:?}"
    );
}

#[test]
fn an_event_is_repeated_after_429_unless_the_server_asks_for_too_long_a_wait() {
    let server = scripted(vec![
        Response::RetryLater(429, 0),
        Response::Status(429, String::new()),
    ]);
    let ended = publish(&server, &["--count", "1", "--retry", "5"]);
    assert!(
        ended
            .stderr_text()
            .contains("sent 1, acknowledged 1, failed 0, unknown 0"),
        "{ended:?}"
    );
    let requests = server.requests(3);
    assert!(
        requests
            .iter()
            .all(|request| key(request) == key(&requests[0]))
    );

    // An hour is longer than a request is repeated for.
    let server = scripted(vec![Response::RetryLater(429, 3600)]);
    let ended = publish(&server, &["--count", "1", "--retry", "5"]);
    assert!(
        ended
            .stderr_text()
            .contains("sent 1, acknowledged 0, failed 1, unknown 0"),
        "{ended:?}"
    );
    server.request();
    assert!(server.is_unasked());
}

#[test]
fn retries_are_limited_and_an_unknown_outcome_stays_unknown() {
    let refusal = || Response::error(503, "broker_unavailable", "later");
    let server = scripted(vec![Response::Break, refusal(), refusal()]);
    let ended = publish(&server, &["--count", "1", "--retry", "1"]);
    assert!(
        ended
            .stderr_text()
            .contains("sent 1, acknowledged 0, failed 0, unknown 1"),
        "{ended:?}"
    );
    server.requests(2);
    assert!(server.is_unasked());
}

#[test]
fn a_rejected_event_is_not_repeated() {
    let server = scripted(vec![Response::error(400, "invalid_channel", "no")]);
    let ended = publish(&server, &["--count", "1", "--retry", "5"]);
    assert!(
        ended
            .stderr_text()
            .contains("sent 1, acknowledged 0, failed 1, unknown 0"),
        "{ended:?}"
    );
    server.request();
    assert!(server.is_unasked());
}

#[test]
fn a_batch_has_one_key() {
    let server = scripted(vec![Response::Break, Response::batch(3)]);
    let ended = publish(&server, &["--count", "3", "--batch", "3", "--retry", "5"]);
    assert!(
        ended
            .stderr_text()
            .contains("sent 3, acknowledged 3, failed 0, unknown 0"),
        "{ended:?}"
    );
    let [first, second] = &server.requests(2)[..] else {
        panic!("two")
    };
    assert_eq!((key(first), &first.body), (key(second), &second.body));
}

#[test]
fn without_the_flag_there_is_no_key_and_no_retry() {
    let server = scripted(vec![Response::Break]);
    let ended = publish(&server, &["--count", "1"]);
    assert!(ended.stderr_text().contains("unknown 1"), "{ended:?}");
    assert_eq!(server.request().header("idempotency-key"), None);
    assert!(server.is_unasked());
}

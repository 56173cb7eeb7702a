//! Requests and output, as in the tutorial.

use std::collections::BTreeSet;

use chrono::NaiveDateTime;
use sse_proto::record::Stamp;
use uuid::Uuid;

use crate::{
    program::Program,
    server::{Response, Server},
};

/// Returns the user id of a text like `user_id: <uuid4>, timestamp: 08-Mar-2022 (12:30:56.760261)`,
/// after checking all of it.
fn user_of(text: &str) -> Uuid {
    let (user, timestamp) = text
        .strip_prefix("user_id: ")
        .and_then(|rest| rest.split_once(", timestamp: "))
        .unwrap_or_else(|| panic!("not the tutorial's text: {text}"));
    let at = NaiveDateTime::parse_from_str(timestamp, "%d-%b-%Y (%H:%M:%S%.6f)")
        .expect("the tutorial's time");
    assert_eq!(at.format("%d-%b-%Y (%H:%M:%S%.6f)").to_string(), timestamp);
    let id: Uuid = user.parse().expect("a uuid");
    assert_eq!((id.get_version_num(), id.to_string().as_str()), (4, user));
    id
}

#[test]
fn prints_the_status_of_each_response_and_a_summary() {
    let server = Server::willing();
    // A progress line would appear if this machine paused for a second.
    let ended = Program::run([
        "--url",
        &server.url(),
        "--rate",
        "100",
        "--count",
        "3",
        "--progress",
        "off",
    ]);
    assert_eq!(
        (ended.code, ended.stdout),
        (Some(0), vec!["200".to_owned(); 3])
    );
    let figures: Vec<&str> = ended.stderr.iter().map(String::as_str).collect();
    assert_eq!(figures[0], "sent 3, acknowledged 3, failed 0, unknown 0");
    assert!(
        figures[1].starts_with("rate ") && figures[1].ends_with("/s, asked 100/s"),
        "{figures:?}"
    );
    for name in ["latency p50 ", ", p90 ", ", p99 ", ", p99.9 ", ", max "] {
        assert!(figures[2].contains(name), "{figures:?}");
    }
    assert_eq!(figures.len(), 3);
}

#[test]
fn posts_the_json_string_of_the_tutorial() {
    let server = Server::willing();
    let ended = Program::run(["--url", &server.url(), "--count", "1", "--actions", "click"]);
    assert_eq!(ended.code, Some(0));
    let request = server.request();
    assert_eq!(request.line, "POST /event/click HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/json"));
    user_of(&serde_json::from_str::<String>(&request.body).expect("a JSON string"));
}

#[test]
fn the_three_actions_of_the_tutorial_are_sent_by_default() {
    let server = Server::willing();
    Program::run(["--url", &server.url(), "--rate", "1000", "--count", "60"]);
    let targets: BTreeSet<String> = server
        .requests(60)
        .iter()
        .map(|request| request.target().to_owned())
        .collect();
    assert_eq!(
        targets,
        BTreeSet::from(["/event/click", "/event/close", "/event/view"].map(str::to_owned))
    );
}

#[test]
fn the_target_consists_of_prefix_action_and_channel() {
    let server = Server::willing();
    let url = format!("{}/live/", server.url());
    Program::run([
        "--url",
        &url,
        "--count",
        "1",
        "--actions",
        "buy now=1",
        "--channel",
        "orders.eu",
    ]);
    assert_eq!(
        server.request().target(),
        "/live/event/buy%20now?channel=orders.eu"
    );
}

#[test]
fn environment_variables_replace_absent_flags() {
    let server = Server::willing();
    let url = server.url();
    let env = [
        ("GENERATOR_URL", url.as_str()),
        ("GENERATOR_COUNT", "2"),
        ("GENERATOR_RATE", "100"),
        ("GENERATOR_ACTIONS", "a"),
        ("GENERATOR_CHANNEL", "c"),
        ("GENERATOR_PRINT_STATUS", "0"),
    ];
    let ended = Program::start_with(["--actions", "b"], &env).end();
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), 0));
    for request in server.requests(2) {
        assert_eq!(request.target(), "/event/b?channel=c");
    }
}

#[test]
fn no_proxy_is_used_for_a_server_on_this_machine() {
    let server = Server::willing();
    // No server listens on port 1: a request through this proxy would fail.
    let env = [
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
    ];
    let ended = Program::start_with(["--url", &server.url(), "--count", "1"], &env).end();
    assert_eq!(ended.stdout, ["200"]);
}

#[test]
fn above_a_hundred_per_second_status_codes_are_printed_only_on_request() {
    let server = Server::willing();
    let arguments = ["--url", &server.url(), "--rate", "101", "--count", "3"];
    assert!(Program::run(arguments).stdout.is_empty());
    assert_eq!(
        Program::run(arguments.into_iter().chain(["--print-status"]))
            .stdout
            .len(),
        3
    );
}

#[test]
fn the_same_seed_gives_the_same_actions_and_users_but_another_publisher() {
    let server = Server::willing();
    let directory = tempfile::tempdir().expect("a directory");
    let record = directory.path().join("record");
    let url = server.url();
    let run = || {
        let record = record.to_str().expect("a plain path");
        let arguments = [
            "--url", &url, "--rate", "1000", "--count", "20", "--seed", "7", "--record", record,
        ];
        // One request at a time means one lane.
        Program::run(
            arguments
                .into_iter()
                .chain(["--stamp", "--concurrency", "1"]),
        );
        let mut events: Vec<(u64, String, Uuid)> = Vec::new();
        let mut publishers = BTreeSet::new();
        for request in server.requests(20) {
            let body: serde_json::Value = serde_json::from_str(&request.body).expect("JSON");
            let stamp: Stamp = serde_json::from_str(&request.body).expect("a stamp");
            let user = user_of(body["message"].as_str().expect("a text"));
            events.push((stamp.sequence, request.target().to_owned(), user));
            publishers.insert(stamp.publisher);
        }
        events.sort();
        (events, publishers)
    };
    let ((events, publishers), (events_again, publishers_again)) = (run(), run());
    assert_eq!(events, events_again);
    assert!(publishers.len() == 1 && publishers.is_disjoint(&publishers_again));
}

#[test]
fn a_status_other_than_200_is_printed_with_the_message_of_the_server() {
    let server = Server::start(|_| Response::error(400, "invalid_channel", "name it otherwise"));
    let ended = Program::run(["--url", &server.url(), "--rate", "100", "--count", "2"]);
    assert_eq!(
        (ended.code, ended.stdout.as_slice()),
        (Some(1), &["400".to_owned(), "400".to_owned()][..])
    );
    assert!(
        ended
            .stderr_text()
            .contains("failed: 400 Bad Request: name it otherwise (invalid_channel)"),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr_text()
            .contains("sent 2, acknowledged 0, failed 2, unknown 0"),
        "{ended:?}"
    );
}

#[test]
fn a_mistyped_variable_is_reported() {
    let server = Server::willing();
    let variables = [("GENERATOR_CHANEL", "orders"), ("GENERATOR_COUNT", "1")];
    let ended = Program::start_with(["--url", &server.url()], &variables).end();
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.stderr[0],
        "unknown setting GENERATOR_CHANEL; `event-generator --help` lists all settings"
    );
    assert_eq!(ended.stderr_text().matches("unknown setting").count(), 1);
}

//! Requests for any server: methods, paths, bodies, headers and tokens.

use crate::{
    program::Program,
    server::{Response, Server},
};

#[test]
fn a_form_for_mercure() {
    let server = Server::start(|_| {
        Response::Status(
            200,
            "urn:uuid:e1ee88e2-532a-4d6f-ba70-f0f8bd584022".to_owned(),
        )
    });
    let url = server.url();
    let arguments = [
        "--url",
        &url,
        "--count",
        "1",
        "--actions",
        "click",
        "--channel",
        "a:b",
        "--path",
        "/.well-known/mercure",
        "--header",
        "Content-Type: application/x-www-form-urlencoded",
        "--body",
        "topic={channel:url}&type={action}&data={data:url}",
    ];
    let ended = Program::start_with(arguments, &[("GENERATOR_BEARER", "a.b.c")]).end();
    assert_eq!(
        (ended.code, ended.stdout),
        (Some(0), vec!["200".to_owned()])
    );
    let request = server.request();
    assert_eq!(request.line, "POST /.well-known/mercure HTTP/1.1");
    assert_eq!(request.header("authorization"), Some("Bearer a.b.c"));
    assert_eq!(
        request.header("content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert!(
        request
            .body
            .starts_with("topic=a%3Ab&type=click&data=%22user_id%3A%20"),
        "{}",
        request.body
    );
}

#[test]
fn json_around_the_data_and_any_success_is_an_acknowledgement() {
    let server = Server::start(|_| Response::Status(202, String::new()));
    let ended = Program::run([
        "--url",
        &server.url(),
        "--rate",
        "100",
        "--count",
        "2",
        "--method",
        "put",
        "--path",
        "/pub/{channel}?n={seq}",
        "--body",
        r#"{"type":{action:json},"data":{data},"x":{}}"#,
    ]);
    assert_eq!(
        (ended.code, ended.stdout),
        (Some(0), vec!["202".to_owned(); 2])
    );
    for (request, nth) in server.requests(2).iter().zip(0..) {
        assert_eq!(request.line, format!("PUT /pub/sse?n={nth} HTTP/1.1"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        let body: serde_json::Value = serde_json::from_str(&request.body).expect("JSON");
        assert!(
            body["type"].is_string() && body["data"].is_string() && body["x"].is_object(),
            "{body}"
        );
    }
}

#[test]
fn the_tutorials_get_has_no_body() {
    let server = Server::start(|_| Response::Status(200, "{}".to_owned()));
    let ended = Program::run([
        "--url",
        &server.url(),
        "--count",
        "1",
        "--method",
        "GET",
        "--actions",
        "view",
    ]);
    assert_eq!(ended.code, Some(0));
    let request = server.request();
    assert_eq!(
        (request.line.as_str(), request.header("content-type")),
        ("GET /event/view HTTP/1.1", None)
    );
    assert_eq!(request.body, "");
}

#[test]
fn headers_are_sent_to_the_default_api_too() {
    let server = Server::willing();
    let url = server.url();
    let arguments = [
        "--url",
        &url,
        "--count",
        "1",
        "--header",
        "X-Seq: {seq}",
        "--header",
        "Host: example.org",
    ];
    assert_eq!(
        Program::start_with(arguments, &[("GENERATOR_HEADER", "X-No: 1")])
            .end()
            .code,
        Some(0)
    );
    let request = server.request();
    assert_eq!(
        (request.header("x-seq"), request.header("host")),
        (Some("0"), Some("example.org"))
    );
    assert!(request.header("x-no").is_none() && request.header("user-agent").is_some());
    Program::start_with(
        ["--url", &url, "--count", "1"],
        &[("GENERATOR_HEADER", "X-Key: 1")],
    )
    .end();
    assert_eq!(server.request().header("x-key"), Some("1"));
}

#[test]
fn data_that_would_make_a_header_invalid_is_not_sent() {
    let server = Server::willing();
    let (program, stdin) = Program::start_fed([
        "--url",
        &server.url(),
        "--replay",
        "-",
        "--header",
        "X-Data: {data}",
    ]);
    let line = r#"{"event":"a","data":"x\r\nX-Admin: 1"}"#;
    std::io::Write::write_all(&mut { stdin }, line.as_bytes()).expect("it reads");
    let ended = program.end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr_text().contains(
            "event 0 failed: not sent: the header x-data would contain control characters"
        )
    );
    assert!(
        ended
            .stderr_text()
            .contains("sent 1, acknowledged 0, failed 1, unknown 0"),
        "{ended:?}"
    );
    assert!(server.is_unasked());
}

#[test]
fn no_output_contains_a_secret() {
    let server = Server::start(|_| Response::error(403, "no", "no"));
    let directory = tempfile::tempdir().expect("a directory");
    let report = directory.path().join("report.json");
    let arguments = [
        "--url",
        &server.url(),
        "--count",
        "1",
        "--header",
        "X-Key: s3cret",
        "--bearer",
        "s3cret",
        "--report",
    ];
    let ended = Program::run(
        arguments
            .into_iter()
            .chain([report.to_str().expect("a plain path")]),
    );
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        server.request().header("authorization"),
        Some("Bearer s3cret")
    );
    assert!(!ended.stderr_text().contains("s3cret"), "{ended:?}");
    assert!(
        !std::fs::read_to_string(&report)
            .expect("a report")
            .contains("s3cret")
    );

    let env = [
        ("GENERATOR_BEARER", "s3cret"),
        ("GENERATOR_HEADER", "X-Key: s3cret"),
    ];
    let help = Program::start_with(["--help"], &env)
        .end()
        .stdout
        .join("\n");
    assert!(
        help.contains("GENERATOR_BEARER") && !help.contains("s3cret"),
        "{help}"
    );
}

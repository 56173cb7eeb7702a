//! `--report`, `--progress` and `--completions`.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    program::Program,
    server::{Response, Server},
};

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a report")).expect("JSON")
}

#[test]
fn a_report_contains_the_figures_of_the_run() {
    let server = Server::start(|request| match request.target() {
        "/event/a" => Response::acknowledge(),
        _ => Response::error(400, "bad", "no"),
    });
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("report.json");
    let url = server.url();
    let arguments = [
        "--url",
        &url,
        "--rate",
        "500",
        "--count",
        "40",
        "--actions",
        "a,b",
        "--seed",
        "3",
        "--report",
    ];
    let more = [
        "--payload",
        "sequenced",
        "--concurrency",
        "7",
        "--arrivals",
        "poisson",
    ];
    let ended = Program::run(
        arguments
            .into_iter()
            .chain([path.to_str().expect("a plain path")])
            .chain(more),
    );
    assert_eq!(ended.code, Some(0));
    let report = read(&path);
    let answered = |status: &str| report["statuses"][status].as_u64().expect("a number");
    assert_eq!(answered("200") + answered("400"), 40);
    for (key, value) in [
        ("url", json!(url)),
        ("payload", json!("sequenced")),
        ("rate_asked", json!(500.0)),
        ("arrivals", json!("poisson")),
        ("concurrency", json!(7)),
        ("batch", json!(1)),
        ("seed", json!(3)),
        ("complete", json!(true)),
        ("sent", json!(40)),
        ("acknowledged", json!(answered("200"))),
        ("failed", json!(answered("400"))),
        ("unknown", json!(0)),
    ] {
        assert_eq!(report[key], value, "{key} in {report}");
    }
    let latency: Vec<u64> = ["p50", "p90", "p99", "p99.9", "max"]
        .map(|name| report["latency_us"][name].as_u64().unwrap())
        .into();
    assert!(latency.is_sorted() && latency[0] > 0, "{latency:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_writes_its_report() {
    let server = Server::willing();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("report.json");
    let program = Program::start([
        "--url",
        &server.url(),
        "--rate",
        "100",
        "--report",
        path.to_str().expect("a path"),
    ]);
    assert_eq!(program.stdout_line(), "200");
    program.signal("INT");
    assert_eq!(program.end().code, Some(0));
    let report = read(&path);
    assert_eq!(report["complete"], json!(false));
    assert!(report["acknowledged"].as_u64() >= Some(1), "{report}");
}

#[test]
fn a_report_that_cannot_be_created_ends_the_run_before_the_first_event() {
    let server = Server::willing();
    let ended = Program::run([
        "--url",
        &server.url(),
        "--count",
        "1",
        "--report",
        "/absent/report.json",
    ]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr_text()
            .contains("cannot create the report file /absent/report.json"),
        "{ended:?}"
    );
    assert!(server.is_unasked());
}

#[cfg(unix)]
#[test]
fn progress_is_one_line_per_second_without_a_terminal() {
    let server = Server::willing();
    let url = server.url();
    let arguments = ["--url", url.as_str(), "--rate", "50"];
    let program = Program::start(arguments);
    let line = program.stderr_line();
    let is_progress =
        line.contains("s: sent ") && line.contains(", acknowledged ") && line.ends_with(" waiting");
    assert!(is_progress, "{line}");
    program.signal("TERM");
    assert_eq!(program.end().code, Some(0));

    let ended = Program::run(
        arguments
            .into_iter()
            .chain(["--count", "60", "--progress", "off"]),
    );
    assert_eq!(ended.stderr.len(), 3, "{ended:?}");
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        // The result does not depend on other variables.
        let ended = Program::start_with(["--completions", shell], &[("GENERATOR_RATE", "5")]).end();
        assert_eq!((ended.code, ended.stderr.len()), (Some(0), 0), "{ended:?}");
        let script = ended.stdout.join("\n");
        assert!(
            script.contains("event-generator") && script.contains("concurrency"),
            "{script}"
        );
    }
}

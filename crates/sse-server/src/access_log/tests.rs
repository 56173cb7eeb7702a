//! Lines in both formats, the limit of the queue, and outputs that fail or move.

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt as _, path::Path, time::SystemTime};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    format::Formatter,
    output::Output,
    queue::{Batch, QUEUE_BYTES_MAX, Queue},
    *,
};

fn line<'a>(target: &'a str, last_id: Option<&'a str>) -> Line<&'a str> {
    Line {
        kind: LineKind::StreamEnd,
        time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_796_015_056_012_345),
        address: Some(IpAddr::from([127, 0, 0, 1])),
        method: "GET",
        target,
        protocol: Protocol::Http11,
        status: 200,
        bytes: 1234,
        duration: Duration::from_micros(61_000_050),
        last_id,
        reason: Some("client"),
    }
}

fn formatted(format: LogFormat, line: &Line<&str>) -> String {
    let mut out = Vec::new();
    Formatter::new(format).append(&mut out, line);
    String::from_utf8(out).unwrap()
}

fn json_of(line: &Line<&str>) -> Value {
    serde_json::from_str(&formatted(LogFormat::Json, line)).unwrap()
}

#[test]
fn a_line_of_text_is_a_common_log_line_with_named_fields() {
    assert_eq!(
        formatted(LogFormat::Text, &line("/stream?channel=a", Some("5-0"))),
        "127.0.0.1 - - [30/Nov/2026:05:04:16 +0000] \"GET /stream?channel=a HTTP/1.1\" 200 1234 \
         kind=stream_end duration=61.000050 last_id=\"5-0\" reason=client\n"
    );
    let bare = Line {
        kind: LineKind::Request,
        address: None,
        reason: None,
        ..line("*", None)
    };
    assert_eq!(
        formatted(LogFormat::Text, &bare),
        "- - - [30/Nov/2026:05:04:16 +0000] \"GET * HTTP/1.1\" 200 1234 kind=request \
         duration=61.000050 last_id=- reason=-\n"
    );
}

#[test]
fn a_line_of_json_has_the_same_fields() {
    assert_eq!(
        json_of(&line("/stream?channel=a", Some("5-0"))),
        json!({
            "timestamp": "2026-11-30T05:04:16.012345Z",
            "kind": "stream_end",
            "address": "127.0.0.1",
            "method": "GET",
            "path": "/stream?channel=a",
            "protocol": "HTTP/1.1",
            "status": 200,
            "bytes": 1234,
            "duration": 61.000_05,
            "last_id": "5-0",
            "reason": "client",
        })
    );
    let bare = Line {
        address: None,
        reason: None,
        ..line("*", None)
    };
    let bare = json_of(&bare);
    assert!(bare["address"].is_null() && bare["last_id"].is_null() && bare["reason"].is_null());
}

#[test]
fn a_mapped_address_is_shown_as_the_ipv4_address_that_it_is() {
    let mapped = Line {
        address: Some("::ffff:192.0.2.1".parse().unwrap()),
        ..line("/", None)
    };
    assert_eq!(json_of(&mapped)["address"], "192.0.2.1");
    assert!(formatted(LogFormat::Text, &mapped).starts_with("192.0.2.1 - - ["));
}

#[test]
fn the_second_of_a_line_is_its_own() {
    let mut formatter = Formatter::new(LogFormat::Text);
    let mut out = Vec::new();
    for second in [0, 59, 59, 60, 1] {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let line = line("/", None);
        formatter.append(&mut out, &Line { time, ..line });
    }
    let text = String::from_utf8(out).unwrap();
    let times: Vec<&str> = text
        .lines()
        .map(|line| &line[line.find('[').unwrap()..][..27])
        .collect();
    let times: Vec<&str> = times.iter().map(|time| &time[13..21]).collect();
    assert_eq!(
        times,
        ["00:00:00", "00:00:59", "00:00:59", "00:01:00", "00:00:01"]
    );
}

#[test]
fn secrets_in_the_query_are_hidden() {
    for (target, shown) in [
        ("/stream?access_token=abc", "/stream?access_token=***"),
        (
            "/stream?channel=a&access_token=abc&last=5",
            "/stream?channel=a&access_token=***&last=5",
        ),
        ("/stream?ACCESS%5ftoken=abc", "/stream?ACCESS%5ftoken=***"),
        (
            "/stream?authorization=Bearer+abc",
            "/stream?authorization=***",
        ),
        ("/stream?token=a=b&token=c", "/stream?token=***&token=***"),
        (
            "/stream?x=1?jwt=abc&X-Api-Key=abc",
            "/stream?x=1?jwt=abc&X-Api-Key=***",
        ),
        ("/stream?channel=token", "/stream?channel=token"),
        ("/event/token", "/event/token"),
        ("/stream?token", "/stream?token"),
        ("/stream?", "/stream?"),
        ("*", "*"),
    ] {
        let line = line(target, None);
        assert_eq!(json_of(&line)["path"], shown);
        let text = formatted(LogFormat::Text, &line);
        assert!(
            text.contains(&format!("\"GET {shown} HTTP/1.1\"")),
            "{text}"
        );
    }
}

#[test]
fn text_of_a_request_cannot_end_its_quotes() {
    let forged = "5\" reason=-\n\u{1b}[31m\\ \u{7f}\u{85}\u{2028}é\u{1f4a9}";
    let text = formatted(LogFormat::Text, &line("/a\"b", Some(forged)));
    assert!(text.contains(r#""GET /a\"b HTTP/1.1""#), "{text}");
    let escaped =
        r#"last_id="5\" reason=-\x0A\x1B[31m\\ \x7F\xC2\x85\xE2\x80\xA8\xC3\xA9\xF0\x9F\x92\xA9""#;
    assert!(text.contains(escaped), "{text}");
    assert_eq!(json_of(&line("/a\"b", Some(forged)))["last_id"], forged);
}

proptest! {
    #[test]
    fn any_request_gives_exactly_one_line(
        method in any::<String>(),
        target in any::<String>(),
        last_id in any::<Option<String>>(),
    ) {
        let line = Line { method: &*method, ..line(&target, last_id.as_deref()) };
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = formatted(format, &line);
            prop_assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{text:?}");
            prop_assert_eq!(text.find('\n'), Some(text.len() - 1));
        }
        let json = json_of(&line);
        prop_assert_eq!(&json["method"], &method);
        prop_assert_eq!(json["last_id"].as_str(), last_id.as_deref());
        // Every quote that is not escaped is one of the format's own.
        let text = formatted(LogFormat::Text, &line).replace(r"\\", "").replace("\\\"", "");
        let quotes = if last_id.is_some() { 4 } else { 2 };
        prop_assert_eq!(text.matches('"').count(), quotes);
    }
}

#[test]
fn the_queue_is_bounded_and_long_texts_are_cut() {
    let queue = Queue::default();
    let long = "é".repeat(50_000);
    let mut lines = 0;
    while queue.push(line(&long, None)) {
        lines += 1;
    }
    assert!(
        (500..=QUEUE_BYTES_MAX / 4096).contains(&lines),
        "{lines} lines"
    );
    let batch = queue.take(Batch::default()).unwrap();
    assert_eq!(batch.lines().count(), lines);
    assert!(batch.lines().all(|line| line.target == "é".repeat(2048)));
    assert!(queue.push(line("/", None)), "the queue is empty again");
    queue.close(Duration::ZERO);
    assert!(!queue.push(line("/", None)), "the queue is closed");
    assert_eq!(queue.take(Batch::default()).unwrap().lines().count(), 1);
    assert!(queue.take(Batch::default()).is_none());
}

fn open(path: &Path) -> Output {
    Output::open(&AccessLogTarget::File(path.to_owned())).unwrap()
}

#[test]
fn a_new_file_is_private_and_an_old_one_is_appended_to() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("access.log");
    for text in ["a\n", "b\n"] {
        let mut output = open(&path);
        output.buffer.extend_from_slice(text.as_bytes());
        output.flush().unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_file_that_was_moved_or_removed_is_opened_again() {
    let directory = TempDir::new().unwrap();
    let [path, moved] = ["access.log", "access.log.1"].map(|name| directory.path().join(name));
    let mut output = open(&path);
    let mut write = |text: &str, wants_check: bool| {
        if wants_check {
            output.check_now();
        }
        output.reopen_if_moved().unwrap();
        output.buffer.extend_from_slice(text.as_bytes());
        output.flush().unwrap();
    };
    write("a\n", true);
    fs::rename(&path, &moved).unwrap();
    write("b\n", false);
    write("c\n", true);
    assert_eq!(fs::read_to_string(&moved).unwrap(), "a\nb\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "c\n");
    fs::remove_file(&path).unwrap();
    write("d\n", true);
    assert_eq!(fs::read_to_string(&path).unwrap(), "d\n");
}

#[test]
fn the_rest_of_a_line_that_was_written_in_part_comes_first() {
    let directory = TempDir::new().unwrap();
    let mut output = open(&directory.path().join("access.log"));
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    output.buffer.extend_from_slice(b"first\nsecond\nthird\n");
    assert_eq!(output.drop_unwritten(9, full()).lines, 1);
    assert_eq!(output.buffer, b"ond\n");
    // Still no room: the begun line stays, and the lines after it are dropped.
    output.buffer.extend_from_slice(b"fourth\nfifth\n");
    assert_eq!(output.drop_unwritten(0, full()).lines, 2);
    assert_eq!(output.buffer, b"ond\n");
    output.buffer.extend_from_slice(b"sixth\nseventh\n");
    assert_eq!(output.drop_unwritten(10, full()).lines, 1);
    assert_eq!(output.buffer, b"");
}

#[test]
fn a_path_that_cannot_be_opened_is_an_error_with_advice() {
    let directory = TempDir::new().unwrap();
    let error = |path: &Path| {
        let error = Output::open(&AccessLogTarget::File(path.to_owned())).unwrap_err();
        format!("{error:#}")
    };
    let missing = error(&directory.path().join("no/access.log"));
    assert!(missing.contains("create its directory"), "{missing}");
    let not_a_file = error(directory.path());
    assert!(
        not_a_file.contains("name a file in this directory"),
        "{not_a_file}"
    );
    let pipe = directory.path().join("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let unread = error(&pipe);
    assert!(unread.contains("start the reader first"), "{unread}");
}

#[test]
fn a_device_that_is_full_drops_lines_and_counts_them() {
    let metrics = Metrics::new();
    let target = AccessLogTarget::File("/dev/full".into());
    let log = AccessLog::open(&target, LogFormat::Text, metrics.clone()).unwrap();
    for _ in 0..10 {
        log.record(line("/", None));
    }
    log.close(Duration::from_mins(1));
    let text = metrics.render();
    assert!(text.contains("sse_access_log_dropped_total 10\n"), "{text}");
}

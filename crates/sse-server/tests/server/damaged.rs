//! A log file with damaged events.
//!
//! The server still serves all readable events. For the damaged ones, streams and `GET /events`
//! report a gap, both now and on every later resume.

use std::path::PathBuf;

use serde_json::Value;
use sse_proto::api::{Gap, GapReason};
use tempfile::TempDir;

use crate::common::{Subscriber, TestEvent, TestServer, output_at_start, server_command};

const EVENTS: usize = 60;

/// A server on a file in which the data of some events was changed while the server was stopped.
struct Damaged {
    server: TestServer,
    /// Ids of all events, damaged or not.
    ids: Vec<String>,
    file: PathBuf,
    _directory: TempDir,
}

impl Damaged {
    async fn start(damaged: &[usize]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("log");
        let mut server = TestServer::on_directory(&path, &[]).await;
        let lines: Vec<String> = (0..EVENTS)
            .map(|number| format!(r#"{{"event":"number","data":"{}"}}"#, data(number)))
            .collect();
        assert!(
            server
                .try_publish_batch("sse", lines.join("\n"))
                .await
                .unwrap()
                .status()
                .is_success()
        );
        let ids = server
            .history("sse")
            .await
            .into_iter()
            .map(|event| event.id)
            .collect();
        server.stop("TERM").await;
        let file = path.join("events.redb");
        let mut bytes = std::fs::read(&file).unwrap();
        for number in damaged {
            let text = data(*number);
            let places: Vec<usize> = (0..bytes.len() - text.len())
                .filter(|at| bytes[*at..].starts_with(text.as_bytes()))
                .collect();
            assert!(!places.is_empty(), "event {number} is not in the file");
            for at in places {
                bytes[at] ^= 1;
            }
        }
        std::fs::write(&file, bytes).unwrap();
        server.restart().await;
        Self {
            server,
            ids,
            file,
            _directory: directory,
        }
    }

    /// Reads a stream up to the event with this number; returns the numbers and gaps received.
    async fn read(&self, subscriber: &mut Subscriber, last: usize) -> Vec<Received> {
        let mut received = Vec::new();
        loop {
            let TestEvent { id, event, data } = subscriber.next_event().await;
            if event == "gap" {
                let gap: Gap = serde_json::from_str(&data).unwrap();
                assert_eq!((gap.reason, gap.lost), (GapReason::Damaged, None));
                if let Some(oldest) = gap.oldest {
                    assert_eq!(id, format!("@{oldest}"));
                }
                received.push(Received::Gap(
                    gap.after,
                    gap.oldest.map(|oldest| self.number(&oldest.to_string())),
                ));
                continue;
            }
            let number = self.number(&id);
            assert_eq!(data, self::data(number));
            received.push(Received::Number(number));
            if number == last {
                return received;
            }
        }
    }

    fn number(&self, id: &str) -> usize {
        self.ids
            .iter()
            .position(|known| known == id)
            .unwrap_or_else(|| panic!("{id} is not an event id"))
    }

    fn gap(&self, after: usize, oldest: usize) -> Received {
        Received::Gap(self.ids[after].clone(), Some(oldest))
    }

    async fn page(&self, query: &str) -> Value {
        self.server
            .get(&format!("/events?{query}"))
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Received {
    Number(usize),
    /// The position before the gap, and the number of the event after the gap.
    Gap(String, Option<usize>),
}

fn data(number: usize) -> String {
    format!("number {number:04} of a log that is damaged in places")
}

fn numbers(range: std::ops::Range<usize>) -> impl Iterator<Item = Received> {
    range.map(Received::Number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_sends_a_gap_for_each_damaged_range_and_continues() {
    let log = Damaged::start(&[20, 40, 41, 42]).await;
    let whole: Vec<Received> = numbers(0..20)
        .chain([log.gap(19, 21)])
        .chain(numbers(21..40))
        .chain([log.gap(39, 43)])
        .chain(numbers(43..EVENTS))
        .collect();
    let mut subscribers = Vec::new();
    for path in [
        "/stream?from=oldest",
        "/stream?last=1000",
        "/stream?since=1h",
        "/stream?last_event_id=0-0",
    ] {
        let mut subscriber = log.server.subscribe(path).await;
        assert_eq!(log.read(&mut subscriber, EVENTS - 1).await, whole, "{path}");
        subscribers.push(subscriber);
    }
    // From there on the streams behave like any other.
    log.server.publish("sse", "live", "still live").await;
    for mut subscriber in subscribers {
        assert_eq!(subscriber.next_event().await.data, "still live");
    }
    for (id, expected) in [
        (&log.ids[19], vec![log.gap(19, 21), Received::Number(21)]),
        // The next event names that event as `after`, so a client that has it lacks nothing.
        (&log.ids[20], vec![Received::Number(21)]),
        (&format!("@{}", log.ids[21]), vec![Received::Number(21)]),
        (&log.ids[40], vec![log.gap(40, 43), Received::Number(43)]),
        (&log.ids[42], vec![Received::Number(43)]),
    ] {
        let mut subscriber = log.server.subscribe_after("/stream", Some(id)).await;
        let Some(Received::Number(last)) = expected.last() else {
            panic!("an event comes last")
        };
        assert_eq!(log.read(&mut subscriber, *last).await, expected, "{id}");
    }
    let errors: Vec<String> = log
        .server
        .log()
        .lines()
        .filter(|line| line.contains("ERROR"))
        .map(str::to_owned)
        .collect();
    let helps =
        |line: &String| line.contains(&log.file.display().to_string()) && line.contains("backup");
    assert!(errors.len() == 2 && errors.iter().all(helps), "{errors:#?}");
    let metrics = log
        .server
        .get("/metrics")
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let gaps_sent = metrics.lines().find_map(|line| {
        line.strip_prefix(r#"sse_gaps_total{reason="damaged"} "#)?
            .parse()
            .ok()
    });
    // Clients that disconnected early may have been on their way to the next gap.
    assert!(
        gaps_sent.is_some_and(|gaps_sent: usize| gaps_sent >= 10),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_at_the_beginning_and_at_the_end_is_reported_too() {
    let log = Damaged::start(&[0, 1, EVENTS - 1]).await;
    log.server.publish("sse", "live", "after the damage").await;
    for (path, after) in [
        ("/stream?from=oldest", "@0-0"),
        ("/stream?last=1000", "@0-0"),
        ("/stream?last_event_id=0-0", "0-0"),
    ] {
        let mut subscriber = log.server.subscribe(path).await;
        let expected: Vec<Received> = std::iter::once(Received::Gap(after.to_owned(), Some(2)))
            .chain(numbers(2..EVENTS - 1))
            .collect();
        assert_eq!(
            log.read(&mut subscriber, EVENTS - 2).await,
            expected,
            "{path}"
        );
        let gap: Gap = serde_json::from_str(&subscriber.next_event().await.data).unwrap();
        assert_eq!(
            (gap.reason, &gap.after),
            (GapReason::Damaged, &log.ids[EVENTS - 2])
        );
        let live = subscriber.next_event().await;
        assert_eq!(
            (live.data.as_str(), Some(live.id)),
            (
                "after the damage",
                gap.oldest.map(|oldest| oldest.to_string())
            )
        );
    }
    // The requested newest events are all readable.
    let mut newest = log.server.subscribe("/stream?last=1").await;
    assert_eq!(newest.next_event().await.data, "after the damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_as_json_reports_where_it_is_damaged() {
    let log = Damaged::start(&[20, EVENTS - 1]).await;
    let page = log.page("").await;
    assert_eq!(
        (
            page["events"].as_array().map(Vec::len),
            &page["gap"],
            &page["more"]
        ),
        (Some(20), &Value::Null, &true.into())
    );
    let next = page["next"].as_str().unwrap();
    assert_eq!(next, log.ids[19]);
    let page = log.page(&format!("last_event_id={next}")).await;
    assert_eq!(page["gap"]["reason"], "damaged");
    assert_eq!(
        (
            page["gap"]["after"].as_str(),
            page["gap"]["oldest"].as_str()
        ),
        (Some(next), Some(&*log.ids[21]))
    );
    assert_eq!(page["events"].as_array().map(Vec::len), Some(EVENTS - 22));
    let page = log
        .page(&format!("last_event_id={}", page["next"].as_str().unwrap()))
        .await;
    assert_eq!(
        (
            page["gap"]["reason"].as_str(),
            &page["gap"]["oldest"],
            &page["more"]
        ),
        (Some("damaged"), &Value::Null, &false.into())
    );
    assert_eq!(page["next"].as_str(), Some(&*log.ids[EVENTS - 1]));
    let page = log
        .page(&format!("last_event_id={}", log.ids[EVENTS - 1]))
        .await;
    assert_eq!(
        (&page["gap"], page["events"].as_array().map(Vec::len)),
        (&Value::Null, Some(0))
    );
}

/// Page size of redb; the first byte of a page is its kind.
const PAGE_BYTES: usize = 4096;

#[tokio::test(flavor = "multi_thread")]
async fn a_caught_panic_of_redb_prints_no_panic_message() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let mut server = TestServer::on_directory(&path, &[]).await;
    server.publish("sse", "click", "x").await;
    server.stop("TERM").await;
    let file = path.join("events.redb");
    let good = std::fs::read(&file).unwrap();
    let mut caught = 0;
    for page in (0..good.len()).step_by(PAGE_BYTES) {
        if good[page] == 0 {
            continue;
        }
        let mut bytes = good.clone();
        bytes[page] = 0xff;
        std::fs::write(&file, bytes).unwrap();
        let mut command = server_command();
        command
            .args(["--log", "debug", "--bind", "127.0.0.1:0", "--data-dir"])
            .arg(&path);
        let output = output_at_start(&mut command, &directory).await;
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        if output.stderr.contains("caught a panic of redb") {
            assert_eq!(output.code, Some(1), "{}", output.stderr);
            let error = output.stderr.lines().last().unwrap_or_default();
            assert!(
                error.starts_with("sse-server: ") && error.contains("backup"),
                "{error}"
            );
            caught += 1;
        }
    }
    assert!(caught > 0, "no damaged page makes redb panic");
}

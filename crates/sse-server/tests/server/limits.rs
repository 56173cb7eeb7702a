//! Each limit has its documented effect when it is reached.

use std::{path::Path, process::Stdio};

use reqwest::StatusCode;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::common::{
    Backend, KilledWhenDropped, ProgramOutput, TestServer, client, copy_program, logged_cause,
    peak_memory, refusal, run, server_command, skip, until, within,
};

/// Data of the events in a channel, read in pages; a trim between two pages does no harm.
async fn kept(server: &TestServer, channel: &str) -> Vec<String> {
    server
        .history(channel)
        .await
        .into_iter()
        .map(|event| event.data)
        .collect()
}

crate::on_every_broker! {
    async fn a_warning_precedes_the_limit_of_channels(backend: Backend) {
        let server = TestServer::start_with(backend, &["--channels-max", "10"]).await;
        let warnings = || server.log().matches("is near --channels-max").count();
        for number in 1..=7 {
            server.publish(&format!("c{number}"), "click", "x").await;
        }
        assert_eq!(warnings(), 0);
        for number in 8..=10 {
            server.publish(&format!("c{number}"), "click", "x").await;
        }
        until("the warning", async || (warnings() == 1).then_some(())).await;
    }

    async fn a_rejected_publish_is_logged_once_per_code(backend: Backend) {
        let server = TestServer::start_with(backend, &["--channels-max", "1"]).await;
        server.publish("kept", "click", "x").await;
        for channel in ["a", "b", "c"] {
            let response = server.try_publish(channel, "click", "x").await.unwrap();
            refusal(response, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
            let page = server.http.post(server.at("/events")).header("origin", "https://example.org");
            let response = page.body("").send().await.unwrap();
            refusal(response, StatusCode::FORBIDDEN, "origin_not_allowed").await;
            // A mistake of the client concerns the client only.
            server.get("/event/%20?channel=%20").await.unwrap();
        }
        let lines = |code: &str| {
            let log = server.log();
            log.lines().filter(|line| line.contains("a publish was rejected") && line.contains(code)).count()
        };
        until("both lines", async || (lines("log_full") == 1 && lines("origin_not_allowed") == 1).then_some(())).await;
        assert_eq!(lines(""), 2, "{}", server.log());
        assert!(server.log().contains("--channels-max"), "the reason is in the line");
    }

    async fn history_keeps_the_newest_events_of_each_channel(backend: Backend) {
        let server = TestServer::start_with(backend, &["--history-events", "10"]).await;
        server.publish_numbers("quiet", 0..5).await;
        for start in (0..1000).step_by(100) {
            server.publish_numbers("busy", start..start + 100).await;
        }
        let newest: Vec<String> = (990..1000).map(|number| number.to_string()).collect();
        let busy = kept(&server, "busy").await;
        assert!(busy.ends_with(&newest), "{busy:?}");
        match backend {
            // A node of a Redis stream holds about a hundred events, and `XTRIM ~` removes whole
            // nodes.
            Backend::Redis => assert!(busy.len() <= 300, "{} events", busy.len()),
            _ => assert_eq!(busy.len(), 10),
        }
        assert_eq!(kept(&server, "quiet").await, ["0", "1", "2", "3", "4"]);
    }

    async fn a_channel_over_the_limit_is_rejected_and_the_others_keep_working(backend: Backend) {
        let server = TestServer::start_with(backend, &["--channels-max", "3"]).await;
        for channel in ["a", "b", "c"] {
            server.publish(channel, "click", "x").await;
        }
        let refused = server.try_publish("d", "click", "x").await.unwrap();
        let message = refusal(refused, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
        assert!(message.contains("--channels-max") && message.contains('3'), "{message}");
        let batch = server.http.post(server.at("/events?channel=e")).header("content-type", "application/x-ndjson");
        let refused = batch.body(r#"{"event":"a","data":1}"#).send().await.unwrap();
        refusal(refused, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
        for channel in ["d", "e"] {
            assert_eq!(kept(&server, channel).await, Vec::<String>::new());
            drop(server.subscribe(&format!("/stream?channel={channel}")).await);
        }
        // Reading and subscribing use up no place, and existing channels still accept events.
        server.publish("c", "click", "y").await;
        assert_eq!(kept(&server, "c").await, ["x", "y"]);
        assert_eq!(server.get("/health/ready").await.unwrap().status(), StatusCode::OK);
    }

    async fn a_subscriber_behind_a_tiny_tail_gets_everything(backend: Backend) {
        for tail in [["--tail-events", "1"], ["--tail-bytes", "1"]] {
            let server = TestServer::start_with(backend, &tail).await;
            let mut subscribers = [server.subscribe("/stream").await, server.subscribe("/stream?event=number").await];
            for start in (0..400).step_by(100) {
                server.publish_numbers("sse", start..start + 100).await;
                server.publish("sse", "number", &(start + 1000).to_string()).await;
            }
            let start = |start: usize| (start..start + 100).chain([start + 1000]);
            let expected: Vec<String> =
                (0..400).step_by(100).flat_map(start).map(|number| number.to_string()).collect();
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.take_data(404).await, expected);
            }
        }
    }

    async fn the_largest_event_and_the_largest_batch_are_accepted(backend: Backend) {
        let flags = ["--event-bytes-max", "64KiB", "--batch-bytes-max", "128KiB", "--batch-events-max", "50"];
        let server = TestServer::start_with(backend, &flags).await;
        let mut subscriber = server.subscribe("/stream").await;
        let largest = "x".repeat(64 << 10);
        server.publish("sse", "click", &largest).await;
        assert!(subscriber.next_event().await.data == largest);
        let one_more = server.try_publish("sse", "click", &format!("{largest}x")).await.unwrap();
        let message = refusal(one_more, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
        assert!(message.contains("65536") && message.contains("--event-bytes-max"), "{message}");
        // Each line end takes 7 bytes on a stream: 9362 of them are within 64 KiB, with two to spare.
        let line_ends = "\n".repeat(9362);
        server.publish("sse", "click", &line_ends).await;
        assert!(subscriber.next_event().await.data == line_ends);
        let batch = |data: &str| {
            let line = serde_json::json!({"event": "click", "data": data}).to_string();
            server.try_publish_batch("sse", line)
        };
        for refused in [
            server.try_publish("sse", "click", &format!("{line_ends}\n")).await.unwrap(),
            batch(&format!("{line_ends}\n")).await.unwrap(),
            batch(&"\r".repeat(9363)).await.unwrap(),
        ] {
            let message = refusal(refused, StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
            assert!(message.contains("7 bytes per line end"), "{message}");
            assert!(message.contains("65536") && message.contains("--event-bytes-max"), "{message}");
        }
        server.publish_numbers("sse", 0..50).await;
        let lines = [r#"{"event":"number","data":0}"#; 51].join("\n");
        let batch = server.http.post(server.at("/events")).header("content-type", "application/x-ndjson").body(lines);
        let message = refusal(batch.send().await.unwrap(), StatusCode::PAYLOAD_TOO_LARGE, "too_large").await;
        assert!(message.contains("50 events") && message.contains("--batch-events-max"), "{message}");
        let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        assert_eq!(subscriber.take_data(50).await, expected);
        assert_eq!(kept(&server, "sse").await.len(), 52);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_events_have_expired_makes_room_for_another() {
    for backend in [Backend::Embedded, Backend::Memory, Backend::Redis] {
        let server =
            TestServer::start_with(backend, &["--channels-max", "1", "--history-age", "200ms"])
                .await;
        let old = server.publish("old", "click", "x").await;
        until("the old channel is removed", async || {
            let response = server.try_publish("new", "click", "y").await.unwrap();
            if response.status() == StatusCode::OK {
                return Some(());
            }
            refusal(response, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
            None
        })
        .await;
        assert_eq!(kept(&server, "old").await, Vec::<String>::new());
        // A client that resumes on the removed channel gets a gap, without a wait.
        let mut subscriber = server
            .subscribe_after("/stream?channel=old", Some("1-0"))
            .await;
        assert_eq!(subscriber.next_event().await.event, "gap");
        assert_ne!(server.history("new").await[0].id, old);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_total_bytes_trims_the_oldest_events_of_all_channels() {
    for backend in [Backend::Embedded, Backend::Memory] {
        let server = TestServer::start_with(backend, &["--history-bytes", "100KiB"]).await;
        server.publish_numbers("quiet", 0..5).await;
        let quiet = server.history("quiet").await;
        let first = server.publish("busy", "click", "first").await;
        let padding = "x".repeat(1000);
        for number in 0..300 {
            server
                .publish("busy", "click", &format!("{number} {padding}"))
                .await;
        }
        let busy = until("the log is within the limit", async || {
            // A round trip through the writer makes the writer check the limit.
            assert_eq!(
                server.get("/health/ready").await.unwrap().status(),
                StatusCode::OK
            );
            let busy = kept(&server, "busy").await;
            let bytes: usize = busy.iter().map(String::len).sum();
            (bytes <= 100 << 10 && kept(&server, "quiet").await.is_empty()).then_some(busy)
        })
        .await;
        assert!(
            busy.len() >= 30,
            "only {} events are left: far more was trimmed than needed",
            busy.len()
        );
        for (data, number) in busy.iter().rev().zip((0..300).rev()) {
            assert_eq!(*data, format!("{number} {padding}"));
        }
        // A client that had seen everything in the quiet channel has missed nothing. A client whose
        // position was trimmed has missed events.
        let mut saw_all = server
            .subscribe_after("/stream?channel=quiet", Some(&quiet[4].id))
            .await;
        server.publish("quiet", "click", "new").await;
        assert_eq!(saw_all.next_event().await.data, "new");
        for (path, id) in [
            ("/stream?channel=quiet", &quiet[1].id),
            ("/stream?channel=busy", &first),
        ] {
            let gap = server
                .subscribe_after(path, Some(id))
                .await
                .next_event()
                .await;
            assert!(
                gap.event == "gap" && gap.data.contains("trimmed"),
                "{gap:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_nearly_full_disk_rejects_events_and_is_reported() {
    let server = TestServer::start_with(Backend::Embedded, &["--disk-reserve", "900PiB"]).await;
    let refused = server.try_publish("sse", "click", "x").await.unwrap();
    let message = refusal(refused, StatusCode::INSUFFICIENT_STORAGE, "log_full").await;
    let cause = logged_cause(&server, &message).await;
    assert!(cause.contains("--disk-reserve"), "{cause}");
    assert!(
        !message.contains("bytes") && !message.contains('/'),
        "{message}"
    );
    refusal(
        server.get("/health/ready").await.unwrap(),
        StatusCode::INSUFFICIENT_STORAGE,
        "log_full",
    )
    .await;
    assert_eq!(kept(&server, "sse").await, Vec::<String>::new());
    assert_eq!(
        server.get("/health/live").await.unwrap().status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_publish_waits_for_memory_and_is_rejected_if_none_becomes_free() {
    let flags = [
        "--event-bytes-max",
        "64KiB",
        "--batch-bytes-max",
        "64KiB",
        "--publish-memory",
        "64KiB",
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    let mut stalled = server.connect().await;
    let head = "POST /event/slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\ncontent-type: text/plain\r\n";
    stalled
        .write_all(format!("{head}content-length: {}\r\n\r\n", 64 << 10).as_bytes())
        .await
        .unwrap();
    stalled
        .write_all(&vec![b'x'; (64 << 10) - 1])
        .await
        .unwrap();
    let refused = until("the memory is in use", async || {
        // Small bodies have memory of their own.
        let large = "x".repeat(8 << 10);
        let response = server.try_publish("sse", "click", &large).await.unwrap();
        (response.status() != StatusCode::OK).then_some(response)
    })
    .await;
    assert!(refused.headers().contains_key("retry-after"));
    let message = refusal(refused, StatusCode::SERVICE_UNAVAILABLE, "busy").await;
    assert!(message.contains("--publish-memory"), "{message}");
    stalled.write_all(b"x").await.unwrap();
    let mut answer = String::new();
    within(
        "the slow publish is answered",
        stalled.read_to_string(&mut answer),
    )
    .await
    .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.publish("sse", "click", "after").await;
}

#[tokio::test]
async fn memory_for_one_body_is_enough_for_one_body() {
    // A limit that is not a whole number of KiB.
    let flags = [
        "--event-bytes-max",
        "1500",
        "--batch-bytes-max",
        "1500",
        "--publish-memory",
        "1500",
    ];
    let server = TestServer::start_with(Backend::Memory, &flags).await;
    server.publish("sse", "click", &"x".repeat(1500)).await;
}

#[tokio::test]
async fn uploads_that_have_sent_no_body_hold_no_memory() {
    let server = TestServer::start(Backend::Memory).await;
    let mut silent = Vec::new();
    for _ in 0..16 {
        let mut socket = server.connect().await;
        let head = "POST /events HTTP/1.1\r\nHost: localhost\r\nexpect: 100-continue\r\ncontent-type: application/x-ndjson\r\n";
        socket
            .write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = [0; 12];
        within("100 Continue", socket.read_exact(&mut answer))
            .await
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100");
        silent.push(socket);
    }
    server.publish("sse", "click", "x").await;
    drop(silent);
}

/// A client that requests history and reads nothing of the response.
async fn stalled_reader(server: &TestServer) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = server.url.trim_start_matches("http://").parse().unwrap();
    let mut socket = within("a connection", socket.connect(address))
        .await
        .unwrap();
    socket
        .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_readers_of_history_hold_memory_until_they_disconnect() {
    let server = TestServer::start(Backend::Memory).await;
    for _ in 0..6 {
        server.publish("sse", "click", &"x".repeat(900 << 10)).await;
    }
    let mut stalled = Vec::new();
    for _ in 0..60 {
        stalled.push(stalled_reader(&server).await);
    }
    let refused = until("the memory is in use", async || {
        let response = server.get("/events").await.unwrap();
        (response.status() != StatusCode::OK).then_some(response)
    })
    .await;
    assert!(refused.headers().contains_key("retry-after"), "{refused:?}");
    let message = refusal(refused, StatusCode::SERVICE_UNAVAILABLE, "busy").await;
    assert!(message.contains("GET /events"), "{message}");
    // Publishers and streams do not share this limit.
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "new").await;
    assert_eq!(subscriber.next_event().await.data, "new");
    let peak = peak_memory(&server);
    println!(
        "with {} stalled readers: {} KiB at the most",
        stalled.len(),
        peak >> 10
    );
    assert!(peak < 160 << 20, "{} KiB", peak >> 10);
    drop(stalled);
    until("memory is free again", async || {
        (server.get("/events").await.unwrap().status() == StatusCode::OK).then_some(())
    })
    .await;
}

fn on(directory: &Path) -> std::process::Command {
    let mut command = server_command();
    command
        .arg("--data-dir")
        .arg(directory)
        .args(["--bind", "127.0.0.1:0"]);
    command
}

/// Runs a server that cannot open `directory`: it reports the reason in a few lines and exits with
/// code 1.
async fn assert_does_not_start(directory: &Path, hints: &[&str]) -> ProgramOutput {
    let output = run(&mut on(directory)).await;
    assert_not_started(&output, directory, hints);
    output
}

/// Checks that a server did not start on this directory, for a reason that contains all hints.
fn assert_not_started(output: &ProgramOutput, directory: &Path, hints: &[&str]) {
    let text = &output.stderr;
    assert_eq!(output.code, Some(1), "{text}");
    assert!(
        text.contains(&directory.display().to_string()),
        "the directory is not named: {text}"
    );
    for hint in hints {
        assert!(text.contains(hint), "{hint:?} is not in {text}");
    }
}

#[tokio::test]
async fn a_second_server_on_a_data_directory_reports_that_it_is_in_use() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let first = TestServer::on_directory(&path, &[]).await;
    first.publish("sse", "click", "x").await;
    assert_does_not_start(
        &path,
        &["in use by another sse-server", "--data-dir", "--memory"],
    )
    .await;
    first.publish("sse", "click", "y").await;
    assert_eq!(kept(&first, "sse").await, ["x", "y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_all_events_and_ids_keep_increasing() {
    let number = |id: &str| {
        let (ms, seq) = id.split_once('-').expect("an id");
        (ms.parse::<u64>().unwrap(), seq.parse::<u64>().unwrap())
    };
    let mut server = TestServer::start_with(Backend::Embedded, &["--history-events", "20"]).await;
    let mut last = (0, 0);
    for round in 0..4 {
        server
            .publish_numbers("one", round * 30..round * 30 + 30)
            .await;
        server.publish("two", "click", &round.to_string()).await;
        let before = [server.history("one").await, server.history("two").await];
        if round % 2 == 0 {
            assert_eq!(server.stop("TERM").await.code(), Some(0));
            server.restart().await;
        } else {
            server.kill_and_restart().await;
        }
        assert_eq!(
            [server.history("one").await, server.history("two").await],
            before
        );
        for channel in ["one", "two", &format!("new-{round}")] {
            let id = number(&server.publish(channel, "click", "after").await);
            assert!(id > last, "{id:?} after {last:?}");
            last = id;
        }
    }
}

#[tokio::test]
async fn an_unusable_data_directory_is_a_clear_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert_does_not_start(&file, &["not a directory"]).await;
    assert_does_not_start(&file.join("below"), &["Not a directory"]).await;
    assert_eq!(std::fs::read(&file).unwrap(), b"x");

    let taken = directory.path().join("taken");
    std::fs::create_dir_all(taken.join("events.redb")).unwrap();
    assert_does_not_start(&taken, &["Is a directory"]).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_data_directory_without_write_permission_is_a_clear_error() {
    use std::{
        fs::{Permissions, set_permissions},
        os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
        process::Command,
    };

    const NOBODY: u32 = 65_534;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    std::fs::create_dir(&path).unwrap();
    set_permissions(&path, Permissions::from_mode(0o555)).unwrap();
    let mut command = on(&path);
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere, so another user runs the program, from a path that the user
        // can read.
        let as_unprivileged = |mut command: Command| {
            command.uid(NOBODY).gid(NOBODY);
            command
        };
        if as_unprivileged(Command::new("true")).status().is_err() {
            return skip("root may write everywhere, and cannot become another user here");
        }
        let program = directory.path().join("sse-server");
        copy_program(command.get_program(), &program);
        set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let mut copy = Command::new(program);
        copy.args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => copy.env(name, value),
                None => copy.env_remove(name),
            };
        }
        command = as_unprivileged(copy);
    }
    assert_not_started(&run(&mut command).await, &path, &["ermission denied"]);
}

#[tokio::test]
async fn a_log_of_another_version_is_rejected_and_left_unchanged() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let mut server = TestServer::on_directory(&path, &[]).await;
    server.publish("sse", "click", "x").await;
    server.stop("TERM").await;
    let set_format = |format| {
        let database = redb::Database::open(path.join("events.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        let before = transaction
            .open_table(meta)
            .unwrap()
            .insert("format", format)
            .unwrap()
            .map(|before| before.value());
        transaction.commit().unwrap();
        before.expect("a format before")
    };
    let own = set_format(99);
    assert_does_not_start(
        &path,
        &["format 99", "run the newer version again", "--data-dir"],
    )
    .await;
    set_format(1);
    assert_does_not_start(
        &path,
        &[
            "format 1",
            "continue with the version that wrote it",
            "--data-dir",
        ],
    )
    .await;
    set_format(own);
    server.restart().await;
    assert_eq!(kept(&server, "sse").await, ["x"]);
}

#[tokio::test]
async fn a_file_that_is_not_a_log_is_a_clear_error_and_left_unchanged() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("events.redb");
    for bytes in [
        b"this is no log\n".repeat(500),
        vec![0; 1 << 16],
        b"x".to_vec(),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        let output = assert_does_not_start(directory.path(), &["empty one"]).await;
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
        assert!(
            std::fs::read(&file).unwrap() == bytes,
            "the file was changed"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_a_clear_error() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log");
    let mut server = TestServer::on_directory(&path, &[]).await;
    server.publish_numbers("sse", 0..500).await;
    server.stop("TERM").await;
    let file = path.join("events.redb");
    let good = std::fs::read(&file).unwrap();
    let flipped = |range: std::ops::Range<usize>| {
        let mut bytes = good.clone();
        bytes[range].iter_mut().for_each(|byte| *byte ^= 0x5a);
        bytes
    };
    for (what, bytes) in [
        ("cut in half", good[..good.len() / 2].to_vec()),
        ("one byte short", good[..good.len() - 1].to_vec()),
        (
            "everything after the head flipped",
            flipped(4096..good.len()),
        ),
        ("the head flipped", flipped(64..320)),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        let output = assert_does_not_start(&path, &["backup"]).await;
        assert!(
            !output.stderr.contains("panicked"),
            "{what}: {}",
            output.stderr
        );
    }
    std::fs::write(&file, &good).unwrap();
    server.restart().await;
    assert_eq!(kept(&server, "sse").await.len(), 500);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_is_reported_and_loses_no_acknowledged_event() {
    // A limit on the file size makes every further write fail, like a disk that becomes full in the
    // middle of a commit batch.
    let directory = TempDir::new().unwrap();
    let (path, log) = (
        directory.path().join("log"),
        directory.path().join("stderr"),
    );
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", r#"trap "" XFSZ; ulimit -f 4096; exec "$0" "$@""#])
        .arg(server_command().get_program());
    command
        .arg("--data-dir")
        .arg(&path)
        .args(["--bind", "127.0.0.1:0"])
        .env_remove("REDIS_URL");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut server = KilledWhenDropped(command.spawn().unwrap());
    let output = || std::fs::read_to_string(&log).unwrap();
    let url = until("the server listens", async || {
        output()
            .lines()
            .find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()))
    })
    .await;
    let http = client().build().unwrap();
    let large = |number: usize| format!("{number} {}", "x".repeat(200_000));
    let publish = async |number: usize| {
        let request = http
            .post(format!("{url}/event/click"))
            .header("content-type", "text/plain");
        let request = request
            .header("idempotency-key", number.to_string())
            .body(large(number));
        within("an answer", request.send())
            .await
            .expect("an answer")
    };
    let mut acknowledged = 0;
    let refused = loop {
        let response = publish(acknowledged).await;
        if response.status() != StatusCode::OK {
            break response;
        }
        acknowledged += 1;
        assert!(acknowledged < 100, "no write failed");
    };
    assert!(acknowledged > 0);
    refusal(refused, StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown").await;
    for _ in 0..20 {
        refusal(
            publish(acknowledged).await,
            StatusCode::SERVICE_UNAVAILABLE,
            "outcome_unknown",
        )
        .await;
    }
    // The log reports the failure once, when it begins.
    assert_eq!(output().matches("ERROR").count(), 1, "{}", output());
    assert!(!output().contains("panicked"), "{}", output());
    server.0.kill().unwrap();
    server.0.wait().unwrap();
    let again = TestServer::on_directory(&path, &[]).await;
    let data = kept(&again, "sse").await;
    assert!(
        data.len() >= acknowledged,
        "{} of {acknowledged} events are in the log",
        data.len()
    );
    for (number, data) in data.iter().enumerate() {
        assert!(data.starts_with(&format!("{number} ")), "event {number}");
    }
    // The publish with an unknown outcome can be sent again with its key, and its event is stored
    // once.
    for number in (0..=acknowledged).rev() {
        let request = again
            .http
            .post(again.at("/event/click"))
            .header("content-type", "text/plain");
        let request = request
            .header("idempotency-key", number.to_string())
            .body(large(number));
        assert_eq!(
            request.send().await.expect("an answer").status(),
            StatusCode::OK
        );
    }
    assert_eq!(kept(&again, "sse").await.len(), acknowledged + 1);
    again.publish("sse", "click", "after the restart").await;
}

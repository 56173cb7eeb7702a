//! The command line and the environment. Misuse ends the server before it opens anything, with code
//! 2 and a message that states what to write instead.

use std::{net::TcpListener, process::Command};

use tempfile::{NamedTempFile, TempDir};

use crate::common::{
    Backend, KilledWhenDropped, ProgramOutput, TestServer, ended, free_port, output_at_start, run,
    server_command, skip, until,
};

const MISUSED: Option<i32> = Some(2);
const PASSWORD: &str = "hunter2";

fn server(variables: &[(&str, &str)], flags: &[&str]) -> Command {
    let mut command = server_command();
    command.envs(variables.iter().copied()).args(flags);
    command
}

/// Runs a server that must not start, because its settings are wrong.
async fn misused(variables: &[(&str, &str)], flags: &[&str]) -> ProgramOutput {
    let directory = TempDir::new().unwrap();
    let output = output_at_start(&mut server(variables, flags), &directory).await;
    assert_eq!(
        output.code, MISUSED,
        "{variables:?} {flags:?}: {}",
        output.stderr
    );
    assert_eq!(output.stdout, "", "{variables:?} {flags:?}");
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        0,
        "the server has created something"
    );
    output
}

/// Returns the log of a server up to the line with its address, or up to its end.
async fn log_of(variables: &[(&str, &str)], flags: &[&str]) -> String {
    let mut command = server(variables, flags);
    if !flags.contains(&"--bind") && !variables.iter().any(|(name, _)| *name == "SSE_BIND") {
        command.args(["--bind", "127.0.0.1:0"]);
    }
    output_at_start(&mut command, &TempDir::new().unwrap())
        .await
        .stderr
}

/// Returns the broker that the first line of the log names.
async fn broker_of(variables: &[(&str, &str)], flags: &[&str]) -> String {
    let log = log_of(variables, flags).await;
    let first = log.lines().next().unwrap_or_default();
    let (_, output) = first
        .split_once("broker: ")
        .unwrap_or_else(|| panic!("no broker in the first line of {log}"));
    output.to_owned()
}

/// Flags, and what the message contains.
type Misuse = (&'static [&'static str], &'static [&'static str]);

/// Unknown flags, and addresses to listen on.
const MISUSED_ADDRESSES: &[Misuse] = &[
    (&["--no-such-flag"], &["--no-such-flag", "--help"]),
    (&["extra"], &["extra", "--help"]),
    (&["--bind"], &["--bind"]),
    (
        &["--bind", "5000"],
        &["\"5000\"", "127.0.0.1:5000", "[::1]:5000"],
    ),
    (&["--bind", "127.0.0.1:99999"], &["127.0.0.1:5000"]),
    (
        &["--bind", "/run/sse.sock"],
        &["--bind", "write unix:/run/sse.sock"],
    ),
    (&["--bind", "unix:"], &["--bind", "unix:/run/sse.sock"]),
    (&["--bind", "unix:@sse"], &["--bind", "abstract"]),
    (
        &["--bind", "127.0.0.1:5000,127.0.0.1:5000"],
        &["--bind 127.0.0.1:5000", "twice"],
    ),
    (
        &["--bind", "unix:/run/a", "--bind", "unix:///run/a"],
        &["--bind unix:/run/a", "twice"],
    ),
    (
        &["--bind", "127.0.0.1:0", "--bind", "0.0.0.0:5000"],
        &["--bind 0.0.0.0:5000", "--allow-anonymous"],
    ),
    (&["--socket-mode", "432"], &["--socket-mode", "0660"]),
    (&["--socket-mode", "0668"], &["--socket-mode", "0660"]),
    (&["--socket-mode", "01777"], &["--socket-mode", "0660"]),
];

/// Times, sizes and numbers.
const MISUSED_AMOUNTS: &[Misuse] = &[
    (&["--heartbeat", "15"], &["--heartbeat", "15s"]),
    (&["--heartbeat", "0s"], &["--heartbeat", "more than zero"]),
    (&["--history-age", "yesterday"], &["--history-age", "24h"]),
    (&["--history-bytes", "1XB"], &["--history-bytes", "1GiB"]),
    (
        &["--history-events", "0"],
        &["--history-events", "a whole number from 1 on", "--memory"],
    ),
    (&["--channels-max", "0"], &["a whole number from 1 on"]),
    (&["--batch-events-max", "x"], &["a whole number from 1 on"]),
    (&["--idempotency-keys", "-1"], &["a whole number from 1 on"]),
    (&["--tail-events", "1.5"], &["a whole number from 1 on"]),
    (
        &["--streams-max", "99999999999999999999"],
        &["a whole number from 1 on"],
    ),
    (
        &["--fanout-threads", "-1"],
        &["a whole number from 0 to 256"],
    ),
    (&["--port", "8080"], &["--port", "--bind 127.0.0.1:8080"]),
    (
        &["--host=0.0.0.0", "--memory", "--port=80"],
        &["--host", "--bind 0.0.0.0:80"],
    ),
    (&["--host", "::1"], &["--bind [::1]:5000"]),
    (
        &["--event-bytes-max", "0"],
        &["--event-bytes-max", "more than zero"],
    ),
    (
        &["--event-bytes-max", "17MiB"],
        &["--event-bytes-max", "--batch-bytes-max"],
    ),
    (
        &["--publish-memory", "1MiB"],
        &["--batch-bytes-max", "--publish-memory"],
    ),
];

/// Origins, logs and brokers.
const MISUSED_CHOICES: &[Misuse] = &[
    (
        &["--cors-origin", "https://app.example/"],
        &["--cors-origin", "write https://app.example"],
    ),
    (
        &["--cors-origin", "app.example"],
        &["--cors-origin", "https://app.example"],
    ),
    (
        &["--cors-origin", "https://a*.example"],
        &["--cors-origin", "https://*.app.example"],
    ),
    (
        &["--publish-origin", "app.example"],
        &["--publish-origin", "https://app.example"],
    ),
    (
        &["--cors-credentials", "--cors-origin", "*"],
        &["--cors-credentials", "name the origins"],
    ),
    (
        &["--cors-credentials", "--publish-origin", "null"],
        &["--cors-credentials", "name the origins"],
    ),
    (
        &["--cors-credentials"],
        &["--cors-credentials", "--cors-origin", "--publish-origin"],
    ),
    (
        &["--public-url", "hub.example.org"],
        &["--public-url", "https://hub.example.org/live"],
    ),
    (&["--log", "loud=="], &["--log", "debug"]),
    (&["--log-format", "yaml"], &["--log-format", "json"]),
    (&["--access-log", "true"], &["--access-log", "- for stdout"]),
    (
        &["--memory", "--data-dir", "x"],
        &["--memory", "--data-dir", "give one of them"],
    ),
    (
        &["--memory", "--redis-url", "redis://localhost"],
        &["--memory", "--redis-url", "give one of them"],
    ),
    (&["--redis-url", "http://localhost"], &["redis://"]),
    (&["--redis-url", ""], &["redis://"]),
];

#[tokio::test]
async fn misuse_ends_with_code_2_and_states_what_to_write() {
    let tables = [MISUSED_ADDRESSES, MISUSED_AMOUNTS, MISUSED_CHOICES];
    for (flags, hints) in tables.concat() {
        let output = misused(&[], flags).await.stderr;
        for hint in hints {
            assert!(output.contains(hint), "{flags:?}: no {hint:?} in {output}");
        }
        for internal in ["panicked", "non-zero type", "target type", "invalid digit"] {
            assert!(!output.contains(internal), "{flags:?}: {output}");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_data_directory_that_cannot_be_written_ends_with_what_to_do() {
    if !std::path::Path::new("/sys/kernel").exists() {
        skip("there is no file system in which even root cannot create a directory");
        return;
    }
    let mut command = server_command();
    command.args(["--bind", "127.0.0.1:0", "--data-dir", "/sys/sse-data"]);
    let output = run(&mut command).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    for hint in ["/sys/sse-data", "chown", "--data-dir", "--memory"] {
        assert!(output.stderr.contains(hint), "no {hint:?} in {output:?}");
    }
}

#[tokio::test]
async fn a_file_in_place_of_the_data_directory_ends_with_what_to_do() {
    let file = NamedTempFile::new().unwrap();
    let mut command = server_command();
    command.args(["--bind", "127.0.0.1:0", "--data-dir"]);
    let output = run(command.arg(file.path())).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("not a directory: choose another"),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_log_level_that_does_not_exist_is_rejected() {
    // As a filter it would name a module, and nothing would be logged.
    let output = misused(
        &[],
        &["--memory", "--bind", "127.0.0.1:0", "--log", "warning"],
    )
    .await
    .stderr;
    assert!(output.contains("debug"), "{output}");
}

#[tokio::test]
async fn a_history_without_room_for_an_event_is_rejected() {
    let output = misused(
        &[],
        &["--memory", "--bind", "127.0.0.1:0", "--history-bytes", "0"],
    )
    .await
    .stderr;
    assert!(output.contains("--history-bytes"), "{output}");
}

#[tokio::test]
async fn a_wrong_variable_ends_with_code_2() {
    for (name, value, hints) in [
        ("SSE_BIND", "5000", &["127.0.0.1:5000"][..]),
        ("SSE_HEARTBEAT", "15", &["15s"]),
        ("SSE_HISTORY_EVENTS", "many", &[]),
        ("SSE_HISTORY_BYTES", "many", &["1GiB"]),
        ("SSE_HISTORY_AGE", "1", &["24h"]),
        ("SSE_CHANNELS_MAX", "0", &[]),
        ("SSE_DISK_RESERVE", "x", &["1GiB"]),
        ("SSE_EVENT_BYTES_MAX", "x", &["1MiB"]),
        ("SSE_BATCH_BYTES_MAX", "x", &["1MiB"]),
        ("SSE_BATCH_EVENTS_MAX", "-1", &[]),
        ("SSE_PUBLISH_MEMORY", "x", &["1MiB"]),
        ("SSE_TAIL_EVENTS", "0", &[]),
        ("SSE_TAIL_BYTES", "x", &["1MiB"]),
        ("SSE_RETRY", "3", &["15s"]),
        ("SSE_REDIS_TIMEOUT", "0s", &["more than zero"]),
        (
            "SSE_CORS_ORIGIN",
            "https://a.example,b.example",
            &["https://app.example"],
        ),
        (
            "SSE_PUBLISH_ORIGIN",
            "app.example",
            &["https://app.example"],
        ),
        ("SSE_CORS_CREDENTIALS", "maybe", &[]),
        ("SSE_PUBLIC_URL", "/live", &["https://hub.example.org"]),
        ("SSE_LOG", "loud==", &["debug"]),
        ("SSE_LOG_FORMAT", "yaml", &["json"]),
        ("SSE_ACCESS_LOG", "1", &["- for stdout"]),
        ("SSE_MEMORY", "maybe", &[]),
        ("SSE_ALLOW_ANONYMOUS", "2", &[]),
        ("SSE_REDIS_URL", "nonsense", &["redis://"]),
        ("REDIS_URL", "nonsense", &["redis://"]),
    ] {
        let output = misused(&[(name, value)], &[]).await.stderr;
        let flag = format!(
            "--{}",
            name.trim_start_matches("SSE_")
                .to_lowercase()
                .replace('_', "-")
        );
        assert!(
            output.contains(&flag) || output.contains(name) || name.ends_with("REDIS_URL"),
            "{name}: {output}"
        );
        for hint in hints {
            assert!(
                output.contains(hint),
                "{name}={value}: no {hint:?} in {output}"
            );
        }
    }
}

#[tokio::test]
async fn the_message_for_a_wrong_switch_lists_the_allowed_values() {
    let output = misused(&[("SSE_MEMORY", "maybe")], &[]).await.stderr;
    assert!(output.contains("true") && output.contains('0'), "{output}");
}

#[tokio::test]
async fn switches_accept_1_0_true_and_false() {
    for yes in ["1", "true"] {
        assert_eq!(
            broker_of(&[("SSE_MEMORY", yes)], &[]).await,
            "memory (chosen by SSE_MEMORY)"
        );
        let open = [
            ("SSE_ALLOW_ANONYMOUS", yes),
            ("SSE_BIND", "0.0.0.0:0"),
            ("SSE_MEMORY", "1"),
        ];
        assert!(
            log_of(&open, &[])
                .await
                .contains("listening on http://0.0.0.0:")
        );
    }
    for no in ["0", "false"] {
        assert_eq!(
            broker_of(&[("SSE_MEMORY", no)], &[]).await,
            "embedded log in ./sse-data (chosen by the default)"
        );
        let output = misused(
            &[("SSE_ALLOW_ANONYMOUS", no), ("SSE_BIND", "0.0.0.0:0")],
            &[],
        )
        .await
        .stderr;
        assert!(output.contains("--allow-anonymous"), "{output}");
    }
}

#[tokio::test]
async fn the_origin_null_is_allowed_with_a_warning() {
    for flag in ["--cors-origin", "--publish-origin"] {
        let log = log_of(&[], &["--memory", flag, "null"]).await;
        let warning = format!("{flag} null covers every sandboxed page");
        assert!(log.contains(&warning), "{log}");
        let log = log_of(&[], &["--memory", flag, "https://app.example"]).await;
        assert!(!log.contains("WARN"), "{log}");
    }
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    // As `environment: SSE_REDIS_URL: ${REDIS}` leaves it in a compose file.
    for name in [
        "REDIS_URL",
        "SSE_REDIS_URL",
        "SSE_MEMORY",
        "SSE_CORS_ORIGIN",
        "SSE_BIND",
        "SSE_LOG",
    ] {
        let log = log_of(
            &[(name, "")],
            &["--data-dir", "log", "--bind", "127.0.0.1:0"],
        )
        .await;
        assert!(
            log.contains("embedded log in log (chosen by --data-dir)"),
            "{name}: {log}"
        );
    }
}

#[tokio::test]
async fn the_first_line_names_the_broker_and_what_chose_it() {
    let unreachable = format!("redis://127.0.0.1:{}", free_port());
    let redis_by = |by: &str| format!("Redis at {unreachable} (chosen by {by})");
    let in_memory = |by: &str| format!("memory (chosen by {by})");
    let in_d = |by: &str| format!("embedded log in d (chosen by {by})");
    let quick = ("SSE_REDIS_TIMEOUT", "50ms");
    let url = ("REDIS_URL", unreachable.as_str());
    let sse_url = ("SSE_REDIS_URL", unreachable.as_str());
    for (variables, flags, expected) in [
        (
            &[][..],
            &[][..],
            "embedded log in ./sse-data (chosen by the default)".to_owned(),
        ),
        (&[], &["--memory"], in_memory("--memory")),
        (&[], &["--data-dir", "d"], in_d("--data-dir")),
        (
            &[quick],
            &["--redis-url", &unreachable],
            redis_by("--redis-url"),
        ),
        (&[quick, url], &[], redis_by("REDIS_URL")),
        (&[quick, sse_url], &[], redis_by("SSE_REDIS_URL")),
        // The command line overrides every variable.
        (&[quick, url], &["--memory"], in_memory("--memory")),
        (&[quick, url], &["--data-dir", "d"], in_d("--data-dir")),
        (&[quick, sse_url], &["--memory"], in_memory("--memory")),
        (&[quick, sse_url], &["--data-dir", "d"], in_d("--data-dir")),
        (
            &[quick, ("SSE_MEMORY", "1")],
            &["--redis-url", &unreachable],
            redis_by("--redis-url"),
        ),
        (
            &[quick, ("SSE_DATA_DIR", "d")],
            &["--redis-url", &unreachable],
            redis_by("--redis-url"),
        ),
        (
            &[("SSE_MEMORY", "1")],
            &["--data-dir", "d"],
            in_d("--data-dir"),
        ),
        (
            &[("REDIS_URL", "nonsense")],
            &["--memory"],
            in_memory("--memory"),
        ),
        // An `SSE_` variable overrides REDIS_URL, which platforms set for all programs.
        (
            &[quick, url, ("SSE_MEMORY", "1")],
            &[],
            in_memory("SSE_MEMORY"),
        ),
        (
            &[quick, url, ("SSE_DATA_DIR", "d")],
            &[],
            in_d("SSE_DATA_DIR"),
        ),
        (
            &[quick, ("REDIS_URL", "nonsense"), sse_url],
            &[],
            redis_by("SSE_REDIS_URL"),
        ),
        (
            &[quick, url, ("SSE_MEMORY", "0")],
            &[],
            redis_by("REDIS_URL"),
        ),
        (
            &[quick, ("SSE_MEMORY", "0"), sse_url],
            &[],
            redis_by("SSE_REDIS_URL"),
        ),
    ] {
        assert_eq!(
            broker_of(variables, flags).await,
            expected,
            "{variables:?} {flags:?}"
        );
    }
    let output = misused(&[("SSE_MEMORY", "1"), ("SSE_DATA_DIR", "d")], &[])
        .await
        .stderr;
    assert!(
        output.contains("SSE_MEMORY") && output.contains("SSE_DATA_DIR"),
        "{output}"
    );
}

#[tokio::test]
async fn a_password_is_never_shown_in_errors_or_in_the_log() {
    let port = free_port();
    for url in [
        format!("redis://user:{PASSWORD}@127.0.0.1:{port}"),
        format!("redis://:{PASSWORD}@127.0.0.1:{port}/3"),
        format!("redis+unix:///no/such/socket?pass={PASSWORD}"),
    ] {
        let flags = ["--redis-timeout", "50ms", "--log", "trace"];
        let log = log_of(&[("REDIS_URL", &url)], &flags).await;
        assert!(log.contains("chosen by REDIS_URL"), "{log}");
        assert!(!log.contains(PASSWORD), "{log}");
    }
    for url in [
        format!("redis://user:{PASSWORD}@127.0.0.1:noport"),
        format!("http://user:{PASSWORD}@localhost"),
        format!("redis://user:{PASSWORD}@/x y"),
        format!("redis//user:{PASSWORD}@localhost"),
        format!("user:{PASSWORD}@localhost"),
        format!("rediss+unix://user:{PASSWORD}@localhost"),
    ] {
        for output in [
            misused(&[("REDIS_URL", &url)], &[]).await,
            misused(&[], &["--redis-url", &url]).await,
        ] {
            assert!(!output.stderr.contains(PASSWORD), "{}", output.stderr);
        }
    }
    let url = format!("redis://user:{PASSWORD}@localhost");
    let output = misused(&[("SSE_REDIS_URL", &url)], &["--heartbeat", "x"]).await;
    assert!(!output.stderr.contains(PASSWORD), "{}", output.stderr);
}

#[tokio::test]
async fn a_password_is_never_shown_in_the_help() {
    let url = format!("redis://user:{PASSWORD}@localhost");
    for help in ["--help", "-h"] {
        let output = run(&mut server(&[("SSE_REDIS_URL", &url)], &[help])).await;
        assert_eq!(output.code, Some(0));
        assert!(!output.stdout.contains(PASSWORD), "{}", output.stdout);
    }
}

#[tokio::test]
async fn the_short_help_has_only_the_flags_that_a_first_user_needs() {
    let short = run(&mut server(&[], &["-h"])).await.stdout;
    assert!(
        short.contains("--bind") && !short.contains("--coalesce") && short.lines().count() <= 55,
        "{short}"
    );
    let long = run(&mut server(&[], &["--help"])).await.stdout;
    assert!(
        long.contains("--bind") && long.contains("--coalesce"),
        "{long}"
    );
}

#[tokio::test]
async fn the_help_names_a_variable_for_every_flag_and_ends_with_examples() {
    let output = run(&mut server(&[], &["--help"])).await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    let mut flags = 0;
    let (options, end) = output.stdout.split_once("Examples:").expect("examples");
    // The text of a flag ends at the next flag.
    for text in options.split("\n      --").skip(1) {
        let flag = text.split([' ', '\n']).next().unwrap();
        let variable = format!("[env: SSE_{}", flag.to_uppercase().replace('-', "_"));
        let named = [']', '=']
            .iter()
            .any(|end| text.contains(&format!("{variable}{end}")));
        assert!(named, "--{flag} has no {variable}: {text}");
        assert!(
            text.lines()
                .nth(1)
                .is_some_and(|line| line.trim().len() > 20),
            "--{flag} is not explained: {text}"
        );
        flags += 1;
    }
    assert!(flags >= 18, "only {flags} flags were found in\n{options}");
    for hint in [
        "curl -N http://127.0.0.1:5000/stream",
        "sse-server --memory",
        "Exit codes: 0",
        "1 failed",
        "2 misused",
    ] {
        assert!(end.contains(hint), "{hint:?} is not in {end}");
    }
}

#[tokio::test]
async fn the_version_is_printed() {
    for flag in ["--version", "-V"] {
        let output = run(&mut server(&[], &[flag])).await;
        let expected = format!("sse-server {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            (output.code, output.stdout.as_str(), output.stderr.as_str()),
            (Some(0), expected.as_str(), "")
        );
    }
}

/// Starts a server on port 0. Returns it, the URL that it prints, and the file with its stdout.
async fn on_a_free_port(
    variables: &[(&str, &str)],
) -> (KilledWhenDropped, String, tempfile::NamedTempFile) {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut command = server(&[("SSE_BIND", "127.0.0.1:0"), ("SSE_MEMORY", "true")], &[]);
    command.envs(variables.iter().copied());
    command
        .stdout(out.reopen().unwrap())
        .stderr(std::process::Stdio::null());
    let child = KilledWhenDropped(command.spawn().unwrap());
    let url = until("the URL", async || {
        Some(
            std::fs::read_to_string(&out)
                .unwrap()
                .strip_suffix('\n')?
                .to_owned(),
        )
    })
    .await;
    (child, url, out)
}

#[tokio::test]
async fn port_0_prints_a_url_that_works_and_nothing_else() {
    let (mut child, url, out) = on_a_free_port(&[]).await;
    assert!(
        url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"),
        "{url}"
    );
    // The harness provides a client only together with a server.
    let client = TestServer::start(Backend::Memory).await.http.clone();
    assert_eq!(
        client
            .get(format!("{url}/health/live"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert!(
        Command::new("kill")
            .arg(child.0.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(ended(&mut child.0).await.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("{url}\n"));
}

#[tokio::test]
async fn the_tutorials_data_has_the_time_of_the_servers_time_zone() {
    let client = TestServer::start(Backend::Memory).await.http.clone();
    for (zone, minutes) in [("HERE-05:30", 330), ("HERE+08", -480)] {
        let (_child, url, _out) = on_a_free_port(&[("TZ", zone)]).await;
        client
            .get(format!("{url}/event/view"))
            .send()
            .await
            .unwrap();
        let answer: serde_json::Value = client
            .get(format!("{url}/events"))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let data = answer["events"][0]["data"].as_str().unwrap();
        let (_, time) = data.split_once("timestamp: ").unwrap();
        let time = chrono::NaiveDateTime::parse_from_str(
            time.trim_end_matches('"'),
            "%d-%b-%Y (%H:%M:%S%.6f)",
        )
        .unwrap();
        let ahead = time - chrono::Utc::now().naive_utc();
        assert!(
            (ahead.num_minutes() - minutes).abs() < 20,
            "{data} in {zone}"
        );
    }
}

#[tokio::test]
async fn an_address_that_other_machines_can_reach_needs_consent() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let flags = ["--memory", "--bind", address];
        let output = misused(&[], &flags).await.stderr;
        assert!(
            output.contains("--allow-anonymous") && output.contains(address),
            "{output}"
        );
        let output = misused(&[("SSE_BIND", address)], &["--memory"])
            .await
            .stderr;
        assert!(output.contains("--allow-anonymous"), "{output}");
    }
    let log = log_of(
        &[],
        &["--memory", "--bind", "0.0.0.0:0", "--allow-anonymous"],
    )
    .await;
    assert!(log.contains("listening on http://0.0.0.0:"), "{log}");
}

#[tokio::test]
async fn a_mistyped_variable_is_reported_as_a_warning() {
    let log = log_of(
        &[("SSE_MEMORY", "1"), ("SSE_HEARTBET", "1s"), ("SSE_", "x")],
        &[],
    )
    .await;
    let warned = |name: &str| {
        log.lines()
            .any(|line| line.contains("WARN") && line.contains(name))
    };
    assert!(warned("SSE_HEARTBET") && log.contains("--help"), "{log}");
    assert!(!warned("SSE_MEMORY"), "{log}");
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&mut server(&[], &["--memory", "--bind", &address])).await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    assert!(
        output.stderr.contains(&address) && output.stderr.contains("--bind"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("another server") && output.stderr.contains("in use"),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn an_address_of_another_machine_is_not_reported_as_in_use() {
    // TEST-NET-1 (RFC 5737): no machine has it.
    let output = run(&mut server(
        &[],
        &["--memory", "--allow-anonymous", "--bind", "192.0.2.1:0"],
    ))
    .await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("192.0.2.1:0"), "{}", output.stderr);
    assert!(
        !output.stderr.contains("another server"),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn a_variable_overrides_the_file_and_a_flag_both() {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(
        &file,
        "bind = \"127.0.0.1:0\"\nmemory = true\nchannels_max = 7\n",
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let chosen = format!("memory (chosen by memory in {path})");
    assert_eq!(broker_of(&[], &["--config", path]).await, chosen);
    for (variables, flags, channels) in [
        (vec![], vec![], "channels_max=7"),
        (vec![("SSE_CHANNELS_MAX", "8")], vec![], "channels_max=8"),
        (
            vec![("SSE_CHANNELS_MAX", "8")],
            vec!["--channels-max", "9"],
            "channels_max=9",
        ),
    ] {
        let variables = [variables, vec![("SSE_CONFIG", path)]].concat();
        let log = log_of(&variables, &flags).await;
        assert!(log.contains(channels) && log.contains(path), "{log}");
    }
    let overridden = broker_of(&[("SSE_DATA_DIR", "events")], &["--config", path]).await;
    assert!(overridden.contains("SSE_DATA_DIR"), "{overridden}");
}

#[tokio::test]
async fn a_file_with_an_error_stops_the_start_and_fails_the_check() {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, "memory = true\nhistroy_age = \"1h\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    for flags in [["--config", path].as_slice(), &["config", "check", path]] {
        let message = misused(&[], flags).await.stderr;
        assert!(message.contains(&format!("{path}:2: ")), "{message}");
        assert!(message.contains("did you mean history_age?"), "{message}");
    }
    std::fs::write(&file, "memory = true\n").unwrap();
    let checked = run(&mut server(&[], &["config", "check", path])).await;
    assert_eq!(
        (checked.code, checked.stdout),
        (Some(0), format!("{path} is valid\n"))
    );
}

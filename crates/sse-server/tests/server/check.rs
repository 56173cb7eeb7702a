//! `sse-server check`: exit code 0, 1 with warnings, 2 with errors, and nothing is written.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{
    Backend, ProgramOutput, RedisServer, TestServer, free_port, run, server_command,
};

/// Runs `sse-server FLAGS check` in a directory.
async fn check(directory: &Path, flags: &[&str], arguments: &[&str]) -> ProgramOutput {
    let mut command = server_command();
    run(command
        .current_dir(directory)
        .args(["--history-bytes", "1MiB", "--disk-reserve", "1MiB"])
        .args(flags)
        .arg("check")
        .args(arguments))
    .await
}

/// Returns the severities and messages of an area in the JSON of a report.
fn findings(output: &ProgramOutput, area: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let of_area = findings.iter().filter(|finding| finding["area"] == area);
    of_area
        .map(|finding| (text(finding, "severity"), text(finding, "message")))
        .collect()
}

#[tokio::test]
async fn a_check_creates_nothing_and_finds_what_is_wrong_with_the_data_directory() {
    let root = TempDir::new().unwrap();
    let bind = format!("127.0.0.1:{}", free_port());
    let output = check(root.path(), &["--bind", &bind], &["--json"]).await;
    assert!(output.code < Some(2), "{output:?}");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    assert_eq!(findings(&output, "ports")[0].0, "ok");

    let log = root.path().join("log");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o755)).unwrap();
    let flags = ["--bind", &bind, "--data-dir", log.to_str().unwrap()];
    let output = check(root.path(), &flags, &[]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stdout.contains("chmod 0750"), "{output:?}");
    assert!(
        output.stdout.ends_with("trouble is to be expected.\n"),
        "{output:?}"
    );

    fs::remove_dir(&log).unwrap();
    fs::write(&log, "").unwrap();
    let output = check(root.path(), &flags, &[]).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stdout.contains("is not a directory"), "{output:?}");
}

#[tokio::test]
async fn a_running_server_is_no_conflict_and_another_program_is_one() {
    let server = TestServer::start(Backend::Memory).await;
    let root = TempDir::new().unwrap();
    let address = server.url.trim_start_matches("http://");
    let output = check(root.path(), &["--memory", "--bind", address], &["--json"]).await;
    assert_eq!(findings(&output, "ports")[0].0, "ok", "{output:?}");
    let redis = RedisServer::start().await;
    let address = format!("127.0.0.1:{}", redis.port());
    let output = check(root.path(), &["--memory", "--bind", &address], &["--json"]).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert_eq!(findings(&output, "ports")[0].0, "error", "{output:?}");

    let url = redis.url();
    let flags = ["--redis-url", &*url, "--bind", "127.0.0.1:0"];
    let output = check(root.path(), &flags, &["--json"]).await;
    let found = findings(&output, "redis");
    assert_eq!(found[0].0, "ok", "{found:?}");
    assert!(
        found
            .iter()
            .any(|(_, message)| message.contains("no maxmemory")),
        "{found:?}"
    );
    drop(redis);
    let output = check(root.path(), &flags, &["--json"]).await;
    assert_eq!(findings(&output, "redis")[0].0, "error", "{output:?}");
    assert_eq!(output.code, Some(2), "{output:?}");
}

#[tokio::test]
async fn wrong_settings_are_a_misuse() {
    let root = TempDir::new().unwrap();
    let output = check(root.path(), &["--bind", "0.0.0.0:5000"], &[]).await;
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("--allow-anonymous"), "{output:?}");
}

//! `sse-server health`: exit code 0 if the server is ready, 1 if it is not, 2 after a misuse.

use std::{path::Path, time::Duration};

use reqwest::StatusCode;

use crate::common::{
    Backend, ProgramOutput, TestServer, TlsServer, free_port, run, server_command, until,
};

/// Runs `sse-server health` with variables and arguments.
async fn health(variables: &[(&str, &str)], arguments: &[&str]) -> ProgramOutput {
    let mut command = server_command();
    run(command
        .envs(variables.iter().copied())
        .arg("health")
        .args(arguments))
    .await
}

#[track_caller]
fn assert_output(output: &ProgramOutput, code: i32, part: &str) {
    let text = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code, Some(code), "{text}");
    assert!(text.contains(part), "no {part:?} in {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_ready_is_found_by_its_url_or_by_its_settings() {
    let server = TestServer::start_on_unix_socket(Backend::Memory, &[]).await;
    let address = server.url.trim_start_matches("http://");
    let socket = format!("unix:{}", server.socket().display());
    for arguments in [&[&*server.url][..], &[&socket], &[address, "--live"]] {
        assert_output(&health(&[], arguments).await, 0, ": ");
    }
    let own = health(&[("SSE_BIND", address)], &[]).await;
    assert_output(&own, 0, &format!("ready: {}", server.url));
    assert_output(&health(&[("SSE_BIND", &socket)], &[]).await, 0, &socket);
    // A variable of a proxy must not send the question elsewhere.
    let proxy = [("http_proxy", "http://127.0.0.1:9"), ("SSE_BIND", address)];
    assert_output(&health(&proxy, &[]).await, 0, "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked_unless_the_server_is_the_own_one() {
    let tls = TlsServer::start(&[]).await;
    let bind = format!("https://{}", tls.address);
    let url = tls.url("");
    let certificate = tls.certificate();
    let certificate = certificate.to_str().unwrap();
    assert_output(
        &health(&[("SSE_BIND", &bind)], &[]).await,
        0,
        "ready: https",
    );
    assert_output(&health(&[], &[&url]).await, 1, "certificate");
    assert_output(&health(&[], &[&url, "--insecure"]).await, 0, "ready");
    assert_output(
        &health(&[], &[&url, "--cacert", certificate]).await,
        0,
        "ready",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drains_is_live_and_not_ready() {
    let server = TestServer::start_with(Backend::Memory, &["--drain", "1h"]).await;
    server.signal("TERM");
    until("the server drains", async || {
        let response = server.get("/health/ready").await.ok()?;
        (response.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    assert_output(&health(&[], &[&server.url]).await, 1, "draining");
    assert_output(&health(&[], &[&server.url, "--live"]).await, 0, "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_not_ready() {
    let nothing = format!("127.0.0.1:{}", free_port());
    assert_output(&health(&[], &[&nothing]).await, 1, "no answer");
    let absent = Path::new("/nonexistent/sse.sock");
    let absent = format!("unix:{}", absent.display());
    assert_output(&health(&[], &[&absent]).await, 1, "no answer");
    // It accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let timeout = format!("{}ms", Duration::from_millis(200).as_millis());
    let output = health(&[], &[&silent, "--timeout", &timeout]).await;
    assert_output(&output, 1, "no answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misuse_has_its_own_code() {
    for arguments in [
        &["ftp://a"][..],
        &["--timeout", "0s"],
        &["--cacert", "/nonexistent"],
    ] {
        assert_output(&health(&[], arguments).await, 2, "");
    }
    let unknown_port = health(&[("SSE_BIND", "127.0.0.1:0")], &[]).await;
    assert_output(&unknown_port, 2, "name the URL");
}

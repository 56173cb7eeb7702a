//! Several addresses: each is announced and serves the same channels, and one that cannot be used
//! is named.

use std::net::TcpListener;

use tempfile::TempDir;

use crate::common::{
    Backend, ProgramOutput, TestServer, free_port, output_at_start, server_command, skip,
};

/// Starts a server with a log in memory. Returns its output up to the moment when it listens or
/// ends.
async fn start(variables: &[(&str, &str)], flags: &[&str]) -> ProgramOutput {
    let mut command = server_command();
    command
        .env("SSE_MEMORY", "1")
        .envs(variables.iter().copied())
        .args(flags);
    output_at_start(&mut command, &TempDir::new().unwrap()).await
}

/// The addresses that a log announces, in order.
fn announced(log: &str) -> Vec<&str> {
    let lines = log.lines();
    lines
        .filter_map(|line| Some(line.split_once("listening on ")?.1))
        .collect()
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[tokio::test]
async fn every_address_is_announced_and_every_free_port_printed() {
    let directory = TempDir::new().unwrap();
    let socket = format!("unix:{}", directory.path().join("sse.sock").display());
    let flags = [
        "--bind",
        "127.0.0.1:0",
        "--bind",
        &socket,
        "--bind",
        "127.0.0.1:0",
    ];
    let variable = format!("127.0.0.1:0,{socket},127.0.0.1:0");
    for output in [
        start(&[], &flags).await,
        start(&[("SSE_BIND", &variable)], &[]).await,
    ] {
        let addresses = announced(&output.stderr);
        assert_eq!(addresses.len(), 3, "{}", output.stderr);
        assert_eq!(addresses[1], socket);
        assert_ne!(addresses[0], addresses[2]);
        // The socket has no port, and stdout is for what the system has chosen.
        assert_eq!(
            output.stdout,
            format!("{}\n{}\n", addresses[0], addresses[2])
        );
    }
}

#[tokio::test]
async fn a_flag_overrides_all_addresses_of_the_variable() {
    let output = start(
        &[("SSE_BIND", "127.0.0.1:0,127.0.0.1:0")],
        &["--bind", "127.0.0.1:0"],
    )
    .await;
    assert_eq!(announced(&output.stderr).len(), 1, "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_serves_the_same_channels() {
    if !has_ipv6() {
        return skip("this system has no IPv6");
    }
    let ipv6 = format!("[::1]:{}", free_port());
    let server = TestServer::start_with(Backend::Memory, &["--bind", &ipv6]).await;
    let mut subscriber = server.subscribe("/stream").await;
    let published = server
        .http
        .get(format!("http://{ipv6}/event/click"))
        .send()
        .await
        .unwrap();
    assert_eq!(published.status(), 200);
    assert_eq!(subscriber.next_event().await.event, "click");
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv4_and_ipv6_can_share_a_port() {
    if !has_ipv6() {
        return skip("this system has no IPv6");
    }
    let port = free_port();
    for (one, other) in [
        ("127.0.0.1", "[::1]"),
        ("[::]", "0.0.0.0"),
        ("0.0.0.0", "[::]"),
    ] {
        let [one, other] = [one, other].map(|ip| format!("{ip}:{port}"));
        let flags = ["--allow-anonymous", "--bind", &one, "--bind", &other];
        let output = start(&[], &flags).await;
        let expected = [one, other].map(|address| format!("http://{address}"));
        assert_eq!(announced(&output.stderr), expected, "{}", output.stderr);
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_and_no_file_of_the_others_stays() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = TempDir::new().unwrap();
    let socket = format!("unix:{}", directory.path().join("sse.sock").display());
    let output = start(&[], &["--bind", &socket, "--bind", &address]).await;
    assert_eq!((output.code, &*output.stdout), (Some(1), ""));
    assert_eq!(announced(&output.stderr), Vec::<&str>::new());
    let message = format!("cannot listen on {address}: is another server running there?");
    assert!(output.stderr.contains(&message), "{}", output.stderr);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

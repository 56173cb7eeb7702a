//! A log that cannot be written costs lines and nothing else; SIGHUP never ends the server
//! abruptly.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::common::{
    KilledWhenDropped, RedisServer, TestServer, ended, free_port, server_command, until,
};

/// A server whose stderr is a pipe of the test.
struct PipedServer {
    child: KilledWhenDropped,
    url: String,
}

impl PipedServer {
    async fn start(flags: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = server_command();
        command.args(["--bind", &address]).args(flags);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = KilledWhenDropped(command.spawn().expect("a server"));
        let url = format!("http://{address}");
        until("the server answers", async || reqwest::get(&url).await.ok()).await;
        Self { child, url }
    }

    async fn publish(&self) -> bool {
        let url = format!("{}/event/click", self.url);
        let request = reqwest::Client::new().post(url).body("x");
        let response = request.header("content-type", "text/plain").send().await;
        response.is_ok_and(|response| response.status().is_success())
    }

    async fn dropped_lines(&self) -> u64 {
        let url = format!("{}/metrics", self.url);
        let response = reqwest::get(url).await.expect("the metrics");
        let metrics = response.text().await.expect("text");
        let value = |line: &str| line.strip_prefix("sse_log_dropped_total ")?.parse().ok();
        metrics.lines().find_map(value).expect("the counter")
    }

    /// Ends the server, which must succeed.
    async fn stop(&mut self) {
        signal(&self.child.0, "TERM");
        assert!(ended(&mut self.child.0).await.success());
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status();
    assert!(sent.expect("kill").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_stderr_stops_neither_the_connection_to_redis_nor_the_server() {
    let redis = RedisServer::start().await;
    let mut server = PipedServer::start(&["--redis-url", &redis.url()]).await;
    assert!(server.publish().await);
    drop(server.child.0.stderr.take());
    // The server logs that its connections broke, and that Redis is back.
    redis.run("CLIENT KILL TYPE pubsub").await;
    redis.run("CLIENT KILL TYPE normal").await;
    until("lines are dropped", async || {
        (server.dropped_lines().await >= 2).then_some(())
    })
    .await;
    until("publishing works", async || {
        server.publish().await.then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stderr_that_is_not_read_delays_no_request() {
    let mut server = PipedServer::start(&["--memory", "--log", "trace"]).await;
    // Far more lines than a pipe holds.
    until("lines are dropped", async || {
        assert!(server.publish().await);
        (server.dropped_lines().await >= 1000).then_some(())
    })
    .await;
    server.stop().await;
}

/// Shell code that starts a server with the default reaction to a hangup.
///
/// Programs inherit ignored signals, a shell cannot reset them, and tests that `nohup` started
/// ignore hangups.
const WITH_DEFAULT_HANGUP: &str = r#"exec python3 -c '
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
' "$0" "$@""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_is_a_graceful_shutdown_unless_it_is_ignored() {
    let mut server = TestServer::under(WITH_DEFAULT_HANGUP, &[]).await;
    let mut subscriber = server.subscribe("/stream").await;
    server.publish("sse", "click", "x").await;
    assert_eq!(subscriber.next_event().await.data, "x");
    assert!(server.stop("HUP").await.success());
    let log = server.log();
    assert!(log.contains("SIGHUP") && log.contains("stopped"), "{log}");

    let (address, directory) = (
        format!("127.0.0.1:{}", free_port()),
        TempDir::new().unwrap(),
    );
    let log = directory.path().join("log");
    let mut command = Command::new("sh");
    // As `nohup` starts a program.
    command
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(server_command().get_program())
        .args(["--memory", "--bind", &address])
        .stdin(Stdio::null())
        .stderr(File::create(&log).unwrap());
    let mut child = KilledWhenDropped(command.spawn().expect("sh"));
    let url = format!("http://{address}/health/live");
    until("the server answers", async || reqwest::get(&url).await.ok()).await;
    signal(&child.0, "HUP");
    reqwest::get(&url).await.expect("the server still answers");
    signal(&child.0, "TERM");
    assert!(ended(&mut child.0).await.success());
    // The log names the signal that the server obeyed.
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("SIGTERM") && !log.contains("SIGHUP"), "{log}");
}

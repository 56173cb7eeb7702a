//! The protocol of systemd: the service manager learns when the server is ready, when it stops and
//! whether it works, and passes sockets that the server uses.

use std::{
    net::TcpListener,
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tokio::net::UnixDatagram;

use crate::common::{
    KilledWhenDropped, RedisServer, clean, client, ended, free_port, server_command, until, within,
};

/// A service manager: the socket that it reads, and a server that it started.
struct Manager {
    socket: UnixDatagram,
    server: KilledWhenDropped,
    url: String,
    /// Where the server has its log.
    _directory: TempDir,
}

impl Manager {
    fn start(variables: &[(&str, &str)], flags: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let server = server_command()
            .env("NOTIFY_SOCKET", &path)
            .envs(variables.iter().copied())
            .args(["--bind", &address])
            .args(flags)
            .current_dir(directory.path())
            .stderr(Stdio::null())
            .spawn();
        Self {
            socket,
            server: KilledWhenDropped(server.unwrap()),
            url: format!("http://{address}"),
            _directory: directory,
        }
    }

    /// Returns the next message that contains `part`.
    async fn message(&self, part: &str) -> String {
        let mut buffer = [0; 4096];
        let receiving = async {
            loop {
                let length = self.socket.recv(&mut buffer).await.unwrap();
                let message = str::from_utf8(&buffer[..length]).unwrap();
                if message.contains(part) {
                    return message.to_owned();
                }
            }
        };
        within(part, receiving).await
    }

    fn signal(&self, signal: &str) {
        let pid = self.server.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    }
}

/// Returns the microseconds of `EXTEND_TIMEOUT_USEC`.
fn extension(message: &str) -> u64 {
    let mut lines = message.lines();
    let value = lines.find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    value.unwrap().parse().unwrap()
}

async fn is_ready(url: &str) -> bool {
    let client = client().build().unwrap();
    let response = client.get(format!("{url}/health/ready")).send().await;
    response.is_ok_and(|response| response.status() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_learns_each_step_of_a_server() {
    let pid = std::process::id().to_string();
    let mut manager = Manager::start(&[("WATCHDOG_USEC", "400000")], &["--drain", "1h"]);
    let opening = manager.message("STATUS=opening the log").await;
    assert!(extension(&opening) >= 30_000_000, "{opening}");
    let ready = manager.message("READY=1").await;
    assert!(ready.contains("STATUS=serving; the log is open"), "{ready}");
    assert!(is_ready(&manager.url).await);
    for _ in 0..3 {
        assert_eq!(manager.message("WATCHDOG").await, "WATCHDOG=1");
    }
    manager.signal("-TERM");
    let draining = manager.message("STATUS=draining").await;
    assert!(draining.contains("STOPPING=1"), "{draining}");
    assert!(extension(&draining) > 3_600_000_000, "{draining}");
    // The watchdog continues during the drain.
    manager.message("WATCHDOG=1").await;
    manager.signal("-TERM");
    let stop = manager.message("STATUS=no new connections").await;
    assert!(
        stop.contains("STOPPING=1") && extension(&stop) > 0,
        "{stop}"
    );
    assert_eq!(ended(&mut manager.server.0).await.code(), Some(0));

    // The watchdog of another process is none, and a failed start states its reason.
    let other = [("WATCHDOG_USEC", "400000"), ("WATCHDOG_PID", &*pid)];
    let failed = Manager::start(&other, &["--data-dir", "/proc/none"]);
    let status = failed.message("STATUS=failed: ").await;
    assert!(
        status.contains("/proc/none") && !status.contains('\n'),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_redis_the_server_is_ready_at_once_and_the_status_follows_redis() {
    let mut redis = RedisServer::start().await;
    redis.kill();
    let url = redis.url();
    let manager = Manager::start(&[("SSE_REDIS_URL", &url), ("SSE_REDIS_TIMEOUT", "1s")], &[]);
    let ready = manager.message("READY=1").await;
    assert!(ready.contains("Redis does not respond"), "{ready}");
    redis.restart().await;
    manager.message("STATUS=serving; Redis responds").await;
}

/// A server to which a service manager passes sockets, as its stdin and stdout.
fn started_with(tcp: &TcpListener, unix: &UnixListener, pid: &str, flags: &[&str]) -> Command {
    let script = format!(
        r#"export LISTEN_FDS=2 LISTEN_PID={pid}
        exec 3<&0 4>&1 </dev/null >/dev/null
        exec "$0" "$@""#
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .arg(server_command().get_program());
    let mut command = clean(command);
    command
        .args(["--memory"])
        .args(flags)
        .stdin(std::os::fd::OwnedFd::from(tcp.try_clone().unwrap()))
        .stdout(std::os::fd::OwnedFd::from(unix.try_clone().unwrap()));
    command
}

async fn is_ready_on(socket: &Path) -> bool {
    let client = client().unix_socket(socket).build().unwrap();
    let response = client.get("http://localhost/health/ready").send().await;
    response.is_ok_and(|response| response.status() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_sockets_are_used_where_bind_names_them() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sse.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let bind = format!("{address},unix:{}", path.display());

    let mut command = started_with(&tcp, &unix, "$$", &["--bind", &bind]);
    let mut server = KilledWhenDropped(command.stderr(Stdio::null()).spawn().unwrap());
    until("both sockets are served", async || {
        let is_served = is_ready(&format!("http://{address}")).await && is_ready_on(&path).await;
        is_served.then_some(())
    })
    .await;
    let pid = server.0.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(ended(&mut server.0).await.code(), Some(0));
    // The sockets belong to the service manager, which starts the server again.
    assert!(path.exists());

    let mut unnamed = started_with(&tcp, &unix, "$$", &["--bind", &address]);
    let output = run_with_stderr(&mut unnamed).await;
    assert!(
        output.contains(&format!("--bind unix:{}", path.display())),
        "{output}"
    );
    // Sockets for another process are not taken, so the port is in use.
    let mut other = started_with(&tcp, &unix, "1", &["--bind", &address]);
    let output = run_with_stderr(&mut other).await;
    assert!(output.contains("cannot listen on"), "{output}");
}

/// Runs a server that fails; returns its log.
async fn run_with_stderr(command: &mut Command) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let child = command.stderr(log.reopen().unwrap()).spawn().unwrap();
    let mut child = KilledWhenDropped(child);
    assert_eq!(ended(&mut child.0).await.code(), Some(1));
    std::fs::read_to_string(log.path()).unwrap()
}

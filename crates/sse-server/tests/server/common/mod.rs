//! The harness: a real server process on a free port, a real Redis, and a subscriber that reads the
//! wire.
//!
//! The harness never sleeps for a fixed time. Every wait has a condition and a time limit, after
//! which the test fails with the reason.

pub(crate) mod http2;
pub(crate) mod https;
#[cfg(target_os = "linux")]
mod network;
mod proxy;
mod raw_http;
pub(crate) mod redis_acl;
pub(crate) mod redis_cluster;
mod redis_server;
mod skipped;
mod subscriber;

use std::{
    cell::RefCell,
    ffi::OsStr,
    future::Future,
    iter,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use tokio::{
    net::{TcpStream, UnixStream},
    time::{interval, timeout},
};

#[cfg(target_os = "linux")]
pub(crate) use self::network::{Loss, Network, ServerSocket};
pub(crate) use self::{
    https::{TlsServer, client_settings},
    proxy::Proxy,
    raw_http::{AnySocket, RawConnection, RawHead, only_response},
    redis_server::RedisServer,
    subscriber::{Subscriber, TestEvent},
};

/// Longer than any step takes on a slow machine; only a broken test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Where most servers listen.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Whether the servers of this test program keep the sockets of streams with their HTTP workers.
pub(crate) const STAYS_ATTACHED: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"attached");

/// Reports that the test which calls it, or a part of that test, cannot run here.
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let program = env!("CARGO_CRATE_NAME");
    // The harness names the thread of a test after the test.
    skipped::report(
        &format!("{program}::{}", thread.name().unwrap_or("?")),
        reason,
    );
}

/// The brokers that every guarantee is tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Embedded,
    Memory,
    Redis,
}

/// Runs each test on all brokers: `mod embedded`, `mod memory` and `mod redis` have the same cases.
#[macro_export]
macro_rules! on_every_broker {
    ($($(#[$meta:meta])* async fn $name:ident($backend:ident: Backend) $body:block)*) => {
        $($(#[$meta])* async fn $name($backend: $crate::common::Backend) $body)*
        $crate::on_every_broker!(@module embedded Embedded $($name)*);
        $crate::on_every_broker!(@module memory Memory $($name)*);
        $crate::on_every_broker!(@module redis Redis $($name)*);
    };
    (@module $module:ident $backend:ident $($name:ident)*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::common::Backend::$backend).await;
            })*
        }
    };
}

/// A server process. Killed when dropped.
pub(crate) struct TestServer {
    child: Child,
    pub(crate) url: String,
    pub(crate) http: Client,
    args: Vec<String>,
    _keep: Vec<Keep>,
    /// The Redis of this server, if the harness started Redis for it.
    pub(crate) redis: Option<RedisServer>,
    log: PathBuf,
    /// The unix socket that the client uses, if it does not use TCP, and its directory.
    socket: Option<(PathBuf, TempDir)>,
}

enum Keep {
    Directory(#[expect(dead_code, reason = "deleted when dropped")] TempDir),
}

impl TestServer {
    /// A server with default settings on a new, empty broker.
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::start_with(backend, &[]).await
    }

    /// A server with further flags on a new, empty broker.
    pub(crate) async fn start_with(backend: Backend, flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join("log").display().to_string();
        let redis = if backend == Backend::Redis {
            Some(RedisServer::start().await)
        } else {
            None
        };
        let broker = match (&redis, backend) {
            (Some(redis), _) => vec!["--redis-url".to_owned(), redis.url()],
            (None, Backend::Memory) => vec!["--memory".to_owned()],
            (None, _) => vec!["--data-dir".to_owned(), path],
        };
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        let mut server = Self::spawn(broker.into_iter().chain(flags).collect(), directory).await;
        server.redis = redis;
        server
    }

    /// A server that also listens on a unix socket, over which its client connects.
    pub(crate) async fn start_on_unix_socket(backend: Backend, flags: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let socket = directory.path().join("sse.sock");
        let bind = format!("unix:{}", socket.display());
        let mut server = Self::start_with(backend, &[&["--bind", &bind], flags].concat()).await;
        server.http = client().unix_socket(&*socket).build().expect("a client");
        server.socket = Some((socket, directory));
        server
    }

    /// One more node on a Redis that the caller owns.
    pub(crate) async fn node(redis: &RedisServer, flags: &[&str]) -> Self {
        Self::on(&["--redis-url", &redis.url()], flags).await
    }

    /// A server on a data directory that the caller owns.
    pub(crate) async fn on_directory(path: &Path, flags: &[&str]) -> Self {
        Self::on(&["--data-dir", &path.display().to_string()], flags).await
    }

    /// A server on a broker that the caller owns.
    pub(crate) async fn on(broker: &[&str], flags: &[&str]) -> Self {
        let args = broker
            .iter()
            .chain(flags)
            .map(|arg| (*arg).to_owned())
            .collect();
        Self::spawn(args, TempDir::new().expect("a temporary directory")).await
    }

    /// A server with a log in memory, started by a shell after `limit`, such as `ulimit -n 200`.
    #[cfg(unix)]
    pub(crate) async fn under(limit: &str, flags: &[&str]) -> Self {
        let command = || {
            let mut command = Command::new("sh");
            command
                .args(["-c", &format!(r#"{limit}; exec "$0" "$@""#)])
                .arg(server_command().get_program());
            clean(command)
        };
        let args = ["--memory"]
            .iter()
            .chain(flags)
            .map(|arg| (*arg).to_owned())
            .collect();
        Self::spawn_as(
            command,
            args,
            LOOPBACK,
            TempDir::new().expect("a temporary directory"),
        )
        .await
    }

    /// A server with a log in memory that listens on an address of this machine.
    pub(crate) async fn at_address(ip: IpAddr, flags: &[&str]) -> Self {
        let args = ["--memory", "--allow-anonymous"].iter().chain(flags);
        let args = args.map(|arg| (*arg).to_owned()).collect();
        let directory = TempDir::new().expect("a temporary directory");
        Self::spawn_as(server_command, args, ip, directory).await
    }

    async fn spawn(args: Vec<String>, directory: TempDir) -> Self {
        Self::spawn_as(server_command, args, LOOPBACK, directory).await
    }

    async fn spawn_as(
        program: impl Fn() -> Command,
        args: Vec<String>,
        ip: IpAddr,
        directory: TempDir,
    ) -> Self {
        let log = directory.path().join("stderr");
        let http = client().build().expect("a client");
        // A port that the system gives to no other program, so that a restart gets the same port
        // again.
        let address = SocketAddr::new(ip, free_port()).to_string();
        let child = launch(program(), &args, &address, &log);
        let keep = vec![Keep::Directory(directory)];
        let url = format!("http://{address}");
        let mut server = Self {
            child,
            url,
            http,
            args,
            _keep: keep,
            redis: None,
            log,
            socket: None,
        };
        // Another program may have taken the port first.
        for _ in 0..10 {
            if server.is_live().await {
                return server;
            }
            let address = SocketAddr::new(ip, free_port()).to_string();
            server.child = launch(program(), &server.args, &address, &server.log);
            server.url = format!("http://{address}");
        }
        panic!("the server does not start");
    }

    /// Waits until the server answers; returns false if the server ends instead.
    async fn is_live(&mut self) -> bool {
        let mut tick = interval(Duration::from_millis(10));
        let starting = async {
            loop {
                if self.child.try_wait().expect("its state").is_some() {
                    return false;
                }
                if self.get("/health/live").await.is_ok() {
                    return true;
                }
                tick.tick().await;
            }
        };
        within("the server answers", starting).await
    }

    /// Kills the process like `kill -9` and starts it again on the same port.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.kill();
        self.restart().await;
    }

    /// Kills the process as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a running server");
        self.child.wait().expect("the server's end");
    }

    /// Starts the process again, on the same port and broker.
    pub(crate) async fn restart(&mut self) {
        let address = self.url.trim_start_matches("http://").to_owned();
        let starting = async {
            loop {
                self.child = launch(server_command(), &self.args, &address, &self.log);
                // Another process may hold the port for a moment.
                if self.is_live().await {
                    break;
                }
            }
        };
        within("the server is back", starting).await;
    }

    /// Sends a signal (`TERM`, `INT`) and waits for the end of the process.
    pub(crate) async fn stop(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        ended(&mut self.child).await
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid().to_string()])
            .status();
        assert!(kill.expect("kill").success());
    }

    /// A raw TCP connection to the server.
    pub(crate) async fn connect(&self) -> TcpStream {
        let address = self.url.trim_start_matches("http://");
        within("a connection", TcpStream::connect(address))
            .await
            .expect("a connection")
    }

    /// The unix socket over which the client connects.
    pub(crate) fn socket(&self) -> &Path {
        let (socket, _) = self.socket.as_ref().expect("a unix socket");
        socket
    }

    /// A raw connection to the unix socket.
    pub(crate) async fn connect_unix(&self) -> UnixStream {
        within("a connection", UnixStream::connect(self.socket()))
            .await
            .expect("a connection")
    }

    /// The process.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Result<Response> {
        self.http.get(self.at(path)).send().await
    }

    /// Publishes text and returns its id; the answer must be 200.
    pub(crate) async fn publish(&self, channel: &str, kind: &str, data: &str) -> String {
        let response = self
            .try_publish(channel, kind, data)
            .await
            .expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "publishing {kind}");
        let answer: Value = response.json().await.expect("JSON");
        answer["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn try_publish(
        &self,
        channel: &str,
        kind: &str,
        data: &str,
    ) -> reqwest::Result<Response> {
        let request = self
            .http
            .post(self.at(&format!("/event/{kind}?channel={channel}")));
        request
            .header("content-type", "text/plain")
            .body(data.to_owned())
            .timeout(PATIENCE)
            .send()
            .await
    }

    /// Publishes `0`, `1`, … as one batch.
    pub(crate) async fn publish_numbers(&self, channel: &str, numbers: std::ops::Range<usize>) {
        let lines: Vec<String> = numbers
            .map(|number| format!(r#"{{"event":"number","data":"{number}"}}"#))
            .collect();
        let response = self
            .try_publish_batch(channel, lines.join("\n"))
            .await
            .expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
    }

    pub(crate) async fn try_publish_batch(
        &self,
        channel: &str,
        lines: String,
    ) -> reqwest::Result<Response> {
        let request = self
            .http
            .post(self.at(&format!("/events?channel={channel}")));
        request
            .header("content-type", "application/x-ndjson")
            .body(lines)
            .send()
            .await
    }

    /// The whole history of a channel.
    pub(crate) async fn history(&self, channel: &str) -> Vec<TestEvent> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/events?channel={channel}&last_event_id={cursor}");
            let answer: Value = self
                .get(&path)
                .await
                .expect("an answer")
                .json()
                .await
                .expect("JSON");
            assert!(answer["gap"].is_null(), "{answer}");
            for event in answer["events"].as_array().expect("events") {
                let text = |key: &str| event[key].as_str().expect("text").to_owned();
                events.push(TestEvent {
                    id: text("id"),
                    event: text("event"),
                    data: text("data"),
                });
            }
            answer["next"]
                .as_str()
                .expect("a cursor")
                .clone_into(&mut cursor);
            if answer["more"] == false {
                return events;
            }
        }
    }

    /// A subscriber to `path` from now on.
    pub(crate) async fn subscribe(&self, path: &str) -> Subscriber {
        self.subscribe_after(path, None).await
    }

    /// A subscriber that resumes with a last event id. Its opening has been read.
    pub(crate) async fn subscribe_after(
        &self,
        path: &str,
        last_event_id: Option<&str>,
    ) -> Subscriber {
        let mut request = self
            .http
            .get(self.at(path))
            .header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(
            response.status(),
            StatusCode::OK,
            "{}",
            response.text().await.unwrap_or_default()
        );
        let mut subscriber = Subscriber::new(response);
        let opening = subscriber.next_block().await;
        assert!(opening.starts_with("retry: "), "{opening}");
        subscriber
    }

    /// The number of streams that ended for this reason.
    pub(crate) async fn closed_streams(&self, reason: &str) -> usize {
        let text = self.metrics().await;
        let name = format!(r#"sse_streams_closed_total{{reason="{reason}"}} "#);
        text.lines()
            .find_map(|line| line.strip_prefix(&name)?.parse().ok())
            .unwrap_or(0)
    }

    async fn metrics(&self) -> String {
        let response = self.get("/metrics").await.expect("an answer");
        response.text().await.expect("text")
    }

    /// The value of a metric that has no labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
            .parse()
            .expect("a number")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the server\n{}---", self.log());
        }
    }
}

/// A client that opens a connection for each request.
pub(crate) fn client() -> ClientBuilder {
    // Fails if another test has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().pool_max_idle_per_host(0)
}

/// Starts a server that logs to `log`.
fn launch(mut command: Command, args: &[String], address: &str, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log file");
    // A long timeout, because a busy disk may delay a Redis that writes before each answer. A flag
    // in `args` overrides it.
    command.env("SSE_REDIS_TIMEOUT", "30s");
    command
        .args(args)
        .args(["--bind", address])
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().expect("the server starts")
}

/// The server's program, without the variables of our own environment that the server would read.
pub(crate) fn server_command() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_sse-server")))
}

/// Removes from the environment of `command` every variable that configures a server.
pub(crate) fn clean(mut command: Command) -> Command {
    command.env_remove("REDIS_URL").stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SSE_")) {
        command.env_remove(name);
    }
    if STAYS_ATTACHED {
        command.env("SSE_FANOUT_THREADS", "0");
    }
    command
}

/// Copies a program, so that it can be started from another path.
///
/// `cp` does the copying. If this process did it, a child that another test starts meanwhile would
/// inherit the open file for a moment, and starting the copy would fail with "text file busy".
pub(crate) fn copy_program(from: impl AsRef<OsStr>, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "cp ended with {copied}");
}

/// Waits until the process ends by itself; returns its status.
pub(crate) async fn ended(child: &mut Child) -> ExitStatus {
    let child = RefCell::new(child);
    until("the process ends", async || {
        child.borrow_mut().try_wait().expect("a child")
    })
    .await
}

/// Exit code and output of a process that ended by itself.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command that is expected to end by itself.
pub(crate) async fn run(command: &mut Command) -> ProgramOutput {
    let directory = TempDir::new().expect("a temporary directory");
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| directory.path().join(name));
    let file = |path: &Path| std::fs::File::create(path).expect("a file");
    let child = command
        .stdout(file(&stdout))
        .stderr(file(&stderr))
        .spawn()
        .expect("the program starts");
    let mut child = KilledWhenDropped(child);
    let code = ended(&mut child.0).await.code();
    let text =
        |path: &Path| String::from_utf8_lossy(&std::fs::read(path).expect("a file")).into_owned();
    ProgramOutput {
        code,
        stdout: text(&stdout),
        stderr: text(&stderr),
    }
}

/// Starts a server in `directory` and returns its output up to the moment when it listens (without
/// a code) or ends. A server that listens is killed.
pub(crate) async fn output_at_start(command: &mut Command, directory: &TempDir) -> ProgramOutput {
    let [stdout, stderr] = ["stdout", "stderr"].map(|_| NamedTempFile::new().expect("a file"));
    command
        .current_dir(directory.path())
        .stdout(stdout.reopen().expect("a process and its files"))
        .stderr(stderr.reopen().expect("a process and its files"));
    let child = RefCell::new(KilledWhenDropped(
        command.spawn().expect("a process and its files"),
    ));
    let read =
        |file: &NamedTempFile| std::fs::read_to_string(file).expect("a process and its files");
    until("it listens or ends", async || {
        let code = child
            .borrow_mut()
            .0
            .try_wait()
            .expect("a process and its files")
            .map(|status| status.code());
        let (stdout, stderr) = (read(&stdout), read(&stderr));
        // The last line that a start logs; with the log turned off, the URL on stdout shows the
        // same.
        let listens =
            stderr.contains("history_events=") || (stderr.is_empty() && !stdout.is_empty());
        (listens || code.is_some()).then(|| ProgramOutput {
            code: code.flatten(),
            stdout,
            stderr,
        })
    })
    .await
}

/// A child process that is killed on drop, so that a failed test leaves no process behind.
pub(crate) struct KilledWhenDropped(pub(crate) Child);

impl Drop for KilledWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Checks that a response is this error; returns the error's message.
pub(crate) async fn refusal(response: Response, status: StatusCode, code: &str) -> String {
    let found = response.status();
    let text = response.text().await.expect("text");
    let answer: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{found}, but not JSON: {text:?}"));
    assert_eq!(
        (found, answer["error"]["code"].as_str()),
        (status, Some(code)),
        "{answer}"
    );
    answer["error"]["message"]
        .as_str()
        .expect("a message")
        .to_owned()
}

/// Waits for the line of the server's log with the cause of an error; returns the line.
///
/// `message` is the error's message, which names the line.
pub(crate) async fn logged_cause(server: &TestServer, message: &str) -> String {
    let reference = message.split_once("(reference ");
    let reference = reference.and_then(|(_, rest)| rest.split(' ').next());
    let reference = reference.unwrap_or_else(|| panic!("no reference: {message}"));
    until("the cause is in the log", async || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains(reference));
        line.map(str::to_owned)
    })
    .await
}

/// Lets this process have a socket for each of many clients.
pub(crate) fn raise_the_limit_of_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// A port that no other program uses, for a program that must get the port again after a restart.
///
/// The port is below the range that the system gives to connections and to port 0, and no other
/// test gets it, so it stays free while its program is down.
pub(crate) fn free_port() -> u16 {
    // Copies of a test program that run at the same time start from different ports.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let apart = u64::from(std::process::id()) * 32 % 20_000;
        AtomicU16::new(10_000 + u16::try_from(apart).expect("below 20 000"))
    });
    let mut tries = iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(2_000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    tries.find(is_free).expect("a free port")
}

/// Peak memory of the server's process, in bytes.
pub(crate) fn peak_memory(server: &TestServer) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))
        .expect("a running server");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<usize>().ok())
        .expect("a number of KiB")
        << 10
}

/// Calls `condition` until it returns a value.
pub(crate) async fn until<T>(what: &str, condition: impl AsyncFn() -> Option<T>) -> T {
    let trying = async {
        let mut tick = interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            if let Some(found) = condition().await {
                return found;
            }
        }
    };
    within(what, trying).await
}

/// Returns the result of `work`, which must be ready in time.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting for: {what}"))
}

/// Runs `work` for all items concurrently.
pub(crate) async fn all_at_once<T, F: Future>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> F,
) -> Vec<F::Output> {
    let running: futures::stream::FuturesUnordered<_> = items.into_iter().map(work).collect();
    running.collect().await
}

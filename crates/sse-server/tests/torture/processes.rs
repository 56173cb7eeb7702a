//! A process of the torture test: its signals, its exit and its log. The process is killed when
//! dropped.

use std::{
    fs::{File, OpenOptions},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rand::RngExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// Polling interval for conditions.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Polls `look` until it returns a value; returns `None` after `within`.
pub(crate) async fn until<T>(
    within: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Name for the report.
    pub(crate) name: String,
}

/// Destination of a program's stdout.
#[derive(Debug)]
pub(crate) enum Output<'a> {
    Nowhere,
    File(&'a Path),
    Pipe,
}

impl Process {
    /// Starts a program with a clean environment; its stderr is appended to `log`.
    pub(crate) fn start(
        name: &str,
        mut command: Command,
        log: &Path,
        output: &Output<'_>,
    ) -> anyhow::Result<Self> {
        for (variable, _) in std::env::vars_os() {
            let ours = ["SSE_", "GENERATOR_", "LISTENER_", "REDIS_URL"];
            if variable
                .to_str()
                .is_some_and(|variable| ours.iter().any(|prefix| variable.starts_with(prefix)))
            {
                command.env_remove(variable);
            }
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context("cannot open a log")?;
        let stdout = match output {
            Output::Nowhere => Stdio::null(),
            Output::File(path) => File::create(path)
                .context("cannot create a file for the output")?
                .into(),
            Output::Pipe => Stdio::piped(),
        };
        command.stdin(Stdio::null()).stdout(stdout).stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the program's output, once, if it is a pipe.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends a signal; the call has no effect if the process has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Returns the exit status if the process has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills the process at once, in whatever state it is.
    pub(crate) fn kill(&mut self) {
        // Both calls fail only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits for the exit.
    pub(crate) async fn stop(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let name = self.name.clone();
        until(within, async || self.ended())
            .await
            .with_context(|| format!("{name} does not end after SIGTERM"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.kill();
        }
    }
}

/// Returns a port that is not in use.
///
/// The port is below the range that the system uses for outgoing connections, so that a node can
/// reuse its port after it was down.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let mut tries = (0..1000).map(|_| rand::rng().random_range(20_000..32_000));
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    tries.find(is_free).context("cannot find a free port")
}

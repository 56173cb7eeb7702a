//! A process of the torture: its signals, its end, its log. Killed when dropped.

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

/// How often a condition is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` gives something, but not longer than `within`.
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
    /// For people.
    pub(crate) name: String,
}

/// Where a program's stdout goes.
#[derive(Debug)]
pub(crate) enum Output<'a> {
    Nowhere,
    File(&'a Path),
    Pipe,
}

impl Process {
    /// Starts a program as from a clean shell; what it says on stderr is added to `log`.
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

    /// Its output, once, if it goes into a pipe.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Sends a signal; a process that has ended does not mind.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills it at once, wherever it is.
    pub(crate) fn kill(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits.
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

/// A port that nobody uses now.
///
/// Below those that the system gives to outgoing connections: a node that is down must get its port again.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let mut tries = (0..1000).map(|_| rand::rng().random_range(20_000..32_000));
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    tries.find(is_free).context("cannot find a free port")
}

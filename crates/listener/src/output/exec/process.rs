//! One run of the command of `--exec`.
//!
//! The content of an event reaches the command only on stdin and in variables, never in its command
//! line, where a shell would interpret it and every user of the machine would see it.

#[cfg(unix)]
use std::os::unix::process::CommandExt as _;
use std::{
    fmt,
    io::{self, Write as _},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::timeout};

use crate::{decode::decoder::Event, output::printer::to_json};

/// Time for a command to end after SIGTERM. Then it is killed.
#[cfg(unix)]
const TERMINATE_TIME: Duration = Duration::from_secs(2);
/// A longer value is not passed as a variable: the system limits their size.
const VARIABLE_BYTES_MAX: usize = 4096;

/// Why an event is not done.
#[derive(Debug)]
pub enum ExecFailure {
    /// The command cannot be started.
    NotStarted(io::Error),
    /// The command ended with another exit code than 0, or by a signal.
    Ended(ExitStatus),
    /// The command ran for longer than the time limit.
    TimedOut(Duration),
}

/// Continues a sentence that begins with "the command".
impl fmt::Display for ExecFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted(error) => write!(f, "cannot be started: {error}"),
            Self::Ended(status) => match status.code() {
                Some(code) => write!(f, "ended with exit code {code}"),
                None => write!(f, "ended: {status}"),
            },
            Self::TimedOut(limit) => write!(f, "was ended after {limit:?}"),
        }
    }
}

/// The command and its limits.
#[derive(Debug)]
pub(super) struct Run<'e> {
    pub(super) command: &'e str,
    pub(super) channel: Option<&'e str>,
    pub(super) timeout: Duration,
}

impl Run<'_> {
    /// Runs the command to its end, or to the time limit.
    ///
    /// Dropping the future ends the command: the listener is about to end.
    pub(super) async fn run(&self, event: &Event) -> Result<(), ExecFailure> {
        let mut input = to_json(event).into_bytes();
        input.push(b'\n');
        let child = self.spawn(event).map_err(ExecFailure::NotStarted)?;
        let group = ProcessGroup::of(&child);
        let mut waiting = spawn_blocking(move || feed_and_wait(child, &input));
        let Ok(waited) = timeout(self.timeout, &mut waiting).await else {
            group.end();
            #[cfg(unix)]
            if timeout(TERMINATE_TIME, &mut waiting).await.is_err() {
                group.kill();
                let _ = waiting.await;
            }
            group.forget();
            return Err(ExecFailure::TimedOut(self.timeout));
        };
        group.forget();
        let status = waited
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(ExecFailure::NotStarted)?;
        if status.success() {
            Ok(())
        } else {
            Err(ExecFailure::Ended(status))
        }
    }

    fn spawn(&self, event: &Event) -> io::Result<Child> {
        let mut command = Command::new("sh");
        command.args(["-c", self.command]).stdin(Stdio::piped());
        let variables = [
            ("SSE_ID", Some(&*event.id)),
            ("SSE_EVENT", Some(&*event.kind)),
            ("SSE_CHANNEL", self.channel),
        ];
        for (name, value) in variables {
            match value.filter(|value| is_variable(value)) {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // The command and what it starts are ended together, and not by the Ctrl-C of a terminal,
        // which the listener handles.
        #[cfg(unix)]
        command.process_group(0);
        command.spawn()
    }
}

/// Whether the system accepts a value as that of a variable.
fn is_variable(value: &str) -> bool {
    value.len() <= VARIABLE_BYTES_MAX && !value.contains('\0')
}

/// Writes the event and waits for the end. A command need not read the event.
fn feed_and_wait(mut child: Child, input: &[u8]) -> io::Result<ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input);
    }
    child.wait()
}

/// The command and the processes that it started. They are ended on drop.
#[derive(Debug)]
struct ProcessGroup {
    #[cfg(unix)]
    leader: Option<rustix::process::Pid>,
}

impl ProcessGroup {
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        Self {
            leader: Some(rustix::process::Pid::from_child(child)),
        }
    }

    #[cfg(not(unix))]
    fn of(_child: &Child) -> Self {
        Self {}
    }

    fn end(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::TERM);
    }

    #[cfg(unix)]
    fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(leader) = self.leader {
            // The processes may have ended already.
            let _ = rustix::process::kill_process_group(leader, signal);
        }
    }

    /// Ends nothing on drop: the command has ended by itself.
    fn forget(mut self) {
        #[cfg(unix)]
        {
            self.leader = None;
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.end();
    }
}

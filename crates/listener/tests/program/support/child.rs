//! A listener as a child process, whose stdout and stderr are read as they arrive.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
};

use super::{WAIT_MAX, bounded};

/// Held while a program starts and while a pipe is closed. A program that another test is starting
/// has a copy of every open pipe until its `exec`, so that a pipe closed meanwhile stays open.
static STARTING: Mutex<()> = Mutex::new(());

/// How much of stdout is read.
#[derive(Clone, Copy)]
pub(crate) enum Reading {
    /// All.
    All,
    /// This many lines; then the pipe is closed, as by `head`.
    Lines(usize),
    /// Nothing, until [`Listener::take_stdout`].
    Nothing,
}

/// A running listener; killed when it is dropped.
pub(crate) struct Listener {
    child: Child,
    unread_stdout: Option<ChildStdout>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

/// How a listener ended, and the output that the test has not read before.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Listener {
    /// Starts it with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(&mut Self::command(arguments), Reading::All)
    }

    /// The command line, in an empty environment.
    pub(crate) fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_listener"));
        command.args(arguments).env_clear();
        command
    }

    /// Starts a command line whose stderr is a closed pipe.
    pub(crate) fn spawn_without_stderr(command: &mut Command) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        close(reader);
        let mut child = start(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(writer),
        );
        let stdout = lines_of(child.stdout.take().expect("piped"), usize::MAX);
        Self {
            child,
            unread_stdout: None,
            stdout,
            stderr: channel().1,
        }
    }

    /// Starts a command line.
    pub(crate) fn spawn(command: &mut Command, reading: Reading) -> Self {
        let mut child = start(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let stderr = lines_of(child.stderr.take().expect("piped"), usize::MAX);
        let stdout = child.stdout.take().expect("piped");
        let (unread_stdout, stdout) = match reading {
            Reading::All => (None, lines_of(stdout, usize::MAX)),
            Reading::Lines(count) => (None, lines_of(stdout, count)),
            Reading::Nothing => (Some(stdout), channel().1),
        };
        Self {
            child,
            unread_stdout,
            stdout,
            stderr,
        }
    }

    /// The next line of stdout, with its end.
    pub(crate) fn line(&self) -> String {
        let line = self
            .stdout
            .recv_timeout(WAIT_MAX)
            .expect("a line on stdout");
        String::from_utf8(line).expect("the listener writes UTF-8")
    }

    /// Waits for a line on stderr that contains `part`, and returns the line.
    pub(crate) fn wait_for_stderr(&self, part: &str) -> String {
        let mut before = String::new();
        loop {
            match self.stderr.recv_timeout(WAIT_MAX) {
                Ok(line) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    if line.contains(part) {
                        return line;
                    }
                    before.push_str(&line);
                }
                Err(error) => {
                    panic!("waiting for {part:?} on stderr: {error}; before that:\n{before}")
                }
            }
        }
    }

    /// Waits until its stdout is closed, by [`Reading::Lines`].
    pub(crate) fn stdout_closed(&self) {
        let next = self.stdout.recv_timeout(WAIT_MAX);
        assert_eq!(
            next,
            Err(RecvTimeoutError::Disconnected),
            "stdout is still read"
        );
    }

    /// Waits until the listener has ended by itself.
    pub(crate) fn wait_for_end(mut self) -> Ended {
        // Both pipes stay open until the process ends, unless the test has closed them.
        let stderr = rest_of(&self.stderr);
        let stdout = rest_of(&self.stdout);
        let code = self.child.wait().expect("a child can be waited for").code();
        Ended {
            code,
            stdout,
            stderr,
        }
    }

    /// stdout, if the harness does not read it.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.unread_stdout
            .take()
            .expect("started with Reading::Nothing")
    }

    /// The process id.
    #[cfg(unix)]
    pub(crate) fn id(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(command: &mut Command) -> Child {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    command
        .spawn()
        .expect("the listener is built with its tests")
}

/// Closes a pipe, of which no other program has a copy afterwards.
fn close<P>(pipe: P) {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    drop(pipe);
}

/// Reads lines, each with its end, up to a number of lines. Then the pipe is closed.
fn lines_of(pipe: impl Read + Send + 'static, count: usize) -> Receiver<Vec<u8>> {
    let (send, lines) = channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        for _ in 0..count {
            let mut line = Vec::new();
            let read = pipe.read_until(b'\n', &mut line).unwrap_or_default();
            if read == 0 || send.send(line).is_err() {
                break;
            }
        }
        // Close the pipe before the channel, so that a test that receives no more lines can rely on
        // a closed pipe.
        close(pipe);
        drop(send);
    });
    lines
}

fn rest_of(lines: &Receiver<Vec<u8>>) -> String {
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(WAIT_MAX) {
            Ok(line) => rest.extend(line),
            Err(RecvTimeoutError::Disconnected) => {
                break String::from_utf8_lossy(&rest).into_owned();
            }
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "the listener does not end; it wrote:\n{}",
                    String::from_utf8_lossy(&rest)
                )
            }
        }
    }
}

/// Waits for the first byte of a pipe.
#[cfg(unix)]
pub(crate) fn first_byte(mut pipe: ChildStdout) -> ChildStdout {
    bounded("the first byte of stdout", move || {
        pipe.read_exact(&mut [0]).expect("a byte on stdout");
        pipe
    })
}

//! The program as a child process.

use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
};

use crate::WITHIN;

/// A running `event-generator`.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// Result of a program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code; `None` if a signal killed the program.
    pub(crate) code: Option<i32>,
    /// Lines on stdout that the test has not read.
    pub(crate) stdout: Vec<String>,
    /// Lines on stderr that the test has not read.
    pub(crate) stderr: Vec<String>,
}

impl Program {
    /// Starts the program with these arguments and an empty environment.
    pub(crate) fn start<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::start_with(arguments, &[])
    }

    /// Starts the program with environment variables.
    pub(crate) fn start_with<'a>(
        arguments: impl IntoIterator<Item = &'a str>,
        env: &[(&str, &str)],
    ) -> Self {
        let mut child = command(arguments, env)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = lines(child.stdout.take().expect("a pipe"));
        let stderr = lines(child.stderr.take().expect("a pipe"));
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Starts the program with a pipe as stdin.
    pub(crate) fn start_fed<'a>(
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> (Self, ChildStdin) {
        let mut command = command(arguments, &[]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = lines(child.stdout.take().expect("a pipe"));
        let stderr = lines(child.stderr.take().expect("a pipe"));
        (
            Self {
                child,
                stdout,
                stderr,
            },
            stdin,
        )
    }

    /// Starts the program with a stdout that is closed at once.
    pub(crate) fn start_unread<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut child = command(arguments, &[])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stdout.take());
        let stderr = lines(child.stderr.take().expect("a pipe"));
        Self {
            child,
            stdout: mpsc::channel().1,
            stderr,
        }
    }

    /// Runs the program to its end.
    pub(crate) fn run<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Ended {
        Self::start(arguments).end()
    }

    /// Waits for the next line on stdout.
    pub(crate) fn stdout_line(&self) -> String {
        self.stdout
            .recv_timeout(WITHIN)
            .expect("a line on stdout in time")
    }

    /// Waits for the next line on stderr.
    pub(crate) fn stderr_line(&self) -> String {
        self.stderr
            .recv_timeout(WITHIN)
            .expect("a line on stderr in time")
    }

    /// Sends a signal, by its short name.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(status.expect("kill starts").success());
    }

    /// Waits for the end of the program.
    pub(crate) fn end(mut self) -> Ended {
        let (stdout, stderr) = (rest(&self.stdout), rest(&self.stderr));
        // Both pipes are closed: the process is ending.
        let code = self.child.wait().expect("a child").code();
        Ended {
            code,
            stdout,
            stderr,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if the program has ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Returns stderr as one text.
    pub(crate) fn stderr_text(&self) -> String {
        self.stderr.join("\n")
    }
}

fn command<'a>(arguments: impl IntoIterator<Item = &'a str>, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_event-generator"));
    command
        .args(arguments)
        .env_clear()
        .envs(env.iter().copied());
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn rest(lines: &Receiver<String>) -> Vec<String> {
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(WITHIN) {
            Ok(line) => rest.push(line),
            Err(RecvTimeoutError::Disconnected) => return rest,
            Err(RecvTimeoutError::Timeout) => panic!("the program does not end; so far: {rest:#?}"),
        }
    }
}

//! Processes of a test: their output lines as they arrive, and their exit. Every wait has a time
//! limit.

use std::{
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Once,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

/// Longer than any step takes after the build; only a failing test waits this long for a line.
const PATIENCE: Duration = Duration::from_mins(1);

/// A Python program that executes another program, with the default reaction to Ctrl-C and to a
/// hangup.
///
/// A program inherits ignored signals. A shell cannot handle a signal that was ignored when it
/// started. A test run in the background ignores Ctrl-C, and one started by `nohup` hangups too.
const WITH_DEFAULT_SIGNALS: &str = "\
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
";

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/sse-server lies two levels down")
        .into()
}

/// A running program. The process gets SIGTERM when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// Starts a program as from a user's shell. The environment has no variables of the project's
    /// programs, and none that cargo sets for a test, because these would make an inner cargo
    /// rebuild everything. Stdout and stderr are merged.
    pub(crate) fn start(command: &Command) -> Self {
        let name = format!("{command:?}");
        let mut command = with_default_signals(command);
        clean_environment(&mut command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("a pipe")),
            Box::new(child.stderr.take().expect("a pipe")),
        ];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self {
            child,
            name,
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads lines until one satisfies `wanted`, and returns it.
    pub(crate) fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "{} printed no such line, but:\n{}",
                    self.name,
                    self.seen.join("\n")
                );
            };
            self.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Reads to the end of both outputs and waits for the exit.
    pub(crate) fn finish(&mut self) -> (ExitStatus, Vec<String>) {
        if !self.read_to_end() {
            let _ = self.child.kill();
            panic!(
                "{} has not ended, and has printed nothing for {PATIENCE:?} after:\n{}",
                self.name,
                self.seen.join("\n")
            );
        }
        let status = self.child.wait().expect("an exit status");
        (status, self.seen.clone())
    }

    /// Reads the rest of both outputs; returns false if nothing is printed for too long.
    fn read_to_end(&mut self) -> bool {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Sends the signal with this name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("TERM");
            if !self.read_to_end() {
                let _ = self.child.kill();
            }
            let _ = self.child.wait();
        }
    }
}

/// Removes the variables of the project's programs, and those that cargo sets for a test.
fn clean_environment(command: &mut Command) {
    // A value that the test has set is kept.
    if !command.get_envs().any(|(name, _)| name == "REDIS_URL") {
        command.env_remove("REDIS_URL");
    }
    for (name, _) in std::env::vars() {
        let ours = ["SSE_", "GENERATOR_", "LISTENER_"];
        let of_a_test = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_EXE_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ];
        if ours
            .iter()
            .chain(&of_a_test)
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
}

/// The same command with the default reaction to signals.
fn with_default_signals(command: &Command) -> Command {
    let mut wrapped = python();
    wrapped
        .args(["-c", WITH_DEFAULT_SIGNALS])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped
}

/// Builds what the tests of this program run, however long it takes: each program as a user builds
/// it, and everything together for the scripts.
///
/// All builds come first, because a build makes every other use of cargo wait.
pub(crate) fn build_programs() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        for package in ["sse-server", "listener", "event-generator"] {
            cargo(&["build", "--quiet", "-p", package]);
        }
        cargo(&[
            "build",
            "--locked",
            "--quiet",
            "--workspace",
            "--bins",
            "--examples",
        ]);
    });
}

/// Starts a program of the workspace as its README does.
pub(crate) fn cargo_run(program: &str, arguments: &[&str]) -> Process {
    build_programs();
    let mut command = Command::new("cargo");
    command
        .args(["run", "--quiet", "-p", program, "--"])
        .args(arguments)
        .current_dir(workspace());
    Process::start(&command)
}

fn cargo(arguments: &[&str]) {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace());
    clean_environment(&mut command);
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "cargo {}", arguments.join(" "));
}

/// Sends a signal to a process that this test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success(), "kill -{name} {pid}");
}

/// Returns the Python interpreter that has the packages of `scripts/requirements.txt`.
pub(crate) fn python() -> Command {
    let program = std::env::var_os("PYTHON").map_or_else(
        || workspace().join("target/python/bin/python"),
        PathBuf::from,
    );
    assert!(
        program.exists(),
        "{} does not exist: run `scripts/test --needs` to create it",
        program.display()
    );
    Command::new(program)
}

/// Set in the inner run of the test below.
const IGNORES_SIGINT: &str = "TEST_IGNORES_SIGINT";

#[test]
fn a_program_ends_on_ctrl_c_even_if_the_tests_ignore_it() {
    if std::env::var_os(IGNORES_SIGINT).is_some() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; exec sleep 600"]);
        let mut program = Process::start(&command);
        program.line(|line| line == "started");
        program.signal("INT");
        let (status, _) = program.finish();
        assert!(!status.success());
        return;
    }
    let inner = "process::a_program_ends_on_ctrl_c_even_if_the_tests_ignore_it";
    let status = Command::new("sh")
        .args(["-c", "trap '' INT; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().expect("the test program"))
        .arg(inner)
        .env(IGNORES_SIGINT, "1")
        .status();
    assert!(status.expect("sh runs").success());
}

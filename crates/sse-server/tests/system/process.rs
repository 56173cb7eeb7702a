//! Processes of a test: their output lines as they arrive, and their exit. Every wait has a time
//! limit.

use std::{
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

/// Longer than any step takes, including a build; only a failing test waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(10);

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
    pub(crate) fn start(mut command: Command) -> Self {
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
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let name = format!("{command:?}");
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
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self
            .lines
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.seen.push(line);
        }
        let status = self.child.wait().expect("an exit status");
        (status, self.seen.clone())
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
            let _ = self.child.wait();
        }
    }
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

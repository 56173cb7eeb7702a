//! `listener bench` as a child process, and its report.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ended, Listener, Server};

/// A running load test that writes its report to a file.
pub(crate) struct Bench {
    listener: Listener,
    directory: TempDir,
}

/// A load test that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) ended: Ended,
    pub(crate) report: Value,
}

impl Bench {
    /// Starts a load test of a server with these arguments.
    pub(crate) fn start(server: &Server, arguments: &[&str]) -> Self {
        Self::at(&[&server.url()], arguments)
    }

    /// Starts a load test of these URLs.
    pub(crate) fn at(urls: &[&str], arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report.json");
        let mut all = vec!["bench", "--report", path.to_str().expect("UTF-8")];
        for url in urls {
            all.extend(["--url", url]);
        }
        all.extend(arguments);
        let listener = Listener::start(&all);
        Self {
            listener,
            directory,
        }
    }

    /// Sends the signal of Ctrl-C.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        rustix::process::kill_process(self.listener.id(), rustix::process::Signal::INT)
            .expect("it runs");
    }

    /// Waits for a line on stderr that contains `part`.
    pub(crate) fn wait_for_stderr(&self, part: &str) -> String {
        self.listener.wait_for_stderr(part)
    }

    /// Waits until the load test has ended by itself.
    pub(crate) fn wait_for_end(self) -> Done {
        let ended = self.listener.wait_for_end();
        let json = std::fs::read(self.directory.path().join("report.json"));
        let json = json.unwrap_or_else(|error| panic!("no report: {error}; {ended:?}"));
        Done {
            report: serde_json::from_slice(&json)
                .unwrap_or_else(|error| panic!("{error}: {ended:?}")),
            ended,
        }
    }
}

impl Done {
    /// A number in the report.
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let value = self
            .report
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer} in {:#}", self.report));
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{pointer} is {value}"))
    }

    /// Numbers in the report.
    pub(crate) fn numbers<const N: usize>(&self, pointers: [&str; N]) -> [u64; N] {
        pointers.map(|pointer| self.number(pointer))
    }

    /// Checks the exit code, and fails with all the output.
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.ended.code, Some(code), "{self:#?}");
    }
}

/// A numbered event of the publisher `p`, with an id.
pub(crate) fn event(number: u64) -> String {
    format!(
        "id: {number}\nevent: tick\ndata: {{\"publisher\":\"p\",\"sequence\":{number},\"sent_us\":1}}\n\n"
    )
}

/// Numbered events.
pub(crate) fn events(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(event).collect()
}

//! A bench as a child process, and its report.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ended, Listener, Server};

/// A running bench that writes its report to a file.
pub(crate) struct Bench {
    listener: Listener,
    directory: TempDir,
}

/// A bench that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) ended: Ended,
    pub(crate) report: Value,
}

impl Bench {
    /// Starts it against a server with these arguments.
    pub(crate) fn start(server: &Server, arguments: &[&str]) -> Self {
        Self::at(&[&server.url()], arguments)
    }

    /// Starts it against these URLs.
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

    /// Ctrl-C.
    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        rustix::process::kill_process(self.listener.id(), rustix::process::Signal::INT)
            .expect("it runs");
    }

    /// Waits until it says so on stderr.
    pub(crate) fn said(&self, part: &str) -> String {
        self.listener.said(part)
    }

    /// Waits until it has ended by itself.
    pub(crate) fn done(self) -> Done {
        let ended = self.listener.ended();
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

    /// Ended so, or the test fails with all that was written.
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

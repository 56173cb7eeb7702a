//! Tells people how the connection is doing: each change once, however often it is tried.

use std::time::Duration;

use crate::{endpoint::StreamUrl, resume::Resume, talk, trouble::Trouble};

/// What has been said so far.
#[derive(Debug)]
pub struct Progress {
    url: StreamUrl,
    retries_max: Option<u64>,
    connected_before: bool,
    /// The trouble that was said last, since there was a connection.
    trouble: String,
}

impl Progress {
    /// At the start, with this server, which is tried again so often; none for ever.
    #[must_use]
    pub const fn new(url: StreamUrl, retries_max: Option<u64>) -> Self {
        Self { url, retries_max, connected_before: false, trouble: String::new() }
    }

    /// The stream is open.
    pub fn connected(&mut self, resume: &Resume) {
        let again = if self.connected_before { " again" } else { "" };
        let after = match resume.last_event_id() {
            "" => String::new(),
            id => format!(", going on after {id}"),
        };
        talk::say(format_args!("connected{again} to {}{after}", self.url));
        self.connected_before = true;
        self.trouble.clear();
    }

    /// There is no stream; the next connection is tried after `wait`.
    pub fn trouble(&mut self, trouble: &Trouble, wait: Duration) {
        let said = trouble.to_string();
        if said != self.trouble {
            talk::say(self.told(trouble, wait));
            self.trouble = said;
        }
    }

    /// The server has no more for us.
    pub fn over(&self) {
        talk::say(format_args!("{} has no more to send (204 No Content)", self.url));
    }

    /// The last event id cannot be sent back.
    pub fn unsendable_id(&self) {
        talk::say("the last event id has control characters and cannot be sent back: events may be missing");
    }

    fn told(&self, trouble: &Trouble, wait: Duration) -> String {
        let url = &self.url;
        let until = match self.retries_max {
            Some(1) => "once".to_owned(),
            Some(retries_max) => format!("up to {retries_max} times"),
            None => "until there is one".to_owned(),
        };
        match trouble {
            Trouble::NoServer if self.connected_before => {
                format!("no server at {url} any more (connection refused); trying again {until}")
            }
            Trouble::NoServer if url.is_loopback() => format!(
                "no server at {url} yet (connection refused); start one with `cargo run -p sse-server`; \
                 trying again {until}"
            ),
            Trouble::NoServer => {
                format!("no server at {url} yet (connection refused); trying again {until}")
            }
            other => format!("{url}: {other}; trying again in {:?}", rounded(wait)),
        }
    }
}

/// In whole milliseconds.
fn rounded(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_says_what_to_start() {
        let mut progress = Progress::new("http://127.0.0.1:5000".parse().unwrap(), None);
        let told = |progress: &Progress| progress.told(&Trouble::NoServer, Duration::from_millis(250));
        assert!(told(&progress).starts_with("no server at http://127.0.0.1:5000/stream yet"));
        assert!(told(&progress).contains("cargo run -p sse-server"));
        progress.connected_before = true;
        assert!(told(&progress).starts_with("no server at http://127.0.0.1:5000/stream any more"));
    }

    #[test]
    fn a_cut_says_when_it_goes_on() {
        let progress = Progress::new("http://h/s".parse().unwrap(), None);
        let told = progress.told(&Trouble::Ended, Duration::from_micros(20_300));
        assert_eq!(told, "http://h/s: the server ended the stream; trying again in 20ms");
    }
}

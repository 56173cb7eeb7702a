//! Tells people how the connection is doing: each change once, however often it is tried.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    decode::resume::ResumeState, follow::error::TransientError, output::stderr,
    settings::stream_url::StreamUrl,
};

/// Characters of an id that are shown.
const ID_CHARACTERS_MAX: usize = 200;

/// What has been said so far.
#[derive(Debug)]
pub struct ConnectionLog {
    retries_max: Option<u64>,
    connected_before: bool,
    /// The error that was said last of each URL, since there was a connection.
    last_errors: BTreeMap<String, String>,
}

impl ConnectionLog {
    /// At the start. It is tried again so often; none for ever.
    #[must_use]
    pub const fn new(retries_max: Option<u64>) -> Self {
        Self {
            retries_max,
            connected_before: false,
            last_errors: BTreeMap::new(),
        }
    }

    /// The stream is open.
    pub fn log_connected(&mut self, url: &StreamUrl, resume: &ResumeState) {
        let again = if self.connected_before { " again" } else { "" };
        let after = match resume.last_event_id() {
            "" => String::new(),
            id => format!(", going on after {}", shorten_id(id)),
        };
        stderr::log_line(format_args!("connected{again} to {url}{after}"));
        self.connected_before = true;
        self.last_errors.clear();
    }

    /// There is no stream; the next connection is tried after `wait`.
    pub fn log_failure(&mut self, url: &StreamUrl, error: &TransientError, wait: Duration) {
        let (url_text, said) = (url.to_string(), error.to_string());
        if self.last_errors.get(&url_text) != Some(&said) {
            stderr::log_line(self.describe_failure(url, error, wait));
            self.last_errors.insert(url_text, said);
        }
    }

    /// The server has no more for us.
    pub fn log_no_content(&self, url: &StreamUrl) {
        stderr::log_line(format_args!("{url} has no more to send (204 No Content)"));
    }

    /// The last event id cannot be sent back.
    pub fn log_unsendable_id(&self) {
        stderr::log_line(
            "the last event id has control characters and cannot be sent back: events may be missing",
        );
    }

    fn describe_failure(&self, url: &StreamUrl, error: &TransientError, wait: Duration) -> String {
        let until = match self.retries_max {
            Some(1) => "once".to_owned(),
            Some(retries_max) => format!("up to {retries_max} times"),
            None => "until there is one".to_owned(),
        };
        match error {
            TransientError::NoServer if self.connected_before => {
                format!("no server at {url} any more (connection refused); trying again {until}")
            }
            TransientError::NoServer if url.is_loopback() => format!(
                "no server at {url} yet (connection refused); start one with `cargo run -p sse-server`; \
                 trying again {until}"
            ),
            TransientError::NoServer => {
                format!("no server at {url} yet (connection refused); trying again {until}")
            }
            other if wait.is_zero() => format!("{url}: {other}; trying again at once"),
            other => format!("{url}: {other}; trying again in {:?}", round_to_ms(wait)),
        }
    }
}

/// An id is the server's, and may be of any length.
fn shorten_id(id: &str) -> String {
    match id.char_indices().nth(ID_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &id[..end]),
        None => id.to_owned(),
    }
}

/// In whole milliseconds.
fn round_to_ms(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_says_what_to_start() {
        let (url, mut progress) = (
            "http://127.0.0.1:5000".parse().unwrap(),
            ConnectionLog::new(None),
        );
        let describe = |progress: &ConnectionLog| {
            progress.describe_failure(&url, &TransientError::NoServer, Duration::from_millis(250))
        };
        assert!(describe(&progress).starts_with("no server at http://127.0.0.1:5000/stream yet"));
        assert!(describe(&progress).contains("cargo run -p sse-server"));
        progress.connected_before = true;
        assert!(
            describe(&progress).starts_with("no server at http://127.0.0.1:5000/stream any more")
        );
    }

    #[test]
    fn a_cut_says_when_it_goes_on() {
        let told = ConnectionLog::new(None).describe_failure(
            &"http://h/s".parse().unwrap(),
            &TransientError::Ended,
            Duration::from_micros(20_300),
        );
        assert_eq!(
            told,
            "http://h/s: the server ended the stream; trying again in 20ms"
        );
    }
}

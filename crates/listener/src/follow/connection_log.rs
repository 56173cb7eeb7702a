//! Reports changes of the connection on stderr: each change once, however often it is retried.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    decode::resume::ResumeState, follow::error::TransientError, output::stderr,
    settings::stream_url::StreamUrl,
};

/// Limit of characters of an id in a message.
const ID_CHARACTERS_MAX: usize = 200;

/// The changes reported so far.
#[derive(Debug)]
pub struct ConnectionLog {
    retries_max: Option<u64>,
    connected_before: bool,
    /// The last error reported per URL since the last connection.
    last_errors: BTreeMap<String, String>,
}

impl ConnectionLog {
    /// A log without reports. `retries_max` is part of its messages.
    #[must_use]
    pub const fn new(retries_max: Option<u64>) -> Self {
        Self {
            retries_max,
            connected_before: false,
            last_errors: BTreeMap::new(),
        }
    }

    /// Reports that a stream was opened.
    pub fn log_connected(&mut self, url: &StreamUrl, resume: &ResumeState) {
        let again = if self.connected_before { " again" } else { "" };
        let after = describe_resume(resume);
        stderr::log_line(format_args!("connected{again} to {url}{after}"));
        self.connected_before = true;
        self.last_errors.clear();
    }

    /// Reports an error, after which the next connection is made after `wait`.
    pub fn log_failure(&mut self, url: &StreamUrl, error: &TransientError, wait: Duration) {
        let (url_text, error_text) = (url.to_string(), error.to_string());
        if self.last_errors.get(&url_text) != Some(&error_text) {
            stderr::log_line(self.describe_failure(url, error, wait));
            self.last_errors.insert(url_text, error_text);
        }
    }

    /// Reports that the stream has ended for good.
    pub fn log_no_content(&self, url: &StreamUrl) {
        stderr::log_line(format_args!("{url} has ended for good (204 No Content)"));
    }

    /// Reports that the last event id cannot be sent.
    pub fn log_unsendable_id(&self) {
        stderr::log_line(
            "the last event id contains control characters and cannot be sent: events may be missing",
        );
    }

    fn describe_failure(&self, url: &StreamUrl, error: &TransientError, wait: Duration) -> String {
        let until = match self.retries_max {
            Some(1) => "once".to_owned(),
            Some(retries_max) => format!("up to {retries_max} times"),
            None => "until one starts".to_owned(),
        };
        match error {
            TransientError::NoServer if self.connected_before => {
                format!("no server at {url} any more (connection refused); retrying {until}")
            }
            TransientError::NoServer if url.is_loopback() => format!(
                "no server at {url} yet (connection refused); start one with `cargo run -p sse-server`; \
                 retrying {until}"
            ),
            TransientError::NoServer => {
                format!("no server at {url} yet (connection refused); retrying {until}")
            }
            other if wait.is_zero() => format!("{url}: {other}; retrying at once"),
            other => format!("{url}: {other}; retrying in {:?}", round_to_ms(wait)),
        }
    }
}

fn describe_resume(resume: &ResumeState) -> String {
    match resume.last_event_id() {
        "" => String::new(),
        id => format!(", resuming after {}", shorten_id(id)),
    }
}

/// Shortens an id, which the server can make arbitrarily long.
fn shorten_id(id: &str) -> String {
    match id.char_indices().nth(ID_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &id[..end]),
        None => id.to_owned(),
    }
}

/// Rounds down to milliseconds.
fn round_to_ms(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_server_the_message_states_how_to_start_one() {
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
    fn a_cut_states_when_the_next_connection_is_made() {
        let text = ConnectionLog::new(None).describe_failure(
            &"http://h/s".parse().unwrap(),
            &TransientError::Ended,
            Duration::from_micros(20_300),
        );
        assert_eq!(
            text,
            "http://h/s: the server ended the stream; retrying in 20ms"
        );
    }
}

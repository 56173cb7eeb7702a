//! The loop over connections: each one resumes where the previous one stopped.
//!
//! ```text
//! connect ─► stream ─► events ─► delivery
//!    ▲          │
//!    │          ▼ ended, broken, idle
//!    └── next node, wait ◄── no stream (transient)
//! ```
//!
//! The loop ends with `--count`, a response 204, a permanent error, or an exceeded retry budget.

use std::time::Duration;

use sse_proto::blocks::BlockTooLarge;
use tokio::time::{Instant, sleep};

use crate::{
    decode::{
        decoder::{DecodeError, Decoder, Item},
        resume::ResumeState,
    },
    follow::{
        connection::{self, Connection, Opened},
        connection_log::ConnectionLog,
        error::{PermanentError, StreamError, TransientError},
        follow_error::FollowError,
        nodes::{Node, Nodes},
        request::StreamRequest,
        retry_budget::RetryBudget,
        retry_pace::{ASKED_MAX, Backoff, Pace},
    },
    output::{delivery::Delivery, state_file::StateFile, state_stream::StateStream},
    settings::{follow::FollowSettings, last_event_id, stream_url::StreamUrl},
};

/// A stream that was open this long is a success, even without an event.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// Follows one stream over any number of connections.
#[derive(Debug)]
pub struct Follower {
    nodes: Nodes,
    resume: ResumeState,
    event_bytes_max: usize,
    shows_comments: bool,
    backoff: Backoff,
    retry_budget: RetryBudget,
    /// No server was reached yet.
    is_starting: bool,
    delivery: Delivery,
    connection_log: ConnectionLog,
}

/// How a connection ended.
enum ConnectionEnd {
    /// The listener has finished.
    Finished,
    /// Another connection follows.
    Reconnect(TransientError),
}

impl Follower {
    /// Opens the record file and the state file, and sends nothing yet.
    ///
    /// # Errors
    /// The record file, the state file or TLS cannot be set up.
    pub fn new(settings: &FollowSettings) -> Result<Self, FollowError> {
        let open_state = |path| StateFile::open(path, StateStream::of(&settings.target));
        let state = settings.state.as_deref().map(open_state).transpose()?;
        let first_id = choose_first_id(state.as_ref(), settings);
        Ok(Self {
            nodes: Nodes::new(build_nodes(settings).map_err(FollowError::Client)?),
            resume: ResumeState::starting_after(first_id),
            delivery: Delivery::new(settings, state)?,
            event_bytes_max: settings.max_event_size,
            shows_comments: settings.show_comments,
            backoff: Backoff::default(),
            retry_budget: RetryBudget::new(settings.max_retries),
            is_starting: true,
            connection_log: ConnectionLog::new(settings.max_retries),
        })
    }

    /// Follows the stream to its end.
    ///
    /// # Errors
    /// An error that a retry does not help against.
    pub async fn follow(&mut self) -> Result<(), FollowError> {
        while let ConnectionEnd::Reconnect(error) = self.connect().await? {
            if self.retry_budget.record_failure() {
                return Err(self.gave_up_error(error));
            }
            let wait = self.next_wait(&error);
            let url = &self.nodes.current().url;
            self.connection_log.log_failure(url, &error, wait);
            self.nodes.select_next();
            sleep(wait).await;
        }
        Ok(())
    }

    /// Marks the output as complete, unless a write was interrupted.
    ///
    /// # Errors
    /// The state file cannot be written.
    pub fn close(&mut self) -> Result<(), FollowError> {
        self.delivery
            .printer
            .close()
            .map_err(|error| FollowError::Delivery(error.into()))
    }

    async fn connect(&mut self) -> Result<ConnectionEnd, FollowError> {
        if last_event_id::to_header_value(self.resume.last_event_id()).is_none() {
            self.connection_log.log_unsendable_id();
            self.resume.clear_last_event_id();
        }
        let Node { url, request } = self.nodes.current();
        match connection::open(request, self.resume.last_event_id()).await {
            Ok(Opened::Stream(connection)) => {
                self.connection_log.log_connected(url, &self.resume);
                self.nodes.record_stream();
                self.read_stream(connection).await
            }
            Ok(Opened::NoContent) => {
                self.connection_log.log_no_content(url);
                Ok(ConnectionEnd::Finished)
            }
            Err(StreamError::Transient(error)) => {
                self.nodes.record_failure();
                Ok(ConnectionEnd::Reconnect(error))
            }
            Err(StreamError::Permanent(error)) => self.after_rejection(error),
        }
    }

    /// Tries the next node, unless all nodes have rejected the request.
    fn after_rejection(&mut self, error: PermanentError) -> Result<ConnectionEnd, FollowError> {
        if self.nodes.record_rejection() {
            Err(self.rejected_error(error))
        } else {
            let error = TransientError::Rejected(Box::new(error));
            Ok(ConnectionEnd::Reconnect(error))
        }
    }

    async fn read_stream(&mut self, connection: Connection) -> Result<ConnectionEnd, FollowError> {
        let opened_at = Instant::now();
        let end = self.read_events(connection).await?;
        if opened_at.elapsed() >= STEADY_AFTER {
            self.backoff.reset();
            self.retry_budget.reset();
        }
        Ok(end)
    }

    async fn read_events(
        &mut self,
        mut connection: Connection,
    ) -> Result<ConnectionEnd, FollowError> {
        let mut decoder = self.new_decoder();
        loop {
            let bytes = match connection.next_bytes().await {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.delivery.printer.start_connection();
                    return Ok(ConnectionEnd::Reconnect(error));
                }
            };
            self.delivery.printer.push_bytes(&bytes);
            let pushed = decoder.push(&bytes);
            let delivered = self.deliver_items(&mut decoder).await;
            // Print the events before an error, whatever the error is.
            self.delivery
                .flush(Some(self.resume.last_event_id()))
                .await?;
            if delivered? {
                return Ok(ConnectionEnd::Finished);
            }
            pushed.map_err(|source| self.unreadable_error(source))?;
        }
    }

    fn new_decoder(&self) -> Decoder {
        let decoder = Decoder::new(self.event_bytes_max);
        if self.shows_comments {
            decoder.with_comments()
        } else {
            decoder
        }
    }

    /// Delivers the complete items. Returns `true` after the last event of `--count`.
    async fn deliver_items(&mut self, decoder: &mut Decoder) -> Result<bool, FollowError> {
        while let Some(item) = decoder
            .next_item(&mut self.resume)
            .map_err(|source| self.unreadable_error(source))?
        {
            match item {
                Item::Comment(text) => self.delivery.printer.add_comment(&text),
                Item::Event(event) => {
                    self.retry_budget.reset();
                    if self.delivery.deliver_event(&event).await?.is_break() {
                        return Ok(true);
                    }
                }
            }
        }
        let printer = &mut self.delivery.printer;
        printer.add_raw_up_to(decoder.complete_up_to());
        self.check_held_bytes()?;
        Ok(false)
    }

    /// Limits the bytes of an incomplete event that `--format raw` holds back. The decoder does not
    /// limit comments inside of an event.
    fn check_held_bytes(&self) -> Result<(), FollowError> {
        let bytes_max = self.event_bytes_max;
        if self.delivery.printer.held_bytes() <= bytes_max {
            return Ok(());
        }
        Err(self.unreadable_error(DecodeError::TooLarge(BlockTooLarge { bytes_max })))
    }

    /// The wait before the next connection: none while there is a node that was not tried yet.
    fn next_wait(&mut self, error: &TransientError) -> Duration {
        if self.nodes.has_untried() {
            return Duration::ZERO;
        }
        if self.is_starting && !error.is_no_connection() {
            self.is_starting = false;
            self.backoff.reset();
        }
        let wait = self.backoff.next_wait(self.pace(), rand::random());
        wait.max(error.retry_after().min(ASKED_MAX))
    }

    fn pace(&self) -> Pace {
        if self.is_starting {
            Pace::STARTING
        } else {
            Pace::from_retry(self.resume.retry())
        }
    }

    fn gave_up_error(&self, last: TransientError) -> FollowError {
        FollowError::GaveUp {
            url: self.node_url(),
            attempts: self.retry_budget.failures(),
            last,
        }
    }

    fn rejected_error(&self, source: PermanentError) -> FollowError {
        FollowError::Rejected {
            url: self.node_url(),
            source,
        }
    }

    fn unreadable_error(&self, source: DecodeError) -> FollowError {
        FollowError::Unreadable {
            url: self.node_url(),
            source,
        }
    }

    /// The current URL as text, without secrets.
    fn node_url(&self) -> String {
        self.nodes.current().url.to_string()
    }
}

/// Returns the id of the state file, or else of `--last-event-id`; empty if neither has one.
fn choose_first_id(state: Option<&StateFile>, settings: &FollowSettings) -> String {
    // A run that was killed before its first id has left an empty one.
    state
        .and_then(StateFile::last_event_id)
        .filter(|id| !id.is_empty())
        .map(ToOwned::to_owned)
        .or_else(|| settings.target.last_event_id.clone())
        .unwrap_or_default()
}

fn build_nodes(settings: &FollowSettings) -> reqwest::Result<Vec<Node>> {
    let node = |url: &StreamUrl| {
        Ok(Node {
            url: url.clone(),
            request: StreamRequest::new(settings, url)?,
        })
    };
    settings.target.urls().map(node).collect()
}

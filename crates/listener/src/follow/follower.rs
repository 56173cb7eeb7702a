//! The loop: a connection after the other, each from where the last one stopped.

use std::{io, time::Duration};

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
        request::StreamRequest,
        retry_budget::RetryBudget,
        retry_pace::{ASKED_MAX, Backoff, Pace},
    },
    output::{
        delivery::{Delivery, DeliveryError},
        state_file::{StateError, StateFile},
    },
    settings::{follow::FollowSettings, last_event_id, stream_url::StreamUrl},
};

/// A stream that was open this long is a success, even if nothing came.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// Follows one stream over as many connections as it takes.
#[derive(Debug)]
pub struct Follower {
    /// At least one; they are taken in turn.
    nodes: Vec<Node>,
    /// Which of them is asked.
    node: usize,
    /// Nodes that gave no stream, one after the other; when all did so, there is a wait.
    failed_nodes: usize,
    /// Of these, those that refused; when all did so, that is the end.
    rejected_nodes: usize,
    resume: ResumeState,
    event_bytes_max: usize,
    comments: bool,
    backoff: Backoff,
    retry_budget: RetryBudget,
    /// No server has ever been reached.
    starting: bool,
    delivery: Delivery,
    connection_log: ConnectionLog,
}

/// One URL of the stream.
#[derive(Debug)]
struct Node {
    url: StreamUrl,
    request: StreamRequest,
}

/// What cannot be got over by trying again.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Signals cannot be waited for.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The HTTP client cannot be set up.
    #[error("cannot set up HTTP and TLS")]
    Client(#[source] reqwest::Error),
    /// It is not known where to go on, or it cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// An event cannot be recorded or printed.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The server's answer is final.
    #[error("cannot follow {url}")]
    Rejected {
        /// What was asked.
        url: String,
        /// What it answered.
        source: PermanentError,
    },
    /// The stream cannot be read on, and would not be better a second time.
    #[error("cannot read {url} on")]
    Unreadable {
        /// What was read.
        url: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// It was tried as often as was wanted.
    #[error("cannot follow {url}: {last}; gave up after {} (--max-retries)", format_attempts(*.attempts))]
    GaveUp {
        /// What was asked.
        url: String,
        /// How often, since it went well.
        attempts: u64,
        /// What came of the last attempt. Not the source: those of reqwest repeat the URL with its secrets.
        last: TransientError,
    },
}

/// How one connection went.
enum ConnectionEnd {
    /// There is nothing more to do.
    Finished,
    /// It is to be followed by another one.
    Reconnect(TransientError),
}

impl Follower {
    /// At the start, with the record file created and nothing sent yet.
    ///
    /// # Errors
    /// The record file, the state file, or TLS.
    pub fn new(settings: &FollowSettings) -> Result<Self, FollowError> {
        let state = settings.state.as_deref().map(StateFile::open).transpose()?;
        // A run that was killed before it had an id has left an empty one.
        let kept = state
            .as_ref()
            .and_then(StateFile::last_event_id)
            .filter(|id| !id.is_empty());
        let kept = kept.map(ToOwned::to_owned);
        let node = |url: &StreamUrl| {
            Ok(Node {
                url: url.clone(),
                request: StreamRequest::new(settings, url)?,
            })
        };
        Ok(Self {
            nodes: settings
                .target
                .urls
                .iter()
                .map(node)
                .collect::<reqwest::Result<_>>()
                .map_err(FollowError::Client)?,
            node: 0,
            failed_nodes: 0,
            rejected_nodes: 0,
            resume: ResumeState::starting_after(
                kept.or_else(|| settings.target.last_event_id.clone())
                    .unwrap_or_default(),
            ),
            delivery: Delivery::new(settings, state).map_err(DeliveryError::from)?,
            event_bytes_max: settings.max_event_size,
            comments: settings.show_comments,
            backoff: Backoff::default(),
            retry_budget: RetryBudget::new(settings.max_retries),
            starting: true,
            connection_log: ConnectionLog::new(settings.max_retries),
        })
    }

    /// Follows until it is done.
    ///
    /// # Errors
    /// What cannot be got over by trying again.
    pub async fn follow(&mut self) -> Result<(), FollowError> {
        while let ConnectionEnd::Reconnect(error) = self.connect().await? {
            if self.retry_budget.record_failure() {
                let (url, attempts) = (self.node_url(), self.retry_budget.failures());
                return Err(FollowError::GaveUp {
                    url,
                    attempts,
                    last: error,
                });
            }
            let wait = self.next_wait(&error);
            self.connection_log
                .log_failure(&self.nodes[self.node].url, &error, wait);
            self.select_next_node();
            sleep(wait).await;
        }
        Ok(())
    }

    fn select_next_node(&mut self) {
        self.node = (self.node + 1) % self.nodes.len();
    }

    /// The end, however it came about: notes that what was printed is whole, if it is.
    ///
    /// # Errors
    /// The state file.
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
        let Node { url, request } = &self.nodes[self.node];
        match connection::open(request, self.resume.last_event_id()).await {
            Err(StreamError::Transient(error)) => {
                self.failed_nodes += 1;
                self.rejected_nodes = 0;
                Ok(ConnectionEnd::Reconnect(error))
            }
            Err(StreamError::Permanent(error)) if self.rejected_nodes + 1 < self.nodes.len() => {
                self.failed_nodes += 1;
                self.rejected_nodes += 1;
                Ok(ConnectionEnd::Reconnect(TransientError::Rejected(error)))
            }
            Err(StreamError::Permanent(source)) => Err(FollowError::Rejected {
                url: url.to_string(),
                source,
            }),
            Ok(Opened::NoContent) => {
                self.connection_log.log_no_content(url);
                Ok(ConnectionEnd::Finished)
            }
            Ok(Opened::Stream(connection)) => {
                self.connection_log.log_connected(url, &self.resume);
                (self.failed_nodes, self.rejected_nodes) = (0, 0);
                let opened_at = Instant::now();
                let outcome = self.read_events(connection).await?;
                if opened_at.elapsed() >= STEADY_AFTER {
                    self.backoff.reset();
                    self.retry_budget.reset();
                }
                Ok(outcome)
            }
        }
    }

    async fn read_events(
        &mut self,
        mut connection: Connection,
    ) -> Result<ConnectionEnd, FollowError> {
        let mut decoder = Decoder::new(self.event_bytes_max);
        if self.comments {
            decoder = decoder.with_comments();
        }
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
            let taken = self.deliver_items(&mut decoder).await;
            // Whatever went wrong, the events before it are printed.
            self.delivery
                .flush(Some(self.resume.last_event_id()))
                .await?;
            if taken? {
                return Ok(ConnectionEnd::Finished);
            }
            pushed.map_err(|source| self.unreadable_error(source))?;
        }
    }

    /// Hands on what is whole. True after the last event that is wanted.
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
        self.delivery
            .printer
            .add_raw_up_to(decoder.complete_up_to());
        if self.delivery.printer.held_bytes() > self.event_bytes_max {
            // Comments within an event, for ever.
            return Err(self.unreadable_error(DecodeError::TooLarge(BlockTooLarge {
                bytes_max: self.event_bytes_max,
            })));
        }
        Ok(false)
    }

    /// The next node is asked at once if this one gave no stream, until all have been asked.
    fn next_wait(&mut self, error: &TransientError) -> Duration {
        if (1..self.nodes.len()).contains(&self.failed_nodes) {
            return Duration::ZERO;
        }
        self.failed_nodes = 0;
        if self.starting && !error.is_no_connection() {
            self.starting = false;
            self.backoff.reset();
        }
        let pace = if self.starting {
            Pace::STARTING
        } else {
            Pace::of_retry(self.resume.retry())
        };
        let wait = self.backoff.next_wait(pace, rand::random());
        wait.max(error.retry_after().min(ASKED_MAX))
    }

    fn unreadable_error(&self, source: DecodeError) -> FollowError {
        FollowError::Unreadable {
            url: self.node_url(),
            source,
        }
    }

    /// For people.
    fn node_url(&self) -> String {
        self.nodes[self.node].url.to_string()
    }
}

fn format_attempts(attempts: u64) -> String {
    if attempts == 1 {
        "1 attempt".to_owned()
    } else {
        format!("{attempts} attempts in a row")
    }
}

//! The loop: a connection after the other, each from where the last one stopped.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{
    connection::{self, Connection, Opened},
    delivery::{Delivery, DeliveryError},
    progress::Progress,
    reconnect::{ASKED_MAX, Backoff, Pace, Patience},
    request::{Request, id_header},
    resume::Resume,
    settings::Settings,
    stream::{DecodeError, Decoder},
    trouble::{Refusal, Trouble},
};

/// A stream that was open this long is a success, even if nothing came.
const STEADY_AFTER: Duration = Duration::from_secs(5);

/// Follows one stream over as many connections as it takes.
#[derive(Debug)]
pub struct Follower {
    /// For people.
    url: String,
    request: Request,
    resume: Resume,
    event_bytes_max: usize,
    backoff: Backoff,
    patience: Patience,
    /// No server has ever been reached.
    starting: bool,
    delivery: Delivery,
    progress: Progress,
}

/// What cannot be got over by trying again.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Signals cannot be waited for.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The HTTP client cannot be set up.
    #[error("cannot set up HTTP and TLS")]
    Client(#[source] reqwest::Error),
    /// An event cannot be recorded or printed.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The server's answer is final.
    #[error("cannot follow {url}")]
    Refused {
        /// What was asked.
        url: String,
        /// What it answered.
        source: Refusal,
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
    #[error("cannot follow {url}: {last}; gave up after {} (--max-retries)", in_a_row(*.attempts))]
    GaveUp {
        /// What was asked.
        url: String,
        /// How often, since it went well.
        attempts: u64,
        /// What came of the last attempt. Not the source: those of reqwest repeat the URL with its secrets.
        last: Trouble,
    },
}

/// How one connection went.
enum Outcome {
    /// There is nothing more to do.
    Done,
    /// It is to be followed by another one.
    Again(Trouble),
}

impl Follower {
    /// At the start, with the record file created and nothing sent yet.
    ///
    /// # Errors
    /// The record file, or TLS.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        Ok(Self {
            url: settings.url.to_string(),
            delivery: Delivery::new(settings).map_err(DeliveryError::from)?,
            request: Request::new(settings).map_err(Failure::Client)?,
            resume: Resume::after(settings.last_event_id.clone().unwrap_or_default()),
            event_bytes_max: settings.max_event_size,
            backoff: Backoff::default(),
            patience: Patience::of_retries(settings.max_retries),
            starting: true,
            progress: Progress::new(settings.url.clone(), settings.max_retries),
        })
    }

    /// Follows until it is done.
    ///
    /// # Errors
    /// What cannot be got over by trying again.
    pub async fn follow(&mut self) -> Result<(), Failure> {
        while let Outcome::Again(trouble) = self.connect().await? {
            if self.patience.fail() {
                let (url, attempts) = (self.url.clone(), self.patience.failures());
                return Err(Failure::GaveUp { url, attempts, last: trouble });
            }
            let wait = self.wait_after(&trouble);
            self.progress.trouble(&trouble, wait);
            sleep(wait).await;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<Outcome, Failure> {
        if id_header(self.resume.last_event_id()).is_none() {
            self.progress.unsendable_id();
        }
        let opened = connection::open(&self.request, self.resume.last_event_id()).await;
        match opened.map_err(|source| Failure::Refused { url: self.url.clone(), source })? {
            Opened::Trouble(trouble) => Ok(Outcome::Again(trouble)),
            Opened::NoContent => {
                self.progress.over();
                Ok(Outcome::Done)
            }
            Opened::Stream(connection) => {
                self.progress.connected(&self.resume);
                let opened_at = Instant::now();
                let outcome = self.read(connection).await?;
                if opened_at.elapsed() >= STEADY_AFTER {
                    self.succeeded();
                }
                Ok(outcome)
            }
        }
    }

    async fn read(&mut self, mut connection: Connection) -> Result<Outcome, Failure> {
        let mut decoder = Decoder::new(self.event_bytes_max);
        loop {
            let bytes = match connection.next_bytes().await {
                Ok(bytes) => bytes,
                Err(trouble) => return Ok(Outcome::Again(trouble)),
            };
            let pushed = decoder.push(&bytes);
            let taken = self.take_events(&mut decoder).await;
            // Whatever went wrong, the events before it are printed.
            self.delivery.flush().await?;
            if taken? {
                return Ok(Outcome::Done);
            }
            pushed.map_err(|source| self.unreadable(source))?;
        }
    }

    /// Hands on the events that are whole. True after the last one that is wanted.
    async fn take_events(&mut self, decoder: &mut Decoder) -> Result<bool, Failure> {
        while let Some(event) = decoder.next_event(&mut self.resume).map_err(|source| self.unreadable(source))? {
            self.succeeded();
            if self.delivery.take(&event).await?.is_break() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        self.patience.reset();
    }

    fn wait_after(&mut self, trouble: &Trouble) -> Duration {
        if self.starting && !trouble.is_no_connection() {
            self.starting = false;
            self.backoff.reset();
        }
        let pace = if self.starting { Pace::STARTING } else { Pace::of_retry(self.resume.retry()) };
        let wait = self.backoff.next_wait(pace, rand::random());
        wait.max(trouble.retry_after().min(ASKED_MAX))
    }

    fn unreadable(&self, source: DecodeError) -> Failure {
        Failure::Unreadable { url: self.url.clone(), source }
    }
}

fn in_a_row(attempts: u64) -> String {
    if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts in a row") }
}

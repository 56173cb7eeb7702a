//! Recorded events: NDJSON as `listener --format json` prints it, as `GET /events` returns it, or
//! as `POST /events` accepts it.
//!
//! A thread reads ahead by a few chunks, so that neither a large file nor a slow pipe delays the
//! handling of responses. If the queue is full, the thread waits. Keys other than `event` and
//! `data` are ignored. A string in `data` is sent as its text, any other value as its JSON.
//! Reserved types (`gap`, `open`, `error`, `end`, `notice`) cannot be published: such events are
//! skipped and counted. Comments are ignored.

mod line;
mod reader;
mod recording;

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    thread,
    time::Instant,
};

use tokio::sync::mpsc::{self, Receiver, error::TryRecvError};

pub(crate) use self::{
    line::AllowedTypes,
    recording::{Recording, ReplayError},
};
use self::{
    line::RecordedEvent,
    reader::{Chunk, Reader},
};
use super::event::NextEvent;

/// Highest number of chunks in the queue.
const CHUNKS_MAX: usize = 8;

/// The events of a recording, in order.
#[derive(Debug)]
pub(crate) struct Replay {
    chunks: Receiver<Result<Chunk, ReplayError>>,
    events: VecDeque<RecordedEvent>,
    error: Option<ReplayError>,
    /// When `events` were read.
    read: Instant,
    skipped: u64,
}

impl Replay {
    /// Starts to read.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub(crate) fn start(recording: Recording, types: AllowedTypes) -> Result<Self, ReplayError> {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let input: Box<dyn Read + Send> = match &recording {
            Recording::Stdin => Box::new(io::stdin()),
            Recording::File(path) => match File::open(path) {
                Ok(file) => Box::new(file),
                Err(source) => return Err(ReplayError::Open { recording, source }),
            },
        };
        // The thread ends with the recording, or when `chunks` is dropped. A read of stdin that
        // hangs ends with the process.
        thread::spawn(move || Reader::new(input, recording, types).send_all(&sender));
        Ok(Self {
            chunks,
            events: VecDeque::new(),
            error: None,
            read: Instant::now(),
            skipped: 0,
        })
    }

    pub(super) async fn ready(&mut self) -> Result<bool, ReplayError> {
        while self.events.is_empty() && self.error.is_none() {
            match self.chunks.recv().await {
                Some(chunk) => self.accept_chunk(chunk),
                None => return Ok(false),
            }
        }
        self.error.take().map_or(Ok(true), Err)
    }

    pub(super) fn is_ready(&mut self) -> bool {
        while self.events.is_empty() && self.error.is_none() {
            match self.chunks.try_recv() {
                Ok(chunk) => self.accept_chunk(chunk),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
            }
        }
        self.error.is_none()
    }

    pub(super) fn next_event(&mut self, data: &mut String) -> Option<NextEvent> {
        let recorded = self.events.pop_front()?;
        *data = recorded.data;
        Some(recorded.event)
    }

    /// Returns when the next event was read. It could not be sent earlier.
    pub(super) fn read_at(&self) -> Instant {
        self.read
    }

    /// Returns the number of events that were skipped because their types are reserved.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn accept_chunk(&mut self, chunk: Result<Chunk, ReplayError>) {
        match chunk {
            Ok(Chunk {
                events,
                read,
                skipped,
            }) => {
                self.events = events;
                self.read = read;
                self.skipped += skipped;
            }
            Err(error) => self.error = Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_replayed_to_its_end_in_chunks() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("{{\"event\":\"a\",\"data\":\"{}\"}}\n", "x".repeat(1000));
        std::fs::write(file.path(), line.repeat(1000)).unwrap();
        let mut replay = Replay::start(
            Recording::File(file.path().to_owned()),
            AllowedTypes::SseServer,
        )
        .unwrap();
        let (mut data, mut count) = (String::new(), 0);
        while replay.ready().await.unwrap() {
            assert!(replay.next_event(&mut data).is_some() && data.len() == 1000);
            count += 1;
        }
        assert_eq!((count, replay.is_ready()), (1000, false));
    }
}

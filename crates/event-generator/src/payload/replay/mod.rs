//! Recorded events, played again: NDJSON as `listener --format json` prints it, as `GET /events` gives it, or as it is
//! posted to `POST /events`.
//!
//! A thread reads ahead, at most a few chunks: neither a large file nor a slow pipe holds up the answers that are
//! waited for, and a full queue only makes the thread wait. Keys besides `event` and `data` are ignored. A string in
//! `data` stands for its text, any other value for its JSON. Events of the types that cannot be published (`gap`, `open`,
//! `error`), which a recording of a stream may well hold, are left out and counted; comments are no events.

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

/// Chunks that may wait.
const CHUNKS_MAX: usize = 8;

/// The events of a recording, in order.
#[derive(Debug)]
pub(crate) struct Replay {
    chunks: Receiver<Result<Chunk, ReplayError>>,
    events: VecDeque<RecordedEvent>,
    error: Option<ReplayError>,
    /// When the events at hand were read.
    read: Instant,
    skipped: u64,
}

impl Replay {
    /// Begins to read.
    ///
    /// # Errors
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
        // Ends when the recording does, or when nobody receives any more; a read of stdin that hangs ends with the process.
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

    /// The next event could not be sent before: it was not read yet.
    pub(crate) fn read_at(&self) -> Instant {
        self.read
    }

    /// How many events were left out because of their types.
    pub(crate) fn skipped(&self) -> u64 {
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
    async fn a_file_is_played_to_its_end_and_chunk_by_chunk() {
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

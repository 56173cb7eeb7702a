//! Recorded events, played again: NDJSON as `listener --format json` prints it, as `GET /events` gives it, or as it is
//! posted to `POST /events`.
//!
//! A thread reads ahead, at most a few chunks: neither a large file nor a slow pipe holds up the answers that are
//! waited for, and a full queue only makes the thread wait. Keys besides `event` and `data` are ignored. A string in
//! `data` stands for its text, any other value for its JSON. Events of the types that cannot be published (`gap`, `open`,
//! `error`), which a recording of a stream may well hold, are left out and counted.

use std::{
    borrow::Cow,
    collections::VecDeque,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::PathBuf,
    thread,
    time::Instant,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use sse_proto::{EventType, event::InvalidName, json};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TryRecvError};

use super::{Drawn, Form};

/// A longer line is refused: no event is that large.
const LINE_BYTES_MAX: usize = 16 << 20;
/// A chunk is handed over when it has as much as this, or when there is nothing more to read at the moment.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that may wait.
const CHUNKS_MAX: usize = 8;

/// Where a recording is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recording {
    /// `-` on the command line.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// The recording cannot be played, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("cannot open the recording {recording}")]
    Open { recording: Recording, source: io::Error },
    #[error("cannot read the recording {recording} after line {line}")]
    Read { recording: Recording, line: u64, source: io::Error },
    #[error("{recording}, line {line}: {why}")]
    Line { recording: Recording, line: u64, why: String },
}

/// The events of a recording, in order.
#[derive(Debug)]
pub(crate) struct Replay {
    chunks: Receiver<Result<Chunk, ReplayError>>,
    events: VecDeque<Recorded>,
    error: Option<ReplayError>,
    /// When the events at hand were read.
    read: Instant,
    skipped: u64,
}

#[derive(Debug)]
struct Chunk {
    events: VecDeque<Recorded>,
    read: Instant,
    skipped: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct Recorded {
    drawn: Drawn,
    data: String,
}

impl Replay {
    /// Begins to read.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn start(recording: Recording) -> Result<Self, ReplayError> {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let input: Box<dyn Read + Send> = match &recording {
            Recording::Stdin => Box::new(io::stdin()),
            Recording::File(path) => match File::open(path) {
                Ok(file) => Box::new(file),
                Err(source) => return Err(ReplayError::Open { recording, source }),
            },
        };
        // Ends when the recording does, or when nobody receives any more; a read of stdin that hangs ends with the process.
        thread::spawn(move || Reader::new(input, recording).send_all(&sender));
        Ok(Self { chunks, events: VecDeque::new(), error: None, read: Instant::now(), skipped: 0 })
    }

    pub(super) async fn ready(&mut self) -> Result<bool, ReplayError> {
        while self.events.is_empty() && self.error.is_none() {
            match self.chunks.recv().await {
                Some(chunk) => self.take(chunk),
                None => return Ok(false),
            }
        }
        self.error.take().map_or(Ok(true), Err)
    }

    pub(super) fn is_ready(&mut self) -> bool {
        while self.events.is_empty() && self.error.is_none() {
            match self.chunks.try_recv() {
                Ok(chunk) => self.take(chunk),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
            }
        }
        self.error.is_none()
    }

    pub(super) fn draw(&mut self, data: &mut String) -> Option<Drawn> {
        let recorded = self.events.pop_front()?;
        *data = recorded.data;
        Some(recorded.drawn)
    }

    /// The next event could not be sent before: it was not read yet.
    pub(crate) fn not_before(&self) -> Instant {
        self.read
    }

    /// How many events were left out because of their types.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    fn take(&mut self, chunk: Result<Chunk, ReplayError>) {
        match chunk {
            Ok(Chunk { events, read, skipped }) => {
                self.events = events;
                self.read = read;
                self.skipped += skipped;
            }
            Err(error) => self.error = Some(error),
        }
    }
}

/// Reads lines, on a thread of its own.
struct Reader<R> {
    input: BufReader<R>,
    recording: Recording,
    line: u64,
    text: Vec<u8>,
}

impl<R: Read> Reader<R> {
    fn new(input: R, recording: Recording) -> Self {
        Self { input: BufReader::with_capacity(CHUNK_BYTES, input), recording, line: 0, text: Vec::new() }
    }

    fn send_all(mut self, chunks: &Sender<Result<Chunk, ReplayError>>) {
        loop {
            let (chunk, end) = self.chunk();
            // What was read before a bad line is sent before the error is told.
            if (!chunk.events.is_empty() || chunk.skipped > 0) && chunks.blocking_send(Ok(chunk)).is_err() {
                return;
            }
            match end {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // Nobody receives any more when the run is over.
                    let _ = chunks.blocking_send(Err(error));
                    return;
                }
            }
        }
    }

    /// The next events, and whether there may be more.
    fn chunk(&mut self) -> (Chunk, Result<bool, ReplayError>) {
        let mut chunk = Chunk { events: VecDeque::new(), read: Instant::now(), skipped: 0 };
        let mut bytes = 0;
        let end = loop {
            match self.next_line() {
                Ok(false) => break Ok(false),
                Err(error) => break Err(error),
                Ok(true) => {}
            }
            bytes += self.text.len();
            match parse(&self.text) {
                Ok(Some(Parsed::Event(event))) => chunk.events.push_back(event),
                Ok(Some(Parsed::Reserved)) => chunk.skipped += 1,
                Ok(None) => {}
                Err(why) => break Err(self.bad_line(why)),
            }
            // The next line of a pipe may be long in coming: what is here already must not wait for it.
            if bytes >= CHUNK_BYTES || !self.input.buffer().contains(&b'\n') {
                break Ok(true);
            }
        };
        chunk.read = Instant::now();
        (chunk, end)
    }

    /// Reads a line, without its end; false at the end of the recording.
    fn next_line(&mut self) -> Result<bool, ReplayError> {
        self.text.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        match (&mut self.input).take(limit).read_until(b'\n', &mut self.text) {
            Ok(0) => return Ok(false),
            Ok(_) => self.line += 1,
            Err(source) => {
                return Err(ReplayError::Read { recording: self.recording.clone(), line: self.line, source });
            }
        }
        if self.text.len() > LINE_BYTES_MAX {
            return Err(self.bad_line(format!("longer than {LINE_BYTES_MAX} bytes, which no event is")));
        }
        Ok(true)
    }

    fn bad_line(&self, why: String) -> ReplayError {
        ReplayError::Line { recording: self.recording.clone(), line: self.line, why }
    }
}

enum Parsed {
    Event(Recorded),
    /// Of a type that cannot be published.
    Reserved,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The event of a line; none if it is blank. The error says what is wrong with it.
fn parse(line: &[u8]) -> Result<Option<Parsed>, String> {
    let text = str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        return Err(r#"an event is an object like {"event":"click","data":"x"}"#.to_owned());
    }
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| words(&error))?;
    let kind = match line.event.parse::<EventType>() {
        Ok(kind) => kind,
        Err(InvalidName::ReservedType) => return Ok(Some(Parsed::Reserved)),
        Err(why) => return Err(format!("event: {why}")),
    };
    let value = line.data.get();
    let (form, data) = if value.starts_with('"') {
        (Form::Text, serde_json::from_str(value).map_err(|error| format!("data: {}", words(&error)))?)
    } else {
        (Form::Json, json::without_white_space(&value.into()).to_string())
    };
    Ok(Some(Parsed::Event(Recorded { drawn: Drawn { kind, form }, data })))
}

/// What serde says, without its own idea of a line: it saw only this one.
fn words(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let what = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
    format!("{what} (column {})", error.column())
}

impl From<&str> for Recording {
    fn from(text: &str) -> Self {
        if text == "-" { Self::Stdin } else { Self::File(text.into()) }
    }
}

/// As messages name it.
impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("stdin"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, as type and data, and the error at the end if there is one.
    fn read(text: &[u8]) -> (Vec<(String, Form, String)>, u64, Option<String>) {
        let mut reader = Reader::new(text, Recording::Stdin);
        let (mut events, mut skipped) = (Vec::new(), 0);
        loop {
            let (chunk, end) = reader.chunk();
            skipped += chunk.skipped;
            let plain = |Recorded { drawn, data }| (Drawn::kind_text(&drawn), drawn.form, data);
            events.extend(chunk.events.into_iter().map(plain));
            match end {
                Ok(true) => {}
                Ok(false) => return (events, skipped, None),
                Err(error) => return (events, skipped, Some(error.to_string())),
            }
        }
    }

    impl Drawn {
        fn kind_text(&self) -> String {
            self.kind.to_string()
        }
    }

    #[test]
    fn lines_of_the_listener_of_history_and_of_a_batch_are_read() {
        let text = concat!(
            r#"{"id":"5-0","event":"view","data":"a\nb"}"#,
            "\r\n\n",
            r#"{"id":"5-1","event":"click","data":"{\"a\": 1}","time":"2026-11-24T00:00:00.000Z"}"#,
            "\n",
            r#"{"event":"b\"x","data":{"a": 1.0, "a":[1 , 2]},"more":[1]}"#,
            "\n",
            r#" {"data":null,"event":"c"}"#,
        );
        let events: Vec<_> = [
            ("view", Form::Text, "a\nb"),
            ("click", Form::Text, r#"{"a": 1}"#),
            ("b\"x", Form::Json, r#"{"a":1.0,"a":[1,2]}"#),
            ("c", Form::Json, "null"),
        ]
        .map(|(kind, form, data)| (kind.to_owned(), form, data.to_owned()))
        .into();
        assert_eq!(read(text.as_bytes()), (events, 0, None));
    }

    #[test]
    fn events_of_reserved_types_are_left_out() {
        let text = br#"{"event":"gap","data":"{}"}"#;
        assert_eq!(read(text), (vec![], 1, None));
    }

    #[test]
    fn a_bad_line_is_named_after_what_comes_before_it() {
        for bad in [
            &br#"{"event":"a"}"#[..],
            br#"{"data":1}"#,
            br#"{"event":"a/b","data":1}"#,
            br#"{"event":"a","data":"\ud800"}"#,
            br#"{"event":"a","data":1"#,
            br#"{"event":"a","data":1} x"#,
            b"data: 1",
            b"[]",
            b"\xff",
        ] {
            let text = [&b"{\"event\":\"a\",\"data\":1}\n\n"[..], bad, b"\n"].concat();
            let (events, _, error) = read(&text);
            assert_eq!(events.len(), 1, "{bad:?}");
            assert!(error.unwrap().starts_with("stdin, line 3: "), "{bad:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_before_it_fills_the_memory() {
        let mut reader = Reader::new(io::repeat(b'x'), Recording::Stdin);
        assert!(reader.chunk().1.unwrap_err().to_string().contains("line 1: longer than"));
    }

    #[tokio::test]
    async fn a_file_is_played_to_its_end_and_chunk_by_chunk() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = format!("{{\"event\":\"a\",\"data\":\"{}\"}}\n", "x".repeat(1000));
        std::fs::write(file.path(), line.repeat(1000)).unwrap();
        let mut replay = Replay::start(Recording::File(file.path().to_owned())).unwrap();
        let (mut data, mut count) = (String::new(), 0);
        while replay.ready().await.unwrap() {
            assert!(replay.draw(&mut data).is_some() && data.len() == 1000);
            count += 1;
        }
        assert_eq!((count, replay.is_ready()), (1000, false));
    }
}

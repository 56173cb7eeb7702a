//! Record files: read incrementally while they grow, and completely at the end.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use sse_proto::{
    Cursor, EventId,
    record::{Outcome, Received, Sent},
};

/// Bytes at the end of a file that are searched for its last lines.
const LAST_LINES_BYTES: u64 = 16 << 10;

/// Returns all lines of a record. An unfinished last line is skipped, because its writer was
/// stopped.
pub(crate) fn lines<T: DeserializeOwned>(
    path: &Path,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<T>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let path = path.to_owned();
    let whole = BufReader::new(file).split(b'\n');
    Ok(whole.map(move |line| {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        let not_json = || {
            format!(
                "{} has the line {:?}",
                path.display(),
                String::from_utf8_lossy(&line)
            )
        };
        serde_json::from_slice(&line).with_context(not_json)
    }))
}

/// Returns the last position in a listener's record.
pub(crate) fn last_position(path: &Path) -> Option<Cursor> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_LINES_BYTES)))
        .ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let (whole, _) = text.rsplit_once('\n')?;
    match serde_json::from_str(whole.rsplit('\n').next()?).ok()? {
        Received::Event { id, .. } | Received::Gap { id, .. } => id.parse().ok(),
    }
}

/// Progress of a publisher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    /// Responses that reject the publish.
    pub(crate) refused: u64,
    /// The highest acknowledged id.
    pub(crate) newest: EventId,
}

impl Known {
    /// Returns the number of publishes that were rejected or have an unknown outcome.
    pub(crate) const fn failed(&self) -> u64 {
        self.refused + self.unknown
    }
}

/// Reads the growing record of a publisher, and the status codes that the publisher prints.
#[derive(Debug)]
pub(crate) struct ReadAlong {
    record: Growing,
    statuses: Growing,
    known: Known,
}

impl ReadAlong {
    pub(crate) fn new(record: PathBuf, statuses: PathBuf) -> Self {
        Self {
            record: Growing::new(record),
            statuses: Growing::new(statuses),
            known: Known::default(),
        }
    }

    /// Reads new lines and returns the progress so far.
    pub(crate) fn look(&mut self) -> Known {
        for line in self.record.new_lines() {
            let Ok(sent) = serde_json::from_str::<Sent>(&line) else {
                continue;
            };
            match sent.outcome {
                Outcome::Acknowledged => self.known.acknowledged += 1,
                Outcome::Unknown => self.known.unknown += 1,
            }
            let id = sent.id.and_then(|id| id.parse().ok()).unwrap_or_default();
            self.known.newest = self.known.newest.max(id);
        }
        self.known.refused += self
            .statuses
            .new_lines()
            .iter()
            .filter(|line| *line != "200")
            .count() as u64;
        self.known
    }
}

/// A growing file.
#[derive(Debug)]
struct Growing {
    path: PathBuf,
    offset: u64,
    unfinished: Vec<u8>,
}

impl Growing {
    const fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            unfinished: Vec::new(),
        }
    }

    fn new_lines(&mut self) -> Vec<String> {
        let Ok(mut file) = File::open(&self.path) else {
            return Vec::new();
        };
        let mut bytes = std::mem::take(&mut self.unfinished);
        if file.seek(SeekFrom::Start(self.offset)).is_ok()
            && let Ok(count) = file.read_to_end(&mut bytes)
        {
            self.offset += count as u64;
        }
        let end = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |last| last + 1);
        self.unfinished = bytes.split_off(end);
        String::from_utf8_lossy(&bytes)
            .lines()
            .map(ToOwned::to_owned)
            .collect()
    }
}

//! Record files: read along while they grow, and read whole at the end.

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

/// From here on a line is read back from a file's end.
const LAST_LINES_BYTES: u64 = 16 << 10;

/// All lines of a record. An unfinished last one is left out: its writer was stopped there.
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

/// The last position in a listener's record.
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

/// What publishers know so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    /// Answers that refuse.
    pub(crate) refused: u64,
    /// The highest id.
    pub(crate) newest: EventId,
}

impl Known {
    /// Refused and unknown together.
    pub(crate) const fn failed(&self) -> u64 {
        self.refused + self.unknown
    }
}

/// Reads along with the record of a publisher, and with the status codes that it prints.
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

    /// What is known by now.
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

/// A file that grows.
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

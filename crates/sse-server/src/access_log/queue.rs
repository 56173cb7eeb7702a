//! The lines that wait for the writer.
//!
//! The queue is two buffers: threads fill one of them while the writer empties the other. A push
//! copies a line and allocates nothing once the buffers have grown. Only the first line of a batch
//! wakes the writer, which then waits for [`COLLECT`], so that a busy server wakes it rarely.

use std::{
    mem,
    ops::Range,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::line::{Line, cut};

/// Most bytes of queued lines.
pub(super) const QUEUE_BYTES_MAX: usize = 4 << 20;
/// Time for which the writer collects lines after the first one.
const COLLECT: Duration = Duration::from_millis(20);
/// Bytes that an empty buffer keeps for the next lines.
const SPARE_BYTES: usize = 64 << 10;

/// Queued lines, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The lines; their texts are ranges of `text`.
    lines: Vec<Line<Range<usize>>>,
    text: String,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn bytes(&self) -> usize {
        self.text.len() + self.lines.len() * size_of::<Line<Range<usize>>>()
    }

    fn push(&mut self, line: Line<&str>) {
        let text = &mut self.text;
        self.lines.push(line.map_texts(|part| {
            let start = text.len();
            text.push_str(cut(part));
            start..text.len()
        }));
    }

    /// The lines, in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<&str>> {
        let text = |range: Range<usize>| &self.text[range];
        self.lines
            .iter()
            .map(move |line| line.clone().map_texts(text))
    }

    /// Removes all lines, and frees most of the memory that a burst has taken.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.lines
            .shrink_to(SPARE_BYTES / size_of::<Line<Range<usize>>>());
        self.text.clear();
        self.text.shrink_to(SPARE_BYTES);
    }
}

/// Lines for the writer, from all threads.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The first line was added, or the queue was closed.
    filled: Condvar,
    /// The writer has ended.
    finished: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    is_closed: bool,
    is_finished: bool,
}

impl Queue {
    /// Adds a line. Returns `false` if the queue is full or closed.
    pub(super) fn push(&self, line: Line<&str>) -> bool {
        let mut state = self.lock();
        if state.is_closed || state.batch.bytes() >= QUEUE_BYTES_MAX {
            return false;
        }
        let was_empty = state.batch.is_empty();
        state.batch.push(line);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        true
    }

    /// Waits for lines, and exchanges them for `spare`, which is empty.
    ///
    /// Returns `None` if the queue is closed and empty.
    pub(super) fn take(&self, spare: Batch) -> Option<Batch> {
        let nothing_to_do = |state: &mut State| state.batch.is_empty() && !state.is_closed;
        let state = self.filled.wait_while(self.lock(), nothing_to_do);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let collecting = |state: &mut State| !state.is_closed;
        let state = self.filled.wait_timeout_while(state, COLLECT, collecting);
        let (mut state, _) = state.unwrap_or_else(PoisonError::into_inner);
        let batch = mem::replace(&mut state.batch, spare);
        (!batch.is_empty()).then_some(batch)
    }

    /// Reports that the writer has written everything and ends.
    pub(super) fn finish(&self) {
        self.lock().is_finished = true;
        self.finished.notify_all();
    }

    /// Refuses further lines, and waits up to `patience` for the end of the writer.
    pub(super) fn close(&self, patience: Duration) {
        let mut state = self.lock();
        state.is_closed = true;
        self.filled.notify_one();
        let is_running = |state: &mut State| !state.is_finished;
        // A writer that is blocked, by a pipe that is not read, ends with the process.
        drop(
            self.finished
                .wait_timeout_while(state, patience, is_running),
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A push that panics for lack of memory leaves texts without a line, which do no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What happened last: gaps, rejections, and streams that opened or ended, for the dashboard.
//!
//! The last [`KEPT`] gaps and rejections are kept in memory. Anyone can cause them, so the list is
//! lossy: at most [`RATE_MAX`] per second enter it, an entry is short, and a thread never waits for
//! another one. What is left out is counted. Streams are recorded only while a dashboard is open.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use serde::Serialize;

use super::Metrics;
use crate::epoch::milliseconds;

/// Gaps and rejections that are kept.
const KEPT: usize = 1000;
/// Entries of each list that one second may add.
const RATE_MAX: u32 = 50;
/// Streams that are kept for the next look of the dashboard.
const STREAMS_KEPT: usize = 200;
/// Characters of a text of an entry.
const TEXT_CHARS_MAX: usize = 120;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IncidentKind {
    /// A stream was sent a gap.
    Gap,
    /// A request or a stream was rejected.
    Rejection,
    /// A stream was opened.
    Opened,
    /// A stream has ended.
    Closed,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Incident {
    pub(crate) kind: IncidentKind,
    /// Milliseconds since the Unix epoch.
    pub(crate) time_ms: u64,
    /// A code or a reason of this server.
    pub(crate) reason: &'static str,
    /// Who caused it, if that is known. Untrusted text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<Box<str>>,
    /// What it was about. Untrusted text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<Box<str>>,
}

/// Who caused an incident, and what it was about.
#[derive(Debug, Default)]
pub(crate) struct Description {
    pub(crate) caller: Option<String>,
    pub(crate) detail: Option<String>,
}

/// The last incidents.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    problems: Mutex<List>,
    streams: Mutex<List>,
    /// Whether a dashboard is open.
    is_watched: AtomicBool,
    dropped: AtomicU64,
}

/// One list, oldest first.
#[derive(Debug, Default)]
struct List {
    entries: VecDeque<Incident>,
    /// Entries that were ever added.
    added: u64,
    /// The second of the last entry, and how many entries it has.
    second: (u64, u32),
}

impl List {
    /// Whether one more entry may be added now.
    const fn admits(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        self.second.1 <= RATE_MAX
    }

    fn push(&mut self, incident: Incident, kept: usize) {
        if self.entries.len() >= kept {
            self.entries.pop_front();
        }
        self.entries.push_back(incident);
        self.added += 1;
    }
}

impl Metrics {
    /// Returns what happened last.
    pub(crate) fn recent(&self) -> &Recent {
        &self.0.recent
    }
}

impl Recent {
    /// Records a gap or a rejection.
    pub(crate) fn problem(
        &self,
        kind: IncidentKind,
        reason: &'static str,
        describe: impl FnOnce() -> Description,
    ) {
        self.record(&self.problems, KEPT, kind, reason, describe);
    }

    /// Records that a stream opened or ended, if a dashboard is open.
    pub(crate) fn stream(
        &self,
        kind: IncidentKind,
        reason: &'static str,
        describe: impl FnOnce() -> Description,
    ) {
        if self.is_watched.load(Ordering::Relaxed) {
            self.record(&self.streams, STREAMS_KEPT, kind, reason, describe);
        }
    }

    fn record(
        &self,
        list: &Mutex<List>,
        kept: usize,
        kind: IncidentKind,
        reason: &'static str,
        describe: impl FnOnce() -> Description,
    ) {
        let now_ms = now_ms();
        // A busy list is as good as a full one.
        let list = list.try_lock().ok();
        let Some(mut list) = list.and_then(|mut list| list.admits(now_ms).then_some(list)) else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let Description { caller, detail } = describe();
        let incident = Incident {
            kind,
            time_ms: now_ms,
            reason,
            caller: caller.map(shortened),
            detail: detail.map(shortened),
        };
        list.push(incident, kept);
    }

    /// Returns the gaps and rejections after the first `seen`, and how many there were so far.
    pub(crate) fn problems_after(&self, seen: u64) -> (Vec<Incident>, u64) {
        let Ok(list) = self.problems.lock() else {
            return (Vec::new(), seen);
        };
        let new = usize::try_from(list.added.saturating_sub(seen)).unwrap_or(usize::MAX);
        let skipped = list.entries.len().saturating_sub(new);
        let entries = list.entries.iter().skip(skipped).cloned();
        (entries.collect(), list.added)
    }

    /// Returns the streams that opened or ended since the last call.
    pub(crate) fn take_streams(&self) -> Vec<Incident> {
        let taken = self
            .streams
            .lock()
            .map(|mut list| list.entries.split_off(0));
        taken.map(Vec::from).unwrap_or_default()
    }

    /// Sets whether a dashboard is open.
    pub(crate) fn set_watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }

    /// Returns how many incidents were left out of the lists.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn shortened(text: String) -> Box<str> {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

fn now_ms() -> u64 {
    milliseconds(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(text: &str) -> impl FnOnce() -> Description {
        let detail = Some(text.to_owned());
        move || Description {
            caller: None,
            detail,
        }
    }

    #[test]
    fn the_list_is_limited_per_second_and_counts_what_it_leaves_out() {
        let recent = Recent::default();
        for _ in 0..3 * RATE_MAX {
            recent.problem(IncidentKind::Rejection, "busy", detail("x"));
        }
        let (entries, added) = recent.problems_after(0);
        // A second may end meanwhile.
        assert!(entries.len() >= RATE_MAX as usize && added == entries.len() as u64);
        assert_eq!(recent.dropped() + added, u64::from(3 * RATE_MAX));
        recent.problems.lock().unwrap().second = (0, 0);
        recent.problem(IncidentKind::Gap, "trimmed", detail("y"));
        let (entries, _) = recent.problems_after(added);
        assert_eq!((entries.len(), entries[0].reason), (1, "trimmed"));
    }

    #[test]
    fn only_the_newest_entries_are_kept() {
        let recent = Recent::default();
        for number in 0..2 * KEPT {
            recent.problems.lock().unwrap().second = (0, 0);
            recent.problem(IncidentKind::Gap, "trimmed", detail(&number.to_string()));
        }
        let (entries, added) = recent.problems_after(0);
        assert_eq!((entries.len(), added), (KEPT, 2 * KEPT as u64));
        assert_eq!(entries[0].detail.as_deref(), Some(&*KEPT.to_string()));
    }

    #[test]
    fn streams_are_recorded_only_while_somebody_looks() {
        let recent = Recent::default();
        recent.stream(IncidentKind::Opened, "opened", detail("unseen"));
        recent.set_watched(true);
        recent.stream(IncidentKind::Closed, "client", detail(&"ä".repeat(500)));
        let streams = recent.take_streams();
        assert_eq!(streams.len(), 1);
        let text = streams[0].detail.as_deref().unwrap();
        assert_eq!(text.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(recent.take_streams().is_empty());
    }
}

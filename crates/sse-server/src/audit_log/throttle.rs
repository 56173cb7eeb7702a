//! Counts rejections that are alike, so that a flood of them takes neither the disk nor the queue.
//!
//! Rejections are alike if they have the same client, caller, action and result. The first one has
//! a line at once. Those of the next [`INTERVAL`] share one line, which has the contents of the last
//! of them and their count. So the sum of all counts is the number of rejections.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::record::AuditRecord;
use crate::budget::ClientNet;

/// Time in which equal rejections share a line.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// Kinds of rejections that are distinguished. Beyond, clients and callers are not.
pub(super) const KINDS_MAX: usize = 1024;

/// Rejections of one kind share a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    client: Option<ClientNet>,
    caller: Option<u64>,
    action: &'static str,
    result: &'static str,
}

/// Rejections since the last line of their kind.
struct Counted {
    since: Instant,
    count: u64,
    /// `None` if there was none.
    last: Option<AuditRecord>,
}

/// The rejections of the last seconds.
#[derive(Default)]
pub(super) struct RejectionThrottle(Mutex<HashMap<Kind, Counted>>);

impl RejectionThrottle {
    /// Returns a record that has a line of its own. Counts any other one.
    pub(super) fn admit(&self, record: AuditRecord, now: Instant) -> Option<AuditRecord> {
        if !record.is_rejection() {
            return Some(record);
        }
        let mut kind = Kind {
            client: record.address.map(ClientNet::from),
            caller: record.caller,
            action: record.action,
            result: record.result,
        };
        let mut kinds = self.lock();
        if kinds.len() >= KINDS_MAX && !kinds.contains_key(&kind) {
            // Actions and results are few, so this adds only a few kinds more.
            (kind.client, kind.caller) = (None, None);
        }
        if let Some(counted) = kinds.get_mut(&kind) {
            counted.count += 1;
            counted.last = Some(record);
            return None;
        }
        let counted = Counted {
            since: now,
            count: 0,
            last: None,
        };
        kinds.insert(kind, counted);
        Some(record)
    }

    /// Returns the lines of the kinds whose time is over. A kind without a further rejection is
    /// forgotten.
    pub(super) fn take_due(&self, now: Instant) -> Vec<Box<[u8]>> {
        let mut lines = Vec::new();
        self.lock().retain(|_, counted| {
            if now.saturating_duration_since(counted.since) < INTERVAL {
                return true;
            }
            let line = counted.take_line();
            counted.since = now;
            let has_line = line.is_some();
            lines.extend(line);
            has_line
        });
        lines
    }

    /// Returns the lines of all kinds, and forgets them.
    pub(super) fn take_all(&self) -> Vec<Box<[u8]>> {
        let mut kinds = mem::take(&mut *self.lock());
        let lines = kinds.values_mut().filter_map(Counted::take_line);
        lines.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Counted>> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn take_line(&mut self) -> Option<Box<[u8]>> {
        let count = mem::take(&mut self.count);
        Some(self.last.take()?.to_line(count))
    }
}

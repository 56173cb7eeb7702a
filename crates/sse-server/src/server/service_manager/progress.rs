//! The parts without which the server only seems to work, and how far each has come.
//!
//! Each part counts what it does: a worker the questions that it answered, a fan-out thread its
//! rounds, the writer of the log its batches. A part that has nothing to do is woken, so that it
//! counts too. A part whose count stays the same is stuck.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    broker::{Broker, embedded::WriterProgress},
    fanout::thread::Fanout,
};

/// The parts of a server.
#[derive(Debug)]
pub(in crate::server) struct Parts {
    pub(in crate::server) broker: Broker,
    pub(in crate::server) fanout: Option<Fanout>,
    pub(in crate::server) workers: WorkerRegistry,
}

/// The count of each part at a moment, by its name.
pub(super) type Counts = HashMap<String, u64>;

impl Parts {
    /// Gives each part something to count.
    pub(super) fn wake(&self) {
        if let Broker::Embedded(log) = &self.broker {
            log.wake_writer();
        }
        if let Some(fanout) = &self.fanout {
            fanout.wake();
        }
        self.workers.ask();
    }

    /// Returns the counts. A part that is known to need long has none.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.workers.counts();
        if let Broker::Embedded(log) = &self.broker
            && let WriterProgress::Batches(count) = log.writer_progress()
        {
            counts.insert("the writer of the log".to_owned(), count);
        }
        if let Some(fanout) = &self.fanout {
            for (number, rounds) in fanout.rounds().into_iter().enumerate() {
                counts.insert(format!("fan-out thread {number}"), rounds);
            }
        }
        counts
    }
}

/// Returns the parts that have the same count in both, sorted.
pub(super) fn stuck_parts(before: &Counts, after: &Counts) -> Vec<String> {
    let is_stuck = |(part, count): &(&String, &u64)| before.get(*part) == Some(*count);
    let mut stuck: Vec<_> = after.iter().filter(is_stuck).collect();
    stuck.sort();
    stuck.into_iter().map(|(part, _)| part.clone()).collect()
}

/// The threads that serve HTTP; clones share the list.
#[derive(Debug, Clone)]
pub(in crate::server) struct WorkerRegistry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    questions: watch::Sender<()>,
    entries: Mutex<Vec<WorkerEntry>>,
    /// Entries that were ever added. A worker that restarts is another one.
    added: AtomicU64,
}

/// What one worker has answered, until it ends.
#[derive(Debug)]
struct WorkerEntry {
    name: String,
    count: Weak<AtomicU64>,
}

impl Default for WorkerRegistry {
    fn default() -> Self {
        Self(Arc::new(Inner {
            questions: watch::Sender::new(()),
            entries: Mutex::default(),
            added: AtomicU64::new(0),
        }))
    }
}

impl WorkerRegistry {
    /// Adds the current thread, which is a worker, and answers for it from now on.
    ///
    /// A worker has an entry per listener.
    pub(in crate::server) fn add_current(&self) {
        let count = Arc::new(AtomicU64::new(0));
        let number = self.0.added.fetch_add(1, Ordering::Relaxed);
        self.lock().push(WorkerEntry {
            name: format!("worker {number}"),
            count: Arc::downgrade(&count),
        });
        let mut questions = self.0.questions.subscribe();
        // The task ends with the runtime of the worker, and the count with the task.
        actix_web::rt::spawn(async move {
            while questions.changed().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    fn ask(&self) {
        self.0.questions.send_replace(());
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        self.lock().retain(|entry| {
            let count = entry.count.upgrade();
            if let Some(count) = &count {
                counts.insert(entry.name.clone(), count.load(Ordering::Relaxed));
            }
            count.is_some()
        });
        counts
    }

    fn lock(&self) -> MutexGuard<'_, Vec<WorkerEntry>> {
        // Every statement that changes the list leaves it valid.
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        let counts = counts.iter();
        counts
            .map(|(part, count)| ((*part).to_owned(), *count))
            .collect()
    }

    #[test]
    fn a_part_is_stuck_if_its_count_stays_the_same() {
        let before = counts(&[("a", 1), ("b", 1), ("gone", 1)]);
        assert_eq!(
            stuck_parts(&before, &counts(&[("a", 2), ("b", 2)])),
            [""; 0]
        );
        assert_eq!(
            stuck_parts(&before, &counts(&[("b", 1), ("a", 1)])),
            ["a", "b"]
        );
        // A part that is new, or that restarted, was not asked yet.
        assert_eq!(
            stuck_parts(&before, &counts(&[("a", 0), ("new", 1)])),
            [""; 0]
        );
    }

    #[tokio::test]
    async fn a_worker_counts_its_answers_until_it_ends() {
        let workers = WorkerRegistry::default();
        let local = tokio::task::LocalSet::new();
        local.run_until(async { workers.add_current() }).await;
        let before = workers.counts();
        assert_eq!(before.len(), 1);
        workers.ask();
        assert_eq!(stuck_parts(&before, &workers.counts()).len(), 1);
        local.run_until(tokio::task::yield_now()).await;
        local.run_until(tokio::task::yield_now()).await;
        assert_eq!(stuck_parts(&before, &workers.counts()), [""; 0]);
        drop(local);
        assert!(workers.counts().is_empty());
    }
}

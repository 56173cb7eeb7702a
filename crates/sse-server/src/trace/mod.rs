//! Traces: what one channel, one principal or one address does, while an operator looks.
//!
//! A [`Traces`] has the open traces of a node. Requests and streams report to it what happens, and
//! each open trace whose [`Subject`] matches gets an entry. Without an open trace a report costs one
//! load of an atomic number. An entry contains no data of an event.
//!
//! A trace is lossy: at most `RATE_MAX` entries per second, and `ENTRIES_MAX` that wait for its
//! client. What is left out is counted. No thread waits for the client of a trace.
//!
//! | file | contents |
//! |---|---|
//! | `subject` | what is traced |
//! | `entry` | what happened, as JSON |

mod entry;
mod subject;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use sse_proto::Channel;
use tokio::sync::mpsc;

pub use self::{entry::Happening, subject::Subject};
use crate::{access::Identity, epoch::milliseconds};

/// Entries that wait for the client of a trace.
const ENTRIES_MAX: usize = 500;
/// Entries that one second adds to a trace.
const RATE_MAX: u32 = 200;

/// The open traces of a node; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Traces(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The length of the list, which is read without its lock.
    open: AtomicUsize,
    list: RwLock<Vec<Arc<Sink>>>,
}

/// Where the entries of one trace go.
#[derive(Debug)]
struct Sink {
    subject: Subject,
    entries: mpsc::Sender<String>,
    dropped: AtomicU64,
    /// The second of the last entry, and how many entries it has.
    second: Mutex<(u64, u32)>,
}

/// One open trace. It is closed on drop.
#[derive(Debug)]
pub struct OpenTrace {
    traces: Traces,
    sink: Arc<Sink>,
    /// The entries, each as JSON.
    pub entries: mpsc::Receiver<String>,
}

/// Who does something.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// The address of the client; `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// `None` if the caller is not known.
    pub identity: Option<&'a Identity>,
    /// The channels that it names.
    pub channels: &'a [Channel],
}

/// Reports what one client does. A request that arrives during a trace has one.
#[derive(Debug, Clone)]
pub struct Tracer {
    traces: Traces,
    address: Option<IpAddr>,
    identity: Arc<Identity>,
}

/// Reports what happens to one stream.
#[derive(Debug)]
pub struct TracedStream {
    tracer: Tracer,
    channels: Vec<Channel>,
}

impl Traces {
    /// Whether a trace is open.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > 0
    }

    /// Opens a trace. The caller limits how many are open.
    #[must_use]
    pub fn open(&self, subject: Subject) -> OpenTrace {
        let mut list = self.0.list.write().unwrap_or_else(PoisonError::into_inner);
        let (sender, entries) = mpsc::channel(ENTRIES_MAX);
        let sink = Arc::new(Sink {
            subject,
            entries: sender,
            dropped: AtomicU64::new(0),
            second: Mutex::default(),
        });
        list.push(sink.clone());
        self.0.open.store(list.len(), Ordering::Relaxed);
        drop(list);
        OpenTrace {
            traces: self.clone(),
            sink,
            entries,
        }
    }

    /// Reports what `actor` did to the traces that it belongs to.
    pub fn record(&self, actor: &Actor<'_>, happening: &Happening<'_>) {
        if !self.is_active() {
            return;
        }
        let now_ms = milliseconds(SystemTime::now());
        let list = self.0.list.read().unwrap_or_else(PoisonError::into_inner);
        for sink in list.iter().filter(|sink| sink.subject.matches(actor)) {
            sink.send(now_ms, || entry::to_json(now_ms, actor, happening));
        }
    }
}

impl Sink {
    fn send(&self, now_ms: u64, entry: impl FnOnce() -> String) {
        let place = self.admits(now_ms).then(|| self.entries.try_reserve().ok());
        match place.flatten() {
            Some(place) => place.send(entry()),
            None => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether this second may have one more entry.
    fn admits(&self, now_ms: u64) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.0 != now_ms / 1000 {
            *second = (now_ms / 1000, 0);
        }
        second.1 = second.1.saturating_add(1);
        second.1 <= RATE_MAX
    }
}

impl OpenTrace {
    /// Returns how many entries were left out.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.sink.dropped.load(Ordering::Relaxed)
    }

    /// Whether something that `actor` does belongs to the trace.
    #[must_use]
    pub fn matches(&self, actor: &Actor<'_>) -> bool {
        self.sink.subject.matches(actor)
    }
}

impl Drop for OpenTrace {
    fn drop(&mut self) {
        let shared = &self.traces.0;
        let mut list = shared.list.write().unwrap_or_else(PoisonError::into_inner);
        list.retain(|sink| !Arc::ptr_eq(sink, &self.sink));
        shared.open.store(list.len(), Ordering::Relaxed);
    }
}

impl Tracer {
    /// Creates the tracer of a client.
    #[must_use]
    pub const fn new(traces: Traces, address: Option<IpAddr>, identity: Arc<Identity>) -> Self {
        Self {
            traces,
            address,
            identity,
        }
    }

    /// Reports what the client did with `channels`.
    pub fn record(&self, channels: &[Channel], happening: &Happening<'_>) {
        let actor = Actor {
            address: self.address,
            identity: Some(&self.identity),
            channels,
        };
        self.traces.record(&actor, happening);
    }

    /// Returns what reports about a stream of these channels.
    #[must_use]
    pub const fn of_stream(self, channels: Vec<Channel>) -> TracedStream {
        TracedStream {
            tracer: self,
            channels,
        }
    }
}

impl TracedStream {
    /// Reports what happened to the stream.
    pub fn record(&self, happening: &Happening<'_>) {
        self.tracer.record(&self.channels, happening);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        name.parse().unwrap()
    }

    fn gap(traces: &Traces, channels: &[Channel], address: &str) {
        let actor = Actor {
            address: address.parse().ok(),
            identity: None,
            channels,
        };
        traces.record(&actor, &Happening::Gap { reason: "trimmed" });
    }

    #[test]
    fn a_trace_gets_what_belongs_to_its_subject() {
        let traces = Traces::default();
        assert!(!traces.is_active());
        let mut of_channel = traces.open(Subject::Channel(channel("a")));
        let address = "192.0.2.1".parse().unwrap();
        let mut of_address = traces.open(Subject::Address(address));
        gap(&traces, &[channel("b"), channel("a")], "192.0.2.2");
        gap(&traces, &[channel("b")], "::ffff:192.0.2.1");
        let entry = of_channel.entries.try_recv().unwrap();
        assert!(
            entry.contains(r#""channels":["b","a"],"address":"192.0.2.2""#),
            "{entry}"
        );
        assert!(
            entry.ends_with(r#""kind":"gap","reason":"trimmed"}"#),
            "{entry}"
        );
        assert!(of_channel.entries.try_recv().is_err());
        assert!(
            of_address
                .entries
                .try_recv()
                .unwrap()
                .contains(r#""192.0.2.1""#)
        );
        assert!(of_address.entries.try_recv().is_err());
        drop((of_channel, of_address));
        assert!(!traces.is_active());
    }

    #[test]
    fn a_trace_counts_what_it_leaves_out() {
        let traces = Traces::default();
        let trace = traces.open(Subject::Channel(channel("a")));
        for _ in 0..3 * ENTRIES_MAX {
            gap(&traces, &[channel("a")], "192.0.2.1");
        }
        let kept = trace.entries.len();
        assert!((RATE_MAX as usize..=ENTRIES_MAX).contains(&kept), "{kept}");
        assert_eq!(trace.dropped() + kept as u64, 3 * ENTRIES_MAX as u64);
    }
}

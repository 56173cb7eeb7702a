//! What one node has received in a channel of Flask-SSE and has not seen in the log.
//!
//! The queue gives each message its identity: the last marker before it, and how many messages came
//! since. Redis delivers messages and markers in one order, so every node that received a message
//! gives it the same identity:
//!
//! ```text
//! received   marker a   x   y   marker b   z
//! identity              a·1 a·2            b·1
//! ```
//!
//! A connection begins with a marker of its own, which Redis delivers before any message.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::wire::Payload;

/// Longest text of a marker.
const MARKER_BYTES_MAX: usize = 64;
/// Messages and bytes of one append.
const BATCH_MESSAGES_MAX: usize = 200;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What a message counts in addition to its text.
const MESSAGE_OVERHEAD: usize = 128;

/// A marker: a text that no node publishes twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Marker(Arc<str>);

impl Marker {
    /// Parses what was published in a channel of markers; returns `None` if no node did that.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_marker =
            (1..=MARKER_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_allowed);
        is_marker.then(|| Self(text.into()))
    }

    /// The marker with this number of a node.
    pub(super) fn numbered(node: &str, number: u64) -> Self {
        Self(format!("{node}-{number}").into())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A received message.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) marker: Marker,
    /// Messages of the channel since the marker, this one included.
    pub(super) count: u64,
    pub(super) at: Instant,
    pub(super) payload: Payload,
}

impl Received {
    fn size(&self) -> usize {
        let text = match &self.payload {
            Payload::Text(text) => text.len(),
            Payload::TooLarge => 0,
        };
        text + MESSAGE_OVERHEAD
    }
}

/// How much a queue holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueSize {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// When the oldest message was received.
    pub(super) oldest: Option<Instant>,
}

/// The queue of one channel.
#[derive(Debug)]
pub(super) struct Queue {
    messages: VecDeque<Received>,
    bytes: usize,
    bytes_max: usize,
    marker: Marker,
    /// Messages since the marker.
    count: u64,
}

impl Queue {
    /// An empty queue of at most `bytes_max` bytes.
    pub(super) const fn new(bytes_max: usize, marker: Marker) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            bytes_max,
            marker,
            count: 0,
        }
    }

    /// The messages that follow count from `marker` on.
    pub(super) fn set_marker(&mut self, marker: Marker) {
        self.marker = marker;
        self.count = 0;
    }

    /// Messages since the last marker.
    pub(super) const fn count_since_marker(&self) -> u64 {
        self.count
    }

    /// Adds a message; returns how many older messages were dropped to make room.
    pub(super) fn push(&mut self, payload: Payload, now: Instant) -> usize {
        self.count += 1;
        let message = Received {
            marker: self.marker.clone(),
            count: self.count,
            at: now,
            payload,
        };
        self.bytes += message.size();
        self.messages.push_back(message);
        let mut dropped = 0;
        // The newest message stays, whatever its size.
        while self.bytes > self.bytes_max && self.messages.len() > 1 {
            self.pop_front();
            dropped += 1;
        }
        dropped
    }

    /// Returns the oldest messages that one append can contain. They have the same marker.
    pub(super) fn oldest_batch(&self) -> Vec<Received> {
        let Some(first) = self.messages.front() else {
            return Vec::new();
        };
        let mut bytes = 0;
        let fits = |message: &&Received| {
            bytes += message.size();
            message.marker == first.marker
                && (message.count == first.count || bytes <= BATCH_BYTES_MAX)
        };
        let messages = self.messages.iter().take(BATCH_MESSAGES_MAX);
        messages.take_while(fits).cloned().collect()
    }

    /// Removes the messages of `marker` up to `count`, which are in the log.
    pub(super) fn remove_done(&mut self, marker: &Marker, count: u64) {
        self.messages
            .retain(|message| message.marker != *marker || message.count > count);
        self.bytes = self.messages.iter().map(Received::size).sum();
    }

    /// Removes messages that were received before `oldest`; returns how many.
    pub(super) fn remove_expired(&mut self, oldest: Instant) -> usize {
        let mut removed = 0;
        while self
            .messages
            .front()
            .is_some_and(|message| message.at < oldest)
        {
            self.pop_front();
            removed += 1;
        }
        removed
    }

    /// Returns up to `count_max` markers of the messages, the oldest first.
    pub(super) fn markers(&self, count_max: usize) -> Vec<Marker> {
        let mut markers: Vec<Marker> = Vec::new();
        for message in &self.messages {
            if markers.last() != Some(&message.marker) {
                if markers.len() == count_max {
                    break;
                }
                markers.push(message.marker.clone());
            }
        }
        markers
    }

    pub(super) fn size(&self) -> QueueSize {
        QueueSize {
            messages: self.messages.len(),
            bytes: self.bytes,
            oldest: self.messages.front().map(|message| message.at),
        }
    }

    /// Whether more than half of the room is used.
    pub(super) const fn is_filling(&self) -> bool {
        self.bytes > self.bytes_max / 2
    }

    fn pop_front(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.bytes -= message.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn marker(text: &str) -> Marker {
        Marker::parse(text.as_bytes()).unwrap()
    }

    fn queue(bytes_max: usize) -> Queue {
        Queue::new(bytes_max, marker("a"))
    }

    fn push(queue: &mut Queue, bytes: usize) -> usize {
        let text = Payload::Text(Bytes::from(vec![b'x'; bytes]));
        queue.push(text, Instant::now())
    }

    fn identities(messages: &[Received]) -> Vec<String> {
        let identity = |message: &Received| format!("{}{}", message.marker.as_str(), message.count);
        messages.iter().map(identity).collect()
    }

    #[test]
    fn a_message_is_identified_by_the_last_marker_and_the_count_since() {
        let mut queue = queue(10_000);
        push(&mut queue, 1);
        push(&mut queue, 1);
        queue.set_marker(marker("b"));
        push(&mut queue, 1);
        assert_eq!(identities(&queue.oldest_batch()), ["a1", "a2"]);
        assert_eq!(queue.markers(9), [marker("a"), marker("b")]);
        assert_eq!(queue.markers(1), [marker("a")]);
        queue.remove_done(&marker("a"), 1);
        assert_eq!(identities(&queue.oldest_batch()), ["a2"]);
        queue.remove_done(&marker("b"), 5);
        queue.remove_done(&marker("a"), 2);
        assert!(queue.oldest_batch().is_empty());
        assert_eq!((queue.size().messages, queue.size().bytes), (0, 0));
    }

    #[test]
    fn a_full_queue_drops_the_oldest_messages() {
        let mut queue = queue(3 * (MESSAGE_OVERHEAD + 10));
        let dropped: Vec<usize> = (0..5).map(|_| push(&mut queue, 10)).collect();
        assert_eq!(dropped, [0, 0, 0, 1, 1]);
        assert_eq!(identities(&queue.oldest_batch()), ["a3", "a4", "a5"]);
        // A message that is larger than the queue is the only one.
        assert_eq!(push(&mut queue, 100_000), 3);
        assert_eq!(identities(&queue.oldest_batch()), ["a6"]);
    }

    #[test]
    fn a_batch_has_a_limit_of_messages_and_bytes() {
        let mut queue = queue(usize::MAX);
        for _ in 0..300 {
            push(&mut queue, 1);
        }
        assert_eq!(queue.oldest_batch().len(), BATCH_MESSAGES_MAX);
        queue.remove_done(&marker("a"), 300);
        for _ in 0..3 {
            push(&mut queue, BATCH_BYTES_MAX / 2);
        }
        assert_eq!(queue.oldest_batch().len(), 1);
    }

    #[test]
    fn messages_expire_by_the_time_at_which_they_were_received() {
        let mut queue = queue(10_000);
        let start = Instant::now();
        for second in 0..3 {
            queue.push(Payload::TooLarge, start + Duration::from_secs(second));
        }
        assert_eq!(queue.remove_expired(start + Duration::from_secs(1)), 1);
        assert_eq!(identities(&queue.oldest_batch()), ["a2", "a3"]);
    }

    #[test]
    fn a_text_that_no_node_publishes_is_no_marker() {
        for bad in [&b""[..], b"a b", b"\xff", &[b'a'; 65]] {
            assert_eq!(Marker::parse(bad), None);
        }
    }
}

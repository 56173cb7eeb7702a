//! The end of a connection, and when to connect again.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::state::Engine;
use crate::{
    follow::{
        error_message,
        retry_pace::{ASKED_MAX, Pace},
    },
    load::{
        connection::{CloseReason, IoOutcome, Phase, StreamEnd},
        response::Rejection,
        stats::{Stats, increment},
    },
};

/// A stream that was open this long is a success; the next failure counts as the first one.
const SUCCESS_AFTER: Duration = Duration::from_secs(5);

/// What follows the end of a connection.
#[derive(Debug, PartialEq, Eq)]
enum NextStep {
    /// The connection is made again, after at least this time.
    Reconnect { wait_min: Duration },
    /// The connection is not made again.
    Stop,
}

const RECONNECT: NextStep = NextStep::Reconnect {
    wait_min: Duration::ZERO,
};

impl Engine<'_> {
    /// Continues after a turn of a connection.
    pub(super) fn after_turn(&mut self, outcome: IoOutcome, index: u32, now: Instant) {
        match outcome {
            IoOutcome::Wait => {}
            IoOutcome::ReadAgain => self.unread.push(index),
            IoOutcome::Close(reason) => self.close_connection(index, reason, now),
        }
        let connection = &mut self.connections[index as usize];
        if connection.in_handshake && !connection.awaits_response() {
            self.handshakes.end_handshake(connection);
        }
    }

    /// Closes a connection, counts its end, and schedules the next connect if there is one.
    pub(super) fn close_connection(&mut self, index: u32, reason: CloseReason, now: Instant) {
        let had_stream = self.note_end(index, now);
        match count_close(&mut self.collector.stats, reason, had_stream) {
            NextStep::Stop => {
                let connection = &mut self.connections[index as usize];
                connection.close(Phase::Done);
                self.counts.done += 1;
            }
            NextStep::Reconnect { wait_min } => {
                let connection = &mut self.connections[index as usize];
                connection.close(Phase::Waiting);
                let wait = self.next_wait(index, had_stream, now).max(wait_min);
                self.connects.reconnects.push(now + wait, index);
            }
        }
    }

    /// Notes that a connection has ended, and returns whether it had a stream.
    ///
    /// A connection without a stream uses the next node for its next attempt.
    fn note_end(&mut self, index: u32, now: Instant) -> bool {
        let connection = &mut self.connections[index as usize];
        let had_stream = connection.has_stream();
        let is_first_failure = !connection.was_tried && connection.first_opened.is_none();
        self.counts.closed_streams += u64::from(had_stream);
        self.counts.failed_first += u32::from(is_first_failure);
        if had_stream {
            connection.lost_stream = Some((now, StreamEnd::Ended));
        } else {
            connection.node_offset = connection.node_offset.wrapping_add(1);
        }
        had_stream
    }

    /// The wait of the listener, and up to half of it longer, so that connections that were cut
    /// together do not all come back at the same time.
    fn next_wait(&mut self, index: u32, had_stream: bool, now: Instant) -> Duration {
        let (chance, longer): (f64, f64) = (self.rng.random(), self.rng.random());
        let connection = self.connection(index);
        let pace = match connection.first_opened {
            None => Pace::STARTING,
            Some(_) => Pace::from_retry(connection.reader.retry_ms().map(Duration::from_millis)),
        };
        let was_open = now.saturating_duration_since(connection.last_opened);
        if had_stream && was_open >= SUCCESS_AFTER {
            connection.failures = 0;
        }
        let wait = pace.wait(connection.failures, chance);
        connection.failures = connection.failures.saturating_add(1);
        wait.mul_f64(1.0 + longer / 2.0)
    }
}

/// Counts the end of a connection, and returns what follows.
fn count_close(stats: &mut Stats, reason: CloseReason, had_stream: bool) -> NextStep {
    match reason {
        CloseReason::Enough => return NextStep::Stop,
        CloseReason::NoContent => {
            stats.connects.no_content += 1;
            return NextStep::Stop;
        }
        CloseReason::Rejected(rejection, body) => return count_rejection(stats, rejection, &body),
        CloseReason::Ended => stats.ends.by_server += u64::from(had_stream),
        CloseReason::Broken(kind) if had_stream => increment(&mut stats.ends.broken, kind),
        CloseReason::Broken(kind) => increment(&mut stats.connects.failed, kind),
    }
    RECONNECT
}

/// Stores the message of a rejection, which was counted when its head arrived.
fn count_rejection(stats: &mut Stats, rejection: Rejection, body: &[u8]) -> NextStep {
    let next = after_rejection(&rejection);
    let message = rejection.location.map_or_else(
        || error_message::from_body(body),
        |location| format!("to {location}"),
    );
    if !message.is_empty() {
        let rejections = &mut stats.connects.rejections;
        rejections.set_message(&rejection.kind, message);
    }
    next
}

fn after_rejection(rejection: &Rejection) -> NextStep {
    if rejection.is_transient {
        NextStep::Reconnect {
            wait_min: rejection.retry_after.unwrap_or_default().min(ASKED_MAX),
        }
    } else {
        NextStep::Stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_counts_as_an_end_only_if_it_had_a_stream() {
        let mut stats = Stats::new();
        for had_stream in [true, false] {
            let reason = CloseReason::Broken("connection reset");
            assert_eq!(count_close(&mut stats, reason, had_stream), RECONNECT);
        }
        assert_eq!(stats.ends.broken["connection reset"], 1);
        assert_eq!(stats.connects.failed["connection reset"], 1);
    }

    #[test]
    fn a_transient_rejection_is_retried_after_the_time_that_the_server_asks_for() {
        let rejection = |is_transient, seconds| Rejection {
            kind: "503".to_owned(),
            location: None,
            is_transient,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let mut stats = Stats::new();
        stats.connects.rejections.count_rejection("503");
        let mut next = |rejection| {
            let reason = CloseReason::Rejected(rejection, b"busy".to_vec());
            count_close(&mut stats, reason, false)
        };
        let seconds = |seconds| NextStep::Reconnect {
            wait_min: Duration::from_secs(seconds),
        };
        assert_eq!(next(rejection(true, 7)), seconds(7));
        assert_eq!(
            next(rejection(true, u64::MAX)),
            seconds(ASKED_MAX.as_secs())
        );
        assert_eq!(next(rejection(false, 7)), NextStep::Stop);
        assert_eq!(stats.connects.rejections.list()[0].message, "busy");
    }
}
